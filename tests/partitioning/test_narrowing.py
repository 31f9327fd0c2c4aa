"""A bottleneck changes the model, and says so by its new boundary."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_privpart.channels import GaussianChannel
from keras_privpart.errors import CutError
from keras_privpart.partitioning import narrowing
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.partition import partition, with_bottleneck

X = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype("float32")


def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    a = layers.Conv2D(6, 3, strides=2, name="a")(image)
    b = layers.Dense(5, name="b")(layers.GlobalAveragePooling2D()(image))
    joined = layers.Concatenate()([layers.Flatten()(layers.ReLU()(a)), b])
    return keras.Model(image, {"scores": layers.Dense(3, name="scores")(joined)}, name="two")


def test_few_features_cross_and_the_new_model_is_what_the_halves_compose_to(tmp_path):
    whole = model()
    before = whole.predict(X, verbose=0)["scores"]
    parts = partition(whole, at=["a", "b"])
    narrow = with_bottleneck(parts, 2)
    assert [t.shape for t in narrow.boundary.tensors] == [(None, 3, 3, 2), (None, 2)]
    assert narrow.boundary.sources == ("bottleneck_0", "bottleneck_1")
    narrow.verify(X)
    assert list(narrow.server(narrow.device(X))) == ["scores"]
    assert not np.allclose(narrow.model.predict(X, verbose=0)["scores"], before)
    assert np.array_equal(whole.predict(X, verbose=0)["scores"], before), "the model it came from is as it was"
    narrow.model.save(tmp_path / "narrow.keras")
    again = keras.models.load_model(tmp_path / "narrow.keras", safe_mode=True)
    assert np.array_equal(again.predict(X, verbose=0)["scores"], narrow.model.predict(X, verbose=0)["scores"])


def test_it_starts_as_an_orthonormal_projection_and_its_transpose():
    narrow = with_bottleneck(partition(model(), at=["a", "b"]), 4)
    down = narrow.model.get_layer("bottleneck_0").get_weights()[0]
    up = narrow.model.get_layer("bottleneck_expansion_0").get_weights()[0]
    assert np.allclose(down.T @ down, np.eye(4), atol=1e-5)
    assert np.array_equal(up, down.T)


@pytest.mark.parametrize("over", ["place", "example"])
def test_from_examples_it_starts_where_least_is_lost(over):
    x = np.random.default_rng(1).uniform(size=(60, 8, 8, 1)).astype("float32")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    a = layers.Conv2D(6, 3, strides=2, name="a")(image)
    parts = partition(keras.Model(image, layers.Dense(3)(layers.Flatten()(a))), at="a")
    before = parts.device.predict(x, verbose=0)
    narrow = with_bottleneck(parts, 4, over, x)
    features = narrow.device.predict(x, verbose=0).reshape(-1, 4)
    assert np.allclose(features.mean(0), 0, atol=1e-4)
    assert np.allclose(features.std(0, ddof=1), 1, atol=1e-3)
    back = np.asarray(narrow.model.get_layer("bottleneck_expansion")(features))
    truth = before.reshape(back.shape)
    spectrum = np.linalg.svd(truth - truth.mean(0), compute_uv=False)
    lost = np.square(truth - back).sum()
    assert lost == pytest.approx(np.square(spectrum[4:]).sum(), rel=1e-3), "the least that any 4 linear features lose"


def test_from_examples_all_directions_come_back_as_they_were():
    x = np.random.default_rng(1).uniform(size=(60, 8, 8, 1)).astype("float32")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    a = layers.Dense(5, name="a")(layers.Dense(2)(layers.Flatten()(image)))  # 5 features that vary in 2 directions
    whole = keras.Model(image, layers.Dense(3)(a))
    narrow = partition(whole, at="a", bottleneck=2, bottleneck_examples=x)
    assert np.allclose(narrow.model.predict(x, verbose=0), whole.predict(x, verbose=0), atol=1e-5)
    with pytest.raises(CutError, match="bottleneck=3, but the boundary of these examples varies in 2 directions only"):
        partition(whole, at="a", bottleneck=3, bottleneck_examples=x)
    with pytest.raises(CutError, match="examples with 2 rows for 2 features"):
        partition(whole, at="a", bottleneck=2, bottleneck_examples=x[:2])


def test_partition_makes_it_at_once():
    whole = model()
    narrow = partition(whole, at=["a", "b"], bottleneck=2)
    assert narrow.boundary == with_bottleneck(partition(whole, at=["a", "b"]), 2).boundary
    narrow.verify(X)
    apart = partition(whole, at=["a", "b"], bottleneck=2, independent=True)
    assert not {id(v) for v in apart.model.variables} & {id(v) for v in whole.variables}
    apart.verify(X)


def test_over_the_example_so_many_cross_in_all(tmp_path):
    narrow = partition(model(), at=["a", "b"], bottleneck=4, bottleneck_over="example")
    assert [t.shape for t in narrow.boundary.tensors] == [(None, 4), (None, 4)]
    down = narrow.model.get_layer("bottleneck_0").get_weights()[0]
    assert down.shape == (3 * 3 * 6, 4)
    assert np.allclose(down.T @ down, np.eye(4), atol=1e-5)
    narrow.verify(X)
    narrow.with_channel(GaussianChannel(0.5)).save(tmp_path / "parts")
    again = Partition.load(tmp_path / "parts")
    assert [z.shape for z in again.device(X)] == [(4, 4), (4, 4)]


def test_over_the_example_the_tensor_must_have_a_size():
    image = keras.Input((None, None, 1), name="image")
    a = layers.Conv2D(6, 3, name="a")(image)
    parts = partition(keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(a))), at="a")
    assert with_bottleneck(parts, 2).boundary.tensors[0].shape == (None, None, None, 2)
    with pytest.raises(CutError, match=r"bottleneck=2 at a with \[0\] features"):
        with_bottleneck(parts, 2, over="example")


def test_it_loads_in_a_process_that_knows_nothing_of_it(tmp_path):
    partition(model(), at=["a", "b"], bottleneck=2).with_channel(GaussianChannel(0.5)).save(tmp_path / "parts")
    code = "import sys; from keras_privpart import Partition; print(Partition.load(sys.argv[1]).boundary)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "parts")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3x3x2" in done.stdout


def test_a_channel_goes_on_top():
    noisy = with_bottleneck(partition(model(), at=["a", "b"]), 2).with_channel(GaussianChannel(0.5))
    assert [z.shape for z in noisy.device(X)] == [(4, 3, 3, 2), (4, 2)]
    noisy.verify(X)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: with_bottleneck(p, 5), r"bottleneck=5 at a, b with \[6, 5\] features; expected a whole number from 1"),
        (lambda p: with_bottleneck(p, 0), "bottleneck=0"),
        (lambda p: with_bottleneck(p, 2, over="pixel"), "over='pixel'; expected one of place, example"),
        (lambda p: with_bottleneck(p, 2, expand="wide"), "expand='wide'; expected one of linear, dense, convolutions"),
        (lambda p: with_bottleneck(p, 2, activation="relu"), "activation='relu'; expected one of linear, tanh, softmax"),
        (lambda p: with_bottleneck(p, 2, expand="convolutions"), r"convolutions' for a boundary \[\[None, 5\]\]; expected \[batch, height"),
        (lambda p: with_bottleneck(p.with_channel(GaussianChannel(0.5)), 2), "expected a plain one"),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
    with pytest.raises(CutError, match=text):
        make(partition(model(), at=["a", "b"]))


def pictures():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    a = layers.Conv2D(6, 3, strides=2, name="a")(image)  # 3x3x6
    return partition(keras.Model(image, layers.Dense(3, name="scores")(layers.Flatten()(layers.ReLU()(a)))), at="a")


@pytest.mark.parametrize("over", ["place", "example"])
@pytest.mark.parametrize("expand", ["dense", "convolutions"])
def test_room_on_the_server_begins_as_the_linear_map_and_learns_more(expand, over, tmp_path):
    x = np.random.default_rng(1).uniform(size=(60, 8, 8, 1)).astype("float32")
    linear, roomy = (with_bottleneck(pictures(), 2, over, x, expand=e) for e in ("linear", expand))
    assert roomy.boundary == linear.boundary
    assert np.allclose(roomy.device(x), linear.device(x), atol=1e-5)
    assert np.allclose(roomy.model(x), linear.model(x), atol=1e-5), "it starts where the linear one does"
    roomy.verify(X)
    before = [w.copy() for w in roomy.server.get_weights()]
    roomy.server.compile(keras.optimizers.Adam(1e-2), "mse")
    truth = pictures().model(x)
    roomy.server.fit(roomy.device(x), truth, epochs=3, verbose=0)
    assert sum(not np.array_equal(a, b) for a, b in zip(before, roomy.server.get_weights(), strict=True)) == len(before), "all of it learns"
    with_room, without = roomy.server.count_params(), linear.server.count_params()
    assert with_room > without
    assert roomy.device.count_params() == linear.device.count_params()
    roomy.save(tmp_path / "parts")
    again = Partition.load(tmp_path / "parts")
    assert np.array_equal(again.server(again.device(X)), roomy.server(roomy.device(X)))
    twin = roomy.copy()
    assert np.array_equal(twin.model(X), roomy.model(X))


def test_partition_makes_room_at_once():
    whole = pictures().model
    parts = partition(whole, at="a", bottleneck=4, bottleneck_over="example", expand="convolutions")
    assert type(parts.server.get_layer("bottleneck_expansion")).__name__ == "ExpandConvolutions"
    assert parts.boundary.tensors[0].shape == (None, 4)


def test_features_that_compete_sum_to_one_and_come_back_from_a_file(tmp_path):
    parts = partition(pictures().model, at="a", bottleneck=4, bottleneck_over="example", bottleneck_activation="softmax")
    z = np.asarray(parts.device(X[:, :8, :8]))
    np.testing.assert_allclose(z.sum(-1), 1.0, rtol=1e-5)
    parts.save(tmp_path / "run")
    np.testing.assert_array_equal(np.asarray(Partition.load(tmp_path / "run").device(X)), z)


def test_tanh_bounds_each_feature():
    parts = with_bottleneck(pictures(), 2, activation="tanh")
    assert np.abs(np.asarray(parts.device(100 * X))).max() <= 1


def test_features_that_compete_start_as_likenesses_to_clusters_of_what_crosses():
    rng = np.random.default_rng(2)
    kinds = rng.uniform(size=(4, 8, 8, 1))
    which = rng.integers(0, 4, 200)
    x = (kinds[which] + 0.01 * rng.normal(size=(200, 8, 8, 1))).astype("float32")
    parts = with_bottleneck(pictures(), 4, "example", x, activation="softmax")
    codes = np.asarray(parts.device(x))
    assert codes.max(axis=1).min() > 0.5
    winners = codes.argmax(axis=1)
    assert len({(kind, winner) for kind, winner in zip(which, winners, strict=True)}) == 4, "a feature for each kind of picture"
    normal = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    want, scale = parts_of(x), np.std(parts_of(x))
    back = np.asarray(parts.server.get_layer("bottleneck_expansion")(normal)).reshape(want.shape)
    assert np.abs(back - want).mean() < 0.2 * scale


def test_features_that_compete_start_as_likenesses_to_the_classes_where_these_are_known():
    """What sets the classes apart here is faint, and clusters do not see it; a class with two kinds gets two features."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 400)
    x = rng.normal(size=(400, 8, 8, 1)) * [[[[3.0]], *[[[0.1]]] * 7]]
    for which, place in enumerate(((2, 2), (4, 4), (6, 6))):
        x[labels == which, place[0] : place[0] + 2, place[1] : place[1] + 2] += 1
    x = x.astype("float32")

    def told(**how):
        """How often the winning feature tells the class."""
        codes = np.asarray(with_bottleneck(pictures(), 5, "example", x[:300], activation="softmax", **how).device(x))
        winners, best = codes.argmax(axis=1), {}
        for feature in range(5):
            mine = labels[:300][winners[:300] == feature]
            best[feature] = np.bincount(mine, minlength=3).argmax()
        return np.mean([best[w] for w in winners[300:]] == labels[300:])

    assert told(labels=labels[:300]) > 0.9
    assert told() < 0.7


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"labels": np.zeros(30, int), "examples": None}, "with no examples"),
        ({"labels": np.zeros(29, int)}, r"labels int64 \[29\] with 30 examples"),
        ({"labels": np.zeros(30)}, r"labels float64 \[30\]"),
        ({"labels": np.zeros(30, int), "activation": "linear"}, "activation='linear'"),
        ({"labels": np.arange(30)}, "labels of 30 classes for 4 features"),
    ],
)
def test_labels_that_no_start_can_be_made_of_are_refused(how, message):
    with pytest.raises(CutError, match=message):
        with_bottleneck(pictures(), 4, **{"over": "example", "examples": np.zeros((30, 8, 8, 1)), "activation": "softmax", **how})


def test_features_that_compete_do_not_hear_of_how_wide_the_boundary_is(monkeypatch):
    """Behind wide boundaries what is narrowed is scaled down, to the same start; the other features have no need of it."""
    x = np.random.default_rng(3).uniform(size=(30, 8, 8, 1)).astype("float32")
    parts = with_bottleneck(pictures(), 4, "example", x, activation="softmax")
    monkeypatch.setattr(narrowing, "_WIDE", 16)
    scaled = with_bottleneck(pictures(), 4, "example", x, activation="softmax")
    layer = scaled.device.get_layer("bottleneck_scale")
    assert 0 < layer.scale < 1
    np.testing.assert_allclose(scaled.device(x), parts.device(x), atol=1e-4)
    for plain in (parts, with_bottleneck(pictures(), 4, "example", x)):
        assert not any("scale" in each.name for each in plain.device.layers)


def parts_of(x):
    """What crossed before the bottleneck."""
    return np.asarray(pictures().device(x))
