"""What a task of the benchmark is: data, network, cuts, what is private; and at which scale it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

UNDEFENDED, OURS = "undefended", "competing features + noise + bound on the bits (ours)"
WITH_DECODERS = "bottleneck + noise + decoder adversaries"
SHORT = ("kernel posterior", "linkage, same class", "computed properties", "decoder, small, ssim")  # against most rows, once


@dataclass(frozen=True)
class Scale:
    """How large a run is.

    Attributes:
        width: channels of the network's first convolution.
        epochs: of every training, undefended and defended alike, but for those that start from the undefended network.
        seeds: trained models of our recipe and of the undefended network; every other row has one.
        audit_seeds: attackers of each kind against every model.
        attacks: names, as `audit(attacks=...)` takes them; None for the standard ones.
        train: how many examples of the training split models are trained on; None for all.
        attackers: how many examples of the training split the attackers have; None for all.
        victims: how many test examples are attacked; None for all. The task's accuracy is always that of all test examples.
        side: of the pictures, in pixels; None as they are stored.
        people: of each gender, those with the most pictures; None for everybody.
    """

    width: int
    epochs: int
    seeds: int
    audit_seeds: int
    attacks: tuple[str, ...] | None = None
    train: int | None = None
    attackers: int | None = None
    victims: int | None = None
    side: int | None = None
    people: int | None = None


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: of its files.
        title: in words.
        load: from a data folder and a scale to a `datasets.Dataset`.
        model: from a scale, the number of classes and a seed to an untrained model that ends in logits.
        cut: the layer behind which all defences are compared.
        scales: by name: `"small"`, `"full"`, and `"quick"` to see that everything works.
        other_cuts: layers behind which only the undefended model and our recipe stand.
        private: attributes that defences are trained to hide.
        unseen: attributes that the audit attacks all the same.
        group: key of the target that says whose picture it is; attributes are then attacked under both protocols.
        mirror: whether models are trained on pictures mirrored by chance.
        shift: by how many pixels at most the pictures that models are trained on are shifted.
        keep_weights: whether the undefended network's weights are kept with the results, because training it takes long.
        bottleneck: features that our recipe and the bottleneck row let through, of the whole example.
        noise: standard deviation of our recipe's Gaussian noise.
        bits: that our recipe lets cross beyond the class before it penalises them.
        bits_weight: of each bit above.
        warm: epochs of our recipe, which then starts from the undefended network's weights; 0 to train it as all.
        weight: of the decoder adversaries against the picture.
        searches: attacks that our recipe meets at the task's own cut beside the standard ones: those that work on each picture by itself.
        teacher: the task whose undefended network teaches this one's, and whose accuracy and multiply-adds it is held against: for a
            smaller network on the device.
    """

    name: str
    title: str
    load: Callable[[str | None, Scale], Any]
    model: Callable[[Scale, int, int], Any]
    cut: str
    scales: Mapping[str, Scale]
    other_cuts: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    group: str | None = None
    mirror: bool = False
    shift: int = 0
    keep_weights: bool = False
    bottleneck: int = 16
    noise: float = 0.6
    bits: float = 1.0
    bits_weight: float = 0.05
    warm: int = 0
    weight: float = 0.3
    searches: tuple[str, ...] = ()
    teacher: Task | None = None


def subset(samples: Any, count: int | None, seed: int = 0) -> Any:
    """So many examples, drawn at random; all of them for None."""
    import numpy as np

    return samples if count is None or count >= len(samples) else samples[np.random.default_rng(seed).permutation(len(samples))[:count]]


def augmented(task: Task, batched: Any, seed: int) -> Any:
    """A `tf.data.Dataset` of batches `(x, targets)` whose pictures are shifted and mirrored anew in every epoch, as the task says."""
    import tensorflow as tf

    def change(x: Any, targets: Any) -> tuple[Any, Any]:
        if task.shift:
            sides = [[0, 0], [task.shift, task.shift], [task.shift, task.shift], [0, 0]]
            wide, shape = tf.pad(x, sides, "REFLECT"), x.shape[1:]
            x = tf.map_fn(lambda image: tf.image.random_crop(image, shape, seed), wide)
        return tf.image.random_flip_left_right(x, seed) if task.mirror else x, targets

    return batched.map(change, num_parallel_calls=1).prefetch(2) if task.mirror or task.shift else batched
