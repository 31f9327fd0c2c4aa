"""The client module in a real browser, against the local server: it answers as the Python client does, and fails closed as it does."""

import base64
import json
import re
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import keras_privpart.errors
from keras_privpart.exporting.web.web_files import MODULE
from keras_privpart.serving import Client, LocalServer

# Loads a client and answers what `use` makes of it, or the error's name and text.
CALL = """async ([options, x, use]) => {
  try {
    const client = await privpart.Client.load(options);
    const got = await eval_use(client, x);
    client.close();
    return got;
  } catch (error) { return { error: error.name, message: error.message }; }
}"""
# Playwright's own waiting evaluates text, which the page's policy forbids.
UNTIL = "async () => { while (!(CONDITION)) await new Promise((go) => setTimeout(go, 20)); }"
PREDICT = "await client.predict(x)"
ENCODE = "(await client.encode(x)).map((one) => Object.fromEntries(Object.entries(one).map(([name, values]) => [name, [...values]])))"


class Page:
    """A page that has imported the module, and what it asked for and complained of."""

    def __init__(self, context, address):
        self.requests, self.console = [], []
        self.page = context.new_page()
        self.page.on("request", lambda request: self.requests.append((request.method, request.url, request.post_data)))
        self.page.on("console", lambda message: self.console.append((message.type, message.text)))
        self.page.on("pageerror", lambda error: self.console.append(("error", str(error))))
        self.page.goto(address)
        self.page.evaluate(UNTIL.replace("CONDITION", "globalThis.privpart"))

    def call(self, options, x=None, use=PREDICT):
        x = x.ravel().tolist() if isinstance(x, np.ndarray) else x
        return self.page.evaluate(CALL.replace("eval_use(client, x)", f"(async () => ({use}))()"), [options, x, use])

    def sent(self):
        """Bodies of the requests that carry a boundary."""
        bodies = [json.loads(body) for method, _, body in self.requests if method == "POST"]
        return [body for body in bodies if body["signature_name"] != "pair"]

    def errors(self):
        return [text for kind, text in self.console if kind == "error"]


@pytest.fixture(scope="module")
def context(browser):
    with browser.new_context() as made:
        yield made


@pytest.fixture
def opened(context):
    pages = []

    def open_page(address):
        pages.append(Page(context, address))
        return pages[-1]

    yield open_page
    for page in pages:
        page.page.close()


@pytest.fixture(scope="module")
def served():
    """Serves a bundle by REST, for pages of other origins."""
    running = {}

    def serve(bundle, **options):
        asked = (bundle.path, *options.items())
        if asked not in running:
            running[asked] = LocalServer(bundle.path, rest_port=0, **{"cors": True, **options})
        return running[asked]

    yield serve
    for server in running.values():
        server.stop()


def url(server):
    return f"http://{server.rest_address}"


def arrays(answer):
    assert "error" not in answer, answer
    return {name: np.array(value["data"]).reshape(value["shape"]) for name, value in answer.items()}


@pytest.mark.parametrize("kind", ["plain", "int8"])
def test_it_answers_as_the_python_client_does(kind, exported, site, served, opened, images):
    bundle = exported(kind)
    server, (address, _) = served(bundle), site(bundle)
    page = opened(address)
    got = arrays(page.call({"server": url(server)}, images[:6]))
    with Client(bundle.path, server.address) as client:
        want, boundary = client.predict(images[:6]), client.encode(images[:6])["boundary"]
    assert np.max(np.abs(got["scores"] - want)) <= 1e-6
    encoded = np.array([one["boundary"] for one in page.call({"server": url(server)}, images[:6], ENCODE)]).reshape(boundary.shape)
    shift = 128 if kind == "int8" else 0
    assert np.max(np.abs(encoded - shift - boundary)) <= 1e-6
    assert page.errors() == []
    origins = {"/".join(asked.split("/")[:3]) for _, asked, _ in page.requests if not asked.startswith(("data:", "blob:"))}
    assert origins == {address.rstrip("/"), url(server)}
    # Nothing but the boundary went out: bytes of its size, four examples a request at most, by the version's number.
    sizes = [[len(one["b64"]) for one in body["inputs"]["boundary"]] for body in page.sent()]
    assert [len(batch) for batch in sizes] == [4, 2]
    assert {size for batch in sizes for size in batch} == {-(-bundle.contract.boundary.nbytes // 3) * 4}
    posts = [asked for method, asked, _ in page.requests if method == "POST"]
    assert all(asked == f"{url(server)}/v1/models/faces/versions/1:predict" for asked in posts)
    assert [json.loads(body)["signature_name"] for method, _, body in page.requests if method == "POST"] == [
        "pair",
        "serve_bytes",
        "serve_bytes",
    ]


def test_several_inputs_tensors_and_outputs(exported, site, served, opened):
    bundle = exported("wide")
    server, (address, _) = served(bundle), site(bundle)
    rng = np.random.default_rng(0)
    x = {"ids": rng.integers(0, 7, (5, 3)).astype("int32"), "image-1": rng.random((5, 6), dtype=np.float32)}
    with Client(bundle.path, server.address) as client:
        want = client.predict(x)
    named = {spec.name: x[spec.source].ravel().tolist() for spec in bundle.contract.inputs}
    got = arrays(opened(address).call({"server": url(server)}, named))
    assert set(got) == set(want) == {"species", "age"}
    for name, values in want.items():
        assert np.max(np.abs(got[name] - values)) <= 1e-6


def test_four_page_loads_draw_four_noises(exported, site, served, opened, images):
    bundle = exported("noisy")
    server, (address, _) = served(bundle), site(bundle)
    draws = [opened(address).call({"server": url(server)}, images[:1], ENCODE)[0]["boundary"] for _ in range(4)]
    with Client(exported("plain").path, "localhost:1") as client:
        clean = client.encode(images[:1])["boundary"].ravel()
    noises = [np.array(draw) - clean for draw in draws]
    assert len({noise.tobytes() for noise in noises}) == 4
    assert all(0.3 < noise.std() < 0.7 for noise in noises)
    assert all(abs(np.corrcoef(a, b)[0, 1]) < 0.4 for i, a in enumerate(noises) for b in noises[:i])


@pytest.mark.parametrize("kind", ["classic", "module"])
def test_it_works_in_a_worker_without_isolation(kind, exported, site, served, opened, images):
    bundle = exported("plain")
    server, (address, folder) = served(bundle), site(bundle)
    (folder / "worker.js").write_text(
        """onmessage = async ({ data: [options, x] }) => {
          const { Client } = await import("./web/privpart.js");
          const client = await Client.load(options);
          postMessage({ answer: await client.predict(x), isolated: self.crossOriginIsolated });
        };"""
    )
    page = opened(address)
    got = page.page.evaluate(
        """([options, x, type]) => new Promise((resolve, reject) => {
          const worker = new Worker("worker.js", { type });
          worker.onmessage = ({ data }) => resolve(data);
          worker.onerror = (error) => reject(new Error(error.message));
          worker.postMessage([options, x]);
        })""",
        [{"server": url(server)}, images[:1].ravel().tolist(), kind],
    )
    assert got["isolated"] is False
    with Client(bundle.path, server.address) as client:
        assert np.max(np.abs(arrays(got["answer"])["scores"] - client.predict(images[:1]))) <= 1e-6
    assert page.errors() == []


def test_a_changed_half_is_never_compiled(exported, site, served, opened, images):
    bundle = exported("plain")
    server, (address, folder) = served(bundle), site(bundle)
    half = folder / "web/model.tflite"
    raw = bytearray(half.read_bytes())
    raw[len(raw) // 2] ^= 1
    half.write_bytes(raw)
    page = opened(address)
    got = page.call({"server": url(server)}, images[:1])
    assert got["error"] == "IntegrityError"
    assert "model.tflite differs from what was exported" in got["message"]
    assert not [asked for _, asked, _ in page.requests if "runtime" in asked or url(server) in asked], "nothing was loaded, nobody asked"


def test_a_manifest_can_be_pinned(exported, site, served, opened, images):
    bundle = exported("plain")
    server, (address, folder) = served(bundle), site(bundle)
    pinned = bundle.contract.files["device/1/web/manifest.json"].sha256
    page = opened(address)
    assert "scores" in page.call({"server": url(server), "manifestSha256": pinned}, images[:1])
    file = folder / "web/manifest.json"
    file.write_text(file.read_text() + " ")
    assert page.call({"server": url(server), "manifestSha256": pinned}, images[:1])["error"] == "IntegrityError"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: m.update(schema=2), "ContractError"),
        (lambda m: m.pop("boundary"), "ContractError"),
        (lambda m: m.update(version=0), "ContractError"),
        (lambda m: m["inputs"][0].update(name="picture"), "IntegrityError"),
        (lambda m: m["boundary"][0].update(shape=[6, 6, 5]), "IntegrityError"),
        (lambda m: m.update(fingerprint="0" * 64), "PairMismatchError"),
    ],
)
def test_a_changed_manifest_sends_nothing(change, error, exported, site, served, opened, images):
    bundle = exported("plain")
    server, (address, folder) = served(bundle), site(bundle)
    file = folder / "web/manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    page = opened(address)
    assert page.call({"server": url(server)}, images[:1])["error"] == error
    assert page.sent() == []


def test_another_pair_gets_no_boundary(exported, site, served, opened, images):
    server, (address, _) = served(exported("other")), site(exported("plain"))
    page = opened(address)
    got = page.call({"server": url(server)}, images[:1])
    assert got["error"] == "PairMismatchError"
    assert "is not this device half's partner: its fingerprint is" in got["message"]
    assert page.sent() == []


def test_a_server_that_is_swapped_is_found_by_its_answer(exported, site, served, opened, images):
    """Its pair was asked for before; the answer is discarded, and nothing more is sent."""
    right, wrong = exported("plain"), exported("other")
    first, second, (address, _) = served(right), served(wrong), site(right)
    page = opened(address)
    swap = f"await client.predict(x), client.server = '{url(second)}', await client.predict(x)"
    got = page.call({"server": url(first)}, images[:1], swap)
    assert got["error"] == "PairMismatchError"
    assert "the answer was discarded" in got["message"]
    assert len(page.sent()) == 2
    retry = f"await client.predict(x), client.server = '{url(second)}', await client.predict(x).catch(() => client.predict(x))"
    assert page.call({"server": url(first)}, images[:1], retry)["error"] == "PairMismatchError"
    assert len(page.sent()) == 4, "after the first wrong answer it asked for the pair again, and sent no boundary"


def test_a_server_that_is_down(exported, site, served, opened, images):
    bundle = exported("plain")
    address, _ = site(bundle)
    with LocalServer(bundle.path, rest_port=0, cors=True) as server:
        pass
    got = opened(address).call({"server": url(server), "timeout": 300}, images[:1])
    assert got["error"] == "ServerUnavailableError"
    assert "Check the address, that the server is up" in got["message"]


def test_a_server_without_cors(exported, site, served, opened, images):
    bundle = exported("plain")
    server, (address, _) = served(bundle, cors=False), site(bundle)
    page = opened(address)
    got = page.call({"server": url(server), "timeout": 300}, images[:1])
    assert got["error"] == "ServerUnavailableError"
    assert "privpart-keras serve --cors" in got["message"]
    assert page.sent() == []


def test_a_server_with_another_version(exported, site, served, opened, images):
    bundle = exported("plain")
    server, (address, folder) = served(bundle), site(bundle)
    file = folder / "web/manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 3}))
    got = opened(address).call({"server": url(server)}, images[:1])
    assert got["error"] == "ServerNotFoundError"
    assert "The server has version 1, not 3. Export the bundle's version to the server first." in got["message"]


# One page for all: LiteRT.js is loaded once a page.
REFUSED = [
    ({}, [0.0] * 63, "ArgumentError", "image: 63; expected the same multiple of image: 64"),
    ({}, {"picture": [0.0] * 64}, "ArgumentError", "by the names picture; expected image"),
    ({}, [float("nan")] * 64, "ArgumentError", "that float32 cannot hold"),
    ({}, [], "ArgumentError", "image: 0"),
    ({"server": "localhost:8501x y"}, [0.0] * 64, "ServingError", "expected an address"),
    ({"token": "secret"}, [0.0] * 64, "ServingError", "expected an https address"),
    ({"timeout": 0}, [0.0] * 64, "ServingError", "expected milliseconds above 0"),
    ({"bundle": "nowhere/"}, [0.0] * 64, "BundleError", "HTTP 404"),
]


def test_what_cannot_be_meant_is_refused_and_nothing_is_sent(exported, site, served, opened):
    bundle = exported("plain")
    server, (address, _) = served(bundle), site(bundle)
    page = opened(address)
    for options, x, error, text in REFUSED:
        got = page.call({"server": url(server), **options}, x)
        assert (got["error"], text in got["message"]) == (error, True), got
    for boundary in ("{ boundary: new Float32Array(143) }", "{ boundary: new Uint8Array(144) }", "{ image: x }", "{}"):
        assert page.call({"server": url(server)}, [0.0] * 64, f"await client.score([{boundary}])")["error"] == "BoundaryMismatchError"
    closed = page.call({"server": url(server)}, [0.0] * 64, "(client.close(), await client.predict(x))")
    assert (closed["error"], "was closed" in closed["message"]) == ("ServingError", True)
    assert [asked for _, asked, _ in page.requests if url(server) in asked] == []


def test_tensors_are_deleted(exported, site, served, opened, images):
    bundle = exported("plain")
    server, (address, _) = served(bundle), site(bundle)
    count = """await (async () => {
      const { Tensor } = client.litert;
      const made = [], remove = Tensor.prototype.delete, run = client.model.run.bind(client.model);
      let deleted = 0;
      Tensor.prototype.delete = function () { deleted += 1; return remove.call(this); };
      client.model.run = async (inputs) => {
        const outputs = await run(inputs);
        made.push(...Object.values(inputs), ...Object.values(outputs));
        return outputs;
      };
      await client.encode(x);
      return { made: made.length, deleted, left: made.filter((tensor) => !tensor.deleted).length };
    })()"""
    assert opened(address).call({"server": url(server)}, images[:3], count) == {"made": 6, "deleted": 6, "left": 0}


def test_its_errors_are_the_python_clients():
    """By name, and by what they are derived from."""
    source = (MODULE / "privpart.ts").read_text()
    tree = dict(re.findall(r"export class (\w+Error) extends (\w+)", source))
    assert len(tree) >= 15
    for name, base in tree.items():
        of_python = getattr(keras_privpart.errors, name)
        assert of_python.__mro__[1].__name__ == ("Exception" if base == "Error" else base)
        assert f'readonly name: string = "{name}"' in source


# The examples of docs/browser.md.

DOCS = (Path(__file__).parents[3] / "docs/browser.md").read_text()


def documented(kind):
    return [text for name, text in re.findall(r"^```(\w*)\n(.*?)^```$", DOCS, re.S | re.M) if name == kind]


def test_the_page_of_the_docs(exported, site, served, context, images):
    bundle = exported("plain")
    server, (address, folder) = served(bundle), site(bundle)
    [page] = documented("html")
    (folder / "docs.html").write_text(page.replace("<title>", '<link rel="icon" href="data:,"><title>'))
    [script] = documented("js")
    assert script.count("http://localhost:8501") == script.count("28 * 28 * 1") == 1
    (folder / "page.js").write_text(script.replace("http://localhost:8501", url(server)).replace("28 * 28 * 1", "8 * 8 * 1"))
    opened = context.new_page()
    opened.goto(f"{address}docs.html")
    opened.evaluate(UNTIL.replace("CONDITION", "document.getElementById('answer').textContent"))
    shape, data = opened.inner_text("#answer").split(": ")
    opened.close()
    with Client(bundle.path, server.address) as client:
        want = client.predict(np.zeros((1, 8, 8, 1), np.float32))
    assert shape == "1,5"
    np.testing.assert_allclose([float(one) for one in data.split(",")], want[0], atol=1e-6)


def test_the_request_of_the_docs(exported, served, images):
    bundle = exported("plain")
    server = served(bundle)
    [command] = [text for text in documented("") if text.startswith("curl") and "serve_bytes" in text]
    path, body = re.search(r"localhost:8501(\S+) --data '(.+)'", command).groups()
    with Client(bundle.path, server.address) as client:
        boundary, want = client.encode(images[:1])["boundary"], client.predict(images[:1])
    sent = body.replace('"..."', f'"{base64.b64encode(boundary.tobytes()).decode()}"').encode()
    with urllib.request.urlopen(url(server) + path.replace("mnist", "faces"), sent, timeout=30) as answer:
        np.testing.assert_allclose(json.load(answer)["outputs"]["scores"], want, atol=1e-6)


def test_the_docs_name_every_option_of_the_client():
    source = (MODULE / "privpart.ts").read_text()
    options = re.findall(r"readonly (\w+)\??:", source.split("export interface ClientOptions {")[1].split("\n}")[0])
    assert {"server", "runtime", "token"} <= set(options)
    rows = re.findall(r"^\| (`[^|]+`) \|", DOCS.split("| option |")[1], re.M)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(options)
