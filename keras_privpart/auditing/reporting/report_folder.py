"""Writes a report's folder so that no file of it is ever half there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from keras_privpart.errors import AuditError

MARK = "report.json"


def check_absent(directory: str | Path, overwrite: bool = False) -> None:
    """Raises `AuditError` where a report could not be written later: better before an audit than after it."""
    target = Path(directory)
    if not (target.exists() or target.is_symlink()):
        return
    if not overwrite:
        raise AuditError(
            f"Received {str(target)!r}, which exists; expected a new folder. Pass overwrite=True to replace an earlier report."
        )
    if not target.is_dir() or target.is_symlink() or (any(target.iterdir()) and not (target / MARK).is_file()):
        raise AuditError(f"Received {str(target)!r}, which is no report; expected a folder with {MARK} to replace. Choose another name.")


def write_folder(target: Path, files: Mapping[str, str], *, overwrite: bool) -> Path:
    """Writes texts into a temporary sibling of `target` and renames it; an earlier report goes only when the new one stands.

    Raises:
        AuditError: see `check_absent`.
    """
    check_absent(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, text in files.items():
            (fresh / name).write_text(text, encoding="utf-8")
        fresh.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            os.replace(target, old / "was")
            os.rename(fresh, target)
            shutil.rmtree(old)
        else:
            os.rename(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def add_file(folder: Path, name: str, text: str) -> None:
    """Adds a file to a folder that stands; it appears under its name only when it is complete."""
    handle, fresh = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(fresh, 0o644)
        os.replace(fresh, folder / name)
    except BaseException:
        os.unlink(fresh)
        raise
