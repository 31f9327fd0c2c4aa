"""Model completion: the task's label from a few labelled examples and many without a label. No network is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from keras_privpart import arguments
from keras_privpart.auditing.attacks.base.attack import fitted
from keras_privpart.auditing.attacks.base.codes import Codes
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.inference.attributes import AttributeAttack, balancing
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import AuditError
from keras_privpart.training.task import unlabelled

LABELS = 40
LOOKS = 8
MOST_UNLABELLED = 4096
MOST_FEATURES = 64
_ROUNDS = 3
_SURE = 0.5  # share of the unlabelled, by guessed class, that teach the next round


class CompletionAttack(AttributeAttack):
    """Completes the model: a classifier of the task's label behind what is seen, from 40 labelled examples.

    The attacker has many examples without a label, of which at most 4,096 count: their principal components, 64 at most, are what it
    sees. Logistic regression learns from the labelled, then three times from these and the surer half of its own guesses; the first and
    the last vote together. Its codes are in units of the view's noise (`codes.Codes`), the mean of eight looks where there is any.

    Its own floor is high: a decision says the label. What counts is whether the boundary says it more plainly than the service does, to
    who was never given the server half.

    Args:
        labels: how many labelled examples it has, as evenly over the classes as they come.

    References:
        Fu et al., "Label Inference Attacks Against Vertical Federated Learning", USENIX Security 2022 (model completion).
        Duan et al., "InfoScissors: Defense against Data Leakage in Collaborative Inference through the Lens of Mutual Information",
        NeurIPS 2024.
    """

    concurrent = True
    cheap = True

    def __init__(self, labels: int = LABELS) -> None:
        super().__init__("completion", TASK)
        self.labels = arguments.whole("labels", labels, AuditError, least=2, advice="It is how many labelled examples there are.")
        self.name, self.kind = f"model completion, {labels} labels", f"{TASK} from {labels} labels"
        self.family = "model completion"
        self._codes: Codes | None = None
        self._reduce: PCA | None = None
        self._models: tuple[LogisticRegression, ...] = ()

    def inapplicable(self, samples: Samples) -> str | None:
        reason = unlabelled(samples)
        if reason is not None:
            return reason
        classes = len(np.unique(samples.targets[TASK]))
        return None if 2 <= classes <= self.labels else f"the task has {classes} classes, of which {self.labels} labels cannot tell"

    def _learn(
        self, view: View, known: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], effort: Effort, seed: int
    ) -> None:
        self._codes = codes = Codes.learn(view, held_out[0])
        x, y = known[0][:MOST_UNLABELLED], known[1][:MOST_UNLABELLED]
        rows = codes.centres(view, x, LOOKS)
        with np.errstate(invalid="ignore"):  # where all rows are the same there is no variance to take shares of
            self._reduce = PCA(min(MOST_FEATURES, *rows.shape), random_state=seed).fit(rows)
        features = self._features(rows)
        chosen = _evenly(y, self.labels)
        rest = np.setdiff1d(np.arange(len(x)), chosen)
        first = last = _classifier(features[chosen], y[chosen])
        for _ in range(_ROUNDS):
            guessed = last.predict_proba(features[rest]) if len(rest) else np.zeros((0, len(last.classes_)))
            sure = _surest(guessed)
            taught = np.r_[features[chosen], features[rest[sure]]], np.r_[y[chosen], last.classes_[guessed[sure].argmax(axis=1)]]
            last = _classifier(*taught)
        self._models = (first, last)

    def _probabilities(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        features = self._features(fitted(self._codes).of(seen))
        found = np.zeros((len(features), self.classes))
        for model in self._models:
            found[:, model.classes_] += model.predict_proba(features) / len(self._models)
        return found

    def _features(self, rows: np.ndarray) -> np.ndarray:
        return fitted(self._reduce).transform(rows)


def _evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """The first examples of every class in turn, `[count]`; all there are where they are fewer."""
    place = np.empty(len(labels), "int64")
    for value in np.unique(labels):
        mine = np.flatnonzero(labels == value)
        place[mine] = np.arange(len(mine))
    return np.lexsort((labels, place))[:count]


def _surest(probabilities: np.ndarray) -> np.ndarray:
    """Of each guessed class the half that is guessed most surely, as row numbers."""
    guess, surety = probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0.0)
    found = [np.flatnonzero(guess == value) for value in np.unique(guess)]
    halves = [mine[np.argsort(-surety[mine], kind="stable")[: max(1, round(_SURE * len(mine)))]] for mine in found]
    return np.concatenate([np.zeros(0, "int64"), *halves])


def _classifier(features: np.ndarray, labels: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after 200 steps: what it has then counts
        return LogisticRegression(max_iter=200).fit(features, labels, sample_weight=balancing(labels, int(labels.max()) + 1))
