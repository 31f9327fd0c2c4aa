"""Computed properties: what they are of pictures made by hand, and how much of them views tell."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Effort, PropertiesAttack
from keras_privpart.auditing.attacks.inference.properties import properties
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Regressions
from keras_privpart.datasets import Samples

EFFORT = Effort(epochs=10, batch_size=32)


def bar(steps):
    """A thin bar through the middle of a 17x17 picture, at a slope."""
    picture = np.zeros((17, 17, 1))
    for x, y in steps:
        picture[8 + y, 8 + x] = 1.0
    return picture


def test_properties_of_pictures_made_by_hand():
    falling = bar([(i, i) for i in range(-6, 7)])  # rows count downwards
    level = bar([(i, 0) for i in range(-6, 7)])
    dot = bar([(4, -4)])
    found = properties(np.stack([falling, falling[::-1], level, dot]))
    assert found["brightness"] == pytest.approx([13 / 289, 13 / 289, 13 / 289, 1 / 289])
    assert found["slant"] == pytest.approx([1, -1, 0, 0], abs=0.02)
    assert found["length"][:3] == pytest.approx([1, 1, 1], abs=0.02)
    assert found["row"] == pytest.approx([0.5, 0.5, 0.5, 4.5 / 17], abs=1e-3)
    assert found["column"] == pytest.approx([0.5, 0.5, 0.5, 12.5 / 17], abs=1e-3)
    assert found["size"][0] == pytest.approx(found["size"][2] * np.sqrt(2), rel=0.01)
    assert found["size"][3] < found["size"][2] / 4


def test_colours_have_means_of_their_own():
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 3)).astype("float32")
    found = properties(images)
    np.testing.assert_allclose(found["colour 2"], images[..., 1].mean(axis=(1, 2)), rtol=1e-6)
    assert all(np.isfinite(values).all() for values in properties(np.zeros((2, 4, 4, 1), "float32")).values())


def scores(view, digits):
    train, test = digits
    attack = PropertiesAttack()
    attack.fit(view, train[:400], train[400:], EFFORT, seed=0)
    return attack.score(view.see(test.x), test).scores()


def test_what_a_view_tells_is_explained_and_nothing_else(digits):
    told = scores(View("brightness", lambda x: np.stack([x.mean(axis=(1, 2, 3)), np.zeros(len(x))], axis=1)), digits)
    assert told["brightness"] > 0.98
    assert told["slant"] < 0.2


def test_what_bends_is_explained_as_well():
    """Brightness rises and falls with what is seen, which no straight line follows: trees do."""
    bent = np.cos(12 * np.linspace(0, 1, 400))
    pictures = np.broadcast_to((0.5 + 0.4 * bent)[:, None, None, None], (400, 8, 8, 1)).astype("float32")
    order = np.random.default_rng(0).permutation(400)
    known = Samples(pictures[order], {})
    hidden = {x.tobytes(): i / 400 for i, x in enumerate(pictures)}
    view = View("bent", lambda x: np.array([[hidden[np.asarray(row).tobytes()]] for row in x]))
    attack = PropertiesAttack()
    attack.fit(view, known[:250], known[250:300], EFFORT, seed=0)
    assert attack.score(view.see(known.x[300:]), known[300:]).scores()["brightness"] > 0.9


def test_nothing_explains_nothing(digits):
    assert set(scores(View("a wall", lambda x: np.ones((len(x), 3))), digits).values()) == {0.0}


def test_pictures_that_are_all_alike_have_nothing_to_tell():
    alike = Samples(np.full((40, 8, 8, 1), 0.5, "float32"), {})
    attack = PropertiesAttack()
    view = View("everything", lambda x: x)
    attack.fit(view, alike[:20], alike[20:30], EFFORT, seed=0)
    assert attack.score(view.see(alike.x[30:]), alike[30:]).scores() == {"explained_variance": 0.0}
    assert "pictures" in attack.inapplicable(Samples(np.zeros((3, 5)), {}))


def test_resamples_weight_the_victims():
    truth = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]])
    answers = truth.copy()
    answers[2] = 0.0
    evidence = Regressions(truth, answers, np.array(["a", "b"]))
    weights = np.array([[1, 1, 0], [1, 1, 1]])
    found = evidence.scores(weights)
    assert found["a"].tolist() == [1, 0]
    assert found["explained_variance"].shape == (2,)
    assert len(evidence) == 3
    np.testing.assert_array_equal(evidence.arrays()["names"], ["a", "b"])
