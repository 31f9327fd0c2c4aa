"""`privpart-keras partition`: cut a model in two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..console import emit, json_option
from ..model_source import load_model, model_argument


@click.command(short_help="Cut a model into a device half and a server half.")
@model_argument
@click.option("--at", multiple=True, metavar="TENSOR", help="Where to cut; repeat it for several tensors.  [default: the advisor's choice]")
@click.option("--public", "public_inputs", multiple=True, metavar="INPUT", help="Input that the server may read raw; may be repeated.")
@click.option("--bottleneck", type=click.IntRange(min=1), help="Features that cross; adds two layers, to be trained.")
@click.option("--bottleneck-over", type=click.Choice(["place", "example"]), default="place", help="So many at each place, or in all.")
@click.option(
    "--bottleneck-activation", type=click.Choice(["linear", "tanh", "softmax"]), default="linear", help="Of the features that cross."
)
@click.option(
    "--expand", type=click.Choice(["linear", "dense", "convolutions"]), default="linear", help="What the server makes of a bottleneck."
)
@click.option("--device-budget", type=click.FloatRange(min=0), help="Multiply-adds that the device may spend, for the advisor's choice.")
@click.option("--network", help="Speed such as 10Mbit/s: the advisor then takes the cut with the shortest estimated time.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Run folder to write, such as runs/mnist.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it is there.")
@json_option
def partition(
    model: str,
    at: tuple[str, ...],
    public_inputs: tuple[str, ...],
    bottleneck: int | None,
    bottleneck_over: str,
    bottleneck_activation: str,
    expand: str,
    device_budget: float | None,
    network: str | None,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Cut MODEL and write device.keras, server.keras and the boundary to a run folder.

    \b
    Example:
      privpart-keras partition examples.models:lenet --at bottleneck --out runs/mnist
    """
    loaded = load_model(model)
    from keras_privpart.partitioning.partition import partition as cut

    narrow: dict[str, Any] = {
        "bottleneck": bottleneck,
        "bottleneck_over": bottleneck_over,
        "bottleneck_activation": bottleneck_activation,
        "expand": expand,
    }
    budget: dict[str, Any] = {"device_budget": device_budget, "network": network}
    parts = cut(loaded, at=list(at) or None, public_inputs=public_inputs, **narrow, **budget)
    parts.save(out, overwrite=overwrite)
    device, server = parts.device.count_params(), parts.server.count_params()
    payload = {
        "run": str(out),
        "boundary": parts.boundary.to_json(),
        "boundary_bytes": parts.boundary.nbytes,
        "device_parameters": device,
        "server_parameters": server,
    }
    emit(as_json, payload, f"{parts.words()}\nWrote {out}")
