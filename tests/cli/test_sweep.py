"""Sweeps: the grid, jobs that are run once, workers that die, the table and its front, and a killed sweep that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from distributed import LocalCluster

from keras_privpart.cli import sweep_jobs
from keras_privpart.cli.commands.sweep import _settings
from keras_privpart.cli.data_source import DataSource
from keras_privpart.cli.defence_options import DefenceSource
from keras_privpart.cli.sweep_jobs import RESULT, Job, Setting, dask_executor, run_all
from keras_privpart.cli.sweep_table import rows_of, to_markdown, write
from keras_privpart.errors import PrivPartError


@pytest.fixture
def jobs(tmp_path):
    settings = [Setting(("narrow",), None, "place", DefenceSource(channel=c), seed) for c in ("none", "gaussian:0.5") for seed in (0, 1)]
    return [Job(s, str(tmp_path), "0", DataSource("digits"), {"epochs": 1, "initial": None}, {"seeds": 1}) for s in settings]


def _leave(job):
    job.folder.mkdir(parents=True)
    (job.folder / RESULT).write_text(json.dumps({"setting": str(job.setting)}))
    return {}


class TestJobs:
    def test_each_has_a_folder_of_its_own_that_says_what_it_is(self, jobs):
        names = [job.folder.name for job in jobs]
        assert len(set(names)) == 4
        assert names[3].startswith("narrow_gaussian-0.5_r1_a1_seed1_")

    def test_whatever_counts_makes_another_job(self, jobs):
        job = jobs[0]
        others = [replace(job, model="1"), replace(job, audit={"seeds": 2}), replace(job, recipe={"epochs": 2, "initial": None})]
        assert len({j.folder for j in (job, *others)}) == 4
        assert replace(job, out="/elsewhere").folder.name == job.folder.name, "a sweep may be moved"

    def test_what_is_done_is_not_run_again(self, jobs):
        ran = []

        def run(job):
            ran.append(job)
            return _leave(job)

        with ThreadPoolExecutor(1) as executor:
            run_all(jobs[:3], executor, run)
            run_all(jobs, executor, run)
        assert ran == jobs

    def test_one_that_fails_does_not_stop_the_others(self, jobs):
        def run(job):
            if job is jobs[1]:
                raise ValueError("bad luck\nand more")
            return _leave(job)

        seen = []
        with ThreadPoolExecutor(1) as executor:
            [failure] = run_all(jobs, executor, run, seen.append)
        assert (failure.job, failure.reason) == (jobs[1], "ValueError: bad luck")
        assert len(seen) == 4
        assert [job.result() is None for job in jobs] == [False, True, False, False]


class TestDask:
    def test_a_worker_that_dies_and_a_job_that_raises_are_tried_again(self, jobs, tmp_path):
        def unlucky(job):  # by value, for the workers do not know this module
            first = job.folder.with_suffix(".first")
            if not first.exists():
                first.parent.mkdir(parents=True, exist_ok=True)
                first.touch()
                if job.setting.seed:
                    os._exit(9)
                raise RuntimeError("once")
            job.folder.mkdir(parents=True)
            (job.folder / "result.json").write_text("{}")

        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
            address = cluster.scheduler_address
            with dask_executor(address, 1, 2) as executor:
                assert run_all(jobs[:2], executor, unlucky) == []
        assert all(job.result() is not None for job in jobs[:2])

    def test_a_scheduler_that_is_not_there(self, monkeypatch):
        monkeypatch.setattr(sweep_jobs, "CONNECT_SECONDS", 0.5)
        with (
            pytest.raises(PrivPartError, match="No dask scheduler answers"),
            dask_executor("tcp://127.0.0.1:1", 1, 0),
        ):
            pass

    def test_without_it_the_error_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(PrivPartError, match=r"keras_privpart\[sweep\]"), dask_executor(None, 1, 0):
            pass


def _result(channel, seed, accuracy, leakage, kind="reconstruction"):
    setting = {
        "at": ["narrow"],
        "bottleneck": None,
        "bottleneck_over": "place",
        "defence": vars(DefenceSource(channel=channel)),
        "seed": seed,
    }
    facts = {"attack": "a", "score": "ssim", "boundary": 0.5, "floor": 0.4, "ceiling": 0.9, "leakage": leakage}
    return {
        "setting": setting,
        "run": f"runs/{channel}{seed}",
        "task_accuracy": {"defended": accuracy, "reference": 0.99},
        "kinds": {kind: facts},
    }


class TestTable:
    RESULTS = (
        _result("none", 0, 0.98, 0.9),
        _result("none", 1, 0.96, 1.1),
        _result("gaussian:1.0", 0, 0.90, 0.2),
        _result("gaussian:1.0", 1, 0.94, 0.4),
        _result("gate:0.5", 0, 0.91, 0.5),
        _result("dropout:0.5", 0, 0.99, None),
    )

    def test_a_row_a_setting_averaged_over_its_seeds(self):
        none, gaussian, gate, dropout = rows_of(self.RESULTS)
        assert (none.seeds, gate.seeds) == (2, 1)
        assert none.means["accuracy"].value == pytest.approx(0.97)
        assert none.means["accuracy"].half == pytest.approx(12.706 * 0.01, rel=1e-3)
        assert gate.means["leakage"].half is None
        assert "leakage" not in dropout.means
        assert gaussian.runs == ("runs/gaussian:1.00", "runs/gaussian:1.01")

    def test_the_front_leaves_out_what_another_setting_beats_in_both(self):
        assert [row.front for row in rows_of(self.RESULTS)] == [True, True, False, False]

    def test_it_is_written_as_json_markdown_and_a_picture(self, tmp_path):
        rows = rows_of(self.RESULTS)
        names = [path.name for path in write(rows, tmp_path, "the command")]
        assert names == ["results.json", "results.md", "front.png"]
        assert (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"
        assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 4
        text = to_markdown(rows, "the command")
        assert "Made by `the command`" in text
        assert "| 0.920 ± 0.254 |" in text
        assert "undefined" in text


def test_a_killed_sweep_goes_on_where_it_was(run, tmp_path, model_file):
    out = tmp_path / "sweep"
    arguments = ["sweep", model_file, "--dataset", "digits", "--at", "narrow", "--channel", "none", "--channel", "quantize:2"]
    arguments += ["--seeds", 1, "--epochs", 1, "--attacks", "decoder, small, mse", "--attack-epochs", 1, "--out", out]
    command = [sys.executable, "-m", "keras_privpart.cli", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (first := list(out.glob(f"runs/*/{RESULT}"))) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert first, "no job ended before the sweep was killed"
    before = {path: path.stat().st_mtime_ns for path in out.glob(f"runs/*/{RESULT}")}
    found = json.loads(run(*arguments, "--json").stdout)
    assert {row["attacks"] for path in out.glob(f"runs/*/{RESULT}") for row in json.loads(path.read_text())["kinds"].values()} == {1}
    assert (found["jobs"], found["done_before"], found["failed"]) == (2, len(before), {})
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["setting"]["defence"]["channel"] for row in found["rows"]} == {"none", "quantize:2"}
    assert "holds a sweep of" in run(*["sweep", "keras_privpart.cli.commands.demo:model", *arguments[2:]], code=1).stderr


def test_recipes_are_tried_beside_the_grid():
    grid = {
        "at": ("narrow",),
        "bottleneck": (4,),
        "channel": ("none",),
        "reconstruction": (1.0,),
        "attribute": (1.0,),
        "regularizer": ("none",),
    }
    settings = _settings(**grid, bottleneck_over="place", recipe=("bits", "nopeek"), seeds=2)
    assert [str(s) for s in settings] == [
        *(f"narrow_bottleneck-4-a-place_none_r1_a1_seed{seed}" for seed in (0, 1)),
        *(f"narrow_{recipe}_seed{seed}" for recipe in ("bits", "nopeek") for seed in (0, 1)),
    ]
