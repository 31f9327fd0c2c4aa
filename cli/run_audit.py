"""Attacking a trained run: what `audit` does, and each job of a sweep."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import run_folder
from .console import import_tensorflow, progress_bar
from .data_source import DataSource

if TYPE_CHECKING:
    from keras_privpart.auditing.reporting.report import AuditReport

PICTURES, LOOKS = 8, (1, 16)


def attack_run(
    run: Path,
    other: DataSource | None = None,
    overwrite: bool = False,
    pictures: bool = True,
    attacks: tuple[str, ...] = (),
    budgets: tuple[int, ...] = (),
    unseen: tuple[str, ...] = (),
    group: str | None = None,
    cache: bool = True,
    looks: tuple[int, ...] = (),
    curve: bool = False,
    limit: int | None = None,
    **options: Any,
) -> AuditReport:
    """Attacks a run, writes its report and returns it.

    Args:
        run: its folder.
        other: data in place of those that it was trained on.
        overwrite: whether an earlier report is replaced.
        pictures: whether the report shows some.
        cache: whether what attackers found is kept.
        limit: how many of the attackers' and of the victims' examples are drawn; as many as the training held where it streamed.
        attacks, budgets, unseen, group, looks, curve, options: of `auditing.audit.audit`.
    """
    recorded, _ = run_folder.read_training(run)
    drawn = limit or recorded.limit
    recorded = replace(recorded, limit=drawn)
    source = replace(other or recorded, limit=drawn).with_others(*unseen, *([group] if group else []))
    import_tensorflow()
    from keras_privpart.auditing.audit import audit as attack
    from keras_privpart.auditing.reporting.report_folder import check_absent
    from keras_privpart.partitioning.halves import Partition

    folder = run / run_folder.REPORT
    check_absent(folder, overwrite)
    defended, undefended = Partition.load(run / run_folder.DEFENDED), Partition.load(run / run_folder.UNDEFENDED)
    data = source.load(defended.device)
    trained_on = data.train if other is None else recorded.load(defended.device).train
    with progress_bar(None, "audit") as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what)
            bar.update(done - bar.n)

        report = attack(
            defended,
            data.train.held,
            data.test,
            private=source.private_names,
            unseen=[_name(source, key) for key in unseen],
            reference=undefended,
            attacks=attacks or "standard",
            trained_on=trained_on,
            value_range=source.value_range,
            budgets=(*budgets, None),
            looks=looks or LOOKS,
            curve=curve,
            limit=drawn,
            group=group and _name(source, group),
            cache=run / run_folder.AUDIT_CACHE if cache else None,
            pictures=PICTURES if pictures else 0,
            progress=progress,
            **options,
        )
    named = () if other is None else other.words()
    command = _command(run, named, options, attacks=attacks, budget=budgets, unseen=unseen, group=group, looks=looks, limit=limit)
    report = replace(report, reproduce=f"{command} --curve" if curve else command)
    report.save(folder, overwrite=overwrite, pictures=pictures)
    return report


def _name(source: DataSource, key: str) -> str:
    """What a key of the data set is called among the targets."""
    from keras_privpart.datasets import TASK

    return TASK if key == source.task else key.rsplit("/", 1)[-1]


def _command(run: Path, named: Sequence[str], options: dict[str, Any], **repeated: Any) -> str:
    """The command that makes the report again."""
    words = ["privpart-keras", "audit", str(run), *named]
    for name, value in {**repeated, **options}.items():
        for one in value if isinstance(value, tuple) else (value,):
            words += _option(name.replace("_", "-"), one)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    """One option of a command; those that are on without being named are left out."""
    if value is None or value is True:
        return []
    return [f"--no-{name}"] if value is False else [f"--{name}", str(value)]
