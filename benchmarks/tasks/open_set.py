"""The section of the results page on strangers' faces, from the row files that faces.py writes: one for each defence and split."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tables import table
from task import UNDEFENDED

PRIVATE = "Male"
PEOPLE_HEAD = """## faces: who of the enrolled it is, and the gender of strangers

Open set: {enrolled} people are enrolled (the task), {helpers} are helpers whom the defence may see, {strangers} are strangers; each
split deals them anew. A third of the strangers at a time are the victims, and the attackers have the pictures of the {others} other
people, of every group. The embedding network runs on the device; what crosses is its embedding, or what a defence leaves of it.
Settings were chosen on split 0.
Scores are means over the thirds and the splits, in brackets those of the lowest and the highest split; of all attacks the strongest
counts. *Identified at 5 % false alarms*: the rate at which the enrolled are named and above the threshold that 5 % of strangers pass.
The network was trained on other public sets of faces; an overlap with these people is unknown and likely.
Command: `python benchmarks/tasks/faces.py --network NETWORK --minutes N`.
"""

Row = Mapping[str, Any]


def read(folder: Path) -> list[Row]:
    """All rows, by split."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("faces/open_set/*.json")]
    return sorted(rows, key=lambda row: (row["split"], row["defence"]))


def section(rows: Sequence[Row]) -> str:
    """The setting, and a table with a line for each defence, the undefended first, then by what strangers' gender still shows."""
    by_defence: dict[str, list[Row]] = {}
    for row in rows:
        by_defence.setdefault(row["defence"], []).append(row)
    plain = {row["split"]: row for row in by_defence.get(UNDEFENDED, [])}
    kinds = dict.fromkeys(kind for row in rows for fold in row["folds"] for kind in fold["kinds"] if kind != PRIVATE)
    header = [
        *("defence", "splits", "identity", "drop, points", "identified at 5 % false alarms", "gender AUC", "floor: the decision alone"),
        *("leakage beyond the decision", "beyond the answer", *(_titled(kind, rows) for kind in kinds)),
    ]
    order = sorted(by_defence, key=lambda name: (name != UNDEFENDED, _mean(by_defence[name], _score(PRIVATE, "boundary"))))
    head = PEOPLE_HEAD.format(**rows[0]["people"])
    return "\n".join([head, table(header, (_line(by_defence[name], plain, list(kinds)) for name in order))])


def _line(rows: Sequence[Row], plain: Mapping[int, Row], kinds: Sequence[str]) -> list[str]:
    drops = [100 * (plain[row["split"]]["accuracy"] - row["accuracy"]) for row in rows if row["split"] in plain]
    return [
        rows[0]["defence"],
        str(len(rows)),
        f"{100 * _mean(rows, lambda row: row['accuracy']):.1f} %",
        f"{sum(drops) / len(drops) + 0.0:.1f}" if drops else "",
        f"{100 * _mean(rows, lambda row: row['detected_and_identified']):.1f} %",
        _ranged(rows, _score(PRIVATE, "boundary"), 3),
        f"{_mean(rows, _score(PRIVATE, 'floor')):.3f}",
        _ranged(rows, _score(PRIVATE, "leakage"), 2),
        _ranged(rows, _score(PRIVATE, "leakage_beyond_answer"), 2),
        *(f"{_mean(rows, _score(kind, 'boundary')):.3f}" for kind in kinds),
    ]


def _titled(kind: str, rows: Sequence[Row]) -> str:
    score = next(fold["kinds"][kind]["score"] for row in rows for fold in row["folds"] if kind in fold["kinds"])
    return f"{kind}: {score.replace('_', ' ')}"


def _score(kind: str, what: str) -> Callable[[Row], float | None]:
    """Of a row, the mean over its folds that have it: there is no leakage where floor and ceiling leave no room."""

    def mean(row: Row) -> float | None:
        found = [fold["kinds"][kind][what] for fold in row["folds"] if kind in fold["kinds"] and fold["kinds"][kind][what] is not None]
        return sum(found) / len(found) if found else None

    return mean


def _mean(rows: Sequence[Row], of: Callable[[Row], float | None]) -> float:
    found = [value for value in map(of, rows) if value is not None]
    return sum(found) / len(found) if found else math.nan


def _ranged(rows: Sequence[Row], of: Callable[[Row], float | None], digits: int) -> str:
    found = [value for value in map(of, rows) if value is not None]
    if not found:
        return "undefined"
    return f"{sum(found) / len(found):.{digits}f}" + (f" ({min(found):.{digits}f}-{max(found):.{digits}f})" if len(found) > 1 else "")
