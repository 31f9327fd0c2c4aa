"""Progress of a command, on a terminal and in a log."""

from types import SimpleNamespace

import pytest

from keras_privpart.cli import console


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_a_log_has_a_line_now_and_then_with_the_time_left(capsys, clock):
    with console.progress_bar(10, "train") as progress:
        for done in range(1, 6):
            clock.seconds += console.LOG_SECONDS * 0.6
            progress.set_postfix_str(f"epoch {done}")
            progress.update(1)
    assert capsys.readouterr().err == "train: 2 of 10, 01:36 left; epoch 2\ntrain: 4 of 10, 01:12 left; epoch 4\n"


def test_an_unknown_end_is_not_guessed(capsys, clock):
    with console.progress_bar(None, "audit") as progress:
        clock.seconds = console.LOG_SECONDS
        progress.update(3)
    assert capsys.readouterr().err == "audit: 3 done\n"


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with console.progress_bar(4, "train") as progress:
        progress.update(2)
        progress.set_postfix_str("half")
    assert "train:  50%" in capsys.readouterr().err
