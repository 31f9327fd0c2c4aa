"""The report as text, JSON, contract summary, page and folder."""

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from keras_privpart.auditing.reporting.html import render
from keras_privpart.auditing.reporting.report import AttackResult, AuditReport, PictureRows
from keras_privpart.auditing.reporting.report_folder import check_absent
from keras_privpart.auditing.scoring.bounds import Bound
from keras_privpart.auditing.scoring.confusion import Reading
from keras_privpart.auditing.scoring.intervals import Leakage, Score
from keras_privpart.errors import AuditError
from keras_privpart.threat_model import ThreatModel

NAN = float("nan")


def score(value):
    return Score(value, value - 0.01, value + 0.01, (value, value))


def decoder(name, boundary, floor, ceiling, leakage):
    sides = [{"ssim": score(s), "mse": score(0.02), "psnr": score(17.0)} for s in (boundary, floor, ceiling)]
    boundary, floor, ceiling = sides
    return AttackResult(
        name,
        "reconstruction",
        "ssim",
        boundary,
        {"decision": floor, "answer": {"ssim": score(0.57), "mse": score(0.03), "psnr": score(16.0)}},
        "decision",
        ceiling,
        Leakage(leakage, leakage - 0.02, leakage + 0.02),
        notes=("boundary: <tripped>",),
    )


@pytest.fixture
def report(report_of):
    probe = {"auc": score(0.71), "accuracy": score(0.6), "advantage": Score(NAN, NAN, NAN, (NAN, NAN))}
    curve = Reading(((0.8, 0.2), (0.3, 0.7)), ((0.0, 0.0), (0.2, 0.6), (1.0, 1.0)))
    spread = {"boundary": curve, "floor": curve, "ceiling": Reading(((0.9, 0.1), (0.1, 0.9)), ((0.0, 0.0), (0.0, 0.9), (1.0, 1.0)))}
    undefined = Leakage(None, reason="ceiling - floor is 0.001: no room between them")
    images = np.random.default_rng(0).uniform(size=(4, 5, 8, 8, 1))
    return report_of(
        AttackResult("mlp probe, Male", "Male", "auc", probe, {"answer": probe}, "answer", probe, undefined, readings=spread),
        decoder("weak", 0.55, 0.50, 0.80, 0.17),
        decoder("strong", 0.60, 0.55, 0.95, 0.12),
        reference_accuracy=None,
        notes=("The test set is small (400 examples).",),
        threat_model=ThreatModel(private=("Male",), device_weights=False),
        reproduce="privpart-keras audit runs/faces --seeds 2",
        pictures=PictureRows("strong", *images),
    )


def test_a_bound_is_printed_and_kept(report, tmp_path):
    bound = Bound(0.01, 0.02, 0.07, True, 64, 60, 0.99, 32, 400)
    assert "Bound: " not in report.summary()
    bounded = replace(report, bound=bound)
    assert bound.words() in bounded.summary()
    folder = bounded.save(tmp_path / "report")
    assert AuditReport.load(folder).bound == bound
    assert "What no attacker can undercut, under assumptions" in (folder / "index.html").read_text(encoding="utf-8")


def test_an_attribute_that_no_defence_was_trained_for_is_marked(report):
    assert report.unseen == ()
    unseen = replace(report, results=(replace(report.results[0], family="unseen attribute"), *report.results[1:]))
    assert unseen.unseen == ("Male",)
    marked = "Male (an attribute that no defence was trained for)"
    for text, other in ((unseen.summary(), report.summary()), (render(unseen), render(report))):
        assert marked in text
        assert marked not in other


def test_the_strongest_attack_counts(report):
    assert report.kinds == ("reconstruction", "Male")
    assert report.strongest().attack == "strong"
    assert report.max_leakage() == 0.17  # of the weaker attack
    assert report.max_leakage("Male") is None
    with pytest.raises(AuditError, match=r"kind 'Female'.*reconstruction, Male"):
        report.strongest("Female")


def test_summary_tells_all(report):
    text = report.summary()
    for part in (
        "strong *",
        "0.600 (0.590–0.610)",
        "0.12 (0.10–0.14)",
        "undefined",
        "91.0 %",
        "not applicable",
        "small",
    ):
        assert part in text
    assert max(len(line) for line in text.splitlines() if line.startswith("  ")) < 120


def test_json_comes_back(report):
    text = json.dumps(report.to_json(), allow_nan=False)
    data = json.loads(text)
    assert data["schema"] == 3
    assert data["strongest"]["reconstruction"] == {"attack": "strong", "max_leakage": 0.17}
    back = AuditReport.from_json(data)
    assert back.pictures is None
    assert json.dumps(back.to_json()) == text
    assert back.results[1:] == report.results[1:]
    assert np.isnan(back.results[0].boundary["advantage"].value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.update(schema=1), "schema 1"),
        (lambda d: d.pop("seeds"), "malformed: KeyError"),
        (lambda d: d["results"][0].update(surprise=1), "malformed: TypeError"),
        (lambda d: d["results"][0].pop("floors"), "malformed: KeyError"),
        (lambda d: d.update(defended_accuracy=3), "malformed: TypeError"),
    ],
)
def test_other_json_is_refused(report, change, text):
    data = report.to_json()
    change(data)
    with pytest.raises(AuditError, match=text):
        AuditReport.from_json(data)


def test_contract_summary_is_small_and_dateless(report):
    summary = report.contract_summary()
    assert summary["kinds"]["reconstruction"] == {
        "attack": "strong",
        "score": "ssim",
        "boundary": 0.6,
        "floor": 0.55,
        "ceiling": 0.95,
        "leakage": 0.12,
        "leakage_interval": [0.1, 0.14],
        "at_least": False,
        "max_leakage": 0.17,
        "leakage_beyond_answer": None,
        "leakage_above_chance": None,
        "attacks": 2,
        "looks": {},
        "frames": {},
    }
    assert summary["kinds"]["Male"]["leakage"] is None
    assert summary["task_accuracy"] == {"defended": 0.91, "reference": None}
    assert json.dumps(summary, allow_nan=False) == json.dumps(replace(report, pictures=None).contract_summary())


class Page(HTMLParser):
    """Collects tags and checks that every one is closed."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.attributes = [], [], []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_saved_folder(report, tmp_path):
    folder = report.save(tmp_path / "deep" / "report")
    assert sorted(p.name for p in folder.iterdir()) == ["index.html", "report.json"]
    assert list(folder.parent.iterdir()) == [folder]
    assert AuditReport.load(folder).to_json() == report.to_json()
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    links = [value for name, value in page.attributes if name in ("src", "href")]
    assert len(links) == 4 * 5 + 1
    assert all(link.startswith("data:") for link in links)  # nothing to load from elsewhere
    assert "script" not in page.tags
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "&lt;tripped&gt;" in text
    assert "no room between them" in text
    assert text.index("leaks a small part") < text.index("<img")  # the verdict comes first


def test_pictures_can_be_left_out(report, tmp_path):
    text = (report.save(tmp_path / "report", pictures=False) / "index.html").read_text(encoding="utf-8")
    assert "image/png" not in text
    assert "left out of this page on request" in text
    assert "pictures" not in (tmp_path / "report" / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_are_png(report, tmp_path, channels):
    import base64

    import tensorflow as tf

    image = np.linspace(0, 1, 6 * 4 * channels).reshape(1, 6, 4, channels)
    shown = replace(report, pictures=PictureRows("strong", image, image, image, image))
    text = (shown.save(tmp_path / "report") / "index.html").read_text(encoding="utf-8")
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    assert len(found) == 4
    kept = image[0] if channels != 2 else image[0, ..., :1]
    np.testing.assert_array_equal(tf.io.decode_png(base64.b64decode(found[0])), np.round(kept * 255))


def test_nothing_is_replaced_unasked(report, tmp_path):
    folder = report.save(tmp_path / "report")
    with pytest.raises(AuditError, match="overwrite=True"):
        report.save(folder)
    replace(report, seeds=7).save(folder, overwrite=True)
    assert AuditReport.load(folder).seeds == 7
    assert list(tmp_path.iterdir()) == [folder]


def test_other_folders_are_never_replaced(report, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(AuditError, match="is no report"):
        report.save(tmp_path, overwrite=True)
    with pytest.raises(AuditError, match="is no report"):
        check_absent(tmp_path / "thesis.tex", overwrite=True)
    assert (tmp_path / "thesis.tex").exists()
    check_absent(tmp_path / "new")


def test_a_failed_save_leaves_nothing(report, tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        report.save(tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_missing_jinja2_is_named(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.warns(UserWarning, match=r"numbers are saved in report\.json.*pip install 'keras_privpart\[report\]'"):
        report.save(tmp_path / "report")
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["report.json"]


@pytest.mark.parametrize("place", ["render", "atomic.write_text"])
def test_a_failing_page_never_costs_the_numbers(report, tmp_path, monkeypatch, place):
    monkeypatch.setattr(f"keras_privpart.auditing.reporting.report_folder.{place}", lambda *_, **__: 1 / 0)
    with pytest.warns(UserWarning, match=r"index\.html was left out: division by zero"):
        report.save(tmp_path / "report")
    assert AuditReport.load(tmp_path / "report").to_json() == report.to_json()
    monkeypatch.undo()
    report.save(tmp_path / "report", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["index.html", "report.json"]


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_unreadable_reports(tmp_path, text):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(AuditError, match=r"Can't read|schema 'list'"):
        AuditReport.load(tmp_path)


@pytest.mark.parametrize(
    ("leakage", "words"),
    [
        (Leakage(0.04, 0.0, 0.1), "hardly more than the decision itself"),
        (Leakage(0.5, 0.45, 0.55), "leaks much of"),
        (Leakage(0.95, 0.9, 1.0), "nearly all"),
        (Leakage(0.4, 0.1, 0.8), "too few victims"),
        (Leakage(None, reason="no room"), "Leakage is undefined"),
    ],
)
def test_verdict_follows_leakage(report, leakage, words):
    changed = replace(report, results=(replace(report.strongest(), leakage=leakage),))
    assert words in changed.summary()


def test_an_audit_without_attacks_claims_nothing(report, tmp_path):
    empty = replace(report, results=(), pictures=None)
    assert "No attack was carried out" in empty.summary()
    assert empty.contract_summary()["kinds"] == {}
    assert "No attack was carried out" in (empty.save(tmp_path / "report") / "index.html").read_text(encoding="utf-8")


def test_a_report_of_schema_2_still_loads(report):
    """As it was written before decision, looks and effort were told apart."""
    old = json.loads(json.dumps(report.to_json()))
    old["schema"] = 2
    for name in ("decision", "looks", "repeats", "effort", "bits"):
        del old[name]
    for result in old["results"]:
        result["floors"] = {{"decision": "top-1"}.get(name, name): table for name, table in result["floors"].items()}
        result["floor_from"] = "top-1" if result["floor_from"] == "decision" else result["floor_from"]
        for name in ("looks", "beyond_answer", "above_chance", "floors_by", "chosen_by", "updates", "at_least", "curve"):
            del result[name]
    back = AuditReport.from_json(old)
    assert back.strongest() == report.strongest()
    assert back.looks == (1,)
    assert not back.low_effort
    assert "of schema 2: its leakage is beyond the stronger of the decision and the whole answer" in back.notes[-1]
    assert AuditReport.from_json(back.to_json()).to_json() == back.to_json()
