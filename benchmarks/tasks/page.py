"""Writes docs/results.md and its pictures from the row files of benchmarks/results/tasks/.

python benchmarks/tasks/page.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_set
from tables import table
from task import OURS, SHORT, UNDEFENDED
from yardsticks import PUBLISHED

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "tasks"
PAGE = ROOT / "docs" / "results.md"
PICTURE = ROOT / "docs" / "images" / "results.png"
SHARES = PICTURE.with_name("device_share.png")
MARKERS = "os^vD*PX<>"
PICTURES, IN_CLASS = "reconstruction", "re-identification in the class"
LOOKS = "16"

HEAD = """# Results

Made by `python benchmarks/tasks/page.py` from the row files in `benchmarks/results/tasks/`, those by
`python benchmarks/tasks/TASK.py --minutes N`, which goes on where its files end. What is not there has not been run.

How to read the tables. Every number about privacy comes from fresh attackers on the frozen device half, given more effort until more
gained nothing, or up to the limit of the run; of all attacks of a kind the strongest counts. *Leakage* is (attack - floor) / (ceiling -
floor) of the score, where the floor is the same attack on the decision alone, the class that the server names, and the ceiling the same
on an undefended boundary: 0 is nothing beyond the decision, 1 as much as without a defence; in brackets a 95 % interval, after the
semicolon the leakage beyond all that the server half answers. *16 looks*: the same picture sent sixteen times, which averages fresh noise
out. *Named among 100*: how often an attacker who knows the device half names the picture that was sent among a hundred of its class;
chance is 1 %. *Bits* are those that cross beyond the class: estimated at least, and at most by the covariance bound, for any attacker;
where both are near, they may pass each other by their sampling error. "At least" before a number: more effort would still have gained
something. *Short* beside the attack: only the kernel posterior, linkage, computed properties and one decoder attacked this row, once
each, and a stronger attacker may find more; the rows without it met all standard attacks, with updates doubled until no gain, and ours on
digits a search for each picture through the device's weights, from noise. *On the device*: share of the undefended network's
multiply-adds. Peers' rows are their ideas made of this library's parts: not the authors' code, and not their figures. Settings of ours
were chosen on training pictures that no model of a row trains on (digits: eleven settings, 6,000 pictures; objects: those of digits; how
the bottleneck starts was changed after trainings had collapsed, which their test accuracy showed, and chosen on training pictures); those
of peers are the defaults of `kp.recipes`, untuned. On objects ours goes on from the undefended network for six epochs. *On a small
device* the undefended row is a smaller network, distilled from the first; what it loses and computes is held against the first.
"""

YARDSTICKS = """Published figures of other work, undefended (u) and defended (d). Their networks, data, splits and attackers differ from
ours and from each other's, and most give neither floor nor interval: they show the range, and are not to be read as rows of the table
above.
"""

IMAGE = "![Leakage of the picture after one look and after sixteen, against what the task loses](images/results.png)\n"
SHARE_IMAGE = "![Leakage of the picture against the share of the work that is done on the device](images/device_share.png)\n"

Row = Mapping[str, Any]


def page(runs: Mapping[str, Sequence[Row]], people: Sequence[Row] = ()) -> str:
    """The page, of rows by task and scale, and of the rows of the open-set task by split of the people."""
    parts = [HEAD, *([IMAGE] if runs else []), *([SHARE_IMAGE] if at_several_cuts(runs) else [])]
    for task, published in PUBLISHED.items():
        sections = [section(rows) for rows in of_task(runs, task)]
        if task == "faces" and people:
            sections.append(open_set.section(people))
        parts += sections or [f"## {task}\n\nNot run yet.\n"]
        parts += [YARDSTICKS, table(("work", "data, cut", "task", "attacker"), published)]
    return "\n".join(parts)


def of_task(runs: Mapping[str, Sequence[Row]], task: str) -> list[Sequence[Row]]:
    """The runs of a task, and of the same on a small device."""
    return [rows for rows in runs.values() if rows[0]["task"].startswith(task)]


def section(rows: Sequence[Row]) -> str:
    """One task at one scale: a table of what leaks of the picture, and one for everything else that was attacked."""
    lines = [f"## {rows[0]['title']}", "", _setting(rows[0]), ""]
    header = (
        "cut",
        "defence",
        "task accuracy",
        "drop, points",
        "SSIM",
        "floor",
        "ceiling",
        "leakage, one look",
        "16 looks",
        "named among 100: one look / 16",
        "bits beyond the class",
        "strongest decoder",
        "on the device",
        "training, processor s",
    )
    lines.append(table(header, (_row(row) for row in rows if PICTURES in row["summary"]["kinds"])))
    lines += _parts(rows)
    kinds = dict.fromkeys(kind for row in rows for kind in row["summary"]["kinds"] if kind != PICTURES and "re-ident" not in kind)
    for kind in kinds:
        found = [row for row in rows if kind in row["summary"]["kinds"]]
        score = found[0]["summary"]["kinds"][kind]["score"].replace("_", " ")
        header = (
            "cut",
            "defence",
            "task accuracy",
            f"strongest attack's {score}",
            "floor",
            "ceiling",
            "leakage, one look",
            "16 looks",
            "attack",
        )
        lines += [f"**{kind}**", "", table(header, (_attribute(row, kind) for row in found))]
    return "\n".join(lines)


def own_cut(rows: Sequence[Row]) -> str:
    """The task's own cut: where our recipe met all attacks; of rows that all met few, the first one's."""
    return next((row["cut"] for row in rows if row["defence"] == OURS and not _short(row)), rows[0]["cut"])


def _short(row: Row) -> bool:
    return row["settings"].get("attacks") == list(SHORT)


def _parts(rows: Sequence[Row]) -> list[str]:
    """What each part of our recipe is worth: the rows without one, beside the whole."""
    rows = [row for row in rows if row["cut"] == own_cut(rows)]
    ours = next((row for row in rows if row["defence"] == OURS), None)
    without = [row for row in rows if "(ours without" in row["defence"]]
    if ours is None or not without:
        return []

    def cells(row: Row) -> Sequence[str]:
        found, named = row["summary"]["kinds"][PICTURES], row["summary"]["kinds"][IN_CLASS]
        looks = _after_looks(found, lambda more: _number(more["leakage"], 2), row["summary"])
        name = "ours" if row is ours else row["defence"].partition("(ours ")[2].rstrip(")")
        points = "" if row is ours else f"{round(100 * (row['accuracy'] - ours['accuracy']), 1) + 0.0:+.1f}"  # no -0.0
        again = _after_looks(named, _percent, row["summary"])
        return (name, points, _number(found["leakage"], 2), looks, f"{_percent(named)} / {again}", _bits(row["summary"]["bits"]))

    header = ("recipe", "accuracy against ours, points", "leakage, one look", "16 looks", "named among 100: one look / 16", "bits")
    return ["**what each part of the recipe is worth**", "", table(header, map(cells, [ours, *without]))]


def draw(runs: Mapping[str, Sequence[Row]]) -> Any:
    """The figure: for every run, leakage of the picture against the task's loss of accuracy, at the task's own cut."""

    def drop(row: Row) -> float:
        return 100 * (row["undefended_accuracy"] - row["accuracy"])

    own = {name: [row for row in rows if row["cut"] == own_cut(rows)] for name, rows in runs.items()}
    return _scatter(own, drop, "accuracy lost, points")


def draw_shares(runs: Mapping[str, Sequence[Row]]) -> Any:
    """The figure: the same against the share of the multiply-adds that run on the device, of what stands at several cuts."""
    found = at_several_cuts(runs)
    return _scatter(found, lambda row: 100 * row["device_share"], "multiply-adds on the device, %", accuracy=True) if found else None


def at_several_cuts(runs: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """Undefended rows and ours by task, where they stand behind several cuts or on a small device too."""
    wanted = {task: [row for rows in of_task(runs, task) for row in rows if row["defence"] in (UNDEFENDED, OURS)] for task in PUBLISHED}
    return {task: rows for task, rows in wanted.items() if len({row["cut"] for row in rows}) > 1}


def _scatter(runs: Mapping[str, Sequence[Row]], x: Callable[[Row], float], label: str, accuracy: bool = False) -> Any:
    """Leakage of the picture, a panel for each run: filled after one look, hollow after 16; with the task's accuracy where it is asked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6, 4 * len(runs)), 5.2), dpi=120, layout="constrained")
    known: dict[str, int] = {}
    shown: dict[str, Any] = {}
    for axes, rows in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs.values(), strict=True):
        places = [x(row) for row in rows]
        margin = 0.08 * (max(0, *places) - min(0, *places)) + 0.1
        axes.set_xlim(min(0, *places) - margin, max(0, *places) + margin)
        for row, place in zip(rows, places, strict=True):
            found = row["summary"]["kinds"].get(PICTURES)
            if found is None or found["leakage"] is None:
                continue
            i = known.setdefault(row["defence"], len(known))
            style = {"color": f"C{i % 10}", "marker": MARKERS[i % len(MARKERS)]}
            after = found["looks"].get(LOOKS, {}).get("leakage")
            if after is not None:
                axes.plot([place, place], [found["leakage"], after], color=style["color"], linewidth=0.8, alpha=0.6)
                axes.plot([place], [after], linestyle="none", markerfacecolor="none", **style)
            if accuracy:
                place_of = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": "x-small"}
                axes.annotate(f"{100 * row['accuracy']:.1f} %", (place, max(found["leakage"], after or 0)), **place_of)
            (shown[row["defence"]],) = axes.plot([place], [found["leakage"]], linestyle="none", label=row["defence"], **style)
        axes.set(title=rows[0]["task"].replace("_", " "), xlabel=label, ylabel="leakage beyond the decision", ylim=(-0.05, 1.1))
        axes.grid(alpha=0.3)
    title = "filled: one look; hollow: the same picture sent 16 times" + ("; %: accuracy of the task" if accuracy else "")
    figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=1, frameon=False, fontsize="small", title=title)
    return figure


def _setting(row: Row) -> str:
    settings, summary = row["settings"], row["summary"]
    many = "1 trained model a row" if settings["seeds"] == 1 else f"{settings['seeds']} trained models of ours and undefended, else 1"
    return (
        f"Scale `{row['scale']}`: {row['train']:,} training examples, {settings['epochs']} epochs, task accuracy of {row['test']:,} test "
        f"examples; attackers know {summary['examples']:,} examples and attack {summary['victims']:,}; {many}. "
        f"Command: `python benchmarks/tasks/{row['task']}.py --scale {row['scale']}`."
    )


def _row(row: Row) -> Sequence[str]:
    summary = row["summary"]
    found, named = summary["kinds"][PICTURES], summary["kinds"].get(IN_CLASS)
    drop = f"{round(100 * (row['undefended_accuracy'] - row['accuracy']), 1) + 0.0:.1f}"  # no -0.0
    return (
        f"`{row['cut']}`",
        row["defence"],
        f"{100 * row['accuracy']:.1f} %",
        drop,
        f"{_at_least(found)}{found['boundary']:.3f}",
        _number(found["floor"]),
        _number(found["ceiling"]),
        _leakage(found),
        _after_looks(found, lambda more: f"{_at_least(more)}{_number(more['leakage'], 2)} (SSIM {more['boundary']:.3f})", summary),
        "not tested" if named is None else f"{_percent(named)} / {_after_looks(named, _percent, summary)}",
        _bits(summary["bits"]),
        found["attack"] + (" (short)" if _short(row) else ""),
        "" if row["device_share"] is None else f"{100 * row['device_share']:.0f} %",
        _seconds(row["train_seconds"]),
    )


def _attribute(row: Row, kind: str) -> Sequence[str]:
    summary = row["summary"]
    found = summary["kinds"][kind]
    return (
        f"`{row['cut']}`",
        row["defence"],
        f"{100 * row['accuracy']:.1f} %",
        f"{_at_least(found)}{found['boundary']:.3f}",
        _number(found["floor"]),
        _number(found["ceiling"]),
        _leakage(found),
        _after_looks(found, lambda more: f"{more['boundary']:.3f}", summary),
        found["attack"],
    )


def _seconds(found: Sequence[float | None]) -> str:
    """Of the first model that was trained without a stop."""
    return next((f"{seconds:.0f}" for seconds in found if seconds is not None), "")


def _after_looks(found: Mapping[str, Any], words: Any, summary: Mapping[str, Any]) -> str:
    if summary["more_looks"] == "show no more":
        near = found.get("frames", {}).get(LOOKS)  # what frozen noise lets through all the same
        return "the same" if near is None else f"the same; {LOOKS} near duplicates {words(near)}"
    more = found["looks"].get(LOOKS)
    return "not tested" if more is None else words(more)


def _leakage(found: Mapping[str, Any]) -> str:
    if found["leakage"] is None:
        return "undefined: no room between floor and ceiling"
    low, high = found["leakage_interval"]
    answer = found["leakage_beyond_answer"]
    beyond = "" if answer is None else f"; {answer:.2f}"
    return f"{_at_least(found)}{found['leakage']:.2f} ({low:.2f}-{high:.2f}){beyond}"


def _at_least(found: Mapping[str, Any]) -> str:
    return "at least " if found["at_least"] else ""


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(found: Mapping[str, Any]) -> str:
    return f"{100 * found['boundary']:.0f} %"


def _bits(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "no bound"
    one = found["1"]
    return f"{one['at_least']:.1f} to {one['at_most']:.1f}" if one["at_most"] is not None else f"at least {one['at_least']:.1f}"


def read(folder: Path) -> dict[str, list[Row]]:
    """Rows by task and scale, undefended first, then ours."""
    runs: dict[str, list[Row]] = {}
    for path in sorted(folder.glob("*/*/rows/*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        runs.setdefault(f"{row['task']}-{row['scale']}", []).append(row)
    first = {UNDEFENDED: 0, OURS: 1}
    return {name: sorted(rows, key=lambda row: (first.get(row["defence"], 2), row["defence"])) for name, rows in runs.items()}


def main() -> None:
    runs, people = read(RESULTS), open_set.read(RESULTS)
    if not runs and not people:
        raise SystemExit(f"Found no results in {RESULTS}. Run a task first: python benchmarks/tasks/digits.py --scale small")
    PAGE.with_suffix(".part").write_text(page(runs, people), encoding="utf-8")
    PAGE.with_suffix(".part").replace(PAGE)
    if runs:
        draw(runs).savefig(PICTURE)
    shares = draw_shares(runs)
    if shares is not None:
        shares.savefig(SHARES)
    counts = {**{name: len(rows) for name, rows in runs.items()}, "faces": len(people)}
    print(f"Wrote {PAGE.relative_to(ROOT)} from {', '.join(f'{name} ({count} rows)' for name, count in counts.items())}.")


if __name__ == "__main__":
    main()
