import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from keras_privpart.cli.main import main


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """A tiny classifier of scikit-learn's digits."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(x)
    x = layers.Conv2D(2, 3, strides=2, padding="same", name="narrow")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    keras.Model(inputs, layers.Dense(10, name="scores")(x), name="tiny").save(path)
    return path


@pytest.fixture
def run():
    """Runs a command; the result has `exit_code`, `stdout`, `stderr`."""

    def invoke(*arguments, code=0):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype("float32")
