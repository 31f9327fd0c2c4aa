"""Optimisation of guessed pictures: Adam inside TensorFlow, and the terms that it minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.adam import Adam


class Descent:
    """Minimises an objective over variables, compiled once, run again and again from a fresh optimizer state.

    Args:
        objective: the sum over pictures, a scalar; it reads the variables. Adam's steps do not depend on its scale, so that pictures that
            have their own variables do not disturb each other.
        variables: what it changes.
        project: called after each step, to bring the variables back to where they are allowed.
    """

    def __init__(
        self, objective: Callable[[], tf.Tensor], variables: Sequence[tf.Variable], project: Callable[[], object] | None = None
    ) -> None:
        self._objective = objective
        self._variables = list(variables)
        self._project = project
        self._adam = Adam(self._variables)
        self._loop = tf.function(self._steps)

    def reset(self) -> None:
        """Forgets the optimizer's state."""
        self._adam.reset()

    def run(self, rates: np.ndarray) -> None:
        """One step for every learning rate."""
        if len(rates):
            self._loop(tf.constant(np.asarray(rates, "float32")))

    def _steps(self, rates: tf.Tensor) -> None:
        for i in tf.range(tf.shape(rates)[0]):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(self._variables)
                loss = self._objective()
            gradients = tape.gradient(loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            self._adam.apply(gradients, rates[i])
            if self._project is not None:
                self._project()


def falling(height: float, iterations: int) -> np.ndarray:
    """Learning rates of so many steps, from a height down to 0 along a cosine."""
    return height * 0.5 * (1 + np.cos(np.pi * np.arange(iterations) / max(1, iterations)))


def mismatch(shown: Sequence[tf.Tensor], seen: Sequence[tf.Tensor], scales: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of tensors `[n, ...]`, in units of each tensor's own variance, averaged over tensors: `[n]`.

    Args:
        shown: what the view shows of the guesses.
        seen: what it showed of the victims.
        scales: each tensor's standard deviation over the victims, `[tensors]`.
    """
    terms = [
        tf.reduce_mean(tf.reshape(tf.square((a - b) / scales[i]), [tf.shape(a)[0], -1]), axis=1)
        for i, (a, b) in enumerate(zip(shown, seen, strict=True))
    ]
    return tf.add_n(terms) / len(terms)


def scales_of(seen: Sequence[np.ndarray]) -> np.ndarray:
    """Standard deviation of each tensor `[n, ...]` about its mean over examples, never 0."""
    return np.array([max(float(np.std(t - t.mean(axis=0))), 1e-6) for t in seen], "float32")


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """Mean absolute difference of neighbouring pixels, of pictures `[n, h, w, c]` in [0, 1]: `[n]`.

    References:
        Rudin, Osher, Fatemi, "Nonlinear Total Variation Based Noise Removal Algorithms", Physica D 1992 (here its anisotropic form).
    """
    down = tf.abs(images[:, 1:] - images[:, :-1])
    right = tf.abs(images[:, :, 1:] - images[:, :, :-1])
    return tf.reduce_mean(tf.reshape(down, [tf.shape(images)[0], -1]), 1) + tf.reduce_mean(tf.reshape(right, [tf.shape(images)[0], -1]), 1)
