"""The project's shape: import direction, public names, what a bare import costs, and commands that the README names."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_privpart

ROOT = Path(__file__).parents[1]

# Lower number, lower rank: a module imports only from its own rank's package or from lower ranks.
RANKS = {
    "errors": 0,
    "boundary": 1,
    "graph_safety": 1,
    "integrity": 1,
    "strict_json": 1,
    "threat_model": 1,
    "contract": 1,
    "datasets": 2,
    "channels": 3,
    "partitioning": 3,
    "training": 4,
    "auditing": 5,
    "exporting": 6,
    "serving": 7,
    "cli": 8,
}


def _sources():
    for top in ("keras_privpart", "serving", "cli"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = parts[1:] if top == "keras_privpart" else parts
            if module != ("__init__",):
                yield path, module[0]


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name == "keras_privpart":
                continue
            if name.startswith("keras_privpart."):
                yield name.split(".")[1]
            elif name.split(".")[0] in ("serving", "cli", "tests"):
                yield f"top-level {name}"


@pytest.mark.parametrize(("path", "part"), [pytest.param(p, m, id=str(p.relative_to(ROOT))) for p, m in _sources()])
def test_imports_go_down_only(path, part):
    for imported in _imported(path):
        assert imported in RANKS, f"{path} imports {imported}"
        assert RANKS[imported] <= RANKS[part], f"{path} ({part}) imports {imported}, which ranks above it"
        if part == "serving":
            assert imported in ("errors", "boundary", "contract", "serving"), f"{path} may use only errors and contract of the core"


def test_public_names_are_sorted_complete_and_load():
    names = keras_privpart.__all__
    assert names == sorted(names)
    assert set(names) == {*keras_privpart._HOME, *keras_privpart._NAMESPACES, "__version__"}
    for name in names:
        assert getattr(keras_privpart, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Partiton'"):
        keras_privpart.Partiton  # noqa: B018 - the access is the test


def test_every_public_class_and_function_of_the_core_names_its_purpose():
    for name in keras_privpart.__all__:
        if name != "__version__":
            assert (getattr(keras_privpart, name).__doc__ or "").strip(), name


@pytest.mark.parametrize("code", ["import keras_privpart", "import keras_privpart.serving", "from keras_privpart.serving import Client"])
def test_a_bare_import_loads_no_tensorflow(code):
    check = f"{code}; import sys; bad = {{'tensorflow', 'keras', 'tensorflow_serving'}} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", check], check=True, cwd="/")


def test_help_loads_no_tensorflow():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "keras_privpart.cli", "--help"], check=True, capture_output=True, text=True, cwd="/"
    )
    assert "privpart-keras" in done.stdout
    assert not re.search(r"\|\s+(tensorflow|keras)\b", done.stderr)


def test_the_commands_that_the_readme_names_exist():
    from keras_privpart.cli.main import main

    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^(?:\$ )?privpart-keras (\w+)", readme, re.M))
    assert named == set(main.commands), "the README shows every command, and only real ones"
    targets = set(re.findall(r"^make ([\w-]+)", readme, re.M))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target


def test_only_the_package_is_installed():
    installed = [d for d in importlib.metadata.distributions(name="keras_privpart") if d.read_text("RECORD")]
    files = [file for distribution in installed for file in distribution.files]
    assert files
    tops = {file.parts[0] for file in files if not file.parts[0].startswith(("__editable__", "__pycache__", ".."))}
    assert tops <= {"keras_privpart", f"keras_privpart-{keras_privpart.__version__}.dist-info"}, tops
