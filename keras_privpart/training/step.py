"""The adversarial step: one pass through the device half, one back, whoever reads the boundary in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from keras_privpart.channels import Expand
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.batches import EMPTY, split_targets, with_class_weight
from keras_privpart.training.distillation import Lesson, Teacher
from keras_privpart.training.distribution import SeveralWorkers, reducible
from keras_privpart.training.gradients import Reading, added, as_list, as_structure, backward, mean_error, merged, towards_goal, views
from keras_privpart.training.optimizers import loss_scale, scaled
from keras_privpart.training.privacy_terms import objectives, replica_sums
from keras_privpart.training.privacy_terms.adversaries import Adversary
from keras_privpart.training.privacy_terms.regularizers import Crossing, Regularizer
from keras_privpart.training.privacy_terms.schedules import is_off, weight_at
from keras_privpart.training.roster import Roster


class AdversarialStep(SeveralWorkers):
    """Base of the trainer: `train_step` and `test_step`, over what the trainer's constructor and `compile` put in place."""

    partition: Partition
    device: keras.Model
    server: keras.Model
    adversaries: tuple[Adversary, ...]
    regularizers: tuple[Regularizer, ...]
    regularizer_states: list[keras.layers.Layer | None]
    roster: Roster
    initial: str | None
    mode: str
    adversary_optimizer: Any
    own_optimizers: list[Any]
    class_weight: Mapping[int, float] | None
    teacher: Teacher | None

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        lesson, y = self._taught(x, y)
        task, private = split_targets(y, self.partition.model)
        sample_weight = with_class_weight(task, sample_weight, self.class_weight)
        with tf.GradientTape() as device_tape:
            boundary, penalties = self._cross(x, task, private, training=True)
            device_penalty = replica_sums.total(self.device.losses)
            device_loss = tf.add_n([device_penalty, *self._weighted(penalties)])

        targets = [adversary.target(x, private) for adversary in self.adversaries]
        for index in range(len(self.adversaries)):
            for _ in range(self._detached_steps(index)):
                self._detached_step(index, boundary, targets[index])

        # Every reader gets the boundary under a name of its own, so that one backward pass tells their gradients apart.
        seen = views(boundary, 1 + self.roster.readers())
        server_variables = self._server_variables()
        learning = [[] if self.mode == "alternating" else variables for variables in self.roster.variables_by_adversary]
        scale, scales = loss_scale(self.optimizer), [loss_scale(self._optimizer_of(i)) for i in range(len(self.adversaries))]
        with tf.GradientTape() as reader_tape:
            reader_tape.watch(seen)
            scores, features = self._answer(seen[0], self.initial != "pretrained", lesson)
            task_loss = self._task_loss(task, scores, sample_weight, lesson, features)
            server_penalty = replica_sums.total(self._server_only_losses())
            readings = self.roster.readings(seen[1:], targets, task, training=True)
            errors = [scaled(mean_error(r), scales[i % len(scales)]) for i, r in enumerate(readings)]
            total = tf.add_n([scaled(task_loss + server_penalty, scale), *errors])
        view_gradients, server_gradients, learning_gradients = reader_tape.gradient(total, [seen, server_variables, learning])

        boundary_gradients = view_gradients[0]
        for i, (reading, share) in enumerate(zip(readings, self.roster.shares(), strict=True)):
            if not is_off(reading.adversary.weight):
                weight = weight_at(reading.adversary.weight, self.optimizer.iterations) * share
                # A goal's own loss is not scaled; an adversary's error is, by the scale of its own optimizer.
                ratio = scale if reading.tape is not None else scale / scales[i % len(scales)]
                boundary_gradients = added(boundary_gradients, towards_goal(reading, view_gradients[1 + i], weight, ratio))
        device_variables = self.device.trainable_variables
        device_gradients = backward(device_tape, boundary, boundary_gradients, device_loss, scale, device_variables)

        self.optimizer.apply_gradients(merged(device_variables, device_gradients, server_variables, server_gradients))
        self._apply(learning_gradients, learning)
        loss = task_loss + server_penalty + device_penalty
        return self._logs(x, task, scores, sample_weight, loss, readings[: len(self.adversaries)], penalties)

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        lesson, y = self._taught(x, y)
        task, private = split_targets(y, self.partition.model)
        boundary, penalties = self._cross(x, task, private, training=False)
        scores, features = self._answer(boundary, False, lesson)
        loss = self._task_loss(task, scores, sample_weight, lesson, features)
        loss += replica_sums.total(self.device.losses) + replica_sums.total(self._server_only_losses())
        targets = [adversary.target(x, private) for adversary in self.adversaries]
        readings = self.roster.readings([boundary] * len(self.adversaries), targets, task, training=False)
        return self._logs(x, task, scores, sample_weight, loss, readings, penalties)

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """What Keras does under a strategy before the first batch, to build metrics: with the task's target alone."""
        if data_batch is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data_batch)
            data_batch = keras.utils.pack_x_y_sample_weight(x, split_targets(self._taught(x, y)[1], self.partition.model)[0], sample_weight)
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def get_metrics_result(self) -> dict[str, Any]:
        if self._compile_metrics is not None and not self._compile_metrics.built:
            raise TrainingError(EMPTY)  # there was not a single batch, which Keras would tell as a metric that is not built
        return super().get_metrics_result()

    # Parts of a step -------------------------------------------------------------------------------------------------

    def _cross(self, x: Any, task: Any, private: Mapping[str, Any], training: bool) -> tuple[list[Any], list[Any]]:
        """The boundary, and the regularisers' penalties on it."""
        if not any(r.needs_input_gradient for r in self.regularizers):
            boundary = self._sent(x, training)
            return boundary, self._penalties(Crossing(x, boundary, task, private, self.optimizer.iterations, training=training))
        x = tf.nest.map_structure(tf.convert_to_tensor, x)
        if not all(t.dtype.is_floating for t in tf.nest.flatten(x)):
            raise TrainingError("Received whole numbers as inputs; a JacobianPenalty expects floating-point ones. Cast them.")
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            boundary = self._sent(x, training)

        def input_gradient(tensors: list[Any], along: list[Any]) -> Any:
            return tape.gradient(tensors, x, output_gradients=along)

        crossing = Crossing(x, boundary, task, private, self.optimizer.iterations, input_gradient, training)
        return boundary, self._penalties(crossing)

    def _penalties(self, crossing: Crossing) -> list[Any]:
        return [r.penalty(replace(crossing, state=s)) for r, s in zip(self.regularizers, self.regularizer_states, strict=True)]

    def _sent(self, x: Any, training: bool) -> list[Any]:
        """What the device half makes of a batch, once it is known to be what the boundary declares."""
        boundary = as_list(self.device(x, training=training))
        misfit = self.partition.misfit(boundary)
        if misfit:
            raise TrainingError(misfit)
        return boundary

    def _weighted(self, penalties: Sequence[Any]) -> list[Any]:
        """The penalties that the halves mind, times their weights, for one replica."""
        step = self.optimizer.iterations
        on = [(r, p) for r, p in zip(self.regularizers, penalties, strict=True) if not is_off(r.weight)]
        return [weight_at(r.weight, step) * tf.cast(p, tf.float32) / replica_sums.count() for r, p in on]

    def _taught(self, x: Any, y: Any) -> tuple[Lesson | None, Any]:
        """What the teacher says of the batch, and the targets, the teacher's where there are none; as they are without a teacher."""
        if self.teacher is None or self.teacher.settings.is_off:
            return None, y
        lesson = self.teacher.lesson(x)
        return lesson, self.teacher.labelled(y, lesson)

    def _answer(self, boundary: list[Any], training: bool, lesson: Lesson | None) -> tuple[Any, Any]:
        """The server half's scores, and its features for the teacher to see, if any."""
        if self.teacher is None or lesson is None:
            return self.server(as_structure(boundary), training=training), None
        return self.teacher.answer(as_structure(boundary), training)

    def _task_loss(self, y: Any, scores: Any, sample_weight: Any, lesson: Lesson | None, features: Any) -> tf.Tensor:
        """The task's loss without regularisation: from labels, from the teacher, or from both."""
        if self.teacher is None or lesson is None:
            return self._label_loss(y, scores, sample_weight)
        distance = self.teacher.loss(lesson, scores, features)
        if sample_weight is not None:
            distance *= tf.reshape(tf.cast(sample_weight, tf.float32), [-1])
        loss = replica_sums.replica_mean(distance)
        if self.teacher.settings.needs_labels:
            share = 1.0 - self.teacher.settings.weight
            loss += share * tf.cast(self._label_loss(y, scores, sample_weight), tf.float32)
        return loss

    def _label_loss(self, y: Any, scores: Any, sample_weight: Any) -> tf.Tensor:
        """The compiled loss alone."""
        loss = self._compile_loss(y, scores, sample_weight) if self._compile_loss is not None else None
        if loss is None:
            raise TrainingError("The trainer has no task loss; pass loss= to compile().")
        return loss

    def _detached_steps(self, index: int) -> int:
        """How many steps an adversary makes on a boundary that does not listen."""
        return self.adversaries[index].steps + (self.mode == "alternating")

    def _detached_step(self, index: int, boundary: list[Any], target: Any) -> None:
        adversary, network = self.adversaries[index], self.roster.networks[index]
        optimizer = self.own_optimizers[index]
        with tf.GradientTape() as tape:
            prediction = network(as_structure([tf.stop_gradient(z) for z in boundary]), training=True)
            loss = scaled(replica_sums.replica_mean(adversary.error(target, prediction)), loss_scale(optimizer))
        optimizer.apply_gradients(zip(tape.gradient(loss, network.trainable_variables), network.trainable_variables, strict=True))

    def _apply(self, gradients: Sequence[Sequence[Any]], variables: Sequence[Sequence[Any]]) -> None:
        """Updates the adversaries, those with the common optimizer in one go."""
        common: list[Any] = []
        for optimizer, mine in zip(self.own_optimizers, zip(gradients, variables, strict=True), strict=True):
            pairs = list(zip(*mine, strict=True))
            if optimizer is None:
                common += pairs
            elif pairs:
                optimizer.apply_gradients(pairs)
        if common:
            self.adversary_optimizer.apply_gradients(common)

    def _optimizer_of(self, index: int) -> Any:
        return self.adversary_optimizer if self.own_optimizers[index] is None else self.own_optimizers[index]

    def _logs(
        self, x: Any, y: Any, scores: Any, sample_weight: Any, loss: Any, readings: Sequence[Reading], penalties: Sequence[Any]
    ) -> dict[str, Any]:
        self._loss_tracker.update_state(loss * replica_sums.count(), sample_weight=tf.shape(tf.nest.flatten(x)[0])[0])
        for reading, (error, guess, recovered) in zip(readings, self.trackers, strict=True):
            error.update_state(reading.error)
            guess.update_state(reading.ignorant_error)
            recovered.update_state(objectives.recovered_share(reading.error, reading.ignorant_error))
        for penalty, tracker in zip(penalties, self.penalty_trackers, strict=True):
            tracker.update_state(penalty)
        return reducible(self.compute_metrics(x, y, scores, sample_weight=sample_weight))

    # Variables -------------------------------------------------------------------------------------------------------

    def _server_variables(self) -> list[Any]:
        if self.initial != "pretrained":
            return self.server.trainable_variables
        # What a bottleneck brought along was never trained: the frozen task begins behind it.
        return [v for layer in self.server.layers if isinstance(layer, Expand) for v in layer.trainable_variables]

    def _server_only_losses(self) -> list[Any]:
        """Regularisation of layers that the device half does not hold too: a shared layer's counts once."""
        held = {id(layer) for layer in self.device.layers}
        return [loss for layer in self.server.layers if id(layer) not in held for loss in layer.losses]
