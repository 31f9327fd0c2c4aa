"""Decoders and probes: shapes for boundaries of any rank, input scale, determinism, costs, errors."""

import keras
import numpy as np
import pytest

from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms.networks import decoder, probe

BOUNDARIES = {
    "map": [(4, 4, 3)],
    "map of the image's size": [(9, 7, 2)],
    "map larger than the image": [(20, 20, 2)],
    "vector": [(10,)],
    "scalar": [()],
    "square sequence": [(16, 5)],
    "sequence": [(7, 5)],
    "volume": [(3, 4, 2, 3)],
    "maps, vector and mask": [(2, 2, 4), (5, 4, 2), (6,), (3, 8)],
}


def batch(shapes, n=8, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, *shape)).astype("float32") for shape in shapes]
    return arrays if len(arrays) > 1 else arrays[0]


@pytest.mark.parametrize("shapes", BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.parametrize("size", ["small", "large"])
def test_decoder_gives_images(shapes, size):
    model = decoder(shapes, (9, 7, 3), size)
    images = np.asarray(model(batch(shapes)))
    assert images.shape == (8, 9, 7, 3)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std(axis=0).max() > 1e-4  # the picture depends on the boundary


@pytest.mark.parametrize("shapes", BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.parametrize("kind", ["linear", "mlp", "conv"])
def test_probe_gives_logits(shapes, kind):
    logits = np.asarray(probe(shapes, 3, kind)(batch(shapes)))
    assert logits.shape == (8, 3)
    assert logits.std(axis=0).max() > 1e-4


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("build", [lambda s: decoder(s, (6, 6, 1), "small"), lambda s: probe(s, 2, "mlp")], ids=["decoder", "probe"])
def test_scale_and_offset_of_the_boundary_do_not_matter(build, scale):
    shapes = [(3, 3, 4)]
    keras.utils.set_random_seed(1)
    model = build(shapes)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    z = batch(shapes, n=32)
    want = np.asarray(model(z, training=True))
    got = np.asarray(model(z * scale + 3 * scale, training=True))
    np.testing.assert_allclose(got, want, atol=2e-3)


@pytest.mark.parametrize("build", [lambda: decoder([(4, 4, 2), (3,)], (8, 8, 1), "large"), lambda: probe([(4, 4, 2)], 2, "conv")])
def test_same_seed_same_network(build):
    weights = []
    for seed in (3, 3, 4):
        keras.utils.set_random_seed(seed)
        weights.append(np.concatenate([w.ravel() for w in build().get_weights()]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[0] - weights[2]).max() > 0


def test_both_paths_reach_the_image():
    keras.utils.set_random_seed(0)
    model, z = decoder([(4, 4, 2)], (8, 8, 1), "small"), batch([(4, 4, 2)])
    plain = np.asarray(model(z))
    for name in ("conv_path", "dense_path"):
        layer = model.get_layer(name)
        kept = layer.get_weights()
        layer.set_weights([np.zeros_like(w) for w in kept])
        assert np.abs(np.asarray(model(z)) - plain).max() > 1e-3
        layer.set_weights(kept)


def test_dense_path_is_within_its_budget():
    model = decoder([(64, 64, 16)], (32, 32, 3), "small")
    hidden = model.get_layer("dense_hidden")
    assert hidden.units == 16  # 68,608 numbers in and out: 7 units would fit half a million weights, 16 is the least
    free = decoder([(4, 4, 2)], (8, 8, 1), "small").get_layer("dense_hidden")
    assert free.units == 128


def test_decoder_learns_to_invert():
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(size=(256, 6, 6, 1)).astype("float32")
    model = decoder([(6, 6, 1)], (6, 6, 1), "small")
    model.compile(keras.optimizers.Adam(5e-3), "mse")
    model.fit(100 * x - 30, x, batch_size=32, epochs=15, verbose=0)
    assert model.evaluate(100 * x - 30, x, verbose=0) < 0.01  # the images' variance is 0.083


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: decoder([], (8, 8, 1)), "no boundary shapes"),
        (lambda: decoder([(None, 3)], (8, 8, 1)), r"boundary shape \(None, 3\)"),
        (lambda: decoder([(4,)], (8, 8)), r"image shape \(8, 8\)"),
        (lambda: decoder([(4,)], (8, 8, 1), "endless"), "size 'endless'"),
        (lambda: probe([(4,)], 0), "units=0"),
        (lambda: probe([(4,)], 2, "forest"), "kind 'forest'"),
    ],
)
def test_errors_say_what_was_received(call, text):
    with pytest.raises(TrainingError, match=text):
        call()
