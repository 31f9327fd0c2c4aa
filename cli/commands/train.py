"""`privpart-keras train`: train a run's partition, undefended and defended."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from .. import run_folder
from ..console import emit, import_tensorflow, json_option, seed_option
from ..data_source import DataSource, data_options
from ..defence_options import DefenceSource, defence_options
from ..interruption import interruptible
from ..run_training import train_run


@click.command(short_help="Train a run's partition, undefended and defended.")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@data_options(required=True)
@click.option("--epochs", type=click.IntRange(min=1), default=10, help="Of each of the two trainings.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Examples a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, help="Of Adam, falling along a cosine.")
@click.option("--pretrained", is_flag=True, help="Take the model for trained: keep its server half, let the device half learn to hide.")
@defence_options
@seed_option
@click.option("--overwrite", is_flag=True, help="Replace an earlier training of this run.")
@json_option
@interruptible("The run is as it was before. Run the same command again.")
def train(run: Path, overwrite: bool, as_json: bool, pretrained: bool, **options: Any) -> None:
    """Train the partition in RUN twice from the same weights: undefended, as the audit's reference, and defended.

    \b
    Example:
      privpart-keras train runs/mnist --dataset mnist --epochs 5 --noise 1.0
    """
    run_folder.check_untrained(run, overwrite)
    recipe = {name: options.pop(name) for name in ("epochs", "batch_size", "learning_rate", "seed")}
    recipe["initial"] = "pretrained" if pretrained else None
    defending = DefenceSource(**{field.name: options.pop(field.name) for field in fields(DefenceSource)})
    source = DataSource(**options)
    import_tensorflow()
    history = train_run(run, source, source.load(), recipe, defending, overwrite)
    last = {which: {key: values[-1] for key, values in logs.items()} for which, logs in history.items()}
    emit(as_json, {"run": str(run), **last}, _text(run, last))


def _text(run: Path, last: dict[str, dict[str, float]]) -> str:
    undefended, defended = (last[which]["val_accuracy"] for which in ("undefended", "defended"))
    lines = [f"Trained {run}: test accuracy {undefended:.4f} undefended, {defended:.4f} defended."]
    for key, value in last["defended"].items():
        if key.startswith("val_") and key.endswith("_recovered"):
            lines.append(f"  the {key[4:-10]} adversary in training still recovered {value:.3f} of what it could.")
    return "\n".join([*lines, "What fresh attackers recover, `privpart-keras audit` tells."])
