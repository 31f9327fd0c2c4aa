"""`enrolled`: a boundary that tells enrolled classes apart, and says little of whoever is not enrolled."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_privpart import arguments
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import CutError, DataError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.partition import partition as cut
from keras_privpart.training.closed_form.unit_codes import spread_codes

_BATCH = 256


def enrolled(
    partition: Partition,
    data: Any,
    helpers: np.ndarray,
    *,
    features: int = 64,
    stddev: float = 0.05,
    gain: float = 4.0,
    frozen: bool = False,
    seed: int = 0,
) -> Partition:
    """Sends who of the enrolled an input resembles, and next to nothing of strangers; in closed form, from a given embedding.

    For open-set tasks, such as telling some people from all others: what the embedding e knows of a stranger should not cross. With all of
    the embedding on the device,

    1. e, less its mean over all given examples, is brought to unit length;
    2. `s_i = gain * max(0, (cos(e, mean_i) - t) / (1 - t))`, its likeness to each class mean, passes a gate: t is the median over the
       helpers of their highest cosine, so that of half of all strangers nothing passes, and of the others little;
    3. each class has a fixed unit code `[features]`, spread out by repulsion, and `u = s @ codes`;
    4. `z = u / sqrt(1 + |u|^2)` and noise cross: the power is limited, so that a number of bits holds for any input;
    5. the server half answers `z @ codes^T`, the highest for the class that it is.

    Strangers who resemble somebody enrolled still show whom, and with it what those have in common: audit it on people that neither `data`
    nor `helpers` hold. Erasing an attribute first (`erase`) makes it better. Settings are to be chosen on other people than are reported.

    Args:
        partition: its boundary is the embedding, one floating-point vector `[n, d]`, without a channel. Its server half is left out.
        data: pictures of the enrolled: `Samples`, `(x, y)` or a `tf.data.Dataset`; classes are the task's targets, whole numbers from 0,
            none missing.
        helpers: inputs `[n, ...]` of people who are not enrolled, the more and the more various the better.
        features: numbers that cross, from 2.
        stddev: of the noise. |z| is under 1.
        gain: how far likeness is spread before it is squashed, above 0.
        frozen: whether the noise is a keyed function of the input, see `GaussianChannel`.
        seed: of the codes.

    Returns:
        A partition of a new model, on the layers of the embedding, with one `GaussianChannel`. Nothing needs training; all new layers can
        be trained on from here.

    Raises:
        CutError: the boundary is no such embedding.
        DataError: the classes are no whole numbers from 0 without a gap, or there are too few, or no helpers; or helpers resemble the
            enrolled as much as can be.

    Example:
        >>> parts = kp.enrolled(kp.erase(embedding, train, "Male"), train, strangers)  # doctest: +SKIP

    References:
        Belrose et al., "LEACE: Perfect Linear Concept Erasure in Closed Form", NeurIPS 2023 (for `erase`).
        Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019 (cosines to class centres).
    """
    if partition.channel or partition.public_inputs:
        raise CutError("Received a partition with a channel or public inputs; expected a plain one, cut at its embedding. Cut it there.")
    tensors = partition.boundary.tensors
    if len(tensors) != 1 or "float" not in tensors[0].dtype or len(tensors[0].shape) != 2 or tensors[0].shape[1] is None:
        raise CutError(f"Received {partition.boundary}; expected one floating-point vector an example. Cut the model at its embedding.")
    gain = arguments.number("gain", gain, DataError, positive=True, advice="It spreads likeness before the squash.")
    samples = Samples.of(data)
    labels, classes = _classes(samples)
    if not len(helpers):
        raise DataError("Received no helpers; expected inputs of people who are not enrolled. Give some: the gate is set by them.")
    known, others = _embedded(partition, samples.x), _embedded(partition, np.asarray(helpers))
    mean = np.concatenate([known, others]).mean(axis=0)
    known, others = _unit(known - mean), _unit(others - mean)
    centres = _unit(np.stack([known[labels == c].mean(axis=0) for c in range(classes)]))
    gate = float(np.median((others @ centres.T).max(axis=1)))
    if gate > 1 - 1e-6:
        raise DataError(f"Received helpers whose median likeness to the enrolled is {gate:.3f} of 1; expected other people. Give others.")
    return _assembled(partition, mean, centres, gate, gain, spread_codes(classes, features, seed), stddev, frozen)


def _assembled(
    partition: Partition, mean: np.ndarray, centres: np.ndarray, gate: float, gain: float, codes: np.ndarray, stddev: float, frozen: bool
) -> Partition:
    steps = [
        (keras.layers.Normalization(mean=mean.tolist(), variance=[1.0] * len(mean), name="enrolled_centring"), None),
        (keras.layers.UnitNormalization(name="enrolled_direction"), None),
        (
            keras.layers.Dense(len(centres), activation="relu", name="enrolled_likeness"),
            [gain / (1 - gate) * centres.T, np.full(len(centres), -gain * gate / (1 - gate))],
        ),
        (keras.layers.Dense(codes.shape[1], use_bias=False, name="enrolled_code"), [codes]),
        (keras.layers.Dense(len(centres), use_bias=False, name="scores"), [codes.T]),
    ]
    z = partition.device.output
    for layer, weights in steps:
        z = layer(z)
        if weights is not None:
            layer.set_weights(weights)
    whole = keras.Model(partition.device.input, z, name=partition.model.name)
    # Under a mean square of 1 / features the sum of squares is under 1.
    channel = GaussianChannel(stddev, normalize=False, power=1 / codes.shape[1], frozen=frozen)
    return cut(whole, at="enrolled_code").with_channel(channel)


def _classes(samples: Samples) -> tuple[np.ndarray, int]:
    labels = np.asarray(samples.targets.get(TASK, np.zeros(0)))
    if labels.size != len(samples) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"Received {labels.dtype}{list(labels.shape)} as the task's targets; expected a whole number an example. Give such."
        )
    labels = labels.reshape(-1)
    found = np.unique(labels)
    if len(found) < 2 or not np.array_equal(found, np.arange(len(found))):
        raise DataError(f"Received the classes {found[:5].tolist()}...; expected all from 0, at least two. Number the enrolled anew.")
    return labels, len(found)


def _embedded(partition: Partition, x: np.ndarray) -> np.ndarray:
    parts = [np.asarray(keras.ops.convert_to_numpy(partition.device(x[i : i + _BATCH], training=False))) for i in range(0, len(x), _BATCH)]
    return np.concatenate(parts).astype("float64")


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
