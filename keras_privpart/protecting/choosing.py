"""What `protect` chooses where the caller does not: is the model trained, where is it cut, how many features cross, by which recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_privpart.datasets import TASK, Samples, Stream
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import given_to
from keras_privpart.training.task import correct

BOTTLENECK = 32  # where the recipe names no number of its own
_LEARNED = 0.25  # of the way from a guess to always right; untrained networks come to a tenth of it, by luck to twice that
_SHOWN = 256  # examples by which the directions are counted in which a boundary varies
_ROUNDING = 1e-4  # of a float32 boundary, with a margin
_STEPS = 2000
_GIVEN = "you asked for it"


@dataclass(frozen=True)
class Choice:
    """One thing that was settled before training.

    Attributes:
        what: is settled, such as `"cut"`.
        chosen: what it came to, in words.
        why: in words.
        option: the argument of `protect` that changes it.
    """

    what: str
    chosen: str
    why: str
    option: str

    def __str__(self) -> str:
        return f"{self.what}: {self.chosen}, because {self.why} (change it with {self.option}=)"


def trained_already(model: keras.Model, test: Samples, asked: bool | None) -> tuple[bool, Choice]:
    """Whether to start from the given weights as from a trained model's: not where it is right hardly more often than a guess."""
    right = correct([np.asarray(model.predict(given_to(model, test.x), batch_size=256, verbose=0))], test)
    if asked is not None:
        return asked, _start(asked, _GIVEN)
    if right is None:
        raise TrainingError(
            f"Received a model with the outputs {[list(t.shape) for t in model.outputs]} and test data with the targets "
            f"{sorted(test.targets)}; expected one output [batch, classes] and whole-number labels {TASK!r}. Train another kind of task "
            "with AdversarialTrainer."
        )
    _, counts = np.unique(np.asarray(test.targets[TASK]).reshape(len(test)), return_counts=True)
    guess, accuracy = counts.max() / len(test), right.mean()
    trained = bool(accuracy > guess + _LEARNED * (1 - guess))
    than = f"where naming the most frequent class is for {guess:.1%}"
    return trained, _start(trained, f"as given it is right for {accuracy:.1%} of the test examples, {than}")


def _start(trained: bool, why: str) -> Choice:
    chosen = "the given weights, as a trained model's" if trained else "training with and without a defence, as the model is untrained"
    return Choice("start", chosen, why, "trained")


def features_to_cross(parts: Partition, x: np.ndarray, wanted: int | None = None) -> tuple[int | None, Choice]:
    """How many numbers cross in all: as many as the recipe wants, or 32; at most half of what crosses now, and no more than vary; None
    where no bottleneck fits.
    """
    wanted = wanted or BOTTLENECK
    shapes = [tensor.shape[1:] for tensor in parts.boundary.tensors if "float" in tensor.dtype]
    if not shapes or any(side is None for shape in shapes for side in shape):
        return None, _bottleneck("none", f"what crosses, {parts.boundary}, has no fixed size to be narrowed")
    width = min(math.prod(side or 1 for side in shape) for shape in shapes)
    seen = keras.tree.flatten(parts.device.predict(given_to(parts.device, x[:_SHOWN]), verbose=0))
    varied = min(_directions(z) for z in seen if np.issubdtype(z.dtype, np.floating))
    features = min(wanted, width // 2, varied, len(x) - 1)
    if features < 1:
        return None, _bottleneck("none", f"of the {width} numbers that cross none varies with the input, or there is one alone")
    why = "few features of the whole example are the cheapest privacy"
    if features == wanted:
        return features, _bottleneck(f"{features} features of the {width:,} at the cut", f"{why}, and so many kept the accuracy so far")
    limit = "half of what is there" if features == width // 2 else "all that vary with the input"
    return features, _bottleneck(f"{features} features of the {width:,} at the cut", f"{why}, and these are {limit}")


def given_features(features: int | None) -> Choice:
    """The caller's own number."""
    return _bottleneck("none" if features is None else f"{features} features", _GIVEN)


def _bottleneck(chosen: str, why: str) -> Choice:
    return Choice("bottleneck", chosen, why, "bottleneck")


def _directions(z: np.ndarray) -> int:
    """In how many directions a boundary `[n, ...]` varies, at most n - 1."""
    rows = z.reshape(len(z), -1).astype("float64")
    spread = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    return int((spread > _ROUNDING * max(spread[0], 1e-12)).sum())


def enough_epochs(examples: int, batch_size: int) -> int:
    """Ten, and of few examples so many as make 2,000 steps: a narrow boundary behind noise takes so long to learn."""
    return max(10, math.ceil(_STEPS / math.ceil(examples / batch_size)))


def recipe_for(private: Sequence[str]) -> tuple[str, Choice]:
    """The name of the recipe that lets the least cross for what it costs, and hides these attributes as well."""
    readers = f", and readers of {', '.join(private)} train against it" if private else ""
    return "bits", Choice("recipe", "bits", f"it lets few bits cross beyond the class, whatever an attacker is after{readers}", "recipe")


def given_recipe(name: str) -> Choice:
    """The caller's own."""
    return Choice("recipe", name, _GIVEN, "recipe")


def given_cut(at: str) -> Choice:
    """The caller's own."""
    return Choice("cut", at, _GIVEN, "at")


def advised_cut(at: str, reason: str) -> Choice:
    """The advisor's (`CutTable.choose`)."""
    return Choice("cut", at, f"it is the advisor's choice: {reason}", "at")


def classes_of(private: Sequence[str], *data: Samples | Stream) -> Mapping[str, int]:
    """How many classes each private attribute has.

    Raises:
        TrainingError: one is missing, or its values are no class indices.
    """
    found: dict[str, int] = {}
    for key in private:
        values: list[Any] = []
        for samples in data:
            if key == TASK or key not in samples.targets:
                raise TrainingError(
                    f"Received private={list(private)} and data with the targets {sorted(samples.targets)}; expected the attribute {key!r} "
                    "among them, beside the task. Give (x, {'task': y, 'Male': a})."
                )
            values.append(np.asarray(samples.targets[key]))
        joined = np.concatenate([v.ravel() for v in values])
        whole = np.issubdtype(joined.dtype, np.integer) or joined.dtype == bool
        if not whole or joined.min() < 0 or any(v.size != len(s) for v, s in zip(values, data, strict=True)):
            raise TrainingError(
                f"Received the attribute {key!r} as {values[0].dtype}{list(values[0].shape)}, such as {joined.tolist()[0]!r}; expected "
                f"whole numbers from 0, one an example. Say what stands for its classes: private={{{key!r}: (...)}}, in their order."
            )
        found[key] = 1 + int(joined.max())
    return found
