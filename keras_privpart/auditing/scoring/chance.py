"""What an attacker who sees nothing gets, and what one who is wrong more often than chance really knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_privpart.auditing.knowledge.images import as_images
from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.evidence import Evidence, Guesses, Pictures, Ranks
from keras_privpart.datasets import Samples
from keras_privpart.several_inputs import Inputs

_WELL_BELOW = 3.0  # standard errors of the AUC of a guesser


def chance(evidence: Evidence, known: Samples, victims: Samples) -> Evidence | None:
    """What there is to say about the same victims without seeing anything: the attackers' mean picture, every class alike, any candidate.

    Returns:
        None for evidence whose chance is its own to tell.
    """
    count = len(evidence)
    if isinstance(evidence, Guesses):
        return Guesses(evidence.truth, np.full_like(evidence.probabilities, 1 / evidence.probabilities.shape[1]))
    if isinstance(evidence, Pictures) and not isinstance(victims.x, Inputs):
        truth = as_images(victims[:count])
        mean = np.mean(as_images(known), axis=0, keepdims=True)
        return Pictures.of(truth, np.repeat(mean, count, axis=0), 0).forgetful()
    if isinstance(evidence, Ranks):
        # The mean of 1 / rank over all ranks that the truth may have.
        reciprocal = [float(np.mean(1 / np.arange(1, n + 1))) for n in evidence.candidates]
        return Ranks(1 / evidence.candidates, np.array(reciprocal), evidence.candidates)
    return evidence.ignorant()


def mirrored(side: Sequence[Sequence[Evidence]], among: np.ndarray) -> list[Sequence[Evidence]] | None:
    """The same guesses turned round, for every model where they are well below chance: who is reliably wrong knows the attribute.

    Args:
        side: of every model and seed.
        among: the victims by whom it is decided, `[n]`; the others' numbers are then no better for it by luck.

    Returns:
        None where all guesses stand as they are, or are not of two classes.
    """
    turned = [_turned(model, among) for model in side]
    if all(model is None for model in turned):
        return None
    return [model if model is not None else side[i] for i, model in enumerate(turned)]


def _turned(model: Sequence[Evidence], among: np.ndarray) -> list[Evidence] | None:
    guesses = [g for g in model if isinstance(g, Guesses)]
    if not guesses or guesses[0].probabilities.shape[1] != 2:
        return None
    among = among[: len(guesses[0])]
    positive = int(np.sum(guesses[0].truth[among] == 1))
    negative = int(np.sum(among)) - positive
    if not positive or not negative:
        return None
    error = np.sqrt((positive + negative + 1) / (12 * positive * negative))
    area = np.mean([metrics.auc(g.truth == 1, g.probabilities[:, 1], among.astype("float64")) for g in guesses])
    return [Guesses(g.truth, g.probabilities[:, ::-1]) for g in guesses] if area < 0.5 - _WELL_BELOW * error else None
