"""Two replicas train as one device does: in a process of its own, because devices are split before TensorFlow starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def found():
    script = Path(__file__).with_name("replicated.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=900, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mode", ["fused", "alternating"])
def test_replicas_give_the_gradient_of_one_device(found, mode):
    # Twice the gradient, or statistics of half a batch, would show in the second digit.
    assert found[mode]["weights"] < 1e-4
    assert found[mode]["logs"] < 1e-4


def test_half_precision_runs_on_replicas(found):
    assert found["mixed"]


def test_replicas_draw_different_noise(found):
    assert found["noise"] > 0.1


def test_several_steps_an_execution_are_refused(found):
    assert "Received steps_per_execution=2 with 2 replicas; expected 1" in found["steps_per_execution"]
