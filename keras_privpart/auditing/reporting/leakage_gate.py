"""The gate: whether an audit's leakage stays within a limit. Works on the summary that a report and a bundle's contract share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras_privpart.errors import AuditError

LOW_EFFORT = (
    "Attackers were trained less than by default: a weak attacker finds little. Audit with more epochs, or let it pass: "
    "allow_low_effort=True (--allow-low-effort)."
)


@dataclass(frozen=True)
class Gate:
    """A limit on leakage, and what was found to be over it.

    Attributes:
        limit: the largest leakage that passes.
        breaches: one sentence for each kind of attack that does not pass; empty where all do.
        worst: the largest leakage among the strongest attacks of all kinds, in words.
    """

    limit: float
    breaches: tuple[str, ...]
    worst: str

    @property
    def passed(self) -> bool:
        return not self.breaches

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "breaches": list(self.breaches), "passed": self.passed}


def check(summary: Mapping[str, Any], limit: float, allow_low_effort: bool = False) -> Gate:
    """Holds the strongest attack of every kind, after every number of looks and on near duplicates, against a limit.

    The estimate decides, not its interval, which the sentences name: a wide interval would let a small test set decide. What is not
    known does not pass: undefined leakage, an audit without attacks, and attackers who were trained less than by default, are breaches.

    Args:
        summary: what `AuditReport.contract_summary` gives, as a bundle's contract holds it.
        limit: of leakage, from 0 (nothing beyond the decision) to 1 (as bad as undefended) and above.
        allow_low_effort: whether attackers who were trained less than by default pass.

    Raises:
        AuditError: a negative limit, or something that is no such summary.
    """
    if not limit >= 0:
        raise AuditError(f"Received the limit {limit!r}; expected a leakage from 0. Give one such as 0.2.")
    try:
        after = [
            (kind, part)
            for kind, facts in summary["kinds"].items()
            for part in (facts, *facts.get("looks", {}).values(), *facts.get("frames", {}).values())
        ]
        kinds = [_Strongest(kind, part["attack"], part["leakage"], part["leakage_interval"]) for kind, part in after]
        breaches = tuple(found.breach(limit) for found in kinds if not found.within(limit))
        low = summary.get("effort", {}).get("low", False) and not allow_low_effort
        worst = max(((k.leakage, k.words()) for k in kinds if k.leakage is not None), default=(0.0, "no leakage is defined"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AuditError(f"The audit's summary is malformed: {type(error).__name__}: {error}. Audit again, and export again.") from error
    if not kinds:
        breaches = (f"No attack was carried out: nothing shows that leakage is within the limit of {limit:g}.",)
    if low:
        breaches = (*breaches, LOW_EFFORT)
    return Gate(float(limit), breaches, worst[1])


@dataclass(frozen=True)
class _Strongest:
    """The strongest attack of one kind, as the summary has it."""

    kind: str
    attack: str
    leakage: float | None
    interval: list[float | None]

    def within(self, limit: float) -> bool:
        return self.leakage is not None and self.leakage <= limit

    def words(self) -> str:
        low, high = self.interval
        interval = "" if low is None or high is None else f" (95 % interval {low:.3g} to {high:.3g})"
        return f"{self.leakage:.3g}{interval}, {self.kind}, by {self.attack!r}"

    def breach(self, limit: float) -> str:
        if self.leakage is None:
            return (
                f"Leakage of {self.kind} by {self.attack!r} is undefined (an undefended boundary tells hardly more than the decision): "
                f"nothing shows that it is within the limit of {limit:g}."
            )
        return f"Leakage {self.words()} exceeds the limit of {limit:g}."
