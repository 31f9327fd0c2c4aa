"""Re-identification: found where anything of the picture crosses, and pure chance where nothing does."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Effort, LinkageAttack
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Ranks
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError


def scores(view, digits, same_class=True):
    train, test = digits
    attack = LinkageAttack(same_class)
    attack.fit(view, train[:400], train[400:], Effort(1, 32), seed=0)
    return attack.score(view.see(test.x), test).scores(), attack


def hashed(x):
    """Three numbers that say nothing of what a picture looks like, and everything of which one it is."""
    return np.stack([np.random.default_rng(list(np.asarray(row, "float32").tobytes())).uniform(size=3) for row in x])


@pytest.mark.parametrize("same_class", [True, False])
def test_a_hash_of_the_picture_names_it(digits, same_class):
    found, _ = scores(View("a hash", hashed), digits, same_class)
    assert found["rank_1"] == 1
    assert found["mean_reciprocal_rank"] == 1


@pytest.mark.parametrize("same_class", [True, False])
def test_a_constant_is_chance(digits, same_class):
    found, _ = scores(View("a wall", lambda x: np.full((len(x), 3), 0.7)), digits, same_class)
    assert found["rank_1"] == pytest.approx(found["chance"])


def test_the_class_is_chance_among_the_class_and_more_among_all(digits):
    lookup = {x.tobytes(): y for s in digits for x, y in zip(s.x, s.targets["task"], strict=True)}
    decision = View("the class", lambda x: np.eye(10, dtype="float32")[[lookup[np.asarray(row).tobytes()] for row in x]])
    found, attack = scores(decision, digits)
    assert found["rank_1"] == pytest.approx(found["chance"])
    assert attack.notes[0].startswith("among ")
    found, attack = scores(decision, digits, same_class=False)
    assert found["rank_1"] > 5 * found["chance"]
    assert attack.notes == ()


def test_noise_of_known_strength_gives_what_the_likelihood_gives(digits):
    """Two classes of correlated noise: whitening must find the quiet direction."""
    rng = np.random.default_rng(0)
    mix = np.array([[1.0, 0.999], [0.999, 1.0]])

    def look(x):
        code = np.stack([x.mean(axis=(1, 2, 3)), -x.mean(axis=(1, 2, 3))], axis=1)  # across the loud direction
        return code + 0.05 * rng.normal(size=code.shape) @ np.linalg.cholesky(mix).T

    def blurred(x):
        return x.mean(axis=(1, 2, 3))[:, None] + 0.05 * rng.normal(size=(len(x), 1))

    found, _ = scores(View("loud along, quiet across", look), digits, same_class=False)
    loud, _ = scores(View("loud all over", blurred), digits, same_class=False)
    assert found["rank_1"] > 5 * loud["rank_1"]


def test_one_of_a_class_and_no_class_do_not_apply():
    x = np.zeros((3, 4, 4, 1), "float32")
    assert LinkageAttack().inapplicable(Samples(x, {"task": np.arange(3)})) == "no two victims are of one class"
    assert "which class" in LinkageAttack().inapplicable(Samples(x, {}))
    assert "no other" in LinkageAttack(False).inapplicable(Samples(x[:1], {}))
    with pytest.raises(AuditError, match="before any fit"):
        LinkageAttack().score([x], Samples(x, {"task": np.zeros(3, int)}))


def test_ranks_are_weighted_like_any_evidence():
    ranks = Ranks(np.array([1.0, 0.0]), np.array([1.0, 0.5]), np.array([100, 50]))
    assert len(ranks) == 2
    assert ranks.headline == "rank_1"
    assert ranks.scores()["rank_1"] == 0.5
    assert ranks.scores(np.array([[2, 0], [0, 2]]))["rank_1"].tolist() == [1, 0]
    assert ranks.scores()["chance"] == pytest.approx(0.015)
