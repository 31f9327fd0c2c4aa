"""Starting servers: which one, on what command line, and what happens when it does not go well."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_privpart import errors
from keras_privpart.serving import Client, ServerTls, make_certificates, start, start_replicas
from keras_privpart.serving.servers import choice, replicas
from keras_privpart.serving.servers.commands import binary_command, docker_command, local_command, server_flags
from keras_privpart.serving.servers.configuration import Configuration
from keras_privpart.serving.servers.engine import StopFlag


def program(folder: Path, name: str, script: str) -> Path:
    """A program on the PATH that stands for another."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folder


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Command lines.


def test_server_flags():
    flags = server_flags("/config", ["models.config"], 8500, None)
    assert flags[:2] == ["--port=8500", "--rest_api_port=0"]
    assert "--model_config_file=/config/models.config" in flags
    assert "--allow_version_labels_for_unavailable_models=true" in flags
    assert "--enable_grpc_healthcheck_service=true" in flags
    assert not [flag for flag in flags if "batching" in flag or "ssl" in flag or "monitoring" in flag]
    every = server_flags("/c", ["models.config", "batching.config", "monitoring.config", "ssl.config"], 1, 8501)
    assert {"--rest_api_port=8501", "--enable_batching=true", "--batching_parameters_file=/c/batching.config"} <= set(every)
    assert {"--monitoring_config_file=/c/monitoring.config", "--ssl_config_file=/c/ssl.config"} <= set(every)
    assert binary_command("/bin/tms", Path("/config"), ["models.config"], 8500, None) == ["/bin/tms", *flags]


def test_docker_command_mounts_the_server_folder_and_the_configuration_alone():
    places = ("faces", Path("/b/server"), Path("/tmp/private"), ["models.config"])
    command = docker_command("/bin/docker", "tensorflow/serving:2.20.0", "c1", *places, "127.0.0.1", 9000, None)
    assert command[:5] == ["/bin/docker", "run", "--rm", "--init", "--name=c1"]
    assert [part for part in command if "mount" in part or part.startswith("-v")] == [
        "--mount=type=bind,source=/b/server,target=/models/faces,readonly",
        "--mount=type=bind,source=/tmp/private,target=/config,readonly",
    ]
    assert [part for part in command if "publish" in part] == ["--publish=127.0.0.1:9000:8500"]
    inside = command[command.index("tensorflow/serving:2.20.0") + 1 :]
    assert inside == server_flags("/config", ["models.config"], 8500, None)
    with_rest = docker_command("d", "i", "c", *places, "0.0.0.0", 9000, 9001)
    assert "--publish=0.0.0.0:9001:8501" in with_rest
    assert "--rest_api_port=8501" in with_rest


def test_local_command():
    assert local_command(Path("/b"), Path("/c"), "127.0.0.1", 1, None, None)[1:] == [
        "-m", "keras_privpart.serving.local.server", "/b", "--host=127.0.0.1", "--port=1",
        "--model-config-file=/c/models.config", "--poll-seconds=0",
    ]  # fmt: skip
    assert local_command(Path("/b"), Path("/c"), "h", 1, 2, Path("/keys"))[-2:] == ["--rest-port=2", "--tls=/keys"]


# Which server.

ANSWERS = 'import sys; print("28.0"); sys.exit(0)'
# What a client without an engine does: its own version on stdout, an error on stderr.
SILENT = 'import sys; print("Cannot connect to the Docker daemon", file=sys.stderr); sys.exit(1)'
SILENT_BUT_GLAD = 'import sys; print(""); sys.exit(0)'


def test_the_binary_comes_first(only):
    path = program(only, "tensorflow_model_server", "")
    program(only, "docker", ANSWERS)
    assert choice.choose() == choice.Choice("tensorflow_model_server", str(path))


def test_docker_comes_second(only):
    path = program(only, "docker", ANSWERS)
    assert choice.choose() == choice.Choice("docker", str(path), ("tensorflow_model_server is not on the PATH",))


@pytest.mark.parametrize("docker", [SILENT, SILENT_BUT_GLAD, None])
def test_the_local_server_comes_last_and_says_why(only, docker):
    if docker is not None:
        program(only, "docker", docker)
    found = choice.choose()
    assert found.kind == "local"
    why = "docker is not on the PATH" if docker is None else "no docker engine answers"
    assert found.reasons == ("tensorflow_model_server is not on the PATH", why)


def test_a_docker_that_hangs_is_passed_over(only, monkeypatch):
    program(only, "docker", "import time; time.sleep(30)")
    monkeypatch.setattr(choice, "_DOCKER_SECONDS", 0.3)
    assert choice.choose().kind == "local"


def test_a_preference_is_kept_or_refused(only):
    assert choice.choose("local") == choice.Choice("local", sys.executable)
    with pytest.raises(errors.EngineError, match="Can't start the docker server: docker is not on the PATH"):
        choice.choose("docker")
    with pytest.raises(
        errors.EngineError, match=r"Received prefer='podman'; expected one of \['tensorflow_model_server', 'docker', 'local'\]"
    ):
        choice.choose("podman")


# Ports.


def test_a_port_in_use_is_refused_before_anything_starts(bundle, server, only):
    program(only, "tensorflow_model_server", "raise SystemExit('was started')")
    for prefer in ("local", "tensorflow_model_server"):
        with pytest.raises(errors.EngineError, match=f"Can't listen on port {server.port}: .* Choose another port") as caught:
            start(bundle.path, server.port, prefer=prefer)
        assert "was started" not in str(caught.value)


def test_port_zero_is_a_free_one():
    port = choice.free_port("127.0.0.1", 0)
    assert port > 0
    assert not listens(port)
    assert choice.free_port("127.0.0.1", port) == port
    with pytest.raises(errors.EngineError, match="port 99999"):
        choice.free_port("127.0.0.1", 99999)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rest_port": 0, "tls": "keys"}, "REST port is never encrypted"),
        ({"batching": True}, "Received batching=True; the local server answers each request by itself"),
    ],
)
def test_what_a_server_cannot_do(bundle, options, text):
    with pytest.raises(errors.EngineError, match=text):
        start(bundle.path, 0, prefer="local", **options)


# Life and death.


def test_local_server_from_start_to_stop(bundle, parts, images, tmp_path):
    with start(bundle.path, 0, prefer="local", log_path=tmp_path / "log") as running:
        assert running.kind == "local"
        assert (running.name, running.version, running.rest_address) == ("faces", 1, None)
        assert "it is not TensorFlow Serving: faces version 1 at 127.0.0.1:" in running.describe()
        with Client(bundle.path, running.address) as client:
            np.testing.assert_allclose(client.predict(images), parts.model.predict(images, verbose=0), atol=1e-6)
        port = int(running.address.rpartition(":")[2])
        assert listens(port)
        assert "it is not TensorFlow Serving" in (tmp_path / "log").read_text()
    assert not listens(port)
    running.stop()
    assert (tmp_path / "log").is_file()


CRASH = 'import sys; print("loading"); print("no space left for the model", file=sys.stderr); sys.exit(3)'
MUTE = "import time, pathlib, os; pathlib.Path(__file__ + '.pid').write_text(str(os.getpid())); time.sleep(60)"


def test_a_crash_is_reported_with_the_last_lines(bundle, only):
    program(only, "tensorflow_model_server", CRASH)
    with pytest.raises(
        errors.EngineError, match=r"(?s)tensorflow_model_server server ended with status 3.*loading\n  no space left for the model"
    ):
        start(bundle.path, 0)


def test_a_server_that_is_not_ready_in_time_is_stopped(bundle, only):
    path = program(only, "tensorflow_model_server", MUTE)
    began = time.monotonic()
    with pytest.raises(errors.EngineError, match=r"not ready: Not ready within (1|0\.\d+) s: .*UNAVAILABLE"):
        start(bundle.path, 0, timeout=1.0)
    assert time.monotonic() - began < 10
    pid = int(Path(f"{path}.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# As TensorFlow Serving does with a half that it cannot load: it tries again, and listens on no port meanwhile.
UNLOADABLE = """
import time
print("retrier.cc:40] Loading servable: {name: faces version: 1} failed: OUT_OF_RANGE: Read less bytes than requested", flush=True)
print("more", flush=True)
time.sleep(60)
"""


def test_a_half_that_cannot_be_loaded_is_the_reason_given(bundle, only, tmp_path):
    program(only, "tensorflow_model_server", UNLOADABLE)
    (tmp_path / "log").write_text("Loading servable: {name: faces version: 1} failed: of an earlier run\n")
    text = r"not ready: It could not load the model: Loading servable: .*version: 1} failed: OUT_OF_RANGE: Read less.*\. Not ready"
    with pytest.raises(errors.EngineError, match=text) as caught:
        start(bundle.path, 0, timeout=2.0, log_path=tmp_path / "log")
    assert "earlier run" not in str(caught.value)


def test_a_start_can_be_called_off(bundle, only):
    program(only, "tensorflow_model_server", MUTE)
    stop = StopFlag()
    stop.up()
    with pytest.raises(errors.EngineError, match="was stopped before it was ready"):
        start(bundle.path, 0, stop=stop)


def test_a_program_that_cannot_be_run(bundle, only):
    (only / "tensorflow_model_server").write_text("#!/nowhere\n")
    (only / "tensorflow_model_server").chmod(0o755)
    with pytest.raises(errors.EngineError, match=r"(?s)ended with status 127.*Can't run .*tensorflow_model_server"):
        start(bundle.path, 0)


# Stands for the binary: takes its options and serves with the local server what its configuration names.
STAND_IN = """
import re, sys
from pathlib import Path
from types import SimpleNamespace
from keras_privpart.serving.local.server import main
options = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
config = Path(options["model_config_file"])
base = re.search('base_path: "(.+)"', config.read_text()).group(1)
assert config.parent.stat().st_mode & 0o077 == 0, "others can read the configuration, which may hold a key"
assert options["rest_api_port"] == "0", options
assert options["model_config_file_poll_wait_seconds"] == "0", "an idle server's log would grow"
sys.exit(main([str(Path(base).parent), "--port", options["port"], "--model-config-file", str(config), "--poll-seconds", "0"]))
"""


def test_a_server_that_dies_later_is_reported(bundle, only, images):
    program(only, "tensorflow_model_server", STAND_IN)
    with start(bundle.path, 0) as running:
        assert running.kind == "tensorflow_model_server"
        assert "TensorFlow Serving (" in running.describe()
        with Client(bundle.path, running.address) as client:
            client.wait_for_ready(5)
            assert client.predict(images[:1]).shape == (1, 5)
        os.kill(running._process.pid, signal.SIGKILL)
        with pytest.raises(errors.EngineError, match="ended with status -9"):
            running.wait()
    assert running.log_path.is_file()  # to see why
    running.log_path.unlink()
    assert not list(only.parent.glob("privpart-*")), "the configuration is removed"


# Configuration.


def test_the_configuration_holds_what_was_asked_for(bundle, tmp_path):
    keys = make_certificates(tmp_path / "keys").folder
    contract, secure = bundle.contract, ServerTls.of(keys)
    every = Configuration(bundle.path, contract, '/a "b"', batching=True, rest=True, tls=secure)
    every.show_key()
    assert sorted(path.name for path in every.folder.iterdir()) == sorted(every.files)
    assert sorted(every.files) == ["batching.config", "models.config", "monitoring.config", "ssl.config"]
    parsed = text_format.Parse((every.folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    assert parsed.model_config_list.config[0].base_path == '/a "b"'
    assert stat.S_IMODE(every.folder.stat().st_mode) == 0o700
    plain = Configuration(bundle.path, contract, "/a", batching=False, rest=False, tls=None)
    assert plain.files == ("models.config",)
    every.hide_key()
    assert not (every.folder / "ssl.config").exists(), "the key is gone as soon as the server has read it"
    for made in (every, plain):
        made.remove()
        assert not made.folder.exists()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda folder: (folder / "serving/models.config").unlink(), r"Can't read serving/models\.config"),
        (lambda folder: (folder / "serving/models.config").write_text("x"), "names no base_path"),
        (lambda folder: (folder / "serving/batching.config").unlink(), r"Can't read serving/batching\.config"),
    ],
)
def test_a_configuration_that_cannot_be_made_leaves_nothing(bundle, tmp_path, monkeypatch, damage, text):
    copy = shutil.copytree(bundle.path, tmp_path / "faces")
    damage(copy)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(errors.EngineError, match=text):
        Configuration(copy, bundle.contract, "/a", batching=True, rest=False, tls=None)
    assert not list((tmp_path / "temporary").iterdir())


# Replicas.


def test_a_replica_that_dies_is_started_again_while_the_others_serve_on(bundle, images, caplog):
    caplog.set_level("INFO", "keras_privpart.serving")
    stop = StopFlag()
    with start_replicas(2, bundle.path, 0, prefer="local") as running:
        assert len(set(running.addresses)) == 2
        assert running.describe().count("it is not TensorFlow Serving") == 2
        waiting = threading.Thread(target=running.wait, args=(stop,))
        waiting.start()
        try:
            with Client(bundle.path, running.addresses, timeout=20) as client:
                client.wait_for_ready(20)
                assert client.predict(images).shape == (11, 5)
                os.kill(running.engines[0]._process.pid, signal.SIGKILL)
                for _ in range(4):
                    assert client.predict(images[:1]).shape == (1, 5)
            with Client(bundle.path, running.addresses[0], timeout=20) as client:
                client.wait_for_ready(60)
                assert client.predict(images[:1]).shape == (1, 5)
            end = time.monotonic() + 20
            while "serves again" not in caplog.text and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            stop.up()
            waiting.join()
    died, back = [record.getMessage() for record in caplog.records]
    assert f"The replica at {running.addresses[0]} ended with status -9. It is started again in 1 s; the others serve on." in died
    assert back == f"The replica at {running.addresses[0]} serves again."
    assert not any(listens(int(address.rpartition(":")[2])) for address in running.addresses)
    for engine in running.engines:
        engine.log_path.unlink(missing_ok=True)


def test_replicas_that_are_given_up_show_the_log_of_one_that_has_ended(monkeypatch):
    """The first has just begun again, and its log is empty."""

    def engine(status, lines):
        facts = {"kind": "local", "name": "faces", "version": 1, "address": "a", "rest_address": None, "log_path": "log", "started": True}
        return SimpleNamespace(**facts, exit_status=lambda: status, last_lines=lambda: lines)

    monkeypatch.setattr(replicas, "Replica", lambda engine: SimpleNamespace(failures=9, step=lambda: None))
    with pytest.raises(errors.EngineError, match=r"restarts of each\.\nno memory left"):
        replicas.Replicas([engine(None, "nothing yet"), engine(1, "no memory left")]).wait()


def test_replicas_that_all_fail_again_and_again_are_given_up(bundle, monkeypatch, caplog):
    """Pauses grow while none serves; nothing is restarted for ever."""
    monkeypatch.setattr(replicas, "_FIRST_PAUSE", 0.01)
    with start_replicas(2, bundle.path, 0, prefer="local") as running:
        for engine in running.engines:
            engine._command = [sys.executable, "-c", "raise SystemExit('no memory left')"]
            os.kill(engine._process.pid, signal.SIGKILL)
        with pytest.raises(errors.EngineError, match=r"(?s)No replica serves, after 3 restarts of each.*no memory left"):
            running.wait()
    pauses = [text for text in caplog.text.split() if text in ("0.01", "0.02", "0.04")]
    assert sorted(pauses) == sorted(["0.01", "0.02", "0.04"] * 2)  # of the two replicas either may be ahead
    for engine in running.engines:
        engine.log_path.unlink(missing_ok=True)


def test_replicas_need_ports_that_follow_each_other(bundle, only):
    """One of them is taken: nothing is started."""
    program(only, "tensorflow_model_server", "raise SystemExit('was started')")
    port = choice.free_port("127.0.0.1", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        with pytest.raises(errors.EngineError, match=f"Can't listen on port {port + 1}") as caught:
            start_replicas(2, bundle.path, port)
    assert "was started" not in str(caught.value)
    with pytest.raises(errors.EngineError, match="Received 0 replicas"):
        start_replicas(0, bundle.path)


def test_docker_is_stopped_by_name(bundle, only, tmp_path):
    """A stand-in that notes how it is called; the container name must be the same both times."""
    script = f"""
import sys, time
with open({str(tmp_path / "calls")!r}, "a") as calls:
    print(*sys.argv[1:], file=calls)
if sys.argv[1] == "info":
    print("28.0")
elif sys.argv[1] == "run":
    time.sleep(60)
"""
    program(only, "docker", script)
    with pytest.raises(errors.EngineError, match="docker server is not ready"):
        start(bundle.path, 0, timeout=1.5, image="my/serving:1")
    info, run, stop = (tmp_path / "calls").read_text().splitlines()
    name = next(part for part in run.split() if part.startswith("--name=")).removeprefix("--name=")
    assert name.startswith("privpart-faces-")
    assert stop.split() == ["stop", "--time=5", name]
    assert f"source={bundle.path.resolve()}/server,target=/models/faces,readonly" in run
    assert "my/serving:1" in run
    assert info.startswith("info")


# Ends when its parent ends, whatever the parent is and however it ends.
SERVES = (
    "import sys; from keras_privpart.serving import serve;"
    "serve(sys.argv[1], 0, prefer='local', tls=sys.argv[2], on_ready=lambda engine: print(engine.address, flush=True));"
    "print('ended in order')"
)
STARTS = (
    "import sys, time; from keras_privpart.serving import start;"
    "print(start(sys.argv[1], 0, prefer='tensorflow_model_server', tls=sys.argv[2]).address, flush=True); time.sleep(60)"
)
# Stands for the binary with mutual TLS, whose keys are in its configuration.
SECURE_STAND_IN = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
options = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
assert "PRIVATE KEY" in Path(options["ssl_config_file"]).read_text()
assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0", "a crash would leave nothing to read"
os.execv(sys.executable, [sys.executable, "-m", "keras_privpart.serving.local.server", BUNDLE, "--port", options["port"], "--tls", KEYS,
    "--model-config-file", options["model_config_file"]])
"""


@pytest.fixture
def keys(tmp_path):
    return make_certificates(tmp_path / "keys").folder


def run_until_ready(code, bundle, keys, tmp_path, **environment):
    (tmp_path / "private").mkdir()
    command = [sys.executable, "-c", code, str(bundle.path), str(keys)]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "private"), "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    return process, int(process.stdout.readline().rpartition(":")[2])


def until_gone(port, folder):
    """Nobody listens and no configuration is left."""
    end = time.monotonic() + 20
    while (listens(port) or any(folder.glob("privpart-*/"))) and time.monotonic() < end:
        time.sleep(0.05)
    assert not listens(port)
    assert not list(folder.glob("privpart-*/"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_serve_ends_with_its_signals(bundle, how, keys, tmp_path):
    """In order on SIGINT and SIGTERM; and no server is left behind when the process is killed."""
    process, port = run_until_ready(SERVES, bundle, keys, tmp_path)
    with process:
        try:
            assert listens(port)
            process.send_signal(how)
            rest = process.communicate(timeout=20)[0]
        finally:
            process.kill()
    if how is not signal.SIGKILL:
        assert (process.returncode, rest) == (0, "ended in order\n")
        assert list((tmp_path / "private").glob("*.log")) == []
    until_gone(port, tmp_path / "private")


def test_a_program_that_started_a_server_is_killed(bundle, keys, only, tmp_path):
    """Neither the server nor its configuration outlives it, and the key was gone before."""
    script = SECURE_STAND_IN.replace("BUNDLE", repr(str(bundle.path))).replace("KEYS", repr(str(keys)))
    program(only, "tensorflow_model_server", script)
    process, port = run_until_ready(STARTS, bundle, keys, tmp_path, PATH=str(only))
    with process:
        try:
            assert listens(port)
            [folder] = (tmp_path / "private").glob("privpart-*/")
            assert [path.name for path in folder.iterdir()] == ["models.config"], "no key while it runs"
        finally:
            process.kill()
    until_gone(port, tmp_path / "private")
    assert "PRIVATE KEY" not in "".join(path.read_text() for path in (tmp_path / "private").rglob("*") if path.is_file())


def test_a_supervisor_that_is_killed_takes_its_server_along(bundle):
    with start(bundle.path, 0, prefer="local") as running:
        port = int(running.address.rpartition(":")[2])
        os.kill(running._process.pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while listens(port) and time.monotonic() < end:
            time.sleep(0.05)
        assert not listens(port)
    running.log_path.unlink()


@pytest.mark.parametrize("damage", ["contract", "server"])
def test_a_bundle_that_is_not_what_its_contract_says_is_not_served(bundle, tmp_path, damage):
    copy = shutil.copytree(bundle.path, tmp_path / "faces")
    path = copy / ("contract.json" if damage == "contract" else "server/1/saved_model.pb")
    path.write_bytes(path.read_bytes().replace(b"stem" if damage == "contract" else b"boundary", b"BOUNDARY"[:4], 1))
    with pytest.raises(errors.IntegrityError):
        start(copy, 0, prefer="local")


@pytest.mark.skipif(shutil.which("tensorflow_model_server") is None, reason="tensorflow_model_server is not on the PATH")
def test_the_real_server(bundle, other, parts, images):
    with start(bundle.path, 0, prefer="tensorflow_model_server") as running:
        with Client(bundle.path, running.address) as client:
            client.wait_for_ready(30)
            np.testing.assert_allclose(client.predict(images), parts.model.predict(images, verbose=0), atol=1e-5)
        with Client(other.path, running.address) as stranger, pytest.raises(errors.PairMismatchError):
            stranger.predict(images)
