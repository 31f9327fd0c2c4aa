"""A progress bar, where tqdm is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(items: Any, label: str | None) -> Iterator[Callable[[], object]]:
    """Yields what to call for every item done. No bar without a label, without tqdm, or where stderr is not a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        label = None
    if label is None:
        yield lambda: None
        return
    total = len(items) if hasattr(items, "__len__") else None
    with tqdm(total=total, desc=label, disable=None, file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        yield bar.update
