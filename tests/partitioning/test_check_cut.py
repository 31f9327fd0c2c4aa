"""Errors that teach: what is wrong with a cut, in words that let the reader mend it."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import CutError, ModelError
from keras_privpart.partitioning.graphs.problems import (
    AllInputsPublic,
    AmbiguousTensor,
    NeedlessTensor,
    NoSuchOutput,
    NotAnAddress,
    NothingLeft,
    RawInput,
    RawPath,
    UnknownPublicInput,
    UnknownTensor,
    UnsendableTensor,
    UnsupportedModel,
)


@pytest.fixture
def small():
    x = keras.Input((4,), name="x")
    relu = layers.ReLU(name="relu")
    a = relu(layers.Dense(4, name="first")(x))
    left, right = keras.ops.split(layers.Dense(4, name="second")(a), 2, axis=-1)
    b = relu(layers.Concatenate(name="joined")([right, left]))
    c = layers.Add(name="sum")([a, b])
    return keras.Model(x, layers.Dense(2, name="scores")(c), name="small")


def test_a_cut_that_separates_has_no_problem(small):
    assert kp.check_cut(small, "relu#1") == []
    assert kp.check_cut(small, ["relu#1", "split"]) == []
    assert kp.check_cut(small, kp.cuts(small)[0]) == []


@pytest.mark.parametrize(
    ("at", "problem", "text"),
    [
        ("frist", UnknownTensor("frist", ("first",)), r"Received 'frist'; .* Near names: 'first'"),
        ("relu", AmbiguousTensor("relu", ("relu#1", "relu#2")), r"stands for 2 calls; expected one. Say which: 'relu#1', 'relu#2'"),
        ("relu#3", NoSuchOutput("relu#3", ("relu#1", "relu#2")), r"no such call or output. Expected one of 'relu#1', 'relu#2'"),
        ("split:2", NoSuchOutput("split:2", ("split:0", "split:1")), r"Expected one of 'split:0', 'split:1'"),
        ("x", RawInput("x", ("'first'",)), r"Received the input 'x' as a cut; it would cross raw. Cut later, at 'first'"),
        (["relu#1", "first"], NeedlessTensor("first"), r"Received 'first' in the cut; the server half would not use it"),
        ("scores", NothingLeft(("scores",)), r"'scores', at the model's outputs; .* Cut earlier"),
        (["relu#1", "sum"], NeedlessTensor("relu#1"), r"Received 'relu#1' in the cut"),
        (["sum", "split"], NeedlessTensor("split:0"), r"Received 'split:0' in the cut"),
        (7, NotAnAddress("7"), r"Received at=7; expected the address of a tensor"),
        ([], NotAnAddress("[]"), r"Received at=\[\]"),
        (
            "joined",
            RawPath("x", ("x", "first", "relu#1", "sum", "scores"), ("['relu#1', 'joined']", "'relu#1'", "'sum'")),
            r"The raw input 'x' would still reach the server, by x -> first -> relu#1 -> sum -> scores. "
            r"Nearest cuts that separate: \['relu#1', 'joined'\] or 'relu#1' or 'sum'",
        ),
    ],
)
def test_problem_and_its_sentence(small, at, problem, text):
    assert problem in kp.check_cut(small, at)
    with pytest.raises(CutError, match=text):
        kp.partition(small, at=at)


def test_nearest_cuts_of_a_refusal_do_separate(small):
    (problem,) = kp.check_cut(small, "joined")
    for nearest in problem.nearest:
        at = [name.strip("'[] ") for name in nearest.split(",")]
        assert kp.check_cut(small, at) == []


def test_all_problems_come_at_once(small):
    with pytest.raises(CutError) as caught:
        kp.partition(small, at=["frist", "relu", "split:7"])
    assert str(caught.value).count("Received") == 3


def test_long_paths_are_shortened():
    x = y = keras.Input((2,), name="x")
    for i in range(20):
        y = layers.Dense(2, name=f"d{i}")(y)
    model = keras.Model(x, [y, layers.Dense(1, name="side")(y)])
    (problem,) = kp.check_cut(model, "side")
    assert len(problem.path) == 21
    assert "d3 -> ... 11 more ... -> d15" in str(problem)


def test_server_may_compute_one_output_of_a_split_itself(small):
    assert kp.check_cut(small, ["relu#1", "split:0"]) == []
    kp.partition(small, at=["relu#1", "split:0"]).verify(np.ones((2, 4), "float32"))


def test_outputs_of_a_split_separate_together():
    x = keras.Input((4,), name="x")
    left, right = keras.ops.split(x, 2, axis=-1)
    model = keras.Model(x, layers.Add(name="both")([left, layers.Dense(2)(right)]))
    (problem,) = kp.check_cut(model, "split:0")
    assert isinstance(problem, RawPath)
    parts = kp.partition(model, at="split")
    assert parts.boundary.sources == ("split:0", "split:1")
    parts.verify(np.ones((2, 4), "float32"))


def test_bare_name_sends_only_the_outputs_that_are_used():
    x = keras.Input((5, 3), name="x")
    _, h, _ = layers.LSTM(4, return_state=True, name="reader")(x)
    model = keras.Model(x, layers.Dense(2, name="scores")(h))
    assert kp.partition(model, at="reader").boundary.sources == ("reader:1",)


def test_nested_names_go_by_path_only_where_they_clash():
    def tower(name):
        return keras.Sequential([keras.Input((3,)), layers.Dense(3, name="dense"), layers.Dense(2, name=f"end_{name}")], name=name)

    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], layers.Dense(1, name="top")(layers.Concatenate(name="both")([tower("left")(a), tower("right")(b)])))
    (problem,) = kp.check_cut(model, "dense")
    assert problem == AmbiguousTensor("dense", ("left/dense", "right/dense"))
    assert kp.check_cut(model, ["left/dense", "right/dense"]) == []
    assert kp.check_cut(model, ["end_left", "right/end_right"]) == []


class _Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


class _OwnCall(keras.Model):
    def call(self, inputs, training=None):
        return super().call(inputs) * 2


def _own_call():
    x = keras.Input((2,))
    return _OwnCall(x, layers.Dense(1)(layers.Dense(2)(x)))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (_Subclassed, "Received the subclassed model '_Subclassed'; .* Write its call on keras.Input tensors"),
        (lambda: keras.Sequential([layers.Dense(2)]), "is not built; .* Put keras.Input.shape. first"),
        (_own_call, "whose class overrides `call`"),
        (lambda: "model.keras", r"Received builtins.str; expected a built keras.Model"),
    ],
)
def test_models_without_a_graph_are_refused(model, text):
    model = model()
    (problem,) = kp.check_cut(model, "dense")
    assert isinstance(problem, UnsupportedModel)
    for verb in (kp.partition, kp.cuts):
        with pytest.raises(ModelError, match=text):
            verb(model)


def test_trainer_like_subclass_of_a_functional_model_is_welcome():
    class WithStep(keras.Model):
        def train_step(self, data):
            return {}

    x = keras.Input((2,))
    model = WithStep(x, layers.Dense(1)(layers.Dense(2, name="first")(x)))
    kp.partition(model, at="first").verify(np.ones((1, 2), "float32"))


class TestPublicInputs:
    @pytest.fixture
    def translator(self):
        speech, language = keras.Input((6,), name="speech"), keras.Input((1,), dtype="int32", name="language")
        voice = layers.Dense(4, name="voice")(speech)
        tongue = layers.Flatten(name="flat")(layers.Embedding(5, 4, name="tongue")(language))
        model = keras.Model(
            {"speech": speech, "language": language}, layers.Dense(3, name="words")(layers.Add(name="mix")([voice, tongue]))
        )
        x = {"speech": np.ones((2, 6), "float32"), "language": np.array([[1], [3]], "int32")}
        return model, x

    def test_any_other_raw_input_is_refused(self, translator):
        model, _ = translator
        (problem,) = kp.check_cut(model, "voice")
        assert problem.path == ("language", "tongue", "flat", "mix", "words")

    def test_public_input_goes_to_the_server_only(self, translator):
        model, x = translator
        parts = kp.partition(model, at="voice", public_inputs=["language"])
        assert [i.name for i in parts.device.inputs] == ["speech"]
        assert [i.name for i in parts.server.inputs] == ["boundary", "language"]
        assert parts.public_inputs == ("language",)
        parts.verify(x)
        sent = np.asarray(parts.device(x["speech"]))
        assert np.array_equal(parts.server([sent, x["language"]]), model(x))
        assert np.array_equal(parts.server({"boundary": sent, "language": x["language"]}), model(x))

    def test_public_input_is_no_cut(self, translator):
        model, _ = translator
        assert kp.check_cut(model, "language", public_inputs="language") == [NotAnAddress("'language'")]
        assert kp.check_cut(model, ["voice", "language"], public_inputs="language") == []

    def test_public_input_may_go_to_both(self):
        x, p = keras.Input((3,), name="x"), keras.Input((3,), name="p")
        shared = layers.Dense(3, name="embed")(p)
        a = layers.Dense(3, name="a")(layers.Add()([x, shared]))
        model = keras.Model([x, p], layers.Dense(1)(layers.Multiply()([a, shared])))
        parts = kp.partition(model, at="a", public_inputs=["p"])
        assert [i.name for i in parts.device.inputs] == ["x", "p"]
        assert [i.name for i in parts.server.inputs] == ["boundary", "p"]
        parts.verify([np.ones((2, 3), "float32"), np.full((2, 3), 0.5, "float32")])

    def test_table_counts_public_work_where_it_is_done(self, translator):
        model, x = translator
        table = kp.cuts(model, public_inputs=["language"])
        assert [c.tensors for c in table] == [("voice",), ("mix",)]
        first, second = table
        assert (first.device_params, first.server_params) == (6 * 4 + 4, 5 * 4 + 4 * 3 + 3)
        assert (second.device_params, second.server_params) == (6 * 4 + 4 + 5 * 4, 4 * 3 + 3)
        assert first.input_bytes == 24
        for cut in table:
            kp.partition(model, at=cut).verify(x)

    def test_bad_names(self, translator):
        model, _ = translator
        assert kp.check_cut(model, "mix", public_inputs=["tongue"]) == [UnknownPublicInput("tongue", ("language", "speech"))]
        (problem,) = kp.check_cut(model, "mix", public_inputs=["language", "speech"])
        assert isinstance(problem, AllInputsPublic)
        with pytest.raises(CutError, match="expected one of the model's inputs"):
            kp.cuts(model, public_inputs=["tongue"])
        with pytest.raises(CutError, match="as public; expected one that stays on the device"):
            kp.partition(model, public_inputs=["language", "speech"])


def test_tensors_without_a_batch_cannot_be_sent():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.ops.add(layers.Dense(2, name="a")(x), keras.ops.sum(layers.Dense(2, name="b")(x))))
    problems = kp.check_cut(model, ["a", "sum"])
    assert problems == [UnsendableTensor("sum", "a scalar")]
    assert all("sum" not in cut.tensors for cut in kp.cuts(model))


def test_sparse_tensors_cannot_be_sent():
    x = keras.Input((1,), dtype="int32", name="x")
    encoded = layers.CategoryEncoding(5, output_mode="one_hot", sparse=True, name="encoded")(x)
    model = keras.Model(x, layers.Dense(2, name="b")(layers.Dense(2, name="a")(encoded)))
    assert UnsendableTensor("encoded", "sparse") in kp.check_cut(model, "encoded")
    assert [c.tensors for c in kp.cuts(model)] == [("a",)]


@pytest.mark.skipif(tuple(map(int, keras.__version__.split(".")[:2])) < (3, 13), reason="older Keras refuses such models itself")
def test_inputs_that_nothing_reads_stay_on_the_device():
    x, spare = keras.Input((3,), name="x"), keras.Input((2,), name="spare")
    model = keras.Model([x, spare], layers.Dense(1)(layers.Dense(2, name="a")(x)))
    parts = kp.partition(model, at="a")
    assert [i.name for i in parts.device.inputs] == ["x", "spare"]
    assert [i.name for i in parts.server.inputs] == ["boundary"]
    parts.verify([np.ones((2, 3), "float32"), np.ones((2, 2), "float32")])


def test_lambda_layers_are_kept_and_named():
    x = keras.Input((4,), name="x")
    y = layers.Lambda(lambda t: t * 2, name="twice")(layers.Dense(3, name="first")(x))
    model = keras.Model(x, layers.Dense(2)(y))
    with pytest.warns(UserWarning, match=r"Lambda layers \['twice'\] are kept"):
        parts = kp.partition(model, at="first")
    parts.verify(np.ones((2, 4), "float32"))
