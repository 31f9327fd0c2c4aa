"""Prunes, clusters or quantises the device half's weights, fine-tuned towards its own boundary, so that the server half stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_privpart.errors import BundleError
from keras_privpart.exporting.optimizing import tfmot_process
from keras_privpart.exporting.optimizing.layer_bridge import Described, describe
from keras_privpart.exporting.optimizing.tfmot_process import Progress
from keras_privpart.exporting.reload import by_name
from keras_privpart.exporting.saved_model import input_specs
from keras_privpart.partitioning.graphs.assembly import bypass
from keras_privpart.partitioning.graphs.graph import read
from keras_privpart.partitioning.halves import Partition

STEPS = 1000
_BATCH = 32
_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Optimization:
    """What is done to the device half's weights.

    Attributes:
        method: `"prune"`: the smallest weights of every kernel become 0. `"cluster"`: every kernel gets few distinct values. `"qat"`: the
            weights learn to be rounded to int8 (quantisation-aware training); for `litert-int8`.
        amount: share of zeros, above 0 and under 1; number of values, from 2 to 256; `None` for qat.
        steps: fine-tuning steps, of 32 inputs each.

    Raises:
        BundleError: one of them cannot be.

    References:
        Zhu, Gupta, "To prune, or not to prune", arXiv 1710.01878, 2017; Han, Mao, Dally, "Deep Compression", ICLR 2016 (clustering);
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
    """

    method: str
    amount: float | int | None = None
    steps: int = STEPS

    def __post_init__(self) -> None:
        right = {
            "prune": isinstance(self.amount, float) and 0 < self.amount < 1,
            "cluster": type(self.amount) is int and 2 <= self.amount <= 256,
            "qat": self.amount is None,
        }
        if not right.get(self.method, False):
            raise BundleError(f"Received optimize={self.spelled!r}; expected {_EXPECTED}.")
        if type(self.steps) is not int or self.steps < _FEWEST_STEPS:
            raise BundleError(f"Received optimize_steps={self.steps!r}; expected a whole number from {_FEWEST_STEPS}; {STEPS} is usual.")

    @classmethod
    def parse(cls, text: str, steps: int = STEPS) -> Optimization:
        """Reads `"prune:0.5"`, `"cluster:16"` or `"qat"`; raises `BundleError` on anything else."""
        method, colon, amount = text.partition(":") if isinstance(text, str) else ("", "", "")
        try:
            return cls(method, {"prune": float, "cluster": int}[method](amount) if colon else None, steps)
        except (KeyError, ValueError) as error:
            raise BundleError(f"Received optimize={text!r}; expected {_EXPECTED}.") from error

    @property
    def spelled(self) -> str:
        """As `parse` reads it."""
        return self.method if self.amount is None else f"{self.method}:{self.amount}"

    def __str__(self) -> str:
        return f"{self.spelled}, {self.steps} steps"


_EXPECTED = "'prune:0.5' (a share under 1), 'cluster:16' (2 to 256 values per kernel) or 'qat'"


def optimize_half(partition: Partition, how: Optimization, x: Any, *, progress: Progress | None = None, seed: int = 0) -> Partition:
    """The partition with an optimised device half on layers of its own; the one that is given does not change.

    The half without its channel is rebuilt in `tf_keras`, in a process of its own, and fine-tuned there: mean squared error against
    its own original boundary on `x`, so that no labels are needed and the server half stays as it is. The channel comes back on
    unchanged. No audit of the original speaks for the result: its boundary is another.

    Args:
        partition: the halves.
        how: what to do.
        x: inputs to fine-tune on `[n, ...]`, like the data of use; a thousand or more. For several inputs a list, or a dict by name.
        progress: is told the step and the loss about fifty times.
        seed: of the order of the inputs and the start of the clusters.

    Raises:
        BundleError: the extra `optimize` is not installed, a layer is not taken, or the fine-tuning failed.

    Example:
        >>> smaller = optimize_half(parts, Optimization.parse("prune:0.5"), x)  # doctest: +SKIP
    """
    if x is None:
        raise BundleError(
            f"Received optimize={how.spelled!r} without data to fine-tune on; expected sample=, a thousand of your inputs or more (the "
            "command line takes them from a trained run's data)."
        )
    tfmot_process.check_installed()
    specs = input_specs(partition)
    inputs = by_name(specs, x)
    own, plain = partition.copy(), _plain(partition)
    result = replace(partition, device=own.device, channel=own.channel)
    described = describe(read(plain), how.method)
    if how.method == "qat" and any(not spec.is_floating for spec in specs):
        raise BundleError(f"Received inputs of {[spec.dtype for spec in specs]}; qat quantises floats only. Prune or cluster instead.")
    targets = _boundary(plain, [inputs[spec.name] for spec in specs])
    request = {**described.record, "method": how.method, "amount": how.amount, "steps": how.steps, "batch": _BATCH, "seed": seed}
    arrays = {f"input_{i}": inputs[spec.name] for i, spec in enumerate(specs)} | {f"target_{i}": t for i, t in enumerate(targets)}
    tuned = tfmot_process.run(request, {**described.weights, **arrays}, progress)
    _check(how, described, tuned)
    twins = {layer.name: layer for layer in describe(read(_plain(result)), how.method).owners}
    for i, owner in enumerate(described.owners):
        twins[owner.name].set_weights([tuned[f"weight_{i}_{j}"] for j in range(len(owner.weights))])
    return result


def _plain(partition: Partition) -> keras.Model:
    """The device half without its channel."""
    try:
        return bypass(partition.device, partition.channel)
    except ValueError as error:
        raise BundleError(f"The channel cannot be left out of the device half, so it cannot be optimised: {error}") from error


def _boundary(plain: keras.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    answers = plain.predict(keras.tree.pack_sequence_as(plain.input, inputs), batch_size=_BATCH, verbose=0)
    return [np.asarray(answer) for answer in keras.tree.flatten(answers)]


def _check(how: Optimization, described: Described, tuned: Mapping[str, np.ndarray]) -> None:
    """The weights that came back are of the same shapes, numbers, and as sparse or as few as was asked."""
    for name, old in described.weights.items():
        new = tuned.get(name)
        if new is None or new.shape != old.shape or not np.isfinite(new).all():
            raise BundleError(f"{how} did not succeed: weights came back as {None if new is None else new.shape}, or are no numbers.")
    for i, layer in enumerate(described.owners):
        for j, weight in enumerate(layer.weights):
            value = tuned[f"weight_{i}_{j}"]
            if weight.name not in ("kernel", "pointwise_kernel") or isinstance(layer, keras.layers.DepthwiseConv2D):
                continue  # as the worker chooses
            if how.method == "prune" and np.count_nonzero(value) > value.size - int(float(how.amount or 0) * value.size):
                raise BundleError(f"{how} left {np.mean(value == 0):.3f} of the kernel of {layer.name!r} at 0. Give more optimize_steps.")
            if how.method == "cluster" and len(np.unique(value)) > int(how.amount or 0):
                raise BundleError(f"{how} left {len(np.unique(value))} values in the kernel of {layer.name!r}. Report this.")
