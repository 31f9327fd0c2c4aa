"""What a sweep found: a row per setting, averaged over its seeds, with the privacy-utility front; as JSON, Markdown and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_privpart import atomic

from .sweep_jobs import Result

_SCHEMA = 1
_COLUMNS = ("accuracy", "undefended", "attack", "floor", "ceiling", "leakage")
_HEADER = (
    "setting",
    "cut",
    "channel",
    "regularizers",
    "weights",
    "task accuracy",
    "undefended",
    "strongest attack",
    "floor",
    "ceiling",
    "leakage",
    "seeds",
    "front",
)


@dataclass(frozen=True)
class Mean:
    """A mean over models trained with different seeds, and half of its 95 % interval (Student's t); None with one model."""

    value: float
    half: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Over the models."""
        from scipy.stats import t

        n, mean = len(values), sum(values) / len(values)
        if n == 1:
            return cls(mean, None)
        variance = sum((v - mean) ** 2 for v in values) / (n - 1)
        return cls(mean, float(t.ppf(0.975, n - 1)) * (variance / n) ** 0.5)

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.half is None else f"{self.value:.3f} ± {self.half:.3f}"


@dataclass(frozen=True)
class Row:
    """One setting and one thing that attackers were after.

    Attributes:
        number: of the setting, from 0.
        setting: as `sweep_jobs.Setting`, without the seed.
        kind: "reconstruction", or a private attribute.
        score: what attack, floor and ceiling are measured in.
        means: of `accuracy`, `undefended`, `attack`, `floor`, `ceiling` and, where it is defined for every seed, `leakage`.
        seeds: models.
        front: whether no other setting has both higher accuracy and lower leakage (the larger over kinds).
        runs: the run folders.
    """

    number: int
    setting: dict[str, Any]
    kind: str
    score: str
    means: dict[str, Mean]
    seeds: int
    front: bool
    runs: tuple[str, ...]

    def cells(self) -> list[str]:
        """As the Markdown table has it."""
        defence = self.setting["defence"]
        at = "+".join(self.setting["at"]) or "advised"
        narrow = f", {self.setting['bottleneck']} features per {self.setting['bottleneck_over']}" if self.setting["bottleneck"] else ""
        means = [str(self.means[c]) if c in self.means else "undefined" for c in _COLUMNS]
        means[2] = f"{means[2]} ({self.kind}, {self.score})"
        parts = [
            defence["channel"] or "none",
            ", ".join(defence["regularizer"]) or "none",
            f"{defence['reconstruction']:g} / {defence['attribute']:g}",
        ]
        if defence.get("recipe"):
            parts = [f"recipe {defence['recipe']}", "", ""]
        return [
            str(self.number),
            at + narrow,
            *parts,
            *means,
            str(self.seeds),
            "yes" if self.front else "",
        ]


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Results of jobs, grouped by setting and averaged over seeds."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(json.dumps({**result["setting"], "seed": None}, sort_keys=True), []).append(result)
    points = [_point(group) for group in groups.values()]
    found = []
    for number, group in enumerate(groups.values()):
        front = points[number] is not None and not any(_better(other, points[number]) for other in points)
        for kind in group[0]["kinds"]:
            facts = [r["kinds"][kind] for r in group]
            setting = {k: v for k, v in group[0]["setting"].items() if k != "seed"}
            runs = tuple(r["run"] for r in group)
            found.append(Row(number, setting, kind, facts[0]["score"], _means(group, facts), len(group), front, runs))
    return found


def _means(group: Sequence[Result], facts: Sequence[dict[str, Any]]) -> dict[str, Mean]:
    values = {
        "accuracy": [r["task_accuracy"]["defended"] for r in group],
        "undefended": [r["task_accuracy"]["reference"] for r in group],
        "attack": [f["boundary"] for f in facts],
        **{name: [f[name] for f in facts] for name in ("floor", "ceiling", "leakage")},
    }
    return {name: Mean.of(found) for name, found in values.items() if None not in found}


def _point(group: Sequence[Result]) -> tuple[float, float] | None:
    """Mean accuracy, and mean leakage of what leaks most; None where no leakage is defined."""
    leakages = [[r["kinds"][kind]["leakage"] for r in group] for kind in group[0]["kinds"]]
    means = [sum(values) / len(values) for values in leakages if None not in values]
    accuracies = [r["task_accuracy"]["defended"] for r in group]
    return (sum(accuracies) / len(accuracies), max(means)) if means and None not in accuracies else None


def _better(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    return a is not None and b is not None and a != b and a[0] >= b[0] and a[1] <= b[1]


def to_markdown(rows: Sequence[Row], command: str) -> str:
    """The table, with what it says and how it was made."""
    lines = [
        "# Sweep",
        "",
        f"Made by `{command}`.",
        "",
        "Mean over models trained from different seeds, with a 95 % interval (Student's t) where there are several. Leakage is "
        "(attack - floor) / (ceiling - floor) of the strongest fresh attacker. Weights are those of the reconstruction and attribute "
        "adversaries. Front: no other setting has both higher accuracy and lower leakage; with few seeds neighbours may change places.",
        "",
        "| " + " | ".join(_HEADER) + " |",
        "|" + "---|" * len(_HEADER),
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Row], out: Path, command: str) -> list[Path]:
    """Writes `results.json`, `results.md` and, where matplotlib is installed, `front.png`; the paths of what was written."""
    body = {"schema": _SCHEMA, "command": command, "rows": [asdict(row) for row in rows]}
    texts = {"results.json": json.dumps(body, indent=2) + "\n", "results.md": to_markdown(rows, command)}
    written = []
    for name, text in texts.items():
        atomic.write_text(out / name, text)
        written.append(out / name)
    return [*written, *plot(rows, out / "front.png")]


def plot(rows: Sequence[Row], path: Path) -> list[Path]:
    """Accuracy against leakage, the front as a line; nothing where matplotlib is missing or no leakage is defined."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return []
    worst: dict[int, Row] = {}
    for row in rows:
        if "leakage" in row.means and "accuracy" in row.means:
            known = worst.get(row.number)
            if known is None or row.means["leakage"].value > known.means["leakage"].value:
                worst[row.number] = row
    if not worst:
        return []
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for number, row in worst.items():
        x, y = row.means["leakage"], row.means["accuracy"]
        colour = "tab:blue" if row.front else "tab:gray"
        axes.errorbar(x.value, y.value, xerr=x.half or 0, yerr=y.half or 0, fmt="o", color=colour, capsize=3)
        axes.annotate(str(number), (x.value, y.value), xytext=(5, 5), textcoords="offset points")
    line = sorted((r.means["leakage"].value, r.means["accuracy"].value) for r in worst.values() if r.front)
    axes.plot(*zip(*line, strict=True), color="tab:blue", alpha=0.5, label="front")
    axes.set(xlabel="leakage of the strongest fresh attacker (0: nothing beyond the answer)", ylabel="task accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    return [path]
