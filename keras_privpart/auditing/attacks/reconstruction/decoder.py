"""Decoders: supervised inversion, from what is seen back to the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION, Attack, fitted
from keras_privpart.auditing.attacks.base.learner import Effort, Learner
from keras_privpart.auditing.attacks.reconstruction.losses import LOSSES
from keras_privpart.auditing.knowledge.images import as_images, not_images
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.evidence import Pictures
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.training.privacy_terms import networks

COLLAPSE = 0.1
RETRY_RATE = 0.25
RETRY_LOSS = {"mse": "mse", "l1": "mse", "ssim": "mixed", "mixed": "mixed"}
_RETRY = 7919


class DecoderAttack(Attack):
    """A decoder trained from scratch on the attacker's pairs of what is seen and picture.

    The losses are `"mse"`, `"l1"`, `"ssim"` (1 - SSIM) and `"mixed"` (1 - SSIM + 5 MSE). A decoder can get stuck on one picture for all
    inputs: an SSIM loss on a grey one, because its gradient vanishes there, an L1 loss on the median, any loss on a black or white one,
    in the saturated sigmoid.
    So after every fit the reconstructions of the held-out examples are compared with each other: where their standard deviation
    over examples, averaged over pixels, is under a tenth of the pictures' own, the decoder is trained once more, with another seed, a
    quarter of the learning rate and, in place of an SSIM loss, the mixed one, of an L1 loss, the MSE; of the two the one with the higher
    SSIM on the held-out examples stays. (Where what is seen says nothing, both are one grey picture, rightly.)

    Args:
        size: of the network, see `training.privacy_terms.networks.decoder`.
        loss: `"mse"`, `"l1"`, `"ssim"` or `"mixed"`.
        keep: how many reconstructions the evidence keeps for the report.

    References:
        Dosovitskiy and Brox, "Inverting Visual Representations with Convolutional Networks", CVPR 2016.
        He, Zhang, Lee, "Model Inversion Attacks against Collaborative Inference", ACSAC 2019.
    """

    family = "decoder"
    concurrent = True

    def __init__(self, size: str = "small", loss: str = "mse", keep: int = 8) -> None:
        if loss not in LOSSES:
            raise AuditError(f"Received loss={loss!r}; expected one of {', '.join(LOSSES)}. Choose one of them.")
        super().__init__(f"decoder, {size}, {loss}", RECONSTRUCTION)
        self.size = size
        self.loss = loss
        self.keep = keep
        self._mean = np.empty(0)
        self._learners: dict[Any, Learner] = {}
        self._learner: Learner | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        return not_images(samples.x)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        pictures, check = as_images(known), as_images(held_out)
        self._mean = np.mean(pictures, axis=0)
        seen = [tf.constant(t) for t in view.see(held_out.x)]

        def trained(loss: str, effort: Effort, seed: int) -> Learner:
            learner = self._prepared(seen, check.shape[1:], loss)
            learner.fit(lambda: view.chunks(known.x, pictures), (seen, tf.constant(check)), len(pictures), effort, seed)
            return learner

        self._learner = trained(self.loss, effort, seed)
        first = self._learner.predict(seen)
        if _spread(first) >= COLLAPSE * _spread(check):
            return
        kept = self._learner.weights()
        careful = replace(effort, learning_rate=effort.learning_rate * RETRY_RATE)
        again = trained(RETRY_LOSS[self.loss], careful, seed + _RETRY)
        better = _mean_ssim(check, again.predict(seen)) > _mean_ssim(check, first)
        if better:
            self._learner = again
        else:
            self._learner.restore(kept)
        outcome = "was better and counts" if better else "was no better"
        self.notes = (f"its reconstructions hardly differed (seed {seed}); a second one, trained more slowly, {outcome}",)

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Pictures:
        return Pictures.of(as_images(victims), self.reconstruct(seen), self.keep)

    def reconstruct(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        """What the last fit's decoder makes of what is seen: pictures `[n, h, w, c]` in [0, 1]."""
        return fitted(self._learner).predict([tf.constant(t) for t in seen])

    def standalone(self) -> keras.Model:
        """The last fit's decoder as a model that can be saved: what is seen `[n, ...]` -> pictures `[n, h, w, c]` in [0, 1]."""
        return fitted(self._learner).standalone()

    def _prepared(self, seen: Sequence[tf.Tensor], image_shape: tuple[int, ...], loss: str) -> Learner:
        """The compiled learner for tensors of these shapes; compiling costs as much as a small fit."""
        shapes = tuple(tuple(t.shape[1:]) for t in seen)
        key = (shapes, image_shape, loss)
        if key not in self._learners:
            self._learners[key] = Learner(lambda: self._fresh(shapes, image_shape), LOSSES[loss])
        return self._learners[key]

    def _fresh(self, shapes: Sequence[tuple[int, ...]], image_shape: tuple[int, ...]) -> keras.Model:
        """A decoder that starts from the mean of the attacker's pictures: what it can say before it has seen anything."""
        network = networks.decoder(shapes, image_shape, self.size)
        mean = np.clip(self._mean, 0.01, 0.99)
        network.get_layer("dense_path").bias.assign(np.log(mean / (1 - mean)).ravel())
        return network


def _spread(images: np.ndarray) -> float:
    """How much images differ from each other: standard deviation over examples, averaged over pixels."""
    return float(np.mean(np.std(images, axis=0)))


def _mean_ssim(truth: np.ndarray, images: np.ndarray) -> float:
    value = float(np.mean(metrics.ssim(truth, images)))
    return value if math.isfinite(value) else -math.inf
