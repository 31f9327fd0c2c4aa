"""Writes docs/results.md and its picture from benchmarks/results/tasks/*.json.

python benchmarks/tasks/page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yardsticks import PUBLISHED

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "tasks"
PAGE = ROOT / "docs" / "results.md"
PICTURE = ROOT / "docs" / "images" / "results.png"
UNDEFENDED = "undefended"
MARKERS = "os^vD*PX<>"

HEAD = """# Results

Made by `python benchmarks/tasks/page.py` from `benchmarks/results/tasks/*.json`, those
by `python benchmarks/tasks/TASK.py --scale SCALE`.

How to read the tables. Every number about privacy comes from fresh attackers, trained from scratch on the frozen device half; of all
attacks of a kind the strongest counts, and all rows of a table face the same ones. *Floor* is the same attack on what the server half
answers, which cannot be hidden; *ceiling*, on an undefended boundary. *Leakage* is (attack - floor) / (ceiling - floor): 0 is nothing
beyond the answer, 1 as much as without a defence; its interval is 95 %. Peers' rows are their ideas made of this library's parts,
trained on the same network for as many epochs: not the authors' code, and not their figures. The numbers in our recipe were chosen after a
few tries, audited on the same test examples; those of the peers stand as they are, at one setting that nobody tuned.
"""

YARDSTICKS = """Published figures of other work, undefended (u) and defended (d). Their networks, data, splits and attackers differ from
ours and from each other's, and most give neither floor nor interval: they show the range, and are not to be read as rows of the table
above.
"""

IMAGE = "![What the strongest attacker reads against what the task loses, one panel per task](images/results.png)\n"


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, of results by file name without its ending."""
    parts = [HEAD, IMAGE]
    for name in PUBLISHED:
        runs = [run for run in results.values() if run["rows"] and run["rows"][0]["task"] == name]
        parts += [section(run["settings"], run["rows"]) for run in runs]
        if runs:
            parts.append(YARDSTICKS)
            parts.append(_table(("work", "data, cut", "task", "attacker"), PUBLISHED[name]))
    return "\n".join(parts)


def section(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """One run of a task: a table for everything that was attacked."""
    lines = [f"## {rows[0]['title']}", "", _setting(settings, rows[0]), ""]
    plain = {row["cut"]: row["accuracy"] for row in rows if row["defence"] == UNDEFENDED}
    for kind in dict.fromkeys(kind for row in rows for kind in row["audit"]["kinds"]):
        found = [row for row in rows if kind in row["audit"]["kinds"]]
        score = found[0]["audit"]["kinds"][kind]["score"].replace("_", " ")
        header = ("cut", "defence", "task accuracy", "drop, points", f"strongest attack's {score}", "floor", "ceiling", "leakage", "attack")
        lines += [f"**{kind}**", "", _table(header, (_row(row, kind, plain.get(row["cut"])) for row in found))]
    return "\n".join(lines)


def draw(results: Mapping[str, Mapping[str, Any]]) -> Any:
    """The figure: for every run, leakage of the picture against the task's loss of accuracy, at the cut that all defences share."""
    from matplotlib.figure import Figure

    runs = [run["rows"] for run in results.values() if run["rows"]]
    figure = Figure(figsize=(max(6, 4 * len(runs)), 4.8), dpi=120, layout="constrained")
    known: dict[str, int] = {}
    shown: dict[str, Any] = {}
    for axes, rows in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        plain = next(row for row in rows if row["defence"] == UNDEFENDED)
        for row in rows:
            found = row["audit"]["kinds"].get("reconstruction")
            if row["cut"] != plain["cut"] or found is None or found["leakage"] is None:
                continue
            i = known.setdefault(row["defence"], len(known))
            low, high = found["leakage_interval"]
            drop = 100 * (plain["accuracy"] - row["accuracy"])
            error = [[max(0.0, found["leakage"] - low)], [max(0.0, high - found["leakage"])]]  # rounded figures
            shown[row["defence"]] = axes.errorbar(
                drop, found["leakage"], error, fmt=MARKERS[i % len(MARKERS)], color=f"C{i}", capsize=2, label=row["defence"]
            )
        axes.set(title=rows[0]["task"], xlabel="accuracy lost, points", ylabel="leakage of the picture", ylim=(-0.05, 1.1))
        axes.grid(alpha=0.3)
    figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=min(2, len(runs)), frameon=False, fontsize="small")
    return figure


def _setting(settings: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    attacks = sorted({found["attacks"] for found in row["audit"]["kinds"].values()})
    many = f"{attacks[0]}" if len(attacks) == 1 else f"{attacks[0]} to {attacks[-1]}"
    known = "all" if settings["attackers"] is None else f"{settings['attackers']:,}"
    effort = "" if settings["audit_epochs"] is None else f" in {settings['audit_epochs']} epochs"
    return (
        f"Scale `{row['scale']}`: {row['train']:,} training examples, {row['epochs']} epochs, task accuracy of {row['test']:,} test "
        f"examples; attackers learn from {known} of the training examples{effort} and attack {row['audit']['victims']:,} test examples; "
        f"{row['models']} trained {'model' if row['models'] == 1 else 'models'} per row, {row['audit']['seeds']} "
        f"{'attacker' if row['audit']['seeds'] == 1 else 'attackers'} of each kind against each, {many} attacks of a kind. "
        f"Command: `python benchmarks/tasks/{row['task']}.py --scale {row['scale']}`."
    )


def _row(row: Mapping[str, Any], kind: str, plain: float | None) -> Sequence[str]:
    found = row["audit"]["kinds"][kind]
    drop = "" if plain is None else f"{round(100 * (plain - row['accuracy']), 1) + 0.0:.1f}"  # no -0.0
    return (
        f"`{row['cut']}`",
        row["defence"],
        f"{100 * row['accuracy']:.1f} %",
        drop,
        f"{found['boundary']:.3f}",
        f"{found['floor']:.3f}",
        f"{found['ceiling']:.3f}",
        _leakage(found),
        found["attack"],
    )


def _leakage(found: Mapping[str, Any]) -> str:
    if found["leakage"] is None:
        return "undefined: no room between floor and ceiling"
    low, high = found["leakage_interval"]
    most = found.get("max_leakage")
    more = f"; another attack {most:.2f}" if most is not None and most > found["leakage"] + 0.005 else ""
    return f"{found['leakage']:.2f} ({low:.2f}-{high:.2f}){more}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def main() -> None:
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    if not results:
        raise SystemExit(f"Found no results in {RESULTS}. Run a task first: python benchmarks/tasks/digits.py --scale small")
    PAGE.with_suffix(".part").write_text(page(results), encoding="utf-8")
    PAGE.with_suffix(".part").replace(PAGE)
    draw(results).savefig(PICTURE)
    print(f"Wrote {PAGE.relative_to(ROOT)} from {', '.join(results)}.")


if __name__ == "__main__":
    main()
