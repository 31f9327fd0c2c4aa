"""docs/architecture.md: every file by name, and all use of what is private in Keras and TensorFlow; paths in all documents."""

import ast
import importlib.util
import pkgutil
import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[1]
# What a server loads that does not install beside TensorFlow.
IN_ANOTHER_ENVIRONMENT = {"keras_privpart.serving.open_inference.mlserver_runtime.OnnxModel"}
PAGE = (ROOT / "docs/architecture.md").read_text()
PATHS = [path for top in ("keras_privpart", "serving", "cli") for path in (ROOT / top).rglob("*.py")]
FILES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in PATHS}
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PRIVATE = re.compile(r"_[a-z]\w*|keras\.src.*|tensorflow\.python.*")
KERAS_BASES = (keras.Model, keras.Layer, keras.losses.Loss, keras.optimizers.Optimizer, keras.callbacks.Callback, keras.metrics.Metric)
OVERRIDABLE = {name for base in KERAS_BASES for name in dir(base) if PRIVATE.fullmatch(name)}


def _section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_file_is_named_where_it_lies():
    listed = {
        Path(folder, name)
        for folder, rows in re.findall(r"^### `(.+?)/`\n(.*?)(?=^### |\Z)", _section("Every file"), re.M | re.S)
        for name in re.findall(r"^\| `(.+?)` \|", rows, re.M)
    }
    assert listed == {path for path in FILES if path.name != "__init__.py"}


def _own_names():
    """Private attributes that the package itself gives to its classes and objects."""
    for tree in FILES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield part.name
                    targets = part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AnnAssign) else []
                    yield from (target.id for target in targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) in ("self", "made"):
                yield node.attr


def _private_use(tree, own):
    """Names that may be somebody else's private ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("keras.src", "tensorflow.python")):
            yield node.module
        elif isinstance(node, ast.Attribute) and node.attr not in own and ast.unparse(node.value) != "os":
            yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            yield from (part.value for part in node.args[1:2] if isinstance(part, ast.Constant))
        elif isinstance(node, ast.ClassDef):
            yield from (part.name for part in node.body if isinstance(part, ast.FunctionDef) and part.name in OVERRIDABLE)


def test_all_use_of_private_members_is_told():
    own, used = set(_own_names()), {}
    for path, tree in FILES.items():
        if found := {name for name in _private_use(tree, own) if PRIVATE.fullmatch(name)}:
            used[str(path)] = found
    rows = re.findall(r"^\| `(.+?\.py)` \| (.+) \|$", _section("Private members of Keras and TensorFlow"), re.M)
    assert {path: set(re.findall(r"`(.+?)`", names)) for path, names in rows} == used


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_files_that_are_there(document):
    named = set(re.findall(r"`([\w/.-]+\.(?:py|yaml))`", document.read_text()))
    folders = ("keras_privpart", "serving", "cli", "tests", "benchmarks", "examples")
    there = [path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.*")]
    assert {name for name in named if not any(f"/{one}".endswith(f"/{name}") for one in ["setup.py", *there])} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_modules_that_are_there(document):
    for name in set(re.findall(r"\bkeras_privpart(?:\.\w+)+", document.read_text())) - IN_ANOTHER_ENVIRONMENT:
        assert pkgutil.resolve_name(name) is not None


def test_what_runs_in_another_environment_is_there():
    for name in IN_ANOTHER_ENVIRONMENT:
        module, _, owner = name.rpartition(".")
        assert f"class {owner}(" in Path(importlib.util.find_spec(module).origin).read_text()
