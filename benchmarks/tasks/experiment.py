"""Trains and audits every row of a task, each kept as JSON, so that an interrupted run goes on where it was."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from recipes import OURS, UNDEFENDED, Row, recipes
from task import Scale, Task, subset

RESULTS = Path(__file__).parents[1] / "results" / "tasks"
BATCH = 128


class Experiment:
    """One task at one scale.

    Args:
        task, scale_name: which.
        data: a `datasets.Dataset`.
        work: folder of everything that is kept: trained halves, what attackers found, finished rows.
    """

    def __init__(self, task: Task, scale_name: str, data: Any, work: Path) -> None:
        self.task = task
        self.scale_name = scale_name
        self.scale: Scale = task.scales[scale_name]
        self.data = data
        self.work = work
        self.classes = data.classes["task"]
        self.recipes = recipes(task, self.classes)
        self._check_settings()

    def rows(self) -> list[tuple[str, str]]:
        """Cut and defence of every row."""
        return [(self.task.cut, name) for name in self.recipes] + [
            (cut, name) for cut in self.task.other_cuts for name in (UNDEFENDED, OURS)
        ]

    def row(self, cut: str, name: str) -> dict[str, Any]:
        """The finished row; trained and audited where it is not there yet."""
        path = self.work / "rows" / f"{_file(cut)}-{_file(name)}.json"
        if not path.exists():
            found = self._run(cut, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".part").write_text(json.dumps(found, indent=1))
            path.with_suffix(".part").replace(path)
        return json.loads(path.read_text())

    def _check_settings(self) -> None:
        """What is kept from an earlier run must come from the same settings."""
        path, now = self.work / "settings.json", json.loads(json.dumps(asdict(self.scale)))
        if path.exists() and json.loads(path.read_text()) != now:
            raise SystemExit(f"{self.work} was made with other settings than {now}. Delete it, or give another --work.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now))

    def _run(self, cut: str, name: str) -> dict[str, Any]:
        import keras_privpart as kp

        scale, task = self.scale, self.task
        references = [self._trained(cut, UNDEFENDED, seed) for seed in range(scale.seeds)]
        defended = references if name == UNDEFENDED else [self._trained(cut, name, seed) for seed in range(scale.seeds)]
        report = kp.audit(
            defended,
            subset(self.data.train, scale.attackers),
            subset(self.data.test, scale.victims),
            task.private,
            references,
            scale.audit_seeds,
            attacks=scale.attacks,
            unseen=task.unseen,
            trained_on=self.data.train,
            group=task.group,
            epochs=scale.audit_epochs,
            pictures=0,
            cache=self.work / "audits",
        )
        sizes = {"train": len(self.data.train), "test": len(self.data.test), "classes": self.classes}
        return {
            "task": task.name,
            "title": task.title,
            "scale": self.scale_name,
            "cut": cut,
            "defence": name,
            "epochs": scale.epochs,
            "models": scale.seeds,
            "accuracy": sum(self._accuracy(parts) for parts in defended) / len(defended),
            **sizes,
            "boundary_bytes": report.boundary_bytes,
            "input_bytes": report.input_bytes,
            "audit": report.contract_summary(),
            "attacks": sorted({result.attack for result in report.results}),
            "versions": dict(report.versions),
        }

    def _trained(self, cut: str, name: str, seed: int) -> Any:
        """The trained partition of a row and seed; read where it was trained before."""
        from keras_privpart.partitioning.halves import Partition

        folder = self.work / "trained" / f"{_file(cut)}-{_file(name)}-{seed}"
        if not folder.exists():
            train(
                self.task.model(self.scale, self.classes, seed), cut, self.recipes[name](), self._examples(), self.scale.epochs, seed
            ).save(folder)
        return Partition.load(folder)

    def _accuracy(self, parts: Any) -> float:
        """Of the task, over all test examples, with the channel's noise where there is one."""
        boundary = parts.device.predict(self.data.test.x, BATCH, verbose=0)
        return float((parts.server.predict(boundary, BATCH, verbose=0).argmax(-1) == self.data.test.targets["task"]).mean())

    def _examples(self) -> Any:
        """What models are trained on: the attackers' data, mirrored as well where the task says so."""
        import numpy as np

        from keras_privpart.datasets import Samples

        data = self.data.train
        if not self.task.mirror:
            return data
        targets = {key: np.concatenate([value, value]) for key, value in data.targets.items()}
        return Samples(np.concatenate([data.x, data.x[:, :, ::-1]]), targets)


def train(model: Any, cut: str, defence: Row, examples: Any, epochs: int, seed: int) -> Any:
    """A partition of the model, trained with its defence; Adam from 0.001 along a cosine, the same for all rows."""
    import keras

    import keras_privpart as kp
    from keras_privpart.datasets import batches

    keras.utils.set_random_seed(seed)
    parts = kp.partition(model, at=cut, bottleneck=defence.bottleneck, bottleneck_over="example")
    trainer = kp.AdversarialTrainer(parts, defence.adversaries, defence.channel, regularizers=defence.regularizers)
    steps = epochs * math.ceil(len(examples) / BATCH)
    trainer.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        adversary_optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        mode=defence.mode,
    )
    trainer.fit(batches(examples, BATCH, seed=seed), epochs=epochs, shuffle=False, verbose=0)
    return trainer.partition


def _file(name: str) -> str:
    """A name as part of a file's name."""
    return "".join(c if c.isalnum() else "_" for c in name).strip("_").lower()


def main(task: Task, purpose: str) -> None:
    """The command of a task."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Folder of prepared tensorflow-datasets.")
    parser.add_argument("--scale", choices=["small", "full"], default="small")
    parser.add_argument(
        "--quick", action="store_true", help="A few examples and one epoch, to see that all rows work. No results are written."
    )
    parser.add_argument("--only", action="append", default=[], help="Rows whose name holds this text; may be repeated. All by default.")
    parser.add_argument("--work", type=Path, default=Path("runs/tasks"), help="Folder of what is kept between runs.")
    options = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # attackers of many shapes: TensorFlow warns of each that it traces
    name = "quick" if options.quick else options.scale
    experiment = Experiment(task, name, task.load(options.data_dir, task.scales[name]), options.work / task.name / name)
    rows = []
    for cut, defence in experiment.rows():
        if not options.only or any(text in defence for text in options.only):
            rows.append(experiment.row(cut, defence))
            print(_line(rows[-1]), flush=True)
    if not options.quick and not options.only:
        RESULTS.mkdir(parents=True, exist_ok=True)
        target = RESULTS / f"{task.name}-{name}.json"
        target.with_suffix(".part").write_text(
            json.dumps({"schema": 1, "settings": asdict(experiment.scale), "rows": rows}, indent=1) + "\n"
        )
        target.with_suffix(".part").replace(target)
        print(f"Wrote {target}. Next: python benchmarks/tasks/page.py")


def _line(row: dict[str, Any]) -> str:
    found = [
        f"{kind} {facts['score']} {facts['boundary']:.3f}, leakage {facts['leakage']}" for kind, facts in row["audit"]["kinds"].items()
    ]
    return f"{row['cut']}, {row['defence']}: accuracy {row['accuracy']:.4f}; {'; '.join(found)}"
