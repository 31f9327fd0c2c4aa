"""`privpart-keras serve`: serve a bundle's server half."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .console import say


@click.command(short_help="Serve a bundle: TensorFlow Serving if it can be had, else the local server.")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--port", type=click.IntRange(0, 65535), default=8500, help="gRPC port; 0 takes a free one.")
@click.option("--rest-port", type=click.IntRange(0, 65535), help="REST port of TensorFlow Serving.  [default: no REST]")
@click.option("--host", default="127.0.0.1", help="Interface to listen on; tensorflow_model_server always listens on all.")
@click.option(
    "--engine", type=click.Choice(["tensorflow_model_server", "docker", "local"]), help="This kind or none.  [default: the best here]"
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, help="Seconds until the model must be loaded.")
@click.option("--log", "log_path", type=click.Path(path_type=Path, dir_okay=False), help="The server's log.  [default: a temporary file]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout once the model is loaded.")
def serve(
    bundle: Path,
    port: int,
    rest_port: int | None,
    host: str,
    engine: str | None,
    timeout: float,
    log_path: Path | None,
    as_json: bool,
) -> None:
    """Serve BUNDLE's server half until Ctrl-C or SIGTERM.

    Takes tensorflow_model_server if it is on the PATH, else docker if an engine answers, else the local server of this package, which is
    for development and tests. Prints which.

    \b
    Example:
      privpart-keras serve saved_models/mnist --port 8500
    """
    from keras_privpart.serving.engine import Engine
    from keras_privpart.serving.engine import serve as run

    def ready(running: Engine) -> None:
        say(running.describe())
        facts = {"engine": running.kind, "address": running.address, "rest_address": running.rest_address, "log": str(running.log_path)}
        text = f"Ready: {running.name} version {running.version} at {running.address}. Stop with Ctrl-C."
        click.echo(json.dumps({**facts, "model": running.name, "version": running.version}) if as_json else text)

    run(bundle, port, rest_port, timeout, engine, host=host, log_path=log_path, on_ready=ready)
    say("Stopped.")
