"""CIFAR-10 with a small network on the device, at a quarter of the multiply-adds of the network of `objects.py`, which teaches it.

    python benchmarks/tasks/objects_small_device.py --data-dir DIR --scale small

The undefended row is the small network as its teacher taught it; accuracy is held against the teacher's.
"""

from __future__ import annotations

from typing import Any

import objects
from experiment import main
from task import Scale, Task


def small_device(scale: Scale, classes: int, seed: int) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    x = image = keras.Input((32, 32, 3), name="image")
    for i, (channels, strides) in enumerate(((0.5, 1), (1, 2), (1, 1), (2, 2), (3, 2), (2.5, 1)), 1):
        x = layers.Conv2D(int(channels * scale.width), 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU(name=f"device_{i}")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.3)(layers.Dense(4 * scale.width, activation="relu")(layers.Flatten()(x)))
    return keras.Model(image, layers.Dense(classes, name="scores")(x), name="small_device")


TASK = Task(
    "objects_small_device",
    "objects on a small device: CIFAR-10, six thinner convolutions distilled from the network above, cut after the last",
    objects.load,
    small_device,
    cut="device_6",
    scales=objects.TASK.scales,
    mirror=True,
    shift=4,
    keep_weights=True,
    bottleneck=16,
    warm=6,
    teacher=objects.TASK,
)

if __name__ == "__main__":
    main(TASK, __doc__)
