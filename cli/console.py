"""What every command prints with: results on stdout, all else on stderr, TensorFlow kept quiet."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of everything random.")


def emit(as_json: bool, payload: dict[str, Any], text: str) -> None:
    """Prints the result: `payload` as one JSON object, or `text`."""
    click.echo(json.dumps(payload, indent=2, allow_nan=False) if as_json else text)


def say(text: str) -> None:
    """Prints a remark on stderr."""
    click.echo(text, err=True)


@contextlib.contextmanager
def progress_bar(total: int | None, label: str) -> Iterator[Any]:
    """A tqdm bar on stderr, silent where stderr is not a terminal; has `.update(n)` and `.set_postfix_str(text)`."""
    from tqdm import tqdm

    with tqdm(total=total, desc=label, disable=None, file=sys.stderr, leave=False, dynamic_ncols=True) as bar:
        yield bar


def import_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages, which no setting silences; replays them if the import fails."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            import tensorflow as tf

            tf.constant(0)  # the device start-up speaks too
            tf.get_logger().setLevel("ERROR")  # its remarks on retracing are for developers
            failed = False
        except BaseException:
            failed = True
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if failed:
                captured.seek(0)
                sys.stderr.write(captured.read().decode(errors="replace"))
