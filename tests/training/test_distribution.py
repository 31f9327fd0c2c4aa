"""Two local processes under `MultiWorkerMirroredStrategy` train as a single one does, and resume after one of them is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).with_name("worker.py")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start(folder, backup, workers, *more):
    """Starts a single process, or as many workers."""
    folder.mkdir(exist_ok=True)
    addresses = [f"localhost:{port}" for port in free_ports(workers)]
    found = []
    for index in range(workers):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        if workers > 1:
            environment["TF_CONFIG"] = json.dumps(config)
        command = [sys.executable, str(SCRIPT), str(folder), str(backup), *more]
        found.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    return found


def finish(processes):
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()


def test_one_worker_is_killed_and_all_resume_to_the_weights_of_one_process(tmp_path):
    single = start(tmp_path / "one", tmp_path / "backup_one", 1)
    victims = start(tmp_path / "two", tmp_path / "backup_two", 2, "wait")
    deadline = time.monotonic() + 300
    while not (tmp_path / "two" / "third").exists() and time.monotonic() < deadline and all(p.poll() is None for p in victims):
        time.sleep(0.2)
    reached = (tmp_path / "two" / "third").exists()
    victims[1].send_signal(signal.SIGKILL)
    victims[0].kill()  # it would sleep for ten minutes
    errors = [process.communicate()[1] for process in victims]
    finish(single)
    assert reached, errors[0][-3000:]
    finish(start(tmp_path / "two", tmp_path / "backup_two", 2))
    want = weights(tmp_path / "one", 0)
    for index in (0, 1):
        for a, b in zip(want, weights(tmp_path / "two", index), strict=True):
            assert np.allclose(a, b, rtol=0, atol=1e-6)
    one, several = (json.loads((tmp_path / folder / "logs_0.json").read_text()) for folder in ("one", "two"))
    assert set(one) == set(several)
    for key, values in several.items():
        assert np.allclose(one[key][-1], values[-1], atol=1e-5), key


def weights(folder, index):
    loaded = np.load(folder / f"weights_{index}.npz")
    return [loaded[key] for key in loaded.files]
