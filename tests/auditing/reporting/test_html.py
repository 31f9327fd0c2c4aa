"""The page in a real browser, where there is one: every picture shown, nothing on the console, no scrolling sideways."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from keras_privpart.auditing.reporting.html import render
from keras_privpart.auditing.reporting.report import AttackResult, PictureRows
from keras_privpart.auditing.scoring.confusion import Reading
from keras_privpart.auditing.scoring.intervals import Leakage, Score
from keras_privpart.threat_model import ThreatModel

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
    "--dump-dom",
)

# Shows the page in frames of two widths, unfolds it, and writes down what is seen.
HARNESS = """<!doctype html><title>harness</title><body><pre id="seen"></pre><script>
const page = PAGE, seen = {};
for (const width of [400, 1600]) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px";
  frame.style.border = 0;
  frame.onload = () => {
    const root = frame.contentDocument.documentElement;
    root.querySelectorAll("details").forEach(d => d.open = true);
    const pictures = [...root.querySelectorAll("img")];
    seen[width] = {
      viewport: root.clientWidth, content: root.scrollWidth, pictures: pictures.length,
      missing: pictures.filter(p => !(p.complete && p.naturalWidth)).length,
      figures: [...root.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().height > 100).length,
      text: getComputedStyle(root.querySelector("body")).color,
    };
    document.getElementById("seen").textContent = JSON.stringify(seen);
  };
  frame.srcdoc = page;
  document.body.append(frame);
}
</script></body>"""


def score(value):
    return Score(value, value - 0.01, value + 0.01, (value, value))


@pytest.fixture(scope="module")
def report(report_of):
    """A report with all that a page can show, long names included."""
    tables = [{"ssim": score(v), "mse": score(0.02), "psnr": score(17.0), "identified": score(v)} for v in (0.6, 0.5, 0.9, 0.45)]
    guesses = [{"auc": score(v), "accuracy": score(v), "advantage": score(0.3)} for v in (0.7, 0.6, 0.95)]
    curve = Reading(((0.8, 0.2), (0.3, 0.7)), ((0.0, 0.0), (0.2, 0.6), (1.0, 1.0)))
    decoder = AttackResult(
        "decoder, large, mixed, with a name that goes on for rather longer than any of the real ones do",
        "reconstruction",
        "ssim",
        tables[0],
        {"answer": tables[1], "top-1": tables[3]},
        "answer",
        tables[2],
        Leakage(0.25, 0.2, 0.3),
        budget=1000,
        notes=("boundary: its reconstructions hardly differed (seed 0); a second one, trained more slowly, was better and counts",),
    )
    probe = AttackResult(
        "mlp probe, Male",
        "Male (disjoint people)",
        "auc",
        guesses[0],
        {"answer": guesses[1]},
        "answer",
        guesses[2],
        Leakage(None, reason="ceiling - floor is 0.001 with a 95 % interval of -0.01 to 0.01: no room between them"),
        readings={"boundary": curve, "floor": curve, "ceiling": curve},
    )
    images = np.random.default_rng(0).uniform(size=(4, 8, 8, 8, 3))
    return report_of(
        decoder,
        probe,
        boundary="boundary: float32[None, 4, 4, 16] from block_4_with_a_long_name/and_another_one/conv2d_transpose",
        notes=("The test set is small (400 examples).",),
        threat_model=ThreatModel(private=("Male",)),
        reproduce="privpart-keras audit runs/faces-with-a-long-name/and-a-folder --seeds 2 --group identity/Identity_No",
        pictures=PictureRows("decoder", *images),
    )


def look(page, folder, *options):
    """What a browser sees of a page at 400 and at 1600 pixels, and what it writes on the console."""
    if BROWSER is None:
        pytest.skip("found no chromium, chromium-browser or google-chrome; on Debian: apt-get update && apt-get install --yes chromium")
    text = json.dumps(page).replace("</", "<\\/")
    (folder / "harness.html").write_text(HARNESS.replace("PAGE", text, 1), encoding="utf-8")
    command = [BROWSER, *OPTIONS, *options, f"--user-data-dir={folder / 'profile'}", (folder / "harness.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S).group(1)))
    return {int(width): facts for width, facts in seen.items()}, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def seen(report, tmp_path_factory):
    return look(render(report), tmp_path_factory.mktemp("page"))


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_and_shows_every_picture(seen, width):
    facts = seen[0][width]
    assert facts["viewport"] == width
    assert facts["content"] <= width, "scrolls sideways"
    assert facts["pictures"] == 4 * 8
    assert facts["missing"] == 0
    assert facts["figures"] == 3  # two trade-offs and a ROC curve


def test_the_console_stays_empty(seen):
    assert seen[1] == []


def test_dark_is_another_colour(report, seen, tmp_path):
    dark, console = look(render(report), tmp_path, "--blink-settings=preferredColorScheme=0")
    assert console == []
    assert dark[1600]["text"] != seen[0][1600]["text"]


def test_a_broken_page_would_be_seen(report, tmp_path):
    broken = render(report).replace("<main>", '<main><img src="data:image/png;base64,AAAA"><div style="width: 2000px">x</div>', 1)
    facts, console = look(broken.replace("</main>", "</main><script>console.error('oh')</script>"), tmp_path)
    assert facts[1600]["missing"] == 1
    assert facts[400]["content"] > 400
    assert any("oh" in line for line in console)


def test_verdict_threat_model_and_command_are_there(report):
    text = render(report)
    order = [
        "The boundary leaks a small part",
        "What the attacker sees",
        "all attacks",
        "Privacy against utility",
        "ROC curve",
        "Threat model",
    ]
    order += ["What was not tested", "How to read this", "What was audited", "How to make it again"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "It cannot run the device half" not in text
    assert "It knows the weights of the device half (white box)." in text
    assert "--group identity/Identity_No" in text
    assert "from the answer" in text


def test_what_there_is_not_is_not_shown(report):
    bare = replace(report, results=report.results[:1], defended_accuracy=None, pictures=None, reproduce="")
    text = render(bare)
    for part in ("<svg", "<img", "How to make it again", "ROC curve"):
        assert part not in text


def test_the_page_begins_with_model_date_defence_and_a_verdict_in_plain_words(report_of):
    def found(kind, leakage):
        score = {name: {"ssim": Score(value, value, value, (value,))} for name, value in (("b", 0.6), ("f", 0.4), ("c", 0.9))}
        interval = (None, None) if leakage is None else (leakage, leakage)
        return AttackResult(
            "decoder", kind, "ssim", score["b"], {"decision": score["f"]}, "decision", score["c"], Leakage(leakage, *interval, "")
        )

    subject = {"model": "faces", "date": "2024-05-01", "defence": "cut at conv2; channel GaussianChannel(stddev=0.5)"}
    page = render(report_of(found("reconstruction", 0.4), found("Male", None), subject=subject))
    beginning = page.split("<body>")[1].split("</div>")[0]
    for words in (
        "Privacy audit of faces",
        "2024-05-01. Defence: cut at conv2; channel GaussianChannel(stddev=0.5).",
        "In short",
        "Of the input itself the strongest attackers learn much, beyond what the answer itself tells: 40 % of the way to no defence.",
        "leakage is undefined: even without a defence",
        "That does not mean that it is private",
        "costs 2.0 points of accuracy",
    ):
        assert words in beginning
    assert "Nothing was attacked" in render(report_of())
