"""`protect`: a defended partition of a model and its audit in one call, every choice made, explained, and open to be overridden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_privpart.auditing.audit import audit
from keras_privpart.auditing.plan import planned
from keras_privpart.auditing.settings import AuditSettings
from keras_privpart.auditing.settings import Progress as AuditProgress
from keras_privpart.datasets import TASK, Samples, Stream, streamed
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.cuts import cuts
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.partition import At, partition, with_bottleneck
from keras_privpart.protecting import choosing
from keras_privpart.protecting.choosing import Choice
from keras_privpart.protecting.protected import Protected
from keras_privpart.training import recipes
from keras_privpart.training.recipe import Defence, Progress, Recipe, TrainedPair, check_pair, train_pair
from keras_privpart.training.task import count_classes, unscored

Bottleneck = int | Literal["auto"] | None


@dataclass(frozen=True)
class Intention:
    """What `protect` is about to do, all choices made and all that can be checked before training checked.

    Attributes:
        parts: the plain cut of the given model.
        train, test: the examples; those to train on may be a stream.
        private: keys of the attributes to hide.
        recipe: how to train.
        defence: of the defended one.
        choices: what was settled, and why.
    """

    parts: Partition
    train: Samples | Stream
    test: Samples
    private: tuple[str, ...]
    recipe: Recipe
    defence: Defence
    choices: tuple[Choice, ...]

    def trained(self, progress: Progress | None = None, checkpoints: Path | None = None) -> TrainedPair:
        """Trains both partitions; hours, for a large model. Arguments are those of `train_pair`."""
        return train_pair(self.parts, self.train, self.test, self.recipe, self.defence, progress, checkpoints)


def protect(
    model: Any,
    train: Any,
    test: Any,
    private: Sequence[str] | Mapping[str, Sequence[Any] | str] = (),
    *,
    at: At = None,
    bottleneck: Bottleneck = "auto",
    recipe: str | Defence | None = None,
    trained: bool | None = None,
    epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    seeds: int = 3,
    attacks: Any = None,
    looks: Sequence[int] = (1, 16),
    attack_epochs: int | None = None,
    value_range: Sequence[float] | None = None,
    progress: Progress | None = None,
    audit_progress: AuditProgress | None = None,
    **auditing: Any,
) -> Protected:
    """Cuts a model, trains it to hide its inputs and the private attributes, attacks it with fresh attackers, and says all in words.

    Where you say nothing else: the cut is the advisor's; the recipe follows from what there is to hide, and learns from the model as it
    is given; as many features cross as the recipe has, 16 or 32, or fewer where these do not fit. A model whose accuracy on `test` is
    near that of a guess is taken for untrained, and both
    partitions are trained. `print` the result.

    Args:
        model: a functional or Sequential classifier, trained or not; it is not changed.
        train: examples to train on, which the attackers learn from as well: `Samples`, `(x, targets)` arrays, or a `tf.data.Dataset` of
            batches of such pairs, with `targets` the task's labels or a mapping of `"task"` and private attributes. Pictures
            `[n, h, w, c]` as uint8, or as the model takes them.
        test: in the same form, none of them in `train`: for accuracies, and as the attackers' victims.
        private: keys of the attributes to hide, whole numbers from 0; or a mapping that says what stands for their classes, such as
            `{"sex": ("f", "m"), "Young": (-1, 1)}`, see `Samples.mapped`.
        at: where to cut, as for `partition`.
        bottleneck: features that cross in all; None for as many as at the cut.
        recipe: a name of `recipes.NAMES`, or a `Defence` of your own.
        trained: whether the model is trained already, where its accuracy should not decide.
        epochs: of the training; None for 10, and of few examples for so many as make 2,000 steps.
        batch_size, learning_rate, seed: of the training, as in `Recipe`.
        seeds, attacks, looks: of the audit, as for `audit`.
        attack_epochs: `epochs` of `audit`.
        value_range: black and white of pictures as the model takes them, by default what its front tells (`keras_privpart.value_range`).
        progress: called after every epoch of the training, as for `train_pair`.
        audit_progress: `progress` of `audit`.
        **auditing: more arguments of `audit`, such as `cache="runs/cache"`. With `limit` batches that can be read again, a
            `tf.data.Dataset` or `keras.utils.PyDataset`, may be larger than memory: training streams all of them, and so many of either
            set are drawn for accuracies, for attackers and as victims. The report says how many of how many.

    Raises:
        ModelError, CutError: the model cannot be cut, or not there; or a bottleneck that does not fit.
        TrainingError: the task is no classification, a label or an attribute no class, or there is no such recipe.
        AuditError: the data cannot be attacked. All of these before any training.

    Example:
        >>> result = protect(model, (x, {"task": y, "Male": a}), test, private=["Male"])
        >>> print(result)
        >>> kp.export(result.partition, "saved_models/faces", audit=result.report)
    """
    wanted = {"seeds": seeds, "attacks": attacks, "looks": looks, "epochs": attack_epochs, "seed": seed, **auditing}
    plan = intended(
        model,
        train,
        test,
        private,
        at=at,
        bottleneck=bottleneck,
        recipe=recipe,
        trained=trained,
        value_range=value_range,
        epochs=epochs,
        training=Recipe(batch_size=batch_size, learning_rate=learning_rate, seed=seed),
        auditing=wanted,
    )
    pair = plan.trained(progress)
    report = audit(
        pair.defended,
        plan.train.held,
        plan.test,
        plan.private,
        pair.undefended,
        **{"trained_on": plan.train, "progress": audit_progress, "value_range": value_range, **wanted},
    )
    return Protected(pair.defended, pair.undefended, report, plan.choices)


def intended(
    model: Any,
    train: Any,
    test: Any,
    private: Sequence[str] | Mapping[str, Sequence[Any] | str],
    *,
    at: At,
    bottleneck: Bottleneck,
    recipe: str | Defence | None,
    trained: bool | None,
    value_range: Sequence[float] | None = None,
    epochs: int | None = None,
    training: Recipe,
    auditing: dict[str, Any],
) -> Intention:
    """Makes every choice and checks all that can be checked before training; see `protect`."""
    limit = auditing.get("limit")
    train, test = (streamed(data, limit, auditing.get("seed") or 0) for data in (train, test))
    test = test.held
    if isinstance(private, Mapping):
        train, test = train.mapped(private), test.mapped(private)
    private = tuple(private)
    parts, cut = _cut(model, at)
    planned(
        AuditSettings(parts, train.held, test, private, **{"value_range": value_range, **auditing})
    )  # raises before hours of training, not after
    wrong = unscored(parts.model)
    if wrong is not None:
        raise TrainingError(f"Can't protect this model: {wrong}. Train another kind of task with AdversarialTrainer, then audit it.")
    check_pair(parts, train, test)
    classes = {TASK: count_classes(parts.model), **choosing.classes_of(private, train, test)}
    started, start = choosing.trained_already(parts.model, test, trained)
    defence, named = _defence(recipe, classes, private, value_range)
    defence, narrow = _narrowed(defence, parts, train.held.x, bottleneck, own=isinstance(recipe, Defence))
    epochs = choosing.enough_epochs(len(train), training.batch_size) if epochs is None else epochs
    how = replace(training, epochs=epochs, initial="pretrained" if started else None)
    return Intention(parts, train, test, private, how, defence, (start, cut, narrow, named))


def _cut(model: Any, at: At) -> tuple[Partition, Choice]:
    """The halves of a copy, so that the caller's model stays as it is."""
    if at is None:
        chosen = cuts(model).choose()
        return partition(model, chosen, independent=True), choosing.advised_cut(chosen.address, chosen.reason)
    parts = partition(model, at, independent=True)
    return parts, choosing.given_cut(" + ".join(parts.boundary.sources))


def _defence(
    recipe: str | Defence | None, classes: dict[str, int], private: tuple[str, ...], value_range: Sequence[float] | None
) -> tuple[Defence, Choice]:
    if isinstance(recipe, Defence):
        return recipe, choosing.given_recipe("a defence of your own")
    if recipe is not None:
        return recipes.named(recipe, classes, private, value_range), choosing.given_recipe(recipe)
    name, choice = choosing.recipe_for(private)
    return recipes.named(name, classes, private, value_range), choice


def _narrowed(defence: Defence, parts: Partition, x: np.ndarray, bottleneck: Bottleneck, own: bool) -> tuple[Defence, Choice]:
    """The defence with as many features as shall cross. The caller's own stays as it is, and a recipe without a bottleneck gets none."""
    if bottleneck == "auto" and (own or defence.bottleneck is None):
        features, choice = defence.bottleneck, replace(choosing.given_features(defence.bottleneck), why="the recipe has it so")
    elif bottleneck == "auto":
        features, choice = choosing.features_to_cross(parts, x, defence.bottleneck)
    else:
        features, choice = bottleneck, choosing.given_features(bottleneck)
    if features is not None:
        over, activation = defence.bottleneck_over, defence.bottleneck_activation
        with_bottleneck(parts, features, over, expand=defence.expand, activation=activation)  # raises where it does not fit
    return replace(defence, bottleneck=features), choice
