"""`export`: writes a partition as a bundle, the folder that devices and servers are given."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_privpart.contract import CONTRACT_FILE, FOLDERS, SERVE_SIGNATURE, Contract, FileRecord, check_name
from keras_privpart.errors import BundleError, BundleExistsError
from keras_privpart.exporting import reload, saved_model, serving_config
from keras_privpart.partitioning.halves import Partition

if TYPE_CHECKING:
    from keras_privpart.auditing.report import AuditReport


@dataclass(frozen=True)
class Bundle:
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


def export(
    partition: Partition,
    path: str | Path,
    version: int = 1,
    *,
    audit: AuditReport | None = None,
    overwrite: bool = False,
    name: str | None = None,
    max_batch_size: int = 32,
    sample: Any = None,
) -> Bundle:
    """Writes both halves, the contract, serving configuration and the audit into one folder.

    The bundle is written beside its place, reloaded with the bare loader, compared with the halves in memory, and only then
    renamed: on any error nothing is left behind, and an older bundle stays as it was.

    Args:
        partition: the halves to export.
        path: the bundle's folder. Its parent is made when missing.
        version: the model's version on the server, from 1.
        audit: a report to put into the bundle, without its pictures; its summary goes into the contract.
        overwrite: whether to replace a bundle that is there.
        name: the model's name on the server; the folder's name when `None`.
        max_batch_size: the most examples that one request may carry. The server is warmed up for powers of two up to it.
        sample: inputs `[n >= 1, ...]` to compare with; drawn when `None`.

    Returns:
        The bundle.

    Raises:
        BundleExistsError: the folder is there and `overwrite` is false.
        BundleError: the folder cannot be written or replaced, the server half reads raw inputs, or what was written does not answer
            as the halves do.
        ContractError: the name cannot be a model's name.

    Example:
        >>> bundle = kp.export(parts, "saved_models/faces")  # doctest: +SKIP
        >>> bundle.contract.boundary.names  # doctest: +SKIP
        ('boundary',)
    """
    target = Path(os.path.abspath(path))
    name = check_name(target.name if name is None else name)
    for key, value in (("version", version), ("max_batch_size", max_batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BundleError(f"Received {key}={value!r}; expected a whole number from 1.")
    if partition.public_inputs:
        raise BundleError(
            f"Received a server half that reads the inputs {list(partition.public_inputs)} raw; a bundle sends the boundary alone. "
            "Cut the model where no input is public."
        )
    _check_target(target, overwrite)
    with _temporary_sibling(target) as root:
        try:
            contract, notes = _write(partition, root, name, version, max_batch_size, audit, sample)
            _install(root, target, overwrite)
        except (OSError, tf.errors.OpError) as error:
            raise BundleError(f"Can't write the bundle {target}: {error}. Nothing was exported.") from error
    return Bundle(target, contract, notes)


def _write(
    partition: Partition, root: Path, name: str, version: int, max_batch_size: int, audit: AuditReport | None, sample: Any
) -> tuple[Contract, tuple[str, ...]]:
    contract = Contract(
        name=name,
        version=version,
        boundary=partition.boundary,
        inputs=saved_model.input_specs(partition),
        outputs=saved_model.output_specs(partition),
        server_weights=saved_model.weights_digest(partition.server),
        fingerprint="",
        files={},
        channel=tuple(_describe(layer) for layer in partition.channel),
        made_with=_made_with(),
        audit=None if audit is None else audit.contract_summary(),
        max_batch_size=max_batch_size,
    )
    x = reload.sample_inputs(partition, contract.inputs, sample)
    # The fingerprint covers the device half's files and is baked into the server half: the device goes first.
    saved_model.write_device(partition, contract.inputs, root / contract.device_folder)
    contract = _with_files(contract, root).with_fingerprint()
    saved_model.write_server(partition, contract.outputs, contract.fingerprint, root / contract.server_folder)
    notes = [
        f"layer {layer!r} stands on both sides of the cut: its weights are in server/ too" for layer in saved_model.shared_layers(partition)
    ]
    server = tf.saved_model.load(str(root / contract.server_folder))
    notes += reload.check_reload(partition, contract, root, server, x)
    notes += _warm_up(partition, contract, root, server, x)
    config = root / serving_config.MODELS_CONFIG
    config.parent.mkdir()
    config.write_text(serving_config.models_config(contract), encoding="utf-8")
    if audit is not None:
        audit.save(root / "report", pictures=False)  # a bundle travels to devices, the test set does not
    contract = _with_files(contract, root)
    text = contract.dumps()
    (root / CONTRACT_FILE).write_text(text, encoding="utf-8")
    if Contract.loads(text) != contract:
        raise BundleError("The contract reads back differently from what was written. Report this with the model's summary.")
    return contract, tuple(notes)


def _warm_up(partition: Partition, contract: Contract, root: Path, server: Any, x: reload.Arrays) -> list[str]:
    """Writes the warm-up requests after trying each one: a warm-up request that fails makes the server refuse the model."""
    boundary = saved_model.device_function(partition)(*(tf.constant(x[spec.name][:1]) for spec in contract.inputs))
    shapes = {key: tuple(value.shape[1:]) for key, value in boundary.items()}
    folder = root / contract.server_folder
    sizes = serving_config.allowed_batch_sizes(contract.max_batch_size)
    requests = serving_config.warmup_requests(contract.name, contract.boundary, shapes, sizes)
    try:
        for request in requests:
            server.signatures[SERVE_SIGNATURE](**{key: tf.constant(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()})
    except (tf.errors.OpError, ValueError, TypeError) as error:
        return [f"no warm-up requests: the server half does not take a boundary of zeros ({str(error).splitlines()[0]})"]
    serving_config.write_warmup(folder, requests)
    free = sorted(spec.name for spec in contract.boundary.tensors if None in spec.shape[1:])
    return [f"warm-up covers one size of the free dimensions of {', '.join(free)} only: {shapes}"] if free else []


def _with_files(contract: Contract, root: Path) -> Contract:
    found = (file for folder in FOLDERS for file in sorted((root / folder).rglob("*")) if file.is_file())
    files = {file.relative_to(root).as_posix(): FileRecord.of(file) for file in found}
    return replace(contract, files=files)


def _describe(layer: keras.layers.Layer) -> dict[str, Any]:
    record = keras.saving.serialize_keras_object(layer)
    return json.loads(json.dumps({"class": record["registered_name"] or record["class_name"], "config": record["config"]}))


def _made_with() -> dict[str, str]:
    packages = {package: metadata.version(package) for package in ("keras", "keras_privpart", "numpy", "tensorflow")}
    return {**packages, "python": platform.python_version()}


def _check_target(target: Path, overwrite: bool) -> None:
    if target.is_symlink():
        raise BundleError(f"{target} is a symbolic link; expected a folder or nothing. Export to the folder it points to.")
    if not target.exists():
        return
    if not overwrite:
        raise BundleExistsError(f"{target} is there already. Choose another folder, or pass overwrite=True (--overwrite).")
    if not (target / CONTRACT_FILE).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise BundleExistsError(f"{target} holds no {CONTRACT_FILE}: it is not a bundle, and is not overwritten. Choose another folder.")


@contextmanager
def _temporary_sibling(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, on the same file system; whatever is left of it is removed at the end."""
    root = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir()
    except OSError as error:
        raise BundleError(f"Can't write to {target.parent}: {error.strerror}. Choose a folder that you may write to.") from error
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _install(root: Path, target: Path, overwrite: bool) -> None:
    _check_target(target, overwrite)  # again: the export took a while
    if not target.exists():
        os.rename(root, target)
        return
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    os.rename(target, old)
    try:
        os.rename(root, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
