"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION
from keras_privpart.auditing.reporting import plots, text
from keras_privpart.auditing.scoring.intervals import LEAKAGE_LIMIT, WHAT_THE_INTERVAL_IS, Leakage, Score
from keras_privpart.errors import AuditError

if TYPE_CHECKING:
    from keras_privpart.auditing.reporting.report import AttackResult, AuditReport

_TEMPLATE = Path(__file__).with_name("report.html")


def render(report: AuditReport, *, pictures: bool = True) -> str:
    """The page as HTML, with nothing to load from elsewhere.

    Args:
        report: what to show.
        pictures: whether test images and reconstructions may be shown, where the report has them.

    Raises:
        AuditError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise AuditError("The report page needs Jinja2, which is not installed. Run: pip install 'keras_privpart[report]'") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        short=text.in_short(report),
        tone=max((_tone(report.strongest(kind).leakage) for kind in report.kinds), key=_TONES.index, default="undefined"),
        sections=[_section(report, kind) for kind in report.kinds],
        pictures=_picture_rows(report) if pictures else None,
        withheld=report.pictures is not None and not pictures,
        accuracies=[]
        if report.utilities and report.defended_accuracy is None
        else [("defended", report.defended_accuracy), ("undefended", report.reference_accuracy)],
        trade_offs=[(kind, plot) for kind in report.kinds if (plot := plots.trade_off(report, kind)) is not None],
        threat=_paragraphs(report.threat_model.describe()),
        interval=WHAT_THE_INTERVAL_IS,
    )


def png(image: np.ndarray) -> str:
    """An image `[h, w, c]` in [0, 1] as a PNG data URI; of other than 1, 3 or 4 channels, the first."""
    if image.shape[-1] not in (1, 3, 4):
        image = image[..., :1]
    data = tf.io.encode_png(np.round(np.clip(image, 0, 1) * 255).astype("uint8")).numpy()
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def _section(report: AuditReport, kind: str) -> dict[str, Any]:
    best = report.strongest(kind)
    scores = [name for name in text.SCORES if name in best.boundary]
    return {
        "kind": kind,
        "title": _title(report, kind, best),
        "verdict": text.verdict(report, kind),
        "tone": _tone(best.leakage),
        "score": text.SCORES.get(best.headline, best.headline),
        "beside": _beside(report, kind),
        "best": best,
        "max_leakage": report.max_leakage(kind),
        "rows": [_row(r, best, scores) for r in report.of(kind)],
        "scores": [text.SCORES.get(name, name) for name in scores],
        "curves": plots.curves(best),
        "confusions": plots.confusions(best),
    }


def _title(report: AuditReport, kind: str, best: AttackResult) -> str:
    if kind == RECONSTRUCTION:
        return "Reconstruction of the input"
    if kind.startswith(RECONSTRUCTION):
        return kind.capitalize()
    return kind.capitalize() if best.headline == "rank_1" else f"Inference of {text.attribute(report, kind)}"


def _beside(report: AuditReport, kind: str) -> list[tuple[str, str]]:
    """What stands beside the headline leakage: beyond the answer, above chance, and after more looks."""
    best = report.strongest(kind)
    found = [
        ("beyond the whole answer", best.beyond_answer),
        ("above chance", best.above_chance),
        *((f"after {k} looks", report.strongest(kind, k).leakage) for k in report.looks_of(kind)[1:]),
        *((f"after {k} near duplicates", report.strongest(kind, frames=True).leakage) for k in [report.frames_of(kind)] if k),
    ]
    return [(name, text.leakage_text(leakage)) for name, leakage in found if leakage is not None]


def _row(result: AttackResult, best: AttackResult, scores: list[str]) -> dict[str, Any]:
    sides = {"boundary": result.boundary, "floor": result.floor, "ceiling": result.ceiling}
    floors = {f"{name} (floor)": table for name, table in result.floors.items()}
    given = {"boundary": result.boundary, **floors, "undefended (ceiling)": result.ceiling}
    leakage = result.leakage
    bar = None
    if leakage.value is not None and leakage.low is not None and leakage.high is not None:
        bar = {name: f"{100 * getattr(leakage, name) / LEAKAGE_LIMIT:.2f}" for name in ("value", "low", "high")}
    name = result.headline
    headline = {side: text.score_text(name, table[name]) if name in table else "–" for side, table in sides.items()}
    if result.at_least:
        headline["boundary"] = f"≥ {headline['boundary']}"
    return {
        "attack": result.name,
        "strongest": result is best,
        "headline": headline,
        "floor_from": f"from the {result.floor_from}" if result.floors else "",
        "detail": [_detail(label, table, scores, name) for label, table in given.items() if table],
        "tone": _tone(leakage),
        "leakage": text.leakage_text(leakage) if result.ceiling else "not measured",
        "reason": leakage.reason,
        "bar": bar,
        "notes": [*result.notes, *text.replaced(result), *text.curve_words(result)],
    }


def _detail(label: str, table: Mapping[str, Score], scores: list[str], headline: str) -> dict[str, Any]:
    seeds = ", ".join(f"{value:.3f}" for value in table[headline].seeds)
    return {"given": label, "scores": [text.score_text(name, table[name]) if name in table else "" for name in scores], "seeds": seeds}


def _paragraphs(text: str) -> list[tuple[str, list[str]]]:
    """Lines, each with the list of `- ` lines that follow it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("- ") and found:
            found[-1][1].append(line[2:])
        else:
            found.append((line, []))
    return found


def _tone(leakage: Leakage) -> str:
    """Colour of a leakage, by the bounds of its wording."""
    if leakage.value is None or leakage.low is None or leakage.high is None or leakage.high - leakage.low > text.COARSE:
        return "undefined"
    return "low" if leakage.value < text.LITTLE else "mid" if leakage.value < text.MUCH else "high"


_TONES = ("low", "undefined", "mid", "high")  # the worst last


def _picture_rows(report: AuditReport) -> list[dict[str, Any]] | None:
    shown = report.pictures
    if shown is None:
        return None
    rows = (
        ("original", "Original", shown.original),
        ("undefended", "From an undefended boundary", shown.undefended),
        ("defended", "From the defended boundary", shown.defended),
        ("floor", "From the decision alone", shown.floor),
    )
    return [{"key": key, "label": label, "images": [png(image) for image in images]} for key, label, images in rows]
