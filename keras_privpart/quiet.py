"""Quiet: TensorFlow and LiteRT without the lines that they write to stderr when they start, which no setting of theirs silences."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages; replays them if the import fails."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with hushed():
        import tensorflow as tf

        tf.constant(0)  # the device start-up speaks too
        tf.get_logger().setLevel("ERROR")  # its remarks on retracing are for developers


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keeps from stderr what is written to it meanwhile, by C++ too; writes it after all where the body raises."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            if failed:
                captured.seek(0)
                sys.stderr.write(captured.read().decode(errors="replace"))


@contextlib.contextmanager
def without_retracing() -> Iterator[None]:
    """Drops what TensorFlow's logger says of retracing meanwhile: attackers are many networks of many shapes, each traced once."""
    logger = logging.getLogger("tensorflow")

    def others(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Keeps TensorFlow's logger to warnings meanwhile: it tells of every file written, by temporary names."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)
