"""`Judge`: a classifier of real pictures, which says of a reconstruction what a person could still tell: its class in the task."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from keras_privpart.auditing.attacks import Effort, ProbeAttack
from keras_privpart.auditing.knowledge.images import as_images, not_images
from keras_privpart.auditing.knowledge.splits import Split
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.store import Found, Store, digest_of_attack, digest_of_samples, key_of
from keras_privpart.datasets import TASK, Samples
from keras_privpart.training.task import unlabelled


class Judge:
    """A convolutional probe of the task's label, trained on the attackers' real pictures when it is first asked.

    It knows neither the model nor the boundary: what it tells from a reconstruction is in the reconstruction.

    Args:
        data: whose known pictures it learns from, and whose victims it is tried on.
        effort: what its training may cost.
        seed: of its training.
        store: remembers how it did on the victims' real pictures.
    """

    def __init__(self, data: Split, effort: Effort, seed: int, store: Store) -> None:
        self._data = data
        self._effort = effort
        self._seed = seed
        self._store = store
        self._probe: ProbeAttack | None = None
        self._lock = threading.Lock()

    @staticmethod
    def inapplicable(train: Samples, test: Samples) -> str | None:
        """Why there is nothing to judge by; None where the task has classes, the same among the attackers' examples and the victims'."""
        reason = not_images(test.x) or unlabelled(train) or unlabelled(test)
        if reason is None and len(np.setdiff1d(test.targets[TASK], train.targets[TASK])):
            reason = "the victims have classes that the attackers' data lack"
        return reason or ("there is one class" if len(np.unique(train.targets[TASK])) < 2 else None)

    def told(self, images: np.ndarray, victims: Samples) -> np.ndarray:
        """Whether it tells the class of each picture `[n, h, w, c]`, in [0, 1], of the first n victims: `[n]` of 0 and 1."""
        with self._lock:
            guesses = self._trained().score([images], victims[: len(images)])
        return (guesses.probabilities.argmax(axis=1) == guesses.truth).astype("float64")

    def accuracy(self) -> float:
        """On the victims' real pictures: what reconstructions are to be measured against."""
        data = digest_of_samples(self._data.known, self._data.held_out, self._data.victims)
        key = key_of(digest_of_attack(ProbeAttack(TASK, "conv")), "the pictures themselves", data, self._effort, self._seed)
        found = self._store.get(key)
        if found is None:
            with self._lock:
                found = Found(self._trained().score([as_images(self._data.victims)], self._data.victims))
            self._store.put(key, found)
        return float(found.evidence.scores()["accuracy"])

    def _trained(self) -> ProbeAttack:
        if self._probe is None:
            self._probe, known = ProbeAttack(TASK, "conv"), self._data.known
            self._probe.fit(
                View("the pictures", lambda x: as_images(replace(known, x=x))), known, self._data.held_out, self._effort, self._seed
            )
        return self._probe
