"""Figures of the page as coordinates: the page draws them as SVG in its own colours, which follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_privpart.auditing.reporting import text

if TYPE_CHECKING:
    from keras_privpart.auditing.reporting.report import AttackResult, AuditReport
    from keras_privpart.auditing.scoring.intervals import Score

WIDTH, HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 40
SIDES = (("ceiling", "undefended"), ("boundary", "defended"), ("floor", "decision alone"))


def trade_off(report: AuditReport, kind: str) -> dict[str, Any] | None:
    """Task accuracy (x) against the strongest attack's score (y): undefended, defended, the floor as a line; None without accuracy."""
    best = report.strongest(kind)
    name = best.headline
    if report.defended_accuracy is None or report.reference_accuracy is None or not best.ceiling:
        return None
    shown = [("undefended", report.reference_accuracy, best.ceiling[name]), ("defended", report.defended_accuracy, best.boundary[name])]
    floor = best.floor[name]
    x_axis = _Axis.around([v for _, accuracy, _ in shown for v in (accuracy.low, accuracy.high)], _LEFT, WIDTH - _RIGHT)
    y_axis = _Axis.around([v for s in (floor, *(s for *_, s in shown)) for v in (s.low, s.high)], HEIGHT - _BOTTOM, _TOP)
    return {
        "score": text.SCORES.get(name, name),
        "points": [_point(label, accuracy, score, x_axis, y_axis) for label, accuracy, score in shown],
        "floor": y_axis.at(floor.value),
        "x_ticks": [(x_axis.at(v), f"{100 * v:.{x_axis.places(-2)}f} %") for v in x_axis.ticks],
        "y_ticks": [(y_axis.at(v), f"{v:.{y_axis.places()}f}") for v in y_axis.ticks],
    }


def curves(result: AttackResult) -> list[dict[str, str]]:
    """ROC curves as SVG points in a square of 0 to 200, down being 0: undefended, defended, from the answer alone."""
    found = []
    for side, label in SIDES:
        roc = result.readings[side].roc if side in result.readings else ()
        if roc:
            points = " ".join(f"{200 * x:.1f},{200 * (1 - y):.1f}" for x, y in roc)
            found.append({"side": side, "label": label, "points": points})
    return found


def confusions(result: AttackResult) -> list[dict[str, Any]]:
    """Confusion matrices in per cent."""
    sides = [(label, result.readings[side].confusion) for side, label in SIDES if side in result.readings]
    return [{"label": label, "rows": [[round(100 * share) for share in row] for row in matrix]} for label, matrix in sides if matrix]


class _Axis:
    """A linear axis from pixel `start` to pixel `end`, with a few round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._high, self._start, self._end = low, high, start, end
        rough = (high - low) / 4
        power = 10 ** math.floor(math.log10(rough))
        self._step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first = math.ceil(low / self._step - 1e-9)
        self.ticks = [i * self._step for i in range(first, first + 12) if i * self._step <= high + 1e-9]

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        """With a margin around the values, never narrower than 0.04."""
        finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        margin = max(0.12 * (high - low), 0.02)
        return cls(low - margin, high + margin, start, end)

    def at(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)

    def places(self, shift: int = 0) -> int:
        """Decimals that tell the ticks apart, of values times ten to the power of minus `shift`."""
        return max(0, -math.floor(math.log10(self._step) + 1e-9) + shift)


def _point(label: str, accuracy: Score, score: Score, x_axis: _Axis, y_axis: _Axis) -> dict[str, Any]:
    x, y = ({name: axis.at(getattr(s, name)) for name in ("value", "low", "high")} for axis, s in ((x_axis, accuracy), (y_axis, score)))
    return {"label": label, "x": x, "y": y, "left": x["value"] > WIDTH / 2}
