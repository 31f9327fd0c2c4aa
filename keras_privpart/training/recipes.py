"""Recipes by name: defences whose parts and settings belong together, ours and those of the field.

Each function gives a fresh `Defence`, for `train_pair`, `privpart-keras train --recipe`, a sweep or a benchmark; `named` finds it by its
name. Peers' recipes are re-implementations of the idea with this package's parts, not the authors' code. A recipe is no evidence: audit
what it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import DataError, TrainingError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.closed_form.enrolling import enrolled
from keras_privpart.training.closed_form.erasing import erase
from keras_privpart.training.distillation import Distillation
from keras_privpart.training.privacy_terms.adversaries import Adversary, AttributeAdversary, ReconstructionAdversary
from keras_privpart.training.privacy_terms.goals import Goal, MaximumEntropy
from keras_privpart.training.privacy_terms.rate import BitsBeyondClass
from keras_privpart.training.privacy_terms.regularizers import ConditionalEntropy, DistanceCorrelation
from keras_privpart.training.recipe import Defence

# Private attributes, each with how many classes it has.
Private = Mapping[str, int]


def undefended() -> Defence:
    """No defence at all."""
    return Defence()


def reconstruction(
    private: Private | None = None, bottleneck: int | None = 32, noise: float = 0.5, weight: float = 0.3, distilled: bool = False
) -> Defence:
    """Ours against whoever rebuilds the input: few features of the whole example, Gaussian noise, two decoders, and readers of attributes.

    The bottleneck is the cheapest part; noise needs one; an adversary works only on top of both.

    Args:
        private: attributes to hide as well.
        bottleneck: features that cross; None for as many as there are.
        noise: standard deviation, in units of the normalised boundary.
        weight: of each of the two decoders, one with a squared and one with an SSIM error.
        distilled: whether to start from the undefended model and learn from its answers.

    References:
        Chi et al., "Privacy Partitioning: Protecting User Data During the Deep Learning Inference Phase", arXiv 1812.02863, 2018.
    """
    decoders = [
        ReconstructionAdversary(weight, "mse", size="small", name="decoder_mse"),
        ReconstructionAdversary(weight, "ssim", size="small", name="decoder_ssim"),
    ]
    teaching = Distillation() if distilled else None
    return Defence([*decoders, *_readers(private or {})], GaussianChannel(noise), bottleneck=bottleneck, distillation=teaching)


def bits(
    classes: int,
    bottleneck: int | None = 16,
    noise: float = 0.6,
    target: float = 1.0,
    weight: float = 0.05,
    activation: str = "softmax",
    frozen: bool = False,
    private: Private | None = None,
) -> Defence:
    """Ours against whoever names the input among others of its class: few features that compete, noise, few bits beyond the class.

    It learns from labels: a teacher's soft answers tell of more than the class, which is what the bound takes away.

    The bound alone costs accuracy, since a linear bottleneck keeps what varies within a class; where the features compete, that is
    small before anything is penalised.

    Args:
        classes: of the task.
        bottleneck, noise: as in `reconstruction`; competing features should be as many as classes, or more.
        target: bits beyond the class below which nothing is penalised.
        weight: of each bit above it; 0 for no bound.
        activation: of the features that cross (`with_bottleneck`).
        frozen: whether the same input sends the same at every look (`GaussianChannel`).
        private: attributes to hide as well, each with how many classes it has: where the class tells of them, they are not in the bound.
    """
    rate = [BitsBeyondClass(classes, stddev=noise, target=target, weight=weight)] if weight else []
    return Defence(
        _readers(private or {}),
        GaussianChannel(noise, frozen=frozen),
        regularizers=rate,
        bottleneck=bottleneck,
        bottleneck_activation="linear" if bottleneck is None else activation,
    )


def attribute(private: Private, bottleneck: int | None = 32, noise: float = 0.5, weight: float = 1.0, distilled: bool = False) -> Defence:
    """Ours against whoever infers private attributes: few features, noise, and a linear and a deep reader of each attribute, reversed.

    Args:
        private: the attributes.
        bottleneck, noise, distilled: as in `reconstruction`.
        weight: of each attribute's readers.

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016.
    """
    teaching = Distillation() if distilled else None
    return Defence(_readers(_some(private), weight=weight), GaussianChannel(noise), bottleneck=bottleneck, distillation=teaching)


def bottleneck_and_noise(bottleneck: int = 32, noise: float = 0.5) -> Defence:
    """Ours without adversaries."""
    return Defence(channel=GaussianChannel(noise), bottleneck=bottleneck)


def bottleneck_only(bottleneck: int = 32) -> Defence:
    """Few features of the whole example."""
    return Defence(bottleneck=bottleneck)


def competing_features(bottleneck: int = 16) -> Defence:
    """Few features of the whole example that compete, without noise: how little they say is nobody's guarantee."""
    return Defence(bottleneck=bottleneck, bottleneck_activation="softmax")


def noise_only(noise: float = 1.0) -> Defence:
    """Gaussian noise on the normalised boundary."""
    return Defence(channel=GaussianChannel(noise))


def nopeek(weight: float = 1.0) -> Defence:
    """Distance correlation of input and boundary.

    References:
        Vepakomma, Singh, Gupta, Raskar, "NoPeek: Information leakage reduction to share activations in distributed deep learning",
        ICDM Workshops 2020.
    """
    return Defence(regularizers=[DistanceCorrelation(weight)])


def deep_obfuscator(private: Private | None = None, weight: float = 1.0) -> Defence:
    """A decoder with an MS-SSIM error and readers of attributes, in turns with the halves.

    References:
        Li et al., "DeepObfuscator: Obfuscating Intermediate Representations with Privacy-Preserving Adversarial Learning on Smartphones",
        IoTDI 2021.
    """
    return Defence([ReconstructionAdversary(weight, "ms-ssim"), *_readers(private or {})], mode="alternating")


def conditional_entropy(classes: int, noise: float = 1.0) -> Defence:
    """Noise, and a penalty on what the boundary tells beyond the class, by variances within classes.

    References:
        Xia, Yu, Wang, Hong, "Theoretical Insights in Model Inversion Robustness and Conditional Entropy Maximization for Collaborative
        Inference Systems", CVPR 2025.
    """
    return Defence(channel=GaussianChannel(noise), regularizers=[ConditionalEntropy(classes)])


def maximum_entropy(private: Private, weight: float = 1.0) -> Defence:
    """Readers of attributes, which the halves bring to say nothing.

    References:
        Roy and Boddeti, "Mitigating Information Leakage in Image Representations: A Maximum Entropy Approach", CVPR 2019.
    """
    return Defence(_readers(_some(private), MaximumEntropy(), weight))


def open_set(
    partition: Partition, data: Any, helpers: Any, private: Sequence[str] = (), stddev: float = 0.1, **enrolling: Any
) -> Partition:
    """Ours for open sets, in closed form from an embedding: attributes are erased (`erase`), only the enrolled pass (`enrolled`).

    Strangers' attributes are hidden, not those of the enrolled, whose code says who they are. Nothing is trained, so that it is no
    `Defence`: it gives the defended partition.

    Args:
        partition: its boundary is the embedding, see `enrolled`.
        data: examples of the enrolled: `Samples`, or what they are made of, with `"task"`, who it is, and the private attributes.
        helpers: examples of people who are not enrolled, with the private attributes.
        private: attributes to erase, one after the other.
        stddev: of the noise; what crosses is shorter than 1.
        **enrolling: more arguments of `enrolled`.

    Raises:
        DataError: an attribute is missing in `data` or `helpers`, and whatever `erase` and `enrolled` refuse.

    Example:
        >>> kp.recipes.open_set(kp.partition(model, at="embedding"), enrolled, helpers, ["Male"])  # doctest: +SKIP
    """
    known, others = Samples.of(data), Samples.of(helpers)
    for key in private:
        for name, samples in (("data", known), ("helpers", others)):
            if key not in samples.targets:
                raise DataError(
                    f"Received {name} with the targets {sorted(samples.targets)}; expected {key!r} among them, to erase it. Add it, or "
                    "name other private attributes."
                )
        both = {key: np.concatenate([known.targets[key], others.targets[key]])}
        partition = erase(partition, Samples(np.concatenate([known.x, others.x]), both), key)
    return enrolled(partition, known, others.x, stddev=stddev, **enrolling)


_BY_NAME: dict[str, Callable[[int, Private], Defence]] = {
    "undefended": lambda classes, private: undefended(),
    "reconstruction": lambda classes, private: reconstruction(private),
    "reconstruction-distilled": lambda classes, private: reconstruction(private, distilled=True),
    "bits": lambda classes, private: bits(classes, max(16, classes), private=private),
    "attribute": lambda classes, private: attribute(private),
    "attribute-distilled": lambda classes, private: attribute(private, distilled=True),
    "bottleneck-and-noise": lambda classes, private: bottleneck_and_noise(),
    "bottleneck-only": lambda classes, private: bottleneck_only(),
    "noise-only": lambda classes, private: noise_only(),
    "nopeek": lambda classes, private: nopeek(),
    "deep-obfuscator": lambda classes, private: deep_obfuscator(private),
    "conditional-entropy": lambda classes, private: conditional_entropy(classes),
    "maximum-entropy": lambda classes, private: maximum_entropy(private),
}
NAMES = tuple(_BY_NAME)


def named(name: str, classes: Mapping[str, int], private: Sequence[str] = (), value_range: Sequence[float] | None = None) -> Defence:
    """The recipe of a name, with its own settings.

    Args:
        name: one of `NAMES`.
        classes: how many classes each target has, `"task"` among them.
        private: keys of the attributes to hide.
        value_range: of its `ReconstructionAdversary`s.

    Raises:
        TrainingError: there is no such recipe, or it hides attributes and none is given.

    Example:
        >>> named("noise-only", {"task": 10}).channel.stddev
        1.0
    """
    if name not in _BY_NAME:
        raise TrainingError(f"Received the recipe {name!r}; expected one of {', '.join(NAMES)}.")
    found = _BY_NAME[name](classes[TASK], {key: classes[key] for key in private})
    if value_range is None:
        return found
    return replace(found, adversaries=[_ranged(adversary, value_range) for adversary in found.adversaries])


def _ranged(adversary: Adversary, value_range: Sequence[float]) -> Adversary:
    if not isinstance(adversary, ReconstructionAdversary):
        return adversary
    return type(adversary).from_config({**adversary.get_config(), "value_range": value_range})


def _readers(private: Private, goal: Goal | None = None, weight: float = 1.0) -> list[Adversary]:
    made: list[Any] = [AttributeAdversary(key, count, weight, kind=("linear", "mlp"), goal=goal) for key, count in private.items()]
    return made


def _some(private: Private) -> Private:
    if not private:
        raise TrainingError("Received no private attributes; expected at least one, such as {'Male': 2}: this recipe hides nothing else.")
    return private
