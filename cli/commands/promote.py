"""`privpart-keras promote`: label a version of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import emit, import_tensorflow, json_option


@click.command(short_help="Label a version of a bundle stable or canary.")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--version", type=click.IntRange(min=1), required=True, help="Version that gets the label.")
@click.option("--label", default="stable", help="The label: stable, canary, or a name of your own.")
@json_option
def promote(bundle: Path, version: int, label: str, as_json: bool) -> None:
    """Give a version of BUNDLE a label, in serving/models.config, which is replaced in one step.

    The version's server half is verified first. A running tensorflow_model_server takes the change when it polls the file
    (--model_config_file_poll_wait_seconds).

    \b
    Example:
      privpart-keras promote saved_models/mnist --version 2 --label stable
    """
    import_tensorflow()
    from keras_privpart.exporting.promotion import promote as run

    done = run(bundle, version, label)
    payload = {"bundle": str(bundle), "name": done.name, "before": dict(done.before), "labels": dict(done.labels)}
    now = ", ".join(f"{name} -> {number}" for name, number in sorted(done.labels.items()))
    was = ", ".join(f"{name} -> {number}" for name, number in sorted(done.before.items())) or "no labels that could be read"
    emit(as_json, payload, f"{bundle}: {now} (before: {was}).")
