"""The trainer among Keras' own: callbacks, checkpoints, execution modes, precision, weights of examples, and what goes wrong."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.partition import with_bottleneck
from keras_privpart.training.privacy_terms import goals, regularizers

EAGER = {"run_eagerly": True}


def linear(weight=1.0, **kwargs):
    return kp.AttributeAdversary("Male", weight=weight, kind="linear", **kwargs)


def full(tiny, **compile):
    """A trainer with a bit of everything that has a state."""
    adversaries = [linear(steps=1), linear(name="second", optimizer=keras.optimizers.Adam(0.01))]
    return tiny.trainer(
        adversaries, kp.GaussianChannel(0.1, seed=1), regularizers=[regularizers.AttributeDependence("Male")], pool=1, compile=compile
    )


def test_a_configuration_comes_back_whole(tiny, same, tmp_path):
    trainer = full(tiny, mode="alternating")
    tiny.fit(trainer)
    trainer.save(tmp_path / "t.keras")
    again = keras.models.load_model(tmp_path / "t.keras", safe_mode=True)
    config, back = trainer.get_config(), again.get_config()
    assert back["pool"] == 1
    assert [c["config"] for c in config["adversaries"]] == [c["config"] for c in back["adversaries"]]
    assert [c["config"] for c in config["regularizers"]] == [c["config"] for c in back["regularizers"]]
    assert again.mode == "alternating"
    for (one, _), (two, _) in zip(trainer.adversary_updates(), again.adversary_updates(), strict=True):
        assert same([v.numpy() for v in one.variables], [v.numpy() for v in two.variables])
    tiny.fit(trainer)
    tiny.fit(again)
    assert same(trainer.get_weights(), again.get_weights())


def test_checkpoints_and_backups_bring_everything_back(tiny, same, tmp_path):
    whole = full(tiny)
    tiny.fit(whole, 4)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1 and self.model.optimizer.iterations == 7:  # in the middle of the third epoch
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "epoch{epoch}.weights.h5", save_weights_only=True)
    broken = full(tiny)
    with pytest.raises(KeyboardInterrupt):
        tiny.fit(broken, 4, callbacks=[backup(), checkpoint, Stop()])
    resumed = full(tiny)
    tiny.fit(resumed, 4, callbacks=[backup()])
    assert same(resumed.get_weights(), whole.get_weights())
    loaded = full(tiny)
    loaded.load_weights(tmp_path / "epoch2.weights.h5")
    tiny.fit(loaded, 4, initial_epoch=2)
    assert same(loaded.get_weights(), whole.get_weights())


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"steps_per_execution": 3}, {"jit_compile": True}], ids=lambda h: next(iter(h)))
def test_every_way_to_execute_gives_the_same_weights(tiny, how):
    def trained(**compile):
        model = tiny.plain_model()
        compile = {"optimizer": keras.optimizers.SGD(0.05), "adversary_optimizer": keras.optimizers.SGD(0.05), **compile}
        trainer = tiny.trainer([linear(), kp.ReconstructionAdversary(network=own_decoder())], compile=compile, model=model)
        return tiny.fit(trainer), trainer.get_weights()

    def own_decoder():
        z = keras.Input((3, 3, 2))
        return keras.Model(z, layers.Reshape((8, 8, 1))(layers.Dense(64, activation="sigmoid")(layers.Flatten()(z))))

    (plain_logs, plain), (logs, weights) = trained(jit_compile=False), trained(**how)
    for a, b in zip(plain, weights, strict=True):
        assert np.allclose(a, b, atol=2e-4)
    assert logs["loss"] == pytest.approx(plain_logs["loss"], abs=1e-4)


def test_half_precision_scales_the_loss_of_every_optimizer(tiny):
    def step(policy):
        """How far one step of gradient descent moves the halves, and the optimizers."""
        keras.config.set_dtype_policy(policy)
        try:
            model = tiny.plain_model()
            adversaries = [linear(5.0), linear(5.0, name="second", goal=goals.MaximumEntropy(), optimizer=keras.optimizers.SGD(0.1))]
            compile = {**EAGER, "optimizer": keras.optimizers.SGD(0.1), "adversary_optimizer": "sgd"}
            trainer = tiny.trainer(adversaries, compile=compile, model=model)
        finally:
            keras.config.set_dtype_policy("float32")
        optimizers = [trainer.optimizer, *(o for o, _ in trainer.adversary_updates())]
        if policy == "mixed_float16":
            for optimizer, scale in zip(optimizers, (64.0, 512.0, 8.0), strict=True):
                optimizer.dynamic_scale.assign(scale)
        models = [trainer.partition.model, *trainer.networks]
        before = [np.concatenate([w.ravel() for w in m.get_weights()]) for m in models]
        trainer.train_on_batch(tiny.x, tiny.targets)
        return [np.concatenate([w.ravel() for w in m.get_weights()]) - b for m, b in zip(models, before, strict=True)], optimizers

    half, optimizers = step("mixed_float16")
    assert all(isinstance(o, keras.optimizers.LossScaleOptimizer) for o in optimizers)
    exact, _ = step("float32")
    for a, b in zip(half, exact, strict=True):
        assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(b), "a scale that was not undone would be a factor of 8"


def test_class_weights_count_for_the_task_as_they_do_in_plain_fit(tiny, same):
    weights = {0: 0.5, 1: 2.0}
    model = tiny.compiled(tiny.model(), **EAGER)
    model.fit(tiny.x, tiny.y, batch_size=16, class_weight=weights, shuffle=False, verbose=0)
    trainer = tiny.trainer([linear(0.0)], compile=EAGER)
    tiny.fit(trainer, class_weight=weights)
    assert same(model.get_weights(), trainer.partition.model.get_weights())
    with pytest.raises(TrainingError, match="Received class_weight and sample weights"):
        trainer.fit(tiny.x, tiny.targets, sample_weight=np.ones(48), class_weight=weights, verbose=0)


def test_custom_metrics_validation_evaluate_and_predict(tiny):
    trainer = tiny.trainer([linear()], compile={**EAGER, "metrics": [keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]})
    logs = tiny.fit(trainer, validation_data=tiny.data())
    names = {"loss", "top2", "Male_loss", "Male_guess", "Male_recovered"}
    assert set(logs) == names | {f"val_{n}" for n in names}
    assert trainer.evaluate(tiny.data(), return_dict=True, verbose=0)["top2"] == pytest.approx(logs["val_top2"][0])
    scores = trainer.predict(tiny.x, verbose=0)
    assert np.allclose(scores, trainer.partition.server.predict(trainer.partition.device.predict(tiny.x, verbose=0), verbose=0))


def test_a_pretrained_task_stays_as_it_is(tiny, same):
    trainer = tiny.trainer([linear(5.0)], initial="pretrained", compile=EAGER)
    server, device = trainer.server.get_weights(), trainer.device.get_weights()
    tiny.fit(trainer)
    assert same(trainer.server.get_weights(), server)
    assert not same(trainer.device.get_weights(), device)
    again = kp.AdversarialTrainer.from_config(trainer.get_config())
    assert again.initial == "pretrained"


def test_room_behind_a_bottleneck_learns_in_front_of_a_pretrained_task(tiny, same):
    narrow = with_bottleneck(kp.partition(tiny.model(), at="relu"), 2, expand="convolutions")
    trainer = tiny.compiled(kp.AdversarialTrainer(narrow, [linear()], initial="pretrained"), **EAGER)
    room, scores = (narrow.model.get_layer(name) for name in ("bottleneck_expansion", "scores"))
    before = room.get_weights(), scores.get_weights()
    tiny.fit(trainer, 2)
    assert not any(np.array_equal(a, b) for a, b in zip(room.get_weights(), before[0], strict=True))
    assert same(scores.get_weights(), before[1])


def test_a_boundary_of_whole_numbers_comes_back_from_its_configuration(tiny):
    x = keras.Input((4,), name="x")
    ids = keras.layers.Discretization([0.3, 0.6], name="ids")(x)
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Embedding(3, 2)(ids))))
    trainer = kp.AdversarialTrainer(kp.partition(model, at="ids"))
    again = kp.AdversarialTrainer.from_config(trainer.get_config())
    assert not any(spec.is_floating for spec in again.partition.boundary.tensors)
    assert again.partition.channel == ()


def test_a_bottleneck_in_front_of_a_pretrained_task_learns_on_both_sides(tiny, same):
    narrow = with_bottleneck(kp.partition(tiny.model(), at="relu"), 2)
    trainer = tiny.compiled(kp.AdversarialTrainer(narrow, [linear()], initial="pretrained"), **EAGER)
    names = ("bottleneck", "bottleneck_expansion", "scores")
    before = {n: narrow.model.get_layer(n).get_weights() for n in names}
    tiny.fit(trainer)
    after = {n: narrow.model.get_layer(n).get_weights() for n in names}
    assert [same(before[n], after[n]) for n in names] == [False, False, True]


def test_an_exploded_adversary_is_told_and_touches_nobody(tiny, same):
    alone = tiny.trainer([linear(0.0)], compile=EAGER)
    tiny.fit(alone)
    trainer = tiny.trainer([linear(1.0)], compile=EAGER)
    trainer.networks[0].set_weights([np.full_like(w, np.nan) for w in trainer.networks[0].get_weights()])
    with pytest.warns(UserWarning, match="The adversary 'Male' exploded: its loss is nan"):
        tiny.fit(trainer)
    assert same(trainer.partition.model.get_weights(), alone.partition.model.get_weights())


def test_a_loss_that_is_no_number_ends_the_training(tiny):
    x = tiny.x.copy()
    x[3] = np.nan
    trainer = tiny.trainer(compile=EAGER)
    with pytest.raises(TrainingError, match="The loss is nan in epoch 1; expected a finite number"):
        trainer.fit(x, tiny.y, verbose=0)


@pytest.mark.parametrize(
    ("targets", "batch_size"),
    [({"Male": np.ones(48, "int32")}, 16), ({"Male": np.arange(48) // 16 % 2}, 16), ({}, 1)],
    ids=["constant attribute", "one-class batches", "batch of 1"],
)
def test_an_adversary_with_nothing_to_learn_is_told(tiny, targets, batch_size):
    trainer = tiny.trainer([linear(), linear(goal=goals.PredictPrior(), name="prior")], compile=EAGER)
    data = tiny.data(batch_size, {**tiny.targets, **targets}).take(3)
    with pytest.warns(UserWarning, match="has nothing to learn: within every batch of epoch 1 its target is the same") as caught:
        logs = tiny.fit(trainer, 2, data=data)
    assert sorted(str(w.message).split("'")[1] for w in caught) == ["Male", "prior"], "each once"
    assert np.isfinite([v for values in logs.values() for v in values]).all()


def test_an_empty_data_set_is_refused(tiny):
    with pytest.raises(TrainingError, match="Received an empty data set; expected at least one batch"):
        tiny.fit(tiny.trainer(compile=EAGER), data=tiny.data().take(0))
    with pytest.raises(TrainingError, match="Received an empty data set"):
        tiny.trainer(compile=EAGER).fit(tiny.x[:0], tiny.y[:0], verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_data_set_that_turns_out_empty_is_refused(tiny):
    data = tiny.data().filter(lambda x, y: False)
    with pytest.raises(TrainingError, match="Received an empty data set; expected at least one batch"):
        tiny.fit(tiny.trainer(compile=EAGER), data=data)


def test_keras_distribution_is_refused_because_keras_would_ignore_it(tiny, monkeypatch):
    trainer = tiny.trainer(compile=EAGER)
    monkeypatch.setattr(keras.distribution, "distribution", lambda: object())
    for call in (lambda: tiny.fit(trainer), lambda: tiny.trainer()):
        with pytest.raises(TrainingError, match="on the TensorFlow backend Keras ignores it"):
            call()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda t: t.trainer(initial="new"), "Received initial='new'; expected 'pretrained' or None"),
        (lambda t: t.trainer(pool=-1), "Received pool=-1"),
        (lambda t: t.trainer(compile={"mode": "turns"}), "Received mode='turns'; expected one of fused, alternating"),
        (lambda t: t.trainer(regularizers=["l2"]), "Received str among the regularizers"),
        (lambda t: linear(steps=-1), "Received steps=-1 for 'Male'"),
        (lambda t: linear(goal="max"), "Received goal='max' for 'Male'"),
        (lambda t: kp.AttributeAdversary("a", attribute_type="text"), "Received attribute_type='text'"),
        (lambda t: kp.AttributeAdversary("a", classes=3, attribute_type="binary"), "Received classes=3 for the binary attribute"),
        (lambda t: kp.ReconstructionAdversary(value_range=(1, 0)), r"Received value_range=\(1, 0\)"),
        (
            lambda t: t.trainer([kp.ReconstructionAdversary(network=t.model())]),
            r"Received a network for 'reconstruction' from \[\(8, 8, 1\)\]",
        ),
        (lambda t: t.trainer([kp.ReconstructionAdversary(network="mine")]), "Received network=str for 'reconstruction'"),
        (lambda t: t.fit(t.trainer(compile=EAGER), data=t.data().map(lambda x, y: x)), "Received no targets"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, make, text):
    with pytest.raises(TrainingError, match=text):
        make(tiny)
