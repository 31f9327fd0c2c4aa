"""Linkage: which of a hundred known pictures was sent? The question of an attacker who has a suspicion and wants to know."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_privpart.auditing.attacks.base.attack import DATA, QUERIES, WHITE_BOX, Attack, fitted
from keras_privpart.auditing.attacks.base.codes import Codes, distances
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
from keras_privpart.auditing.attacks.reconstruction.kernel_posterior import KernelPosteriorAttack
from keras_privpart.auditing.knowledge.images import as_images
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Ranks
from keras_privpart.datasets import TASK, Samples
from keras_privpart.several_inputs import Inputs

CANDIDATES = 100
LOOKS = 48
SAME_CLASS, ALL = "re-identification in the class", "re-identification"
_SAME = 1e-6  # distances closer than this share of the usual one are ties


class LinkageAttack(Attack):
    """Ranks candidates by the likelihood of what was seen, for an attacker who can run the device half on them.

    A candidate's centre is its mean over 48 looks of the attacker's own, and the noise's covariance is pooled over inputs (`codes.Codes`),
    so that noise of any kind, answers and decisions are all attacked alike; where there is no noise one look tells. Candidates are the
    victim itself and others of the victims, 100 in all where there are so many, the same for every side; ties count their share.

    Args:
        same_class: whether the candidates share the victim's class in the task: what is named beyond the class.
    """

    family = "re-identification"
    needs = frozenset((WHITE_BOX, DATA))
    concurrent = True
    cheap = True

    def __init__(self, same_class: bool = True) -> None:
        super().__init__("linkage, same class" if same_class else "linkage, all", SAME_CLASS if same_class else ALL)
        self.same_class = same_class
        self._view: View | None = None
        self._codes: Codes | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        if not self.same_class:
            return None if len(samples) > 1 else "one victim has no other candidates"
        labels = samples.targets.get(TASK)
        if labels is None or isinstance(labels, Inputs) or np.asarray(labels).size != len(samples):
            return "the data do not say which class of the task an example is of"
        if len(np.unique(labels)) == len(samples):
            return "no two victims are of one class"
        return None

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        self._view, self._codes = view, Codes.learn(view, held_out.x)

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Ranks:
        view, codes = fitted(self._view), fitted(self._codes)
        rows, centres = codes.of(seen).astype("float64"), codes.centres(view, victims.x, LOOKS).astype("float64")
        return self._ranked(rows, centres, victims)

    def _ranked(self, rows: np.ndarray, centres: np.ndarray, victims: Samples) -> Ranks:
        """Ranks candidates by how near each one's centre `[n, numbers]` is to the victim's row `[n, numbers]`."""
        labels = np.asarray(victims.targets[TASK]).reshape(-1) if self.same_class else np.zeros(len(victims))
        order = np.random.default_rng(0)  # every side is asked about the same candidates
        found = []
        for i, row in enumerate(rows):
            others = order.permutation(np.flatnonzero((labels == labels[i]) & (np.arange(len(rows)) != i)))[: CANDIDATES - 1]
            squares = distances(row[None], centres[np.r_[i, others]])[0]
            tolerance = _SAME * (float(squares.mean()) + float(np.square(row).mean()))
            nearer = int((squares[1:] < squares[0] - tolerance).sum())
            ties = int((np.abs(squares[1:] - squares[0]) <= tolerance).sum())
            found.append(
                (1.0 / (1 + ties) if nearer == 0 else 0.0, float(np.mean(1 / (1 + nearer + np.arange(ties + 1)))), 1 + len(others))
            )
        named, reciprocal, candidates = (np.array(column) for column in zip(*found, strict=True))
        fewest = int(candidates.min())
        if fewest < CANDIDATES:
            self.notes = (
                *dict.fromkeys(self.notes),
                f"among {fewest} to {int(candidates.max())} candidates, for there are no {CANDIDATES} of a class",
            )
        return Ranks(named, reciprocal, candidates.astype("int64"))


class ReconstructedLinkageAttack(LinkageAttack):
    """Reconstructs the picture, and names the candidate that is most like it: needs no device half to run candidates through at the end.

    Args:
        inner: what reconstructs; a large decoder with a mixed loss by default.
        same_class: see `LinkageAttack`.
    """

    needs = frozenset((QUERIES, DATA))
    cheap = False

    def __init__(self, inner: DecoderAttack | KernelPosteriorAttack | None = None, same_class: bool = True) -> None:
        super().__init__(same_class)
        self._inner = inner or DecoderAttack("large", "mixed")
        self.cheap = self._inner.cheap
        self.name = f"{self.name}, by reconstruction ({self._inner.name})"

    def inapplicable(self, samples: Samples) -> str | None:
        return self._inner.inapplicable(samples) or super().inapplicable(samples)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self._view = view
        self._inner.fit(view, known, held_out, effort, seed)
        self.notes = self._inner.notes

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Ranks:
        fitted(self._view)
        found, pictures = (np.asarray(x, "float64").reshape(len(victims), -1) for x in (self._inner.reconstruct(seen), as_images(victims)))
        return self._ranked(found, pictures, victims)
