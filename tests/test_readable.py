"""What is printed reads like a person's answer: no class name and field dump, in a terminal and in a notebook."""

import re

import keras
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart import readable
from keras_privpart.auditing.reporting.results import AttackResult
from keras_privpart.auditing.scoring.intervals import Leakage, Score
from keras_privpart.contract import TensorSpec


@pytest.fixture(scope="module")
def parts():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(2, 3, strides=2, name="cut")(x)
    return kp.partition(keras.Model(inputs, layers.Dense(3, name="scores")(layers.Flatten()(x)), name="tiny"), at="cut")


@pytest.fixture(scope="module")
def report(report_of):
    def score(value):
        return {"ssim": Score(value, value, value, (value,))}

    found = AttackResult(
        "decoder", "reconstruction", "ssim", score(0.6), {"decision": score(0.4)}, "decision", score(0.9), Leakage(0.4, 0.35, 0.45, "")
    )
    return report_of(found)


@pytest.fixture(scope="module")
def printed(parts, report, tmp_path_factory):
    channelled = parts.with_channel(kp.GaussianChannel(0.5))
    bundle = kp.export(parts, tmp_path_factory.mktemp("bundle") / "tiny", audit=report)
    return {
        "cuts": (kp.cuts(parts.model), ["crosses at", "cut", "20", "The advisor's choice: 0, cut: "]),
        "no cuts": (kp.cuts(parts.model).filter(max_bytes=0), ["No cut: loosen the filter"]),
        "partition": (
            parts,
            ["The model 'tiny', cut at cut:", "on the device: 20 of 77 parameters; takes image", "channel: none", "answers scores"],
        ),
        "channel": (channelled, ["GaussianChannel(stddev=0.5, normalize=True)"]),
        "boundary": (parts.boundary, ["float32 3x3x2 from 'cut', 72 bytes an example"]),
        "report": (report, ["91.0 %", "leakage 0.40 (0.35–0.45)", "summary()", "reconstruction: "]),
        "bundle": (bundle, ["version 1 of 'tiny'", "72 bytes", "reconstruction leaks 0.40", "privpart-keras serve "]),
        "threat model": (kp.ThreatModel(private=("Male",)), ["Who sees what:", "the attribute 'Male'"]),
    }


NAMES = ("cuts", "no cuts", "partition", "channel", "boundary", "report", "bundle", "threat model")


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_like_an_answer(printed, name):
    value, words = printed[name]
    assert repr(value) == str(value)
    for text in words:
        assert text in repr(value)
    assert not re.search(r"\w+\((rows|model|tensors|results|path|private)=", repr(value)), "a dump of fields"
    assert max(map(len, repr(value).splitlines())) < 600


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_the_same(printed, name):
    value, words = printed[name]
    page = value._repr_html_()
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("&#x27;", "'")
    for text in words:
        assert text.strip() in shown
    assert set(re.findall(r"</(\w+)>", page)) <= {"p", "ul", "li", "table", "tr", "th", "td"}


def test_a_free_size_and_several_tensors_are_told():
    tensors = (TensorSpec("boundary_0", (None, None, 4), "float32", "lstm"), TensorSpec("boundary_1", (None,), "int8"))
    assert str(kp.Boundary(tensors)) == "float32 ?x4 from 'lstm' and int8 1, a free number of bytes an example"


def test_what_comes_from_a_file_is_escaped():
    boundary = kp.Boundary((TensorSpec("boundary", (None, 4), "float32", "<script>"),))
    assert "<script>" not in boundary._repr_html_()
    assert readable.html_table([["a"], ["<b>"]]) == "<table><tr><th>a</th></tr><tr><td>&lt;b&gt;</td></tr></table>"


def test_columns_of_numbers_stand_to_the_right():
    assert readable.aligned([["cut", "n"], ["a", "1,000"], ["bb", "7"]]) == ["cut      n", "a    1,000", "bb       7"]


def test_an_unaudited_bundle_says_so(parts, tmp_path):
    assert "not audited" in str(kp.export(parts, tmp_path / "plain"))
