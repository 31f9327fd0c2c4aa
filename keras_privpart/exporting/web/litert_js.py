"""LiteRT.js, from npm's `@litertjs/core`: the files that a browser needs of it, as plain ES modules."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from keras_privpart.errors import BundleError

PACKAGE = "@litertjs/core"
# What "npm" fetches; later versions can be given as a folder. The SHA-256 is of npm's .tgz.
VERSION = "2.5.3"
SHA256 = "a97660833e9e7e1063c95e12016718881240b14f7438728a2f62785e912d30fd"
FROM_NPM = "npm"
# One thread, with and without relaxed SIMD, which not every browser has. The threaded variant needs COOP and COEP, the fourth WebGPU.
VARIANTS = ("litert_wasm_internal", "litert_wasm_compat_internal")
_IMPORT = 'import { createWasmLib } from "@litertjs/wasm-utils";'
# In place of @litertjs/wasm-utils, which adds a <script> to the page, or calls importScripts, which workers that are modules lack.
_LOADER = """// Changed by keras_privpart: the loader is imported as a module, so that pages and workers of both kinds can use it,
// and what LiteRT says of its course is no error on the console.
var createWasmLib = async (Constructor, script) => {
  const url = new URL(script, globalThis.location.href);
  const { default: factory } = await import(url.href);
  const locateFile = (file) => new URL(file, url).href;
  const levels = { INFO: console.debug, VERBOSE: console.debug, WARNING: console.warn };
  const printErr = (text) => (levels[text.split(":")[0]] ?? console.error)(text);
  return new Constructor(await factory({ locateFile, printErr }));
};"""
_EXPORT = "\n// Added by keras_privpart.\nexport default ModuleFactory;\n"
_TIMEOUT = 300  # seconds, for 12 MB


def runtime_files(source: str | Path) -> dict[str, bytes]:
    """The files of LiteRT.js that go beside the module, by their names in `runtime/`; nothing else is read or run.

    Args:
        source: `"npm"` fetches version 2.5.3 by `npm pack`; else a `node_modules` folder, the package's own folder, or its .tgz.

    Raises:
        BundleError: the package is not there, or is one that this function does not know how to change.
    """
    if str(source) == FROM_NPM:
        with tempfile.TemporaryDirectory() as scratch:
            return _of_archive(fetch(Path(scratch)))
    path = Path(source)
    if path.is_file():
        return _of_archive(path)
    folder = next((found for found in (path, path / PACKAGE) if (found / "package.json").is_file()), None)
    if folder is not None:
        return _files(lambda name: (folder / name).read_bytes(), folder)
    raise BundleError(
        f"Found no {PACKAGE} in {path}; expected 'npm', a node_modules folder, the package's folder or its .tgz. "
        f"Get it with `npm install {PACKAGE}@{VERSION}`, and name the node_modules folder."
    )


def fetch(folder: Path) -> Path:
    """Fetches the package's .tgz by `npm pack` into a folder, and compares it with the SHA-256 that is known.

    Raises:
        BundleError: npm is missing or cannot fetch it, or it is another file.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise BundleError(
            f"Found no npm to fetch {PACKAGE} with. Install Node.js, or fetch https://registry.npmjs.org/{PACKAGE}/-/core-{VERSION}.tgz "
            "on another machine and name the file."
        )
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
        archive = folder / done.stdout.split()[-1]
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise BundleError(
            f"npm could not fetch {PACKAGE}@{VERSION}: {said[-1] if said else error}. Fetch it elsewhere and name the .tgz."
        ) from error
    if digest != SHA256:
        raise BundleError(f"npm fetched another {PACKAGE}@{VERSION} (SHA-256 {digest}); expected {SHA256}. Do not use it.")
    return archive


def _of_archive(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path) as archive:
            held = {name: archive.extractfile(name) for name in archive.getnames() if name.endswith((".js", ".json", ".wasm", ".md"))}
            contents = {name.removeprefix("package/"): stream.read() for name, stream in held.items() if stream is not None}
    except (OSError, tarfile.TarError) as error:
        raise BundleError(f"Can't read {path}: {error}. Expected the .tgz of `npm pack {PACKAGE}`.") from error
    return _files(contents.__getitem__, path)


def _files(read: Callable[[str], bytes], source: Path) -> dict[str, bytes]:
    try:
        described: Mapping[str, object] = json.loads(read("package.json"))
        index, wasm = read("dist/index.js").decode(), {f"{name}.wasm": read(f"wasm/{name}.wasm") for name in VARIANTS}
        loaders = {f"{name}.js": read(f"wasm/{name}.js") for name in VARIANTS}
    except (OSError, KeyError, ValueError) as error:
        raise BundleError(
            f"{source} is no {PACKAGE}: {error!r}. Expected dist/index.js and wasm/ of version {VERSION} or like it."
        ) from error
    if (
        described.get("name") != PACKAGE
        or index.count(_IMPORT) != 1
        or not all(b"var ModuleFactory =" in text for text in loaders.values())
    ):
        found = f"{described.get('name')} {described.get('version')}"
        raise BundleError(f"{source} holds {found}, which is not built as {PACKAGE} {VERSION} is. Use that one.")
    index = index.replace(_IMPORT, _LOADER).replace("//# sourceMappingURL=index.js.map", "")
    changed = {name: text + _EXPORT.encode() for name, text in loaders.items()}
    return {"package.json": read("package.json"), "index.js": index.encode(), **changed, **wasm}
