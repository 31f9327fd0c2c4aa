"""`export`: writes a partition as a bundle, the folder that devices and servers are given."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels import GaussianChannel
from keras_privpart.channels.keyed_noise import NoiseKey, keyless
from keras_privpart.contract import CONTRACT_FILE, FOLDERS, SERVER_FORMATS, WEB, Contract, FileRecord, check_name
from keras_privpart.datasets import Samples
from keras_privpart.errors import BundleError
from keras_privpart.exporting import reload, saved_model, serving_config
from keras_privpart.exporting.encoding import Encoded, encode
from keras_privpart.exporting.fitness import check_answers, check_exportable
from keras_privpart.exporting.forms import SAVED_MODEL, FormWriter, check_forms, in_memory
from keras_privpart.exporting.installation import install, newest_contract, next_version, temporary_sibling
from keras_privpart.exporting.measuring import Audit, Measurer, as_samples
from keras_privpart.exporting.model_card import CARD_FILE, leakage_words, model_card
from keras_privpart.exporting.optimize import STEPS, Optimization, optimize_half
from keras_privpart.exporting.optimizing.tfmot_process import Progress
from keras_privpart.exporting.server_onnx import check_onnx, write_onnx
from keras_privpart.exporting.web.litert_js import runtime_files
from keras_privpart.exporting.web.web_files import check_web, write_manifest, write_module
from keras_privpart.partitioning.graphs.state import kept
from keras_privpart.partitioning.halves import Partition
from keras_privpart.readable import Readable
from keras_privpart.threat_model import ThreatModel
from keras_privpart.value_range import checked_range, pictures, value_range_of

if TYPE_CHECKING:
    from keras_privpart.auditing.reporting.report import AuditReport


_FEW = 32


@dataclass(frozen=True, repr=False)
class Bundle(Readable):
    """An exported folder.

    Attributes:
        path: the folder.
        contract: what its `contract.json` says.
        notes: what a reader should know: shared layers, warm-up left out, comparisons that could not be made.
    """

    path: Path
    contract: Contract
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.contract.name

    @property
    def version(self) -> int:
        return self.contract.version

    def words(self) -> str:
        """What was exported, what crosses, what the audit found, and how to serve it."""
        encoded = "as the model computes it" if self.contract.encoding == "none" else f"encoded as {self.contract.encoding}"
        return "\n".join(
            [
                f"The bundle {self.path}, version {self.version} of {self.name!r}:",
                f"- crosses: {self.contract.boundary}, {encoded}",
                f"- on the device: {self.contract.device_folder}; on the server, and nothing else there: {self.contract.server_folder}",
                f"- privacy: {leakage_words(self.contract.audit)}",
                *(f"- note: {note}" for note in self.notes),
                f"Serve it: privpart-keras serve {self.path}",
            ]
        )


def export(
    partition: Partition,
    path: str | Path,
    version: int | None = None,
    *,
    audit: AuditReport | None = None,
    threat_model: ThreatModel | None = None,
    overwrite: bool = False,
    name: str | None = None,
    max_batch_size: int = 32,
    sample: Any = None,
    encoding: str = "none",
    formats: Sequence[str] = ("saved_model",),
    test: Any = None,
    leakage: Callable[[Partition], AuditReport] | None = None,
    optimize: str | None = None,
    optimize_steps: int = STEPS,
    server_format: str = "saved_model",
    web_runtime: str | Path | None = None,
    progress: Progress | None = None,
    value_range: Sequence[float] | None = None,
) -> Bundle:
    """Writes both halves, the contract, serving configuration and the audit into a folder: a new bundle, or one more version of one.

    The version is written beside its place, reloaded with the bare loader, compared with the halves in memory, and only then
    moved there: on any error nothing is left behind. The files of a bundle's other versions are never touched. A bundle's first
    version is labelled `stable`, each later one `canary`, until `promote` says otherwise.

    Args:
        partition: the halves to export.
        path: the bundle's folder. Its parent is made when missing.
        version: the model's version on the server, above those that the bundle holds; `None` takes the next, from 1.
        audit: a report to put into the bundle, without its pictures; its summary goes into the contract.
        threat_model: who sees what and what the attacker knows, for the contract; `None` takes the audit's, if it has one.
        overwrite: whether to replace a bundle that is there, with all its versions.
        name: the model's name on the server; `None` takes the bundle's, or the folder's.
        max_batch_size: the most examples that one request may carry. The server is warmed up for powers of two up to it.
        sample: inputs `[n >= 1, ...]` to compare with; drawn when `None`. Whatever int8 is asked for is calibrated by them: then give
            a hundred or more, like the data of use.
        encoding: how the boundary crosses: `"none"`, as the model computes it; `"int8"` or `"float16"`. The device half encodes, the server
            half takes the encoded tensors and decodes them in its graph.
        formats: forms of the device half: `"saved_model"`, `"litert"` (float32), `"litert-float16"`, `"litert-dynamic"`, `"litert-int8"`,
            and `"web"`: LiteRT for browsers, with a client module beside it (docs/browser.md).
        test: examples `(x, labels)` or `Samples` to measure the accuracy of every form on.
        leakage: attacks a partition, such as `lambda parts: kp.audit(parts, train, test, reference=undefended)`. It is called for every
            form, with the boundary as an attacker can decode it; in a LiteRT form, the partition's device half is a plain function.
        optimize: what is done to a copy of the device half before: `"prune:0.5"`, `"cluster:16"` or `"qat"`, see `Optimization`; needs the
            extra `optimize`, and a thousand inputs or more as `sample`. `audit` is of the half as it was: it stands in the first row of
            the measurements, and the bundle's own audit is that of `leakage`, for the first of `formats`, or none.
        optimize_steps: fine-tuning steps, of 32 inputs each.
        server_format: `"onnx"` writes the server half as ONNX too, beside its SavedModel, for servers of the Open Inference Protocol;
            needs the extra `onnx`.
        web_runtime: where LiteRT.js is, to put it beside the module: `"npm"` fetches it, else a `node_modules` folder, the folder of
            `@litertjs/core` or its .tgz; `None` leaves it to the page.
        progress: is told the step and the loss of the fine-tuning.
        value_range: black and white of pictures as the device half takes them, for the contract, and of the pictures that are drawn where
            there is no `sample`; by default what the model's front tells (`keras_privpart.value_range`).

    Returns:
        The bundle, with the contract of the version that was written.

    Raises:
        BundleExistsError: the bundle holds that version or a later one, or something else than a bundle is there.
        BundleError: the folder cannot be written or replaced, the server half reads raw inputs, an encoding or format cannot be had, or
            what was written does not answer as the halves do.
        ContractError, IntegrityError: the name cannot be a model's name, or the bundle that is there cannot be trusted.

    Example:
        >>> bundle = kp.export(parts, "saved_models/faces")  # doctest: +SKIP
        >>> bundle.contract.boundary.names  # doctest: +SKIP
        ('boundary',)
    """
    target = Path(os.path.abspath(path))
    version = None if version is None else arguments.whole("version", version, BundleError)
    max_batch_size = None if max_batch_size is None else arguments.whole("max_batch_size", max_batch_size, BundleError)
    if partition.public_inputs:
        raise BundleError(
            f"Received a server half that reads the inputs {list(partition.public_inputs)} raw; a bundle sends the boundary alone. "
            "Cut the model where no input is public."
        )
    check_forms(formats, encoding, sample)
    server_format = arguments.choice("server_format", server_format, SERVER_FORMATS, BundleError)
    if server_format == "onnx":
        check_onnx()
    check_exportable(partition)
    if web_runtime is not None and WEB not in formats:
        raise BundleError(f"Received web_runtime={str(web_runtime)!r} without the format 'web'; expected both. Add 'web' to formats.")
    runtime = {} if web_runtime is None else runtime_files(web_runtime)
    how = None if optimize is None else Optimization.parse(optimize, optimize_steps)
    samples = as_samples(test)
    told = value_range_of(partition.device) if value_range is None else checked_range(value_range, BundleError)
    if told is not None and sample is not None:
        _check_pictures(sample, told, is_inferred=value_range is None)
    newest = newest_contract(target, overwrite)
    named, number, model = _name(name, target, newest), next_version(newest, version, target), _threat_model(threat_model, audit)
    inputs = saved_model.input_specs(partition)
    with kept(partition.device, partition.server):
        x = reload.sample_inputs(partition, inputs, sample, told)
        check_answers(partition, [x[spec.name] for spec in inputs])
    own = None if sample is None else reload.by_name(inputs, sample)
    half = partition if how is None else optimize_half(partition, how, own, progress=progress)
    encoded = encode(half, encoding, lambda: _observed(half, own or x))
    plan = Contract(
        name=named,
        version=number,
        boundary=encoded.wire.boundary,
        inputs=inputs,
        outputs=saved_model.output_specs(partition),
        server_weights=saved_model.weights_digest(partition.server),
        fingerprint="",
        files={},
        channel=tuple(_describe(layer) for layer in partition.channel),
        made_with=_made_with(),
        max_batch_size=max_batch_size,
        threat_model=model,
        encoding=encoding,
        optimization="none" if how is None else str(how),
        value_range=told,
    )
    if WEB in formats:
        check_web(plan.inputs, plan.boundary.tensors)
    job = _Job(partition, half, encoded, x, own, tuple(formats), server_format, samples, leakage, audit, runtime)
    keys = [key for device in (partition.device, half.device, encoded.wire.device) for key in _noise_keys(device)]
    with temporary_sibling(target) as root, keyless(keys):
        try:
            contract, notes = _write(job, plan, root)
            install(root, target, contract, overwrite)
        except (OSError, tf.errors.OpError) as error:
            raise BundleError(f"Can't write the bundle {target}: {error}. Nothing was exported.") from error
    return Bundle(target, contract, notes)


@dataclass(frozen=True)
class _Job:
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


def _write(job: _Job, plan: Contract, root: Path) -> tuple[Contract, tuple[str, ...]]:
    """Writes a version's folders and its contract, and compares them with the halves in memory."""
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
    notes += _warm_up(wire, contract, root, server, job.x)
    if (contract.encoding == "int8" or "litert-int8" in forms) and (count := len(next(iter((job.own or job.x).values())))) < _FEW:
        notes.append(f"int8 is calibrated by {count} examples only: values beyond theirs are cut off. Give a hundred or more as sample=")
    measurer = Measurer(contract, server, job.test, job.leakage)
    reports = [measurer.attack(form, job.encoded.seen) for form in forms.values()]
    rows = [measurer.reference(job.partition, in_memory(job.partition, contract), job.audit)]
    rows += [measurer.row(form, report) for form, report in zip(forms.values(), reports, strict=True)]
    audit = job.audit
    if job.half is not job.partition:  # the audit that was given is of another half
        audit = reports[0]
        if audit is None:
            notes.append(f"the device half was not audited after {contract.optimization}: pass leakage= (--leakage)")
    report_folder = root / contract.report_folder
    if audit is None:
        report_folder.mkdir(parents=True)
    else:
        report_folder.parent.mkdir()
        audit.save(report_folder, pictures=False)  # a bundle travels to devices, the test set does not
    contract = replace(contract, audit=None if audit is None else audit.contract_summary(), measurements=tuple(rows))
    (report_folder / CARD_FILE).write_text(model_card(contract), encoding="utf-8")
    contract = _with_files(contract, root)
    text = contract.dumps()
    (root / CONTRACT_FILE).write_text(text, encoding="utf-8")
    if Contract.loads(text) != contract:
        raise BundleError("The contract reads back differently from what was written. Report this with the model's summary.")
    return contract, tuple(notes)


def _check_pictures(sample: Any, value_range: tuple[float, float], is_inferred: bool) -> None:
    """Raises `BundleError` for pictures to calibrate by that are out of the range, or would be black to the model."""
    several = list(sample.values()) if isinstance(sample, Mapping) else sample if isinstance(sample, (list, tuple)) else [sample]
    values = np.asarray(several[0] if len(several) else several)
    if values.ndim == 4:
        pictures(values, value_range, is_inferred, BundleError)


def _observed(partition: Partition, inputs: reload.Arrays) -> reload.Arrays:
    """What crosses for some inputs, by wire name."""
    names = [spec.name for spec in saved_model.input_specs(partition)]
    run = saved_model.device_function(partition)
    parts = [
        {key: np.asarray(value) for key, value in run(*(tf.constant(inputs[name][i : i + 64]) for name in names)).items()}
        for i in range(0, len(inputs[names[0]]), 64)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in partition.boundary.names}


def _warm_up(partition: Partition, contract: Contract, root: Path, server: Any, x: reload.Arrays) -> list[str]:
    """Writes the warm-up requests after trying each one: a warm-up request that fails makes the server refuse the model."""
    boundary = saved_model.device_function(partition)(*(tf.constant(x[spec.name][:1]) for spec in contract.inputs))
    shapes = {key: tuple(value.shape[1:]) for key, value in boundary.items()}
    folder = root / contract.server_folder
    sizes = serving_config.allowed_batch_sizes(contract.max_batch_size)
    requests = serving_config.warmup_requests(contract.name, contract.boundary, shapes, sizes)
    try:
        for request in requests:
            zeros = {key: tf.constant(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()}
            server.signatures[request.model_spec.signature_name](**zeros)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        return [f"no warm-up requests: the server half does not take a boundary of zeros ({str(error).splitlines()[0]})"]
    serving_config.write_warmup(folder, requests)
    free = sorted(spec.name for spec in contract.boundary.tensors if None in spec.shape[1:])
    return [f"warm-up covers one size of the free dimensions of {', '.join(free)} only: {shapes}"] if free else []


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


def _describe(layer: keras.layers.Layer) -> dict[str, Any]:
    record = keras.saving.serialize_keras_object(layer)
    return json.loads(json.dumps({"class": record["registered_name"] or record["class_name"], "config": record["config"]}))


def _name(name: str | None, target: Path, newest: Contract | None) -> str:
    if newest is None:
        return check_name(target.name if name is None else name)
    if name not in (None, newest.name):
        raise BundleError(
            f"Received name={name!r}; the bundle {target} serves {newest.name!r}, all versions under one name. Leave name out, or "
            "export to another folder."
        )
    return newest.name


def _threat_model(given: ThreatModel | None, audit: AuditReport | None) -> dict[str, Any] | None:
    audited = None if audit is None else audit.to_json().get("threat_model")
    if given is not None and audited not in (None, given.to_json()):
        raise BundleError(f"Received a threat model that differs from the audit's: {given.to_json()} against {audited}. Audit under it.")
    return audited if given is None else given.to_json()


def _made_with() -> dict[str, str]:
    packages = {package: metadata.version(package) for package in ("keras", "keras_privpart", "numpy", "tensorflow")}
    return {**packages, "python": platform.python_version()}
