"""How long a person waits for the command line's help, and a device for the client, beside a bare `import click`.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
YARDSTICK = 'python -c "import click"'
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    YARDSTICK: ["-c", "import click"],
    "privpart-keras --help": ["-m", "keras_privpart.cli", "--help"],
    "privpart-keras train --help": ["-m", "keras_privpart.cli", "train", "--help"],
    'python -c "import keras_privpart"': ["-c", "import keras_privpart"],
    'python -c "from keras_privpart.serving import Client"': ["-c", "from keras_privpart.serving import Client"],
}


def seconds(arguments: list[str]) -> float:
    """Of one process, from start to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")
    return time.perf_counter() - start


def measure(repeats: int) -> dict[str, float]:
    """Seconds of the fastest run of each command; the commands take turns, so that other work on the machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    return {name: min(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    found = measure(repeats)
    lines = [
        "# Start-up",
        "",
        f"Made by `python benchmarks/startup.py` on {os.cpu_count()} CPU cores ({platform.machine()}), "
        f"Python {platform.python_version()}. The fastest of {repeats} runs, the commands by turns.",
        "",
        f"| command | time | times `{YARDSTICK}` |",
        "|---|---|---|",
        *(f"| `{name}` | {1000 * value:.0f} ms | {value / found[YARDSTICK]:.1f} |" for name, value in found.items()),
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "startup.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
