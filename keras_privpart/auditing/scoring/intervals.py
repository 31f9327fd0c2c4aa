"""Intervals over victims and over models, and leakage: the attack between its floor and its ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from keras_privpart.auditing.scoring.evidence import Evidence

DECISION, ANSWER = "decision", "answer"
RESAMPLES, WHOLE_RESAMPLES = 1000, 100
LEAKAGE_LIMIT = 1.5
_CHUNK = 4_000_000  # weights held at a time

WHAT_THE_INTERVAL_IS = (
    "Scores are averaged over the attackers' seeds within a model first, then over models. Intervals are 95 % percentile intervals of a "
    "bootstrap over the victims (1,000 resamples; whole people where the audit knows who is who), the same victims for attack, floor and "
    "ceiling; with several models, no narrower than Student's t interval over their means. With one model the intervals say nothing about "
    "training it again."
)

# Evidence of one side: of every model, of every attacker seed.
Side = Sequence[Sequence[Evidence]]


@dataclass(frozen=True)
class Score:
    """A score averaged over attacker seeds and models, its 95 % interval, its value for every seed of every model, and for every model."""

    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()
    models: tuple[float, ...] = ()


@dataclass(frozen=True)
class Leakage:
    """(attack - floor) / (ceiling - floor), clipped to [0, 1.5], with its 95 % interval; None and a reason where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """All scores of one attack by name: on the boundary, on every floor, and on the ceiling; `floor` names the floor that counts.

    `leakage` is beyond that floor, `beyond_answer` beyond all that the server half answers, `above_chance` above who sees nothing; the
    latter two are None where there is no such side.
    """

    headline: str
    boundary: Mapping[str, Score]
    floors: Mapping[str, Mapping[str, Score]]
    floor: str
    ceiling: Mapping[str, Score]
    leakage: Leakage
    beyond_answer: Leakage | None = None
    above_chance: Leakage | None = None


def compare(
    boundary: Side,
    floors: Mapping[str, Side],
    ceiling: Side,
    seed: int = 0,
    people: np.ndarray | None = None,
    chance: Side | None = None,
    reported: np.ndarray | None = None,
) -> Comparison:
    """Scores one attack against its floors and its ceiling, on the same victims.

    Args:
        boundary, ceiling: evidence of every model and attacker seed.
        floors: the same by name. The one named `"decision"` counts; without one, that with the highest headline score.
        seed: of the resamples.
        people: whose picture each victim is `[n]`: then people are drawn, not pictures, which are alike within a person.
        chance: evidence of who sees nothing.
        reported: which victims count `[n]`; None for all.
    """
    headline, count = boundary[0][0].headline, len(boundary[0][0])
    units = None if people is None else people[:count]
    counted = None if reported is None or reported.all() else reported[:count]

    def drawn(side: Side) -> _Drawn:
        return _Drawn.of(side, seed, units, counted)

    above, below = drawn(boundary).of_score(headline), drawn(ceiling)
    sides = {name: drawn(side) for name, side in floors.items()}
    counts = DECISION if DECISION in sides else max(sides, key=lambda name: sides[name].means[headline].mean())
    ceilings = below.of_score(headline)
    beyond = {name: _leakage(above, side.of_score(headline), ceilings) for name, side in sides.items()}
    return Comparison(
        headline=headline,
        boundary=drawn(boundary).table(),
        floors={name: side.table() for name, side in sides.items()},
        floor=counts,
        ceiling=below.table(),
        leakage=beyond[counts],
        beyond_answer=beyond.get(ANSWER),
        above_chance=None if chance is None else _leakage(above, drawn(chance).of_score(headline), ceilings),
    )


def table_of(
    side: Side, seed: int = 0, people: np.ndarray | None = None, reported: np.ndarray | None = None
) -> tuple[str, dict[str, Score]]:
    """The headline's name and all scores of one side alone; arguments as for `compare`."""
    count = len(side[0][0])
    counted = None if reported is None or reported.all() else reported[:count]
    return side[0][0].headline, _Drawn.of(side, seed, None if people is None else people[:count], counted).table()


def mean_score(side: Side, among: np.ndarray) -> float:
    """The headline score among some victims `[n]`, averaged over seeds, then models; no number where they do not tell."""
    among = among[: len(side[0][0])].astype("float64")
    return float(np.mean([np.mean([e.scores(among)[e.headline] for e in model]) for model in side]))


def leakage_of(attack: float, floor: float, ceiling: float, attacks: np.ndarray, floors: np.ndarray, ceilings: np.ndarray) -> Leakage:
    """Leakage from three scores and their paired resamples `[b]`.

    It is undefined where the ceiling does not exceed the floor beyond the 95 % interval of their difference: then the answer alone
    tells as much as an undefended boundary, and there is nothing to divide by.
    """
    return _leakage(*((resamples, np.array([value])) for value, resamples in ((attack, attacks), (floor, floors), (ceiling, ceilings))))


def score_of(per_seed: Sequence[np.ndarray], seed: int = 0, models: int = 1) -> Score:
    """Score and interval of values per victim, `[n]` for every attacker seed of every model, model by model."""
    values = np.mean(per_seed, axis=0)
    drawn = np.concatenate([w @ values / len(values) for w in _resamples(len(values), seed)])
    each = np.mean(per_seed, axis=1)
    means = each.reshape(models, -1).mean(axis=1)
    return Score(float(values.mean()), *_hull(drawn, means), tuple(each.tolist()), tuple(means.tolist()))


def score_of_whole(measure: Callable[[np.ndarray], Sequence[float]], victims: int, seed: int = 0, models: int = 1) -> Score:
    """Score and interval of what only all victims together have, such as an area under a curve: from 100 resamples.

    Args:
        measure: from the victims that are drawn, their rows, to the value for every attacker seed of every model, model by model.
        victims: how many there are.
        seed: of the resamples.
        models: how many models there are.
    """
    rng = np.random.default_rng(seed)
    each = np.asarray(measure(np.arange(victims)))
    drawn = np.array([np.mean(measure(rng.integers(0, victims, victims))) for _ in range(WHOLE_RESAMPLES)])
    means = each.reshape(models, -1).mean(axis=1)
    return Score(float(means.mean()), *_hull(drawn, means), tuple(each.tolist()), tuple(means.tolist()))


@dataclass(frozen=True)
class _Drawn:
    """Every score of one side by name: in each resample `[1000]`, and of every model and seed `[models, seeds]`."""

    resamples: Mapping[str, np.ndarray]
    means: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, side: Side, seed: int, units: np.ndarray | None, counted: np.ndarray | None = None) -> _Drawn:
        evidence = [e for model in side for e in model]
        chunks = [[e.scores(weights) for e in evidence] for weights in _resamples(len(evidence[0]), seed, units, counted)]
        whole = [e.scores(None if counted is None else counted.astype("float64")) for e in evidence]
        resamples = {name: np.concatenate([np.mean([s[name] for s in chunk], axis=0) for chunk in chunks]) for name in whole[0]}
        return cls(resamples, {name: np.array([s[name] for s in whole], "float64").reshape(len(side), -1) for name in whole[0]})

    def of_score(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Resamples and the models' means of one score."""
        return self.resamples[name], self.means[name].mean(axis=1)

    def table(self) -> dict[str, Score]:
        table = {}
        for name, values in self.means.items():
            models = values.mean(axis=1)
            low, high = _hull(self.resamples[name], models)
            table[name] = Score(float(models.mean()), low, high, tuple(values.ravel().tolist()), tuple(models.tolist()))
        return table


def _leakage(
    attack: tuple[np.ndarray, np.ndarray], floor: tuple[np.ndarray, np.ndarray], ceiling: tuple[np.ndarray, np.ndarray]
) -> Leakage:
    """From the resamples `[b]` and the models' means `[m]` of the three."""
    (attacks, a), (floors, f), (ceilings, c) = attack, floor, ceiling
    room, rooms = ceilings - floors, c - f
    low, high = _hull(room, rooms)
    if not low > 0:
        reason = f"ceiling - floor is {rooms.mean():.3f} with a 95 % interval of {low:.3f} to {high:.3f}: no room between them"
        return Leakage(None, reason=reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.where(room > 0, (attacks - floors) / room, np.nan)
        models = (a - f) / rooms
    value = (a.mean() - f.mean()) / rooms.mean()
    value, low, high = np.clip([value, *_hull(drawn, models)], 0.0, LEAKAGE_LIMIT).tolist()
    return Leakage(value, low, high)


def _resamples(victims: int, seed: int, units: np.ndarray | None = None, counted: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """How often each victim is drawn, `[chunk, victims]`, in chunks that sum up to 1,000 rows; the same for the same seed.

    With `units`, whole units are drawn: the victims of one count alike. With `counted`, only those victims are.
    """
    rng, left = np.random.default_rng(seed), RESAMPLES
    among = np.flatnonzero(np.ones(victims, bool) if counted is None else counted)
    index = np.arange(len(among)) if units is None else np.unique(units[among], return_inverse=True)[1].reshape(-1)
    count = int(index.max()) + 1
    while left:
        rows = min(left, max(1, _CHUNK // victims))
        weights = np.zeros((rows, victims))
        weights[:, among] = rng.multinomial(count, np.full(count, 1 / count), size=rows)[:, index]
        yield weights
        left -= rows


def _hull(drawn: np.ndarray, models: np.ndarray) -> tuple[float, float]:
    """The percentile interval of resamples, widened to Student's t interval over models where there are several."""
    low, high = (float(x) for x in np.nanpercentile(drawn, [2.5, 97.5]))
    if len(models) > 1:
        half = float(student.ppf(0.975, len(models) - 1) * np.std(models, ddof=1) / np.sqrt(len(models)))
        low, high = min(low, float(models.mean()) - half), max(high, float(models.mean()) + half)
    return low, high
