"""Faces: who it is as the task, gender as the private attribute, under both protocols; no picture is written anywhere.

    python benchmarks/tasks/faces.py --data-dir DIR --scale small

Takes `celeb_faces`, a set in tensorflow-datasets' form with the feature keys of `celeb_a` 2.1.0 and every person in both splits.
`small` has the 30 men and 30 women with the most photographs, `full` everybody.
"""

from __future__ import annotations

from typing import Any

from experiment import main
from task import Scale, Task

PRIVATE, UNSEEN = ("Male",), ("Smiling", "Young", "Eyeglasses")


def load(data_dir: str | None, scale: Scale) -> Any:
    from keras_privpart import datasets

    keys = [f"attributes/{name}" for name in (*PRIVATE, *UNSEEN)]
    data = datasets.load(
        "celeb_faces", task="identity/Identity_No", private=keys, image_size=scale.side, data_dir=data_dir, download=data_dir is None
    )
    train, test, classes = data.train, data.test, dict(data.classes)
    if scale.people is not None:
        train, test, classes["task"] = _balanced(train, test, scale.people)
    return datasets.Dataset(data.name, train, test, classes)


def _balanced(train: Any, test: Any, each: int) -> tuple[Any, Any, int]:
    """As many men as women, those with the most photographs, numbered from 0."""
    import numpy as np

    from keras_privpart.datasets import Samples

    people, counts = np.unique(np.concatenate([train.targets["task"], test.targets["task"]]), return_counts=True)
    male = np.array([train.targets["Male"][train.targets["task"] == person].mean() > 0.5 for person in people])
    order = np.lexsort((people, -counts))
    kept = np.sort(np.concatenate([people[order][male[order] == gender][:each] for gender in (False, True)]))

    def numbered(samples: Any) -> Any:
        chosen = samples[np.isin(samples.targets["task"], kept)]
        return Samples(chosen.x, {**chosen.targets, "task": np.searchsorted(kept, chosen.targets["task"])})

    return numbered(train), numbered(test), len(kept)


def face_network(scale: Scale, classes: int, seed: int) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    x = image = keras.Input((scale.side, scale.side, 3), name="image")
    for block in range(4 if scale.side == 64 else 3):
        for i in (1, 2):
            x = layers.Conv2D(scale.width * 2**block, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU(name=f"relu_{block}_{i}")(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D(name=f"pool_{block}")(x)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(classes, name="scores")(x), name="faces")


TASK = Task(
    "faces",
    "faces: identity as the task, gender private; cut after the second block",
    load,
    face_network,
    cut="pool_1",
    scales={
        "small": Scale(24, 40, 1, 1, side=32, people=30),
        "full": Scale(48, 120, 3, 3, ("full",), side=64),
        "quick": Scale(8, 1, 1, 1, ("decoder, small, mse", "linear probe, Male"), side=32, people=4),
    },
    private=PRIVATE,
    unseen=UNSEEN,
    group="task",
    mirror=True,
    bottleneck=32,
)

if __name__ == "__main__":
    main(TASK, __doc__)
