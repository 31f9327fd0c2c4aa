"""The picture at the top of README.md: MNIST digits, and what a decoder rebuilds of them from an undefended boundary and from ours.

    python benchmarks/tasks/pictures.py --data-dir DIR

Takes the two networks of the digits task from the work folder of a run of `digits.py`, and trains those that are not there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from digits import TASK
from experiment import RESULTS, Clock, Experiment
from task import OURS, UNDEFENDED, subset

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs/images/reconstructions.png"
EPOCHS, BATCH, KNOWN = 10, 128, 4_000  # 310 updates
DRAWN = 8
ROWS = {UNDEFENDED: "rebuilt, undefended", OURS: "rebuilt, ours"}


def rebuilt(parts: Any, known: Any, held_out: Any, victims: Any) -> Any:
    """What a fresh decoder makes of the victims' boundary tensors: pictures `[n, h, w, c]` in [0, 1]."""
    from keras_privpart.auditing.attacks import DecoderAttack, Effort
    from keras_privpart.auditing.knowledge.views import Views

    view = Views(parts).boundary
    attack = DecoderAttack("small", "mixed")
    attack.fit(view, known, held_out, Effort(EPOCHS, BATCH), seed=0)
    return attack.reconstruct(view.sent.see(victims.x))


def draw(rows: dict[str, Any], truth: Any) -> Any:
    """A row of originals and a row each of what was rebuilt, its mean SSIM over all victims beneath it.

    Args:
        rows: pictures `[n, h, w, 1]` in [0, 1] by what the row is called.
        truth: the originals `[n, h, w, 1]`; the first eight are drawn.
    """
    from matplotlib.figure import Figure

    from keras_privpart.auditing.scoring import metrics

    figure = Figure(figsize=(7.6, 3.5), dpi=120, facecolor="white")
    for number, (name, pictures) in enumerate({"original": truth, **rows}.items()):
        score = "" if name == "original" else f"SSIM {metrics.ssim(truth, pictures).mean():.2f}"
        top = 0.97 - number * 0.325
        figure.text(0.235, top - 0.125, name, ha="right", va="center", fontsize=11)
        figure.text(0.62, top - 0.255, score, ha="center", va="top", fontsize=10)
        for column in range(DRAWN):
            axes = figure.add_axes((0.25 + column * 0.093, top - 0.25, 0.088, 0.25))
            axes.imshow(pictures[column, ..., 0], cmap="gray", vmin=0, vmax=1)
            axes.axis("off")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Folder of prepared tensorflow-datasets.")
    parser.add_argument("--work", type=Path, default=Path("runs/tasks"), help="Work folder of digits.py.")
    options = parser.parse_args()
    scale = "small"
    data = TASK.load(options.data_dir, TASK.scales[scale])
    place = Path(TASK.name) / scale
    experiment = Experiment(TASK, scale, data, RESULTS / place, options.work / place, Clock(None))
    unseen = data.train[_others(len(data.train), TASK.scales[scale].train)]  # as an attacker's are: the networks were not trained on them
    known, held_out = unseen[:KNOWN], unseen[KNOWN : KNOWN + 256]
    victims = subset(data.test, 500)
    found = {name: rebuilt(experiment.model(TASK.cut, row, 0)[0], known, held_out, victims) for row, name in ROWS.items()}
    draw(found, victims.x).savefig(PICTURE)
    print(f"Wrote {PICTURE.relative_to(ROOT)}.")


def _others(count: int, taken: int | None) -> Any:
    """Which of so many examples `subset` leaves out."""
    import numpy as np

    return np.random.default_rng(0).permutation(count)[taken:]


if __name__ == "__main__":
    main()
