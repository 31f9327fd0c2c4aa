"""Faces on a pretrained network, open set: who of the enrolled it is as the task, the gender of strangers as the private attribute.

    python benchmarks/tasks/faces.py --data-dir DIR --network face_embedding.keras --minutes 20

Takes `celeb_faces`, a set in tensorflow-datasets' form with the feature keys of `celeb_a` 2.1.0 and every person in both splits, and a
network from faces of 150x150 pixels to an embedding. Of the 194 people 98 are enrolled, 48 are helpers, whom the defence may see, and 48
strangers, anew in each of four splits. A third of the strangers at a time are the victims; the attackers have the pictures of all others,
178 people. The whole network runs on the device, so that its embeddings, computed once, stand for the pictures. Settings were chosen on
split 0. The network was trained on other public face sets; an overlap with these people is unknown and likely. Only numbers are written.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from experiment import RESULTS, Clock, OutOfTime

PRIVATE, UNSEEN = "Male", ("Smiling", "Young", "Eyeglasses")
ATTRIBUTES = (PRIVATE, *UNSEEN)
ENROLLED, HELPERS, FOLDS = 98, 48, 3
FALSE_ALARMS = 0.05
DRAWS = 16
ATTACKS = ("attribute probe", "re-identification", "de-censoring")
UNDEFENDED = "undefended"


class People:
    """One split of the people, with the embeddings of their pictures.

    Args:
        seed: of the split.
        faces: embeddings `[n, d]`, their mirrored ones, `task` (who it is), attributes, and whether it is of the test split, by name.
    """

    def __init__(self, seed: int, faces: dict[str, np.ndarray]) -> None:
        order = np.random.default_rng(seed).permutation(np.unique(faces["task"]))
        self.enrolled, self.helpers, self.strangers = np.split(order, [ENROLLED, ENROLLED + HELPERS])
        self._faces = faces

    def samples(self, people: np.ndarray, test: bool | None = None, mirrored: bool = False, targets: Sequence[str] = ("task",)) -> Any:
        """Pictures of some people with some targets: of one split of the data, or of both; the mirrored ones as well."""
        from keras_privpart.datasets import Samples

        faces = self._faces
        chosen = np.isin(faces["task"], people) & (True if test is None else faces["test"] == test)
        times = 2 if mirrored else 1
        numbers = {person: i for i, person in enumerate(people)}
        known = {**faces, "task": np.array([numbers.get(who, -1) for who in faces["task"]])}
        x = np.concatenate([faces["x"][chosen], *([faces["mirrored"][chosen]] if mirrored else [])])
        return Samples(x, {key: np.tile(known[key][chosen], times) for key in targets})


def recipes() -> dict[str, Callable[[People], Any]]:
    """All rows by name: from a split of the people to a partition."""
    import keras_privpart as kp

    def plain(people: People) -> Any:
        return kp.partition(_by_class_means(people), at="embedding")

    def erased(people: People) -> Any:
        known = people.samples(people.enrolled, test=False, mirrored=True, targets=(PRIVATE,))
        helpers = people.samples(people.helpers, mirrored=True, targets=(PRIVATE,))
        x, male = (np.concatenate(both) for both in ((known.x, helpers.x), (known.targets[PRIVATE], helpers.targets[PRIVATE])))
        return kp.erase(plain(people), (x, {PRIVATE: male}), PRIVATE)

    def gated(private: Sequence[str], stddev: float) -> Callable[[People], Any]:
        return lambda people: kp.recipes.open_set(
            plain(people),
            people.samples(people.enrolled, test=False, mirrored=True, targets=("task", PRIVATE)),
            people.samples(people.helpers, mirrored=True, targets=(PRIVATE,)),
            private,
            stddev,
        )

    return {
        UNDEFENDED: plain,
        "erasure, gate, codes, noise 0.1 (ours)": gated([PRIVATE], 0.1),
        "erasure, gate, codes, noise 0.05 (ours)": gated([PRIVATE], 0.05),
        "gate, codes, noise 0.1 (ours without the erasure)": gated([], 0.1),
        "erasure only (LEACE)": erased,
        "noise only, 0.5 of each number's spread": lambda people: plain(people).with_channel(kp.GaussianChannel(0.5 * _spread(people))),
    }


def _spread(people: People) -> float:
    return float(people.samples(people.enrolled, test=False).x.std(axis=0).mean())


def _by_class_means(people: People) -> Any:
    """The undefended model: cosines to the mean embedding of each enrolled person."""
    import keras
    from keras import layers

    known = people.samples(people.enrolled, test=False, mirrored=True)
    mean = known.x.mean(axis=0)
    rows = known.x - mean
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centres = np.stack([rows[known.targets["task"] == person].mean(axis=0) for person in range(ENROLLED)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    width = known.x.shape[1]
    face = keras.Input((width,), name="face")
    embedding = layers.Dense(width, name="embedding")
    e = embedding(face)
    embedding.set_weights([np.eye(width, dtype="float32"), np.zeros(width, "float32")])
    e = layers.Normalization(mean=mean.tolist(), variance=[1.0] * width)(e)
    scores = layers.Dense(ENROLLED, use_bias=False, name="scores")
    answer = scores(layers.UnitNormalization()(e))
    scores.set_weights([centres.T])
    return keras.Model(face, answer, name="faces")


def embeddings(data_dir: str | None, network: str, work: Path) -> dict[str, np.ndarray]:
    """The embeddings of all pictures and of their mirror images, computed once and kept in the work folder."""
    import keras
    from keras import layers

    from keras_privpart import datasets

    kept = work / "embeddings.npz"
    if not kept.exists():
        keys = [f"attributes/{name}" for name in (PRIVATE, *UNSEEN)]
        data = datasets.load("celeb_faces", task="identity/Identity_No", private=keys, data_dir=data_dir, download=data_dir is None)
        face = keras.Input(data.train.x.shape[1:])
        x = layers.Cropping2D(((18, 0), (8, 8)))(layers.ZeroPadding2D(((0, 2), (0, 0)))(layers.Rescaling(255.0)(face)))
        whole = keras.Model(face, keras.models.load_model(network)(layers.Resizing(150, 150, "bicubic")(x)))
        found = {key: np.concatenate([data.train.targets[key], data.test.targets[key]]) for key in data.train.targets}
        pictures = np.concatenate([data.train.x, data.test.x])
        found["test"] = np.arange(len(pictures)) >= len(data.train)
        found["x"], found["mirrored"] = (whole.predict(x, 64, verbose=0) for x in (pictures, pictures[:, :, ::-1]))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(kept.with_suffix(".part.npz"), **found)
        kept.with_suffix(".part.npz").replace(kept)
    with np.load(kept, allow_pickle=False) as file:
        return dict(file)


def row(name: str, make: Callable[[People], Any], seed: int, faces: dict[str, np.ndarray], work: Path, clock: Clock) -> dict[str, Any]:
    """One defence on one split: what identity costs, and what the strongest attackers read of strangers, averaged over the folds."""
    import keras_privpart as kp

    people = People(seed, faces)
    parts, plain = make(people), recipes()[UNDEFENDED](people)
    folds = []
    for fold in range(FOLDS):
        victims = people.strangers[fold::FOLDS]
        others = np.setdiff1d(np.unique(faces["task"]), victims)
        report = kp.audit(
            parts,
            people.samples(others, mirrored=True, targets=ATTRIBUTES),
            people.samples(victims, targets=ATTRIBUTES),
            [PRIVATE],
            plain,
            seeds=1,
            attacks=ATTACKS,
            unseen=UNSEEN,
            batch_size=128,
            doublings=2,
            pictures=0,
            cache=work / "audits",
            progress=lambda *_: clock.check(),
        )
        folds.append(report.contract_summary())
    counts = {"enrolled": ENROLLED, "helpers": HELPERS, "strangers": len(people.strangers), "others": len(others)}
    return {"defence": name, "split": seed, **_identity(parts, people), "people": counts, "folds": folds}


def _identity(parts: Any, people: People) -> dict[str, float]:
    """Top-1 on the enrolled's test pictures, and the rate of detection and identification where 5 % of strangers raise an alarm.

    Means over draws of the noise: one draw alone moves them by half a point.
    """
    from keras_privpart.auditing.scoring.identification import identified

    known, strangers = people.samples(people.enrolled, test=True), people.samples(people.strangers)
    found = []
    for _ in range(DRAWS):
        answers, alarms = (np.asarray(parts.server(parts.device(s.x, training=False), training=False)) for s in (known, strangers))
        identity, detected = identified([answers], known.targets["task"], [alarms], FALSE_ALARMS, models=1, seed=0)
        found.append((identity.value, detected.value))
    accuracy, both = np.mean(found, axis=0)
    return {"accuracy": float(accuracy), "detected_and_identified": float(both)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Folder of prepared tensorflow-datasets.")
    parser.add_argument("--network", required=True, help="The embedding network, a .keras file for faces of 150x150 pixels in 0 to 255.")
    parser.add_argument("--minutes", type=float, help="Stop by itself after so long; the next run goes on.")
    parser.add_argument("--splits", type=int, default=4, help="Splits of the people.")
    parser.add_argument("--only", action="append", default=[], help="Rows whose name holds this text; may be repeated. All by default.")
    parser.add_argument("--work", type=Path, default=Path("runs/tasks/faces"), help="Folder of what is kept between runs.")
    options = parser.parse_args()
    clock, faces = Clock(options.minutes), embeddings(options.data_dir, options.network, options.work)
    try:
        for seed in range(options.splits):
            for name, make in recipes().items():
                path = RESULTS / "faces" / "open_set" / f"{''.join(c if c.isalnum() else '_' for c in name)}-{seed}.json"
                if path.exists() or (options.only and not any(text in name for text in options.only)):
                    continue
                clock.check()
                found = row(name, make, seed, faces, options.work, clock)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".part").write_text(json.dumps(found, indent=1) + "\n")
                path.with_suffix(".part").replace(path)
                scores = [fold["kinds"][PRIVATE]["boundary"] for fold in found["folds"]]
                print(f"split {seed}, {name}: identity {found['accuracy']:.4f}, gender AUC {np.mean(scores):.3f}", flush=True)
    except OutOfTime:
        print(f"The {options.minutes:g} minutes are over. The same command goes on from here.")


if __name__ == "__main__":
    main()
