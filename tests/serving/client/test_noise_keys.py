"""Frozen noise on a device: the key is made there, stays there, and makes the same input send the same boundary."""

import os
import stat

import keras
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart.errors import BundleError, ServingError
from keras_privpart.serving.client import noise_keys
from keras_privpart.serving.client.device import load_device


@pytest.fixture(scope="module")
def parts():
    keras.utils.set_random_seed(0)
    x = keras.Input((6,), name="x")
    a, b = keras.layers.Dense(4, name="a")(x), keras.layers.Dense(4, name="b")(x)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Concatenate()([a, b])))
    return kp.partition(model, ["a", "b"]).with_channel(kp.GaussianChannel(0.5, frozen=True))


@pytest.fixture(scope="module")
def frozen(parts, tmp_path_factory):
    return kp.export(parts, tmp_path_factory.mktemp("frozen") / "bundle", max_batch_size=2)


X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")


def sent(bundle, key=None):
    run = load_device(bundle.path, bundle.contract, noise_key=key).run({"x": X})
    return [run[name] for name in bundle.contract.boundary.names]


def test_the_same_key_sends_the_same_and_another_key_other_noise(frozen):
    key = os.urandom(32)
    device = load_device(frozen.path, frozen.contract, noise_key=key)
    first, again = ([device.run({"x": X})[name] for name in frozen.contract.boundary.names] for _ in range(2))
    for one, same, other, third in zip(first, again, sent(frozen, key), sent(frozen, os.urandom(32)), strict=True):
        assert np.array_equal(one, same)
        assert np.array_equal(one, other)
        assert not np.array_equal(one, third)


def test_without_a_key_a_client_draws_its_own(frozen):
    device = load_device(frozen.path, frozen.contract)
    assert all(np.array_equal(a, b) for a, b in zip(device.run({"x": X}).values(), device.run({"x": X}).values(), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(sent(frozen), sent(frozen), strict=True))


def test_no_file_of_the_bundle_holds_a_key_and_the_partition_keeps_its_own(parts, frozen):
    keys = [channel.noise_key.variable.numpy().tobytes() for channel in parts.channel]
    assert len(set(keys)) == 2
    assert bytes(32) not in keys
    for file in frozen.path.rglob("*"):
        if file.is_file():
            assert not any(key in file.read_bytes() for key in keys)
    assert np.array_equal(parts.device(X)[0], parts.device(X)[0])


def test_two_tensors_have_noise_of_their_own(frozen):
    assert noise_keys.key_of(bytes(32), "one") != noise_keys.key_of(bytes(32), "two")
    assert not np.array_equal(*sent(frozen, bytes(32)))


def test_a_file_is_made_once_for_its_owner_alone(frozen, tmp_path):
    file = tmp_path / "noise.key"
    first = sent(frozen, file)
    assert len(file.read_bytes()) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(np.array_equal(a, b) for a, b in zip(first, sent(frozen, str(file)), strict=True))


def test_bad_keys_are_refused(frozen, tmp_path):
    with pytest.raises(ServingError, match="Received a noise_key of 5 bytes; expected 32"):
        sent(frozen, b"short")
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(ServingError, match=r"Received a noise_key of 5 bytes in .*short'; expected 32"):
        sent(frozen, tmp_path / "short")
    with pytest.raises(ServingError, match="Can't read or make the noise_key"):
        sent(frozen, tmp_path / "missing" / "key")


def test_litert_has_no_place_for_a_key_and_says_so(parts, tmp_path):
    with pytest.raises(BundleError, match="Received the format 'litert' for a device half with frozen noise"):
        kp.export(parts, tmp_path / "bundle", formats=("saved_model", "litert"))
