"""A fixed sample of the benchmark that cuts every model of `keras.applications`."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "applications.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_applications", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0"])
def test_halves_are_saved_loaded_and_equal_bit_for_bit(benchmark, name):
    result = benchmark.examine(name, 2)
    assert len(result.tried) == 2
    assert {len(t.at) == 1 for t in result.tried} == {True, False}
    assert all(t.equal for t in result.tried), result.tried
    assert result.cuts > 100
