"""`export`: writes a partition as a bundle, the folder that devices and servers are given."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.contract import SERVER_FORMATS, WEB, Contract, check_name
from keras_privpart.errors import BundleError
from keras_privpart.exporting import reload, saved_model
from keras_privpart.exporting.encoding import encode
from keras_privpart.exporting.fitness import check_answers, check_exportable
from keras_privpart.exporting.forms import check_forms
from keras_privpart.exporting.installation import newest_contract, next_version
from keras_privpart.exporting.measuring import as_samples
from keras_privpart.exporting.model_card import leakage_words
from keras_privpart.exporting.optimize import STEPS, Optimization, optimize_half
from keras_privpart.exporting.optimizing.tfmot_process import Progress
from keras_privpart.exporting.server_onnx import check_onnx
from keras_privpart.exporting.web.litert_js import runtime_files
from keras_privpart.exporting.web.web_files import check_web
from keras_privpart.exporting.writing import Job, write_version
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
    server_format = arguments.choice("server_format", server_format, SERVER_FORMATS, BundleError)
    _check_asked(partition, formats, encoding, sample, server_format, web_runtime)
    runtime = {} if web_runtime is None else runtime_files(web_runtime)
    how = None if optimize is None else Optimization.parse(optimize, optimize_steps)
    samples = as_samples(test)
    told = _value_range(partition, value_range, sample)
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
    job = Job(partition, half, encoded, x, own, tuple(formats), server_format, samples, leakage, audit, runtime)
    contract, notes = write_version(job, plan, target, overwrite)
    return Bundle(target, contract, notes)


def _check_asked(
    partition: Partition, formats: Sequence[str], encoding: str, sample: Any, server_format: str, web_runtime: str | Path | None
) -> None:
    """Raises `BundleError` for what cannot be exported, or not like that, before anything is computed."""
    if partition.public_inputs:
        raise BundleError(
            f"Received a server half that reads the inputs {list(partition.public_inputs)} raw; a bundle sends the boundary alone. "
            "Cut the model where no input is public."
        )
    check_forms(formats, encoding, sample)
    if server_format == "onnx":
        check_onnx()
    check_exportable(partition)
    if web_runtime is not None and WEB not in formats:
        raise BundleError(f"Received web_runtime={str(web_runtime)!r} without the format 'web'; expected both. Add 'web' to formats.")


def _value_range(partition: Partition, given: Sequence[float] | None, sample: Any) -> tuple[float, float] | None:
    """The range of pictures, given or told by the model's front, with the pictures to calibrate by held against it."""
    told = value_range_of(partition.device) if given is None else checked_range(given, BundleError)
    if told is not None and sample is not None:
        _check_pictures(sample, told, is_inferred=given is None)
    return told


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
