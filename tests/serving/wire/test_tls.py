"""TLS and mTLS with the made certificates, and each way in which the two sides can disagree."""

import datetime
import shutil
import ssl
import stat
import sys
from concurrent import futures

import grpc
import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.serving import AsyncClient, Client, LocalServer, ServerTls, Tls, make_certificates, start
from keras_privpart.serving.servers import certificates
from keras_privpart.serving.wire.handshake import connection_problem


def now():
    return datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("keys") / "made").folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Keys of an authority of the same name that nobody here trusts."""
    return make_certificates(tmp_path_factory.mktemp("keys") / "foreign").folder


@pytest.fixture(scope="module")
def expired(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expired")
    for name, content in certificates._issue(certificates.DEFAULT_HOSTS, now() - datetime.timedelta(minutes=10)).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def server(bundle, keys):
    with LocalServer(bundle.path, tls=keys) as running:
        yield running


# Making certificates.


def test_certificates_are_what_they_are_for(keys):
    from cryptography import x509

    made = {path.name: path for path in keys.iterdir()}
    assert sorted(made) == ["ca.crt", "ca.key", "client.crt", "client.key", "server.crt", "server.key"]
    assert {stat.S_IMODE(made[name].stat().st_mode) for name in made if name.endswith(".key")} == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    parsed = {name: x509.load_pem_x509_certificate(made[f"{name}.crt"].read_bytes()) for name in ("ca", "server", "client")}
    for name, certificate in parsed.items():
        assert datetime.timedelta(days=29) < certificate.not_valid_after_utc - now() <= datetime.timedelta(days=30)
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is (name == "ca")
        certificate.verify_directly_issued_by(parsed["ca"])
    names = parsed["server"].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"days": 0}, "Received days=0; expected a whole number from 1 to 825"),
        ({"days": True}, "Received days=True"),
        ({"hosts": ()}, "expected at least one name or IP address"),
        ({"hosts": ("a ",)}, "expected at least one name"),
    ],
)
def test_certificates_that_cannot_be_made(tmp_path, arguments, text):
    with pytest.raises(errors.EngineError, match=text):
        make_certificates(tmp_path / "keys", **arguments)
    assert not list(tmp_path.iterdir())


def test_certificates_are_not_overwritten(keys):
    before = (keys / "ca.crt").read_bytes()
    with pytest.raises(errors.EngineError, match="is there already"):
        make_certificates(keys)
    assert (keys / "ca.crt").read_bytes() == before


def test_certificates_need_cryptography(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(errors.EngineError, match=r"pip install 'keras_privpart\[certs\]'"):
        make_certificates(tmp_path / "keys")
    assert not list(tmp_path.iterdir())


# Files.


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda keys: (keys / "ca.crt").unlink(), r"Can't read .*ca\.crt"),
        (lambda keys: (keys / "client.key").unlink(), r"Can't read .*client\.key"),
        (lambda keys: (keys / "ca.crt").write_bytes(b"\x30\x82"), r"ca\.crt is no PEM file; expected text"),
        (lambda keys: shutil.copy(keys / "server.key", keys / "client.key"), r"Can't use .*client\.key"),
    ],
)
def test_files_that_cannot_be_used(bundle, keys, tmp_path, damage, text):
    copy = shutil.copytree(keys, tmp_path / "keys")
    damage(copy)
    with pytest.raises(errors.ServingError, match=text):
        Client(bundle.path, "localhost:1", tls=copy)


def test_certificate_and_key_come_together(keys):
    with pytest.raises(errors.ServingError, match="expected both, or neither"):
        Tls(keys / "ca.crt", certificate=keys / "client.crt")
    with pytest.raises(errors.ServingError, match=r"Can't use .*server\.crt"):
        ServerTls(keys / "server.crt", keys / "client.key")


def test_the_configuration_of_tensorflow_serving_holds_the_texts(keys):
    from google.protobuf import text_format

    from keras_privpart.exporting.tf_serving.server_protos import SSLConfig

    parsed = text_format.Parse(ServerTls.of(keys).config(), SSLConfig())
    assert parsed.client_verify
    for field, name in (("server_key", "server.key"), ("server_cert", "server.crt"), ("custom_ca", "ca.crt")):
        assert getattr(parsed, field) == (keys / name).read_text()
    one_way = text_format.Parse(ServerTls(keys / "server.crt", keys / "server.key").config(), SSLConfig())
    assert (one_way.custom_ca, one_way.client_verify) == ("", False)


# Connections.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "dns:///localhost"])
def test_mutual_tls(bundle, parts, server, keys, images, host):
    with Client(bundle.path, f"{host}:{server.port}", tls=keys) as client:
        client.wait_for_ready(10)
        np.testing.assert_allclose(client.predict(images), parts.model.predict(images, verbose=0), atol=1e-6)


def test_one_way_tls(bundle, keys, images):
    with LocalServer(bundle.path, tls=ServerTls(keys / "server.crt", keys / "server.key")) as open_server:
        with Client(bundle.path, open_server.address, tls=Tls(keys / "ca.crt")) as client:
            assert client.predict(images[:1]).shape == (1, 5)
        with Client(bundle.path, open_server.address, tls=keys) as client:
            assert client.predict(images[:1]).shape == (1, 5)


def disagreements(keys, foreign, expired):
    """What a client brings, and what it must be told."""
    return {
        "plaintext": (None, "the server speaks TLS, and plaintext was tried. Pass tls="),
        "wrong CA": (Tls(foreign / "ca.crt"), "the server's certificate is not trusted: "),
        "no client certificate": (Tls(keys / "ca.crt"), "the server asks for a client certificate. Pass tls="),
        "foreign client certificate": (
            Tls(keys / "ca.crt", foreign / "client.crt", foreign / "client.key"),
            "the server refuses the client certificate .*client.crt: expired, or of an authority that it does not trust",
        ),
        "expired client certificate": (
            Tls(keys / "ca.crt", expired / "client.crt", expired / "client.key"),
            "the server refuses the client certificate .*client.crt: expired",
        ),
        "the public's authorities": (Tls(), "the server's certificate is not trusted: "),
    }


DISAGREEMENTS = ["plaintext", "wrong CA", "no client certificate", "foreign client certificate", "expired client certificate"]


@pytest.mark.parametrize("what", [*DISAGREEMENTS, "the public's authorities"])
def test_a_disagreement_is_a_clear_error_at_once(bundle, server, keys, foreign, expired, images, what):
    tls, text = disagreements(keys, foreign, expired)[what]
    with Client(bundle.path, server.address, tls=tls, timeout=30) as client:
        for call in (lambda: client.predict(images[:1]), lambda: client.wait_for_ready(30)):
            with pytest.raises(errors.SecureConnectionError, match=text):
                call()


def test_an_expired_server_certificate(bundle, expired, images):
    with (
        LocalServer(bundle.path, tls=expired) as old,
        Client(bundle.path, old.address, tls=Tls(expired / "ca.crt")) as client,
        pytest.raises(errors.SecureConnectionError, match="not trusted: certificate has expired"),
    ):
        client.predict(images[:1])


def test_a_server_of_another_name(bundle, tmp_path, images):
    keys = make_certificates(tmp_path / "keys", ["example.org"]).folder
    refused = pytest.raises(errors.SecureConnectionError, match="call the server by a name that its certificate holds")
    with LocalServer(bundle.path, tls=keys) as server, Client(bundle.path, server.address, tls=keys) as client, refused:
        client.predict(images[:1])


def test_a_server_without_tls(bundle, keys, images):
    refused = pytest.raises(errors.SecureConnectionError, match="does not speak TLS")
    with LocalServer(bundle.path) as plain, Client(bundle.path, plain.address, tls=keys) as client, refused:
        client.predict(images[:1])


async def _ask(bundle, address, tls, image):
    async with AsyncClient(bundle.path, address, tls=tls) as client:
        return await client.predict(image)


def test_asyncio_says_the_same(bundle, server, keys, images):
    import asyncio

    assert asyncio.run(_ask(bundle, server.address, keys, images[:2])).shape == (2, 5)
    with pytest.raises(errors.SecureConnectionError, match="plaintext was tried"):
        asyncio.run(_ask(bundle, server.address, None, images[:1]))


def test_a_server_that_is_down_is_no_disagreement(keys):
    assert connection_problem("127.0.0.1:1", Tls.of(keys), 1.0) is None
    assert connection_problem("unix:/nowhere", None, 1.0) is None


# Tokens.


@pytest.mark.parametrize("token", ["secret", "x" * 2000])
def test_a_token_is_sent_over_tls(bundle, keys, token):
    seen = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            seen.append(dict(details.invocation_metadata)["authorization"])

    stranger = grpc.server(futures.ThreadPoolExecutor(1))
    stranger.add_generic_rpc_handlers((Handler(),))
    port = stranger.add_secure_port("127.0.0.1:0", ServerTls.of(keys).credentials())
    stranger.start()
    with Client(bundle.path, f"127.0.0.1:{port}", tls=keys, token=token) as client, pytest.raises(errors.RequestRefusedError):
        client.predict(np.zeros((1, 8, 8, 1)))
    stranger.stop(0).wait()
    assert seen == [f"Bearer {token}"]


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_a_token_is_refused_without_tls(bundle, keys, kind):
    with pytest.raises(errors.ServingError, match="Received a token without tls"):
        Client(bundle.path, "localhost:1", token="secret", transport=kind)
    for wrong in ("a b", "a\n", "", "é"):
        with pytest.raises(errors.ServingError, match="expected one word") as caught:
            Client(bundle.path, "localhost:1", token=wrong, tls=keys, transport=kind)
        assert not wrong.strip() or wrong not in str(caught.value).replace("a token", "")


# Engine.


def test_the_engine_serves_mutual_tls(bundle, keys, images):
    with start(bundle.path, 0, prefer="local", tls=keys) as running:
        with Client(bundle.path, running.address, tls=keys) as client:
            assert client.predict(images[:1]).shape == (1, 5)
        with Client(bundle.path, running.address) as client, pytest.raises(errors.SecureConnectionError):
            client.predict(images[:1])


def test_the_client_trusts_what_the_made_authority_signed_and_nothing_else(keys):
    context = Tls.of(keys).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [entry["subject"] for entry in context.get_ca_certs()] == [((("commonName", "keras_privpart development CA"),),)]
