"""A quick look at how much each cut of a model leaks, for choosing one. It is no audit: one small decoder, seconds per cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_privpart.auditing.checks import fitted_to
from keras_privpart.auditing.knowledge.images import as_images, check_pictures, ranged
from keras_privpart.auditing.knowledge.views import View, answer_view, boundary_view
from keras_privpart.auditing.scoring import metrics
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.cutpoint import Cut
from keras_privpart.partitioning.halves import Partition
from keras_privpart.several_inputs import plain
from keras_privpart.training.fresh_reader import FreshReader
from keras_privpart.training.privacy_terms.adversaries import ReconstructionAdversary

FEWEST = 50


class QuickProbe:
    """Probe for `cuts(model, probe=...)`: what a short decoder makes of what crosses, between its floor and a perfect copy.

    The result is (score - floor) / (1 - floor), clipped to [0, 1]. The score is the SSIM of pictures; of signals, tables, tokens and
    several inputs the share of a guess's error that the decoder saves (`FreshReader.recovered`), of several its mean. The floor is the
    same decoder on the model's outputs. Read it as an order among the cuts of one model: a longer or larger attack finds more.
    Evidence is what `audit` gives.

    Args:
        data: `Samples`, a pair of arrays `(x, targets)`, or a `tf.data.Dataset` of batches; inputs as the model takes them, at least 50.
        examples: at most so many are used; a quarter of them judge.
        epochs: passes of the decoder over the others.
        seed: of its weights and of the examples' order.
        value_range: black and white of the pictures, as for `audit`.

    Raises:
        AuditError: the data are too few; when called, they are not the model's inputs.
        TrainingError: when called, an input whose shape, or number of values, the model leaves open.
    """

    def __init__(
        self, data: Any, examples: int = 1000, epochs: int = 12, seed: int = 0, value_range: Sequence[float] | None = None
    ) -> None:
        samples = Samples.of(data)
        if len(samples) < FEWEST:
            raise AuditError(f"Received {len(samples)} examples to probe with; expected at least {FEWEST}. Give more.")
        chosen = np.random.default_rng(seed).permutation(len(samples))[:examples]
        self._samples, self._given = samples[chosen], value_range
        self._judged = len(chosen) // 4
        self._epochs = epochs
        self._seed = seed
        self._floors: dict[int, float] = {}

    def __call__(self, cut: Cut, partition: Partition) -> float:
        """Leakage of one cut, 0 to 1."""
        self._samples = fitted_to(partition.model, self._samples)
        self._adversary = ReconstructionAdversary(loss="ssim", value_range=self._given)
        self._adversary.meet(partition.model)
        if self._adversary.reads_picture:
            check_pictures(self._samples, partition, self._given)
            self._samples = ranged(self._samples, partition, self._given)
        whole = id(partition.model)  # the model's own answer is the same for all of its cuts
        if whole not in self._floors:
            self._floors[whole] = self._score(answer_view(partition))
        floor = self._floors[whole]
        return float(np.clip((self._score(boundary_view(partition)) - floor) / max(1 - floor, 1e-6), 0.0, 1.0))

    def _score(self, view: View) -> float:
        keras.utils.set_random_seed(self._seed)
        adversary, x, n = self._adversary, self._samples.x, self._judged
        seen = view.see(x)
        truth = as_images(self._samples) if adversary.reads_picture else np.asarray(adversary.target(plain(x), {}))
        reader = FreshReader(adversary, [tuple(t.shape[1:]) for t in seen], truth.shape[1:], self._seed)
        learn, judge = ([t[n:] for t in seen], truth[n:]), ([t[:n] for t in seen], truth[:n])
        share = reader.recovered(learn, judge, self._epochs, batch_size=32)
        return float(np.mean(metrics.ssim(judge[1], reader.predict(judge[0])))) if adversary.reads_picture else share
