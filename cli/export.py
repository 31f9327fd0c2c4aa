"""`privpart-keras export`: write a run's bundle."""

from __future__ import annotations

from pathlib import Path

import click

from . import run_folder
from .console import emit, import_tensorflow, json_option


@click.command(short_help="Export a run as a bundle for the device and for TensorFlow Serving.")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), help="Bundle to write.  [default: saved_models/<run's name>]"
)
@click.option("--version", type=click.IntRange(min=1), default=1, help="Version of the model on the server.")
@click.option("--undefended", is_flag=True, help="Export the undefended partition, for comparison.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle if it is there.")
@json_option
def export(run: Path, target: Path | None, version: int, undefended: bool, overwrite: bool, as_json: bool) -> None:
    """Export RUN's defended partition, with its audit, as a bundle. A run that was only cut is exported as it is.

    \b
    Example:
      privpart-keras export runs/mnist --to saved_models/mnist
    """
    import_tensorflow()
    from keras_privpart.auditing.report import AuditReport
    from keras_privpart.exporting.bundle import export as write
    from keras_privpart.partitioning.halves import Partition

    trained = (run / run_folder.TRAIN_RECORD).exists()
    folder = run / (run_folder.UNDEFENDED if undefended else run_folder.DEFENDED) if trained else run
    report = run / run_folder.REPORT
    audit = AuditReport.load(report) if trained and not undefended and report.exists() else None
    bundle = write(
        Partition.load(folder), target or Path("saved_models") / run.resolve().name, version=version, audit=audit, overwrite=overwrite
    )
    contract = bundle.contract
    payload = {"bundle": str(bundle.path), "name": contract.name, "version": contract.version, "fingerprint": contract.fingerprint}
    text = (
        f"Wrote {bundle.path}: model {contract.name!r}, version {contract.version}, pair {contract.fingerprint[:12]}.\n"
        f"  device half  {bundle.path / contract.device_folder}\n"
        f"  server half  {bundle.path / 'server'}, the only folder that TensorFlow Serving needs\n"
        f"  audit        {'in the contract and report/' if audit is not None else 'none: not audited'}"
    )
    notes = "".join(f"\n  note         {note}" for note in bundle.notes)
    emit(as_json, {**payload, "audited": audit is not None, "notes": list(bundle.notes)}, text + notes)
