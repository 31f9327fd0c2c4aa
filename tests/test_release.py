"""What a release is made of: one version everywhere, extras that add up, files that a finder looks for."""

import re
from importlib import metadata
from pathlib import Path

import keras_privpart

ROOT = Path(__file__).parents[1]


def _read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere():
    version = keras_privpart.__version__
    assert re.search(rf"^version: {re.escape(version)}$", _read("CITATION.cff"), re.M)
    assert re.search(
        rf"^## .*\b{re.escape(version)}\b.*\(tag `v{re.escape(version)}`\)|^## \[{re.escape(version)}\]", _read("CHANGELOG.md"), re.M
    )


def test_the_extra_all_holds_every_extra_but_those_of_developers():
    requirements = {re.sub(r"[ \"']", "", line) for line in metadata.requires("keras_privpart") or []}
    extras = {}
    for line in requirements:
        requirement, found, extra = line.partition(";extra==")
        if found:
            extras.setdefault(extra, set()).add(requirement)
    assert extras["all"] == set().union(*(names for extra, names in extras.items() if extra not in ("all", "dev", "docs")))
    assert {"certs", "litert", "metrics", "optimize", "report", "sweep", "docs"} <= set(extras)
    assert extras["docs"] <= extras["dev"]


def test_a_finder_sees_what_it_is():
    found = metadata.metadata("keras_privpart")
    assert (found.get("License-Expression") or found.get("License")) == "Apache-2.0"
    assert "Typing :: Typed" in found.get_all("Classifier")
    assert "SECURITY.md" in _read("README.md")
    assert "docs/threat-model.md" in _read("SECURITY.md")
