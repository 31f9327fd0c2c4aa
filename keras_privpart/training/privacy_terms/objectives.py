"""What adversaries minimise and what the halves do about it: pure functions, images in [0, 1], one value per example."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import replica_sums

SSIM_WINDOW = 11
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim_window(height: int, width: int) -> int:
    """Side of the SSIM window in pixels: 11 as published, the largest odd number that fits on smaller images."""
    side = min(height, width, SSIM_WINDOW)
    return side if side % 2 else side - 1


def ssim(x: Any, y: Any) -> tf.Tensor:
    """Structural similarity of images in [0, 1], per example.

    Args:
        x, y: images `[batch, height, width, channels]`. The window is Gaussian, sigma 1.5, 11x11 (smaller on images under
            11 pixels, see `ssim_window`), K1 0.01, K2 0.03, peak 1.

    Returns:
        `[batch]`, in [-1, 1].

    References:
        Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 2004.
    """
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    return tf.image.ssim(x, y, max_val=1.0, filter_size=ssim_window(int(x.shape[1]), int(x.shape[2])))


def mse(x: Any, y: Any) -> tf.Tensor:
    """Mean squared error over all dimensions but the first, `[batch]`."""
    difference = tf.convert_to_tensor(x) - tf.convert_to_tensor(y)
    return tf.reduce_mean(tf.square(difference), axis=range(1, difference.shape.rank))


def l1(x: Any, y: Any) -> tf.Tensor:
    """Mean absolute error over all dimensions but the first, `[batch]`."""
    difference = tf.convert_to_tensor(x) - tf.convert_to_tensor(y)
    return tf.reduce_mean(tf.abs(difference), axis=range(1, difference.shape.rank))


def ms_ssim(x: Any, y: Any) -> tf.Tensor:
    """Multi-scale structural similarity of images in [0, 1], per example.

    Args:
        x, y: images `[batch, height, width, channels]`. Up to five scales, each half the one before: as many as leave a shorter side
            of at least 4 pixels; their published weights, scaled to a sum of 1. The window is the largest odd one that fits the
            coarsest scale, at most 11.

    Returns:
        `[batch]`, in [0, 1].

    Raises:
        TrainingError: images under 4 pixels.

    References:
        Wang, Simoncelli, Bovik, "Multiscale Structural Similarity for Image Quality Assessment", Asilomar 2003.
    """
    x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
    side = min(int(x.shape[1]), int(x.shape[2]))
    if side < 4:
        raise TrainingError(f"Received images with a side of {side} pixels; expected at least 4 for MS-SSIM. Use 'mse' or 'l1'.")
    scales = min(len(MS_SSIM_WEIGHTS), (side // 4).bit_length())
    weights = [w / sum(MS_SSIM_WEIGHTS[:scales]) for w in MS_SSIM_WEIGHTS[:scales]]
    coarsest = side >> (scales - 1)
    window = ssim_window(coarsest, coarsest)
    similarity = tf.constant(1.0, x.dtype)
    for i, weight in enumerate(weights):
        whole, contrast = _ssim_terms(x, y, window)
        # tf.image.ssim_multiscale cuts at 0, where the slope of a fractional power is infinite: pictures that are the other's negative
        # at some scale would make the gradient NaN.
        similarity *= tf.maximum(whole if i == scales - 1 else contrast, 1e-4) ** weight
        x, y = (tf.nn.avg_pool2d(image, 2, 2, "SAME") for image in (x, y))
    return tf.reduce_mean(similarity, axis=-1)


def _ssim_terms(x: tf.Tensor, y: tf.Tensor, window: int) -> tuple[tf.Tensor, tf.Tensor]:
    """SSIM and its contrast-structure factor, of each channel, averaged over the picture, `[batch, channels]`."""
    offsets = tf.range(window, dtype=tf.float32) - (window - 1) / 2
    weights = tf.nn.softmax(-tf.square(offsets) / (2 * 1.5**2))
    channels = x.shape[-1]
    kernel = tf.cast(tf.tile((weights[:, None] * weights[None, :])[:, :, None, None], [1, 1, channels, 1]), x.dtype)

    def mean(image: tf.Tensor) -> tf.Tensor:
        return tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "VALID")

    mean_x, mean_y = mean(x), mean(y)
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    covariance = mean(x * y) - mean_x * mean_y
    variances = mean(x**2 + y**2) - mean_x**2 - mean_y**2
    contrast = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    return tf.reduce_mean(luminance * contrast, axis=[1, 2]), tf.reduce_mean(contrast, axis=[1, 2])


def cross_entropy(labels: Any, logits: Any) -> tf.Tensor:
    """Cross-entropy of integer `labels` `[batch]` under `logits` `[batch, classes]`, in nats, `[batch]`."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.cast(labels, tf.int32), logits=logits)


def binary_cross_entropy(labels: Any, logits: Any) -> tf.Tensor:
    """Cross-entropy of `labels` 0 or 1 `[batch]` under single `logits` `[batch, 1]`, in nats, `[batch]`."""
    logits = tf.reshape(logits, [-1])
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, logits.dtype), logits=logits)


def class_frequencies(labels: Any, classes: int) -> tf.Tensor:
    """Share of each class among the integer `labels` `[batch]` of all replicas, `[classes]`."""
    return replica_sums.batch_mean(tf.one_hot(tf.cast(labels, tf.int32), classes))


def prior_cross_entropy(labels: Any, classes: int) -> tf.Tensor:
    """Cross-entropy, in nats, of each label under the batch's own class frequencies, `[batch]`; its mean is their entropy."""
    one_hot = tf.one_hot(tf.cast(labels, tf.int32), classes)
    return -tf.reduce_sum(one_hot * tf.math.log(tf.maximum(class_frequencies(labels, classes), 1e-7)), axis=-1)


def mean_of_others(x: Any) -> tf.Tensor:
    """For each example, the mean of all others in the batch (of all replicas); 0.5 where there is no other. `[batch, ...]`.

    Its own value is left out, because a mean that holds it gives it away: in a batch of one it would be the example itself.
    """
    n = replica_sums.batch_size(x)
    others = (replica_sums.batch_sum(x)[None] - x) / tf.maximum(n - 1.0, 1.0)
    return tf.where(n > 1, others, tf.fill(tf.shape(x), 0.5))


def class_mean_of_others(x: Any, labels: Any, classes: int) -> tf.Tensor:
    """For each example, the mean of all others of its class in the batch; where there is none, of all others. `[batch, ...]`.

    Args:
        x: `[batch, ...]`, float32.
        labels: whole numbers `[batch]` from 0 to `classes` - 1.
        classes: how many classes there are.
    """
    labels = tf.reshape(tf.cast(labels, tf.int32), [-1])
    one_hot = tf.one_hot(labels, classes)
    flat = tf.reshape(x, [tf.shape(x)[0], -1])
    sums = replica_sums.batch_sum(one_hot[:, :, None] * flat[:, None, :])
    counts = tf.gather(replica_sums.batch_sum(one_hot), labels)[:, None]
    means = (tf.gather(sums, labels) - flat) / tf.maximum(counts - 1.0, 1.0)
    return tf.reshape(tf.where(counts > 1, means, tf.reshape(mean_of_others(x), tf.shape(flat))), tf.shape(x))


def max_entropy_gap(logits: Any) -> tf.Tensor:
    """How far predictions are from saying nothing: `(log K - entropy) / log K`, in [0, 1], per example.

    Args:
        logits: `[batch, ..., classes]`, K = classes; one class stands for a binary logit (K = 2). Axes between are averaged.

    References:
        Roy and Boddeti, "Mitigating Information Leakage in Image Representations: A Maximum Entropy Approach", CVPR 2019.
    """
    logits = two_sided(logits)
    log_p = tf.nn.log_softmax(logits)
    entropy = -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)
    return per_example(1.0 - entropy / tf.math.log(tf.cast(tf.shape(logits)[-1], entropy.dtype)))


def prior_gap(frequencies: Any, logits: Any) -> tf.Tensor:
    """Kullback-Leibler divergence, in nats, of predictions from the `frequencies` `[batch, classes]`: 0 where they say the prior.

    Args:
        frequencies: `[batch, classes]`, each row sums to 1.
        logits: `[batch, ..., classes]`; one class stands for a binary logit. Axes between are averaged.
    """
    log_p = tf.nn.log_softmax(two_sided(logits))
    shape = tf.concat([tf.shape(log_p)[:1], tf.ones([tf.rank(log_p) - 2], tf.int32), tf.shape(log_p)[-1:]], axis=0)
    q = tf.reshape(frequencies, shape)
    return per_example(tf.reduce_sum(q * (tf.math.log(tf.maximum(q, 1e-7)) - log_p), axis=-1))


def two_sided(logits: Any) -> tf.Tensor:
    """Logits of two classes from a single binary logit; others as they are."""
    logits = tf.convert_to_tensor(logits)
    return tf.concat([tf.zeros_like(logits), logits], axis=-1) if logits.shape[-1] == 1 else logits


def per_example(x: Any) -> tf.Tensor:
    """Mean over all axes but the first."""
    return tf.reduce_mean(x, axis=range(1, x.shape.rank)) if x.shape.rank > 1 else x


def recovered_share(loss: Any, ignorant_loss: Any) -> tf.Tensor:
    """Share of what could be learnt that an attacker has learnt: `1 - loss / ignorant_loss`, clipped to [0, 1], per example.

    Args:
        loss: the attacker's loss `[batch]`.
        ignorant_loss: loss `[batch]` of the best guess that ignores the boundary (the mean image, the class frequencies).

    Returns:
        `[batch]`: 1 is a perfect attacker, 0 one that does no better than the guess. For squared error this is the coefficient
        of determination, for cross-entropy the explained share of the entropy. It is bounded, and flat at 0: what
        minimises it stops there instead of rewarding, say, an inverted picture, which leaks as much as the picture itself.
    """
    floor = tf.constant(1e-6, dtype=tf.convert_to_tensor(loss).dtype)
    return 1.0 - tf.clip_by_value(loss / tf.maximum(ignorant_loss, floor), 0.0, 1.0)
