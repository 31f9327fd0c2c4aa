"""How much one batch of tensors tells about another: pure functions, one number per batch, differentiable."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_TINY = 1e-12


def flat(tensors: list[Any]) -> tf.Tensor:
    """Tensors `[batch, ...]` side by side as float32 `[batch, features]`."""
    parts = [tf.reshape(tf.cast(t, tf.float32), [tf.shape(t)[0], -1]) for t in tensors]
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)


def squared_distances(x: Any) -> tf.Tensor:
    """Squared Euclidean distances between the rows of `x` `[batch, features]`, `[batch, batch]`."""
    # Centred first: the products of uncentred rows would drown the differences in rounding.
    x = x - tf.reduce_mean(x, axis=0)
    norms = tf.reduce_sum(tf.square(x), axis=1)
    squares = norms[:, None] + norms[None, :] - 2.0 * tf.matmul(x, x, transpose_b=True)
    return tf.maximum(tf.linalg.set_diag(squares, tf.zeros_like(norms)), 0.0)


def distance_correlation(x: Any, z: Any) -> tf.Tensor:
    """Distance correlation of the rows of `x` and `z`, in [0, 1]; 0 for independent ones, as the batch grows.

    With Euclidean distances, not their squares: with squares it would see linear dependence only. It is the plain sample statistic, whose
    value for independent rows lies above 0 in small batches.

    Args:
        x: `[batch, p]`.
        z: `[batch, q]`.

    Returns:
        A scalar; 0 where all rows of either are alike.

    References:
        Szekely, Rizzo, Bakirov, "Measuring and Testing Dependence by Correlation of Distances", Annals of Statistics 2007.
        Vepakomma, Singh, Gupta, Raskar, "NoPeek: Information Leakage Reduction to Share Activations in Distributed Deep Learning",
        ICDM Workshops 2020.
    """
    a, b = _doubly_centred(_root(squared_distances(x))), _doubly_centred(_root(squared_distances(z)))
    covariance = tf.reduce_mean(a * b)
    variances = tf.reduce_mean(a * a) * tf.reduce_mean(b * b)
    return _root(tf.maximum(tf.math.divide_no_nan(covariance, _root(variances)), 0.0))


def hsic(k: Any, m: Any) -> tf.Tensor:
    """Normalised Hilbert-Schmidt independence criterion of two kernel matrices `[batch, batch]`, in [0, 1].

    `HSIC(k, m) / sqrt(HSIC(k, k) HSIC(m, m))`, also known as centred kernel alignment; 0 where either says nothing.

    References:
        Gretton, Bousquet, Smola, Schoelkopf, "Measuring Statistical Dependence with Hilbert-Schmidt Norms", ALT 2005.
        Cortes, Mohri, Rostamizadeh, "Algorithms for Learning Kernels Based on Centered Alignment", JMLR 2012.
    """
    a, b = _doubly_centred(k), _doubly_centred(m)
    return tf.math.divide_no_nan(tf.reduce_mean(a * b), _root(tf.reduce_mean(a * a) * tf.reduce_mean(b * b)))


def gaussian_kernel(x: Any) -> tf.Tensor:
    """`exp(-d^2 / m)` of the rows of `x` `[batch, features]`, m their mean squared distance: the scale of `x` does not matter."""
    squares = squared_distances(x)
    return tf.exp(-tf.math.divide_no_nan(squares, tf.stop_gradient(tf.reduce_mean(squares))))


def same_kernel(labels: Any) -> tf.Tensor:
    """1 where two labels `[batch]` are the same, else 0; `[batch, batch]`, float32."""
    return tf.cast(labels[:, None] == labels[None, :], tf.float32)


def conditional_information(z: Any, labels: Any, classes: int, stddev: float) -> tf.Tensor:
    """What a Gaussian channel of noise `stddev` lets through of `z` beyond the class, at most, in nats per feature.

    The mean over features and, by their size, classes of `log(1 + variance / stddev^2) / 2`, with the variance of the feature within the
    class. It bounds from above the mutual information with the input, given the class, feature by feature; lowering it raises the
    conditional entropy of the input.

    Args:
        z: `[batch, features]`.
        labels: whole numbers `[batch]` from 0 to `classes` - 1.
        classes: how many there are.
        stddev: of the noise, above 0.

    References:
        Xia, Yu, Wang, Hong, "Theoretical Insights in Model Inversion Robustness and Conditional Entropy Maximization for Collaborative
        Inference Systems", CVPR 2025.
    """
    one_hot = tf.one_hot(labels, classes)
    counts = tf.reduce_sum(one_hot, axis=0)[:, None]
    means = tf.math.divide_no_nan(tf.matmul(one_hot, z, transpose_a=True), counts)
    deviations = tf.square(z - tf.gather(means, labels))
    variances = tf.math.divide_no_nan(tf.matmul(one_hot, deviations, transpose_a=True), counts)
    nats = tf.reduce_mean(tf.math.log1p(variances / stddev**2), axis=1) / 2.0
    return tf.reduce_sum(nats * counts[:, 0]) / tf.reduce_sum(counts)


def _root(x: Any) -> tf.Tensor:
    """Square root with slope 0 at 0, where the true one is infinite."""
    positive = x > _TINY
    return tf.where(positive, tf.sqrt(tf.where(positive, x, tf.ones_like(x))), tf.zeros_like(x))


def _doubly_centred(d: Any) -> tf.Tensor:
    rows, columns = tf.reduce_mean(d, axis=1, keepdims=True), tf.reduce_mean(d, axis=0, keepdims=True)
    return d - rows - columns + tf.reduce_mean(d)
