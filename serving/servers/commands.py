"""Command lines of the servers that `engine` can start. Pure functions: nothing is run here."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from .configuration import BATCHING, MODELS, MONITORING, SSL

DEFAULT_IMAGE = "tensorflow/serving:2.20.0"
BINARY = "tensorflow_model_server"

# Whatever the shell exports for its own programs: without these lines a crash leaves nothing to read.
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
SERVER_ENVIRONMENT = {LOG_LEVEL: "0"}

_FORWARDING = (
    f'trap "stop=1; kill -TERM \\$server 2>/dev/null" TERM INT; {BINARY} "$@" & server=$!; '
    '[ -z "$stop" ] || kill -TERM $server; wait $server; code=$?; [ -z "$stop" ] || wait $server; exit $code'
)
# How often servers that read a copy of the configuration look at it: each time they write three lines to their log.
POLL_SECONDS = 30

# Ports and folders inside the container.
GRPC_PORT, REST_PORT, CONFIG_FOLDER = 8500, 8501, "/config"
# The default, four per core, refuses the fifth concurrent client of a core.
_THREADS = 64
# Lets pages of any origin ask by REST, with no header of their own but Content-Type: so without a token. For development.
CORS, LOCAL_CORS = "--rest_api_enable_cors_support=true", "--cors"
# A load that fails is tried again twice, then the server says why. By default it tries for five minutes and says nothing meanwhile.
_RETRIES, _RETRY_MICROS = 2, 1_000_000


def server_flags(config: str | Path, files: Collection[str], port: int, rest_port: int | None, poll_seconds: int = 0) -> list[str]:
    """Options of TensorFlow Serving, in a container or out of it.

    Args:
        config: folder of the configuration files, as the server sees it.
        files: names of those that are there.
        port, rest_port: where to listen; no REST when `None`.
        poll_seconds: how often the server reads `models.config` again; each time it writes three lines to its log. 0 for never: then
            somebody must hand it on.
    """
    flags = [f"--port={port}", f"--rest_api_port={rest_port or 0}", f"--grpc_max_threads={_THREADS}"]
    # At its start no version is loaded yet, and labels would be refused; the health service is what probes ask.
    flags += ["--enable_grpc_healthcheck_service=true", "--allow_version_labels_for_unavailable_models=true"]
    flags += [f"--model_config_file={config}/{MODELS}", f"--model_config_file_poll_wait_seconds={poll_seconds}"]
    flags += [f"--max_num_load_retries={_RETRIES}", f"--load_retry_interval_micros={_RETRY_MICROS}"]
    if BATCHING in files:
        flags += ["--enable_batching=true", f"--batching_parameters_file={config}/{BATCHING}"]
    if MONITORING in files:
        flags.append(f"--monitoring_config_file={config}/{MONITORING}")
    if SSL in files:
        flags.append(f"--ssl_config_file={config}/{SSL}")
    return flags


def binary_command(executable: str, config: Path, files: Collection[str], port: int, rest_port: int | None) -> list[str]:
    """TensorFlow Serving's own program. It listens on every interface; it has no option for that."""
    return [executable, *server_flags(config, files, port, rest_port)]


def docker_command(
    docker: str,
    image: str,
    container: str,
    name: str,
    server_folder: Path,
    config: Path,
    files: Collection[str],
    host: str,
    port: int,
    rest_port: int | None,
) -> list[str]:
    """TensorFlow Serving in a container that sees the bundle's `server/` folder and the configuration, read-only, and nothing else.

    The image's own entry point is a shell script that keeps signals from the server and always opens the REST port, so the
    server is started directly, under an init process.
    """
    publish = [f"--publish={host}:{port}:{GRPC_PORT}"]
    if rest_port is not None:
        publish.append(f"--publish={host}:{rest_port}:{REST_PORT}")
    mounts = [(server_folder, model_folder(name)), (config, CONFIG_FOLDER)]
    inside = server_flags(CONFIG_FOLDER, files, GRPC_PORT, None if rest_port is None else REST_PORT)
    return [
        *(docker, "run", "--rm", "--init", f"--name={container}", f"--env={LOG_LEVEL}={SERVER_ENVIRONMENT[LOG_LEVEL]}", *publish),
        *(f"--mount=type=bind,source={source},target={target},readonly" for source, target in mounts),
        *("--entrypoint", BINARY, image, *inside),
    ]


def local_command(bundle: Path, config: Path, host: str, port: int, rest_port: int | None, tls: Path | None) -> list[str]:
    """The local server of this package, in a process of its own. Like the others it is told when its configuration changes."""
    module = "keras_privpart.serving.local.server"
    command = [sys.executable, "-m", module, str(bundle), f"--host={host}", f"--port={port}"]
    command += [f"--model-config-file={config / MODELS}", "--poll-seconds=0"]
    command += [] if rest_port is None else [f"--rest-port={rest_port}"]
    return command + ([] if tls is None else [f"--tls={tls}"])


def container_command(flags: Sequence[str]) -> list[str]:
    """The server's command line for a container that brings no init process.

    There the server would be process 1, for which Linux ignores SIGTERM unless the program handles it; this one does not, and a stop would
    take the whole grace period. A shell stands in front of it and passes the signal on.
    """
    return ["/bin/sh", "-c", _FORWARDING, BINARY, *flags]


def model_folder(name: str) -> str:
    """Where a container sees the bundle's `server/` folder; `models.config` says the same."""
    return f"/models/{name}"
