"""The configuration files that a server is started with: those of the bundle's `serving/` folder, in a private folder of the engine's.

The bundle's own files hold no keys, and name the folder that a container sees.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_privpart import atomic
from keras_privpart.contract import SERVING_FILES, Contract
from keras_privpart.errors import EngineError

from ..wire.tls import ServerTls

MODELS, BATCHING, MONITORING, SSL = (Path(file).name for file in SERVING_FILES)
PROMETHEUS_PATH = "/monitoring/prometheus/metrics"


class Configuration:
    """A private folder with the files of one server. Nobody else on the machine can read it: it may hold a key.

    Args:
        bundle: the bundle's folder, verified.
        contract: the newest version's contract.
        base_path: where the server sees the bundle's `server/` folder.
        batching: whether the server joins requests into batches.
        rest: whether there is a REST port, which carries the metrics.
        tls: certificates of the gRPC port.

    Raises:
        EngineError: the bundle lacks a file that is needed.
    """

    def __init__(self, bundle: Path, contract: Contract, base_path: str, *, batching: bool, rest: bool, tls: ServerTls | None) -> None:
        self._bundle, self.name, self._base_path = bundle, contract.name, base_path
        self._secure = tls
        self.folder = Path(tempfile.mkdtemp(prefix=f"privpart-{contract.name}-"))
        try:
            texts = {MODELS: self._models_text()}
            for name, wanted in ((BATCHING, batching), (MONITORING, rest)):
                if wanted:
                    texts[name] = self._own(name)
            for name, text in texts.items():
                atomic.write_text(self.folder / name, text)
        except BaseException:
            self.remove()
            raise
        self.files = (*texts, *(() if tls is None else (SSL,)))

    def show_key(self) -> None:
        """Writes the file with the private key, which a server reads when it starts."""
        if self._secure is not None:
            atomic.write_text(self.folder / SSL, self._secure.config())

    def hide_key(self) -> None:
        """Removes that file; a running server does not look at it again."""
        (self.folder / SSL).unlink(missing_ok=True)

    def models(self) -> Any:
        """What the bundle's `models.config` says now, as a `ModelServerConfig` with the path that the server sees.

        Raises:
            EngineError: the file is missing, or not what `export` writes.
        """
        try:
            return text_format.Parse(self._models_text(), model_server_config_pb2.ModelServerConfig())
        except text_format.ParseError as error:
            raise EngineError(f"Can't read serving/{MODELS} of {self._bundle}: {error}. Export the bundle again.") from error

    def put_models(self, config: Any) -> None:
        """Keeps a `ModelServerConfig` for the server's next start."""
        atomic.write_text(self.folder / MODELS, text_format.MessageToString(config))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _models_text(self) -> str:
        text, there = self._own(MODELS), f'base_path: "/models/{self.name}"'
        if text.count(there) != 1:
            raise EngineError(f"serving/{MODELS} of {self._bundle} names no {there}; expected what export writes. Export the bundle again.")
        quoted = self._base_path.replace("\\", "\\\\").replace('"', '\\"')
        return text.replace(there, f'base_path: "{quoted}"')

    def _own(self, name: str) -> str:
        try:
            return (self._bundle / "serving" / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError(f"Can't read serving/{name} of {self._bundle}: {error}. Export the bundle again.") from error
