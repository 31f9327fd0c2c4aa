"""Intervals by the bootstrap over victims, and leakage: the attack between its floor and its ceiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.evidence import Evidence

RESAMPLES = 1000
LEAKAGE_LIMIT = 1.5
_CHUNK = 4_000_000  # weights held at a time

WHAT_THE_INTERVAL_IS = (
    "Intervals are 95 % percentile intervals of a bootstrap over the victims (1,000 resamples); scores are averaged over the attackers' "
    "seeds first. Leakage resamples the same victims for attack, floor and ceiling. One trained model is judged: the intervals say "
    "nothing about training it again."
)


@dataclass(frozen=True)
class Score:
    """A score averaged over attacker seeds, its 95 % interval, and its value for every seed."""

    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Leakage:
    """(attack - floor) / (ceiling - floor), clipped to [0, 1.5], with its 95 % interval; None and a reason where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """All scores of one attack on the boundary, its floor and its ceiling, by name."""

    headline: str
    boundary: Mapping[str, Score]
    floor: Mapping[str, Score]
    ceiling: Mapping[str, Score]
    leakage: Leakage


def compare(boundary: Sequence[Evidence], floor: Sequence[Evidence], ceiling: Sequence[Evidence], seed: int = 0) -> Comparison:
    """Scores one attack against its floor and its ceiling; each a list with one evidence an attacker seed, on the same victims."""
    headline = boundary[0].headline
    drawn = [_resampled(side, seed) for side in (boundary, floor, ceiling)]
    tables = [_table(side, resamples) for side, resamples in zip((boundary, floor, ceiling), drawn, strict=True)]
    attack, low, high = (table[headline].value for table in tables)
    attacks, lows, highs = (resamples[headline] for resamples in drawn)
    return Comparison(headline, tables[0], tables[1], tables[2], leakage_of(attack, low, high, attacks, lows, highs))


def leakage_of(attack: float, floor: float, ceiling: float, attacks: np.ndarray, floors: np.ndarray, ceilings: np.ndarray) -> Leakage:
    """Leakage from three scores and their paired resamples `[b]`.

    It is undefined where the ceiling does not exceed the floor beyond the 95 % interval of their difference: then the answer alone
    tells as much as an undefended boundary, and there is nothing to divide by.
    """
    room = ceilings - floors
    low, high = _interval(room)
    if not low > 0:
        reason = f"ceiling - floor is {ceiling - floor:.3f} with a 95 % interval of {low:.3f} to {high:.3f}: no room between them"
        return Leakage(None, reason=reason)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.where(room > 0, np.clip((attacks - floors) / room, 0.0, LEAKAGE_LIMIT), np.nan)
    return Leakage(float(np.clip((attack - floor) / (ceiling - floor), 0.0, LEAKAGE_LIMIT)), *_interval(drawn))


def score_of(per_seed: Sequence[np.ndarray], seed: int = 0) -> Score:
    """Score and interval of values per victim, `[n]` for every attacker seed."""
    values = np.mean(per_seed, axis=0)
    drawn = np.concatenate([w @ values / len(values) for w in _resamples(len(values), seed)])
    return Score(float(values.mean()), *_interval(drawn), tuple(float(np.mean(v)) for v in per_seed))


def _resamples(victims: int, seed: int) -> Iterator[np.ndarray]:
    """How often each victim is drawn, `[chunk, victims]`, in chunks that sum up to 1,000 rows; the same for the same seed."""
    rng, left = np.random.default_rng(seed), RESAMPLES
    while left:
        rows = min(left, max(1, _CHUNK // victims))
        yield rng.multinomial(victims, np.full(victims, 1 / victims), size=rows).astype("float64")
        left -= rows


def _resampled(side: Sequence[Evidence], seed: int) -> dict[str, np.ndarray]:
    """Every score `[1000]`, averaged over attacker seeds in each resample."""
    chunks = [[evidence.scores(weights) for evidence in side] for weights in _resamples(len(side[0]), seed)]
    return {name: np.concatenate([np.mean([s[name] for s in chunk], axis=0) for chunk in chunks]) for name in chunks[0][0]}


def _table(side: Sequence[Evidence], drawn: Mapping[str, np.ndarray]) -> dict[str, Score]:
    each = [evidence.scores() for evidence in side]
    return {
        name: Score(float(np.mean([s[name] for s in each])), *_interval(values), tuple(float(s[name]) for s in each))
        for name, values in drawn.items()
    }


def _interval(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)
