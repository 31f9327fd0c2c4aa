"""`privpart-keras protect`: cut, train and audit a model in one go, with every choice made and explained."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from .. import run_folder
from ..console import emit, json_option, seed_option
from ..data_source import data_options, data_source, limit_option
from ..defence_options import RECIPES
from ..interruption import interruptible
from ..model_source import load_model, model_argument
from ..run_audit import attack_run
from ..run_training import train_intended


@click.command(short_help="Cut, train and audit a model in one go, and say what was chosen and why.")
@model_argument
@data_options(required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Run folder to write, such as runs/mnist.")
@click.option("--at", multiple=True, metavar="TENSOR", help="Where to cut; repeat it for several tensors.  [default: the advisor's choice]")
@click.option(
    "--bottleneck", type=click.IntRange(min=0), help="Features that cross in all; 0 for as many as at the cut.  [default: chosen]"
)
@click.option("--recipe", type=click.Choice(RECIPES), help="How to train.  [default: chosen]")
@click.option("--trained/--untrained", default=None, help="Whether MODEL is trained.  [default: by its accuracy]")
@click.option("--epochs", type=click.IntRange(min=1), help="Of the training.  [default: 10, of few examples so many as make 2,000 steps]")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, help="Examples a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, help="Of Adam, falling along a cosine.")
@limit_option
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Fresh attackers of each kind.")
@click.option("--attack-epochs", type=click.IntRange(min=1), help="Of each attacker.  [default: as `audit`]")
@click.option("--attacks", multiple=True, metavar="NAME", help="As of `audit`; may be repeated.  [default: standard]")
@click.option("--looks", multiple=True, type=click.IntRange(min=1), help="At the same input; may be repeated.  [default: 1, 16]")
@seed_option
@click.option("--overwrite", is_flag=True, help="Replace the folder if it is there.")
@json_option
@interruptible(
    "All whole epochs are kept: the same command goes on with them. A run folder that holds more than checkpoints is trained, and keeps "
    "what attackers found: `privpart-keras audit RUN` goes on."
)
def protect(
    model: str,
    out: Path,
    at: tuple[str, ...],
    bottleneck: int | None,
    recipe: str | None,
    trained: bool | None,
    seeds: int,
    attack_epochs: int | None,
    attacks: tuple[str, ...],
    looks: tuple[int, ...],
    seed: int,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Cut MODEL where the advisor says, train it to hide what it sees, attack it with fresh attackers; write a run folder and say why.

    The folder is what `partition`, `train` and `audit` leave, and `export` goes on from it. Each choice has an option that overrides it.

    \b
    Example:
      privpart-keras protect mine.keras --data mnist --out runs/mnist
    """
    run_folder.check_new(out, overwrite)
    training = {**{name: options.pop(name) for name in ("batch_size", "learning_rate")}, "seed": seed}
    named, limit = data_source(options), options.pop("limit")
    assert named is not None  # the option is required
    source = replace(named, limit=limit)
    loaded = load_model(model)
    data = source.load(loaded)
    from keras_privpart.protecting.protect import intended
    from keras_privpart.protecting.protected import Protected
    from keras_privpart.training.recipe import Recipe

    attacked: dict[str, Any] = {"seeds": seeds, "epochs": attack_epochs, "seed": seed}
    plan = intended(
        loaded,
        data.train,
        data.test,
        source.private_names,
        at=list(at) or None,
        bottleneck="auto" if bottleneck is None else bottleneck or None,
        recipe=recipe,
        trained=trained,
        value_range=source.value_range,
        epochs=options.pop("epochs"),
        training=Recipe(**training),
        auditing={**attacked, "limit": limit, "attacks": attacks or "standard", **({"looks": looks} if looks else {})},
    )
    pair = train_intended(out, plan, source, overwrite)
    report = attack_run(out, attacks=attacks, looks=looks, overwrite=overwrite, **attacked)
    result = Protected(pair.defended, pair.undefended, report, plan.choices)
    payload = {"run": str(out), "choices": [asdict(choice) for choice in plan.choices], "report": report.to_json()}
    emit(
        as_json, payload, f"{result}\nWrote {out}, the report to {out / run_folder.REPORT}/index.html. Next: `privpart-keras export {out}`."
    )
