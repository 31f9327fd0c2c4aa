"""Regularisers that bound the rate: how many bits of an input cross beyond its class, for any attacker, not for one that trains along.

Behind Gaussian noise of standard deviation s the mutual information of input and boundary, given the class, is at most

    log2 det(I + C / s^2) / 2   bits,

C the covariance within classes of what crosses without noise, pooled over classes: of all distributions with a covariance the Gaussian
has the largest entropy, and the logarithm of the determinant is concave. By Fano's inequality so few bits also bound how often any attacker
names the input among N of its class: `(bits + 1) / log2 N`. A decoder adversary hides information from decoders of its kind; this
removes it.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels import PACKAGE
from keras_privpart.contract import Boundary
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import dependence, replica_sums
from keras_privpart.training.privacy_terms.goals import class_labels
from keras_privpart.training.privacy_terms.regularizer import Crossing, Regularizer
from keras_privpart.training.privacy_terms.schedules import Weight

_LEAST = 1e-4  # of the noise, and a boundary that has none keeps its factor
WIDEST = 512  # numbers whose covariance is kept; of more, the variances alone


class _WithinClasses(keras.layers.Layer):
    """Running class means and the running covariance around them, of rows seen lately.

    The covariance starts at `start` times the identity, as if it had been seen for as many rows as there are numbers.
    """

    def __init__(self, classes: int, numbers: int, momentum: float, start: float) -> None:
        super().__init__(dtype="float32", trainable=False)
        self.momentum, self.whole = momentum, numbers <= WIDEST

        def kept(name: str, shape: tuple[int, ...], value: Any) -> Any:
            return self.add_weight(name=name, shape=shape, initializer=value, trainable=False, aggregation="mean")

        first = numbers * start
        shape, value = ((numbers, numbers), keras.initializers.Identity(first)) if self.whole else ((numbers,), _constant(first))
        self.sums = kept("sums", (classes, numbers), "zeros")
        self.counts = kept("counts", (classes,), "zeros")
        self.scatter = kept("scatter", shape, value)
        self.total = kept("total", (), _constant(numbers))
        self.built = True

    def deviations(self, rows: Any, labels: Any, learn: bool) -> tf.Tensor:
        """Rows `[batch, numbers]` less the running mean of their class; gradients pass to the rows."""
        one_hot = tf.one_hot(labels, self.counts.shape[0])
        if learn:
            seen = tf.matmul(one_hot, tf.stop_gradient(rows), transpose_a=True)
            self.sums.assign(self.momentum * self.sums + replica_sums.batch_sum(seen[None]))
            self.counts.assign(self.momentum * self.counts + replica_sums.batch_sum(one_hot))
        means = tf.math.divide_no_nan(tf.convert_to_tensor(self.sums), tf.convert_to_tensor(self.counts)[:, None])
        apart = rows - tf.stop_gradient(tf.gather(means, labels))
        if learn:
            still = tf.stop_gradient(apart)
            scatter = tf.matmul(still, still, transpose_a=True) if self.whole else tf.reduce_sum(tf.square(still), axis=0)
            self.scatter.assign(self.momentum * self.scatter + replica_sums.batch_sum(scatter[None]))
            self.total.assign(self.momentum * self.total + replica_sums.batch_size(rows))
        return apart

    def covariance(self) -> tf.Tensor:
        """`[numbers, numbers]`, or the variances `[numbers]` of more than 512 numbers."""
        return tf.convert_to_tensor(self.scatter) / tf.convert_to_tensor(self.total)


class _Rate(Regularizer):
    """What the two penalties on the rate share: arguments, state, and the penalty above the target.

    Attributes:
        usual_name: the name of the metric where the caller gives none.
    """

    usual_name: str

    def __init__(
        self,
        classes: int,
        stddev: float = 1.0,
        target: float = 0.0,
        weight: Weight = 0.1,
        momentum: float = 0.98,
        with_noise: bool = True,
        name: str | None = None,
    ) -> None:
        name = self.usual_name if name is None else name
        super().__init__(weight, name)
        self.classes = arguments.whole("classes", classes, TrainingError, owner=name, advice="Give the task's classes.")
        self.stddev = arguments.number("stddev", stddev, TrainingError, positive=True, owner=name)
        self.target = arguments.number("target", target, TrainingError, owner=name)
        self.momentum = arguments.number("momentum", momentum, TrainingError, below=1.0, owner=name, advice="0.98 suits most.")
        self.with_noise = bool(with_noise)

    def state(self, boundary: Boundary) -> keras.layers.Layer:
        shapes = [tensor.shape[1:] for tensor in boundary.tensors if "float" in tensor.dtype]
        if any(None in shape for shape in shapes):
            raise TrainingError(f"Received a boundary of open size, {boundary}; {self.name!r} expects a fixed one. Fix the input's size.")
        numbers = sum(math.prod(n for n in shape if n is not None) for shape in shapes)
        return _WithinClasses(self.classes, numbers, self.momentum, self.stddev**2 if self.with_noise else 0.0)

    def penalty(self, crossing: Crossing) -> Any:
        if crossing.state is None:
            raise TrainingError(f"Received a batch without a state for {self.name!r}; expected what state() made. Let the trainer call it.")
        rows = dependence.flat([z for z in crossing.boundary if z.dtype.is_floating])
        labels = class_labels(crossing.task, type(self).__name__)
        apart = crossing.state.deviations(rows, labels, crossing.training)
        bits, slope = self.rate(crossing.state.covariance() / self.stddev**2, apart / self.stddev)
        excess = tf.maximum(bits - self.target, 0.0)
        # The value is the running one; the slope is that of the batch.
        return tf.stop_gradient(excess) + tf.where(excess > 0, slope - tf.stop_gradient(slope), 0.0)

    def rate(self, covariance: Any, apart: Any) -> tuple[Any, Any]:
        """Bits by the running covariance, and what has their gradient by the rows `apart` `[batch, numbers]`; in units of the noise."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        own = {"classes": self.classes, "stddev": self.stddev, "target": self.target}
        return {**super().get_config(), **own, "momentum": self.momentum, "with_noise": self.with_noise}


@keras.saving.register_keras_serializable(package=PACKAGE)
class BitsBeyondClass(_Rate):
    """Bits that cross beyond the class, at most: `log2 det(I + C / s^2) / 2`, as far as they exceed a target.

    The covariance runs over the last batches (`momentum`), so that few examples per batch suffice; it is brought up to date before it
    counts. Its gradient is that of `mean(d^T A d) / (2 ln 2)`, d a row's distance from its class mean and A the inverse of the running
    `I + C / s^2`: the gradient of the logarithm of the determinant, by the batch's own share in the covariance. All is in float32, by
    Cholesky's factorisation, which noise keeps away from singular. Of more than 512 numbers only the variances are kept, which bounds the
    same from further above (Hadamard).

    Args:
        classes: how many classes the task has; its targets must be whole numbers from 0 or one-hot rows.
        stddev: of the channel's noise, above 0; with a learnt scale, its geometric mean.
        target: bits below which nothing is penalised.
        weight: see `Regularizer`; of each bit.
        momentum: how much of the running means and covariance each batch keeps, from 0 to under 1.
        with_noise: whether the boundary that the trainer sees holds the channel's noise, as behind a `GaussianChannel`. False for a
            device half whose noise is added elsewhere.
        name: names its metric, which counts the bits above the target.

    Raises:
        TrainingError: an argument is out of range, or the targets are no classes.

    Example:
        >>> trainer = kp.AdversarialTrainer(  # doctest: +SKIP
        ...     parts, channel=kp.GaussianChannel(0.5), regularizers=[BitsBeyondClass(10, stddev=0.5, target=2.0, weight=0.1)]
        ... )

    References:
        Cover, Thomas, "Elements of Information Theory", 2nd edition, 2006, chapters 2, 8 and 9 (maximum entropy, Fano, Gaussian channel).
        Yu, Chan, You, Song, Ma, "Learning Diverse and Discriminative Representations via the Principle of Maximal Coding Rate Reduction",
        NeurIPS 2020 (the rate within classes by a determinant).
        Xia, Yu, Wang, Hong, "Theoretical Insights in Model Inversion Robustness and Conditional Entropy Maximization for Collaborative
        Inference Systems", CVPR 2025 (the same goal by variances alone: `ConditionalEntropy`).
    """

    usual_name = "bits_beyond_class"

    def rate(self, covariance: Any, apart: Any) -> tuple[Any, Any]:
        if covariance.shape.rank == 1:
            whole = covariance + (_LEAST if self.with_noise else 1.0)
            bits = tf.reduce_sum(tf.math.log(whole)) / (2 * math.log(2))
            return bits, tf.reduce_mean(tf.reduce_sum(tf.square(apart) / whole, axis=1)) / (2 * math.log(2))
        factor = tf.linalg.cholesky(covariance + (_LEAST if self.with_noise else 1.0) * tf.eye(covariance.shape[0]))
        bits = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor))) / math.log(2)
        solved = tf.linalg.triangular_solve(factor, tf.transpose(apart))
        return bits, tf.reduce_mean(tf.reduce_sum(tf.square(solved), axis=0)) / (2 * math.log(2))


@keras.saving.register_keras_serializable(package=PACKAGE)
class ClassMeanPull(_Rate):
    """What crosses is pulled to the mean of its class: `Tr(C) / (2 s^2 ln 2)` bits, as far as they exceed a target.

    The simple limit of `BitsBeyondClass`, never below it and equal where little crosses: no factorisation, and directions through which
    much crosses are pulled as hard as all others.

    Args:
        classes, stddev, target, weight, momentum, with_noise: as for `BitsBeyondClass`.
        name: names its metric.

    References:
        Wen, Zhang, Li, Qiao, "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016 (center loss).
    """

    usual_name = "class_mean_pull"

    def rate(self, covariance: Any, apart: Any) -> tuple[Any, Any]:
        trace = tf.reduce_sum(covariance) if covariance.shape.rank == 1 else tf.linalg.trace(covariance)
        noise = float(covariance.shape[0]) if self.with_noise else 0.0
        return (trace - noise) / (2 * math.log(2)), tf.reduce_mean(tf.reduce_sum(tf.square(apart), axis=1)) / (2 * math.log(2))


def _constant(value: float) -> keras.initializers.Initializer:
    return keras.initializers.Constant(float(value))
