"""Trains and audits the rows of a task in steps that end: what is finished is a small file, and a run goes on where the files end.

Finished models and rows are `benchmarks/results/tasks/TASK/SCALE/models/*.json` and `.../rows/*.json`: numbers only, to be committed
as they come. Weights, half-finished trainings and what single attackers found stay in the work folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from recipes import Row, recipes
from task import OURS, SHORT, UNDEFENDED, WITH_DECODERS, Scale, Task, augmented, subset

RESULTS = Path(__file__).parents[1] / "results" / "tasks"
BATCH = 128
TRAINING = ("width", "epochs", "train", "side", "people")  # what of a scale a trained model depends on
IN_FULL = (OURS, WITH_DECODERS)  # what all of the scale's attacks attack at the task's own cut, with updates doubled until no gain
KNOWN = 2_000  # examples that the bottleneck of a trained network starts from
DISTILLED = {"weight": 0.9, "temperature": 4.0}  # how much of a smaller network's loss is its teacher's answer, and how soft


class OutOfTime(Exception):
    """The run's minutes are over; what is finished is kept."""


class Clock:
    """Says when to stop.

    Args:
        minutes: from now on; None for no end.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def check(self) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise OutOfTime


class Experiment:
    """One task at one scale.

    Args:
        task, scale_name: which.
        data: a `datasets.Dataset`, whole: models and attackers draw their parts from its training split.
        results: folder of the finished files.
        work: folder of what is kept beside them.
        clock: when to stop.
    """

    def __init__(self, task: Task, scale_name: str, data: Any, results: Path, work: Path, clock: Clock) -> None:
        self.task = task
        self.scale: Scale = task.scales[scale_name]
        self.scale_name = scale_name
        self.data = data
        self.results = results
        self.work = work
        self.clock = clock
        self.classes = data.classes["task"]
        self.train = subset(data.train, self.scale.train)
        self.recipes = recipes(task, self.classes)
        self.original = self if task.teacher is None else Experiment(task.teacher, scale_name, data, *_beside(task, results, work), clock)

    def rows(self) -> list[tuple[str, str]]:
        """Cut and defence of every row, the most important first."""
        main = [(self.task.cut, name) for name in self.recipes]
        return main + [(cut, name) for cut in self.task.other_cuts for name in (UNDEFENDED, OURS)]

    def seeds(self, name: str) -> int:
        """How many models of a row are trained: peers and ablations have one."""
        return self.scale.seeds if name in (UNDEFENDED, OURS) else 1

    def row(self, cut: str, name: str) -> dict[str, Any]:
        """The finished row; trained and audited where it is not there yet.

        Raises:
            OutOfTime: before it is finished.
        """
        path = self.results / "rows" / f"{_file(cut)}-{_file(name)}.json"
        settings = {**asdict(self.scale), "models": self.seeds(name)}
        full = name in IN_FULL and cut == self.task.cut
        if not full and self.scale.attacks is None:
            settings["attacks"] = SHORT
        elif name == OURS and full and self.scale.attacks is None and self.task.searches:
            settings["attacks"] = ("standard", *self.task.searches)
        found = _kept(path, settings)
        if found is None:
            found = {"settings": settings, **self._audited(cut, name, settings["attacks"], doublings=2 if full else 0)}
            _write(path, found)
        return found

    def model(self, cut: str, name: str, seed: int) -> tuple[Any, dict[str, Any]]:
        """The partition of a row and seed and its record; trained where it is not there yet, and where it was stopped goes on.

        The undefended network is trained once and cut wherever it is wanted.
        """
        import keras_privpart as kp
        from keras_privpart.partitioning.graphs.copying import copy_model
        from keras_privpart.partitioning.halves import Partition

        stem = f"{_file(name)}-{seed}" if name == UNDEFENDED else f"{_file(cut)}-{_file(name)}-{seed}"
        path, trained = self.results / "models" / f"{stem}.json", self.work / "trained" / stem
        defence = self.recipes[name]()
        warm = self.task.warm > 0 and "(ours" in name
        epochs = self.task.warm if warm else self.scale.epochs
        learned = {name: value for name, value in asdict(self.scale).items() if name in TRAINING}
        settings = {**learned, "epochs": epochs, "seed": seed, "defence": defence.describe()}
        teacher = None
        if self.task.teacher is not None and name == UNDEFENDED:
            settings |= {"teacher": self.task.teacher.name, **DISTILLED}
            teacher = self.original.model(self.task.teacher.cut, UNDEFENDED, seed)[0].model
        found = _kept(path, settings)
        weights = path.with_suffix(".npz")
        if found is not None and trained.exists():
            parts = Partition.load(trained)
        elif found is not None and "sha256" in found:
            parts = kp.partition(_with_weights(self.task.model(self.scale, self.classes, seed), weights, found["sha256"]), at=cut)
        else:
            backup = self.work / "backups" / stem
            resumed, spent = backup.exists(), time.process_time()
            model = copy_model(self.model(cut, UNDEFENDED, seed)[0].model) if warm else self.task.model(self.scale, self.classes, seed)
            known = self.train[:KNOWN] if warm else None
            parts = train(model, cut, defence, self._batches(seed), epochs, seed, backup, self.clock, known, teacher)
            found = {
                "settings": settings,
                "defence": name,
                "seed": seed,
                "accuracy": self._accuracy(parts),
                "processor_seconds": None if resumed else round(time.process_time() - spent, 1),
            }
            parts.save(trained, overwrite=True)
            if name == UNDEFENDED and self.task.keep_weights:
                found["sha256"] = _save_weights(weights, parts.model)
            _write(path, found)
        return (kp.partition(parts.model, at=cut) if name == UNDEFENDED else parts), found

    def _audited(self, cut: str, name: str, attacks: Sequence[str] | None, doublings: int) -> dict[str, Any]:
        import keras_privpart as kp

        seeds = range(self.seeds(name))
        defended, records = zip(*(self.model(cut, name, seed) for seed in seeds), strict=True)
        references = [self.model(cut, UNDEFENDED, seed)[0] for seed in seeds]
        originals, plain = zip(*(self.original.model(self.original.task.cut, UNDEFENDED, seed) for seed in seeds), strict=True)
        self.clock.check()
        spent = time.process_time()
        report = kp.audit(
            references if name == UNDEFENDED else defended,
            subset(self.data.train, self.scale.attackers),
            subset(self.data.test, self.scale.victims),
            self.task.private,
            references,
            self.scale.audit_seeds,
            attacks=attacks,
            unseen=self.task.unseen,
            trained_on=self.train,
            group=self.task.group,
            batch_size=BATCH,
            doublings=doublings,
            pictures=0,
            cache=self.work / "audits",
            progress=lambda *_: self.clock.check(),
        )
        return {
            "task": self.task.name,
            "title": self.task.title,
            "scale": self.scale_name,
            "cut": cut,
            "defence": name,
            "accuracy": sum(record["accuracy"] for record in records) / len(records),
            "undefended_accuracy": sum(record["accuracy"] for record in plain) / len(plain),
            "device_share": _device_share(defended[0], None if self.task.teacher is None else originals[0].model),
            "train_seconds": [record["processor_seconds"] for record in records],
            "audit_seconds": round(time.process_time() - spent, 1),
            "train": len(self.train),
            "test": len(self.data.test),
            "classes": self.classes,
            "summary": report.contract_summary(),
            "report": report.to_json(),
        }

    def _batches(self, seed: int) -> Any:
        from keras_privpart.datasets import batches

        return augmented(self.task, batches(self.train, BATCH, seed=seed), seed)

    def _accuracy(self, parts: Any) -> float:
        """Of the task, over all test examples, with the channel's noise where there is one."""
        boundary = parts.device.predict(self.data.test.x, BATCH, verbose=0)
        return float((parts.server.predict(boundary, BATCH, verbose=0).argmax(-1) == self.data.test.targets["task"]).mean())


def train(
    model: Any,
    cut: str,
    defence: Row,
    batched: Any,
    epochs: int,
    seed: int,
    backup: Path,
    clock: Clock,
    known: Any = None,
    teacher: Any = None,
) -> Any:
    """A partition of the model, trained with its defence; Adam from 0.001 along a cosine, the same for all rows.

    Args:
        known: examples from which the bottleneck starts, where the model is trained already.
        teacher: a larger trained model, from whose answers this one learns beside the labels.
    """
    import keras

    import keras_privpart as kp

    keras.utils.set_random_seed(seed)
    parts = kp.partition(model, at=cut)
    if defence.bottleneck is not None:
        narrow = {"over": "example", "activation": defence.bottleneck_activation, "expand": defence.expand}
        if known is not None:
            narrow |= {"examples": known.x, "labels": known.targets["task"] if defence.bottleneck_activation == "softmax" else None}
        parts = kp.with_bottleneck(parts, defence.bottleneck, **narrow)
    taught = {} if teacher is None else {"teacher": teacher, "distillation": kp.Distillation(**DISTILLED, from_logits=True)}
    trainer = kp.AdversarialTrainer(parts, defence.adversaries, defence.channel, regularizers=defence.regularizers, **taught)
    steps = epochs * len(batched)
    trainer.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        adversary_optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        mode=defence.mode,
    )
    kept = keras.callbacks.BackupAndRestore(str(backup))
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.check())
    trainer.fit(batched, epochs=epochs, callbacks=[kept, stop], shuffle=False, verbose=0)
    return trainer.partition


def _device_share(parts: Any, original: Any = None) -> float | None:
    """Multiply-adds on the device as a share of those of both halves, or of the original model that the halves stand for."""
    import keras_privpart as kp

    cut = next(cut for cut in kp.cuts(parts.model) if set(cut.tensors) == set(parts.boundary.sources))
    whole = cut if original is None else kp.cuts(original)[0]  # the same in all at every cut
    if cut.device_macs is None or whole.device_macs is None or whole.server_macs is None:
        return None
    return round(cut.device_macs / (whole.device_macs + whole.server_macs), 4)


def _beside(task: Task, results: Path, work: Path) -> tuple[Path, Path]:
    """Where the teacher of a task has its files."""
    return results.parents[1] / task.teacher.name / results.name, work.parents[1] / task.teacher.name / work.name


def _save_weights(path: Path, model: Any) -> str:
    """Writes a model's weights and returns the file's SHA-256."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.savez_compressed(file, **{f"weight_{i}": weight for i, weight in enumerate(model.get_weights())})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _with_weights(model: Any, path: Path, sha256: str) -> Any:
    """The model with the weights of a file that `_save_weights` wrote."""
    import numpy as np

    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{path} is not the file that its record names. Delete both to train again.")
    with np.load(path, allow_pickle=False) as file:
        model.set_weights([file[f"weight_{i}"] for i in range(len(file.files))])
    return model


def _kept(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an earlier run finished with the same settings."""
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if found["settings"] == json.loads(json.dumps(settings)) else None


def _write(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".part").replace(path)


def _file(name: str) -> str:
    """A name as part of a file's name."""
    words = "".join(c if c.isalnum() else " " for c in name).lower().split()
    return "_".join(words)


def main(task: Task, purpose: str) -> None:
    """The command of a task."""
    parser = argparse.ArgumentParser(description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Folder of prepared tensorflow-datasets.")
    parser.add_argument("--scale", choices=["small", "full"], default="small")
    parser.add_argument("--minutes", type=float, help="Stop by itself after so long; the next run goes on.")
    parser.add_argument(
        "--quick", action="store_true", help="A few examples and one epoch, to see that all rows work. No results are written."
    )
    parser.add_argument("--train-only", action="store_true", help="Train the rows' models, audit nothing.")
    parser.add_argument("--only", action="append", default=[], help="Rows whose name holds this text; may be repeated. All by default.")
    parser.add_argument("--cut", action="append", default=[], help="Rows of this cut; may be repeated. All by default.")
    parser.add_argument("--work", type=Path, default=Path("runs/tasks"), help="Folder of what is kept between runs.")
    options = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # attackers of many shapes: TensorFlow warns of each that it traces
    name = "quick" if options.quick else options.scale
    work = options.work / task.name / name
    results = work / "results" if options.quick else RESULTS / task.name / name
    clock = Clock(options.minutes)
    experiment = Experiment(task, name, task.load(options.data_dir, task.scales[name]), results, work, clock)
    try:
        for cut, defence in experiment.rows():
            if (options.only and not any(text in defence for text in options.only)) or (options.cut and cut not in options.cut):
                continue
            clock.check()
            if options.train_only:
                for seed in range(experiment.seeds(defence)):
                    print(_trained_line(cut, experiment.model(cut, defence, seed)[1]), flush=True)
            else:
                print(_line(experiment.row(cut, defence)), flush=True)
    except OutOfTime:
        print(f"The {options.minutes:g} minutes are over. The same command goes on from here.")
        return
    print("Next: python benchmarks/tasks/page.py")


def _trained_line(cut: str, found: Mapping[str, Any]) -> str:
    spent = found["processor_seconds"]
    seconds = "in several runs" if spent is None else f"{spent:.0f} processor seconds"
    return f"{cut}, {found['defence']}, seed {found['seed']}: accuracy {found['accuracy']:.4f}, {seconds}"


def _line(row: Mapping[str, Any]) -> str:
    kinds = row["summary"]["kinds"]
    found = [f"{kind} {facts['score']} {facts['boundary']:.3f}, leakage {facts['leakage']}" for kind, facts in kinds.items()]
    return f"{row['cut']}, {row['defence']}: accuracy {row['accuracy']:.4f}; {'; '.join(found)}"
