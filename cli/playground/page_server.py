"""Serves the page to this machine's browser, and shows it what happens to its pictures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from keras_privpart.errors import EngineError, PrivPartError

from .demonstration import Demonstration

HOST = "127.0.0.1"
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
# Nothing from anywhere else, and no frame of anybody else's around it.
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
_MOST = 32 << 20  # bytes of a request


class PageServer:
    """The page at `http://127.0.0.1:<port>`, answered by a thread of its own.

    Raises:
        EngineError: the port cannot be had.
    """

    def __init__(self, demonstration: Demonstration, port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"demonstration": demonstration})
        try:
            self._server = ThreadingHTTPServer((HOST, port), handler)
        except (OSError, OverflowError) as error:
            raise EngineError(f"Can't listen on {HOST}:{port}: {error}. Choose another --port.") from error
        self._server.daemon_threads = True
        self.address = f"http://{HOST}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ThreadingHTTPServer
    demonstration: Demonstration
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_GET(self) -> None:
        if not self._is_own():
            return
        if self.path == "/facts":
            self._answer(self.demonstration.facts)
        elif self.path in _FILES:
            name, kind = _FILES[self.path]
            self._send(200, (Path(__file__).parent / name).read_bytes(), kind)
        else:
            self._fail(404, "There is no such page.")

    def do_POST(self) -> None:
        if not self._is_own():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/show" or self.headers.get("Content-Type") != "application/json" or not length.isdecimal() or int(length) > _MOST:
            self.close_connection = True  # what it sends is not read
            self._fail(400, "Expected a picture as JSON, at /show.")
            return
        raw = self.rfile.read(int(length))
        try:
            picture = json.loads(raw)["picture"]
        except (ValueError, KeyError, TypeError):
            self._fail(400, 'Expected {"picture": [...]}.')
            return
        self._answer(lambda: self.demonstration.show(picture))

    def log_message(self, format: str, *args: Any) -> None:
        pass  # pictures are nobody's business

    def _is_own(self) -> bool:
        """Whether the page itself asks: other sites could reach this port under a name of theirs."""
        port = self.server.server_address[1]
        own = self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}")
        if not own:
            self.close_connection = True
            self._fail(403, "This page answers this machine only.")
        return own

    def _answer(self, compute: Callable[[], dict[str, Any]]) -> None:
        try:
            self._send(200, json.dumps(compute()).encode(), "application/json")
        except PrivPartError as error:
            self._fail(409, f"{type(error).__name__}: {error}")

    def _fail(self, status: int, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)
