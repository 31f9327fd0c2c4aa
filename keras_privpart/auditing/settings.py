"""`AuditSettings`: every argument of an audit in one place, and the call that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from keras_privpart import arguments
from keras_privpart.auditing.attacks import Attack
from keras_privpart.auditing.checks import (
    check_answer,
    check_budgets,
    check_frames,
    check_groups,
    check_looks,
    check_settings,
    check_unseen,
)
from keras_privpart.auditing.knowledge.open_set import OpenSet
from keras_privpart.auditing.knowledge.views import TOP1, Answer
from keras_privpart.auditing.scoring.utility import Metric
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import Given
from keras_privpart.threat_model import ThreatModel

DOUBLINGS = 3

Progress = Callable[[int, int, str], None]

_NAMED = {"named": True}  # an object that words cannot make: the call names the caller's own
_SILENT = {"silent": True}  # changes no number


@dataclass(frozen=True, eq=False)
class AuditSettings:
    """The arguments of `audit`, under their names; see there. One of them that is added here is in the printed call as well."""

    partition: Partition | Sequence[Partition] = field(metadata=_NAMED)
    train: Any = field(metadata=_NAMED)
    test: Any = field(metadata=_NAMED)
    private: Sequence[str] = ()
    reference: Partition | Sequence[Partition] | None = field(default=None, metadata=_NAMED)
    seeds: int = 3
    attacks: str | Sequence[str | Attack] | None = None
    unseen: Sequence[str] = ()
    threat_model: ThreatModel | None = None
    trained_on: Any = field(default=None, metadata=_NAMED)
    budgets: Sequence[int | None] = (None,)
    group: str | None = None
    groups: OpenSet | None = field(default=None, metadata=_NAMED)
    epochs: int | None = None
    batch_size: int = 64
    seed: int = 0
    pictures: int = 8
    answer: Answer = TOP1
    looks: Sequence[int] = (1, 16)
    frames: int | None = None
    race: bool = True
    doublings: int | None = None
    curve: bool = False
    bound: bool = True
    value_range: Sequence[float] | None = None
    limit: int | None = None
    input_kind: Given = None
    metric: Metric = None
    cache: str | Path | None = field(default=None, metadata=_SILENT)
    workers: int | None = field(default=None, metadata=_SILENT)
    progress: Progress | None = field(default=None, metadata=_SILENT)

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "batch_size", "seed", "pictures", "workers", "frames", "limit"):
            object.__setattr__(self, name, _plain_whole(getattr(self, name)))
        for name in ("budgets", "looks"):
            object.__setattr__(self, name, tuple(_plain_whole(value) for value in getattr(self, name)))

    @property
    def partitions(self) -> tuple[Partition, ...]:
        return (self.partition,) if isinstance(self.partition, Partition) else tuple(self.partition)

    @property
    def defended(self) -> tuple[str, ...]:
        """The private attributes, which the caller and the threat model name alike."""
        private = _names(self.private)
        if self.threat_model is None:
            return private
        if private and set(private) != set(self.threat_model.private):
            raise AuditError(
                f"Received private={list(private)} and a threat model of {list(self.threat_model.private)}; expected the same attributes. "
                "Name them in the threat model only."
            )
        return self.threat_model.private

    @property
    def others(self) -> tuple[str, ...]:
        """The attributes that no defence was trained for."""
        return _names(self.unseen)

    @property
    def attributes(self) -> tuple[str, ...]:
        return (*self.defended, *self.others)

    @property
    def most_doublings(self) -> int:
        """How often updates may be doubled: never where the caller says how many epochs there are, and not how many doublings."""
        return self.doublings if self.doublings is not None else DOUBLINGS if self.epochs is None else 0

    def check(self) -> None:
        """Raises `AuditError` for what no audit can be made with, before any work is done."""
        check_settings(
            seeds=self.seeds,
            epochs=self.epochs,
            batch_size=self.batch_size,
            pictures=self.pictures,
            workers=self.workers,
            seed=self.seed,
            doublings=self.doublings,
            limit=self.limit,
        )
        check_budgets(self.budgets)
        check_looks(self.looks)
        check_frames(self.frames)
        check_answer(self.answer, self.groups)
        check_groups(self.groups, self.group, self.reference)
        check_unseen(self.defended, self.others)

    def call(self) -> str:
        """The call that makes the report again: every setting that differs from its default, by value, or by name where it is an object."""
        given = []
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.metadata.get("silent") or value is setting.default or (not setting.metadata and value == setting.default):
                continue
            named = bool(setting.metadata) or not _plain(value)
            given.append(setting.name if setting.name in _PLACES else f"{setting.name}={setting.name if named else _words(value)}")
        return f"keras_privpart.audit({', '.join(given)})"


_PLACES = ("partition", "train", "test")


def _plain_whole(value: Any) -> Any:
    """NumPy's whole numbers as Python's, which JSON and the printed call know; all else as it is, for `check` to judge."""
    return int(value) if arguments.is_whole(value, 0) else value


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _plain(value: Any) -> bool:
    """Whether words make it again."""
    if isinstance(value, (list, tuple)):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, (str, bool, int, float, ThreatModel))


def _words(value: Any) -> str:
    if not isinstance(value, ThreatModel):
        return repr(value)
    given = (f"{setting.name}={getattr(value, setting.name)!r}" for setting in fields(value))
    return f"keras_privpart.ThreatModel({', '.join(given)})"
