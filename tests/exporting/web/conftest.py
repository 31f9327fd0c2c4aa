"""Bundles for browsers, LiteRT.js from npm, and a server of files that refuses whatever the page's policy does not need."""

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import keras
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart.errors import BundleError
from keras_privpart.exporting.web import litert_js

# All that a page needs. The addresses of servers are added.
POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' http://127.0.0.1:*; worker-src 'self'; img-src data:"
PAGE = '<!doctype html><title>page</title><link rel="icon" href="data:,"><body><script type="module" src="page.js"></script></body>'
SCRIPT = 'import * as privpart from "./web/privpart.js"; globalThis.privpart = privpart;'


def image_model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    x = keras.Input((8, 8, 1), name="image")
    h = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    return keras.Model(x, keras.layers.Dense(5, activation="softmax", name="scores")(keras.layers.Flatten()(h)))


def wide_model() -> keras.Model:
    """Two inputs, one of whole numbers; two boundary tensors; two named outputs."""
    keras.utils.set_random_seed(1)
    ids, image = keras.Input((3,), dtype="int32", name="ids"), keras.Input((6,), name="image-1")
    left = keras.layers.Embedding(7, 4, name="left")(ids)
    both = keras.layers.Concatenate()([keras.layers.Flatten()(left), keras.layers.Dense(5, name="right")(image)])
    return keras.Model([ids, image], {"species": keras.layers.Dense(3)(both), "age": keras.layers.Dense(1)(both)})


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((40, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="session")
def parts() -> kp.Partition:
    return kp.partition(image_model(), at="stem")


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="session")
def exported(parts, images, saved):
    """Makes bundles with a half for browsers and one for Python, each once."""

    @functools.cache
    def make(kind: str):
        made = {"noisy": parts.with_channel(kp.GaussianChannel(0.5)), "other": kp.partition(image_model(1), at="stem")}
        if kind == "wide":
            return kp.export(kp.partition(wide_model(), at=["left", "right"]), saved / kind, formats=["litert", "web"], max_batch_size=4)
        encoding = "int8" if kind == "int8" else "none"
        half = made.get(kind, parts)
        return kp.export(half, saved / kind, name="faces", formats=["litert", "web"], encoding=encoding, sample=images, max_batch_size=4)

    return make


@pytest.fixture(scope="session")
def runtime(request, tmp_path_factory):
    """LiteRT.js' .tgz, fetched once for all runs into pytest's cache."""
    if shutil.which("npm") is None:
        pytest.skip("found no npm to fetch LiteRT.js with; on Debian: apt-get install --yes npm")
    folder = request.config.cache.mkdir("litert_js")
    held = next(folder.glob(f"*core-{litert_js.VERSION}.tgz"), None)
    if held is None:
        try:
            fetched = litert_js.fetch(tmp_path_factory.mktemp("npm"))
        except BundleError as error:
            pytest.skip(str(error))
        held = fetched.replace(folder / fetched.name)  # whole or not at all
    return held


@pytest.fixture(scope="session")
def litert(runtime, tmp_path_factory):
    """LiteRT.js as `--with-runtime` puts it into a bundle."""
    folder = tmp_path_factory.mktemp("litert_js")
    for name, data in litert_js.runtime_files(runtime).items():
        (folder / name).write_bytes(data)
    return folder


class _Handler(SimpleHTTPRequestHandler):
    def end_headers(self):
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def site(litert, tmp_path):
    """Publishes a bundle's `web/`, with LiteRT.js, and a page that imports its module: returns the page's address and its folder."""
    running = []

    def publish(bundle):
        folder = tmp_path / f"site{len(running)}"
        shutil.copytree(bundle.path / bundle.contract.device_folder / "web", folder / "web")
        (folder / "web/runtime").symlink_to(litert)
        (folder / "index.html").write_text(PAGE)
        (folder / "page.js").write_text(SCRIPT)
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/", folder

    yield publish
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()
