"""Training a run's partition twice: what `train` does, and each job of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_privpart.errors import TrainingError

from . import run_folder
from .console import progress_bar, say
from .data_source import DataSource
from .defence_options import DefenceSource

if TYPE_CHECKING:
    from keras_privpart.datasets import Dataset

PICTURE = "training.png"


def train_run(
    run: Path, source: DataSource, data: Dataset, recipe_options: Mapping[str, Any], defending: DefenceSource, overwrite: bool = False
) -> dict[str, dict[str, list[float]]]:
    """Trains the partition in `run` twice and adds both, with a record and a picture; the logs of either, epoch by epoch."""
    from keras_privpart.partitioning.halves import Partition
    from keras_privpart.training.recipe import Recipe, train_pair

    recipe, defence = Recipe(**recipe_options), defending.defence(data.classes, source.private_names)
    with progress_bar(2 * recipe.epochs, "train") as bar:

        def progress(which: str, epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix_str(f"{which}, epoch {epoch}: accuracy {logs.get('val_accuracy', float('nan')):.3f}")
            bar.update(1)

        pair = train_pair(Partition.load(run), data.train, data.test, recipe, defence, progress)
    history = {"undefended": pair.undefended_history, "defended": pair.defended_history}
    record = {"recipe": dict(recipe_options), "defence": {**defence.describe(), "options": asdict(defending)}, "history": history}
    run_folder.write_training(run, pair, source, record, overwrite)
    _draw(pair.defended_history, run / PICTURE)
    return history


def _draw(history: Mapping[str, list[float]], path: Path) -> None:
    """A picture is no reason to lose a training."""
    from keras_privpart.training.training_plot import plot_history

    try:
        plot_history(history, path)
    except TrainingError as error:
        say(f"Drew no {PICTURE}: {error}")
