"""`privpart-keras train`: train a run's partition, undefended and defended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import run_folder
from .console import emit, import_tensorflow, json_option, progress_bar, seed_option
from .data_source import DataSource, data_options


@click.command(short_help="Train a run's partition, undefended and defended.")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@data_options(required=True)
@click.option("--epochs", type=click.IntRange(min=1), default=10, help="Of each of the two trainings.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Examples a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, help="Of Adam, falling along a cosine.")
@click.option(
    "--reconstruction", type=click.FloatRange(min=0), default=1.0, help="Weight of the reconstruction adversary; 0 leaves it out."
)
@click.option("--attribute", type=click.FloatRange(min=0), default=1.0, help="Weight of the adversary of each --private attribute.")
@click.option("--noise", type=click.FloatRange(min=0), default=0.5, help="Standard deviation of the Gaussian channel; 0 leaves it out.")
@seed_option
@click.option("--overwrite", is_flag=True, help="Replace an earlier training of this run.")
@json_option
def train(run: Path, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Train the partition in RUN twice from the same weights: undefended, as the audit's reference, and defended.

    \b
    Example:
      privpart-keras train runs/mnist --dataset mnist --epochs 5 --noise 1.0
    """
    run_folder.check_untrained(run, overwrite)
    recipe_options = {name: options.pop(name) for name in ("epochs", "batch_size", "learning_rate", "seed")}
    weights = {name: options.pop(name) for name in ("reconstruction", "attribute", "noise")}
    source = DataSource(**options)
    import_tensorflow()
    from keras_privpart.partitioning.halves import Partition
    from keras_privpart.training.recipe import Recipe, describe, train_pair

    parts = Partition.load(run)
    data = source.load()
    adversaries, channel = _defence(data, source, **weights)
    recipe = Recipe(**recipe_options)
    with progress_bar(2 * recipe.epochs, "train") as bar:

        def progress(which: str, epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix_str(f"{which}, epoch {epoch}: accuracy {logs.get('val_accuracy', float('nan')):.3f}")
            bar.update(1)

        pair = train_pair(parts, data.train, data.test, recipe, adversaries, channel, progress)
    record = {
        "recipe": recipe_options,
        "defence": describe(adversaries, channel),
        "history": {"undefended": pair.undefended_history, "defended": pair.defended_history},
    }
    run_folder.write_training(run, pair, source, record, overwrite)
    last = {which: {key: values[-1] for key, values in history.items()} for which, history in record["history"].items()}
    emit(as_json, {"run": str(run), **last}, _text(run, last))


def _defence(data: Any, source: DataSource, reconstruction: float, attribute: float, noise: float) -> tuple[list[Any], Any]:
    from keras_privpart.channels import GaussianChannel
    from keras_privpart.training.adversaries import AttributeAdversary, ReconstructionAdversary

    adversaries: list[Any] = [ReconstructionAdversary(weight=reconstruction)] if reconstruction else []
    if attribute:
        adversaries += [AttributeAdversary(name, classes=data.classes[name], weight=attribute) for name in source.private_names]
    return adversaries, GaussianChannel(stddev=noise) if noise else None


def _text(run: Path, last: dict[str, dict[str, float]]) -> str:
    undefended, defended = (last[which]["val_accuracy"] for which in ("undefended", "defended"))
    lines = [f"Trained {run}: test accuracy {undefended:.4f} undefended, {defended:.4f} defended."]
    for key, value in last["defended"].items():
        if key.startswith("val_") and key.endswith("_recovered"):
            lines.append(f"  the {key[4:-10]} adversary in training still recovered {value:.3f} of what it could.")
    return "\n".join([*lines, "What fresh attackers recover, `privpart-keras audit` tells."])
