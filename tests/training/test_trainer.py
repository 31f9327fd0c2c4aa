"""The fused adversarial step: off equals plain, on differs, gradients by hand, save and resume."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import adversaries, goals

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(48, 8, 8, 1)).astype("float32")
Y = RNG.integers(0, 3, 48)
MALE = (X.mean(axis=(1, 2, 3)) > 0.5).astype("int32")
TARGETS = {"task": Y, "Male": MALE}


def build(seed=0, regularizer="l2"):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, kernel_regularizer=regularizer, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Dropout(0.2, seed=1, name="dropout")(x)
    x = layers.Conv2D(2, 3, strides=2, activation="relu", name="narrow")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.3, seed=2, name="dropout_2")(x)
    return keras.Model(inputs, layers.Dense(3, kernel_regularizer=regularizer, name="scores")(x), name="tiny")


def data(batch_size=16, targets=TARGETS):
    return tf.data.Dataset.from_tensor_slices((X, targets)).batch(batch_size)


def compiled(model, **kwargs):
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **kwargs,
    )
    return model


def fit(model, epochs=2, **kwargs):
    return model.fit(kwargs.pop("data", data()), epochs=epochs, shuffle=False, verbose=0, **kwargs)


def weights_after(adversaries=(), channel=None, epochs=2):
    model = build()
    trainer = compiled(kp.AdversarialTrainer(kp.partition(model, at="narrow"), adversaries, channel))
    fit(trainer, epochs)
    return model.get_weights()


@pytest.fixture(scope="module")
def plain():
    """Weights after plain `fit` of the whole model."""
    model = compiled(build())
    fit(model, data=data(targets=Y))
    return model.get_weights()


FAMILY = [
    pytest.param(lambda w: kp.ReconstructionAdversary(weight=w, loss="ssim"), id="ReconstructionAdversary"),
    pytest.param(lambda w: kp.AttributeAdversary("Male", classes=2, weight=w), id="AttributeAdversary"),
]


@pytest.mark.parametrize("make", FAMILY)
def test_off_equals_plain_and_on_differs(make, plain):
    off, on = weights_after([make(0.0)]), weights_after([make(1.0)])
    assert all(np.array_equal(a, b) for a, b in zip(plain, off, strict=True)), "weight 0 trains as plain fit, bit for bit"
    assert not all(np.array_equal(a, b) for a, b in zip(plain, on, strict=True))


def test_a_trainer_without_adversaries_is_plain_fit(plain):
    assert all(np.array_equal(a, b) for a, b in zip(plain, weights_after(), strict=True))


def test_an_adversary_that_is_only_watched_learns():
    trainer = kp.AdversarialTrainer(kp.partition(build(), at="narrow"), [kp.AttributeAdversary("Male", weight=0.0)])
    compiled(trainer, adversary_optimizer=keras.optimizers.Adam(1e-2))
    logs = fit(trainer, epochs=30).history
    assert logs["Male_loss"][-1] < logs["Male_loss"][0]
    assert logs["Male_recovered"][-1] > 0.5


class _Linear(adversaries.Adversary):
    """A linear reader of the sum of the input, with squared error: small enough for a hand calculation."""

    def __init__(self, weight):
        super().__init__(weight, "linear")

    def build(self, boundary_shapes, input_shape):
        z = keras.Input(tuple(boundary_shapes[0]))
        return keras.Model(z, layers.Dense(1, use_bias=False)(z))

    def target(self, x, private):
        return tf.reduce_sum(x, axis=1, keepdims=True)

    def error(self, target, prediction):
        return tf.reduce_mean(tf.square(prediction - target), axis=1)

    def ignorant_error(self, target):
        return tf.fill([tf.shape(target)[0]], 5.0)

    def get_config(self):
        return {"weight": self.weight}


class _Halve(goals.Goal):
    """Pulls the linear reader's answer to half of what it should be: half the squared distance."""

    def __init__(self):
        super().__init__("halve")

    def aim(self, target, task):
        return target / 2

    def call(self, y_true, y_pred):
        return tf.reduce_mean(tf.square(y_pred - y_true), axis=1) / 2


@pytest.mark.parametrize("mode", ["fused", "alternating"])
@pytest.mark.parametrize("goal", [None, _Halve()], ids=["Reversal", "Goal"])
@pytest.mark.parametrize("extra", [0, 2])
def test_one_step_matches_a_hand_calculation(mode, goal, extra):
    """Two linear layers, squared loss, one example that is still readable and one that is past the guess."""
    inputs = keras.Input((2,), name="x")
    z = layers.Dense(2, use_bias=False, name="device")(inputs)
    model = keras.Model(inputs, layers.Dense(1, use_bias=False, name="server")(z))
    weight, rate = 2.0, 0.01
    adversary = _Linear(weight)
    adversary.goal, adversary.steps = goal, extra
    trainer = kp.AdversarialTrainer(kp.partition(model, at="device"), [adversary])
    trainer.compile(
        optimizer=keras.optimizers.SGD(rate), adversary_optimizer=keras.optimizers.SGD(rate), loss="mse", mode=mode, run_eagerly=True
    )
    a = np.array([[0.5, -0.2], [0.1, 0.3]])
    s, r = np.array([[1.0], [2.0]]), np.array([[0.4], [-0.6]])
    model.get_layer("device").set_weights([a])
    model.get_layer("server").set_weights([s])
    trainer.networks[0].set_weights([r])
    x, y = np.array([[1.0, 2.0], [4.0, -1.0]]), np.array([[1.0], [0.0]])

    z, total = x @ a, x.sum(axis=1, keepdims=True)
    for _ in range(extra + (mode == "alternating")):  # on a boundary that stays as it is; 2/n of the mean, n = 2, is 1
        r = r - rate * z.T @ (z @ r - total)
    task_error, read_error = z @ s - y, z @ r - total
    assert (read_error**2 < 5).ravel().tolist() == [False, True], "the first example no longer counts"
    undone = -weight / 5 * np.array([[0.0], [1.0]]) * (read_error @ r.T)
    push = undone if goal is None else weight / 2 * ((z @ r - total / 2) @ r.T)
    want = {"device": a - rate * x.T @ (task_error @ s.T + push), "server": s - rate * z.T @ task_error}
    want["adversary"] = r if mode == "alternating" else r - rate * z.T @ read_error

    trainer.train_on_batch(x.astype("float32"), y.astype("float32"))
    assert np.allclose(model.get_layer("device").get_weights()[0], want["device"], atol=1e-5)
    assert np.allclose(model.get_layer("server").get_weights()[0], want["server"], atol=1e-5)
    assert np.allclose(trainer.networks[0].get_weights()[0], want["adversary"], atol=1e-5)


def test_a_layer_on_both_sides_of_the_cut_trains_as_in_plain_fit():
    def shared():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,), name="x")
        dense = layers.Dense(4, activation="tanh", kernel_regularizer="l2", name="both")
        z = layers.Dense(4, name="cut")(dense(inputs))
        return keras.Model(inputs, dense(z))

    x, y = X.reshape(48, -1)[:, :4], X.reshape(48, -1)[:, 4:8]
    whole, halves = shared(), shared()
    whole.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    whole.fit(x, y, epochs=2, shuffle=False, verbose=0)
    trainer = kp.AdversarialTrainer(kp.partition(halves, at="cut"))
    trainer.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    trainer.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(whole.get_weights(), halves.get_weights(), strict=True):
        assert np.allclose(a, b, atol=1e-6)


def test_several_adversaries_a_channel_and_two_boundary_tensors():
    inputs = keras.Input((8, 8, 1), name="image")
    a = layers.Conv2D(2, 3, strides=2, padding="same", name="a")(inputs)
    b = layers.Dense(3, name="b")(layers.GlobalAveragePooling2D(name="mean")(inputs))
    joined = layers.Concatenate(name="join")([layers.Flatten(name="flat")(a), b])
    parts = kp.partition(keras.Model(inputs, layers.Dense(3, name="scores")(joined)), at=["a", "b"])
    trainer = compiled(
        kp.AdversarialTrainer(
            parts,
            [kp.ReconstructionAdversary(), kp.AttributeAdversary("Male"), kp.AttributeAdversary("Male", kind="linear", name="second")],
            kp.GaussianChannel(0.1),
        )
    )
    logs = fit(trainer, validation_data=data()).history
    for name in ("reconstruction", "Male", "second"):
        for prefix in ("", "val_"):
            assert np.isfinite(logs[f"{prefix}{name}_loss"]).all()
            assert 0 <= logs[f"{prefix}{name}_recovered"][-1] <= 1
    assert trainer.predict(X, verbose=0).shape == (48, 3)
    assert len(trainer.partition.channel) == 2


def test_saving_in_the_middle_and_resuming_gives_the_uninterrupted_weights(tmp_path):
    def make():
        adversaries = [kp.ReconstructionAdversary(weight=0.5), kp.AttributeAdversary("Male", weight=0.5)]
        return compiled(kp.AdversarialTrainer(kp.partition(build(), at="narrow"), adversaries, kp.GaussianChannel(0.2, seed=4)))

    whole = make()
    fit(whole, epochs=4)
    first = make()
    fit(first, epochs=2)
    first.save(tmp_path / "half.keras")
    second = keras.models.load_model(tmp_path / "half.keras", safe_mode=True)
    assert int(second.adversary_optimizer.iterations) == int(first.adversary_optimizer.iterations) > 0
    fit(second, epochs=2)
    for a, b in zip(whole.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_sample_weights_count_for_the_task():
    parts = kp.partition(build(regularizer=None), at="narrow")
    trainer = compiled(kp.AdversarialTrainer(parts, [kp.AttributeAdversary("Male", weight=0.0)]))
    before = trainer.partition.server.get_weights()
    trainer.fit(tf.data.Dataset.from_tensor_slices((X, TARGETS, np.zeros(48, "float32"))).batch(16), shuffle=False, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, trainer.partition.server.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: kp.AdversarialTrainer(p, ["decoder"]), "Received str among the adversaries"),
        (lambda p: kp.AdversarialTrainer(p, [kp.ReconstructionAdversary(), kp.ReconstructionAdversary()]), "share the names"),
        (lambda p: kp.ReconstructionAdversary(weight=-1), "Received weight=-1"),
        (lambda p: kp.ReconstructionAdversary(loss="psnr"), "expected one of mse, ssim, l1, ms-ssim"),
        (lambda p: kp.AttributeAdversary("Male", classes=1), "Received classes=1"),
        (lambda p: fit(compiled(kp.AdversarialTrainer(p, [kp.AttributeAdversary("Young")]))), "expects the key 'Young'"),
        (lambda p: fit(compiled(kp.AdversarialTrainer(p)), data=data(targets={"Male": MALE})), "expected the key 'task'"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(TrainingError, match=message):
        make(kp.partition(build(), at="narrow"))


def test_one_optimizer_for_both_is_refused():
    optimizer = keras.optimizers.Adam()
    trainer = kp.AdversarialTrainer(kp.partition(build(), at="narrow"))
    with pytest.raises(TrainingError, match="expected two"):
        trainer.compile(optimizer=optimizer, adversary_optimizer=optimizer, loss="mse")


def test_a_reconstruction_adversary_wants_pictures_of_one_size():
    inputs = keras.Input((None, None, 1), name="x")
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D(name="cut")(inputs)))
    with pytest.raises(TrainingError, match="expects images"):
        kp.AdversarialTrainer(kp.partition(model, at="cut"), [kp.ReconstructionAdversary()])


@pytest.mark.parametrize("adversaries", [(), (kp.AttributeAdversary("Male", weight=0.0),)], ids=["none", "watching"])
def test_an_optimizer_that_averages_weights_ends_with_their_average_as_in_plain_fit(adversaries):
    def optimizer():
        return keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.8)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model, other, last = build(), build(), build()
    model.compile(optimizer(), loss)
    fit(model, data=data(targets=Y))
    trainer = kp.AdversarialTrainer(kp.partition(other, at="narrow"), adversaries)
    trainer.compile(optimizer(), loss=loss)
    fit(trainer)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))
    fit(compiled(kp.AdversarialTrainer(kp.partition(last, at="narrow"), adversaries)))
    assert not np.array_equal(last.get_weights()[0], other.get_weights()[0])
