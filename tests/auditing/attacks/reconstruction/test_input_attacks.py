"""One contract for every kind of input that is no single picture, each a row; and what is particular to tokens, signals and tables."""

import keras
import numpy as np
import pytest

from keras_privpart.auditing.attacks import Effort, InputDecoderAttack, InputPosteriorAttack
from keras_privpart.auditing.attacks.base.attack import NEEDS
from keras_privpart.auditing.attacks.reconstruction.codings import coding_of
from keras_privpart.auditing.audit import audit
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.auditing.scoring.chance import chance
from keras_privpart.auditing.store import Found, Store, digest_of_attack
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.input_kind import PICTURE, SIGNAL, TABLE, TOKENS, InputKind
from keras_privpart.partitioning.partition import partition
from keras_privpart.several_inputs import Inputs, arrays_of
from keras_privpart.threat_model import ATTACKS

COUNT = 420
EFFORT = Effort(epochs=25, batch_size=32, learning_rate=1e-2)


def words(rng):
    """Sentences of 6 tokens of 12, the rare ones rare, padded by 0."""
    tokens = rng.choice(np.arange(1, 13), size=(COUNT, 6), p=np.arange(12, 0, -1) / 78).astype("int32")
    tokens[: COUNT // 4, 4:] = 0
    return tokens


def tones(rng):
    """One wave each, of a frequency and a strength of its own."""
    time = np.arange(64) / 64
    return (rng.uniform(0.5, 1, (COUNT, 1)) * np.sin(2 * np.pi * rng.integers(1, 5, (COUNT, 1)) * time)).astype("float32")[..., None]


def people(rng):
    """An income, an age, and one of three places."""
    columns = [rng.normal(40_000, 9_000, COUNT), rng.uniform(18, 90, COUNT), rng.integers(0, 3, COUNT)]
    return np.stack(columns, axis=1).astype("float32")


MADE = {
    TOKENS: (InputKind("words", TOKENS, (6,), 13, 0), words),
    SIGNAL: (InputKind("wave", SIGNAL, (64, 1)), tones),
    TABLE: (InputKind("person", TABLE, (3,)), people),
    "category": (InputKind("town", TABLE, ()), lambda rng: np.array(["here", "there", "nowhere"])[rng.integers(0, 3, COUNT)]),
    PICTURE: (InputKind("photo", PICTURE, (8, 8, 1)), lambda rng: np.repeat(rng.random((COUNT, 8, 1, 1), "float32"), 8, axis=2)),
}
BEYOND = {TOKENS: 0.3, SIGNAL: 6.0, TABLE: 0.4, "category": 0.4, PICTURE: 0.3}  # what an open window gives beyond a wall, at least


def shown(x):
    """What an open window shows: numbers as they are, tokens and texts as vectors that say which they are."""
    if x.dtype.kind == "U":
        return (x[:, None] == np.unique(np.array(["here", "there", "nowhere"]))).astype("float32")
    return np.eye(13, dtype="float32")[x] if x.dtype == "int32" else x


@pytest.fixture(scope="module", params=MADE)
def case(request):
    """A kind of input; its examples beside another input, divided; views that show everything and nothing."""
    kind, make = MADE[request.param]
    rng = np.random.default_rng(0)
    inputs = Inputs({kind.name: make(rng), "other": rng.normal(size=(COUNT, 2)).astype("float32")})
    samples = Samples(inputs, {"task": np.zeros(COUNT, int)})
    window = View("a window", lambda x: shown(x.arrays[kind.name]))
    wall = View("a wall", lambda x: np.ones((len(x), 3), "float32"))
    return request.param, kind, (samples[:300], samples[300:360], samples[360:]), window, wall


@pytest.mark.parametrize("make", [InputDecoderAttack, InputPosteriorAttack])
def test_contract(case, make, tmp_path):
    named, kind, sides, window, wall = case
    attack = make(kind, alone=False)
    assert attack.kind == f"reconstruction of {kind.name}"
    assert kind.name in attack.name
    assert attack.family in ATTACKS
    assert attack.needs <= set(NEEDS)
    assert attack.inapplicable(sides[2]) is None
    assert attack.inapplicable(Samples(Inputs({"x": np.ones((3, 2)), "y": np.ones((3, 2))}), {})) is not None

    def found(attack, view, seed=0):
        attack.fit(view, sides[0], sides[1], EFFORT, seed)
        return attack.score(view.see(sides[2].x), sides[2])

    full, blind = found(attack, window), found(attack, wall)
    headline = full.headline
    assert len(full) == len(sides[2])
    assert full.scores()[headline] > blind.scores()[headline] + BEYOND[named]
    # Who sees a wall knows no more than who sees nothing, and that is what every score of chance says of the same victims.
    if (ignorant := chance(full, sides[0], sides[2])) is not None:
        assert ignorant.scores()[headline] == pytest.approx(blind.scores()[headline], abs=0.1 * full.whole)
        assert ignorant.scores()[headline] < full.scores()[headline]
    # The same seed finds the same, in another attacker too; weights that count all alike change nothing.
    for name, value in found(attack.another(), window).arrays().items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, full.arrays()[name], rtol=1e-3, atol=1e-3)
    weighted = full.scores(np.ones((2, len(full))))
    assert all(weighted[name][1] == pytest.approx(float(value)) for name, value in full.scores().items())
    # Evidence outlasts the process; the attack can be told from others by its settings.
    forgetful = full.forgetful() if named == PICTURE else full
    Store(tmp_path).put("key", Found(forgetful))
    kept = Store(tmp_path).get("key").evidence
    assert {name: float(v) for name, v in kept.scores().items()} == {name: float(v) for name, v in forgetful.scores().items()}
    assert digest_of_attack(make(kind, alone=False)) == digest_of_attack(attack.another()) != digest_of_attack(make(kind, alone=True))


def test_padding_and_unknown_tokens_never_count_as_recovered():
    coding = coding_of(MADE[TOKENS][0], np.array([[1, 2, 3, 0], [3, 2, 1, 1]]))
    truth = np.array([[1, 2, 0, 0], [9, 9, 3, 0], [0, 0, 0, 0]])
    assert coding.encode(truth).tolist() == [[0, 1, -1, -1], [-1, -1, 2, -1], [-1] * 4]
    perfect = coding.evidence(truth, coding.answers(coding.mean(np.eye(3), coding.rows(truth))), 0)
    assert perfect.top_1.tolist() == [1.0, pytest.approx(1 / 3), 0.0]


def test_a_copy_of_a_signal_has_no_distance_and_silence_no_ratio():
    signals = tones(np.random.default_rng(0))[:6]
    coding = coding_of(MADE[SIGNAL][0], signals)
    copy, silence = coding.evidence(signals, signals, 0), coding.evidence(signals, np.zeros_like(signals), 0)
    assert copy.scores() == {"snr": 60.0, "spectral": 0.0}
    assert silence.scores()["snr"] == 0.0
    assert silence.scores()["spectral"] > 5
    noise = np.random.default_rng(1).normal(size=signals.shape)
    tenth = coding.evidence(noise, noise * 0.9, 0)
    assert tenth.scores()["snr"] == pytest.approx(20.0)
    assert tenth.scores()["spectral"] == pytest.approx(-20 * np.log10(0.9), abs=0.05)


def test_columns_have_scores_of_their_own():
    x = people(np.random.default_rng(0))
    coding = coding_of(MADE[TABLE][0], x)
    guess = x.copy()
    guess[:, 0] = x[:, 0].mean()
    scores = coding.evidence(x, guess.astype("float64"), 0).scores()
    assert scores["person[0]"] == pytest.approx(0.0, abs=1e-6)
    assert scores["person[1]"] == scores["person[2]"] == 1.0
    assert scores["recovered"] == pytest.approx(2 / 3, abs=1e-6)


@pytest.fixture(scope="module")
def mixed():
    """A model of three inputs and what crosses of them: all of the category, half of the sentence, nothing of the numbers."""
    keras.utils.set_random_seed(0)
    numbers = keras.Input((3,), name="numbers")
    town = keras.Input((1,), dtype="int32", name="town")
    sentence = keras.Input((6,), dtype="int32", name="sentence")
    parts = [
        keras.layers.Rescaling(0.0, name="nothing")(numbers),
        keras.layers.Flatten()(keras.layers.Embedding(3, 4)(town)),
        keras.layers.Flatten()(keras.layers.Embedding(13, 8)(sentence)[:, :3]),
    ]
    z = keras.layers.Concatenate(name="z")(parts)
    rng = np.random.default_rng(0)
    x = {"sentence": words(rng), "numbers": people(rng), "town": rng.integers(0, 3, (COUNT, 1))}
    model = keras.Model([numbers, town, sentence], keras.layers.Dense(2)(z))
    return partition(model, "z"), (x, {"task": x["town"][:, 0] % 2})


def rows(data, which):
    return {name: values[which] for name, values in data[0].items()}, {name: values[which] for name, values in data[1].items()}


def test_several_inputs_are_audited_each_by_itself(mixed):
    parts, data = mixed
    train, test = rows(data, slice(300)), rows(data, slice(300, None))
    report = audit(parts, train, test, reference=parts, seeds=1, epochs=12, attacks=["kernel posterior", "decoder, small, input town"])
    assert set(report.kinds) == {"reconstruction of numbers", "reconstruction of town", "reconstruction of sentence"}
    found = {kind.rsplit(" ", 1)[1]: report.strongest(kind) for kind in report.kinds}
    assert found["town"].boundary["town"].value > 0.95
    assert found["town"].leakage.value == pytest.approx(1.0, abs=0.01)
    assert found["numbers"].boundary["recovered"].value < 0.2
    assert found["sentence"].boundary["top_1"].value > found["sentence"].floor["top_1"].value
    assert found["sentence"].above_chance is not None
    assert report.input_bytes == 3 * 4 + 8 + 6 * 4
    assert report.pictures is None
    assert "recovers tokens (sentence) at top-1 token recovery" in report.summary()
    assert any("'numbers' counts as a table" in note for note in report.notes)
    assert AuditReport.from_json(report.to_json()).to_json() == report.to_json()


def test_inputs_that_do_not_fit_are_refused(mixed):
    parts, data = mixed
    (x, y), test = rows(data, slice(300)), rows(data, slice(300, None))
    with pytest.raises(AuditError, match="expected those of the model, numbers, town, sentence"):
        audit(parts, ({"numbers": x["numbers"], "town": x["town"]}, y), test, reference=parts)
    with pytest.raises(AuditError, match="Received one input; expected the 3"):
        audit(parts, (x["numbers"], y), test, reference=parts)
    with pytest.raises(AuditError, match="input_kind='sound'; expected one of picture, signal, table, tokens"):
        audit(parts, (x, y), test, reference=parts, input_kind="sound")
    assert list(arrays_of(Samples.of(((x["numbers"], x["town"]), y)).x)) == ["0", "1"]
