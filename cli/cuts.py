"""`privpart-keras cuts`: every valid cut of a model, with its costs."""

from __future__ import annotations

import click

from .console import emit, json_option
from .model_source import load_model, model_argument


@click.command(short_help="List every valid cut of a model with its costs.")
@model_argument
@json_option
def cuts(model: str, as_json: bool) -> None:
    """List every valid cut of MODEL: what would cross, its bytes, and each half's share of the work.

    \b
    Example:
      privpart-keras cuts examples.models:lenet
    """
    loaded = load_model(model)
    from keras_privpart.partitioning.advisor import cuts as all_cuts

    table = all_cuts(loaded)
    choice = table.choose()
    payload = {"cuts": [cut.to_json() for cut in table], "choice": choice.index, "reason": choice.reason}
    emit(as_json, payload, f"{table.to_markdown()}\nThe advisor's choice: {choice.index}, {choice.address}: {choice.reason}.")
