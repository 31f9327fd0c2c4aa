"""What all tests share: TensorFlow quiet and small, and a report to fill."""

import os
import shutil

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser():
    """A headless browser, driven by Playwright. For one file at a time: it has an event loop of its own, which would be in others' way."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="found no playwright: pip install playwright")
    if BROWSER is None:
        pytest.skip("found no chromium, chromium-browser or google-chrome; on Debian: apt-get update && apt-get install --yes chromium")
    arguments = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=arguments, chromium_sandbox=False)
        yield running
        running.close()


@pytest.fixture(scope="session")
def report_of():
    """Makes the report of an audit with these results; all else is as in any report, unless it is named."""
    from keras_privpart.auditing.reporting.report import AuditReport
    from keras_privpart.auditing.scoring.intervals import Score

    def make(*results, **changes):
        usual = {
            "defended_accuracy": Score(0.91, 0.90, 0.92, (0.91, 0.91)),
            "reference_accuracy": Score(0.93, 0.92, 0.94, (0.93, 0.93)),
            "seeds": 2,
            "known": 850,
            "held_out": 150,
            "victims": 400,
            "boundary": "boundary: float32[None, 4, 4, 16] from cut",
            "boundary_bytes": 1024,
            "input_bytes": 3072,
            "reference": "an undefended partition given by the caller",
            "settings": {"epochs": 8, "batch_size": 64, "seed": 0},
            "versions": {"python": "3.11.7"},
            "not_tested": ("generative priors",),
        }
        return AuditReport(results=results, **{**usual, **changes})

    return make
