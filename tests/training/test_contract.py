"""What every adversary, goal, regulariser, schedule and channel must keep: off equals plain, on differs, configurations come back.

Run eagerly, two batches each; `test_trainer.py` proves the same for compiled training.
"""

import keras
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart import channels
from keras_privpart.training.distillation import Distillation
from keras_privpart.training.privacy_terms import adversaries, goals, regularizers, schedules


def own_decoder():
    z = keras.Input((3, 3, 2))
    return keras.Model(z, layers.Reshape((8, 8, 1))(layers.Dense(64, activation="sigmoid")(layers.Flatten()(z))))


# One row a member of each family: how to make it with some weight.
ADVERSARIES = {
    "decoder mse": lambda w: kp.ReconstructionAdversary(weight=w),
    "decoder l1, own optimizer": lambda w: kp.ReconstructionAdversary(weight=w, loss="l1", optimizer=keras.optimizers.SGD(0.1)),
    "decoder ssim": lambda w: kp.ReconstructionAdversary(weight=w, loss="ssim"),
    "decoder ms-ssim": lambda w: kp.ReconstructionAdversary(weight=w, loss="ms-ssim"),
    "own decoder": lambda w: kp.ReconstructionAdversary(weight=w, network=own_decoder()),
    "attribute": lambda w: kp.AttributeAdversary("Male", classes=2, weight=w),
    "binary attribute": lambda w: kp.AttributeAdversary("Male", weight=w, kind="linear", attribute_type="binary"),
    "continuous attribute": lambda w: kp.AttributeAdversary("age", weight=w, attribute_type="continuous", optimizer="sgd"),
    "three heads": lambda w: kp.AttributeAdversary("Male", weight=w, kind=("linear", "mlp", "conv")),
    "extra steps": lambda w: kp.AttributeAdversary("Male", weight=w, steps=2),
}
GOALS = {
    "Reversal": lambda w: kp.ReconstructionAdversary(weight=w, goal=goals.Reversal(threshold=0.5)),
    "Reversal, unbounded": lambda w: kp.ReconstructionAdversary(weight=w, goal=goals.Reversal(bounded=False)),
    "Dissimilarity": lambda w: kp.ReconstructionAdversary(weight=w, goal=goals.Dissimilarity()),
    "PullToMean": lambda w: kp.ReconstructionAdversary(weight=w, goal=goals.PullToMean()),
    "PullToClassMean": lambda w: kp.ReconstructionAdversary(weight=w, goal=goals.PullToClassMean(3, distance="l1")),
    "MaximumEntropy": lambda w: kp.AttributeAdversary("Male", weight=w, goal=goals.MaximumEntropy(), kind=("linear", "mlp")),
    "PredictPrior": lambda w: kp.AttributeAdversary("Male", weight=w, goal=goals.PredictPrior(2), attribute_type="binary"),
}
SCHEDULES = {
    "LinearWeight": lambda w: kp.AttributeAdversary("Male", weight=schedules.LinearWeight(w, w, steps=3)),
    "CosineWeight": lambda w: kp.AttributeAdversary("Male", weight=schedules.CosineWeight(0.0, w, steps=1)),
}
REGULARIZERS = {
    "DistanceCorrelation": lambda w: regularizers.DistanceCorrelation(w),
    "ConditionalEntropy": lambda w: regularizers.ConditionalEntropy(3, weight=w),
    "BitsBeyondClass": lambda w: regularizers.BitsBeyondClass(3, stddev=0.1, weight=w, with_noise=False),
    "BitsBeyondClass, schedule": lambda w: regularizers.BitsBeyondClass(3, 0.1, 0.5, schedules.LinearWeight(w, w, 1), with_noise=False),
    "ClassMeanPull": lambda w: regularizers.ClassMeanPull(3, stddev=0.1, weight=w, with_noise=False),
    "JacobianPenalty": lambda w: regularizers.JacobianPenalty(w, projections=2),
    "AttributeDependence": lambda w: regularizers.AttributeDependence("Male", weight=w),
    "AttributeDependence, number": lambda w: regularizers.AttributeDependence("age", weight=schedules.LinearWeight(w, w, 1)),
}
CHANNELS = {
    "GaussianChannel": (channels.GaussianChannel(0.0, normalize=False), channels.GaussianChannel(0.3)),
    "LaplaceChannel": (channels.LaplaceChannel(0.0, normalize=False), channels.LaplaceChannel(0.3, learn_scale=True)),
    "QuantizeChannel": (channels.QuantizeChannel(None, normalize=False), channels.QuantizeChannel(2)),
    "GateChannel": (channels.GateChannel(0.0), channels.GateChannel(0.5)),
    "DropoutChannel": (channels.DropoutChannel(0.0), channels.DropoutChannel(0.5)),
}


def members(module, base, *more):
    """Public concrete classes of a module's family."""
    bases = (base, *more)
    found = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, bases)]
    return {c.__name__ for c in found if c is not base and c.__name__[0] != "_"}


@pytest.mark.parametrize(
    ("rows", "family"),
    [
        (ADVERSARIES, members(adversaries, adversaries.Adversary)),
        (GOALS, members(goals, goals.Goal, goals.Reversal)),
        (SCHEDULES, members(schedules, schedules.WeightSchedule)),
        (REGULARIZERS, members(regularizers, regularizers.Regularizer)),
        (CHANNELS, members(channels, channels.Channel)),
    ],
    ids=["adversaries", "goals", "schedules", "regularizers", "channels"],
)
def test_the_families_are_complete(rows, family):
    if rows is ADVERSARIES:
        assert {type(make(0.0)).__name__ for make in rows.values()} == family
    else:
        assert {name.split(",")[0] for name in rows} == family


def steps(tiny, trainer):
    """Weights of the whole model after two batches."""
    for batch in tiny.data().take(2):
        trainer.train_on_batch(*batch)
    return trainer.partition.model.get_weights()


EAGER = {"run_eagerly": True}


@pytest.fixture(scope="module")
def plain(tiny):
    model = tiny.compiled(tiny.model(), run_eagerly=True)
    for x, y in tiny.data(targets=tiny.y).take(2):
        model.train_on_batch(x, y)
    return model.get_weights()


@pytest.mark.parametrize("make", [*ADVERSARIES.values(), *GOALS.values(), *SCHEDULES.values()], ids=[*ADVERSARIES, *GOALS, *SCHEDULES])
def test_adversaries(make, tiny, plain, same):
    assert same(steps(tiny, tiny.trainer([make(0.0)], compile=EAGER)), plain), "weight 0 trains as plain fit, bit for bit"
    assert not same(steps(tiny, tiny.trainer([make(1.0)], compile=EAGER)), plain)
    adversary = make(0.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(adversary), safe_mode=True)
    assert type(again) is type(adversary)
    assert again.get_config() == adversary.get_config()


@pytest.mark.parametrize("make", REGULARIZERS.values(), ids=REGULARIZERS)
def test_regularizers(make, tiny, plain, same):
    assert same(steps(tiny, tiny.trainer(regularizers=[make(0.0)], compile=EAGER)), plain), "weight 0 trains as plain fit, bit for bit"
    on = tiny.trainer(regularizers=[make(1.0)], compile=EAGER)
    assert not same(steps(tiny, on), plain)
    assert float(on.penalty_trackers[0].result()) > 0
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(make(0.5)), safe_mode=True)
    assert again.get_config() == make(0.5).get_config()


@pytest.mark.parametrize(("off", "on"), CHANNELS.values(), ids=CHANNELS)
def test_channels(off, on, tiny, plain, same):
    def fresh(channel):
        return type(channel).from_config(channel.get_config())

    assert same(steps(tiny, tiny.trainer((), fresh(off), compile=EAGER)), plain), "off trains as plain fit, bit for bit"
    trainer = tiny.trainer([kp.AttributeAdversary("Male")], fresh(on), compile=EAGER)
    before = [w.numpy() for layer in trainer.partition.channel for w in layer.trainable_weights]
    assert not same(steps(tiny, trainer), plain)
    after = [w.numpy() for layer in trainer.partition.channel for w in layer.trainable_weights]
    assert not before or not same(before, after), "what a channel can learn, it learns"


DISTILLATIONS = {
    "answers": lambda w: Distillation(weight=w),
    "answers beside labels, cold": lambda w: Distillation(weight=w / 2, temperature=1.0),
    "features": lambda w: Distillation(weight=0.0, features=("flatten", "flatten"), feature_weight=w),
}


@pytest.mark.parametrize("make", DISTILLATIONS.values(), ids=DISTILLATIONS)
def test_distillation(make, tiny, plain, same):
    teacher = tiny.model(seed=5)
    before = teacher.get_weights()
    off = tiny.trainer(teacher=teacher, distillation=make(0.0), compile=EAGER)
    assert same(steps(tiny, off), plain), "a weight of 0 trains as plain fit, bit for bit"
    assert not same(steps(tiny, tiny.trainer(teacher=teacher, distillation=make(1.0), compile=EAGER)), plain)
    assert same(before, teacher.get_weights())
    trainer = tiny.trainer(teacher=teacher, distillation=make(0.5), compile=EAGER)
    again = kp.AdversarialTrainer.from_config(trainer.get_config())
    assert again.teacher.settings == make(0.5)
    again.set_weights(trainer.get_weights())
    assert same([again.teacher(tiny.x).numpy()], [trainer.teacher(tiny.x).numpy()])


def test_schedules_by_hand():
    ramp = schedules.LinearWeight(1.0, 3.0, steps=10, delay=5)
    assert [float(ramp(s)) for s in (0, 5, 10, 15, 99)] == [1, 1, 2, 3, 3]
    wave = schedules.CosineWeight(2.0, 0.0, steps=4)
    assert [round(float(wave(s)), 5) for s in (0, 1, 2, 4)] == [2, round(1 + 0.5**0.5, 5), 1, 0]


def test_a_weight_may_be_a_function_of_the_step(tiny, plain, same):
    seen = []

    def weight(step):
        seen.append(int(step))
        return tf.zeros([])

    assert same(steps(tiny, tiny.trainer([kp.AttributeAdversary("Male", weight=weight)], compile=EAGER)), plain)
    assert seen == [0, 1]
