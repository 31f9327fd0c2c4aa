"""MNIST on a LeNet-5-like network, cut after the second convolution's ReLU, as He, Zhang and Lee (ACSAC 2019) cut theirs.

    python benchmarks/tasks/digits.py --data-dir DIR --scale small

The undefended network and our recipe stand at an earlier cut, after the first convolution, as well.
"""

from __future__ import annotations

from typing import Any

from experiment import main
from task import Scale, Task


def load(data_dir: str | None, scale: Scale) -> Any:
    from keras_privpart import datasets

    return datasets.load("mnist", data_dir=data_dir, download=data_dir is None)


def lenet(scale: Scale, classes: int, seed: int) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.MaxPooling2D()(layers.Conv2D(scale.width, 5, padding="same", activation="relu", name="conv_1")(image))
    x = layers.MaxPooling2D()(layers.Conv2D(2 * scale.width, 5, padding="same", activation="relu", name="conv_2")(x))
    x = layers.Dense(84, activation="relu")(layers.Dense(120, activation="relu")(layers.Flatten()(x)))
    return keras.Model(image, layers.Dense(classes, name="scores")(x), name="lenet")


TASK = Task(
    "digits",
    "digits: MNIST, LeNet-5-like, cut after the second convolution's ReLU",
    load,
    lenet,
    cut="conv_2",
    scales={
        "small": Scale(8, 16, 1, 1, train=16_000, victims=1_000),
        "full": Scale(8, 30, 3, 3, ("full",)),
        "quick": Scale(4, 1, 1, 1, ("decoder, small, mse",), train=256, attackers=256, victims=96),
    },
    other_cuts=("conv_1",),
    bottleneck=16,
    searches=("white box, from noise",),
)

if __name__ == "__main__":
    main(TASK, __doc__)
