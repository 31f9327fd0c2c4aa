"""Training a run's partition twice: what `train` and `protect` do, and each job of a sweep."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
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
    from keras_privpart.protecting.protect import Intention
    from keras_privpart.training.recipe import Progress, Recipe, TrainedPair

PICTURE = "training.png"


def run_data(run: Path, source: DataSource) -> Dataset:
    """The data as the partition in `run` takes them."""
    from keras_privpart.partitioning.halves import Partition

    return source.load(Partition.load(run).device)


def train_run(
    run: Path, source: DataSource, data: Dataset, recipe_options: Mapping[str, Any], defending: DefenceSource, overwrite: bool = False
) -> dict[str, dict[str, list[float]]]:
    """Trains the partition in `run` twice and adds both, with a record and a picture; the logs of either, epoch by epoch.

    Goes on from checkpoints that an earlier training, with the same arguments, left in `run`.
    """
    import keras

    from keras_privpart.partitioning.halves import Partition
    from keras_privpart.training.recipe import Recipe, train_pair

    recipe = Recipe(**recipe_options)
    keras.utils.set_random_seed(recipe.seed)  # the channel and the adversaries draw their seeds when they are made
    defence = defending.defence(data.classes, source.private_names, source.value_range)
    checkpoints = run / run_folder.CHECKPOINTS
    with _epochs(recipe, checkpoints) as progress:
        pair = train_pair(Partition.load(run), data.train, data.test, recipe, defence, progress, checkpoints)
    history = _history(pair)
    record = {"recipe": dict(recipe_options), "defence": {**defence.describe(), "options": asdict(defending)}, "history": history}
    run_folder.write_training(run, pair, source, record, overwrite)
    _draw(pair.defended_history, run / PICTURE)
    return history


def train_intended(run: Path, plan: Intention, source: DataSource, overwrite: bool) -> TrainedPair:
    """Trains what `protect` has chosen and writes a run as `partition` and `train` leave it, with the choices in its record.

    Goes on from checkpoints that an earlier call, with the same plan, left in `run`; with `overwrite` starts from the start.
    """
    checkpoints = run / run_folder.CHECKPOINTS
    if overwrite:
        shutil.rmtree(checkpoints, ignore_errors=True)
    with _epochs(plan.recipe, checkpoints) as progress:
        pair = plan.trained(progress, checkpoints)
    history, choices = _history(pair), [asdict(choice) for choice in plan.choices]
    record = {"recipe": asdict(plan.recipe), "defence": plan.defence.describe(), "history": history, "choices": choices}
    plan.parts.save(run, overwrite=True)  # of checkpoints, or of what `check_new` was told to let go
    run_folder.write_training(run, pair, source, record, overwrite)
    _draw(pair.defended_history, run / PICTURE)
    return pair


@contextlib.contextmanager
def _epochs(recipe: Recipe, checkpoints: Path) -> Iterator[Progress]:
    """A bar over the epochs that are left."""
    from keras_privpart.training.checkpoints import Checkpoints

    done = sum(Checkpoints(checkpoints / name).done for name in (run_folder.UNDEFENDED, run_folder.DEFENDED))
    trainings = 1 if recipe.initial == "pretrained" else 2
    with progress_bar(trainings * recipe.epochs - done, "train") as bar:

        def progress(which: str, epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix_str(f"{which}, epoch {epoch}: accuracy {logs.get('val_accuracy', float('nan')):.3f}")
            bar.update(1)

        yield progress


def _history(pair: TrainedPair) -> dict[str, dict[str, list[float]]]:
    return {"undefended": pair.undefended_history, "defended": pair.defended_history}


def _draw(history: Mapping[str, list[float]], path: Path) -> None:
    """A picture is no reason to lose a training."""
    from keras_privpart.training.training_plot import plot_history

    try:
        plot_history(history, path)
    except TrainingError as error:
        say(f"Drew no {PICTURE}: {error}")
