"""Adversaries: simulated attackers that train with the halves. Their success is the halves' loss; it is never evidence."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels import PACKAGE
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.graphs.copying import copy_model
from keras_privpart.partitioning.graphs.names import traceable
from keras_privpart.partitioning.input_kind import PICTURE, Given, kinds_of
from keras_privpart.training.privacy_terms import networks, objectives, replica_sums
from keras_privpart.training.privacy_terms.checked_targets import Values, checked_classes, checked_pictures, checked_values
from keras_privpart.training.privacy_terms.goals import Goal, Reversal
from keras_privpart.training.privacy_terms.input_targets import InputTargets
from keras_privpart.training.privacy_terms.schedules import Weight, checked_weight, weight_config
from keras_privpart.value_range import checked_range, pictures, resolved

Shapes = Sequence[tuple[int | None, ...]]


class Adversary(abc.ABC):
    """Base of all adversaries: what to predict from the boundary, with which network, and how its success is measured.

    An adversary minimises its loss. The halves minimise the task's loss plus `weight` times what the `goal` makes of the adversary:
    by default its recovered share (`objectives.recovered_share`), which lies in [0, 1] for every kind of adversary, so that weights
    compare.

    Args:
        weight: what a fully successful adversary costs the halves, in units of the task's loss: a number, or a function of the step
            such as `schedules.LinearWeight`. 0 trains the adversary and leaves the halves exactly as plain training would.
        name: names the adversary's metrics.
        goal: what the halves do about it, a `goals.Reversal` or another `goals.Goal`; `None` is `Reversal()`.
        optimizer: of its own, a Keras optimizer or its name; `None` takes the trainer's `adversary_optimizer`.
        steps: extra steps it makes on each batch, on a detached boundary, before the step that it shares with the halves.
    """

    def __init__(self, weight: Weight, name: str, goal: Reversal | Goal | None = None, optimizer: Any = None, steps: int = 0) -> None:
        if goal is not None and not isinstance(goal, (Reversal, Goal)):
            raise TrainingError(
                f"Received goal={goal!r} for {name!r}; expected a Reversal, another Goal, or None. See keras_privpart.goals."
            )
        self.weight = checked_weight(weight, name)
        self.name = name
        self.goal = goal
        self.optimizer = optimizer
        self.steps = arguments.whole("steps", steps, TrainingError, least=0, owner=name, advice="It counts extra steps.")

    @abc.abstractmethod
    def build(self, boundary_shapes: Shapes, input_shape: tuple[int | None, ...]) -> keras.Model:
        """A new network from the boundary's tensors to the prediction. Shapes come without the batch."""

    @abc.abstractmethod
    def target(self, x: Any, private: Mapping[str, Any]) -> Any:
        """What to predict, from the input `x` and the batch's private attributes."""

    def meet(self, device: keras.Model) -> None:  # noqa: B027 - most adversaries need to know nothing about the model
        """Is told whose inputs it will read, before it is asked for targets."""

    def check_values(self, x: Any, targets: Mapping[str, Any]) -> None:  # noqa: B027 - most adversaries have nothing to check
        """Raises `TrainingError` for whole arrays of inputs and targets, by key, that do not fit; streams are left out."""

    @abc.abstractmethod
    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        """The adversary's loss, `[batch]`."""

    @abc.abstractmethod
    def ignorant_error(self, target: Any) -> tf.Tensor:
        """Loss of the best guess that ignores the boundary, `[batch]`; taken over the batch at hand, of all replicas."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""

    def _base_config(self) -> dict[str, Any]:
        def serialized(value: Any) -> Any:
            return value if value is None or isinstance(value, str) else keras.saving.serialize_keras_object(value)

        return {
            "weight": weight_config(self.weight),
            "name": self.name,
            "goal": serialized(self.goal),
            "optimizer": serialized(self.optimizer),
            "steps": self.steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Adversary:
        return cls(**{key: _loaded(value) for key, value in config.items()})


@keras.saving.register_keras_serializable(package=PACKAGE)
class ReconstructionAdversary(Adversary):
    """A decoder that reads the input back from the boundary: a picture, a signal, a table, tokens, or several inputs at once.

    What it minimises follows from the kind of input: for signals and numbers the mean squared error, each channel or column of unit
    variance; for tokens and categories the cross-entropy; of several inputs each counts by the share that is recovered.

    Args:
        weight: see `Adversary`.
        loss: of a picture, where that is the only input: `"mse"`, `"l1"`, `"ssim"` for 1 - SSIM, or `"ms-ssim"` for 1 - MS-SSIM.
        size: of the decoder, `"small"`, `"medium"`, `"large"` or `"huge"` (`networks.decoder`).
        name: names its metrics.
        goal, optimizer, steps: see `Adversary`.
        network: a model of your own instead, from the boundary (a list of tensors where there are several) to the image in [0, 1]; for
            all else to the predictions of all inputs in one row, `[batch, n]` (`input_targets.InputTargets`). The trainer takes a copy
            of it with its weights.
        value_range: the least and the largest value of a pixel as the model takes it, such as (0, 255); by default what a `Rescaling` or
            `Normalization` at the model's front tells (`keras_privpart.value_range`), else [0, 1]. uint8 needs none. The images are
            scaled for the decoder, which answers in [0, 1], never for the model.
        input: name of the input to read back where the model takes several; by default all.
        input_kind: what the inputs hold, `"picture"`, `"signal"`, `"table"` or `"tokens"`, for all or by input name; by default as
            `input_kind.kinds_of` infers it from the model.

    References:
        Chi et al., "Privacy Partitioning: Protecting User Data During the Deep Learning Inference Phase", arXiv 1812.02863, 2018.
    """

    LOSSES = ("mse", "ssim", "l1", "ms-ssim")

    def __init__(
        self,
        weight: Weight = 1.0,
        loss: str = "mse",
        size: str = "small",
        name: str = "reconstruction",
        goal: Reversal | Goal | None = None,
        optimizer: Any = None,
        steps: int = 0,
        network: keras.Model | None = None,
        value_range: Sequence[float] | None = None,
        input: str | None = None,
        input_kind: Given = None,
    ) -> None:
        super().__init__(weight, name, goal, optimizer, steps)
        if loss not in self.LOSSES:
            raise TrainingError(f"Received loss={loss!r}; expected one of {', '.join(self.LOSSES)}. Choose one of them.")
        self.loss = loss
        self.size = size
        self.network = network
        self.value_range = None if value_range is None else checked_range(value_range, TrainingError)
        self._range, self._is_inferred = resolved(None, self.value_range, TrainingError)
        self.input = input
        self.input_kind = input_kind if input_kind is None or isinstance(input_kind, str) else dict(input_kind)
        self._targets: InputTargets | None = None  # of all but one picture

    @property
    def reads_picture(self) -> bool:
        """Whether it reads back a single picture, which can be shown."""
        return self._targets is None

    def meet(self, device: keras.Model) -> None:
        self._range, self._is_inferred = resolved(device, self.value_range, TrainingError)
        kinds = kinds_of(device, self.input_kind, TrainingError)
        alone = len(kinds) == 1 and kinds[0].kind == PICTURE and self.input in (None, kinds[0].name)
        self._targets = None if alone else InputTargets(kinds, self.input, (self._range, self._is_inferred))
        if not alone and not isinstance(self.goal, (Reversal, type(None))):
            raise TrainingError(
                f"Received goal={type(self.goal).__name__} for {self.name!r}, which reads back {', '.join(kind.name for kind in kinds)}; "
                "expected Reversal() or None: the others are about a single picture."
            )

    def check_values(self, x: Any, targets: Mapping[str, Any]) -> None:
        first = next(iter(tf.nest.flatten(x)), None) if self.reads_picture else None
        if isinstance(first, np.ndarray) and first.dtype.kind in "fi":
            pictures(first, self._range, self._is_inferred, TrainingError)

    def build(self, boundary_shapes: Shapes, input_shape: tuple[int | None, ...]) -> keras.Model:
        if self._targets is not None:
            if self.network is not None:
                return _own_network(self.network, boundary_shapes, (self._targets.prediction_size,), self.name)
            return self._targets.network(boundary_shapes, self.size, traceable(f"{self.name}_adversary"))
        if len(input_shape) != 3 or None in input_shape:
            raise TrainingError(
                f"Received inputs of shape {list(input_shape)}; a ReconstructionAdversary expects images [height, width, channels] "
                "of fixed size. Resize pictures before the model."
            )
        if self.network is not None:
            return _own_network(self.network, boundary_shapes, input_shape, self.name)
        return networks.decoder(boundary_shapes, input_shape, self.size, name=traceable(f"{self.name}_adversary"))

    def target(self, x: Any, private: Mapping[str, Any]) -> Any:
        if self._targets is not None:
            return self._targets.of(x)
        image = tf.convert_to_tensor(tf.nest.flatten(x)[0])
        if image.dtype in (tf.uint8, tf.uint16):
            return tf.image.convert_image_dtype(image, tf.float32)
        return checked_pictures(image, self._range, self._is_inferred)

    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        if self._targets is not None:
            return self._targets.error(target, prediction)
        prediction = tf.cast(prediction, tf.float32)
        if self.loss == "ssim":
            return 1.0 - objectives.ssim(target, prediction)
        if self.loss == "ms-ssim":
            return 1.0 - objectives.ms_ssim(target, prediction)
        return objectives.l1(target, prediction) if self.loss == "l1" else objectives.mse(target, prediction)

    def ignorant_error(self, target: Any) -> tf.Tensor:
        if self._targets is not None:
            return self._targets.ignorant_error(target)
        return self.error(target, tf.broadcast_to(replica_sums.batch_mean(target), tf.shape(target)))

    def get_config(self) -> dict[str, Any]:
        network = None if self.network is None else keras.saving.serialize_keras_object(self.network)
        own = {"loss": self.loss, "size": self.size, "network": network, "value_range": self.value_range and list(self.value_range)}
        return {**self._base_config(), **own, "input": self.input, "input_kind": self.input_kind}


@keras.saving.register_keras_serializable(package=PACKAGE)
class AttributeAdversary(Adversary):
    """Reads a private attribute from the boundary: a class, a yes or no, or a number.

    Args:
        attribute: key of the attribute in the targets. Whole numbers `[batch]` from 0 to `classes` - 1, or what `values` says; for a
            binary one 0 and 1; for a continuous one numbers `[batch]` or `[batch, k]`, best standardised.
        classes: how many values it has; of no meaning for a continuous one.
        weight: see `Adversary`.
        kind: of the head, `"linear"`, `"mlp"` or `"conv"` (`networks.probe`); several heads as a tuple, whose mean error counts.
        name: names its metrics; the attribute itself by default.
        goal, optimizer, steps: see `Adversary`.
        network: a model of your own instead, from the boundary to logits `[batch, classes]` (one logit for a binary attribute, `k`
            numbers for a continuous one). The trainer takes a copy of it with its weights.
        attribute_type: `"categorical"`, `"binary"` (one logit instead of two) or `"continuous"` (squared error).
        size: numbers per example of a continuous attribute, k.
        values: what stands for the classes, in their order, where it is not 0, 1, ...: such as (-1, 1) or ("f", "m"); `"one-hot"` for rows
            `[batch, classes]`.

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016 (gradient reversal).
    """

    TYPES = ("categorical", "binary", "continuous")

    def __init__(
        self,
        attribute: str,
        classes: int = 2,
        weight: Weight = 1.0,
        kind: str | Sequence[str] = "mlp",
        name: str | None = None,
        goal: Reversal | Goal | None = None,
        optimizer: Any = None,
        steps: int = 0,
        network: keras.Model | None = None,
        attribute_type: str = "categorical",
        size: int = 1,
        values: Values = None,
    ) -> None:
        super().__init__(weight, name or attribute.rsplit("/", 1)[-1], goal, optimizer, steps)
        arguments.choice("attribute_type", attribute_type, self.TYPES, TrainingError)
        self.classes = arguments.whole("classes", classes, TrainingError, least=2, owner=attribute)
        if attribute_type == "binary" and classes != 2:
            raise TrainingError(f"Received classes={classes} for the binary attribute {attribute!r}; expected 2. Use a categorical one.")
        self.attribute = attribute
        self.kind = kind if isinstance(kind, str) else tuple(kind)
        self.network = network
        self.attribute_type = attribute_type
        self.size = arguments.whole("size", size, TrainingError, owner=attribute)
        self.values = checked_values(attribute, values, self.classes, attribute_type)

    @property
    def units(self) -> int:
        """Numbers that a head predicts for an example."""
        return {"categorical": self.classes, "binary": 1, "continuous": self.size}[self.attribute_type]

    def build(self, boundary_shapes: Shapes, input_shape: tuple[int | None, ...]) -> keras.Model:
        name = traceable(f"{self.name}_adversary")
        if self.network is not None:
            return _own_network(self.network, boundary_shapes, (self.units,), self.name)
        if isinstance(self.kind, str):
            return networks.probe(boundary_shapes, self.units, self.kind, name=name)
        heads = [networks.probe(boundary_shapes, self.units, kind, name=f"head_{i}_{kind}") for i, kind in enumerate(self.kind)]
        if not heads:
            raise TrainingError(f"Received kind={self.kind!r} for {self.name!r}; expected at least one kind of head.")
        inputs = [keras.Input(x.shape[1:], name=x.name) for x in heads[0].inputs]
        z = inputs if len(inputs) > 1 else inputs[0]
        return keras.Model(z, keras.ops.stack([head(z) for head in heads], axis=1), name=name)

    def check_values(self, x: Any, targets: Mapping[str, Any]) -> None:
        if self.attribute in targets:
            self.target(None, targets)

    def target(self, x: Any, private: Mapping[str, Any]) -> Any:
        if self.attribute not in private:
            raise TrainingError(
                f"Received the targets {['task', *sorted(private)]}; the adversary {self.name!r} expects the key {self.attribute!r}. "
                f'Let the data set yield (x, {{"task": y, "{self.attribute}": a}}).'
            )
        label = tf.convert_to_tensor(private[self.attribute])
        if self.attribute_type == "continuous" and label.dtype == tf.string:
            raise TrainingError(f"Received the continuous attribute {self.attribute!r} as text; expected numbers. Convert it to float.")
        if self.attribute_type == "continuous":
            return tf.reshape(tf.cast(label, tf.float32), [-1, self.size])
        return tf.reshape(checked_classes(self.attribute, label, self.classes, self.values), [-1])

    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        prediction = tf.cast(prediction, tf.float32)
        if prediction.shape.rank == 3:
            return tf.add_n([self._head_error(target, prediction[:, i]) for i in range(len(self.kind))]) / len(self.kind)
        return self._head_error(target, prediction)

    def _head_error(self, target: Any, prediction: Any) -> tf.Tensor:
        if self.attribute_type == "continuous":
            return objectives.mse(target, prediction)
        if self.attribute_type == "binary":
            return objectives.binary_cross_entropy(target, prediction)
        return objectives.cross_entropy(target, prediction)

    def ignorant_error(self, target: Any) -> tf.Tensor:
        if self.attribute_type == "continuous":
            # The variance, for every example: its own distance from the mean would be next to nothing for one near the mean.
            variance = replica_sums.batch_mean(objectives.mse(target, tf.broadcast_to(replica_sums.batch_mean(target), tf.shape(target))))
            return tf.fill([tf.shape(target)[0]], variance)
        return objectives.prior_cross_entropy(target, self.classes)

    def get_config(self) -> dict[str, Any]:
        network = None if self.network is None else keras.saving.serialize_keras_object(self.network)
        kind = self.kind if isinstance(self.kind, str) else list(self.kind)
        meaning = {} if self.values is None else {"values": self.values if isinstance(self.values, str) else list(self.values)}
        own = {"attribute": self.attribute, "classes": self.classes, "kind": kind, "network": network}
        return {**self._base_config(), **own, "attribute_type": self.attribute_type, "size": self.size, **meaning}


def _loaded(value: Any) -> Any:
    """What a configuration's value stands for."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) and "class_name" in value else value


def _own_network(network: Any, boundary_shapes: Shapes, output_shape: tuple[int | None, ...], name: str) -> keras.Model:
    """A copy of the user's network with its weights, once it is known to fit.

    Raises:
        TrainingError: it is no functional or Sequential model, or its inputs or its output have other shapes.
    """
    if not isinstance(network, keras.Model) or not network.inputs or len(network.outputs) != 1:
        raise TrainingError(
            f"Received network={type(network).__name__} for {name!r}; expected a functional or Sequential model with one output. "
            "Build it with keras.Model(inputs, output)."
        )
    got = [tuple(x.shape[1:]) for x in (*network.inputs, *network.outputs)]
    want = [*(tuple(shape) for shape in boundary_shapes), tuple(output_shape)]
    if len(got) != len(want) or any(
        len(a) != len(b) or any(None not in (p, q) and p != q for p, q in zip(a, b, strict=True)) for a, b in zip(got, want, strict=True)
    ):
        raise TrainingError(
            f"Received a network for {name!r} from {got[:-1]} to {got[-1]}; the boundary and the target have {want[:-1]} and {want[-1]}. "
            "Build it for these shapes, without the batch."
        )
    return copy_model(network)
