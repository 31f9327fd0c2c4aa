"""`privpart-keras serve`: serve a bundle's server half."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import click

from ..console import emit, say


@click.command(short_help="Serve a bundle: TensorFlow Serving if it can be had, else the local server.")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--port", type=click.IntRange(0, 65535), default=8500, help="gRPC port; 0 takes a free one.")
@click.option(
    "--rest-port", type=click.IntRange(0, 65535), help="REST port; it carries TensorFlow Serving's metrics too.  [default: no REST]"
)
@click.option("--host", default="127.0.0.1", help="Interface to listen on; tensorflow_model_server always listens on all.")
@click.option(
    "--engine", type=click.Choice(["tensorflow_model_server", "docker", "local"]), help="This kind or none.  [default: the best here]"
)
@click.option("--image", help="Docker image of TensorFlow Serving.  [default: tensorflow/serving:2.20.0]")
@click.option("--batching", is_flag=True, help="Let the server join requests into batches.")
@click.option("--cors", is_flag=True, help="Let pages of any origin ask at the REST port, without a token: for development with browsers.")
@click.option("--replicas", type=click.IntRange(1, 64), help="Servers, on ports that follow each other; 1, or 2 with --write-deploy.")
@click.option(
    "--tls",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of `privpart-keras certs`: clients must show a certificate.  [default: plaintext]",
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, help="Seconds until the model must be loaded.")
@click.option("--log", "log_path", type=click.Path(path_type=Path, dir_okay=False), help="The server's log.  [default: a temporary file]")
@click.option(
    "--write-deploy",
    "deploy_folder",
    type=click.Path(path_type=Path),
    help="Start nothing: write compose, Kubernetes, KServe and Grafana files to this new folder; with an ONNX half, Triton's too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout once the model is loaded.")
def serve(
    bundle: Path,
    port: int,
    rest_port: int | None,
    host: str,
    engine: str | None,
    image: str | None,
    batching: bool,
    cors: bool,
    replicas: int | None,
    tls: Path | None,
    timeout: float,
    log_path: Path | None,
    deploy_folder: Path | None,
    as_json: bool,
) -> None:
    """Serve every version of BUNDLE's server half until Ctrl-C or SIGTERM.

    Takes tensorflow_model_server if it is on the PATH, else docker if an engine answers, else the local server of this package, which is
    for development and tests. Prints which. What `privpart-keras export` and `promote` change in BUNDLE takes effect while it runs.

    \b
    Example:
      privpart-keras serve saved_models/mnist --port 8500
    """
    from keras_privpart.serving.servers.commands import DEFAULT_IMAGE

    image = image or DEFAULT_IMAGE
    if deploy_folder is not None:
        _write_deployment(bundle, deploy_folder, replicas or 2, image, as_json)
        return
    from keras_privpart.serving.servers.engine import Engine
    from keras_privpart.serving.servers.replicas import Replicas
    from keras_privpart.serving.servers.serve import serve as run

    def ready(running: Engine | Replicas) -> None:
        say(running.describe())
        facts = {
            "engine": running.kind,
            "address": running.address,
            "rest_address": running.rest_address,
            "log": str(running.log_path),
            "addresses": list(running.addresses),
            "tls": tls is not None,
            "model": running.name,
            "version": running.version,
        }
        rest = "" if running.rest_address is None else f", REST at {running.rest_address}"
        text = f"Ready: {running.name} version {running.version} at {running.address}{rest}. Stop with Ctrl-C."
        click.echo(json.dumps(facts) if as_json else text)

    with _log_on_stderr():
        run(
            bundle,
            port,
            rest_port,
            timeout,
            engine,
            replicas=replicas or 1,
            host=host,
            image=image,
            log_path=log_path,
            batching=batching,
            cors=cors,
            tls=tls,
            on_ready=ready,
        )
    say("Stopped.")


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """What happens to a running server is told as the command's other remarks are."""

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger, handler = logging.getLogger("keras_privpart.serving"), Said()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _write_deployment(bundle: Path, folder: Path, replicas: int, image: str, as_json: bool) -> None:
    from keras_privpart.serving.servers.deployment import write_deployment

    made = write_deployment(bundle, folder, replicas=replicas, image=image)
    emit(as_json, {"folder": str(folder), "files": list(made.files)}, f"Wrote {folder}: {', '.join(made.files)}.")
