"""The configuration files that a server is started with: those of the bundle's `serving/` folder, in a private folder of the engine's.

The bundle's own files hold no keys, and name the folder that a container sees.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

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
        self._bundle, self._name, self._base_path = bundle, contract.name, base_path
        self.folder = Path(tempfile.mkdtemp(prefix=f"privpart-{contract.name}-"))
        try:
            self._models = self._models_text()
            texts = {MODELS: self._models}
            for name, wanted in ((BATCHING, batching), (MONITORING, rest)):
                if wanted:
                    texts[name] = self._own(name)
            if tls is not None:
                texts[SSL] = tls.config()
            for name, text in texts.items():
                self._put(name, text)
        except BaseException:
            self.remove()
            raise
        self.files = tuple(texts)

    def refresh(self) -> None:
        """Hands a changed `models.config` of the bundle on to the server, which polls for it: labels move without a restart."""
        try:
            text = self._models_text()
        except EngineError:
            return  # being replaced or damaged: the server keeps what it has
        if text != self._models:
            self._put(MODELS, text)
            self._models = text

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _models_text(self) -> str:
        text, there = self._own(MODELS), f'base_path: "/models/{self._name}"'
        if text.count(there) != 1:
            raise EngineError(f"serving/{MODELS} of {self._bundle} names no {there}; expected what export writes. Export the bundle again.")
        quoted = self._base_path.replace("\\", "\\\\").replace('"', '\\"')
        return text.replace(there, f'base_path: "{quoted}"')

    def _own(self, name: str) -> str:
        try:
            return (self._bundle / "serving" / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError(f"Can't read serving/{name} of {self._bundle}: {error}. Export the bundle again.") from error

    def _put(self, name: str, text: str) -> None:
        temporary = self.folder / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.folder / name)
