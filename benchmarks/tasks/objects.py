"""CIFAR-10 on six convolutions and two dense layers, cut after the sixth convolution's ReLU.

    python benchmarks/tasks/objects.py --data-dir DIR --scale small

The undefended network and our recipe stand at earlier cuts as well: after the fourth convolution, where He, Zhang and Lee (ACSAC 2019)
cut theirs, and after the second.
"""

from __future__ import annotations

from typing import Any

from experiment import main
from task import Scale, Task


def load(data_dir: str | None, scale: Scale) -> Any:
    from keras_privpart import datasets

    return datasets.load("cifar10", data_dir=data_dir, download=data_dir is None)


def six_convolutions(scale: Scale, classes: int, seed: int) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    x = image = keras.Input((32, 32, 3), name="image")
    for block in range(3):
        for i in (1, 2):
            x = layers.Conv2D(scale.width * min(2**block, 2), 3, padding="same", use_bias=False)(x)
            x = layers.ReLU(name=f"relu_{2 * block + i}")(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(layers.Dense(8 * scale.width, activation="relu")(layers.Flatten()(x)))
    return keras.Model(image, layers.Dense(classes, name="scores")(x), name="six_convolutions")


TASK = Task(
    "objects",
    "objects: CIFAR-10, six convolutions and two dense layers, cut after the sixth convolution's ReLU",
    load,
    six_convolutions,
    cut="relu_6",
    scales={
        "small": Scale(32, 24, 1, 1, attackers=20_000, victims=1_000),
        "full": Scale(64, 100, 3, 3, ("full",)),
        "quick": Scale(8, 2, 1, 1, ("decoder, small, mse",), train=256, attackers=256, victims=96),
    },
    other_cuts=("relu_4", "relu_2"),
    mirror=True,
    shift=4,
    keep_weights=True,
    bottleneck=16,
    warm=6,
)

if __name__ == "__main__":
    main(TASK, __doc__)
