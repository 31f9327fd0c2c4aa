"""What a running server is told of its bundle: versions before labels, nothing that is not as its contract says, every trouble once."""

import logging
import shutil
import threading
import time

import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.exporting.promotion import promote
from keras_privpart.serving import Client, LocalServer, start
from keras_privpart.serving.servers.configuration import Configuration
from keras_privpart.serving.servers.control import Control, NotNow, VersionState
from keras_privpart.serving.servers.engine import StopFlag
from keras_privpart.serving.servers.following import Follower, verified

KIND = "tensorflow_model_server" if shutil.which("tensorflow_model_server") else "local"


@pytest.fixture
def root(parts, tmp_path):
    kp.export(parts, tmp_path / "faces", max_batch_size=4)
    return tmp_path / "faces"


@pytest.fixture
def configuration(root):
    contracts = verified(root)
    made = Configuration(root, contracts[-1], str(root / "server"), batching=False, rest=False, tls=None)
    yield made
    made.remove()


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, "keras_privpart.serving")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "keras_privpart.serving"]


@pytest.fixture
def server(root, configuration):
    with LocalServer(root, config_file=configuration.folder / "models.config") as running:
        yield running


@pytest.fixture
def follower(root, configuration, server):
    control = Control(server.address, None)
    yield Follower(root, verified(root), configuration, control, server.address)
    control.close()


def settle(follower, done):
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        follower.step()
        time.sleep(0.02)


def test_export_and_promote_at_once(root, follower, server, other_parts, told):
    """The label moves to a version that the server has not loaded: it would refuse the whole configuration."""
    kp.export(other_parts, root, version=2, max_batch_size=4)
    promote(root, 2)
    settle(follower, lambda: server.models.labels == {"stable": 2, "canary": 2})
    assert sorted(server.models.versions) == [1, 2]
    assert told() == [f"The server at {server.address} took versions 1, 2; canary is 2, stable is 2."]


def test_each_further_export_moves_canary(root, follower, server, other_parts, told):
    for version in (2, 3):
        kp.export(other_parts, root, version=version, max_batch_size=4)
        settle(follower, lambda version=version: server.models.labels == {"stable": 1, "canary": version})
    assert sorted(server.models.versions) == [1, 2, 3]
    assert len(told()) == 2


@pytest.mark.parametrize("damage", ["seal", "bit", "pair"])
def test_what_is_not_as_its_contract_says_is_not_handed_on(root, follower, server, parts, other_parts, told, damage, images):
    config = root / "serving/models.config"
    if damage == "pair":
        kp.export(other_parts, root, overwrite=True, max_batch_size=4)
    else:
        kp.export(other_parts, root, version=2, max_batch_size=4)
    if damage == "seal":
        config.write_text(config.read_text().replace("value: 1", "value: 2"))
    if damage == "bit":
        weights = next((root / "server/2/variables").glob("variables.data*"))
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    for _ in range(5):
        follower.step()
    [text] = told()
    assert text.startswith("The bundle's new state is not handed on: ")
    assert {"seal": "its seal differs", "bit": "server/2/variables", "pair": "Version 1 of"}[damage] in text
    assert "What is loaded goes on being served" in text
    assert (sorted(server.models.versions), dict(server.models.labels)) == ([1], {"stable": 1})
    if damage == "seal":  # as the message says: promote writes it anew
        promote(root, 1)
        settle(follower, lambda: 2 in server.models.versions)


class Unwilling:
    """A server that is asked for its versions, and does not take what it is told."""

    def __init__(self):
        self.asked, self.answer, self.known = 0, NotNow(), {}

    def reload(self, config):
        self.asked += 1
        if self.answer is not None:
            raise self.answer

    def states(self, name):
        return self.known


@pytest.fixture
def unwilling(root, configuration, other_parts):
    control = Unwilling()
    follower = Follower(root, verified(root), configuration, control, "somewhere:1")
    kp.export(other_parts, root, version=2, max_batch_size=4)
    return control, follower


def test_a_refusal_is_reported_once_with_the_servers_words(unwilling, told, root):
    control, follower = unwilling
    for _ in range(3):
        follower.step()
    assert (control.asked, told()) == (3, []), "a server that cannot be asked now is asked again"
    control.answer = errors.EngineError("FAILED_PRECONDITION: Request to assign label to version 2")
    for _ in range(3):
        follower.step()
    assert control.asked == 4
    [text] = told()
    assert text.startswith("The server at somewhere:1 did not take the bundle's new state: FAILED_PRECONDITION: Request to assign label")


def test_a_version_that_the_server_cannot_load_is_reported_and_keeps_no_label(unwilling, told, configuration):
    control, follower = unwilling
    control.answer, control.known = None, {1: VersionState(30, ""), 2: VersionState(20, "")}
    follower.step()
    assert (control.asked, told()) == (1, [])
    control.known = {1: VersionState(30, ""), 2: VersionState(50, "out of memory")}
    for _ in range(3):
        follower.step()
    assert control.asked == 1
    [text] = told()
    assert "it could not load version 2: out of memory" in text
    assert "canary" not in (configuration.folder / "models.config").read_text()


def test_a_damaged_file_at_the_start_is_refused(root):
    (root / "serving/models.config").write_text("damaged")
    with pytest.raises(errors.IntegrityError, match="its seal differs"):
        start(root, 0, prefer="local")


def test_a_rolling_upgrade_under_load(root, parts, other_parts, images):
    """Export and promote within one second, clients of version 1 all the while: version 2 answers soon, nothing is wrong, nothing mixed."""
    want = {1: parts.model.predict(images, verbose=0), 2: other_parts.model.predict(images, verbose=0)}
    stop, right, wrong = StopFlag(), [], []

    def ask():
        with Client(root, engine.address, version=1, timeout=20) as client:
            while not stop.raised:
                got = client.predict(images)
                (right if np.allclose(got, want[1], atol=1e-5) else wrong).append(got)

    with start(root, 0, prefer=KIND) as engine:
        threads = [threading.Thread(target=target) for target in (ask, ask, lambda: engine.wait(stop))]
        for thread in threads:
            thread.start()
        try:
            kp.export(other_parts, root, version=2, max_batch_size=4)
            promote(root, 2)
            with Client(root, engine.address, version=2, label="stable", timeout=20) as client:
                end = time.monotonic() + 30
                while True:
                    try:
                        got = client.predict(images)
                        break
                    except (errors.PairMismatchError, errors.ServerNotFoundError):
                        assert time.monotonic() < end
                        time.sleep(0.05)
            np.testing.assert_allclose(got, want[2], atol=1e-5)
            before = len(right)
            end = time.monotonic() + 30
            while len(right) == before and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            stop.up()
            for thread in threads:
                thread.join()
    assert len(right) > before, "version 1 goes on"
    assert wrong == []
