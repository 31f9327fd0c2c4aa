"""Command lines of the servers that `engine` can start. Pure functions: nothing is run here."""

from __future__ import annotations

import sys
from pathlib import Path

DEFAULT_IMAGE = "tensorflow/serving:2.20.0"
BINARY = "tensorflow_model_server"

# Ports inside the container.
_GRPC, _REST = 8500, 8501


def binary_command(executable: str, name: str, server_folder: Path, port: int, rest_port: int | None) -> list[str]:
    """TensorFlow Serving's own program. It listens on every interface; it has no option for that."""
    return [executable, f"--port={port}", f"--rest_api_port={rest_port or 0}", f"--model_name={name}", f"--model_base_path={server_folder}"]


def docker_command(
    docker: str, image: str, container: str, name: str, server_folder: Path, host: str, port: int, rest_port: int | None
) -> list[str]:
    """TensorFlow Serving in a container that sees the bundle's `server/` folder, read-only, and nothing else.

    The image's own entry point is a shell script that keeps signals from the server and always opens the REST port, so the
    server is started directly, under an init process.
    """
    base = f"/models/{name}"
    publish = [f"--publish={host}:{port}:{_GRPC}"]
    if rest_port is not None:
        publish.append(f"--publish={host}:{rest_port}:{_REST}")
    inside = binary_command("", name, Path(base), _GRPC, None if rest_port is None else _REST)[1:]
    mount = f"--mount=type=bind,source={server_folder},target={base},readonly"
    return [docker, "run", "--rm", "--init", f"--name={container}", *publish, mount, "--entrypoint", BINARY, image, *inside]


def local_command(bundle: Path, host: str, port: int) -> list[str]:
    """The local server of this package, in a process of its own that ends with this one."""
    module = "keras_privpart.serving.local_server"
    return [sys.executable, "-m", module, str(bundle), f"--host={host}", f"--port={port}", "--exit-with-stdin"]
