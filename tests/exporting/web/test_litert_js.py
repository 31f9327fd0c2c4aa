"""LiteRT.js beside the module: what is taken of npm's package, and what is refused."""

import json
import shutil
import tarfile

import pytest

import keras_privpart as kp
from keras_privpart.errors import BundleError
from keras_privpart.exporting.web import litert_js

IMPORT = 'import { createWasmLib } from "@litertjs/wasm-utils";'


@pytest.fixture
def package(tmp_path):
    """A package built as the real one is, but small."""
    folder = tmp_path / "node_modules/@litertjs/core"
    (folder / "dist").mkdir(parents=True)
    (folder / "wasm").mkdir()
    (folder / "package.json").write_text(json.dumps({"name": "@litertjs/core", "version": "2.5.3"}))
    (folder / "dist/index.js").write_text(f"// core\n{IMPORT}\nexport {{ loadLiteRt }};\n")
    for variant in ("internal", "compat_internal", "threaded_internal"):
        (folder / f"wasm/litert_wasm_{variant}.js").write_text("var ModuleFactory = () => {};\n")
        (folder / f"wasm/litert_wasm_{variant}.wasm").write_bytes(b"\0asm")
    return folder


def test_a_node_modules_folder_the_package_and_its_archive_are_the_same(package, tmp_path):
    with tarfile.open(tmp_path / "core.tgz", "w:gz") as archive:
        archive.add(package, "package")
    found = litert_js.runtime_files(package)
    assert found == litert_js.runtime_files(tmp_path / "node_modules") == litert_js.runtime_files(str(tmp_path / "core.tgz"))
    assert set(found) == {
        "package.json",
        "index.js",
        *(f"litert_wasm_{variant}.{end}" for variant in ("internal", "compat_internal") for end in ("js", "wasm")),
    }
    assert b"@litertjs/wasm-utils" not in found["index.js"]
    assert b"Changed by keras_privpart" in found["index.js"]
    assert b"export default ModuleFactory;" in found["litert_wasm_internal.js"]


def test_it_lands_beside_the_module_and_belongs_to_the_pair(package, parts, tmp_path):
    bundle = kp.export(parts, tmp_path / "b", formats=["web"], web_runtime=package)
    files = {path for path in bundle.contract.files if "/runtime/" in path}
    assert files == {f"device/1/web/runtime/{name}" for name in litert_js.runtime_files(package)}
    bundle.contract.verify_files(bundle.path)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda p: (p / "package.json").write_text('{"name": "@litertjs/model-tester", "version": "1"}'), "holds @litertjs/model-tester 1"),
        (lambda p: (p / "dist/index.js").write_text("export {};"), "which is not built as @litertjs/core 2.5.3 is"),
        (lambda p: (p / "wasm/litert_wasm_internal.wasm").unlink(), "is no @litertjs/core"),
        (lambda p: (p / "package.json").write_text("{"), "is no @litertjs/core"),
        (lambda p: shutil.rmtree(p), "Found no @litertjs/core in .*npm install @litertjs/core@2.5.3"),
    ],
)
def test_another_package_is_refused(spoil, text, package, tmp_path):
    spoil(package)
    with pytest.raises(BundleError, match=text):
        litert_js.runtime_files(tmp_path / "node_modules")


def test_no_archive(tmp_path):
    (tmp_path / "core.tgz").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"Can't read .*core\.tgz"):
        litert_js.runtime_files(tmp_path / "core.tgz")


def test_without_npm_it_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        BundleError, match=r"Found no npm to fetch @litertjs/core with\. Install Node.js, or fetch https://registry.npmjs.org"
    ):
        litert_js.runtime_files("npm")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo nonsense > core.tgz; echo core.tgz", "npm fetched another @litertjs/core@2.5.3"),
        ("echo no such host >&2; exit 1", "npm could not fetch @litertjs/core@2.5.3: no such host"),
        ("exit 0", "npm could not fetch"),
    ],
)
def test_what_npm_fetches_is_compared(script, text, tmp_path, monkeypatch):
    (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleError, match=text):
        litert_js.runtime_files("npm")


def test_the_real_one(runtime):
    files = litert_js.runtime_files(runtime)
    assert 8e6 < len(files["litert_wasm_internal.wasm"]) < 12e6
