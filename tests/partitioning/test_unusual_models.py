"""Models that Keras allows and few people build: text in, state between calls, inputs left out, shapes that do not hold, odd names."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import ModelError, TrainingError, VerificationError


@keras.saving.register_keras_serializable("unusual")
class Plus(layers.Layer):
    """Adds an optional input, where it is given."""

    def build(self, *shapes):
        self.built = True

    def call(self, x, extra=None):
        return x if extra is None else x + extra

    def compute_output_shape(self, shape, *rest):
        return shape


@keras.saving.register_keras_serializable("unusual")
class Misdeclared(layers.Layer):
    """Leaves out the first step, and does not declare it."""

    def call(self, x):
        return x[:, 1:]

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, dtype=x.dtype)


@keras.saving.register_keras_serializable("unusual")
class Ordered(layers.Layer):
    """Makes its two weights, of one shape, in the order of `names`; what is made from its configuration in another one."""

    def __init__(self, names=("scale", "extra"), saved=("extra", "scale"), **kwargs):
        super().__init__(**kwargs)
        self.names, self.saved = tuple(names), tuple(saved)

    def build(self, shape):
        self.made = {name: self.add_weight(name=name, shape=(3,)) for name in self.names}
        self.built = True

    def call(self, x):
        return x * self.made["scale"] + self.made["extra"]

    def get_config(self):
        return {**super().get_config(), "names": self.saved}


@keras.saving.register_keras_serializable("unusual")
class Counter(layers.Layer):
    """Adds how often it was called."""

    def build(self, shape):
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, x):
        self.count.assign_add(1.0)
        return x + self.count


def text_model(kind):
    if kind == "lookup":
        x = keras.Input((1,), dtype="string")
        code = layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(x)
    elif kind == "hashing":
        x = keras.Input((2,), dtype="string")
        code = layers.Hashing(8, output_mode="multi_hot")(x)
    else:
        text, number = keras.Input((1,), dtype="string", name="text"), keras.Input((2,), name="number")
        x = [text, number]
        code = layers.Concatenate()([layers.StringLookup(vocabulary=["red"], output_mode="one_hot")(text), number])
    return keras.Model(x, layers.Dense(2)(layers.Dense(3, name="hidden")(code)))


@pytest.mark.parametrize("kind", ["lookup", "hashing", "text and numbers"])
def test_a_model_that_takes_text_has_a_table_of_cuts_and_an_advisor(kind, tmp_path):
    model = text_model(kind)
    table = kp.cuts(model)
    assert len(table) >= 2
    assert all(c.input_bytes is None for c in table)  # text has no fixed size
    assert "| ? |" in table.to_markdown()
    assert '"input_bytes": null' in table.to_json()
    assert table.plot(tmp_path / "cuts.png").is_file()
    assert kp.partition(model).boundary.nbytes > 0


def test_cuts_of_a_text_model_are_timed():
    assert any(c.seconds for c in kp.cuts(text_model("lookup"), measure=True))


def test_text_outputs_are_compared_as_text():
    x = keras.Input((4,))
    words = layers.IntegerLookup(vocabulary=[0, 1, 2], invert=True)(layers.Dense(2, name="d")(x))
    model = keras.Model(x, words)
    kp.partition(model, at="d").verify(np.zeros((2, 4), "float32"))


def stateful(kind):
    x = keras.Input(batch_shape=(2, 5, 4))
    if kind == "counter":
        return keras.Model(x, layers.Dense(2)(Counter(name="late")(layers.Dense(3, name="first")(x))))
    make = {
        "lstm": lambda **k: layers.LSTM(3, stateful=True, **k),
        "gru": lambda **k: layers.GRU(3, stateful=True, **k),
        "both ways": lambda return_sequences=False, name=None: layers.Bidirectional(
            layers.SimpleRNN(3, stateful=True, return_sequences=return_sequences), name=name
        ),
    }[kind]
    return keras.Model(x, layers.Dense(2)(make(name="late")(make(return_sequences=True, name="first")(x))))


@pytest.mark.parametrize("kind", ["lstm", "gru", "both ways", "counter"])
def test_verify_gives_both_sides_the_same_state_and_gives_it_back(kind):
    model = stateful(kind)
    x = np.random.default_rng(0).random((2, 5, 4), dtype="float32")
    parts = kp.partition(model, at="first")
    model(x)  # a state that is not zero
    before = np.asarray(model(x))
    after = np.asarray(model(x))
    assert not np.array_equal(before, after)
    model = stateful(kind)  # again from the start, now with two verifications in between
    twin = kp.partition(model, at="first")
    twin.verify(x)
    first = np.asarray(model(x))
    twin.verify(x)
    assert not np.array_equal(np.asarray(model(x)), first)
    del parts


def test_verify_leaves_the_state_alone():
    model = stateful("counter")
    x = np.zeros((2, 5, 4), "float32")
    model(x)
    kp.partition(model, at="first").verify(x)
    assert float(model.get_layer("late").count) == 1.0


@pytest.mark.parametrize("public", [("b",), ()], ids=["public", "private"])
@pytest.mark.parametrize("given", ["list", "dict", "dict without it"])
def test_an_optional_input_may_be_left_out(public, given):
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b", optional=True)
    at = "hidden" if public else "plus"
    model = keras.Model([a, b], layers.Dense(1)(Plus(name="plus")(layers.Dense(2, name="hidden")(a), b)))
    one = np.ones((3, 2), "float32")
    x = {"list": [one, None], "dict": {"a": one, "b": None}, "dict without it": {"a": one}}[given]
    parts = kp.partition(model, at=at, public_inputs=public)
    parts.verify(x)
    parts.verify([one, one])


def multi_hot():
    text = layers.TextVectorization(max_tokens=20, output_mode="multi_hot")
    text.adapt(["red green blue", "green grass"])
    x = keras.Input((1,), dtype="string")
    return keras.Model(x, layers.Dense(2)(layers.Dense(4, name="hidden")(text(x)))), tf.constant([["green red"], ["blue"]])


def misdeclared():
    x = keras.Input((5, 3))
    hidden = layers.Activation("relu", name="hidden")(Misdeclared()(x))
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden))), tf.ones((2, 5, 3))


def test_a_layer_that_makes_another_shape_than_it_declares_is_named_with_both():
    model, text = multi_hot()
    with pytest.raises(VerificationError, match=r"'hidden' is float32\[2, 4\], declared as float32\[None, 1, 4\]"):
        kp.partition(model, at="hidden").verify(text)
    model, x = misdeclared()
    with pytest.raises(VerificationError, match=r"'hidden' is float32\[2, 4, 3\], declared as float32\[None, 5, 3\]"):
        kp.partition(model, at="hidden").verify(x)


def test_training_on_a_misdeclared_boundary_is_refused():
    model, text = multi_hot()
    trainer = kp.AdversarialTrainer(kp.partition(model, at="hidden"))
    trainer.compile(optimizer="sgd", loss="mse")
    with pytest.raises(TrainingError, match=r"declared as float32\[None, 1, 4\]"):
        trainer.fit(tf.data.Dataset.from_tensors((text, np.zeros((2, 2), "float32"))), shuffle=False, verbose=0)


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantized_layers_are_copied_by_the_names_of_their_variables(mode):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, name="a"), layers.EinsumDense("ab,bc->ac", 3, name="b")])
    model.quantize(mode)
    parts = kp.partition(model, at="a", independent=True)
    x = np.random.default_rng(0).random((2, 8), dtype="float32")
    parts.verify(x)
    assert np.array_equal(model(x), parts.model(x))


def test_variables_made_in_another_order_are_copied_by_name():
    x = keras.Input((3,))
    layer = Ordered(name="ordered")
    model = keras.Model(x, layers.Dense(1)(layer(x)))
    layer.made["scale"].assign([1.0, 2.0, 3.0])
    layer.made["extra"].assign([7.0, 8.0, 9.0])
    parts = kp.partition(model, at="ordered", independent=True)
    one = np.ones((1, 3), "float32")
    assert np.array_equal(model(one), parts.model(one))
    assert parts.model.get_layer("ordered").made["extra"].numpy().tolist() == [7.0, 8.0, 9.0]


def test_a_copy_that_lacks_a_variable_is_refused():
    x = keras.Input((3,))
    layer = Ordered(name="ordered", names=("scale", "extra", "third"))
    model = keras.Model(x, layers.Dense(1)(layer(x)))
    with pytest.raises(ModelError, match=r"ordered.*2 variables instead of 3"):
        kp.partition(model, at="ordered", independent=True)


@pytest.mark.parametrize("name", ["face net", "größe", "lr=[1]", "_hidden"])
def test_a_model_of_any_name_is_trained_as_halves(name):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(3, name="d")(x)), name=name)
    trainer = kp.AdversarialTrainer(kp.partition(model, at="d"), [kp.AttributeAdversary("hair colour", classes=2, weight=1.0)])
    trainer.compile(optimizer="sgd", loss="mse")
    data = (np.ones((4, 4), "float32"), {"task": np.ones((4, 2), "float32"), "hair colour": np.array([0, 1, 0, 1])})
    assert np.isfinite(trainer.fit(*data, verbose=0).history["loss"][0])


@pytest.mark.parametrize("name", ["a b", "größe"])
def test_training_refuses_layers_that_no_graph_can_name(name):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(3, name=name)(x)))
    with pytest.raises(TrainingError, match=f"layers called .*{name}"):
        kp.AdversarialTrainer(kp.partition(model, at=name))
