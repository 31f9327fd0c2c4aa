"""The two layers of a bottleneck: few features cross. `partitioning.narrowing` puts them around a cut."""

from __future__ import annotations

import keras

from keras_privpart.channels.channel import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class Squeeze(keras.layers.Dense):
    """Down to a few features, linearly, at each place of the grid (a 1x1 convolution) or of a flat tensor. Ends the device half."""


@keras.saving.register_keras_serializable(package=PACKAGE)
class Expand(keras.layers.Dense):
    """Back to as many features as the server half takes, likewise. Begins the server half."""
