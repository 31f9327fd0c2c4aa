"""`privpart-keras inspect`: show and verify everything in a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import emit, import_tensorflow, json_option


@click.command(short_help="Show and verify everything in a bundle.")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--partial", is_flag=True, help="Files may be missing, as on a device, which needs no server half.")
@json_option
@click.pass_context
def inspect(ctx: click.Context, bundle: Path, partial: bool, as_json: bool) -> None:
    """Show BUNDLE's versions, boundary, encoding, labels, audit and threat model, and compare every file with its contract.

    Ends with status 1 when a file is bad, and names each.

    \b
    Example:
      privpart-keras inspect saved_models/mnist
    """
    import_tensorflow()
    from keras_privpart.exporting.inspection import inspect as run

    found = run(bundle, partial=partial)
    emit(as_json, found.to_json(), found.describe())
    ctx.exit(1 if found.problems else 0)
