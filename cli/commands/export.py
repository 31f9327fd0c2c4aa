"""`privpart-keras export`: write a run's bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_privpart.contract import DEVICE_FILES, ENCODINGS, SERVER_FORMATS, larger_than_raw
from keras_privpart.several_inputs import plain

from .. import run_folder
from ..console import emit, import_tensorflow, json_option, progress_bar
from ..data_source import DataSource, data_options, data_source
from ..interruption import interruptible

if TYPE_CHECKING:
    from keras_privpart.partitioning.halves import Partition

_SAMPLES = 256
_TUNED_ON = 8192


@click.command(short_help="Export a run as a bundle for the device and for TensorFlow Serving.")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), help="Bundle to write.  [default: saved_models/<run's name>]"
)
@click.option(
    "--version", type=click.IntRange(min=1), help="Version of the model on the server.  [default: the one after the bundle's newest, or 1]"
)
@click.option("--encoding", type=click.Choice(ENCODINGS), default="none", help="How the boundary crosses the wire.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(list(DEVICE_FILES)),
    multiple=True,
    default=["saved_model"],
    help="Form of the device half; may be repeated.",
)
@click.option(
    "--server-format",
    type=click.Choice(SERVER_FORMATS),
    default="saved_model",
    help="onnx writes the server half as ONNX too, for servers of the Open Inference Protocol; needs the extra onnx.",
)
@click.option(
    "--optimize",
    metavar="prune:SHARE|cluster:N|qat",
    help="Make half of the device half's weights 0 (prune:0.5), give each kernel 16 values (cluster:16), or fit it to int8 (qat).",
)
@click.option("--optimize-steps", type=click.IntRange(min=10), default=1000, help="Fine-tuning steps, of 32 inputs each, for --optimize.")
@click.option(
    "--with-runtime",
    "web_runtime",
    metavar="npm|FOLDER|FILE",
    help="For --format web: put LiteRT.js beside the module, from npm, a node_modules folder, or the .tgz of @litertjs/core.",
)
@data_options(required=False)
@click.option("--leakage", is_flag=True, help="Attack every form with fresh attackers, as `audit` does; takes as long for each.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Fresh attackers of each kind, for --leakage.")
@click.option("--undefended", is_flag=True, help="Export the undefended partition, for comparison.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle if it is there, with all its versions.")
@json_option
@interruptible("No bundle was written, and one that was there is as it was. Run the same command again.")
def export(
    run: Path, target: Path | None, version: int | None, leakage: bool, seeds: int, undefended: bool, as_json: bool, **options: Any
) -> None:
    """Export RUN's defended partition, with its audit, as a bundle. A run that was only cut is exported as it is.

    A bundle that is there gets one more version, labelled canary; its other versions stay as they are.

    An encoding, and the LiteRT formats, cost some accuracy: it is measured again on the run's test data, form by form, and written into
    the contract. What int8 needs to be calibrated by is taken from the training data. --data names others, and is what a run needs that was
    only cut.

    Of --optimize, the device half is fine-tuned on the training data to give the boundary that it gave before; the server half stays as
    it is. The run's audit is not the optimised half's: without --leakage the bundle says that it was not audited.

    \b
    Example:
      privpart-keras export runs/mnist --to saved_models/mnist --encoding int8 --format saved_model --format litert
    """
    run_folder.check_partitioned(run)
    import_tensorflow()
    from keras_privpart.auditing.reporting.report import AuditReport
    from keras_privpart.exporting.bundle import export as write
    from keras_privpart.exporting.measuring import table
    from keras_privpart.exporting.optimize import Optimization
    from keras_privpart.partitioning.halves import Partition

    trained = (run / run_folder.TRAIN_RECORD).exists()
    folder = run / (run_folder.UNDEFENDED if undefended else run_folder.DEFENDED) if trained else run
    report = run / run_folder.REPORT
    audit = AuditReport.load(report) if trained and not undefended and report.exists() else None
    tuned = None if options["optimize"] is None else Optimization.parse(options["optimize"], options["optimize_steps"])
    recorded = run_folder.read_training(run)[0] if trained else None
    source = data_source(options, recorded) or recorded
    changed = leakage or tuned or options["encoding"] != "none" or set(options["formats"]) != {"saved_model"}
    parts = Partition.load(folder)
    measured: dict[str, Any] = {} if source is None else {"value_range": source.value_range}
    if source is not None and changed:
        reference = Partition.load(run / run_folder.UNDEFENDED) if trained else None
        measured |= _measured(parts, source, reference, seeds if leakage else 0, _TUNED_ON if tuned else _SAMPLES)
    place = target or Path("saved_models") / run.resolve().name
    with _fine_tuning(tuned.steps if tuned else 0) as progress:
        bundle = write(parts, place, version=version, audit=audit, progress=progress, **options, **measured)
    contract = bundle.contract
    payload: dict[str, Any] = {
        "bundle": str(bundle.path),
        "name": contract.name,
        "version": contract.version,
        "fingerprint": contract.fingerprint,
    }
    larger = larger_than_raw(contract.boundary.nbytes, contract.raw_nbytes)
    sent = f"{contract.boundary.nbytes}{f' ({larger})' if larger else ''}"
    text = (
        f"Wrote {bundle.path}: model {contract.name!r}, version {contract.version}, pair {contract.fingerprint[:12]}.\n"
        f"  device half  {bundle.path / contract.device_folder}: {', '.join(contract.formats)}\n"
        f"  boundary     {sent} bytes per example, encoding {contract.encoding}\n"
        f"  server half  {bundle.path / 'server'}, the only folder that a server needs: {', '.join(contract.server_formats)}\n"
        f"  optimised    {contract.optimization}\n"
        f"  audit        {f'in the contract and {contract.report_folder}' if contract.audit is not None else 'none: not audited'}"
    )
    notes = "".join(f"\n  note         {note}" for note in bundle.notes)
    rows = [dict(row) for row in contract.measurements]
    shown = f"\n{table(rows)}" if changed else ""
    payload |= {"optimization": contract.optimization, "audited": contract.audit is not None}
    emit(as_json, {**payload, "notes": list(bundle.notes), "measurements": rows}, text + notes + shown)


@contextlib.contextmanager
def _fine_tuning(steps: int) -> Iterator[Callable[[int, float], None] | None]:
    """A bar for so many steps; nothing for none."""
    if not steps:
        yield None
        return
    with progress_bar(steps, "optimize") as bar:

        def progress(step: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.3g}", refresh=False)
            bar.update(step - bar.n)

        yield progress


def _measured(parts: Partition, source: DataSource, reference: Partition | None, seeds: int, samples: int) -> dict[str, Any]:
    """The data, to calibrate by, to measure on and, with seeds, to attack with."""
    import numpy as np

    from keras_privpart.auditing.audit import audit

    data = source.load(parts.device)
    train = data.train.held
    drawn = np.random.default_rng(0).permutation(len(train))[:samples]
    found = {"sample": plain(train.x[drawn]), "test": data.test}
    if not seeds:
        return found
    how: dict[str, Any] = {"private": source.private_names, "reference": reference, "seeds": seeds, "value_range": source.value_range}
    return {**found, "leakage": lambda form: audit(form, train, data.test, **how)}
