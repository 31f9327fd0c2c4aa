"""`Partition`: the two halves of a model, with the boundary between them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_privpart.contract import Boundary
from keras_privpart.errors import BundleExistsError, ChannelError, ContractError, ModelError, VerificationError
from keras_privpart.partitioning.assembly import bypass
from keras_privpart.partitioning.graph import count_operations, deep_graphs, input_names, input_structure, output_names

PARTITION_FILE = "partition.json"
_SCHEMA = 1
_MODELS = ("model", "device", "server")


@dataclass(frozen=True)
class Partition:
    """A model cut in two. `server(device(x)) == model(x)`, bit for bit, as long as no channel stands on the boundary.

    Attributes:
        model: the whole model as the user gave it; the halves share its weights unless they were made `independent`.
        device: from the model's inputs to the boundary, channel included. One tensor, or a list in the boundary's order.
        server: from the boundary to the model's outputs, in the model's own output structure. Takes the boundary's tensors under
            their wire names, then the public inputs.
        boundary: names, shapes and dtypes of what crosses.
        channel: layers applied to the boundary inside the device half, in order; empty for a plain cut.
        public_inputs: names of the inputs that the server half reads raw.
    """

    model: keras.Model
    device: keras.Model
    server: keras.Model
    boundary: Boundary
    channel: tuple[keras.layers.Layer, ...] = ()
    public_inputs: tuple[str, ...] = ()

    def verify(self, x: Any) -> None:
        """Compares the halves with the whole model, in inference, bit for bit.

        What crosses goes through NumPy arrays, so that nothing reaches the server half but the declared tensors. Layers of the
        channel are left out of the comparison: they are there to change what crosses.

        Args:
            x: a batch in the model's own input structure, or a dict by input name.

        Raises:
            VerificationError: an output differs, with the largest difference; or the channel cannot be left out.
        """
        values = self._by_name(x)
        whole = self.model(_pack(self.model, values), training=False)
        device = self._plain_device()
        sent = keras.tree.flatten(device(_pack(device, values), training=False))
        wire = {name: keras.ops.convert_to_numpy(t) for name, t in zip(self.boundary.names, sent, strict=True)}
        composed = self.server(_pack(self.server, {**values, **wire}), training=False)
        pairs = zip(output_names(self.model), keras.tree.flatten(whole), keras.tree.flatten(composed), strict=True)
        wrong = [text for name, a, b in pairs if (text := _difference(name, a, b))]
        if wrong:
            raise VerificationError(
                f"The halves do not compose to the model {self.model.name!r}: {'; '.join(wrong)}. "
                "Expected equal outputs, bit for bit. Halves that were trained on their own no longer match the whole model."
            )

    def with_channel(self, channel: keras.layers.Layer | Sequence[keras.layers.Layer]) -> Partition:
        """The same partition with a channel at the end of the device half, behind any that is there already.

        Args:
            channel: one layer for each floating-point tensor of the boundary, in order, each from one tensor to one of the same
                shape and dtype. A single layer serves the first of several tensors, and copies of it the others. Masks and whole
                numbers cross as they are.

        Raises:
            ChannelError: the layers do not fit the boundary.
        """
        floating = [i for i, t in enumerate(self.boundary.tensors) if "float" in t.dtype]
        layers = _one_for_each(channel, len(floating))
        outputs = keras.tree.flatten(self.device.output)
        for i, layer in zip(floating, layers, strict=True):
            before, outputs[i] = outputs[i], layer(outputs[i])
            if (before.shape, before.dtype) != (outputs[i].shape, outputs[i].dtype):
                raise ChannelError(
                    f"Received the channel {layer.name!r}, which turns {before.dtype}{list(before.shape)} into "
                    f"{outputs[i].dtype}{list(outputs[i].shape)}; expected both unchanged. Give the layer that dtype."
                )
        with deep_graphs(len(self.device.operations)):
            device = keras.Model(input_structure(self.device), outputs if len(outputs) > 1 else outputs[0], name=self.device.name)
        return replace(self, device=device, channel=(*self.channel, *layers))

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Writes `model.keras`, `device.keras`, `server.keras` and `partition.json` into a new folder.

        The folder appears under its name only when it is complete. Weights that the halves share are written with each of them.

        Raises:
            BundleExistsError: the folder is there already and `overwrite` is false.
        """
        target = Path(directory)
        if target.exists() and not overwrite:
            raise BundleExistsError(f"Received {str(target)!r}, which exists; expected a new folder. Pass overwrite=True to replace it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for part in _MODELS:
                getattr(self, part).save(fresh / f"{part}.keras")
            record = {
                "schema": _SCHEMA,
                "boundary": self.boundary.to_json(),
                "channel": [layer.name for layer in self.channel],
                "public_inputs": list(self.public_inputs),
                "operations": count_operations(self.model),
            }
            (fresh / PARTITION_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            fresh.chmod(0o755)
            _replace(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return target

    @classmethod
    def load(cls, directory: str | Path) -> Partition:
        """Reads what `save` wrote, in Keras' safe mode. The three models come back with separate weights of equal values.

        Raises:
            ModelError: a file is missing, damaged or from a newer version, or holds a layer that safe mode refuses.
        """
        folder = Path(directory)
        record = _read_record(folder / PARTITION_FILE)
        models = {part: _load_model(folder / f"{part}.keras", record["operations"]) for part in _MODELS}
        try:
            boundary = Boundary.from_json(record["boundary"])
            channel = tuple(models["device"].get_layer(name) for name in record["channel"])
        except (ContractError, ValueError) as error:
            raise ModelError(f"{folder / PARTITION_FILE} does not fit the halves beside it: {error} Save the partition again.") from error
        return cls(**models, boundary=boundary, channel=channel, public_inputs=tuple(record["public_inputs"]))

    def _by_name(self, x: Any) -> dict[str, Any]:
        """The model's inputs by name."""
        names = input_names(self.model)
        if isinstance(x, Mapping) and set(x) == set(names):
            return dict(x)
        values = keras.tree.flatten(x)
        if len(values) != len(names):
            raise VerificationError(f"Received {len(values)} inputs; expected the {len(names)} of the model: {', '.join(names)}.")
        return dict(zip(names, values, strict=True))

    def _plain_device(self) -> keras.Model:
        """The device half without its channel."""
        if not self.channel:
            return self.device
        try:
            return bypass(self.device, self.channel)
        except ValueError as error:
            raise VerificationError(
                f"The channel {[layer.name for layer in self.channel]} cannot be left out of the device half, so that the halves cannot be "
                f"compared with the whole model: {error} Verify the plain partition before you put a channel on it."
            ) from error


def _one_for_each(channel: keras.layers.Layer | Sequence[keras.layers.Layer], count: int) -> list[keras.layers.Layer]:
    """As many layers as there are tensors for them: those given, or one and its copies."""
    layers = [channel] if isinstance(channel, keras.layers.Layer) else list(channel)
    if isinstance(channel, keras.layers.Layer):
        for i in range(1, count):
            config = channel.get_config()
            layers.append(type(channel).from_config({**config, "name": f"{channel.name}_{i}"}))
    if len(layers) != count:
        raise ChannelError(f"Received {len(layers)} channels; expected {count}, one for each floating-point tensor of the boundary.")
    return layers


def _pack(model: keras.Model, values: Mapping[str, Any]) -> Any:
    """Packs values by input name into the structure that a model takes."""
    return keras.tree.pack_sequence_as(input_structure(model), [values[name] for name in input_names(model)])


def _difference(name: str, whole: Any, composed: Any) -> str:
    """How two outputs differ; empty if they are equal bit for bit."""
    a, b = np.asarray(keras.ops.convert_to_numpy(whole)), np.asarray(keras.ops.convert_to_numpy(composed))
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"output {name!r} is {b.dtype}{list(b.shape)} instead of {a.dtype}{list(a.shape)}"
    if a.tobytes() == b.tobytes():
        return ""
    largest = np.max(np.abs(a.astype("float64") - b.astype("float64"))) if a.size else 0.0
    return f"output {name!r} differs by up to {largest:.3g}"


def _replace(fresh: Path, target: Path) -> None:
    """Puts the finished folder in place; what stood there goes only when the new one stands."""
    if not target.exists():
        os.rename(fresh, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.replace(target, old / "was")
    os.rename(fresh, target)
    shutil.rmtree(old)


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"Found no {path.name} in {str(path.parent)!r}; expected a folder written by Partition.save.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"Can't read {path}: {error}. Save the partition again.") from error
    if not isinstance(record, dict) or record.get("schema") != _SCHEMA:
        schema = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise ModelError(f"{path} has schema {schema!r}; this version reads schema {_SCHEMA}. Upgrade keras_privpart, or save again.")
    texts = [record.get("channel"), record.get("public_inputs")]
    if type(record.get("operations")) is not int or not all(isinstance(t, list) and all(isinstance(n, str) for n in t) for t in texts):
        raise ModelError(f"{path} is malformed; expected boundary, channel, public_inputs and operations. Save the partition again.")
    return record


def _load_model(path: Path, operations: int) -> keras.Model:
    if not path.is_file():
        raise ModelError(f"Found no {path.name} in {str(path.parent)!r}; expected a folder written by Partition.save.")
    try:
        with deep_graphs(operations):
            return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras lets through whatever zip, HDF5, JSON and the layers' own constructors raise
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelError(f"Can't load {path}: {type(error).__name__}: {reason} Save the partition again.") from error
