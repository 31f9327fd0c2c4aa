"""The project's shape: folders and the imports between them, public names, what a bare import costs, and commands that the README names."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import keras_privpart

ROOT = Path(__file__).parents[1]

# Lower number, lower rank: a module imports only from its own rank's package or from lower ranks.
RANKS = {
    "arguments": 0,
    "atomic": 0,
    "errors": 0,
    "quiet": 0,
    "named_function": 0,
    "readable": 0,
    "version": 0,
    "boundary": 1,
    "glob_free": 1,
    "graph_safety": 1,
    "integrity": 1,
    "several_inputs": 1,
    "strict_json": 1,
    "threat_model": 1,
    "contract": 1,
    "datasets": 2,
    "channels": 3,
    "partitioning": 3,
    "value_range": 3,
    "training": 4,
    "auditing": 5,
    "protecting": 6,
    "exporting": 7,
    "serving": 8,
    "cli": 9,
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
                if isinstance(node, ast.ImportFrom):  # `from keras_privpart import atomic` imports a module, other names are public ones
                    yield from (alias.name for alias in node.names if alias.name in RANKS)
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
            allowed = ("arguments", "atomic", "errors", "boundary", "contract", "quiet", "readable", "serving")
            assert imported in allowed, f"{path} may use only {', '.join(allowed)}"


def _modules():
    """Every module of the package by its name, with its file."""
    found = {}
    for top in ("keras_privpart", "serving", "cli"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if top == "keras_privpart" else ("keras_privpart", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _folder(module):
    """Where a module lies. The files right in keras_privpart/ are the ground that all others stand on: each counts by itself."""
    path = MODULES[module].relative_to(ROOT)
    return str(path) if path.parent.name == "keras_privpart" else str(path.parent)


def _modules_imported(module):
    """What a module imports of the package, anywhere in its code but for type hints alone."""
    path = MODULES[module]
    tree = ast.parse(path.read_text())
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    hints = {node for block in blocks for node in ast.walk(block)}
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in hints:
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        elif isinstance(node, ast.Import) and node not in hints:
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in MODULES)


def _folders_imported():
    """Every folder with the folders that it imports from, each with an import to show."""
    found = {}
    for module in MODULES:
        for name in _modules_imported(module):
            if _folder(name) != _folder(module) and name != "keras_privpart":
                found.setdefault(_folder(module), {})[_folder(name)] = f"{module} imports {name}"
    return found


def test_no_folders_import_each_other_in_a_circle():
    imported = _folders_imported()
    assert {"cli/commands", "keras_privpart/auditing", "serving/client"} <= set(imported)
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        pytest.fail("; ".join(imported[one][other] for one, other in pairwise(circle)))


def test_a_folder_imports_from_those_inside_it_and_never_the_other_way_round():
    """But for cli/, whose own modules are what its commands share: it imports no command."""
    wrong = [why for one, others in _folders_imported().items() for other, why in others.items() if one.startswith(f"{other}/")]
    assert [why for why in wrong if not why.startswith("keras_privpart.cli.commands.")] == []
    assert "cli/commands" not in _folders_imported()["cli"]


def test_a_folder_is_small_enough_to_know():
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in MODULES.values() if path.name != "__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > 16} == {}


def test_no_two_modules_have_one_name():
    """But for a command, which is called like the function that it calls."""
    names = Counter(path.name for path in MODULES.values() if path.name != "__init__.py" and path.relative_to(ROOT).parts[0] != "cli")
    assert {name for name, times in names.items() if times > 1} == set()


def test_public_names_are_sorted_complete_and_load():
    names = keras_privpart.__all__
    assert names == sorted(names)
    assert set(names) == {*keras_privpart._HOME, *keras_privpart._NAMESPACES, "__version__"}
    for name in names:
        assert getattr(keras_privpart, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Partiton'"):
        keras_privpart.Partiton  # noqa: B018 - the access is the test


@pytest.mark.parametrize(("old", "new"), [("check", "check_cut"), ("compare", "compare_reports")])
def test_an_old_name_works_and_names_the_new_one(old, new):
    with pytest.warns(DeprecationWarning, match=f"keras_privpart.{old} is now keras_privpart.{new}") as caught:
        assert getattr(keras_privpart, old) is getattr(keras_privpart, new)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("package", ["keras_privpart", "keras_privpart.serving"])
def test_dir_shows_public_names_only(package):
    module = importlib.import_module(package)
    assert dir(module) == module.__all__ == sorted(module.__all__)


def test_namespaces_hold_their_families():
    members = {
        "attacks": "DecoderAttack",
        "channels": "GaussianChannel",
        "datasets": "Samples",
        "goals": "PullToMean",
        "recipes": "bits",
        "regularizers": "DistanceCorrelation",
        "schedules": "CosineWeight",
    }
    assert set(members) == set(keras_privpart._NAMESPACES)
    for name, member in members.items():
        assert hasattr(getattr(keras_privpart, name), member), name
        assert name in dir(keras_privpart)


def test_every_public_class_and_function_of_the_core_names_its_purpose():
    for name in keras_privpart.__all__:
        if name != "__version__":
            assert (getattr(keras_privpart, name).__doc__ or "").strip(), name


@pytest.mark.parametrize(
    "code",
    [
        "import keras_privpart as kp; dir(kp); kp.datasets; kp.PrivPartError; kp.Contract; kp.ThreatModel",
        "import keras_privpart.serving as s; dir(s)",
        "from keras_privpart.serving import Client",
    ],
)
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
