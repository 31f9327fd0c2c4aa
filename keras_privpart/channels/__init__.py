"""Channels: layers that stand on the boundary. They belong to the device half, in training and after export."""

from keras_privpart.channels.bottleneck import Expand, ExpandConvolutions, ExpandDense, Squeeze
from keras_privpart.channels.channel import PACKAGE, Channel
from keras_privpart.channels.erasure import Erasure
from keras_privpart.channels.gate import DropoutChannel, GateChannel
from keras_privpart.channels.noise import GaussianChannel, LaplaceChannel
from keras_privpart.channels.quantize import QuantizeChannel

__all__ = [
    "PACKAGE",
    "Channel",
    "DropoutChannel",
    "Erasure",
    "Expand",
    "ExpandConvolutions",
    "ExpandDense",
    "GateChannel",
    "GaussianChannel",
    "LaplaceChannel",
    "QuantizeChannel",
    "Squeeze",
]
