"""How long the demo's audit takes as a race with few fits, beside every attack at every seat with three seeds, and what either finds.

python benchmarks/auditing.py
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = Path(__file__).parent / "results"
DECODERS = ("decoder, deep, mixed", "decoder, medium, mse", "decoder, small, ssim")


class Audited(NamedTuple):
    """One audit: how long it took, by the clock and of the processors, and its strongest attack."""

    way: str
    seconds: float
    processor_seconds: float
    fits: int
    attack: str
    found: str
    leakage: str
    after_looks: str


def ways() -> dict[str, dict[str, Any]]:
    """Arguments of `audit`, by what to call them."""
    from keras_privpart.cli.commands.demo import ATTACKS, DOUBLINGS

    every = {"race": False, "seeds": 3, "attacks": DECODERS, "looks": (1,), "doublings": 0}
    return {
        "three decoders, one look, at every seat with three seeds": every,
        "the demo's: cheap attacks first, a race of decoders, one look and 16": {"seeds": 1, "attacks": ATTACKS, "doublings": DOUBLINGS},
    }


def audited(way: str, pair: Any, data: Any, **settings: Any) -> Audited:
    """Attacks the pair once, with nothing remembered from earlier."""
    import keras_privpart as kp

    total = 0

    def count(done: int, of: int, what: str) -> None:
        nonlocal total
        total = of

    start, spent = time.monotonic(), time.process_time()
    report = kp.audit(
        pair.defended, data.train, data.test, reference=pair.undefended, trained_on=data.train, pictures=0, progress=count, **settings
    )
    seconds, spent = time.monotonic() - start, time.process_time() - spent
    best = report.strongest()
    score, leakage = best.boundary[best.headline], best.leakage
    after = report.contract_summary()["kinds"][best.kind]["looks"].get("16")
    return Audited(
        way,
        seconds,
        spent,
        total,
        best.attack,
        f"{best.headline.upper()} {score.value:.3f} ({score.low:.3f}-{score.high:.3f})",
        f"{leakage.value:.2f} ({leakage.low:.2f}-{leakage.high:.2f})",
        "not tested" if after is None else f"{after['leakage']:.2f}",
    )


def table(rows: list[Audited]) -> str:
    columns = ("audit", "seconds", "processor seconds", "steps", "strongest attack", "finds", "leakage", "after 16 looks")
    header = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    lines = [
        f"| {r.way} | {r.seconds:.0f} | {r.processor_seconds:.0f} | {r.fits} | {r.attack} | {r.found} | {r.leakage} | {r.after_looks} |"
        for r in rows
    ]
    return "\n".join([header, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40, help="Of each training.")
    epochs = parser.parse_args().epochs
    from keras_privpart import datasets
    from keras_privpart.cli.commands import demo
    from keras_privpart.partitioning.partition import partition

    data = datasets.load(datasets.DIGITS)
    pair = demo.train(partition(demo.model()), data, epochs, 0)
    rows = [audited(way, pair, data, **settings) for way, settings in ways().items()]
    text = "\n".join(
        [
            "# Auditing",
            "",
            f"Made by `python benchmarks/auditing.py` on {os.cpu_count()} CPU cores ({platform.machine()}), Python "
            f"{platform.python_version()}: the demo's pair, scikit-learn's digits, both audits one after the other in one process. A "
            "step is a fit, or something cheaper.",
            "",
            table(rows),
        ]
    )
    (RESULTS / "auditing.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
