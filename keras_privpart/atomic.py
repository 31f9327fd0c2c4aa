"""Files and folders that appear under their names whole or not at all, and bring back what stood there when a step fails.

Everything is first written beside its place, on the same file system, and then renamed. Raises `OSError`, which callers map.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A name beside `path`, of the same ending, to write to; the file replaces `path` in one step when the body succeeds."""
    fresh = _beside(path)
    try:
        yield fresh
        _rename(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8."""
    with new_file(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz`, whatever the ending of `path`."""
    import numpy as np  # here, so that a command that writes no array does not wait for it

    named: dict[str, Any] = dict(arrays)
    with new_file(path) as fresh, fresh.open("wb") as stream:
        np.savez(stream, **named)


def write_texts(root: Path, texts: Mapping[str, str]) -> None:
    """Writes texts, by their paths in `root`, into a folder that nobody reads yet."""
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def sibling(target: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """A new folder beside `target`; whatever is left of it is removed at the end, and so are parents made for it if the body fails."""
    with _parents([target]):
        root = _beside(target)
        root.mkdir(mode=mode)
        try:
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def new_folder(target: Path, *, replace: bool = False, mode: int = 0o777) -> Iterator[Path]:
    """A folder beside `target` to fill; it takes the place of `target` when the body succeeds.

    Args:
        target: the folder to be.
        replace: whether an older one goes, once the new one stands.
        mode: who may read the folder, less the process's umask.

    Raises:
        FileExistsError: `target` is there and `replace` is false.
    """
    with sibling(target, mode=mode) as fresh:
        yield fresh
        if not replace and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        swap([(fresh, target)], beside=target)


def swap(moves: Sequence[tuple[Path, Path]], *, beside: Path) -> None:
    """Renames every source to its target, in order, older targets making room: all of it or nothing.

    A file is replaced in one step; between an older folder and the new one there is a moment without either.

    Args:
        moves: source and target of each, files or folders, on one file system.
        beside: older targets wait in a temporary folder beside this path until all new ones stand.

    Raises:
        OSError: a step failed; everything is as it was. Where even that cannot be had, the message names the folder with the older targets.
    """
    for source, _ in moves:
        if not os.path.lexists(source):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
    with _parents([target for _, target in moves]):
        aside = _beside(beside)
        aside.mkdir(mode=0o700)
        begun: list[tuple[Path, Path, Path]] = []
        try:
            for number, (source, target) in enumerate(moves):
                begun.append((source, target, aside / str(number)))
                _move(*begun[-1])
        except BaseException:
            try:
                for step in reversed(begun):
                    _undo(*step)
            except OSError as error:
                kept = f"{error.strerror}; what was there before is kept in {aside}"
                raise OSError(error.errno, kept, str(error.filename)) from error
            shutil.rmtree(aside, ignore_errors=True)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _move(source: Path, target: Path, old: Path) -> None:
    if target.is_file() and not target.is_symlink():
        waiting = old.with_name(f"{old.name}.copying")
        shutil.copy2(target, waiting)
        _rename(waiting, old)  # so that a copy that was broken off is never brought back
    elif os.path.lexists(target):
        _rename(target, old)
    _rename(source, target)


def _undo(source: Path, target: Path, old: Path) -> None:
    """Looks at what is there, since an interruption may come between a step and the note of it."""
    if os.path.lexists(target) and not os.path.lexists(source):
        _rename(target, source)
    if os.path.lexists(old):
        _rename(old, target)


@contextlib.contextmanager
def _parents(paths: Sequence[Path]) -> Iterator[None]:
    """Makes the folders that `paths` stand in; removes those it made if the body fails."""
    missing = {parent for path in paths for parent in path.parents if not parent.exists()}
    made = sorted(missing, key=lambda parent: len(parent.parts))
    try:
        for parent in made:
            parent.mkdir(exist_ok=True)
        yield
    except BaseException:
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # never made, or somebody else uses it
                parent.rmdir()
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}.{path.name}")


def _rename(source: Path, target: Path) -> None:
    os.replace(source, target)
