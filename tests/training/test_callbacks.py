"""Restarts, the pool, and the monitor that looks on without touching."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_privpart as kp
from keras_privpart.errors import TrainingError
from keras_privpart.training.callbacks import PrivacyMonitor, RestartAdversaries

EAGER = {"run_eagerly": True}


def linear(weight=1.0, **kwargs):
    return kp.AttributeAdversary("Male", weight=weight, kind="linear", **kwargs)


def test_a_restart_gives_new_weights_and_a_new_start_to_the_optimizer(tiny, same):
    trainer = tiny.trainer([linear(), linear(name="own", optimizer=keras.optimizers.Adam(0.5))], compile=EAGER)
    first = [n.get_weights() for n in trainer.networks]
    tiny.fit(trainer)
    halves = trainer.partition.model.get_weights()
    trainer.restart_adversaries(seed=7)
    for network, before in zip(trainer.networks, first, strict=True):
        assert not same(network.get_weights(), before)
    for optimizer, _ in trainer.adversary_updates():
        assert int(optimizer.iterations) == 0
    assert float(trainer.own_optimizers[1].learning_rate) == 0.5
    assert same(trainer.partition.model.get_weights(), halves)
    fresh = [n.get_weights() for n in trainer.networks]
    tiny.fit(trainer)
    trainer.restart_adversaries(seed=7)
    assert all(same(n.get_weights(), w) for n, w in zip(trainer.networks, fresh, strict=True)), "the seed decides"


def test_the_pool_holds_the_last_ones_frozen_and_shares_the_weight(tiny, same):
    trainer = tiny.trainer([linear(), linear(name="two")], pool=2, compile=EAGER)
    assert np.allclose(trainer.roster.shares(), [1, 1, 0, 0, 0, 0])
    generations = []
    for seed in range(3):
        tiny.fit(trainer)
        generations.append([n.get_weights() for n in trainer.networks])
        trainer.restart_adversaries(seed)
        filled = min(seed + 1, 2)
        assert np.allclose(trainer.roster.shares(), [1 / (1 + filled)] * (2 + 2 * filled) + [0] * (4 - 2 * filled))
    held = [n.get_weights() for n in trainer.roster.past]
    assert all(same(a, b) for a, b in zip(held, [*generations[2], *generations[1]], strict=True)), "the oldest went"
    tiny.fit(trainer)
    assert all(same(n.get_weights(), w) for n, w in zip(trainer.roster.past, held, strict=True))


def test_past_adversaries_push_the_halves(tiny, same):
    def halves(pool):
        trainer = tiny.trainer([linear(3.0)], pool=pool)
        tiny.fit(trainer, 4, callbacks=[RestartAdversaries(every=2)])
        return trainer.partition.model.get_weights()

    without = halves(0)
    assert same(without, halves(0))
    assert not same(without, halves(1))


def test_restarts_survive_saving_in_between(tiny, same, tmp_path):
    def run(trainer, start, end):
        tiny.fit(trainer, end, initial_epoch=start, callbacks=[RestartAdversaries(every=2, seed=3)])

    whole = tiny.trainer([linear(steps=1)], kp.GaussianChannel(0.1, seed=1), pool=1)
    run(whole, 0, 6)
    half = tiny.trainer([linear(steps=1)], kp.GaussianChannel(0.1, seed=1), pool=1)
    run(half, 0, 3)
    half.save(tmp_path / "half.keras")
    again = keras.models.load_model(tmp_path / "half.keras", safe_mode=True)
    assert again.roster.pool == 1
    run(again, 3, 6)
    assert same(again.get_weights(), whole.get_weights())


@pytest.fixture(scope="module")
def watched(tiny, tmp_path_factory):
    """A training with a monitor: the trainer, its history, the folder of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    trainer = tiny.trainer([kp.ReconstructionAdversary(), linear()], compile=EAGER)
    monitor = PrivacyMonitor(
        (tiny.x, tiny.targets),
        (tiny.x, tiny.targets),  # what it has learnt by heart: sixteen images teach nobody to read others
        every=2,
        epochs=40,
        batch_size=48,
        learning_rate=1e-2,
        reference=kp.partition(tiny.model(), at="relu"),
        directory=folder,
        price=0.5,
    )
    stop = keras.callbacks.EarlyStopping("privacy_utility", mode="max", patience=99, restore_best_weights=False)
    return trainer, tiny.fit(trainer, 3, validation_data=tiny.data(), callbacks=[monitor, stop]), folder


def test_the_monitor_changes_nothing(tiny, watched, same):
    alone = tiny.trainer([kp.ReconstructionAdversary(), linear()], compile=EAGER)
    tiny.fit(alone, 3, validation_data=tiny.data())
    assert same(alone.get_weights(), watched[0].get_weights())


def test_the_monitor_logs_shares_leakage_and_the_score(watched):
    logs = watched[1]
    for name in ("privacy_reconstruction", "privacy_Male"):
        assert len(logs[name]) == len(logs[f"{name}_floor"]) == 3
        assert all(0 <= v <= 1 for v in logs[name])
    assert logs["privacy_reconstruction"][0] != logs["privacy_reconstruction"][1] == logs["privacy_reconstruction"][2], (
        "looks after 1 and 2"
    )
    leakages = [v for k, v in logs.items() if k.endswith("_leakage")]
    assert leakages
    worst = [max(v[i] for v in leakages) for i in range(3)]
    assert np.allclose(logs["privacy_utility"], np.array(logs["val_accuracy"]) - 0.5 * np.array(worst))


def test_the_monitor_draws_originals_above_reconstructions(tiny, watched):
    files = sorted(watched[2].glob("*.png"))
    assert [f.name for f in files] == ["reconstruction_0001.png", "reconstruction_0002.png"]
    grid = tf.io.decode_png(files[0].read_bytes()).numpy()
    assert grid.shape == (16, 64, 1)
    assert np.array_equal(grid[:8, :8], (tiny.x[0] * 255).round().astype("uint8"))


def test_where_leakage_is_undefined_nothing_is_charged(tiny):
    """A reference behind which nothing is left to read: neither floor nor share may stand in for leakage."""
    x = keras.Input((8, 8, 1))
    blind = keras.layers.Rescaling(0.0, name="blind")(keras.layers.Flatten()(x))
    reference = kp.partition(keras.Model(x, keras.layers.Dense(3)(blind)), at="blind")
    monitor = PrivacyMonitor(
        (tiny.x, tiny.targets), (tiny.x, tiny.targets), epochs=40, batch_size=48, learning_rate=1e-2, reference=reference
    )
    with pytest.warns(UserWarning, match=r"adversaries \['Male'\].*charges nothing"):
        logs = tiny.fit(tiny.trainer([linear()], compile=EAGER), validation_data=tiny.data(), callbacks=[monitor])
    assert "privacy_Male_leakage" not in logs
    assert logs["privacy_Male"][0] > 0, "else charging it would not show"
    assert logs["privacy_utility"] == logs["val_accuracy"]


def test_what_the_monitor_cannot_do_is_said(tiny):
    monitor = PrivacyMonitor((tiny.x, tiny.targets), (tiny.x, tiny.targets), epochs=1)
    with pytest.raises(TrainingError, match="The logs have no 'val_accuracy'; expected one of"):
        tiny.fit(tiny.trainer([linear()]), callbacks=[monitor])
    with pytest.raises(TrainingError, match="Received every=0; expected a whole number from 1"):
        RestartAdversaries(0)
