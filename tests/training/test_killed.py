"""A training that is killed in the middle of an epoch resumes from its backup, and ends where an uninterrupted one does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}


def start(folder, *more):
    folder.mkdir(exist_ok=True)
    script = Path(__file__).with_name("killed.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), *more], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finished(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def test_sigkill_and_resume(tmp_path):
    whole, victim = start(tmp_path / "whole"), start(tmp_path / "killed", "wait")
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "half").exists():
        if victim.poll() is not None or time.monotonic() > deadline:
            victim.kill()
            pytest.fail(f"The training never got to its third epoch: {victim.communicate()[1][-3000:]}")
        time.sleep(0.1)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert not (tmp_path / "killed" / "weights.npz").exists()
    finished(start(tmp_path / "killed"))
    finished(whole)
    a, b = (np.load(tmp_path / name / "weights.npz") for name in ("whole", "killed"))
    assert all(np.array_equal(a[key], b[key]) for key in a.files)
