"""Regularisers: privacy terms on the boundary itself, with no adversary in the loop."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels import PACKAGE
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import dependence
from keras_privpart.training.privacy_terms.goals import class_labels
from keras_privpart.training.privacy_terms.rate import BitsBeyondClass, ClassMeanPull
from keras_privpart.training.privacy_terms.regularizer import Crossing, Regularizer
from keras_privpart.training.privacy_terms.schedules import Weight

__all__ = [
    "AttributeDependence",
    "BitsBeyondClass",
    "ClassMeanPull",
    "ConditionalEntropy",
    "Crossing",
    "DistanceCorrelation",
    "JacobianPenalty",
    "Regularizer",
]


@keras.saving.register_keras_serializable(package=PACKAGE)
class DistanceCorrelation(Regularizer):
    """Distance correlation of input and boundary (`dependence.distance_correlation`), in [0, 1].

    Args:
        weight: see `Regularizer`.
        name: names its metric.
    """

    def __init__(self, weight: Weight = 1.0, name: str = "distance_correlation") -> None:
        super().__init__(weight, name)

    def penalty(self, crossing: Crossing) -> Any:
        return dependence.distance_correlation(_flat_input(crossing.x), dependence.flat(crossing.boundary))


@keras.saving.register_keras_serializable(package=PACKAGE)
class ConditionalEntropy(Regularizer):
    """What the boundary tells beyond the task's class (`dependence.conditional_information`), in nats per feature.

    Args:
        classes: how many classes the task has; its targets must be whole numbers from 0 or one-hot rows.
        stddev: of the channel's noise, above 0.
        weight: see `Regularizer`.
        name: names its metric.
    """

    def __init__(self, classes: int, stddev: float = 1.0, weight: Weight = 1.0, name: str = "conditional_entropy") -> None:
        super().__init__(weight, name)
        self.classes = arguments.whole("classes", classes, TrainingError, owner=name, advice="Give the task's classes.")
        self.stddev = arguments.number("stddev", stddev, TrainingError, positive=True, owner=name)

    def penalty(self, crossing: Crossing) -> Any:
        labels = class_labels(crossing.task, type(self).__name__)
        return dependence.conditional_information(dependence.flat(crossing.boundary), labels, self.classes, self.stddev)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes, "stddev": self.stddev}


@keras.saving.register_keras_serializable(package=PACKAGE)
class JacobianPenalty(Regularizer):
    """Fisher information that the boundary holds of the input: `Tr(J^T J) / (stddev^2 d)`, d numbers per input, mean over the batch.

    Estimated without bias by random projections: `E |J^T v|^2 = Tr(J^T J)` for standard normal `v`. The larger it is, the better can an
    unbiased estimator become; its inverse bounds that one's mean squared error (with noise of that `stddev` on the boundary).

    Args:
        weight: see `Regularizer`.
        projections: random directions per batch, each one more pass back through the device half.
        stddev: of the channel's noise, above 0.
        limit: information below which nothing is penalised.
        seed: of the directions.
        name: names its metric.

    References:
        Maeng, Guo, Kariyappa, Suh, "Bounding the Invertibility of Privacy-preserving Instance Encoding using Fisher Information",
        NeurIPS 2023.
        Hoffman, Roberts, Yaida, "Robust Learning with Jacobian Regularization", arXiv 1908.02729, 2019 (random projections).
    """

    needs_input_gradient = True

    def __init__(
        self,
        weight: Weight = 1.0,
        projections: int = 1,
        stddev: float = 1.0,
        limit: float = 0.0,
        seed: int = 0,
        name: str = "fisher_information",
    ) -> None:
        super().__init__(weight, name)
        self.projections = arguments.whole("projections", projections, TrainingError, owner=name)
        self.stddev = arguments.number("stddev", stddev, TrainingError, positive=True, owner=name)
        self.limit = arguments.number("limit", limit, TrainingError, owner=name)
        self.seed = seed

    def penalty(self, crossing: Crossing) -> Any:
        if crossing.input_gradient is None:
            raise TrainingError("Received a batch without the input's gradient; a JacobianPenalty expects it. Let the trainer call it.")
        floating = [z for z in crossing.boundary if z.dtype.is_floating]
        squares = []
        for i in range(self.projections):
            along = [tf.random.stateless_normal(tf.shape(z), self._seed(crossing, i, j), dtype=z.dtype) for j, z in enumerate(floating)]
            gradient = crossing.input_gradient(floating, along)
            squares.append(tf.reduce_mean(tf.square(_flat_input(gradient))))
        # The mean over the input's numbers is the division by d; that over the batch comes with it.
        return tf.maximum(tf.add_n(squares) / self.projections / self.stddev**2, self.limit) - self.limit

    def _seed(self, crossing: Crossing, projection: int, tensor: int) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        replica = tf.cast(0 if context is None else context.replica_id_in_sync_group, tf.int64)
        place = (projection * 64 + tensor) * 4096 + replica
        return tf.stack([tf.cast(crossing.step, tf.int64), place + (self.seed << 32)])

    def get_config(self) -> dict[str, Any]:
        own = {"projections": self.projections, "stddev": self.stddev, "limit": self.limit, "seed": self.seed}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package=PACKAGE)
class AttributeDependence(Regularizer):
    """Dependence of boundary and a private attribute: their normalised HSIC (`dependence.hsic`), in [0, 1].

    Args:
        attribute: key of the attribute in the targets: classes `[batch]`, or numbers if they are floating point.
        weight: see `Regularizer`.
        name: names its metric; `<attribute>_dependence` by default.
    """

    def __init__(self, attribute: str, weight: Weight = 1.0, name: str | None = None) -> None:
        super().__init__(weight, name or f"{attribute.rsplit('/', 1)[-1]}_dependence")
        self.attribute = attribute

    def penalty(self, crossing: Crossing) -> Any:
        if self.attribute not in crossing.private:
            raise TrainingError(
                f"Received the targets {['task', *sorted(crossing.private)]}; the regulariser {self.name!r} expects the key "
                f'{self.attribute!r}. Let the data set yield (x, {{"task": y, "{self.attribute}": a}}).'
            )
        label = tf.convert_to_tensor(crossing.private[self.attribute])
        numbers = label.dtype.is_floating
        of_label = dependence.gaussian_kernel(dependence.flat([label])) if numbers else dependence.same_kernel(tf.reshape(label, [-1]))
        return dependence.hsic(dependence.gaussian_kernel(dependence.flat(crossing.boundary)), of_label)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "attribute": self.attribute}


def _flat_input(x: Any) -> tf.Tensor:
    return dependence.flat([tf.convert_to_tensor(t) for t in tf.nest.flatten(x)])
