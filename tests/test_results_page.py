"""The results page says which attacks, floors and intervals stand behind a number, and keeps others' figures apart."""

import importlib
import sys
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[1] / "benchmarks" / "tasks"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(TASKS))
    yield importlib.import_module("page")
    for name in ("page", "yardsticks"):
        sys.modules.pop(name, None)


def row(defence, accuracy, leakage):
    interval = [None, None] if leakage is None else [leakage - 0.02, leakage + 0.02]
    found = {"attack": "decoder, large, mixed", "score": "ssim", "boundary": 0.61234, "floor": 0.5, "ceiling": 0.95, "leakage": leakage}
    kinds = {"reconstruction": {**found, "leakage_interval": interval, "max_leakage": 0.4, "attacks": 4}}
    return {
        "task": "digits",
        "title": "digits: MNIST",
        "scale": "small",
        "cut": "conv_2",
        "defence": defence,
        "epochs": 8,
        "models": 1,
        "accuracy": accuracy,
        "train": 16_000,
        "test": 10_000,
        "audit": {"task_accuracy": {"defended": accuracy, "reference": 0.98}, "kinds": kinds, "seeds": 3, "victims": 1_000},
    }


SETTINGS = {"attackers": 4_000, "audit_epochs": None}


def test_rows_carry_floor_ceiling_interval_and_drop(page):
    text = page.page(
        {"digits-small": {"schema": 1, "settings": SETTINGS, "rows": [row("undefended", 0.981, 1.0), row("noise only", 0.975, 0.25)]}}
    )
    cells = "0.612 | 0.500 | 0.950 | 0.25 (0.23-0.27); another attack 0.40 | decoder, large, mixed |"
    assert f"| `conv_2` | noise only | 97.5 % | 0.6 | {cells}" in text
    assert "1 trained model per row, 3 attackers of each kind against each, 4 attacks of a kind" in text
    assert "attackers learn from 4,000 of the training examples and attack 1,000 test examples" in text
    assert "python benchmarks/tasks/digits.py --scale small" in text
    ours, others = text.split("Published figures of other work")
    assert "SSIM 0.733" in others
    assert "SSIM 0.733" not in ours
    assert "not to be read as rows of the table" in others
    assert "CIFAR" not in text  # no task that was not run


def test_undefined_leakage_is_said_to_be_so(page):
    assert "undefined: no room between floor and ceiling" in page.page(
        {"x": {"settings": SETTINGS, "rows": [row("noise only", 0.9, None)]}}
    )


def test_published_figures_are_those_of_the_tasks(page):
    assert set(page.PUBLISHED) == {"digits", "objects", "faces"}
    for name in page.PUBLISHED:
        assert (TASKS / f"{name}.py").exists()


def test_the_picture_shows_every_defence_of_the_shared_cut_once(page):
    other = {**row("ours", 0.97, 0.1), "cut": "conv_1"}
    rows = [row("undefended", 0.98, 1.0), row("noise only", 0.97, 0.5), row("constant", 0.1, None), other]
    figure = page.draw({"digits-small": {"settings": SETTINGS, "rows": rows}, "again": {"settings": SETTINGS, "rows": rows}})
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["undefended", "noise only"]
    assert [line.get_xdata()[0] for line in figure.axes[0].containers[1].lines[:1]] == pytest.approx([1.0])
