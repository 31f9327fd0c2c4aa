"""`privpart-keras audit`: attack a run with fresh attackers, or read what a bundle's audit said; gate on the leakage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from keras_privpart.contract import CONTRACT_FILE, Contract
from keras_privpart.errors import AuditError

from .. import run_folder
from ..console import emit, json_option, say, seed_option
from ..data_source import data_options, data_source, limit_option
from ..interruption import interruptible
from ..run_audit import attack_run

OVER_THE_LIMIT = 3


@click.command(short_help="Attack a trained run with fresh attackers and write the report.")
@click.argument("target", metavar="RUN_OR_BUNDLE", type=click.Path(path_type=Path, exists=True, file_okay=False))
@data_options(required=False)
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
@click.option(
    "--allow-low-effort", is_flag=True, help="Let --max-leakage pass where attackers were trained less than by default (--epochs)."
)
@click.option("--looks", multiple=True, type=click.IntRange(min=1), help="At the same input; may be repeated.  [default: 1, 16]")
@click.option(
    "--frames", type=click.IntRange(min=0), help="Near duplicates of every input, as frames of a scene.  [default: 16 with frozen noise]"
)
@limit_option
@click.option("--curve", is_flag=True, help="Carry the strongest attack out with fewer examples as well: would more help?")
@click.option("--pictures/--no-pictures", default=True, help="Whether the report shows images of the test set.")
@click.option("--bound/--no-bound", default=True, help="Whether the report has a bound on the error of any reconstruction.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier report.")
@seed_option
@json_option
@click.pass_context
@interruptible("What the attackers found so far is kept, unless --no-cache was given. Run the same command again to go on from there.")
def audit(context: click.Context, target: Path, max_leakage: float | None, allow_low_effort: bool, as_json: bool, **options: Any) -> None:
    """Attack the defended partition of a run with fresh attackers; write report.json and index.html to RUN/report.

    The data are those that the run was trained on, and the victims its test data, unless --data names others.

    The floor is the same attack on nothing but the decision (which class comes first), the ceiling the same on the run's
    undefended partition.
    Of a bundle, nothing is attacked: its files are verified, and the audit in its contract is read.

    With --max-leakage the exit status guards a model: 0 where the leakage of the strongest attack of every kind is at most the limit, 3
    where one is above it (after one look at an input or several), where one is undefined, where nothing was attacked, or with low
    effort. The estimate decides; its 95 % interval is printed beside it.

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
    found = leakage_gate.check(summary, max_leakage, allow_low_effort)
    emit(as_json, {**payload, "gate": found.to_json()}, text)
    for breach in found.breaches:
        say(breach)
    if not found.passed:
        context.exit(OVER_THE_LIMIT)
    say(f"Leakage is within the limit of {max_leakage:g}: at most {found.worst}.")


def _of_bundle(bundle: Path) -> tuple[dict[str, Any], str, Mapping[str, Any]]:
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
    recorded, _ = run_folder.read_training(run)
    report = attack_run(run, other=data_source(options, recorded), **options)
    return report.to_json(), f"{report.summary()}\nWrote {run / run_folder.REPORT}/index.html", report.contract_summary()
