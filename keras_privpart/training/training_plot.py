"""A picture of a training: the task, the adversaries, the monitor's fresh ones, an epoch per step. Needs the extra `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_privpart.errors import TrainingError

_PANELS = (
    ("Task", "score", ("accuracy", "privacy_utility")),
    ("Loss of the task", "loss", ("loss",)),
    ("Share recovered", "0 nothing, 1 all", ("_recovered",)),
    ("Fresh adversaries", "share or leakage", ("privacy_",)),
)


def plot_history(history: Any, path: str | Path) -> Path:
    """Draws the logs of `fit` into a PNG file.

    Args:
        history: what `fit` returned, or its `history`: a list of numbers, one per epoch, by name. `val_` figures
            are dashed, with hollow marks.
        path: of the picture, such as `"training.png"`.

    Returns:
        The path.

    Raises:
        TrainingError: an empty history, or matplotlib is not installed.
    """
    logs: Mapping[str, Sequence[float]] = history if isinstance(history, Mapping) else history.history
    panels = [(title, label, names) for title, label, ends in _PANELS if (names := _matching(logs, ends))]
    if not panels:
        raise TrainingError(f"Received a history with {sorted(logs) or 'nothing'}; expected what fit returned. Train an epoch first.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise TrainingError("Plots need matplotlib, which is not installed; pip install 'keras_privpart[report]'.") from error
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, label, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        colours: dict[str, str] = {}
        for name in names:
            bare = name.removeprefix("val_")
            colour = colours.setdefault(bare, f"C{len(colours)}")
            style, inside = ("-", colour) if name == bare else ("--", "white")
            marks = {"marker": "o", "markersize": 5, "markerfacecolor": inside}
            axes.plot(range(1, len(logs[name]) + 1), logs[name], style, color=colour, label=name, **marks)
        epochs = max(len(logs[name]) for name in names)
        axes.set(title=title, xlabel="epoch", ylabel=label, xlim=(0.5, epochs + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120, format="png")
    return target


def _matching(logs: Mapping[str, Any], patterns: Sequence[str]) -> list[str]:
    """Names of the logs of a panel: exactly named, ending in `_x`, or beginning with `x_`."""

    def fits(name: str, pattern: str) -> bool:
        if pattern.startswith("_"):
            return name.endswith(pattern)
        return name.startswith(pattern) and name != "privacy_utility" if pattern.endswith("_") else name == pattern

    return [name for name in logs if any(fits(name.removeprefix("val_"), p) for p in patterns)]
