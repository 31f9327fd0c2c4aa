"""What `mkdocs build` adds to docs/: the API reference, and the pages that lie elsewhere in the repository, with their links put right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras_privpart
from keras_privpart import serving

ROOT = Path(__file__).parents[1]
TOP = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "reporting.md"}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")
# Installed under other names than their folders have: `setup.py` says so.
FOLDERS = {"keras_privpart.serving": "serving"}


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages of the top folder, the result tables, what they link to, and the reference."""
    from mkdocs.structure.files import File

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    for source, page in TOP.items():
        add(page, (ROOT / source).read_text(encoding="utf-8"))
    for path in [*(ROOT / "benchmarks/results").rglob("*.md"), *(ROOT / "examples").glob("*.*")]:
        add(path.relative_to(ROOT).as_posix(), path.read_bytes())
    add("reference.md", reference())
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links as the site has its pages."""
    return linked(markdown, page.file.src_uri)


def linked(markdown: str, page: str) -> str:
    """Links between files of the repository as links between pages of the site, where docs/ is the top."""
    here = Path(page).parent if page not in TOP.values() else Path()

    def moved(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if target in TOP and page in TOP.values():
            return f"]({TOP[target]}{anchor})"
        if page in TOP.values():
            return f"]({target.removeprefix('docs/')}{anchor})"
        if here == Path() and target.startswith("../"):
            inside = target.removeprefix("../")
            return f"]({TOP.get(inside, inside)}{anchor})"
        return found[0]

    return LINK.sub(moved, markdown)


def reference() -> str:
    """The page of the public names: one heading each, and its docstring."""
    parts = ["# API reference", "", "Everything in `keras_privpart` (`import keras_privpart as kp`) and `keras_privpart.serving`."]
    for package in (keras_privpart, serving):
        parts += ["", f"## `{package.__name__}`"]
        for name in package.__all__:
            if name != "__version__":
                parts += ["", f"### `{name}` {{#{package.__name__}.{name}}}", "", f"::: {_home(package, name)}"]
    return "\n".join(parts) + "\n"


def _home(package: Any, name: str) -> str:
    """Where a public name is defined, by folders."""
    path = getattr(package, "_NAMESPACES", {}).get(name)
    root = FOLDERS.get(package.__name__, package.__name__)
    return f"{root}.{path}" if path else f"{root}.{package._HOME[name]}.{name}"
