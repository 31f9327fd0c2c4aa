"""Runs `tfmot_worker.py` in a process of its own: plain files in, plain files out, its end explained."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_privpart.errors import BundleError

_WORKER = "keras_privpart.exporting.optimizing.tfmot_worker"
# As in the worker, which must not be imported.
REQUEST, ARRAYS, OPTIMIZED = "request.json", "arrays.npz", "optimized.npz"
_NEEDED = ("tensorflow_model_optimization", "tf_keras")
_LAST_LINES = 5

Progress = Callable[[int, float], None]


def check_installed() -> None:
    """Raises `BundleError` unless the packages of the extra `optimize` are there."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BundleError(f"optimize needs {' and '.join(missing)}, not installed here. Run: pip install 'keras_privpart[optimize]'")


def run(request: Mapping[str, Any], arrays: Mapping[str, np.ndarray], progress: Progress | None = None) -> dict[str, np.ndarray]:
    """Hands a request to the worker and waits for it.

    Args:
        request: what to do, as JSON.
        arrays: weights, inputs and targets by name.
        progress: is told the step and the loss about fifty times.

    Returns:
        The weights, by the names under which they were given.

    Raises:
        BundleError: the worker failed; the last lines that it printed are in the text.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]  # to mypy any keyword may be allow_pickle
        with (folder / "stderr").open("w+", encoding="utf-8", errors="replace") as errors:
            code = _wait([sys.executable, "-m", _WORKER, str(folder)], errors, progress)
            errors.seek(0)
            said = [line.rstrip() for line in errors if line.strip()]
        if code or not (folder / OPTIMIZED).is_file():
            raise BundleError(
                f"tensorflow-model-optimization failed on the device half (exit code {code}). Its last lines:\n"
                + "\n".join(f"  {line}" for line in said[-_LAST_LINES:])
                + "\nNothing was exported. Choose another optimisation, or export without."
            )
        with np.load(folder / OPTIMIZED, allow_pickle=False) as stored:
            return dict(stored)


def _wait(command: list[str], errors: Any, progress: Progress | None) -> int:
    # tensorflow-model-optimization would set the variable itself, but too late for what TensorFlow has loaded by then.
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:
        try:
            for line in process.stdout or ():
                if progress is not None and line.startswith("{"):
                    told = json.loads(line)
                    progress(told["step"], told["loss"])
            return process.wait()
        except BaseException:  # an interrupted export leaves no worker behind
            process.kill()
            raise
