"""Only the enrolled: who is enrolled is told apart, of who is not little crosses."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import keras_privpart as kp
from keras_privpart.auditing.scoring.information import bits
from keras_privpart.datasets import Samples
from keras_privpart.errors import CutError, DataError
from keras_privpart.training.closed_form.unit_codes import spread_codes

WIDTH, ENROLLED, PICTURES = 32, 20, 20


def people(count, seed, pictures=PICTURES):
    """Pictures of so many people, whose they are, and whether male: made-up embeddings, the sex one strong direction of them."""
    rng = np.random.default_rng(seed)
    male = rng.integers(0, 2, count)
    faces = rng.normal(size=(count, WIDTH))
    faces[:, 0] = 4 * (male - 0.5)
    who = np.repeat(np.arange(count), pictures)
    return (faces[who] + 0.35 * rng.normal(size=(len(who), WIDTH))).astype("float32"), who, male[who]


KNOWN, HELPERS, UNSEEN = people(ENROLLED, 1), people(60, 2), people(200, 3)
TEST = people(ENROLLED, 1, 2 * PICTURES)


def embedding():
    keras.utils.set_random_seed(0)
    x = keras.Input((WIDTH,), name="x")
    e = keras.layers.Dense(WIDTH, name="embedding")
    model = keras.Model(x, keras.layers.Dense(ENROLLED)(e(x)))
    e.set_weights([np.eye(WIDTH, dtype="float32"), np.full(WIDTH, 0.3, "float32")])
    return kp.partition(model, at="embedding")


@pytest.fixture(scope="module")
def parts():
    return kp.enrolled(embedding(), (KNOWN[0], KNOWN[1]), HELPERS[0], features=16, stddev=0.05)


def accuracy(parts, x, who):
    return float((np.asarray(parts.server(parts.device(x))).argmax(axis=1) == who).mean())


def linear_auc(z, male):
    half = len(z) // 2  # whole people on either side
    return roc_auc_score(male[half:], LogisticRegression(max_iter=1000).fit(z[:half], male[:half]).predict_proba(z[half:])[:, 1])


def test_the_enrolled_are_told_apart_and_strangers_sex_is_not(parts):
    assert accuracy(parts, TEST[0], TEST[1]) > 0.97
    before = linear_auc(np.asarray(embedding().device(UNSEEN[0])), UNSEEN[2])
    after = linear_auc(np.asarray(parts.device(UNSEEN[0])), UNSEEN[2])
    assert before > 0.99
    assert after < 0.85


def test_of_strangers_little_crosses_and_of_nobody_more_than_the_power(parts):
    silent = kp.enrolled(embedding(), (KNOWN[0], KNOWN[1]), HELPERS[0], features=16, stddev=0.0)
    lengths = [np.linalg.norm(np.asarray(silent.device(x)), axis=1) for x in (KNOWN[0], HELPERS[0], UNSEEN[0], 1e6 * UNSEEN[0])]
    assert np.median(lengths[0]) > 0.8
    assert (lengths[1] < 1e-5).mean() == pytest.approx(0.5, abs=0.02), "half of the helpers do not pass the gate at all"
    assert np.median(lengths[2]) < 0.3
    assert max(n.max() for n in lengths) < 1
    found = bits(parts, Samples(KNOWN[0], {"task": KNOWN[1]}), Samples(TEST[0], {"task": TEST[1]}), looks=(1,))
    assert found.at(1).capacity == pytest.approx(16 / 2 * np.log2(1 + (1 / 16) / 0.05**2))


def test_it_is_a_partition_like_any_other(parts, tmp_path):
    parts.verify(TEST[0][:8])
    parts.save(tmp_path / "parts")
    again = kp.Partition.load(tmp_path / "parts")
    assert accuracy(again, TEST[0], TEST[1]) > 0.97
    assert parts.boundary.tensors[0].shape == (None, 16)
    trainer = kp.AdversarialTrainer(parts)
    trainer.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(trainer.train_on_batch(KNOWN[0][:32], KNOWN[1][:32]))


def test_it_goes_on_from_an_erased_embedding():
    targets = {"task": np.concatenate([KNOWN[1], HELPERS[1]]), "Male": np.concatenate([KNOWN[2], HELPERS[2]])}
    erased = kp.erase(embedding(), (np.concatenate([KNOWN[0], HELPERS[0]]), targets), "Male")
    parts = kp.enrolled(erased, (KNOWN[0], KNOWN[1]), HELPERS[0], features=16, stddev=0.05)
    assert accuracy(parts, TEST[0], TEST[1]) > 0.95
    assert linear_auc(np.asarray(parts.device(UNSEEN[0])), UNSEEN[2]) < 0.75


@pytest.mark.parametrize(("count", "features"), [(5, 8), (98, 64), (40, 3)])
def test_codes_are_unit_vectors_further_apart_than_chance_ones(count, features):
    codes = spread_codes(count, features)
    assert np.allclose(np.linalg.norm(codes, axis=1), 1)
    chance = np.random.default_rng(0).normal(size=(count, features))
    chance /= np.linalg.norm(chance, axis=1, keepdims=True)

    def nearest(rows):
        return (rows @ rows.T - 2 * np.eye(len(rows))).max()

    assert nearest(codes) < nearest(chance) - (0.1 if features > 3 else 0.01)
    assert np.array_equal(codes, spread_codes(count, features))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda e: kp.enrolled(e.with_channel(kp.GaussianChannel(1.0)), KNOWN[:2], HELPERS[0]),
            CutError,
            "with a channel or public inputs",
        ),
        (lambda e: kp.enrolled(e, (KNOWN[0], KNOWN[1] + 1), HELPERS[0]), DataError, r"Received the classes \[1, 2, 3, 4, 5\]"),
        (lambda e: kp.enrolled(e, (KNOWN[0], KNOWN[0][:, :1]), HELPERS[0]), DataError, "expected a whole number an example"),
        (lambda e: kp.enrolled(e, KNOWN[:2], HELPERS[0][:0]), DataError, "Received no helpers"),
        (lambda e: kp.enrolled(e, KNOWN[:2], HELPERS[0], gain=0), DataError, "Received gain=0; expected a finite number above 0"),
        (lambda e: kp.enrolled(e, KNOWN[:2], HELPERS[0], features=1), DataError, "Received 20 codes of 1 numbers"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make(embedding())


def test_the_open_set_recipe_erases_before_it_enrols():
    known, helpers = (Samples(x, {"task": who, "Male": male}) for x, who, male in (KNOWN, HELPERS))
    both = Samples(np.concatenate([known.x, helpers.x]), {"Male": np.concatenate([known.targets["Male"], helpers.targets["Male"]])})
    by_hand = kp.enrolled(kp.erase(embedding(), both, "Male"), known, helpers.x, stddev=0.0)
    found = kp.recipes.open_set(embedding(), known, helpers, ["Male"], stddev=0.0)
    np.testing.assert_allclose(found.device(UNSEEN[0]), by_hand.device(UNSEEN[0]), atol=1e-6)
    plain = kp.recipes.open_set(embedding(), known, helpers, stddev=0.0)
    assert not np.allclose(plain.device(UNSEEN[0]), by_hand.device(UNSEEN[0]), atol=1e-3)
    with pytest.raises(DataError, match=r"helpers with the targets \['task'\]; expected 'Male' among them"):
        kp.recipes.open_set(embedding(), known, Samples(helpers.x, {"task": helpers.targets["task"]}), ["Male"])
