"""Query-free attacks: the attacker has no device half, trains one of its own against the server half that it runs, and attacks that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from keras_privpart.auditing.attacks.base.attack import DATA, Attack, fitted, known_inside, no_gradients
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.base.shared_model import Remembered
from keras_privpart.auditing.knowledge.views import View, answer_view, boundary_view
from keras_privpart.auditing.scoring.evidence import Evidence
from keras_privpart.datasets import Samples
from keras_privpart.partitioning.graphs.copying import copy_model, fresh_model
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.task import learn_task, task_loss, unlabelled, unscored


class ShadowAttack(Attack):
    """Trains a device half of the known architecture so that the true, frozen server half answers rightly, then attacks it with another
    attack, and turns what that has learned on what was really seen.

    It needs labelled data like the victims', but neither the device half's weights nor a single query to it.

    Args:
        inner: the attack, such as a `DecoderAttack` or a `ProbeAttack`.

    References:
        He, Zhang, Lee, "Model Inversion Attacks against Collaborative Inference", ACSAC 2019 (query-free attack).
    """

    family = "shadow model"
    needs = frozenset((DATA,))

    def __init__(self, inner: Attack) -> None:
        super().__init__(f"shadow, {inner.name}", inner.kind)
        self._inner = inner
        self._imitation: View | None = None
        self._device: Remembered[keras.Model] = Remembered()

    def inapplicable(self, samples: Samples) -> str | None:
        return self._inner.inapplicable(samples) or unlabelled(samples)

    def inapplicable_to(self, view: View) -> str | None:
        reason = no_gradients(view) or unscored(known_inside(view).partition.model)
        return reason or self._inner.inapplicable_to(view)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        inside = known_inside(view)
        parts = inside.partition
        # The floor has the same shadow as the boundary: both belong to the same halves.
        device = self._device.get((parts, known.x, effort, seed), lambda: self._trained(parts, known, held_out, effort, seed))
        imitation = (answer_view if inside.answer else boundary_view)(replace(parts, device=device))
        self._imitation = imitation
        self._inner.fit(imitation, known, held_out, effort, seed)
        self.notes = self._inner.notes

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Evidence:
        fitted(self._imitation)
        return self._inner.score(seen, victims)

    def _trained(self, partition: Partition, known: Samples, held_out: Samples, effort: Effort, seed: int) -> keras.Model:
        """A device half of the attacker's own, behind which the true server half answers rightly."""
        keras.utils.set_random_seed(seed)
        device, server = fresh_model(partition.device), frozen(partition.server)
        model = keras.Model(device.input, server(device.output))
        if model.trainable_weights:
            learn_task(model, task_loss(partition.model, known.x), known, held_out, effort.epochs)
        return device


def frozen(half: keras.Model) -> keras.Model:
    """A copy of a half, with its weights, that no training changes: the half itself shares its layers with the user's model."""
    copy = copy_model(half)
    copy.trainable = False
    return copy
