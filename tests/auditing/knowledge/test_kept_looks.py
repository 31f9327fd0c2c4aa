"""Looks that are kept: no more than so many passes, and means that are those of fresh looks."""

import numpy as np
import pytest

from keras_privpart.auditing.knowledge import kept_looks
from keras_privpart.auditing.knowledge.kept_looks import MOST, KeptLooks

X = np.zeros((2000, 3), "float32")


class Noise:
    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return [x + self.rng.normal(size=x.shape).astype("float32"), x[:, :1]]


@pytest.mark.parametrize("looks", [1, 4, 16, 32])
def test_means_are_over_so_many_looks_of_at_most_64(looks):
    noise = Noise()
    kept = KeptLooks(noise)
    means = [kept.mean(X, looks)[0] for _ in range(MOST // looks + 3)]
    assert noise.calls == MOST
    assert all(mean.std() == pytest.approx(looks**-0.5, rel=0.05) and mean.dtype == np.float32 for mean in means)
    new, again, once_more = means[0], means[-1], means[-2]
    assert not np.array_equal(again, once_more)
    assert abs(np.corrcoef(new.ravel(), means[1].ravel())[0, 1]) < 0.05


def test_other_inputs_are_looked_at_by_themselves_and_the_oldest_forgotten():
    noise = Noise()
    kept = KeptLooks(noise)
    others = [X + i for i in range(kept_looks._KEEP_INPUTS + 1)]
    for x in others:
        assert kept.mean(x, 4)[0].mean() == pytest.approx(x[0, 0], abs=0.05)
    assert len(kept._kept) == kept_looks._KEEP_INPUTS
    assert id(others[0]) not in kept._kept


def test_what_is_too_large_to_keep_is_looked_at_anew(monkeypatch):
    monkeypatch.setattr(kept_looks, "_KEEP_BYTES", 10 * X.nbytes)
    noise = Noise()
    kept = KeptLooks(noise)
    for _ in range(3):
        assert kept.mean(X, 16)[0].std() == pytest.approx(0.25, rel=0.05)
    assert noise.calls == 48
