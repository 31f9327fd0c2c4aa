"""A slow link in front of a server: a TCP proxy that holds bytes back as a token bucket and a long wire would."""

from __future__ import annotations

import queue
import socket
import threading
import time
from types import TracebackType

_CHUNK = 16 << 10


class ShapedLink:
    """Forwards connections to a server, each direction with its own bucket.

    Args:
        target: `host:port` of the server.
        bits_per_second: rate of each direction, over all connections.
        round_trip: seconds there and back; half of it is added to each direction.
    """

    def __init__(self, target: str, bits_per_second: float, round_trip: float) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._delay = (host, int(port)), round_trip / 2
        self._up, self._down = Bucket(bits_per_second / 8), Bucket(bits_per_second / 8)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> ShapedLink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            for source, sink, bucket in ((near, far, self._up), (far, near, self._down)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pending: queue.Queue[tuple[float, bytes]] = queue.Queue()
                threading.Thread(target=self._read, args=(source, pending, bucket), daemon=True).start()
                threading.Thread(target=_write, args=(sink, pending), daemon=True).start()

    def _read(self, source: socket.socket, pending: queue.Queue[tuple[float, bytes]], bucket: Bucket) -> None:
        while True:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            pending.put((bucket.passed(len(data)) + self._delay, data))
            if not data:
                return


class Bucket:
    """Says when so many bytes have passed a link of so many bytes per second."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free, self._lock = rate, 0.0, threading.Lock()

    def passed(self, count: int) -> float:
        with self._lock:
            self._free = max(self._free, time.monotonic()) + count / self._rate
            return self._free


def _write(sink: socket.socket, pending: queue.Queue[tuple[float, bytes]]) -> None:
    while True:
        due, data = pending.get()
        time.sleep(max(due - time.monotonic(), 0.0))
        try:
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
        except OSError:
            return
