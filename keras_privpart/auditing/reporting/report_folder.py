"""A report's folder: written so that no file of it is ever half there, and read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from keras_privpart import atomic
from keras_privpart.auditing.reporting.html import render
from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.auditing.reporting.report_json import from_json, to_json
from keras_privpart.errors import AuditError

REPORT_FILE = "report.json"
PAGE_FILE = "index.html"


def save(report: AuditReport, directory: str | Path, *, overwrite: bool = False, pictures: bool = True) -> Path:
    """Writes `report.json`, and then a self-contained `index.html`: a page that cannot be made never costs the numbers.

    The folder appears under its name with the whole `report.json` in it, the page when it is complete. A page that cannot be made, for
    lack of Jinja2 for example, is left out, and a warning says why.

    Args:
        report: what to write.
        directory: the new folder.
        overwrite: whether an earlier report of this name is replaced. Folders that hold no report are never touched.
        pictures: whether the page shows test images and their reconstructions. Switch it off for images that must not be passed on.

    Raises:
        AuditError: the folder exists.
    """
    folder = Path(directory)
    check_absent(folder, overwrite)
    text = json.dumps(to_json(report), indent=2, allow_nan=False) + "\n"
    with atomic.new_folder(folder, replace=overwrite) as fresh:
        (fresh / REPORT_FILE).write_text(text, encoding="utf-8")
    try:
        atomic.write_text(folder / PAGE_FILE, render(report, pictures=pictures))
    except Exception as error:  # whatever the page met, the numbers stand and the caller is told
        warnings.warn(f"The numbers are saved in {REPORT_FILE}, but the page {PAGE_FILE} was left out: {error}", stacklevel=3)
    return folder


def load(directory: str | Path) -> AuditReport:
    """Reads `report.json` of a folder that `save` wrote; without pictures.

    Raises:
        AuditError: there is none, or it cannot be read.
    """
    path = Path(directory) / REPORT_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AuditError(f"Can't read {path}: {error}. Expected a folder written by AuditReport.save; audit again.") from error
    return from_json(data)


def check_absent(directory: str | Path, overwrite: bool = False) -> None:
    """Raises `AuditError` where a report could not be written later: better before an audit than after it."""
    target = Path(directory)
    if not (target.exists() or target.is_symlink()):
        return
    if not overwrite:
        raise AuditError(
            f"Received {str(target)!r}, which exists; expected a new folder. Pass overwrite=True to replace an earlier report."
        )
    if not target.is_dir() or target.is_symlink() or (any(target.iterdir()) and not (target / REPORT_FILE).is_file()):
        raise AuditError(
            f"Received {str(target)!r}, which is no report; expected a folder with {REPORT_FILE} to replace. Choose another name."
        )
