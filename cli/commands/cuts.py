"""`privpart-keras cuts`: every valid cut of a model, with its costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..console import emit, json_option, progress_bar, say
from ..data_source import data_options, data_source
from ..model_source import load_model, model_argument


@click.command(short_help="List every valid cut of a model with its costs.")
@model_argument
@click.option("--public", "public_inputs", multiple=True, metavar="INPUT", help="Input that the server may read raw; may be repeated.")
@click.option("--measure", is_flag=True, help="Time both halves on this machine, for the cuts that can win.")
@data_options(required=False, name="--probe")
@click.option("--max-bytes", type=click.FloatRange(min=0), help="Show only cuts that send at most so many bytes per example.")
@click.option("--max-device-macs", type=click.FloatRange(min=0), help="Show only cuts with at most so many multiply-adds on the device.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw bytes, device share and leakage to a .png or .svg file."
)
@json_option
def cuts(
    model: str,
    public_inputs: tuple[str, ...],
    measure: bool,
    max_bytes: float | None,
    max_device_macs: float | None,
    plot: Path | None,
    as_json: bool,
    **data: Any,
) -> None:
    """List every valid cut of MODEL: what would cross, its bytes, and each half's share of the work.

    With --probe, a short decoder is trained on each of the cuts that can win, on the data that it names: a first idea of what leaks.

    \b
    Example:
      privpart-keras cuts examples.models:lenet --plot cuts.png
    """
    source = data_source(data)
    loaded = load_model(model)
    from keras_privpart.partitioning.cuts import cuts as all_cuts

    attack = None
    if source is not None:
        from keras_privpart.auditing.quick_probe import QuickProbe

        attack = QuickProbe(source.load(loaded).train.held, value_range=source.value_range)
    with progress_bar(None, "cuts") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        table = all_cuts(loaded, public_inputs=public_inputs, measure=measure, probe=attack, progress=progress)
    choice = table.choose()
    if plot is not None:
        table.plot(plot, mark=choice)
        say(f"Wrote {plot}")
    shown = table.filter(max_bytes=max_bytes, max_device_macs=max_device_macs)
    payload = {"cuts": [cut.to_json() for cut in shown], "choice": choice.index, "reason": choice.reason}
    emit(as_json, payload, f"{shown.to_markdown()}\nThe advisor's choice: {choice.index}, {choice.address}: {choice.reason}.")
