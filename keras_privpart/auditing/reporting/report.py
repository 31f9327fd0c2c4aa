"""`AuditReport`: what the attackers got, beside task accuracy, floor, ceiling, seeds and intervals. Data; all else is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION
from keras_privpart.auditing.reporting.results import AttackResult, PictureRows
from keras_privpart.auditing.scoring.bounds import Bound
from keras_privpart.auditing.scoring.identification import Identification
from keras_privpart.auditing.scoring.information import Bits
from keras_privpart.auditing.scoring.intervals import Score
from keras_privpart.errors import AuditError
from keras_privpart.readable import Readable
from keras_privpart.threat_model import ThreatModel

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class AuditReport(Readable):
    """The result of `audit`.

    Attributes:
        results: one for every attack.
        defended_accuracy, reference_accuracy: of the task, on the victims; None where the task has none.
        seeds: attackers of each kind, trained from different weights.
        models: how many trainings of the model were attacked.
        known, held_out, victims: how many examples the attackers learned from, chose weights by, and were scored on.
        boundary: what crosses, in words.
        boundary_bytes, input_bytes: of one example; None where a size is free. Inputs as a client without a device half would send them:
            pictures a byte a value.
        reference: where the ceiling comes from, in words.
        settings: what the attackers were given: epochs, batch size, seed.
        versions: of the software.
        threat_model: what the attacker was taken to know.
        scored_on: a digest of the victims: audits of equal ones can be compared.
        reproduce: the command, or the call, that made the report.
        bound: on the error of any reconstruction, for the first model; see `bounds.bound`. None where none was computed.
        not_tested: what this audit says nothing about, each a sentence.
        notes: what a reader must know to judge the numbers, each a sentence.
        decision: what the operator returns, in words: what the headline leakage is beyond.
        looks: how many looks at the same input attackers had, fewest first.
        repeats: whether two looks at the same input agree, so that more of them show no more.
        effort: of the attackers: `"updates"` to begin with, `"full_updates"` of an audit that is given no number of epochs, `"doublings"`
            at most, and whether it is `"low"`. Empty in reports of schema 2.
        utilities: how else than by accuracy the task is measured, by name: defended and undefended; empty where accuracy says it.
        bits: how many cross, see `information.bits`; None where that is not known.
        identification: what the task of an open set is worth, see `audit(groups=)`; None for other tasks.
        subject: what was audited, in words: `"model"`, its name, `"date"`, of the audit, and `"defence"`. Empty in older reports.
        pictures: for the page; not part of the JSON.
    """

    results: tuple[AttackResult, ...]
    defended_accuracy: Score | None
    reference_accuracy: Score | None
    seeds: int
    known: int
    held_out: int
    victims: int
    boundary: str
    boundary_bytes: int | None
    input_bytes: int
    reference: str
    settings: Mapping[str, int]
    versions: Mapping[str, str]
    not_tested: tuple[str, ...]
    notes: tuple[str, ...] = ()
    models: int = 1
    threat_model: ThreatModel = field(default_factory=ThreatModel)
    scored_on: str = ""
    reproduce: str = ""
    bound: Bound | None = None
    decision: str = ""
    looks: tuple[int, ...] = (1,)
    repeats: bool = False
    effort: Mapping[str, int | bool] = field(default_factory=dict)
    bits: Bits | None = None
    identification: Identification | None = None
    subject: Mapping[str, str] = field(default_factory=dict, compare=False)
    utilities: Mapping[str, tuple[Score, Score]] = field(default_factory=dict)
    pictures: PictureRows | None = field(default=None, repr=False, compare=False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What was attacked: `"reconstruction"` first (of several inputs, `"reconstruction of <name>"` each), then the private attributes.

        As far as an attack was carried out.
        """
        return tuple(dict.fromkeys(r.kind for r in sorted(self.results, key=lambda r: not r.kind.startswith(RECONSTRUCTION))))

    @property
    def unseen(self) -> tuple[str, ...]:
        """The kinds that no defence was trained for, as far as probes on the boundary were carried out."""
        return tuple(dict.fromkeys(r.kind for r in self.results if r.family == "unseen attribute"))

    def of(self, kind: str) -> tuple[AttackResult, ...]:
        """All attacks of a kind."""
        found = tuple(r for r in self.results if r.kind == kind)
        if not found:
            raise AuditError(f"Received the kind {kind!r}; this audit has {', '.join(self.kinds) or 'none'}. Choose one of them.")
        return found

    def strongest(self, kind: str = RECONSTRUCTION, looks: int | None = None, frames: bool = False) -> AttackResult:
        """The strongest attack of a kind on the defended boundary: the one that counts.

        Args:
            kind: what was attacked.
            looks: at the same input; None for the fewest.
            frames: whether at near duplicates of the input instead.
        """
        # Who has no ceiling had dropped out of the race.
        return max(self._after(kind, looks, frames), key=lambda r: (bool(r.ceiling), r.strength))

    def max_leakage(self, kind: str = RECONSTRUCTION, looks: int | None = None) -> float | None:
        """The largest leakage over all attacks of a kind, whichever is strongest; None where all are undefined."""
        return max((r.leakage.value for r in self._after(kind, looks) if r.leakage.value is not None), default=None)

    def _after(self, kind: str, looks: int | None, frames: bool = False) -> list[AttackResult]:
        found = [r for r in self.of(kind) if r.frames is frames]
        if not found:
            raise AuditError(f"Received frames={frames!r}; this audit has no such results of {kind}. Audit with frames=16.")
        wanted = min(r.looks for r in found) if looks is None else looks
        after = [r for r in found if r.looks == wanted]
        if not after:
            raise AuditError(f"Received looks={looks!r}; this audit has {sorted({r.looks for r in found})} of {kind}. Choose one of them.")
        return after

    def looks_of(self, kind: str) -> tuple[int, ...]:
        """How many looks there are results of, fewest first."""
        return tuple(sorted({r.looks for r in self.of(kind) if not r.frames}))

    def frames_of(self, kind: str) -> int:
        """How many near duplicates of an input there are results of; 0 for none."""
        return max((r.looks for r in self.of(kind) if r.frames), default=0)

    @property
    def low_effort(self) -> bool:
        """Whether the attackers were trained less than those of an audit that is given no number of epochs."""
        return bool(self.effort.get("low", False))

    def words(self) -> str:
        """Accuracies and the verdict on each kind of attack; `summary` has every attack."""
        from keras_privpart.auditing.reporting import text

        return text.answer(self)

    # What follows is made of the data by functions of their own, which are loaded when they are called.

    def summary(self) -> str:
        """The report as a text table; see `text.summary`."""
        from keras_privpart.auditing.reporting import text

        return text.summary(self)

    def contract_summary(self) -> dict[str, Any]:
        """The few numbers that a bundle's contract carries; see `report_json.contract_summary`."""
        from keras_privpart.auditing.reporting import report_json

        return report_json.contract_summary(self)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as `report.json` has it."""
        from keras_privpart.auditing.reporting import report_json

        return report_json.to_json(self)

    @classmethod
    def from_json(cls, data: Any) -> AuditReport:
        """Reads what `to_json` wrote; without pictures.

        Raises:
            AuditError: the data are not a report, or of another schema.
        """
        from keras_privpart.auditing.reporting import report_json

        return report_json.from_json(data)

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each attack, what it was given, and score, as a `pandas.DataFrame`; see `dataframe.rows`.

        Raises:
            AuditError: pandas is not installed.
        """
        from keras_privpart.auditing.reporting import dataframe

        return dataframe.frame(self)

    def save(self, directory: str | Path, *, overwrite: bool = False, pictures: bool = True) -> Path:
        """Writes `report.json` and a self-contained `index.html` into a new folder; see `report_folder.save`.

        Raises:
            AuditError: the folder exists.
        """
        from keras_privpart.auditing.reporting import report_folder

        return report_folder.save(self, directory, overwrite=overwrite, pictures=pictures)

    @classmethod
    def load(cls, directory: str | Path) -> AuditReport:
        """Reads `report.json` of a folder that `save` wrote; without pictures.

        Raises:
            AuditError: there is none, or it cannot be read.
        """
        from keras_privpart.auditing.reporting import report_folder

        return report_folder.load(directory)
