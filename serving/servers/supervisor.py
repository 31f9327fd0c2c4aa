"""Runs a server, and ends it when the program that asked for it is gone, however that ended.

A script of its own with the standard library alone: `python supervisor.py JOB`, where JOB is JSON with `command` to run, `parent` (process
id of who asked), `stop` (a command that ends the server when its parent is gone, or null) and `remove` (a private folder that goes then,
or null).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_PAUSE_SECONDS = 0.05
_STOP_SECONDS = 8.0


def main(text: str) -> int:
    job = json.loads(text)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        server = subprocess.Popen(job["command"], stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent)
    except OSError as error:
        print(f"Can't run {job['command'][0]}: {error.strerror}. Check that it is installed and may be run.", file=sys.stderr)
        return 127
    while server.poll() is None and not asked and os.getppid() == job["parent"]:
        time.sleep(_PAUSE_SECONDS)
    orphaned = os.getppid() != job["parent"]
    if orphaned and job["stop"] is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(job["stop"], timeout=_STOP_SECONDS, stdin=subprocess.DEVNULL, check=False)
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
    code = server.wait()
    if orphaned and job["remove"] is not None:
        shutil.rmtree(job["remove"], ignore_errors=True)
    return code


def _end_with_parent() -> None:
    """Runs in the server's process: when the supervisor is killed hard, Linux kills the server."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    status = main(sys.argv[1])
    if status < 0:  # the server was killed: this process ends in the same way
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
