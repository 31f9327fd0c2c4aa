"""The playground: what it computes, whom it answers, and its page in a browser."""

import json
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart.cli.playground import decoders
from keras_privpart.cli.playground.demonstration import NO_AUDIT, Attacker, Demonstration, maps, scores, verdict
from keras_privpart.cli.playground.page_server import PageServer
from keras_privpart.datasets import Dataset, Samples
from keras_privpart.errors import AuditError, DataError
from keras_privpart.serving import Client, LocalServer


def model():
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1), name="image")
    z = keras.layers.Conv2D(3, 3, strides=2, padding="same", name="z")(x)
    return keras.Model(x, keras.layers.Dense(4, name="scores")(keras.layers.Flatten()(z)))


@pytest.fixture(scope="module")
def undefended():
    return kp.partition(model(), at="z")


@pytest.fixture(scope="module")
def defended(undefended):
    return undefended.with_channel(kp.GaussianChannel(0.5))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = np.repeat(np.repeat(rng.random((120, 4, 4, 1), dtype=np.float32), 2, 1), 2, 2)
    y = {"task": rng.integers(0, 4, 120)}
    return Dataset("drawn", Samples(x[:100], {"task": y["task"][:100]}), Samples(x[100:], {"task": y["task"][100:]}), {"task": 4})


@pytest.fixture(scope="module")
def bundle(defended, data, tmp_path_factory):
    return kp.export(defended, tmp_path_factory.mktemp("saved") / "digits", encoding="int8", formats=["litert"], sample=data.train.x)


@pytest.fixture(scope="module")
def trained(defended, undefended, data, tmp_path_factory):
    folder, told = tmp_path_factory.mktemp("run") / "playground", []
    decoders.train({"defended": defended, "undefended": undefended}, data, None, None, 2, folder, told.append)
    assert told == [f"Training decoder, medium, mixed on the {side} boundary ..." for side in ("defended", "undefended")]
    return folder


@pytest.fixture(scope="module")
def shown(bundle, trained, undefended):
    record, networks = decoders.read(trained)
    about = {"name": record.attack, "why": record.why, "epochs": record.epochs, "ssim": record.ssim, "victims": record.victims}
    attacker = Attacker(undefended.device, networks["defended"], networks["undefended"], about)
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address) as client:
        yield Demonstration(client, "local server", (0.0, 1.0), attacker, "")


@pytest.fixture(scope="module")
def page(shown):
    with PageServer(shown) as running:
        yield running


def picture(seed=0):
    return np.random.default_rng(seed).random(64).round(3).tolist()


# What it computes.


def test_it_shows_what_the_model_the_boundary_and_the_attacker_say(shown, bundle, defended, undefended, trained):
    x = np.array(picture(), "float32").reshape(1, 8, 8, 1)
    seen = shown.show(picture())
    [tensor] = seen["boundary"]
    assert (tensor["name"], tensor["shape"]) == ("boundary", [4, 4, 3])
    clean = undefended.device(x, training=False).numpy()[0]
    values = np.moveaxis(np.array(tensor["maps"]), 0, -1)
    assert values.shape == clean.shape
    assert 0.2 < np.std(values - clean) < 0.8, "the channel's noise, of 0.5, is on it"
    _, networks = decoders.read(trained)
    want = networks["undefended"](undefended.device(x, training=False), training=False).numpy()
    np.testing.assert_allclose(np.array(seen["attacker"]["undefended"]), want.ravel(), atol=1e-3)
    np.testing.assert_allclose(
        np.array(seen["attacker"]["defended"]),
        networks["defended"](values[None].astype("float32"), training=False).numpy().ravel(),
        atol=1e-2,
    )
    [answer] = seen["answers"]
    assert (answer["name"], answer["softmax"], len(answer["shares"])) == ("scores", True, 4)
    assert sum(answer["shares"]) == pytest.approx(1, abs=1e-3)
    assert seen["device_ms"] > 0
    assert seen["server_ms"] > 0
    assert shown.show(picture())["boundary"] != seen["boundary"], "every look draws fresh noise"


def test_the_facts(shown, bundle):
    facts = shown.facts()
    assert facts["boundary_bytes"] == 48
    assert facts["picture_bytes"] == 64
    assert facts["pair"] == bundle.contract.fingerprint[:12]
    assert facts["channel"] == ["GaussianChannel"]
    assert facts["verdict"] == [NO_AUDIT]
    assert facts["attacker"]["name"] == "decoder, medium, mixed"
    assert set(facts["attacker"]["ssim"]) == {"defended", "undefended"}


def test_the_verdict_is_the_audits(bundle):
    class Audited:
        audit = {  # noqa: RUF012 - stands for a contract
            "kinds": {
                "reconstruction": {
                    "attack": "decoder",
                    "leakage": 0.114,
                    "at_least": False,
                    "looks": {"16": {"leakage": 0.38, "at_least": True}},
                },
                "Male": {"attack": "probe", "leakage": None},
            },
            "task_accuracy": {"defended": 0.97, "reference": 0.981},
        }

    first, second = verdict(Audited)
    assert first.startswith("Leakage of reconstruction: 0.11 after one look, at least 0.38 after 16 looks")
    assert second == "The task's accuracy is 0.970; without defence 0.981."


@pytest.mark.parametrize("wrong", [[0.0] * 63, [2.0] * 64, [-0.1] * 64, [float("nan")] * 64, ["a"] * 64, None, {}])
def test_what_is_no_picture_is_refused(shown, wrong):
    with pytest.raises(DataError, match="Received"):
        shown.show(wrong)


def test_vectors_become_nearly_square_maps():
    [found] = maps(np.arange(7, dtype="float32"))
    assert np.shape(found) == (3, 3)
    assert np.ravel(found).tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 0]


def test_shares_stay_as_they_are():
    assert scores("p", np.array([0.25, 0.75])) == {"name": "p", "shares": [0.25, 0.75], "softmax": False}
    assert scores("z", np.array([0.0, 0.0]))["softmax"] is True


def test_models_of_something_else_are_refused(tmp_path):
    x = keras.Input((6,), name="numbers")
    parts = kp.partition(keras.Model(x, keras.layers.Dense(2)(keras.layers.Dense(3, name="z")(x))), at="z")
    bundle = kp.export(parts, tmp_path / "b", formats=["litert"])
    with (
        Client(bundle.path, "localhost:1") as client,
        pytest.raises(DataError, match=r"takes numbers \[None, 6\]; the page"),
    ):
        Demonstration(client, "", (0.0, 1.0), None, "")


# The attacker.


def test_decoders_are_kept_whole_or_not_at_all(trained, tmp_path):
    assert decoders.read(tmp_path) is None
    (tmp_path / decoders.RECORD).write_text('{"schema": 2}')
    with pytest.raises(AuditError, match="another version"):
        decoders.read(tmp_path)
    (tmp_path / decoders.RECORD).write_text((trained / decoders.RECORD).read_text())
    with pytest.raises(AuditError, match="is damaged"):
        decoders.read(tmp_path)


def test_a_standalone_decoder_says_what_the_attack_says(undefended, data):
    from keras_privpart.auditing.attacks.base.learner import Effort
    from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
    from keras_privpart.auditing.knowledge.views import boundary_view

    attack, view = DecoderAttack("small"), boundary_view(undefended)
    attack.fit(view, data.train[:80], data.train[80:], Effort(2, 32), 0)
    seen = view.see(data.test.x)
    np.testing.assert_allclose(attack.standalone()(seen[0], training=False).numpy(), attack.reconstruct(seen), atol=1e-5)


# Whom it answers.


def ask(page, path="show", body=None, **headers):
    raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(page.address + path, raw, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_it_answers_the_page(page):
    status, found = ask(page, body={"picture": picture()})
    assert status == 200
    assert set(found) == {"device_ms", "server_ms", "boundary", "attacker", "answers"}
    assert ask(page, "facts")[1]["name"] == "digits"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("show", b"{", {}, 400),
        ("show", {"image": []}, {}, 400),
        ("show", {"picture": [1]}, {}, 409),
        ("show", {"picture": []}, {"Content-Type": "text/plain"}, 400),  # what a form of another site can send
        ("other", {"picture": []}, {}, 400),
        ("../decoders.py", None, {}, 404),
        ("facts", None, {"Host": "page.example"}, 403),  # another site's name for this machine
        ("show", {"picture": []}, {"Host": "page.example"}, 403),
    ],
)
def test_it_refuses_the_rest(page, path, body, headers, status):
    got = ask(page, path, body, **headers)
    assert got[0] == status
    assert got[1]["error"]


# In a browser.


def test_the_page_in_a_browser(page, browser):
    with browser.new_context(viewport={"width": 1400, "height": 900}) as context:
        seen, asked, problems = context.new_page(), [], []
        seen.on("request", lambda request: asked.append(request.url))
        seen.on("console", lambda message: problems.append(message.text))
        seen.on("pageerror", lambda error: problems.append(str(error)))
        seen.goto(page.address)
        waiting = (
            "async (least) => { while (!(Number(document.body.dataset.shown) >= least)) await new Promise((go) => setTimeout(go, 30)); }"
        )
        seen.evaluate(waiting, 1)
        assert "48 bytes" in seen.inner_text("#bytes")
        assert seen.locator("#maps canvas").count() == 3
        assert NO_AUDIT in seen.inner_text("#verdict")
        state = "() => ['undefended', 'defended', 'pad'].map((id) => document.getElementById(id).toDataURL())"
        before, count = seen.evaluate(state), int(seen.evaluate("document.body.dataset.shown"))
        box = seen.locator("#pad").bounding_box()
        seen.mouse.move(box["x"] + 60, box["y"] + 60)
        seen.mouse.down()
        seen.mouse.move(box["x"] + 160, box["y"] + 160, steps=4)
        seen.mouse.up()
        seen.evaluate(waiting, count + 1)
        after = seen.evaluate(state)
        assert all(one != other for one, other in zip(before, after, strict=True))
        assert seen.locator("#answers .bars meter").count() == 4
        assert "The device half took" in seen.inner_text("#timing")
        for width in (1400, 700, 390):
            seen.set_viewport_size({"width": width, "height": 900})
            assert seen.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.inner_text("#problem") == ""
    assert problems == []
    assert all(url.startswith((page.address, "data:")) for url in asked)
