"""Distillation: the halves learn from a trained model what to answer, instead of, or beside, from labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels import PACKAGE
from keras_privpart.datasets import TASK
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.graphs.addresses import Addresses
from keras_privpart.partitioning.graphs.assembly import Port, build
from keras_privpart.partitioning.graphs.copying import copy_model
from keras_privpart.partitioning.graphs.graph import read
from keras_privpart.partitioning.graphs.problems import Problem
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.privacy_terms import objectives
from keras_privpart.training.task import gives_probabilities

_TINY = 1e-7


@dataclass(frozen=True)
class Distillation:
    """What the halves learn from a teacher.

    Attributes:
        weight: share of the task's loss that comes from the teacher's answer, 0 to 1; the rest comes from labels. With 1 there need be no
            labels.
        temperature: softens both answers, so that the teacher also says which wrong classes are nearly right.
        features: addresses of a tensor of the server half and of one of the teacher, which shall agree: what the server
            makes of a narrow boundary, and what stood there before it was narrowed, such as `("bottleneck_expansion", "conv2")`. None to
            leave that out.
        feature_weight: of the features' loss: their mean squared difference, in units of the teacher's variance.
        from_logits: whether both models answer logits; None asks their last layer, and raises if that does not say.

    References:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, 2015 (answers at a temperature).
        Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (features).
    """

    weight: float = 1.0
    temperature: float = 4.0
    features: tuple[str, str] | None = None
    feature_weight: float = 1.0
    from_logits: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (("weight", self.weight), ("temperature", self.temperature), ("feature_weight", self.feature_weight)):
            arguments.number(name, value, TrainingError, owner="Distillation")
        if self.weight > 1 or not self.temperature:
            raise TrainingError(
                f"Received weight={self.weight!r} and temperature={self.temperature!r} for Distillation; expected a weight of at most 1 "
                "and a temperature above 0."
            )
        if self.features is not None and len(self.features) != 2:
            raise TrainingError(
                f"Received features={self.features!r}; expected the addresses of two tensors, the server half's and the teacher's, or None."
            )

    @property
    def is_off(self) -> bool:
        """Whether nothing is learned from the teacher."""
        return not self.weight and not self.compares_features

    @property
    def compares_features(self) -> bool:
        return self.features is not None and self.feature_weight > 0

    @property
    def needs_labels(self) -> bool:
        return self.weight < 1


@dataclass(frozen=True)
class Lesson:
    """What the teacher says of a batch: scores `[batch, classes]`, and features `[batch, ...]` where they are compared."""

    scores: tf.Tensor
    features: tf.Tensor | None


@keras.saving.register_keras_serializable(package=PACKAGE)
class Teacher(keras.layers.Layer):
    """A frozen copy of a trained model, beside the server half that learns from it.

    Args:
        model: the whole trained model, or its partition: of the same inputs and the same answer as the halves.
        server: the server half that learns.
        settings: what it learns.

    Raises:
        TrainingError: the model answers something else, has no such tensor, or nobody knows whether it answers logits.
    """

    def __init__(self, model: keras.Model | Partition, server: keras.Model, settings: Distillation) -> None:
        super().__init__(name="teacher")
        whole = model.model if isinstance(model, Partition) else model
        got, want = ([tuple(t.shape) for t in m.outputs] for m in (whole, server))
        if len(want) != 1 or len(want[0]) != 2 or got != want:
            raise TrainingError(f"Received a teacher that answers {got}; expected the one output [batch, classes] of the halves, {want}.")
        self.settings = settings
        # A copy: the halves may share layers with the model that they were cut from.
        self.model = copy_model(whole)
        self.model.trainable = False
        self._logits = settings.from_logits if settings.from_logits is not None else _agreed_on_logits(whole, server)
        # Neither belongs to this layer, which would hold the server's weights a second time: hence functions.
        pair = settings.features if settings.compares_features else None
        self._show = _with_feature(self.model, None if pair is None else pair[1], "the teacher")
        self._serve = _with_feature(server, None if pair is None else pair[0], "the server half")
        self.built = True

    def call(self, x: Any) -> Any:
        """The teacher's answer, `[batch, classes]`."""
        return self.model(x, training=False)

    def lesson(self, x: Any) -> Lesson:
        """What there is to learn about a batch of the model's inputs."""
        scores, features = self._show(x, False)
        return Lesson(tf.stop_gradient(scores), None if features is None else tf.stop_gradient(features))

    def answer(self, boundary: Any, training: bool) -> tuple[Any, Any]:
        """The server half's scores, and its features to compare, or None."""
        return self._serve(boundary, training)

    def loss(self, lesson: Lesson, scores: Any, features: Any) -> tf.Tensor:
        """How far the server half's answer and features are from the teacher's, `[batch]`, without the part that comes from labels."""
        total = tf.zeros([tf.shape(scores)[0]])
        if self.settings.weight:
            taught, answered = (as_logits(s, self._logits) for s in (lesson.scores, scores))
            total += self.settings.weight * softened_divergence(taught, answered, self.settings.temperature)
        if features is not None:
            total += self.settings.feature_weight * feature_distance(lesson.features, features)
        return total

    def labelled(self, y: Any, lesson: Lesson) -> Any:
        """The targets; where there are none for the task, the teacher's first class stands in for it, `[batch]`."""
        if self.settings.needs_labels or (y is not None and (not isinstance(y, Mapping) or TASK in y)):
            return y
        scores = objectives.two_sided(as_logits(lesson.scores, self._logits))
        return {**(y or {}), TASK: tf.argmax(scores, axis=-1)}

    def get_config(self) -> dict[str, Any]:
        """What `AdversarialTrainer.get_config` keeps of it: the model, and the settings as plain values."""
        return {"model": keras.saving.serialize_keras_object(self.model), "settings": asdict(self.settings)}


def softened_divergence(teacher: Any, student: Any, temperature: float) -> tf.Tensor:
    """T^2 KL(teacher || student) of two answers at temperature T, in nats, `[batch]`; 0 where they agree.

    Args:
        teacher, student: logits `[batch, classes]`, or `[batch, 1]` of yes against no.
        temperature: above 0. With the factor, gradients keep their size at every temperature.

    References:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, 2015.
    """
    log_p, log_q = (tf.nn.log_softmax(objectives.two_sided(tf.cast(x, tf.float32)) / temperature) for x in (teacher, student))
    return temperature**2 * tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


def feature_distance(teacher: Any, student: Any) -> tf.Tensor:
    """Mean squared difference of features of equal size, `[batch]`, in units of the teacher's variance over the batch.

    Args:
        teacher, student: `[batch, ...]`, of the same number of values an example.

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.
    """
    wanted, got = (tf.reshape(tf.cast(x, tf.float32), [tf.shape(x)[0], -1]) for x in (teacher, student))
    spread = tf.reduce_mean(tf.math.reduce_variance(wanted, axis=0))
    return tf.reduce_mean(tf.square(wanted - got), axis=-1) / tf.maximum(spread, _TINY)


def as_logits(scores: Any, are_logits: bool) -> tf.Tensor:
    """Scores `[batch, classes]` or `[batch, 1]` as logits, also where they are probabilities."""
    scores = tf.cast(scores, tf.float32)
    if are_logits:
        return scores
    p = tf.clip_by_value(scores, _TINY, 1.0)
    return tf.math.log(p) - tf.math.log(tf.maximum(1.0 - scores, _TINY)) if scores.shape[-1] == 1 else tf.math.log(p)


def _agreed_on_logits(teacher: keras.Model, server: keras.Model) -> bool:
    answers = {gives_probabilities(teacher), gives_probabilities(server)}
    if None in answers or len(answers) > 1:
        raise TrainingError(
            "The last layers of the teacher and the server half do not say alike whether they answer logits or probabilities; expected "
            "both. Pass distillation=Distillation(from_logits=...), for two models that answer alike."
        )
    return not answers.pop()


def _with_feature(model: keras.Model, layer: str | None, whose: str) -> Callable[[Any, bool], tuple[Any, Any]]:
    """`(inputs, training) -> (answer, the layer's output or None)` of a model, without running anything twice."""
    if layer is None:
        return lambda inputs, training: (model(inputs, training=training), None)
    graph = read(model)
    found = Addresses(graph).resolve(layer)
    if isinstance(found, Problem):
        raise TrainingError(f"Received the feature {layer!r} of {whose}; expected the address of one of its tensors. {found}")
    both = build(
        graph,
        [call.index for call in graph.calls if call.index not in graph.input_calls],
        [Port(t, name) for t, name in zip(graph.inputs, graph.input_names, strict=True)],
        [Port(graph.outputs[0], graph.output_names[0]), Port(found[0], "feature")],
        name=model.name,
        input_structure=graph.input_structure,
    )
    return lambda inputs, training: tuple(both(inputs, training=training))
