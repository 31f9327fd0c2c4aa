"""`CutTable`: the cuts of a model, to sort, filter, choose from, print and plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from keras_privpart.contract import larger_than_raw
from keras_privpart.errors import CutError
from keras_privpart.partitioning.cutpoint import Cut
from keras_privpart.partitioning.latency import DEVICE_SPEED, SERVER_SPEED, Conditions, bytes_per_second
from keras_privpart.readable import Readable, aligned, html, html_table

DEVICE_SHARE, LARGER_SHARE = 0.1, 0.5


@dataclass(frozen=True, repr=False)
class CutTable(Sequence[Cut], Readable):
    """Cuts of one model, in topological order unless sorted otherwise. Filters and sorts return new tables."""

    rows: tuple[Cut, ...]

    @overload
    def __getitem__(self, index: int) -> Cut: ...
    @overload
    def __getitem__(self, index: slice) -> CutTable: ...
    def __getitem__(self, index: int | slice) -> Cut | CutTable:
        return CutTable(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def sort(self, by: str = "nbytes", *, reverse: bool = False) -> CutTable:
        """The rows in the order of one of the figures of `Cut`, such as `nbytes` or `device_macs`; unknown figures last."""
        known, unknown = [c for c in self.rows if _figure(c, by) is not None], [c for c in self.rows if _figure(c, by) is None]
        return CutTable((*sorted(known, key=lambda c: _figure(c, by) or 0, reverse=reverse), *unknown))

    def filter(
        self,
        *,
        max_bytes: float | None = None,
        max_device_macs: float | None = None,
        max_device_params: float | None = None,
        max_device_share: float | None = None,
        max_latency: float | None = None,
        max_leakage: float | None = None,
        max_tensors: int | None = None,
    ) -> CutTable:
        """The rows within all limits that are given. A figure that is unknown is within no limit.

        Args:
            max_bytes: bytes that cross for one example, as the model computes them.
            max_device_macs: multiply-adds of the device half for one example.
            max_device_params: numbers held by the device half.
            max_device_share: the same as a share of those on both sides, 0 to 1.
            max_latency: measured seconds of both halves for one example, the network left out.
            max_leakage: what the probe found.
            max_tensors: tensors that cross, masks left out.

        Raises:
            CutError: a limit on something that no row was measured for.
        """
        limits: list[tuple[Callable[[Cut], float | None], float | None, str]] = [
            (lambda c: c.nbytes, max_bytes, ""),
            (lambda c: c.device_macs, max_device_macs, ""),
            (lambda c: c.device_params, max_device_params, ""),
            (lambda c: c.device_share, max_device_share, ""),
            (lambda c: c.seconds, max_latency, "measure=True"),
            (lambda c: c.leakage, max_leakage, "probe=..."),
            (lambda c: len(c.tensors), max_tensors, ""),
        ]
        rows = list(self.rows)
        for figure, limit, needs in limits:
            if limit is None:
                continue
            if needs and all(figure(c) is None for c in self.rows):
                raise CutError(f"Received a limit on something that was not measured; expected a table made with cuts(model, {needs}).")
            rows = [c for c in rows if (value := figure(c)) is not None and value <= limit]
        return CutTable(tuple(rows))

    def pareto(self, *by: str) -> CutTable:
        """The rows that no other row beats: none is as good in every figure and better in one. Small is good.

        Args:
            by: figures of `Cut`; `nbytes` and `device_macs` if none is named. Rows that lack one are left out. Of rows with the
                same figures the first stays.
        """
        names = by or ("nbytes", "device_macs")
        scored: list[tuple[tuple[float, ...], Cut]] = []
        for cut in self.rows:
            figures = [_figure(cut, name) for name in names]
            if all(f is not None for f in figures):
                scored.append((tuple(f for f in figures if f is not None), cut))
        front: list[tuple[tuple[float, ...], Cut]] = []
        for score, cut in sorted(scored, key=lambda pair: pair[0]):
            # In this order a row can be beaten only by one that is in the front already.
            if not any(all(a <= b for a, b in zip(better, score, strict=True)) for better, _ in front):
                front.append((score, cut))
        kept = {id(cut) for _, cut in front}
        return CutTable(tuple(c for c in self.rows if id(c) in kept))

    def choose(self, max_device_share: float | None = None, *, device_budget: float | None = None) -> Cut:
        """The advisor's choice: the cut with the fewest bytes to send whose device half holds at most a tenth of the parameters.

        The rule, in full:

        1. Cuts whose device half has no trainable weight (only rescaling, reshaping and the like) are set aside: such a half
           is a fixed transformation that protects nothing. They come back only when there are no others.
        2. Of the rest, those count whose device half holds at most `max_device_share` of the parameters. When there is none,
           those with the smallest share count. A `device_budget` takes the place of this limit. Where the limit is not the caller's and
           no such cut sends less than the raw input, those that do and hold at most half of the parameters count instead.
        3. The fewest boundary bytes for one example win, in the dtype that the model computes; a boundary of unknown size comes
           after all known ones. Among equals the one nearest to the inputs wins.

        Args:
            max_device_share: parameters on the device as a share of those on both sides, 0 to 1; a tenth by default.
            device_budget: multiply-adds that the device may spend on one example.

        Returns:
            The cut, with `reason` filled in.

        Raises:
            CutError: the table is empty, or no cut is within the budget.
        """
        trained = self._trained()
        share = DEVICE_SHARE if max_device_share is None else max_device_share
        if device_budget is not None:
            pool = _within(trained, device_budget)
            reason = f"{_fewest(pool)} with at most {device_budget:,.0f} multiply-adds on the device"
        elif small := [c for c in trained if c.device_share <= share]:
            pool, most = small, share
            less = [c for c in trained if c.device_share <= LARGER_SHARE and _is_smaller(c)]
            if max_device_share is None and less and not any(map(_is_smaller, small)):
                pool, most = less, LARGER_SHARE
            reason = f"{_fewest(pool)} with at most {most:.0%} of the parameters on the device"
            reason += ", as smaller ones send more than the raw input" if pool is less else ""
        else:
            smallest = min(c.device_share for c in trained)
            pool = [c for c in trained if c.device_share == smallest]
            reason = f"no cut leaves at most {share:.0%} of the parameters on the device; this one leaves the fewest"
        best = min(pool, key=lambda c: (c.nbytes is None, c.nbytes or 0, c.index))
        larger = larger_than_raw(best.nbytes, best.input_bytes)
        return replace(best, reason=f"{reason}; it sends {best.nbytes:,} bytes, {larger}" if larger else reason)

    def fastest(
        self,
        network: str,
        *,
        device_budget: float | None = None,
        device_speed: float = DEVICE_SPEED,
        server_speed: float = SERVER_SPEED,
    ) -> Cut:
        """The cut with the shortest estimated time from input to output (see `Conditions.seconds`).

        In a table with measured times only the measured cuts compete. Cuts without a trainable weight on the device are set aside, as in
        `choose`; among equals the one nearest to the inputs wins.

        Args:
            network: its speed, such as `"10Mbit/s"`.
            device_budget: multiply-adds that the device may spend on one example.
            device_speed, server_speed: multiply-adds a second, for cuts that were not measured.

        Raises:
            CutError: no cut is within the budget, or no cut's time can be estimated because of free dimensions.
        """
        conditions = Conditions(bytes_per_second(network), device_speed, server_speed)
        pool = self._trained() if device_budget is None else _within(self._trained(), device_budget)
        measured = [c for c in pool if c.seconds is not None]  # these are not to be compared with estimates
        timed = [(seconds, c) for c in measured or pool if (seconds := conditions.seconds(c)) is not None]
        if not timed:
            raise CutError(
                "Received a model whose sizes depend on free dimensions; expected known shapes to estimate times from. "
                "Build the model with fixed input shapes, or choose a cut with at=..."
            )
        seconds, best = min(timed, key=lambda pair: (pair[0], pair[1].index))
        return replace(best, reason=f"shortest estimated time of {len(timed)} cuts at {network}: {1e3 * seconds:.3g} ms")

    def words(self) -> str:
        """The table for a terminal, and the advisor's choice."""
        return "\n".join([*aligned(self._cells()), "", self._advice()])

    def _repr_html_(self) -> str:
        return f"{html_table(self._cells())}\n{html(self._advice())}"

    def _advice(self) -> str:
        if not self.rows:
            return "No cut: loosen the filter; without one, no cut divides this model."
        choice = self.choose()
        return f"The advisor's choice: {choice.index}, {choice.address}: {choice.reason}."

    def to_markdown(self) -> str:
        """The table in Markdown, one row per cut; sizes are for one example. Figures that were not asked for have no column."""
        heading, *body = self._cells()
        return "".join("| " + " | ".join(line) + " |\n" for line in [heading, ["---"] * len(heading), *body])

    def _cells(self) -> list[list[str]]:
        columns: list[tuple[str, Callable[[Cut], str]]] = [
            ("cut", lambda c: str(c.index)),
            ("crosses at", lambda c: c.address),
            ("shape", _shapes),
            ("float32", lambda c: _grouped(c.bytes_as("float32"))),
            ("float16", lambda c: _grouped(c.bytes_as("float16"))),
            ("int8", lambda c: _grouped(c.bytes_as("int8"))),
            ("raw input", lambda c: _grouped(c.input_bytes)),
            ("device params", lambda c: _grouped(c.device_params)),
            ("device MACs", lambda c: _grouped(c.device_macs)),
            ("server MACs", lambda c: _grouped(c.server_macs)),
        ]
        if any(c.seconds is not None for c in self.rows):
            columns.append(("device ms", lambda c: _milliseconds(c.device_seconds)))
            columns.append(("server ms", lambda c: _milliseconds(c.server_seconds)))
        if any(c.leakage is not None for c in self.rows):
            columns.append(("leakage", lambda c: "" if c.leakage is None else f"{c.leakage:.2f}"))
        return [[title for title, _ in columns], *([cell(c) for _, cell in columns] for c in self.rows)]

    def to_json(self) -> str:
        """The table as JSON: a list of `Cut.to_json` objects."""
        return json.dumps([c.to_json() for c in self.rows], indent=2, allow_nan=False) + "\n"

    def plot(self, path: str | Path, *, mark: Cut | None = None) -> Path:
        """Draws bytes, device share and, where it was probed, leakage along the model's depth.

        Args:
            path: file to write; its ending says the format, `.png` or `.svg`.
            mark: a cut to point out.

        Raises:
            CutError: the table is empty.
            PrivPartError: matplotlib is not installed.
        """
        from keras_privpart.partitioning.cut_plot import draw

        return draw(self, Path(path), mark)

    def _trained(self) -> list[Cut]:
        if not self.rows:
            raise CutError("Received an empty table; expected at least one cut. Loosen the filter; without one, no cut divides this model.")
        return [c for c in self.rows if c.device_trainable] or list(self.rows)


def _is_smaller(cut: Cut) -> bool:
    """Whether less crosses than a client without a device half would send."""
    return cut.nbytes is not None and cut.input_bytes is not None and cut.nbytes < cut.input_bytes


def _fewest(pool: Sequence[Cut]) -> str:
    return "the only cut" if len(pool) == 1 else f"fewest bytes of the {len(pool)} cuts"


def _within(rows: Sequence[Cut], budget: float) -> list[Cut]:
    pool = [c for c in rows if c.device_macs is not None and c.device_macs <= budget]
    if not pool:
        least = min((c.device_macs for c in rows if c.device_macs is not None), default=None)
        needs = "none has a known number" if least is None else f"the smallest needs {least:,}"
        raise CutError(f"Received device_budget={budget:,.0f} multiply-adds; {needs}. Raise the budget, or choose a cut with at=...")
    return pool


def _figure(cut: Cut, name: str) -> float | None:
    if name not in _FIGURES:
        raise CutError(f"Received the figure {name!r}; expected one of {', '.join(_FIGURES)}.")
    value: Any = getattr(cut, name)
    return value


_FIGURES = (
    "depth",
    "device_macs",
    "device_params",
    "device_seconds",
    "device_share",
    "index",
    "leakage",
    "nbytes",
    "seconds",
    "server_macs",
    "server_params",
    "server_seconds",
)


def _shapes(cut: Cut) -> str:
    return ", ".join("x".join("?" if d is None else str(d) for d in t.shape[1:]) or "1" for t in cut.boundary.tensors)


def _grouped(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.2f}"
