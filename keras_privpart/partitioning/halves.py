"""`Partition`: the two halves of a model, with the boundary between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_privpart.contract import Boundary, TensorSpec, dtype_name
from keras_privpart.errors import ChannelError, VerificationError
from keras_privpart.partitioning import storage
from keras_privpart.partitioning.graphs.assembly import bypass
from keras_privpart.partitioning.graphs.copying import Copies
from keras_privpart.partitioning.graphs.graph import deep_graphs, input_names, input_structure, optional_inputs, output_names
from keras_privpart.partitioning.graphs.state import kept
from keras_privpart.readable import Readable


@dataclass(frozen=True, repr=False)
class Partition(Readable):
    """A model cut in two. `server(device(x)) == model(x)`, bit for bit, as long as no channel stands on the boundary.

    Attributes:
        model: the whole model, whose weights the halves share: the one that was given, unless they were made `independent` or with a
            bottleneck.
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

    def words(self) -> str:
        """What stands where, what crosses, and through which channel."""
        device, server = self.device.count_params(), self.server.count_params()
        channel = self.channel_words() or "none: what the device half computes is sent as it is"
        public = [f"- raw to the server: the inputs {', '.join(self.public_inputs)}"] if self.public_inputs else []
        return "\n".join(
            [
                f"The model {self.model.name!r}, cut at {' and '.join(self.boundary.sources)}:",
                f"- on the device: {device:,} of {device + server:,} parameters; takes {', '.join(input_names(self.device))}",
                f"- crosses: {self.boundary}",
                f"- channel: {channel}",
                *public,
                f"- on the server: {server:,} parameters; answers {', '.join(output_names(self.model))}",
            ]
        )

    def channel_words(self) -> str:
        """The channel's layers with their settings; empty for a plain cut."""
        return ", ".join(_described(layer) for layer in self.channel)

    def verify(self, x: Any) -> None:
        """Compares the halves with the whole model, in inference, bit for bit.

        What crosses goes through NumPy arrays, so that nothing reaches the server half but the declared tensors. Layers of the
        channel are left out of the comparison: they are there to change what crosses. Layers that keep a state from call to call give
        both sides the same one, and have it back afterwards.

        Args:
            x: a batch in the model's own input structure, or a dict by input name.

        Raises:
            VerificationError: an output differs, with the largest difference; what crosses has another shape than the boundary declares;
                or the channel cannot be left out.
        """
        with kept(self.model):
            whole = self.model(_pack(self.model, self._by_name(x)), training=False)
        with kept(self.device, self.server):
            sent = self._plain_device()(self.device_inputs(x), training=False)
            misfit = self.misfit(sent)
            if misfit:
                raise VerificationError(misfit)
            composed = self.server(self.server_inputs(sent, x), training=False)
        pairs = zip(output_names(self.model), keras.tree.flatten(whole), keras.tree.flatten(composed), strict=True)
        wrong = [text for name, a, b in pairs if (text := _difference(name, a, b))]
        if wrong:
            raise VerificationError(
                f"The halves do not compose to the model {self.model.name!r}: {'; '.join(wrong)}. "
                "Expected equal outputs, bit for bit. Halves that were trained on their own no longer match the whole model."
            )

    def misfit(self, sent: Any) -> str:
        """How what the device half returned differs from the boundary in shape or dtype; empty if it does not.

        It does where a layer makes another shape than it declares, which the whole model may never notice.
        """
        wrong = [
            f"{spec.source or spec.name!r} is {tensor.dtype if isinstance(tensor.dtype, str) else tensor.dtype.name}{list(tensor.shape)}, "
            f"declared as {spec.dtype}{list(spec.shape)}"
            for spec, tensor in zip(self.boundary.tensors, keras.tree.flatten(sent), strict=True)
            if not _fits(spec, tensor)
        ]
        if not wrong:
            return ""
        return (
            f"Received a boundary that is not what the model's layers declare: {'; '.join(wrong)}. Expected the declared shapes. "
            "A layer before it makes another shape than it declares: give it the compute_output_shape it has, or put a Reshape behind it."
        )

    def device_inputs(self, x: Any) -> Any:
        """What the device half takes of `x`: a batch in the model's own input structure, or a dict by input name."""
        return _pack(self.device, self._by_name(x))

    def server_inputs(self, sent: Any, x: Any) -> Any:
        """What the server half takes: the boundary, as NumPy arrays, and the public inputs among `x`.

        Args:
            sent: what the device half returned: one tensor, or a list in the boundary's order.
            x: as for `device_inputs`.
        """
        tensors = keras.tree.flatten(sent)
        wire = {name: keras.ops.convert_to_numpy(t) for name, t in zip(self.boundary.names, tensors, strict=True)}
        given = {name: value for name, value in self._by_name(x).items() if name in self.public_inputs}
        public = {name: None if value is None else keras.ops.convert_to_numpy(value) for name, value in given.items()}
        return _pack(self.server, {**public, **wire})

    def with_channel(self, channel: keras.layers.Layer | Sequence[keras.layers.Layer]) -> Partition:
        """The same partition with a channel at the end of the device half, behind any that is there already.

        Args:
            channel: one layer for each floating-point tensor of the boundary, in order, each from one tensor to one of the same
                shape and dtype. A single layer serves the first of several tensors, and copies of it the others. Masks and whole
                numbers cross as they are.

        Raises:
            ChannelError: the layers do not fit the boundary.
        """
        floating = [i for i, t in enumerate(self.boundary.tensors) if t.is_floating]
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

    def copy(self) -> Partition:
        """The same on layers of its own, which the whole model and the halves share as they do here (`graphs.copying.copy_model`).

        Raises:
            ModelError: a layer cannot be made again from its configuration.
        """
        copies = Copies()
        model, device, server = (copies.model(m) for m in (self.model, self.device, self.server))
        return replace(self, model=model, device=device, server=server, channel=tuple(copies.of(layer) for layer in self.channel))

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Writes `model.keras`, `device.keras`, `server.keras` and `partition.json` into a new folder.

        The folder appears under its name only when it is complete. Weights that the halves share are written with each of them.

        Raises:
            BundleExistsError: the folder is there already and `overwrite` is false.
        """
        models = {"model": self.model, "device": self.device, "server": self.server}
        record = storage.Record(self.boundary, tuple(layer.name for layer in self.channel), self.public_inputs)
        return storage.save(Path(directory), models, record, overwrite=overwrite)

    @classmethod
    def load(cls, directory: str | Path) -> Partition:
        """Reads what `save` wrote, in Keras' safe mode. The three models come back with separate weights of equal values.

        Raises:
            ModelError: a file is missing, damaged or from a newer version, or holds a layer that safe mode refuses.
        """
        models, record = storage.load(Path(directory), ("model", "device", "server"))
        channel = storage.layers_of(models["device"], record.channel)
        return cls(**models, boundary=record.boundary, channel=channel, public_inputs=record.public_inputs)

    def _by_name(self, x: Any) -> dict[str, Any]:
        """The model's inputs by name; None for optional ones that are left out."""
        names = input_names(self.model)
        left_out = dict.fromkeys(optional_inputs(self.model))
        if isinstance(x, Mapping) and set(x) <= set(names) <= {*x, *left_out}:
            return {**left_out, **x}
        structure = input_structure(self.model)
        if not _same_keys(structure, x):
            got = sorted(map(str, x)) if isinstance(x, Mapping) else "a dict inside with other keys"
            raise VerificationError(
                f"Received the inputs {got}; expected those of the model, {', '.join(names)}. Give a dict by these names, "
                "or a list in their order."
            )
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


def _same_keys(structure: Any, x: Any) -> bool:
    """Whether dicts in `x` have the keys that `structure` has at their place, so that flattening takes both in one order."""
    if isinstance(structure, Mapping) or isinstance(x, Mapping):
        both = isinstance(structure, Mapping) and isinstance(x, Mapping) and set(structure) == set(x)
        return both and all(_same_keys(structure[key], x[key]) for key in structure)
    if isinstance(structure, (list, tuple)) and isinstance(x, (list, tuple)) and len(structure) == len(x):
        return all(_same_keys(inner, value) for inner, value in zip(structure, x, strict=True))
    return True


def _described(layer: keras.layers.Layer) -> str:
    """`GaussianChannel(stddev=0.5)`: a channel with the settings that set it apart."""
    config = {name: value for name, value in layer.get_config().items() if name not in ("name", "trainable", "dtype")}
    told = [f"{name}={value!r}" for name, value in config.items() if value not in (None, False, 0) and isinstance(value, int | float | str)]
    return f"{type(layer).__name__}({', '.join(told)})"


def _fits(spec: TensorSpec, tensor: Any) -> bool:
    """Whether a tensor, symbolic or not, has the dtype and the known dimensions of `spec`; the batch may be empty."""
    shape = tuple(tensor.shape)
    dtype = tensor.dtype if isinstance(tensor.dtype, str) else dtype_name(tensor)
    return (
        len(shape) == len(spec.shape)
        and dtype == spec.dtype
        and all(None in (want, got) or want == got for want, got in zip(spec.shape[1:], shape[1:], strict=True))
    )


def _pack(model: keras.Model, values: Mapping[str, Any]) -> Any:
    """Packs values by input name into the structure that a model takes."""
    return keras.tree.pack_sequence_as(input_structure(model), [values[name] for name in input_names(model)])


def _difference(name: str, whole: Any, composed: Any) -> str:
    """How two outputs differ; empty if they are equal bit for bit."""
    a, b = np.asarray(keras.ops.convert_to_numpy(whole)), np.asarray(keras.ops.convert_to_numpy(composed))
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"output {name!r} is {b.dtype}{list(b.shape)} instead of {a.dtype}{list(a.shape)}"
    if a.dtype == object:  # text, whose bytes in the array are addresses
        return "" if np.array_equal(a, b) else f"output {name!r} differs"
    if a.tobytes() == b.tobytes():
        return ""
    largest = np.max(np.abs(a.astype("float64") - b.astype("float64"))) if a.size else 0.0
    return f"output {name!r} differs by up to {largest:.3g}"
