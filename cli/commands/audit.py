"""`privpart-keras audit`: attack a run with fresh attackers, or read what a bundle's audit said; gate on the leakage."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from keras_privpart.contract import CONTRACT_FILE, Contract
from keras_privpart.datasets import TASK
from keras_privpart.errors import AuditError

from .. import run_folder
from ..console import emit, import_tensorflow, json_option, progress_bar, say, seed_option
from ..data_source import DataSource

OVER_THE_LIMIT = 3
PICTURES = 8


@click.command(short_help="Attack a trained run with fresh attackers and write the report.")
@click.argument("target", metavar="RUN_OR_BUNDLE", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Fresh attackers of each kind.")
@click.option("--epochs", type=click.IntRange(min=1), help="Of each attacker.  [default: as many as make 600 updates, 8 to 100]")
@click.option(
    "--attacks", multiple=True, metavar="NAME", help="'standard', 'full', a family or one attack; may be repeated.  [default: standard]"
)
@click.option(
    "--budget", "budgets", multiple=True, type=click.IntRange(min=10), help="Examples of the attackers, beside all; may be repeated."
)
@click.option(
    "--unseen", multiple=True, metavar="KEY", help="Key of an attribute that no defence was trained for, to attack too; may be repeated."
)
@click.option("--group", metavar="KEY", help="Key that tells people apart, such as identity/Identity_No: attributes under two protocols.")
@click.option("--cache/--no-cache", default=True, help="Keep what attackers found in RUN/audit-cache, and repeat nothing.")
@click.option("--max-leakage", type=click.FloatRange(min=0), help="Exit with status 3 where the strongest attack of any kind exceeds it.")
@click.option("--pictures/--no-pictures", default=True, help="Whether the report shows images of the test set.")
@click.option("--bound/--no-bound", default=True, help="Whether the report has a bound on the error of any reconstruction.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier report.")
@seed_option
@json_option
@click.pass_context
def audit(context: click.Context, target: Path, max_leakage: float | None, as_json: bool, **options: Any) -> None:
    """Attack the defended partition of a run with fresh attackers; write report.json and index.html to RUN/report.

    The floor is the same attack on the server half's outputs, the ceiling the same attack on the run's undefended partition.
    Of a bundle, nothing is attacked: its files are verified, and the audit in its contract is read.

    With --max-leakage the exit status guards a model: 0 where the leakage of the strongest attack of every kind is at most the limit, 3
    where one is above it, undefined, or where nothing was attacked. The estimate decides; its 95 % interval is printed beside it.

    \b
    Example:
      privpart-keras audit runs/mnist --seeds 3
      privpart-keras audit saved_models/mnist --max-leakage 0.2
    """
    from keras_privpart.auditing.reporting import leakage_gate

    payload, text, summary = _of_bundle(target) if (target / CONTRACT_FILE).is_file() else _of_run(target, **options)
    if max_leakage is None:
        emit(as_json, payload, text)
        return
    found = leakage_gate.check(summary, max_leakage)
    emit(as_json, {**payload, "gate": found.to_json()}, text)
    for breach in found.breaches:
        say(breach)
    if not found.passed:
        context.exit(OVER_THE_LIMIT)
    say(f"Leakage is within the limit of {max_leakage:g}: at most {found.worst}.")


def _of_bundle(bundle: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """What the contract of a bundle says of its audit: as JSON, as text, and for the gate."""
    contract = Contract.load(bundle)
    contract.verify_files(bundle)
    if contract.audit is None:
        raise AuditError(f"Received {str(bundle)!r}, a bundle that was never audited; expected one. Audit the run and export it again.")
    lines = [f"Audit of {contract.name!r}, version {contract.version}, as its contract has it; nothing was attacked anew."]
    for kind, facts in contract.audit.get("kinds", {}).items():
        leakage = "undefined" if facts["leakage"] is None else f"{facts['leakage']:.2f}"
        low, high = facts["leakage_interval"]
        interval = "" if low is None or high is None else f" ({low:.2f}–{high:.2f})"
        lines.append(f"  {kind}: leakage {leakage}{interval}, by {facts['attack']!r}, the strongest of {facts['attacks']}")
    return {"bundle": str(bundle), "audit": contract.audit}, "\n".join(lines), contract.audit


def _of_run(run: Path, **options: Any) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Attacks a run and writes its report: as JSON, as text, and for the gate."""
    report = attack_run(run, **options)
    return report.to_json(), f"{report.summary()}\nWrote {run / run_folder.REPORT}/index.html", report.contract_summary()


def attack_run(
    run: Path,
    overwrite: bool = False,
    pictures: bool = True,
    attacks: tuple[str, ...] = (),
    budgets: tuple[int, ...] = (),
    unseen: tuple[str, ...] = (),
    group: str | None = None,
    cache: bool = True,
    **options: Any,
) -> Any:
    """Attacks a run, writes its report and returns it; `options` are more of those of `auditing.protocol.audit`."""
    source, _ = run_folder.read_training(run)
    private = source.private_names
    source = _loading(source, *unseen, *([group] if group else []))
    import_tensorflow()
    from keras_privpart.auditing.audit import audit as attack
    from keras_privpart.auditing.reporting.report_folder import check_absent
    from keras_privpart.partitioning.halves import Partition

    folder = run / run_folder.REPORT
    check_absent(folder, overwrite)
    defended, undefended = Partition.load(run / run_folder.DEFENDED), Partition.load(run / run_folder.UNDEFENDED)
    data = source.load()
    with progress_bar(None, "audit") as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what)
            bar.update(done - bar.n)

        report = attack(
            defended,
            data.train,
            data.test,
            private=private,
            unseen=[_name(source, key) for key in unseen],
            reference=undefended,
            attacks=attacks or "standard",
            trained_on=data.train,
            budgets=(*budgets, None),
            group=group and _name(source, group),
            cache=run / run_folder.AUDIT_CACHE if cache else None,
            pictures=PICTURES if pictures else 0,
            progress=progress,
            **options,
        )
    report = replace(report, reproduce=_command(run, options, attacks=attacks, budget=budgets, unseen=unseen, group=group))
    report.save(folder, overwrite=overwrite, pictures=pictures)
    return report


def _loading(source: DataSource, *keys: str) -> DataSource:
    """The source with more keys among what it loads than the training needed."""
    known = (source.task, *source.private)
    return replace(source, private=(*source.private, *(key for key in dict.fromkeys(keys) if key not in known)))


def _name(source: DataSource, key: str) -> str:
    """What a key of the data set is called among the targets."""
    return TASK if key == source.task else key.rsplit("/", 1)[-1]


def _command(run: Path, options: dict[str, Any], **repeated: Any) -> str:
    """The command that makes the report again."""
    words = ["privpart-keras", "audit", str(run)]
    for name, value in {**repeated, **options}.items():
        for one in value if isinstance(value, tuple) else (value,):
            words += _option(name.replace("_", "-"), one)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    """One option of a command; those that are on without being named are left out."""
    if value is None or value is True:
        return []
    return [f"--no-{name}"] if value is False else [f"--{name}", str(value)]
