"""The results page says which attacks, floors and intervals stand behind a number, and keeps others' figures apart."""

import importlib
import json
import sys
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[1] / "benchmarks" / "tasks"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(TASKS))
    yield importlib.import_module("page")
    for name in ("page", "recipes", "task", "yardsticks"):
        sys.modules.pop(name, None)


def row(defence, accuracy, leakage):
    interval = [None, None] if leakage is None else [leakage - 0.02, leakage + 0.02]
    found = {"attack": "decoder, large, mixed", "score": "ssim", "boundary": 0.61234, "floor": 0.5, "ceiling": 0.95, "leakage": leakage}
    more = {**found, "boundary": 0.7, "leakage": None if leakage is None else leakage + 0.1, "at_least": True}
    picture = {**found, "leakage_interval": interval, "leakage_beyond_answer": 0.04, "at_least": False, "looks": {"16": more}}
    named = {"score": "rank_1", "boundary": 0.82, "looks": {"16": {"boundary": 0.99}}}
    return {
        "task": "digits",
        "title": "digits: MNIST",
        "scale": "small",
        "settings": {"epochs": 8, "seeds": 1},
        "cut": "conv_2",
        "defence": defence,
        "accuracy": accuracy,
        "undefended_accuracy": 0.981,
        "train": 16_000,
        "test": 10_000,
        "device_share": 0.12,
        "train_seconds": [None, 31.4],
        "summary": {
            "kinds": {"reconstruction": picture, "re-identification in the class": named},
            "bits": {"1": {"at_least": 6.2, "at_most": 10.71}},
            "more_looks": "show more",
            "examples": 60_000,
            "victims": 1_000,
        },
    }


def test_rows_carry_floor_ceiling_interval_looks_bits_and_drop(page):
    text = page.page({"digits-small": [row("undefended", 0.981, 1.0), row("noise only", 0.975, 0.25)]})
    cells = (
        "0.612 | 0.500 | 0.950 | 0.25 (0.23-0.27); 0.04 | at least 0.35 (SSIM 0.700) | 82 % / 99 % | 6.2 to 10.7 | decoder, large, mixed |"
    )
    assert f"| `conv_2` | noise only | 97.5 % | 0.6 | {cells}" in text
    assert "attackers know 60,000 examples and attack 1,000; 1 trained model a row" in text
    assert "python benchmarks/tasks/digits.py --scale small" in text
    ours, others = text.split("Published figures of other work", 1)
    assert "SSIM 0.733" in others
    assert "SSIM 0.733" not in ours
    assert "not to be read as rows of the table" in others
    assert "## objects\n\nNot run yet." in text


def test_undefined_leakage_is_said_to_be_so(page):
    assert "undefined: no room between floor and ceiling" in page.page({"x": [row("noise only", 0.9, None)]})


def test_more_looks_that_show_no_more_are_said_to_be_the_same(page):
    quiet = row("bottleneck only", 0.98, 0.5)
    quiet["summary"] = {**quiet["summary"], "more_looks": "show no more", "bits": None}
    assert "| the same | 82 % / the same | no bound |" in page.page({"x": [quiet]})


def test_near_duplicates_stand_where_frozen_noise_shows_no_more(page):
    frozen = row("frozen noise", 0.98, 0.5)
    kinds = frozen["summary"]["kinds"]
    for kind in kinds.values():
        kind["frames"] = kind["looks"]
    frozen["summary"] = {**frozen["summary"], "more_looks": "show no more"}
    text = page.page({"x": [frozen]})
    assert "| the same; 16 near duplicates at least 0.60 (SSIM 0.700) | 82 % / the same; 16 near duplicates 99 % |" in text


def test_published_figures_are_those_of_the_tasks(page):
    assert set(page.PUBLISHED) == {"digits", "objects", "faces"}
    for name in page.PUBLISHED:
        assert (TASKS / f"{name}.py").exists()


def test_the_picture_shows_every_defence_of_the_shared_cut_once(page):
    early = {"cut": "conv_1", "settings": {"epochs": 8, "seeds": 1, "attacks": list(page.SHORT)}}
    elsewhere = [{**row(name, 0.97, 0.1), **early} for name in ("undefended", page.OURS)]
    rows = [*elsewhere, row("undefended", 0.98, 1.0), row(page.OURS, 0.979, 0.1), row("noise only", 0.97, 0.5), row("constant", 0.1, None)]
    figure = page.draw({"digits-small": rows, "again": rows})
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["undefended", page.OURS, "noise only"]
    assert figure.axes[0].lines[-1].get_xdata()[0] == pytest.approx(1.1)


def test_rows_are_read_from_their_files_the_undefended_first(page, tmp_path):
    folder = tmp_path / "digits" / "small" / "rows"
    folder.mkdir(parents=True)
    for name in ("noise only", "undefended"):
        (folder / f"{name}.json").write_text(json.dumps(row(name, 0.9, 0.1)))
    assert [r["defence"] for r in page.read(tmp_path)["digits-small"]] == ["undefended", "noise only"]


def test_each_part_of_the_recipe_stands_beside_the_whole(page):
    without = row("competing features + noise (ours without the bound)", 0.985, 0.4)
    assert "what each part" not in page.page({"x": [row(page.OURS, 0.98, 0.1)]})
    text = page.page({"x": [row(page.OURS, 0.98, 0.1), without, row("noise only", 0.9, 0.2)]})
    parts = text.split("**what each part of the recipe is worth**")[1].split("Published")[0]
    assert "| ours |  | 0.10 | 0.20 | 82 % / 99 % | 6.2 to 10.7 |" in parts
    assert "| without the bound | +0.5 | 0.40 | 0.50 | 82 % / 99 % | 6.2 to 10.7 |" in parts
    assert "noise only" not in parts


def test_a_row_that_few_attacks_met_says_so(page):
    short = {**row("noise only", 0.9, 0.2), "settings": {"epochs": 8, "seeds": 1, "attacks": list(page.SHORT)}}
    assert "| decoder, large, mixed (short) |" in page.page({"x": [short]})
    more = {**short, "settings": {**short["settings"], "attacks": ["standard", "white box, from noise"]}}
    assert "(short)" not in page.page({"x": [more]}).split("## digits")[1]


def test_a_small_device_stands_with_its_task_in_section_and_picture(page):
    large = [row("undefended", 0.87, 1.0), row(page.OURS, 0.86, 0.02)]
    small = [{**r, "task": "digits_small_device", "title": "digits on a small device", "cut": "device", "device_share": 0.1} for r in large]
    assert page.draw_shares({"a": large}) is None
    assert page.SHARE_IMAGE not in page.page({"a": large})
    text = page.page({"a": large, "b": small})
    assert page.SHARE_IMAGE in text
    digits = text.split("## objects\n")[0]
    assert "## digits on a small device" in digits
    axes = page.draw_shares({"a": large, "b": small}).axes
    assert len(axes) == 1
    assert sorted(line.get_xdata()[0] for line in axes[0].lines if len(line.get_xdata()) == 1) == pytest.approx([10] * 4 + [12] * 4)
