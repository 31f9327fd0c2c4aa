"""The picture of a training."""

import builtins

import pytest
from matplotlib.figure import Figure

from keras_privpart.errors import TrainingError
from keras_privpart.training import training_plot

LOGS = {
    "accuracy": [0.5, 0.75],
    "val_accuracy": [0.4, 0.6],
    "loss": [1.0, 0.5],
    "Male_loss": [1.0, 0.5],
    "Male_recovered": [0.1, 0.2],
    "val_Male_recovered": [0.1, 0.1],
    "privacy_Male": [0.3, 0.1],
    "privacy_utility": [0.2, 0.5],
}


def test_every_figure_finds_its_panel():
    panels = {title: training_plot._matching(LOGS, ends) for title, _, ends in training_plot._PANELS}
    assert panels == {
        "Task": ["accuracy", "val_accuracy", "privacy_utility"],
        "Loss of the task": ["loss"],
        "Share recovered": ["Male_recovered", "val_Male_recovered"],
        "Fresh adversaries": ["privacy_Male"],
    }


def test_it_is_written_as_png(tmp_path):
    path = training_plot.plot_history(LOGS, tmp_path / "run" / "training.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_one_epoch_is_readable(tmp_path, monkeypatch):
    """Where there are no lines yet, marks tell training from validation."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    training_plot.plot_history({name: values[:1] for name, values in LOGS.items()}, tmp_path / "training.png")
    [figure] = drawn
    for axes in figure.axes:
        looks = [(line.get_color(), line.get_markerfacecolor()) for line in axes.lines]
        assert len(set(looks)) == len(looks)
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_an_empty_history_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="Received a history with nothing"):
        training_plot.plot_history({}, tmp_path / "t.png")


def test_a_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrainingError, match=r"keras_privpart\[report\]"):
        training_plot.plot_history(LOGS, tmp_path / "t.png")
