"""Writes one version of a bundle: the halves first, compared with those in memory, then what was measured, the report and the contract."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_privpart.channels import GaussianChannel
from keras_privpart.channels.keyed_noise import NoiseKey, keyless
from keras_privpart.contract import CONTRACT_FILE, FOLDERS, WEB, Contract, FileRecord
from keras_privpart.datasets import Samples
from keras_privpart.errors import BundleError
from keras_privpart.exporting import reload, saved_model
from keras_privpart.exporting.encoding import Encoded
from keras_privpart.exporting.forms import SAVED_MODEL, Form, FormWriter, in_memory
from keras_privpart.exporting.installation import install, temporary_sibling
from keras_privpart.exporting.measuring import Audit, Measurer
from keras_privpart.exporting.model_card import CARD_FILE, model_card
from keras_privpart.exporting.server_onnx import write_onnx
from keras_privpart.exporting.warm_up import write_warm_up
from keras_privpart.exporting.web.web_files import write_manifest, write_module
from keras_privpart.partitioning.halves import Partition

if TYPE_CHECKING:
    from keras_privpart.auditing.reporting.report import AuditReport

_FEW = 32


@dataclass(frozen=True)
class Job:
    """What `export` was asked for, checked. `half` is `partition`, or the same with an optimised device half."""

    partition: Partition
    half: Partition
    encoded: Encoded
    x: reload.Arrays
    own: reload.Arrays | None
    forms: tuple[str, ...]
    server_format: str
    test: Samples | None
    leakage: Audit | None
    audit: AuditReport | None
    runtime: Mapping[str, bytes]


@dataclass(frozen=True)
class _Written:
    """Both halves of a version, on disk and compared with those in memory."""

    contract: Contract
    forms: Mapping[str, Form]
    server: Any
    notes: tuple[str, ...]


def write_version(job: Job, plan: Contract, target: Path, overwrite: bool) -> tuple[Contract, tuple[str, ...]]:
    """Writes a version beside the bundle's place and moves it there: whole, or not at all.

    Args:
        job: what to write.
        plan: its contract, without what is known only afterwards: files, fingerprint, measurements, audit.
        target: the bundle's folder.
        overwrite: whether to replace a bundle that is there.

    Returns:
        The contract, and what a reader should know.

    Raises:
        BundleError: the folder cannot be written or replaced, or what was written does not answer as the halves do.
    """
    keys = [key for device in (job.partition.device, job.half.device, job.encoded.wire.device) for key in _noise_keys(device)]
    with temporary_sibling(target) as root, keyless(keys):
        try:
            contract, notes = _write(job, plan, root)
            install(root, target, contract, overwrite)
        except (OSError, tf.errors.OpError) as error:
            raise BundleError(f"Can't write the bundle {target}: {error}. Nothing was exported.") from error
    return contract, notes


def _write(job: Job, plan: Contract, root: Path) -> tuple[Contract, tuple[str, ...]]:
    """Writes a version's folders and its contract."""
    written = _write_halves(job, plan, root)
    notes = [*written.notes, *write_warm_up(job.encoded.wire, written.contract, root, written.server, job.x), *_on_calibration(job, plan)]
    rows, audit = _measured(job, written)
    if audit is None and job.half is not job.partition:
        notes.append(f"the device half was not audited after {plan.optimization}: pass leakage= (--leakage)")
    summary = None if audit is None else audit.contract_summary()
    contract = replace(written.contract, audit=summary, measurements=tuple(rows))
    _write_report(audit, contract, root)
    return _write_contract(_with_files(contract, root), root), tuple(notes)


def _write_halves(job: Job, plan: Contract, root: Path) -> _Written:
    """Writes both halves, loads them again with the bare loader, and compares them with the halves in memory."""
    wire = job.encoded.wire
    with tempfile.TemporaryDirectory() as scratch:
        # The fingerprint covers the device half's files and is baked into the server half: the device goes first.
        forms = FormWriter(wire, job.half, job.partition, plan, job.x, job.own).write(job.forms, root / plan.device_folder, Path(scratch))
        if WEB in forms:
            write_module(root / plan.device_folder, job.runtime)
        contract = _with_files(plan, root).with_fingerprint()
        if WEB in forms:
            write_manifest(root, contract)
        server_half = root / contract.server_folder
        saved_model.write_server(wire, contract.outputs, contract.fingerprint, server_half)
        shared = saved_model.shared_layers(job.partition)
        notes = [f"layer {layer!r} stands on both sides of the cut: its weights are in server/ too" for layer in shared]
        server = reload.load_half(server_half)
        device_half = root / contract.device_folder if SAVED_MODEL in forms else Path(scratch) / "device"
        notes += reload.check_reload(wire, contract, device_half, server_half, server, job.x)
        if job.server_format == "onnx":
            notes += write_onnx(wire, contract, server, job.x, root)
    return _Written(contract, forms, server, tuple(notes))


def _on_calibration(job: Job, plan: Contract) -> list[str]:
    count = len(next(iter((job.own or job.x).values())))
    if count >= _FEW or (plan.encoding != "int8" and "litert-int8" not in job.forms):
        return []
    return [f"int8 is calibrated by {count} examples only: values beyond theirs are cut off. Give a hundred or more as sample="]


def _measured(job: Job, written: _Written) -> tuple[list[dict[str, Any]], AuditReport | None]:
    """A row for the halves in memory and for each form, and the audit of the half that was exported, if there is one."""
    measurer = Measurer(written.contract, written.server, job.test, job.leakage)
    reports = [measurer.attack(form, job.encoded.seen) for form in written.forms.values()]
    rows = [measurer.reference(job.partition, in_memory(job.partition, written.contract), job.audit)]
    rows += [measurer.row(form, report) for form, report in zip(written.forms.values(), reports, strict=True)]
    # The audit that was given is of the half as it was before it was optimised.
    return rows, job.audit if job.half is job.partition else reports[0]


def _write_report(audit: AuditReport | None, contract: Contract, root: Path) -> None:
    folder = root / contract.report_folder
    if audit is None:
        folder.mkdir(parents=True)
    else:
        folder.parent.mkdir()
        audit.save(folder, pictures=False)  # a bundle travels to devices, the test set does not
    (folder / CARD_FILE).write_text(model_card(contract), encoding="utf-8")


def _write_contract(contract: Contract, root: Path) -> Contract:
    text = contract.dumps()
    (root / CONTRACT_FILE).write_text(text, encoding="utf-8")
    if Contract.loads(text) != contract:
        raise BundleError("The contract reads back differently from what was written. Report this with the model's summary.")
    return contract


def _with_files(contract: Contract, root: Path) -> Contract:
    found = (file for folder in FOLDERS for file in sorted((root / folder).rglob("*")) if file.is_file())
    files = {file.relative_to(root).as_posix(): FileRecord.of(file) for file in found}
    return replace(contract, files=files)


def _noise_keys(device: Any) -> list[NoiseKey]:
    """The secret keys of a device half's frozen noise."""
    if not isinstance(device, keras.Model):
        return []
    layers = [layer for layer in saved_model.layers_of(device) if isinstance(layer, GaussianChannel)]
    return [layer.noise_key for layer in layers if layer.noise_key is not None]
