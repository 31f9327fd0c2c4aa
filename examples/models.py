"""Models to try the commands on: `privpart-keras cuts examples.models:lenet`."""

import keras
from keras import layers


def lenet() -> keras.Model:
    """A LeNet for MNIST, 28x28x1, with a bottleneck after the second convolution: narrow boundaries leak less."""
    x = inputs = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(16, 5, strides=2, padding="same", activation="relu", name="conv_1")(x)
    x = layers.Conv2D(32, 5, strides=2, padding="same", activation="relu", name="conv_2")(x)
    x = layers.Conv2D(4, 1, activation="relu", name="bottleneck")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, activation="relu", name="dense_1")(x)
    x = layers.Dense(256, activation="relu", name="dense_2")(x)
    return keras.Model(inputs, layers.Dense(10, name="scores")(x), name="lenet")


def faces() -> keras.Model:
    """A small network for 194 identities, faces of 64x64x3, with a bottleneck at 8x8."""
    x = inputs = keras.Input((64, 64, 3), name="image")
    for i, filters in enumerate((24, 32, 48)):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"conv_{i}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm_{i}")(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
    x = layers.Conv2D(8, 1, name="bottleneck")(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu", name="conv_3")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(192, 3, padding="same", activation="relu", name="conv_4")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(194, name="scores")(x), name="faces")
