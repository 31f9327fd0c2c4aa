"""Inversion with a learned prior and few queries: what is seen is led into the latent space of an autoencoder in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION, Attack, fitted
from keras_privpart.auditing.attacks.base.learner import Effort, Learner
from keras_privpart.auditing.attacks.base.shared_model import Remembered
from keras_privpart.auditing.attacks.reconstruction.autoencoder import Autoencoder
from keras_privpart.auditing.knowledge.images import as_images, not_images
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Pictures
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.training.privacy_terms import networks, objectives

PAIRS = 4096


class LearnedPriorAttack(Attack):
    """A black box and at most 4,096 queries: an autoencoder learns what pictures are like, a regression what is seen of them.

    The autoencoder (`autoencoder.Autoencoder`) learns from all of the attacker's pictures, and asks nothing. Pairs of what is seen and the
    latent vector of the picture teach a network with two hidden layers, with fresh noise at every pass; the generator turns its answer into
    a picture, in one step. So it needs far fewer pairs than a decoder, which must learn what pictures are like from them as well.

    Args:
        pairs: how many pairs it learns from at most.
        keep: how many reconstructions the evidence keeps for the report.

    References:
        FIA-Flow, arXiv 2511.15316, 2025 (one step in an autoencoder's latent space, a black box, few pairs; by its abstract).
    """

    family = "learned prior"
    concurrent = True

    def __init__(self, pairs: int = PAIRS, keep: int = 8) -> None:
        super().__init__("learned prior", RECONSTRUCTION)
        self.pairs = arguments.whole("pairs", pairs, AuditError, advice="It is how many pairs the attacker learns from.")
        self.keep = keep
        self._prior: Remembered[Autoencoder] = Remembered()
        self._autoencoder: Autoencoder | None = None
        self._learners: dict[Any, Learner] = {}
        self._learner: Learner | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        return not_images(samples.x)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        prior = self._prior.get((known.x, effort, seed), lambda: Autoencoder.learned(known, held_out, effort, seed))
        asked = known[: self.pairs] if len(known) > self.pairs else known
        target, check = (prior.latents(as_images(samples)) for samples in (asked, held_out))
        seen = [tf.constant(t) for t in view.see(held_out.x)]
        shapes, units = tuple(tuple(t.shape[1:]) for t in seen), target.shape[1]
        if (shapes, units) not in self._learners:
            self._learners[shapes, units] = Learner(lambda: networks.probe(shapes, units, "mlp"), objectives.mse)
        self._autoencoder, self._learner = prior, self._learners[shapes, units]
        self._learner.fit(lambda: view.chunks(asked.x, target), (seen, tf.constant(check)), len(asked), effort, seed)

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Pictures:
        return Pictures.of(as_images(victims), self.reconstruct(seen), self.keep)

    def reconstruct(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures `[n, h, w, c]` in [0, 1] from what is seen."""
        latents = fitted(self._learner).predict([tf.constant(t) for t in seen])
        return fitted(self._autoencoder).pictures(latents)
