"""Ctrl-C: a command that is deep in C code, or waits for its threads, ends all the same and says how to go on."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import ctypes, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run as a shell's background job
from concurrent.futures import ThreadPoolExecutor
from keras_privpart.cli.interruption import interruptible

def own_instructions():
    while True:
        time.sleep(0.01)

def waits_for_threads():
    with ThreadPoolExecutor(1) as executor:
        executor.submit(time.sleep, 3600).result()

def deep_in_c():
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # the second time it waits for itself, and no signal ends that
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

@interruptible("Run it again.")
def command():
    print("begun", flush=True)
    BODY()

command()
"""


@pytest.mark.parametrize("body", ["own_instructions", "waits_for_threads", "deep_in_c"])
def test_ctrl_c_ends_a_command(body):
    program = PROGRAM.replace("BODY", body)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            time.sleep(0.2)
            os.kill(process.pid, signal.SIGINT)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert error == "\nStopped. Run it again.\n"


def test_a_command_that_ends_by_itself_leaves_nothing_behind(run, tmp_path):
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    run("export", tmp_path, code=1)
    assert signal.set_wakeup_fd(before) == before
