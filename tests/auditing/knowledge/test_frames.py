"""Near duplicates of pictures."""

import numpy as np
import pytest

from keras_privpart.auditing.knowledge.frames import BRIGHTNESS, SHIFTS, frame

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("x", [RNG.uniform(size=(3, 6, 5, 2)).astype("float32"), RNG.integers(0, 256, size=(3, 6, 5, 2), dtype="uint8")])
def test_frames_are_moved_by_a_pixel_and_lit_otherwise(x):
    np.testing.assert_array_equal(frame(x, 0), x)
    white = 255 if x.dtype == np.uint8 else 1
    made = [frame(x, i) for i in range(len(SHIFTS) * len(BRIGHTNESS))]
    assert len({m.tobytes() for m in made}) == len(made), "each is another one"
    for i, one in enumerate(made):
        assert one.shape == x.shape
        assert one.dtype == x.dtype
        assert one.min() >= 0
        assert one.max() <= white
        down, right = SHIFTS[i % len(SHIFTS)]
        inner = np.roll(x, (down, right), axis=(1, 2))[:, 1:-1, 1:-1].astype("float64")
        expected = np.clip(inner * BRIGHTNESS[i % len(BRIGHTNESS)], 0, white)
        np.testing.assert_allclose(one[:, 1:-1, 1:-1], expected, atol=0.5 if white == 255 else 1e-6)
