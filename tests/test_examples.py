"""The examples run, in little: they train, audit what they are about, and answer over gRPC."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
ATTACKERS = {"epochs": 2, "looks": (1,), "attacks": ["kernel posterior"], "bound": False}


@pytest.mark.parametrize(
    ("name", "kinds", "headline"),
    [
        ("text", {"reconstruction"}, "top_1"),
        ("tabular", {f"reconstruction of {name}" for name in ("numbers", "district", "history")}, "recovered"),
        ("audio", {"reconstruction"}, "snr"),
    ],
)
def test_examples_run(name, kinds, headline, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    report = example.main(tmp_path, count=400, train_epochs=2, seeds=1, **ATTACKERS)
    assert set(report.kinds) == kinds
    assert {report.strongest(kind).headline for kind in kinds} == {headline}
    assert all(report.strongest(kind).ceiling for kind in kinds)
    assert report.defended_accuracy is not None
    assert "accuracy over gRPC" in capsys.readouterr().out
