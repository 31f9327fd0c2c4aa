"""A run's folder: the partition, then what each command adds for the next one.

runs/<name>/
  device.keras, server.keras, ...   `partition`: the plain halves; `protect` leaves all of these
  checkpoints/                      `train` and `protect`, until they are done: options, and what each training needs to go on after a kill
  train.json                        `train`: data, recipe, defence, history
  training.png                      `train`: the defended training's course, where matplotlib is installed
  undefended/, defended/            `train`: both trained partitions
  report/, audit-cache/             `audit`
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_privpart import atomic
from keras_privpart.errors import DataError, ModelError

from .data_source import DataSource

if TYPE_CHECKING:
    from keras_privpart.training.recipe import TrainedPair

TRAIN_RECORD = "train.json"
UNDEFENDED, DEFENDED, REPORT, AUDIT_CACHE = "undefended", "defended", "report", "audit-cache"
CHECKPOINTS = "checkpoints"
_STARTED = "started.json"
_SCHEMA = 1
_PARTITION = "partition.json"


def write_training(run: Path, pair: TrainedPair, source: DataSource, record: dict[str, Any], overwrite: bool) -> None:
    """Adds both trained partitions and the record; all of it or nothing."""
    names = (UNDEFENDED, DEFENDED, TRAIN_RECORD)
    with _staged(run, names, overwrite) as stage:
        pair.undefended.save(stage / UNDEFENDED)
        pair.defended.save(stage / DEFENDED)
        body = {"schema": _SCHEMA, "data": source.record(), **record}
        (stage / TRAIN_RECORD).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)


def started_training(run: Path) -> dict[str, Any] | None:
    """The options of a training that was broken off in this run, if one was."""
    path = run / CHECKPOINTS / _STARTED
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] == _SCHEMA:
            return {name: tuple(value) if isinstance(value, list) else value for name, value in record["options"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise DataError(f"{path} is damaged or of another version; expected what `train` left. Pass --overwrite to train from the start.")


def start_training(run: Path, options: Mapping[str, Any]) -> None:
    """Notes the options of a training that begins, so that it can go on when it is killed; forgets an earlier one."""
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
    (run / CHECKPOINTS).mkdir()
    atomic.write_text(run / CHECKPOINTS / _STARTED, json.dumps({"schema": _SCHEMA, "options": dict(options)}, indent=2) + "\n")


def check_new(run: Path, overwrite: bool) -> None:
    """Raises before any work is done if there is something where a new run shall be, other than checkpoints of one that was broken off."""
    if not overwrite and run.exists() and [path.name for path in run.iterdir()] != [CHECKPOINTS]:
        raise ModelError(f"{run} is there already; pass --overwrite to replace it, or give another folder.")


def check_partitioned(run: Path) -> None:
    """Raises, before TensorFlow is loaded, if this is no run at all."""
    if not (run / _PARTITION).is_file():
        raise ModelError(f"Found no {_PARTITION} in {str(run)!r}; expected a run's folder. Make one with `privpart-keras partition`.")


def check_untrained(run: Path, overwrite: bool) -> None:
    """Raises before any work is done if `train` would replace an earlier training."""
    check_partitioned(run)
    if not overwrite and (run / TRAIN_RECORD).exists():
        raise ModelError(f"{run} is trained already; pass --overwrite to train it anew, or give another folder.")


def read_training(run: Path) -> tuple[DataSource, dict[str, Any]]:
    """The data source and the record that `train` left."""
    path = run / TRAIN_RECORD
    if not path.is_file():
        raise ModelError(f"Found no {TRAIN_RECORD} in {str(run)!r}; expected a run that `privpart-keras train` has trained.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.pop("schema") != _SCHEMA:
            raise DataError(f"{path} is of another version of keras_privpart; train the run again.")
        data = record.pop("data")
        return DataSource(**data), record
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); train the run again.") from error


@contextlib.contextmanager
def _staged(run: Path, names: tuple[str, ...], overwrite: bool) -> Iterator[Path]:
    """A folder beside the targets whose entries `names` move into `run` when the body succeeds."""
    taken = [name for name in names if (run / name).exists()]
    if taken and not overwrite:
        raise ModelError(f"{run} holds {', '.join(taken)} already; pass --overwrite to replace, or give another folder.")
    with atomic.sibling(run / TRAIN_RECORD) as stage:
        yield stage
        atomic.swap([(stage / name, run / name) for name in names], beside=run / TRAIN_RECORD)
