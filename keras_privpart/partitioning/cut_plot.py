"""The picture of a cut table: what crosses, and what the device carries, along the depth of the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_privpart.errors import CutError, PrivPartError
from keras_privpart.partitioning.cutpoint import Cut

if TYPE_CHECKING:
    from keras_privpart.partitioning.cut_table import CutTable


def draw(table: CutTable, path: Path, mark: Cut | None) -> Path:
    """Writes the picture to `path`. Cuts of one tensor are dots, cuts of several are small crosses."""
    if not len(table):
        raise CutError("Received an empty table; expected at least one cut to draw. Loosen the filter.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PrivPartError("Plotting needs matplotlib, which is not installed. Run: pip install 'keras_privpart[report]'") from error
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    probed = any(c.leakage is not None for c in table)
    panels: list[Any] = list(figure.subplots(3 if probed else 2, 1, sharex=True))
    _bytes(panels[0], table)
    _shares(panels[1], table)
    if probed:
        known = [(c.depth, c.leakage) for c in table if c.leakage is not None]
        panels[2].plot(*zip(*known, strict=True), "o-", color="tab:red")
        panels[2].set(ylabel="leakage (quick probe)", ylim=(0, max(1.05, 1.05 * max(value for _, value in known))))
    for panel in panels:
        panel.grid(alpha=0.3)
        if mark is not None:
            panel.axvline(mark.depth, color="black", linestyle=":", label=f"{mark.address}" if panel is panels[0] else None)
    panels[0].legend()
    panels[-1].set_xlabel("share of the operations on the device")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _bytes(panel: Any, table: CutTable) -> None:
    single = [(c.depth, c.nbytes) for c in table if c.nbytes is not None and len(c.tensors) == 1]
    several = [(c.depth, c.nbytes) for c in table if c.nbytes is not None and len(c.tensors) > 1]
    for points, style, label in ((several, "x", "several tensors"), (single, "o", "one tensor")):
        if points:
            panel.plot(*zip(*points, strict=True), style, markersize=4, label=label)
    if table[0].input_bytes:
        panel.axhline(table[0].input_bytes, color="gray", linestyle="--", label="raw input")
    panel.set(yscale="log", ylabel="bytes per example")


def _shares(panel: Any, table: CutTable) -> None:
    depth = [c.depth for c in table]
    panel.plot(depth, [100 * c.device_share for c in table], label="parameters")
    work = [(c.depth, 100 * c.device_macs / (c.device_macs + c.server_macs)) for c in table if c.device_macs and c.server_macs]
    if work:
        panel.plot(*zip(*work, strict=True), label="multiply-adds")
    panel.set(ylabel="on the device, %")
    panel.legend()
