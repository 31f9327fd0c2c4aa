"""Inversion with a learned prior: the latent vector of an autoencoder of the attacker's own pictures is optimised instead of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.attack import DATA, fitted
from keras_privpart.auditing.attacks.base.learner import PREDICT_BATCH, Effort, Learner
from keras_privpart.auditing.attacks.reconstruction.descent import Descent, falling
from keras_privpart.auditing.attacks.reconstruction.inversion import TOGETHER, InversionAttack, Search, Target
from keras_privpart.auditing.attacks.reconstruction.losses import mixed
from keras_privpart.auditing.knowledge.images import as_images
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.datasets import Samples
from keras_privpart.training.privacy_terms import networks

LATENT = 64
WEIGHTS = (0.001, 0.01, 0.1)
_RATE = 0.1


class AutoencoderAttack(InversionAttack):
    """Seeks among the pictures that an autoencoder can make, the likelier ones first.

    The autoencoder learns from the attacker's pictures alone, and sees nothing of the model. Its latent vector has as many numbers as a
    quarter of the picture, at most 64, each of zero mean and unit variance over the attacker's pictures; the prior is their mean square.

    Args:
        most, keep: see `InversionAttack`.

    References:
        Bora, Jalal, Price, Dimakis, "Compressed Sensing Using Generative Models", ICML 2017.
        Zhang et al., "The Secret Revealer: Generative Model-Inversion Attacks Against Deep Neural Networks", CVPR 2020.
    """

    family = "generative prior"

    def __init__(self, most: int = 64, keep: int = 8) -> None:
        super().__init__("autoencoder prior", WEIGHTS, most, keep)
        self.needs |= {DATA}
        self._autoencoders: dict[Any, Autoencoder] = {}
        self._autoencoder: Autoencoder | None = None

    def _learn(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        shape = known.x.shape[1:]
        if shape not in self._autoencoders:
            self._autoencoders[shape] = Autoencoder(shape)
        self._autoencoder = self._autoencoders[shape]
        self._autoencoder.learn(known, held_out, effort, seed)

    def _search(self, inside: Inside, target: Target, images: tuple[int, ...]) -> Search:
        return _Latents(target, fitted(self._autoencoder).generator)


class Autoencoder:
    """What pictures are like, learned from the attacker's own.

    Args:
        shape: of a picture, `[h, w, c]`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._learner = Learner(lambda: _autoencoder(shape), mixed)

    @classmethod
    def learned(cls, known: Samples, held_out: Samples, effort: Effort, seed: int) -> Autoencoder:
        """A new one, of these pictures."""
        made = cls(known.x.shape[1:])
        made.learn(known, held_out, effort, seed)
        return made

    def learn(self, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        """Learns from scratch, and chooses its weights by held-out pictures."""
        pictures, check = as_images(known), tf.constant(as_images(held_out))
        everything = [([tf.constant(pictures)], tf.constant(pictures))]
        self._learner.fit(lambda: everything, ([check], check), len(pictures), effort, seed)

    @property
    def generator(self) -> keras.Model:
        """From latent vectors `[n, units]` to pictures."""
        return self._learner.network.get_layer("generator")

    def latents(self, images: np.ndarray) -> np.ndarray:
        """Latent vectors `[n, units]` of pictures `[n, h, w, c]` in [0, 1]; over the attacker's own of mean 0 and variance 1."""
        network = self._learner.network
        encode = keras.Model(network.input, network.get_layer("latents").output)
        return _by_batches(lambda part: encode(self._learner.standardised([part])[0], training=False), images)

    def pictures(self, latents: np.ndarray) -> np.ndarray:
        """What the generator makes of latent vectors."""
        return _by_batches(lambda part: self.generator(part, training=False), latents)


def _by_batches(function: Callable[[Any], Any], rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(function(rows[i : i + PREDICT_BATCH])) for i in range(0, len(rows), PREDICT_BATCH)])


class _Latents(Search):
    def __init__(self, target: Target, generator: keras.Model) -> None:
        self._latents = tf.Variable(tf.zeros([TOGETHER, generator.input_shape[-1]]))
        self._weight = tf.Variable(0.0)
        self._generator = generator
        self._target = target
        self._descent = Descent(self._objective, [self._latents])

    def run(self, start: np.ndarray | None, weight: float, iterations: int, seed: int) -> np.ndarray:
        self._latents.assign(0.1 * np.random.default_rng(seed).normal(size=self._latents.shape).astype("float32"))
        self._weight.assign(weight)
        self._descent.reset()
        self._descent.run(falling(_RATE, iterations))
        return self._generator(self._latents, training=False).numpy()

    def _objective(self) -> tf.Tensor:
        prior = tf.reduce_mean(tf.square(self._latents), axis=1)
        images = self._generator(tf.convert_to_tensor(self._latents), training=False)
        return tf.reduce_sum(self._target.mismatch(images) + self._weight * prior)


def _autoencoder(image_shape: tuple[int, ...]) -> keras.Model:
    units = max(2, min(LATENT, math.prod(image_shape) // 4))
    encoder = networks.probe([image_shape], units, "mlp", name="encoder")
    generator = networks.decoder([(units,)], image_shape, "medium", name="generator")
    latents = keras.layers.BatchNormalization(center=False, scale=False, name="latents")(encoder.output)
    return keras.Model(encoder.input, generator(latents), name="autoencoder")
