"""`privpart-keras train`: train a run's partition, undefended and defended."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .. import run_folder
from ..console import emit, import_tensorflow, json_option, say, seed_option
from ..data_source import data_options, data_source, limit_option
from ..defence_options import DefenceSource, defence_options
from ..interruption import interruptible
from ..run_training import run_data, train_run


@click.command(short_help="Train a run's partition, undefended and defended.")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@data_options(required=False)
@click.option("--epochs", type=click.IntRange(min=1), default=10, help="Of each of the two trainings.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Examples a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, help="Of Adam, falling along a cosine.")
@click.option("--pretrained", is_flag=True, help="Take the model for trained: keep its server half, let the device half learn to hide.")
@limit_option
@defence_options
@seed_option
@click.option("--overwrite", is_flag=True, help="Replace an earlier training of this run.")
@json_option
@click.pass_context
@interruptible("All whole epochs are kept. Run `privpart-keras train RUN` to go on.")
def train(ctx: click.Context, run: Path, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Train the partition in RUN twice from the same weights: undefended, as the audit's reference, and defended.

    A training that was killed or stopped goes on with `privpart-keras train RUN`, after its last whole epoch.

    \b
    Example:
      privpart-keras train runs/mnist --data mnist --epochs 5 --noise 1.0
    """
    run_folder.check_partitioned(run)
    started = None if overwrite else run_folder.started_training(run)
    if started is None:
        run_folder.check_untrained(run, overwrite)
        if options["dataset"] is None:
            raise click.UsageError("Missing option '--data': what to train on.")
        begun = {**options, "overwrite": overwrite}
    else:
        say(f"Going on with the training of {run} that was broken off.")
        _check_as_started(ctx, run, started)
        options.update(started)
        overwrite = options.pop("overwrite")
    pretrained = options.pop("pretrained")
    recipe = {name: options.pop(name) for name in ("epochs", "batch_size", "learning_rate", "seed")}
    recipe["initial"] = "pretrained" if pretrained else None
    defending = DefenceSource(**{field.name: options.pop(field.name) for field in fields(DefenceSource)})
    named, limit = data_source(options), options.pop("limit", None)
    assert named is not None  # they were checked above
    source = replace(named, limit=limit)
    import_tensorflow()
    data = run_data(run, source)
    if started is None:
        run_folder.start_training(run, begun)
    history = train_run(run, source, data, recipe, defending, overwrite)
    last = {which: {key: values[-1] for key, values in logs.items()} for which, logs in history.items()}
    emit(as_json, {"run": str(run), **last}, _text(run, last))


def _check_as_started(ctx: click.Context, run: Path, started: dict[str, Any]) -> None:
    """What is given beside RUN must be as it was."""
    for name, was in started.items():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and ctx.params[name] != was:
            raise click.UsageError(
                f"The training of {run} that was broken off has --{name.replace('_', '-')} {was}, not {ctx.params[name]}. "
                "Give RUN alone to go on with it, or --overwrite to train from the start."
            )


def _text(run: Path, last: dict[str, dict[str, float]]) -> str:
    undefended, defended = (last[which]["val_accuracy"] for which in ("undefended", "defended"))
    lines = [f"Trained {run}: test accuracy {undefended:.4f} undefended, {defended:.4f} defended."]
    for key, value in last["defended"].items():
        if key.startswith("val_") and key.endswith("_recovered"):
            lines.append(f"  the {key[4:-10]} adversary in training still recovered {value:.3f} of what it could.")
    return "\n".join([*lines, "What fresh attackers recover, `privpart-keras audit` tells."])
