"""`bits`: how many bits of an input cross the boundary, at most and at least, whoever looks. A bound for every attacker, no attack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_privpart import arguments
from keras_privpart.auditing.knowledge.noiseless import Noiseless, inapplicable
from keras_privpart.auditing.scoring import rates
from keras_privpart.auditing.scoring.rates import Estimate
from keras_privpart.channels import QuantizeChannel
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.several_inputs import Inputs

CANDIDATES = 100
DELTA = 1e-6
FITTED = 4096
OTHERS = 16_384
VICTIMS = 1024
VACUOUS = 10.0
_BYTES = 256 << 20


@dataclass(frozen=True)
class Looks:
    """What so many looks at one input let through, in bits; None where the boundary does not allow the number.

    Attributes:
        looks: boundaries of one input that are seen.
        capacity: at most, of any input whatever: the channel bounds the power, or the bits of a number.
        crossing: at most, of inputs with the covariance of the examples.
        beyond: at most beyond the class, of inputs with the examples' covariance within classes.
        at_least: beyond the class (all, where there are no classes), estimated from below.
        most: what `at_least` can say at most: log2 of the number of candidates.
        epsilon: local differential privacy of what crosses, at delta 1e-6.
    """

    looks: int
    capacity: float | None
    crossing: Estimate | None
    beyond: Estimate | None
    at_least: Estimate
    most: float
    epsilon: float | None

    @property
    def limit(self) -> float | None:
        """The lowest upper bound on the bits beyond the class; at the upper end of its interval where it has one."""
        known = [e.high for e in (self.beyond, self.crossing) if e is not None] + [c for c in (self.capacity,) if c is not None]
        return min(known, default=None)

    def rank_1(self, candidates: int = CANDIDATES) -> float:
        """How often, at most, any attacker names the input among so many equally likely ones of its class (Fano); up to 1."""
        return 1.0 if self.limit is None else rates.fano(self.limit, candidates)


@dataclass(frozen=True)
class Bits:
    """Bits that cross the boundary.

    Attributes:
        numbers: that cross of one input.
        channel: what stands on the boundary, in words.
        classes: told apart in the bits beyond the class; 0 where there are none.
        fitted_on: examples from which the covariance comes.
        victims: of the lower estimate.
        looks: for each number of looks.
        assumptions: under which the bounds hold, each a sentence.
    """

    numbers: int
    channel: str
    classes: int
    fitted_on: int
    victims: int
    looks: tuple[Looks, ...]
    assumptions: tuple[str, ...]

    def at(self, looks: int) -> Looks:
        """What so many looks let through.

        Raises:
            AuditError: it was not measured for so many.
        """
        for found in self.looks:
            if found.looks == looks:
                return found
        raise AuditError(f"Received looks={looks!r}; expected one of {[f.looks for f in self.looks]}. Measure with looks=({looks!r},).")

    def words(self) -> str:
        """What the bits say, and under which assumptions."""
        sentences = [_sentence(found, self.classes) for found in self.looks]
        return (
            f"{self.numbers:,} numbers cross, through {self.channel}. {' '.join(sentences)} This holds under assumptions: "
            f"{'; '.join(self.assumptions)}."
        )

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "looks": [asdict(found) for found in self.looks], "assumptions": list(self.assumptions)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bits:
        """Reads what `to_json` wrote."""
        looks = tuple(
            Looks(**{**found, **{name: _estimate(found[name]) for name in ("crossing", "beyond", "at_least")}}) for found in data["looks"]
        )
        return cls(**{**data, "looks": looks, "assumptions": tuple(data["assumptions"])})


def bits(partition: Partition, train: Samples, test: Samples, *, looks: Sequence[int] = (1, 16), seed: int = 0) -> Bits | str:
    """Bits that cross the boundary of one input: at most, at least, and beyond its class.

    With z = f(x) + N(0, s^2) and k looks, no attacker whatever, of any strength, learns more than

    - `(m/2) log2(1 + k P / s^2)` where the channel limits the mean square of the m numbers to P (`power`), of any input;
    - `log2 det(I + k Cov(f(x)) / s^2) / 2` of inputs with this covariance; and with the covariance within classes as much beyond the class;
    - m times the bits of a number behind a quantiser, however many the looks.

    From below stands InfoNCE with the channel's true likelihood: what an attacker who knows the device half, and has the input among
    its candidates, does learn. It cannot exceed log2 of the number of candidates.

    Args:
        partition: with one `GaussianChannel` with noise, or one `QuantizeChannel`, on each tensor of the boundary.
        train: the covariance is of at most 4,096 of them; at most 16,384 are candidates.
        test: at most 1,024 of them are the victims. Classes are the task's targets, where those are whole numbers.
        looks: numbers of looks.
        seed: of noise, choice and resamples.

    Returns:
        The bits, or why there are none, in a sentence: no audit fails for it.
    """
    reason = inapplicable(partition)
    if reason is not None:
        return reason
    try:
        return _measured(partition, train, test, looks, seed)
    except Exception as error:  # the device half runs the user's own layers, which raise whatever they like
        return f"it could not be computed: {str(error).strip().split(chr(10), 1)[0] or type(error).__name__}"


def _measured(partition: Partition, train: Samples, test: Samples, looks: Sequence[int], seed: int) -> Bits:
    for k in looks:
        if not arguments.is_whole(k):
            raise AuditError(f"Received looks={looks!r}; expected whole numbers from 1. Give such.")
    rng = np.random.default_rng(seed)
    victims = test[np.sort(rng.permutation(len(test))[:VICTIMS])]
    seen = Noiseless.of(partition, victims.x)
    most = max(2, min(OTHERS, _BYTES // (4 * sum(seen.widths))))
    others = train[rng.permutation(len(train))[:most]]
    known = Noiseless.of(partition, others.x)
    given = [_classes(victims), _classes(others)]
    labels = None if given[0] is None or given[1] is None else np.concatenate([given[0], given[1]])
    measured = [
        _noisy(partition, seen, known, labels, k, seed) if seen.stddev is not None else _rounded(partition, seen, known, labels, k, seed)
        for k in looks
    ]
    fitted = known.rows[:FITTED]
    return Bits(
        numbers=sum(seen.widths),
        channel=", ".join(_channel_words(c) for c in partition.channel),
        classes=0 if labels is None else len(np.unique(labels)),
        fitted_on=0 if seen.stddev is None else len(fitted),
        victims=len(victims),
        looks=tuple(measured),
        assumptions=_assumptions(partition, fitted, labels is not None),
    )


def _noisy(partition: Partition, seen: Noiseless, known: Noiseless, labels: np.ndarray | None, looks: int, seed: int) -> Looks:
    """Behind Gaussian noise: of k looks the mean tells all, and its noise has the variance s^2 / k."""
    stddev, fresh = np.asarray(seen.stddev), 1 if _repeats(partition) else looks
    rows = np.concatenate([seen.rows, known.rows]) * (math.sqrt(fresh) / stddev).astype("float32")
    count, fitted = len(seen.rows), slice(len(seen.rows), len(seen.rows) + FITTED)
    noise = np.random.default_rng(seed).standard_normal((count, rows.shape[1]))
    values, most = rates.contrastive_bound(rows[:count] + noise, rows, np.arange(count), labels)
    powers = [c.power for c in partition.channel]
    capacity = epsilon = None
    if None not in powers:
        each = list(zip(powers, np.split(stddev, np.cumsum(seen.widths)[:-1]), strict=True))
        capacity = sum(rates.capacity(fresh * p, s) for p, s in each)
        furthest = math.sqrt(sum(4 * fresh * len(s) * p / float(s.min()) ** 2 for p, s in each))
        epsilon = rates.local_privacy(furthest, DELTA)
    return Looks(
        looks=looks,
        capacity=capacity,
        crossing=rates.covariance_bound(rows[fitted], seed=seed),
        beyond=None if labels is None else rates.covariance_bound(rows[fitted], labels[fitted], seed=seed),
        at_least=rates.mean_estimate(values, seed),
        most=most,
        epsilon=epsilon,
    )


def _rounded(partition: Partition, seen: Noiseless, known: Noiseless, labels: np.ndarray | None, looks: int, seed: int) -> Looks:
    """Behind a quantiser: the same input sends the same, so that more looks show no more."""
    values, most = rates.collision_bound(np.concatenate([seen.rows, known.rows]), np.arange(len(seen.rows)), labels)
    capacity = float(sum(c.bits * width for c, width in zip(partition.channel, seen.widths, strict=True)))
    return Looks(looks, capacity, None, None, rates.mean_estimate(values, seed), most, None)


def _repeats(partition: Partition) -> bool:
    """Whether the same input sends the same at every look."""
    return all(getattr(c, "frozen", False) for c in partition.channel)


def _classes(samples: Samples) -> np.ndarray | None:
    """The task's labels `[n]`; None where there are none, or they are no classes."""
    given = samples.targets.get(TASK)
    labels = np.zeros(0) if given is None or isinstance(given, Inputs) else np.asarray(given)
    if labels.size != len(samples) or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        return None
    return labels.reshape(-1).astype("int64")


def _assumptions(partition: Partition, fitted: np.ndarray, classes: bool) -> tuple[str, ...]:
    if isinstance(partition.channel[0], QuantizeChannel):
        return (
            "a number has no more values than the quantiser's levels, whatever the attacker does",
            f"the lower estimate is of a true input among candidates like the {len(fitted):,} examples",
        )
    found = [
        "the noise is Gaussian, as strong as stated, and the attacker cannot repeat it",
        "the bounds from the covariance are of inputs with that of the examples, and of no other inputs",
    ]
    if not rates.enough(fitted):
        found.append(f"{len(fitted):,} examples are too few for a covariance of {fitted.shape[1]:,} numbers: each was taken by itself")
    if classes:
        found.append("an input's class is its label, and the attacker knows it")
    if _repeats(partition):
        found.append("all looks are at the very same input, whose noise stays the same; looks at near duplicates show more")
    else:
        found.append("all looks are at the very same input, each with noise of its own")
    return tuple(found)


def _channel_words(channel: Any) -> str:
    if isinstance(channel, QuantizeChannel):
        return f"a quantiser of {channel.bits} bits per number"
    power = "" if channel.power is None else f" on a mean square of at most {channel.power:g}"
    return f"Gaussian noise of standard deviation {channel.stddev:g}{power}"


def _sentence(found: Looks, classes: int) -> str:
    seen = "One look at an input lets" if found.looks == 1 else f"{found.looks} looks at an input let"
    limits = []
    if found.capacity is not None:
        limits.append(f"at most {found.capacity:.1f} bits through, whatever the input")
    if found.crossing is not None:
        limits.append(f"at most {_spelled(found.crossing)} bits through of inputs like these")
    if found.beyond is not None:
        limits.append(f"at most {_spelled(found.beyond)} beyond which of {classes} classes it is")
    least = (
        f"estimated from below, {_spelled(found.at_least)}{' beyond the class' if classes else ''} (of the {found.most:.1f} this can say)"
    )
    share, whose = found.rank_1(), f"one of {CANDIDATES} equally likely inputs" + (" of the same class" if classes else "")
    named = (
        f"Whoever names {whose}, by whatever means, is right at most {100 * share:.0f} % of the time."
        if share < 1
        else f"For naming {whose} this bounds nothing."
    )
    private = ""
    if found.epsilon is not None:
        vacuous = ", which is vacuous" if found.epsilon > VACUOUS else ""
        private = f" As local differential privacy this is epsilon {found.epsilon:.3g} at delta {DELTA:g}{vacuous}."
    return f"{seen} {', '.join([*limits, least])}. {named}{private}"


def _spelled(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} [{estimate.low:.1f}, {estimate.high:.1f}]"


def _estimate(data: Mapping[str, Any] | None) -> Estimate | None:
    return None if data is None else Estimate(**data)
