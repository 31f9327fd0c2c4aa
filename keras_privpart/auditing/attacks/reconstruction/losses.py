"""What decoders minimise: pure functions of pictures in [0, 1] `[batch, h, w, c]`, one value per example."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_privpart.training.privacy_terms import objectives

MSE_SHARE = 5.0
_DENSE_FILTER_SIDE = 64
_SIGMA, _C1, _C2 = 1.5, 0.01**2, 0.03**2


def ssim(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """`objectives.ssim`, equal to rounding, at a third of its cost on pictures of up to 64 pixels a side.

    There the Gaussian window is applied as two small matrix products, which train faster than convolutions of one channel.
    """
    height, width = int(x.shape[1]), int(x.shape[2])
    if max(height, width) > _DENSE_FILTER_SIDE:
        return objectives.ssim(x, y)
    window = objectives.ssim_window(height, width)
    rows, columns = (tf.constant(_gaussian(side, window), x.dtype) for side in (height, width))
    maps = tf.concat([x, y, x * y, tf.square(x) + tf.square(y)], axis=-1)
    maps = tf.einsum("jw,biwk->bijk", columns, tf.einsum("ih,bhwk->biwk", rows, maps))
    mean_x, mean_y, product, squares = tf.split(maps, 4, axis=-1)
    means, mean_squares = mean_x * mean_y, tf.square(mean_x) + tf.square(mean_y)
    luminance = (2 * means + _C1) / (mean_squares + _C1)
    structure = (2 * (product - means) + _C2) / (squares - mean_squares + _C2)
    return tf.reduce_mean(luminance * structure, axis=[1, 2, 3])


def dissimilarity(truth: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """1 - SSIM."""
    return 1.0 - ssim(truth, images)


def mixed(truth: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """1 - SSIM + 5 MSE: the MSE leads away from the grey picture where the SSIM has no gradient."""
    return dissimilarity(truth, images) + MSE_SHARE * objectives.mse(truth, images)


LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "mse": objectives.mse,
    "l1": objectives.l1,
    "ssim": dissimilarity,
    "mixed": mixed,
}


def _gaussian(side: int, window: int) -> np.ndarray:
    """The filter as a matrix `[side - window + 1, side]`: each row is the window at one place."""
    offsets = np.arange(window) - (window - 1) / 2
    kernel = np.exp(-np.square(offsets) / (2 * _SIGMA**2))
    matrix = np.zeros((side - window + 1, side))
    for i in range(len(matrix)):
        matrix[i, i : i + window] = kernel / kernel.sum()
    return matrix
