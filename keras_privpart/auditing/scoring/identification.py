"""What an open set's task is worth: who of the enrolled it is, and how often that is told where few strangers raise an alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_privpart.auditing.knowledge.open_set import threshold
from keras_privpart.auditing.scoring.intervals import Score, score_of


@dataclass(frozen=True)
class Identification:
    """The task of an open set beside its leakage, on the victims' pictures.

    Attributes:
        people: how many are in each group, by its name.
        false_alarms: the share of strangers' pictures whose highest score exceeds the threshold.
        strangers: how many pictures of strangers set it.
        identity: how often the highest score is the right one's, of enrolled people's pictures: `"defended"` and `"reference"`.
        detected: how often it exceeds the threshold too (detection and identification rate), alike.
    """

    people: Mapping[str, int]
    false_alarms: float
    strangers: int
    identity: Mapping[str, Score]
    detected: Mapping[str, Score]

    def words(self) -> str:
        """What the task is worth, and what the defence costs it."""
        count = ", ".join(f"{number} {name}" for name, number in self.people.items())
        parts = [
            f"{what}: {' and '.join(f'{100 * score.value:.1f} % ({side})' for side, score in scores.items())}"
            for what, scores in (
                ("identity of enrolled people", self.identity),
                (f"detection and identification at {100 * self.false_alarms:g} % false alarms", self.detected),
            )
        ]
        return f"{count} people. {'; '.join(parts)}. The threshold is set by {self.strangers:,} pictures of strangers."

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def identified(
    enrolled: Sequence[np.ndarray], labels: np.ndarray, strangers: Sequence[np.ndarray], false_alarms: float, models: int, seed: int
) -> tuple[Score, Score]:
    """Identity, and detection with identification at a rate of false alarms.

    Args:
        enrolled: scores `[n, people]` of enrolled people's pictures, one look for every model and seed, model by model.
        labels: who each is, `[n]`.
        strangers: scores `[m, people]` of strangers' pictures, as many looks.
        false_alarms: the share of strangers' pictures over the threshold.
        models: how many there are.
        seed: of the resamples.

    References:
        Grother, Ngan, Hanaoka, "Face Recognition Vendor Test Part 2: Identification", NIST IR 8271, 2019 (open-set identification).
    """
    named = [scores.argmax(axis=1) == labels for scores in enrolled]
    over = [scores.max(axis=1) > threshold(alarms, false_alarms) for scores, alarms in zip(enrolled, strangers, strict=True)]
    both = [right & above for right, above in zip(named, over, strict=True)]
    return score_of([right.astype("float64") for right in named], seed, models), score_of([b.astype("float64") for b in both], seed, models)
