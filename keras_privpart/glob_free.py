"""Paths that TensorFlow does not take for patterns: it looks for the variables of a SavedModel by a pattern made from its folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def glob_free(folder: str | Path) -> Iterator[Path]:
    """A path to `folder` without the characters of patterns, as run folders (`lr=[1,2]`) have them: itself, or a link to it for the while.

    Raises:
        OSError: the system allows no symbolic link.
    """
    folder = Path(os.path.abspath(folder))
    if not set(str(folder)) & set("[]*?{}\\"):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="privpart") as scratch:
        link = Path(scratch) / "link"
        link.symlink_to(folder, target_is_directory=True)
        yield link
