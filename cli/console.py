"""What every command prints with: results on stdout, all else on stderr, TensorFlow kept quiet."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

import click

from keras_privpart.quiet import import_tensorflow

__all__ = ["LogLines", "Progress", "emit", "import_tensorflow", "json_option", "progress_bar", "say", "seed_option"]

LOG_SECONDS = 20.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of everything random.")


def emit(as_json: bool, payload: dict[str, Any], text: str) -> None:
    """Prints the result: `payload` as one JSON object, or `text`."""
    click.echo(json.dumps(payload, indent=2, allow_nan=False) if as_json else text)


def say(text: str) -> None:
    """Prints a remark on stderr."""
    click.echo(text, err=True)


class Progress(Protocol):
    """What a command tells of its progress to: a tqdm bar, or lines of a log."""

    n: int
    total: Any

    def update(self, n: int) -> object: ...

    def set_postfix_str(self, s: str, refresh: bool = True) -> object: ...


class LogLines:
    """Progress as lines on stderr, `every` so many seconds at most, with the time that is left by what was done so far."""

    def __init__(self, total: int | None, label: str, every: float = LOG_SECONDS) -> None:
        self.n, self.total = 0, total
        self._label, self._every, self._text = label, every, ""
        self._began = self._told = time.monotonic()

    def set_postfix_str(self, s: str, refresh: bool = True) -> None:
        """What is done now."""
        self._text = s

    def update(self, n: int) -> None:
        """So many more are done."""
        self.n += n
        now = time.monotonic()
        if n and now - self._told >= self._every:
            self._told = now
            say(f"{self._label}: {self.n}{self._left(now - self._began)}{self._text and f'; {self._text}'}")

    def _left(self, spent: float) -> str:
        if not self.total:
            return " done"
        from tqdm import tqdm

        return f" of {self.total}, {tqdm.format_interval(spent * (self.total - self.n) / self.n)} left"


@contextlib.contextmanager
def progress_bar(total: int | None, label: str) -> Iterator[Progress]:
    """A tqdm bar on stderr, with the time left; lines where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield LogLines(total, label)
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        yield bar
