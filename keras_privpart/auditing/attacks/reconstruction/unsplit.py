"""UnSplit: no data, no queries, no weights; picture and device half are guessed together, in turns."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.reconstruction.descent import Descent, total_variation
from keras_privpart.auditing.attacks.reconstruction.inversion import InversionAttack, Search, Target
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.partitioning.graphs.copying import fresh_model

WEIGHT = 0.1
TURN = 10  # steps on the pictures, then as many on the weights
_PIXEL_RATE, _WEIGHT_RATE = 0.02, 0.001


class UnsplitAttack(InversionAttack):
    """Changes, in turns, the pictures and the weights of a fresh device half of the known architecture, until both give what was seen.

    The pictures' prior is total variation. Many wrong pairs of picture and weights fit as well as the right one: the attack works
    behind one or two layers, and little after.

    Args:
        most, keep: see `InversionAttack`.

    References:
        Erdogan, Kupcu, Cicek, "UnSplit: Data-Oblivious Model Inversion, Model Stealing, and Label Inference Attacks against Split
        Learning", WPES 2022.
    """

    family = "shadow model"

    def __init__(self, most: int = 32, keep: int = 8) -> None:
        super().__init__("UnSplit", (WEIGHT,), most, keep)
        self.needs = frozenset()

    def _search(self, inside: Inside, target: Target, images: tuple[int, ...]) -> Search:
        return _Turns(inside, target, images)


class _Turns(Search):
    def __init__(self, inside: Inside, target: Target, shape: tuple[int, ...]) -> None:
        self._original = inside.partition.device
        self._device = fresh_model(self._original)
        self._guessed = inside.with_device(self._device)
        self._target = target
        self._images = tf.Variable(tf.zeros(shape))
        self._weight = tf.Variable(0.0)
        pixels = Descent(self._objective, [self._images], lambda: self._images.assign(tf.clip_by_value(self._images, 0.0, 1.0)))
        weights = [v.value for v in self._device.trainable_variables]
        self._descents = [(pixels, _PIXEL_RATE), *([(Descent(self._objective, weights), _WEIGHT_RATE)] if weights else [])]

    def run(self, start: np.ndarray | None, weight: float, iterations: int, seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        fresh = fresh_model(self._original)
        for variable, value in zip(self._device.variables, fresh.variables, strict=True):
            variable.assign(value)
        self._images.assign(np.random.default_rng(seed).uniform(0.4, 0.6, self._images.shape).astype("float32"))
        self._weight.assign(weight)
        for descent, _ in self._descents:
            descent.reset()
        for _ in range(max(1, iterations // TURN)):
            for descent, rate in self._descents:
                descent.run(np.full(min(TURN, iterations), rate))
        return self._images.numpy()

    def _objective(self) -> tf.Tensor:
        # As in training: a fresh half has no statistics to normalise by but those of the batch.
        off = self._target.mismatch(self._images, self._guessed, training=True)
        return tf.reduce_sum(off + self._weight * total_variation(self._images))
