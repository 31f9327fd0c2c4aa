"""White-box inversion: the pixels themselves are optimised until the device half gives what was seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
from keras_privpart.auditing.attacks.reconstruction.descent import Descent, falling, total_variation
from keras_privpart.auditing.attacks.reconstruction.inversion import InversionAttack, Search, Target
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.datasets import Samples

WEIGHT = 0.03  # where the attacker has no data to choose by
WEIGHTS: tuple[float | None, ...] = (None, 0.003, 0.03, 0.3)
_RATE = 0.05


class WhiteBoxAttack(InversionAttack):
    """Regularised maximum-likelihood inversion: mean squared mismatch plus total variation, by Adam, pixels kept in [0, 1].

    From noise it needs nothing but the device half's weights. From a decoder's answer it needs data too, chooses the weight of the total
    variation by them, and leaves the decoder's answer as it is where no search betters it.

    Args:
        start: the decoder from whose answer the search starts; None for noise.
        most, keep: see `InversionAttack`.

    References:
        He, Zhang, Lee, "Model Inversion Attacks against Collaborative Inference", ACSAC 2019 (rMLE).
        Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015.
    """

    family = "white-box inversion"

    def __init__(self, start: DecoderAttack | None = None, most: int = 64, keep: int = 8) -> None:
        super().__init__(f"white box, from {'noise' if start is None else start.name}", WEIGHTS if start else (WEIGHT,), most, keep)
        self._decoder = start
        if start is not None:
            self.needs |= start.needs

    def _learn(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        if self._decoder is not None:
            self._decoder.fit(view, known, held_out, effort, seed)

    def _start(self, seen: Sequence[np.ndarray]) -> np.ndarray | None:
        return None if self._decoder is None else self._decoder.reconstruct(seen)

    def _search(self, inside: Inside, target: Target, images: tuple[int, ...]) -> Search:
        return _Pixels(target, images)


class _Pixels(Search):
    def __init__(self, target: Target, shape: tuple[int, ...]) -> None:
        self._images = tf.Variable(tf.zeros(shape))
        self._weight = tf.Variable(0.0)
        self._target = target
        self._descent = Descent(self._objective, [self._images], lambda: self._images.assign(tf.clip_by_value(self._images, 0.0, 1.0)))

    def run(self, start: np.ndarray | None, weight: float, iterations: int, seed: int) -> np.ndarray:
        if start is None:
            start = np.clip(np.random.default_rng(seed).normal(0.5, 0.1, self._images.shape), 0.0, 1.0)
        self._images.assign(start.astype("float32"))
        self._weight.assign(weight)
        self._descent.reset()
        self._descent.run(falling(_RATE, iterations))
        return self._images.numpy()

    def _objective(self) -> tf.Tensor:
        return tf.reduce_sum(self._target.mismatch(self._images) + self._weight * total_variation(self._images))
