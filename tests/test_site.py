"""The documentation site: every public name on its reference page, every page in its navigation, links that lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

import keras_privpart
from keras_privpart import serving

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site_pages.py")
PAGES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PAGES)


@pytest.mark.parametrize("package", [keras_privpart, serving])
def test_every_public_name_is_on_the_reference_page(package):
    page = PAGES.reference()
    for name in package.__all__:
        if name != "__version__":
            assert f"### `{name}` {{#{package.__name__}.{name}}}" in page
            assert (getattr(package, name).__doc__ or "").strip(), name


def test_what_the_reference_page_names_is_where_it_says():
    for home in re.findall(r"^::: (.+)$", PAGES.reference(), re.M):
        path = ROOT / home.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists() or path.parent.with_suffix(".py").exists() or path.parent.is_dir(), home


def test_the_navigation_begins_with_your_own_model_and_has_every_page():
    nav = re.findall(r"^  - .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert nav[0] == "index.md"
    assert (ROOT / "docs/index.md").read_text().startswith("# Protect your own model")
    assert set(nav) == {page.name for page in (ROOT / "docs").glob("*.md")} | {*PAGES.TOP.values(), "reference.md"}


def test_links_follow_the_pages_to_where_the_site_has_them():
    assert PAGES.linked("[a](docs/training.md#x) [b](CONTRIBUTING.md) [c](https://x.y/z) [d](#here)", "readme.md") == (
        "[a](training.md#x) [b](contributing.md) [c](https://x.y/z) [d](#here)"
    )
    assert PAGES.linked("[a](../benchmarks/results/encoding.md) [b](../README.md)", "serving.md") == (
        "[a](benchmarks/results/encoding.md) [b](readme.md)"
    )
    assert PAGES.linked("[a](attacks.md#bits)", "auditing.md") == "[a](attacks.md#bits)"
