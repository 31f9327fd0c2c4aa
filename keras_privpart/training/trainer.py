"""`AdversarialTrainer`: trains both halves for the task and against adversaries that read the boundary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_privpart.channels import PACKAGE, Channel
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.graphs.names import untraceable_layers
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.partition import partition as cut
from keras_privpart.training import optimizers
from keras_privpart.training.batches import check_not_empty, with_text
from keras_privpart.training.distillation import Distillation, Teacher
from keras_privpart.training.privacy_terms import replica_sums
from keras_privpart.training.privacy_terms.adversaries import Adversary
from keras_privpart.training.privacy_terms.checked_targets import translated
from keras_privpart.training.privacy_terms.regularizers import Regularizer
from keras_privpart.training.roster import Roster
from keras_privpart.training.step import AdversarialStep
from keras_privpart.training.watch import TrainingWatch

MODES = ("fused", "alternating")
INITIAL = (None, "pretrained")


@keras.saving.register_keras_serializable(package=PACKAGE)
class AdversarialTrainer(AdversarialStep):
    """Trains a partition for its task and against adversaries, all in one fused step.

    A step makes one pass through the device half. The server half and every adversary read the boundary, each is
    differentiated once, and the boundary's gradient is put together from theirs: the task's as it is, each adversary's as its goal
    says (by default reversed, times its weight, for the examples it still reads better than a guess). One pass back through the
    device half ends the step. An adversary's own weights follow its own loss. With all weights 0 the halves train exactly as plain
    `fit` trains the whole model.

    Data are `(x, y)` or `(x, {"task": y, "Male": a, ...})`, with an optional sample weight for the task's loss.
    Logs: `loss` (the task's, with weight decay), the compiled metrics, per adversary `<name>_loss`, `<name>_guess` (the loss of a guess
    that ignores the boundary) and `<name>_recovered` (the share it has recovered, 0 to 1), and per regulariser `<name>`. These watch the
    training. They are not evidence of privacy: `keras_privpart.audit` is.

    Args:
        partition: the halves to train; they are trained in place and share the weights of the model they were cut from.
        adversaries: the simulated attackers; names must differ.
        channel: stands on the boundary from now on, see `keras_privpart.channels`.
        regularizers: privacy terms without an adversary, see `keras_privpart.training.privacy_terms.regularizers`.
        pool: how many past networks of each adversary go on reading the boundary, frozen, after a restart
            (`callbacks.RestartAdversaries`). They share the adversary's weight equally.
        initial: `"pretrained"` keeps a trained model's task as it is: the server half is frozen, statistics and dropout too, and only
            the device half learns to hide, as far as the server half still understands it. By default both halves learn.
        teacher: a trained model, or its partition, whose answers the halves learn: usually the undefended one, from which `partition` was
            cut. It is copied and stays as it is. Data need no labels then: `x` alone, or `(x, {"Male": a})`, will do. The halves should
            start from its weights too: cut the trained model, with `bottleneck_examples` where there is a bottleneck.
        distillation: what is learned from the teacher, and how; `Distillation()` by default.

    Raises:
        TrainingError: adversaries or regularisers that are none, or share a name; a teacher that answers something else.

    Example:
        >>> trainer = AdversarialTrainer(parts, [ReconstructionAdversary(weight=1.0)], GaussianChannel(stddev=0.5))
        >>> trainer.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> trainer.fit(dataset, epochs=10)

    References:
        Chi et al., "Privacy Partitioning: Protecting User Data During the Deep Learning Inference Phase", arXiv 1812.02863, 2018.
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016 (gradient reversal).
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, 2015 (teacher).
    """

    def __init__(
        self,
        partition: Partition,
        adversaries: Sequence[Adversary] = (),
        channel: Channel | None = None,
        name: str = "adversarial_trainer",
        regularizers: Sequence[Regularizer] = (),
        pool: int = 0,
        initial: str | None = None,
        teacher: keras.Model | Partition | None = None,
        distillation: Distillation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if initial not in INITIAL:
            raise TrainingError(f"Received initial={initial!r}; expected 'pretrained' or None. See AdversarialTrainer.")
        self.adversaries = _checked(adversaries, Adversary, "adversaries")
        self.regularizers = _checked(regularizers, Regularizer, "regularizers")
        _check_names([a.name for a in self.adversaries] + [r.name for r in self.regularizers])
        self.initial = initial
        self.partition = partition if channel is None else partition.with_channel(channel)
        self.device = self.partition.device
        self.server = self.partition.server
        _check_layer_names([self.device, self.server])
        for adversary in self.adversaries:
            adversary.meet(self.device)
        boundary_shapes = [tuple(spec.shape[1:]) for spec in self.partition.boundary.tensors]
        self.regularizer_states = [r.state(self.partition.boundary) for r in self.regularizers]
        self.roster = Roster(self.adversaries, boundary_shapes, tuple(self.device.inputs[0].shape[1:]), pool)
        self.trackers = [
            tuple(keras.metrics.Mean(name=f"{a.name}_{what}") for what in ("loss", "guess", "recovered")) for a in self.adversaries
        ]
        self.penalty_trackers = [keras.metrics.Mean(name=r.name) for r in self.regularizers]
        if teacher is None and distillation is not None:
            raise TrainingError("Received distillation without a teacher; expected both. Pass teacher=, the undefended model.")
        self.teacher = None if teacher is None else Teacher(teacher, self.server, distillation or Distillation())
        self.adversary_optimizer: keras.optimizers.Optimizer | None = None
        self.own_optimizers: list[keras.optimizers.Optimizer | None] = []
        self.mode = MODES[0]
        self.class_weight: Mapping[int, float] | None = None
        self.built = True

    @property
    def networks(self) -> list[keras.Model]:
        """The adversaries' networks that learn, in the adversaries' order."""
        return self.roster.networks

    # Keras' contract -------------------------------------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Everything is built in the constructor."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The task's answer, through both halves and the channel."""
        return self.server(self.device(inputs, training=training), training=training)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        adversary_optimizer: Any = "adam",
        loss: Any = None,
        mode: str = "fused",
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; the adversaries have an optimizer of their own.

        Args:
            optimizer: of the two halves. With `use_ema=True` they end `fit` as the moving average of their weights (Polyak and Juditsky,
                "Acceleration of Stochastic Approximation by Averaging", SIAM 1992), which noise and adversaries shake less.
            adversary_optimizer: of all adversaries that bring none. It must be another object: each belongs to one set of variables.
            loss: of the task.
            mode: `"fused"`: halves and adversaries move at the same time. `"alternating"`: on each batch the adversaries move first, one
                step and their extra `steps`, on a detached boundary; then the halves, against the adversaries as they are now.
            **kwargs: what `keras.Model.compile` takes.

        Raises:
            TrainingError: an unknown mode, one optimizer object for both, or a way to distribute that does not work.
        """
        if mode not in MODES:
            raise TrainingError(f"Received mode={mode!r}; expected one of {', '.join(MODES)}. Choose one of them.")
        _check_distribution(kwargs.get("steps_per_execution", 1))
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        self.mode = mode
        common = keras.optimizers.get(adversary_optimizer)
        if common is self.optimizer or common is optimizer:
            raise TrainingError("Received one optimizer object for the halves and the adversaries; expected two. Pass a second one.")
        policy = self.dtype_policy.name
        self.adversary_optimizer = optimizers.wrapped(common, policy)
        steps = [self._detached_steps(i) for i in range(len(self.adversaries))]
        self.own_optimizers = optimizers.own(self.adversaries, common, steps, policy)
        # Built here, not at the first step: a restored optimizer would otherwise restart, and replicas would fail.
        self.optimizer.build(self._halves_variables())
        for optimizer, variables in self.adversary_updates():
            optimizer.build(variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        *args: Any,
        class_weight: Mapping[int, float] | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`. `class_weight` weighs examples by their task class, also where targets are named.

        Raises:
            TrainingError: the loss is not finite, the data set is empty, or its targets do not fit.
        """
        _check_distribution(1)
        check_not_empty(x)
        for adversary in self.adversaries:
            adversary.check_values(x, y if isinstance(y, Mapping) else {})
        y = with_text(y)
        if isinstance(kwargs.get("validation_data"), tuple):
            first, *more = kwargs["validation_data"]
            kwargs["validation_data"] = (first, *map(with_text, more))
        if class_weight != self.class_weight:
            self.class_weight, self.train_function = class_weight, None  # the weights are part of the compiled step
        watched = callbacks if isinstance(callbacks, keras.callbacks.CallbackList) else [TrainingWatch(), *_as_list(callbacks)]
        try:
            return super().fit(x, y, batch_size, epochs, verbose, watched, *args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            problem = translated(error)
            if problem is None:
                raise
            raise problem from error

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        if config:
            config["adversary_optimizer"] = keras.saving.serialize_keras_object(self.adversary_optimizer)
            config["mode"] = self.mode
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**{key: keras.saving.deserialize_keras_object(value) for key, value in config.items()})

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
            "model": serialize(self.partition.model),
            "at": list(self.partition.boundary.sources),
            "adversaries": [serialize(a) for a in self.adversaries],
            "channel": [serialize(c) for c in self.partition.channel],
            "regularizers": [serialize(r) for r in self.regularizers],
            "pool": self.roster.pool,
            "initial": self.initial,
            "teacher": None if self.teacher is None else self.teacher.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> AdversarialTrainer:
        def load(value: Any) -> Any:
            return keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)

        parts = cut(load(config["model"]), at=config["at"])
        layers = [load(channel) for channel in config["channel"]]
        each = sum(spec.is_floating for spec in parts.boundary.tensors)  # 0 where no channel can stand
        for start in range(0, len(layers), max(1, each)):
            parts = parts.with_channel(layers[start : start + each])
        teacher, settings = None, None
        if config.get("teacher") is not None:
            teacher = load(config["teacher"]["model"])
            given = dict(config["teacher"]["settings"])
            settings = Distillation(**{**given, "features": given["features"] and tuple(given["features"])})
        return cls(
            parts,
            [load(a) for a in config["adversaries"]],
            name=config["name"],
            regularizers=[load(r) for r in config["regularizers"]],
            pool=config["pool"],
            initial=config["initial"],
            teacher=teacher,
            distillation=settings,
            dtype=load(config["dtype"]),
        )

    def save_own_variables(self, store: Any) -> None:
        """Saves the state of the random generators, which Keras leaves out: without it a resumed training takes another course."""
        for i, state in enumerate(self._random_states()):
            store[f"random_{i}"] = state.numpy()

    def load_own_variables(self, store: Any) -> None:
        for i, state in enumerate(self._random_states()):
            state.assign(store[f"random_{i}"])

    @property
    def trainable_weights(self) -> list[Any]:
        """As ever; with an optimizer that averages weights (`use_ema`) those of the halves alone, which Keras sets to their averages."""
        optimizer = getattr(self, "optimizer", None)
        averages = optimizer is not None and optimizers.inner(optimizer).use_ema
        return self._halves_variables() if averages else super().trainable_weights

    # Adversaries -----------------------------------------------------------------------------------------------------

    def adversary_updates(self) -> list[tuple[Any, list[Any]]]:
        """Each adversary optimizer with the variables it moves; the common one comes first and may have none."""
        mine = list(zip(self.own_optimizers, self.roster.variables_by_adversary, strict=True))
        common = [v for optimizer, variables in mine if optimizer is None for v in variables]
        return [(self.adversary_optimizer, common), *((o, v) for o, v in mine if o is not None)]

    def restart_adversaries(self, seed: int) -> None:
        """Gives every adversary new initial weights, drawn from `seed`, and its optimizer a new start.

        The old weights go into the pool, where there is one. Between two epochs, or two calls of `fit`.
        """
        self.roster.restart(seed)
        for optimizer, variables in self.adversary_updates() if self.adversary_optimizer is not None else []:
            optimizers.reset(optimizer, variables)

    def _halves_variables(self) -> list[Any]:
        return list({id(v): v for v in [*self.device.trainable_variables, *self._server_variables()]}.values())

    def _random_states(self) -> list[Any]:
        """States of the generators in both halves and in the adversaries."""
        others = {id(v) for v in [*self.weights, *self.metrics_variables]}
        return [v for v in self.variables if id(v) not in others]


def _as_list(callbacks: Any) -> list[Any]:
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]


def _checked(given: Sequence[Any], kind: type, what: str) -> tuple[Any, ...]:
    for item in given:
        if not isinstance(item, kind):
            raise TrainingError(f"Received {type(item).__name__} among the {what}; expected keras_privpart {what}.")
    return tuple(given)


def _check_layer_names(halves: Sequence[keras.Model]) -> None:
    wrong = [name for half in halves for name in untraceable_layers(half)]
    if wrong:
        raise TrainingError(
            f"Received layers called {wrong}; TensorFlow makes graphs only of names from A-Z, a-z, 0-9, '_', '.' and '-'. Rename them."
        )


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise TrainingError(f"Received adversaries or regularizers that share the names {twice}; expected different ones. Pass name=.")


def _check_distribution(steps_per_execution: int) -> None:
    if keras.distribution.distribution() is not None:
        raise TrainingError(
            "Received a keras.distribution; on the TensorFlow backend Keras ignores it without a word. "
            "Unset it (keras.distribution.set_distribution(None)) and build the trainer in a tf.distribute strategy's scope."
        )
    if steps_per_execution != 1 and replica_sums.count() > 1:
        raise TrainingError(
            f"Received steps_per_execution={steps_per_execution} with {replica_sums.count()} replicas; expected 1: Keras fails otherwise."
        )
