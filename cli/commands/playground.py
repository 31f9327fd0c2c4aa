"""`privpart-keras playground`: a page where one picture goes through a bundle."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_privpart.errors import AuditError

from .. import run_folder
from ..console import import_tensorflow, say

if TYPE_CHECKING:
    from ..playground.demonstration import Attacker

_DECODERS = "playground"


@click.command(short_help="Show on a page what leaves the device, and what an attacker makes of it.")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--run", type=click.Path(path_type=Path, exists=True, file_okay=False), help="The bundle's run folder, for the attacker.")
@click.option("--train-decoders", is_flag=True, help="Train the attacker first, on the run's data, and keep it in the run's folder.")
@click.option("--epochs", type=click.IntRange(min=1), help="Of the attacker's training.  [default: as many as an audit's attackers get]")
@click.option("--server", help="host:port of a server that holds the bundle.  [default: the local server, started for the page]")
@click.option("--value-range", type=(float, float), help="Black and white, as the model takes them.  [default: what the bundle says]")
@click.option("--port", type=click.IntRange(0, 65535), default=8600, help="Of the page; 0 takes a free one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout once the page is there.")
def playground(
    bundle: Path,
    run: Path | None,
    train_decoders: bool,
    epochs: int | None,
    server: str | None,
    value_range: tuple[float, float] | None,
    port: int,
    as_json: bool,
) -> None:
    """Serve a page on this machine where you draw or drop a picture and see what becomes of it.

    The page shows the bytes that leave the device, as a heat map; what an attacker reconstructs from them, beside what it reconstructs
    without the defence; the server half's answer; the device half's time; and what the bundle's audit says. Pictures stay on this machine.

    The attacker is a fresh one of the audit's strongest kind that is a network. It is trained once, with --run and --train-decoders.

    \b
    Example:
      privpart-keras playground saved_models/mnist --run runs/mnist --train-decoders
    """
    if train_decoders and run is None:
        raise click.UsageError("--train-decoders needs --run: the attacker learns on the run's data.")
    import_tensorflow()
    from keras_privpart.serving import Client
    from keras_privpart.serving.servers.engine import StopFlag
    from keras_privpart.serving.servers.serve import stop_signals

    from ..playground.demonstration import Demonstration
    from ..playground.page_server import PageServer

    if run is not None and train_decoders:
        _train(run, epochs)
    attacker, missing = (None, _how_to(bundle)) if run is None else _attacker(bundle, run)
    stop = StopFlag()
    with stop_signals(stop), _served(bundle, server) as (address, words), Client(bundle, address) as client:
        client.wait_for_ready(60)
        told = client.contract.value_range or ((0.0, 255.0) if client.contract.inputs[0].dtype == "uint8" else (0.0, 1.0))
        demonstration = Demonstration(client, words, value_range or told, attacker, missing)
        demonstration.show([0.0] * demonstration.facts()["picture_bytes"])  # the first call takes longer, and shows what does not fit
        with PageServer(demonstration, port) as page:
            say(f"{words}. Stop with Ctrl-C.")
            facts = {"page": page.address, "server": address, "attacker": attacker is not None}
            click.echo(json.dumps(facts) if as_json else f"Open {page.address}")
            while not stop.raised:
                time.sleep(0.1)
    say("Stopped.")


@contextlib.contextmanager
def _served(bundle: Path, server: str | None) -> Iterator[tuple[str, str]]:
    """Address of a server, and what it is."""
    if server is not None:
        yield server, f"Server at {server}"
        return
    from keras_privpart.serving import LocalServer

    with LocalServer(bundle) as running:
        yield running.address, running.describe()


def _how_to(bundle: Path) -> str:
    return (
        "To see what an attacker makes of the boundary, name the run that the bundle was exported from: "
        f"privpart-keras playground {bundle} --run RUN --train-decoders"
    )


def _train(run: Path, epochs: int | None) -> None:
    from ..playground import decoders

    source, _ = run_folder.read_training(run)
    halves = _halves(run)
    data = source.load(halves["undefended"].device)
    decoders.train(halves, data, source.value_range, _report(run), epochs, run / _DECODERS, say)


def _halves(run: Path) -> dict[str, Any]:
    from keras_privpart.partitioning.halves import Partition

    return {"defended": Partition.load(run / run_folder.DEFENDED), "undefended": Partition.load(run / run_folder.UNDEFENDED)}


def _report(run: Path) -> Any:
    from keras_privpart.auditing.reporting.report import AuditReport

    return AuditReport.load(run / run_folder.REPORT) if (run / run_folder.REPORT).exists() else None


def _attacker(bundle: Path, run: Path) -> tuple[Attacker | None, str]:
    """The attacker that a run keeps, else how to get it."""
    from keras_privpart.contract import Contract
    from keras_privpart.exporting.saved_model import weights_digest

    from ..playground import decoders
    from ..playground.demonstration import Attacker

    halves, contract = _halves(run), Contract.load(bundle)
    if weights_digest(halves["defended"].server) != contract.server_weights:
        raise AuditError(
            f"{bundle} does not hold {run}'s defended server half, so the run's attacker says nothing about it. Name the run that it was "
            "exported from, or export the run again."
        )
    found = decoders.read(run / _DECODERS)
    if found is None:
        return None, f"No attacker was trained yet: privpart-keras playground {bundle} --run {run} --train-decoders"
    record, networks = found
    if record.server_weights != contract.server_weights:
        raise AuditError(f"The decoders in {run / _DECODERS} are of an earlier training. Train them again (--train-decoders).")
    about = {"name": record.attack, "why": record.why, "epochs": record.epochs, "ssim": record.ssim, "victims": record.victims}
    return Attacker(halves["undefended"].device, networks["defended"], networks["undefended"], about), ""
