"""Configuration files of TensorFlow Serving, read back with its own messages."""

from types import SimpleNamespace

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_privpart.contract import SERVING_FILES
from keras_privpart.exporting.tf_serving import server_protos, serving_config
from keras_privpart.integrity import sealed_pairs

CONTRACTS = [
    SimpleNamespace(name="faces", version=version, max_batch_size=most, fingerprint=str(version) * 64)
    for version, most in ((3, 8), (1, 10))
]


@pytest.fixture
def files():
    return serving_config.serving_files(CONTRACTS, {"stable": 1, "canary": 3})


def test_models_config(files):
    config = text_format.Parse(files["serving/models.config"], model_server_config_pb2.ModelServerConfig())
    [model] = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("faces", "/models/faces", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [1, 3]
    assert dict(model.version_labels) == {"stable": 1, "canary": 3}
    assert not model.HasField("logging_config")
    assert serving_config.read_labels(files["serving/models.config"]) == {"stable": 1, "canary": 3}


def test_batching_ends_at_the_largest_request(files):
    parameters = text_format.Parse(files["serving/batching.config"], server_protos.BatchingParameters())
    assert parameters.max_batch_size.value == 10
    assert list(parameters.allowed_batch_sizes) == [1, 2, 4, 8, 10]
    assert parameters.batch_timeout_micros.value > 0


def test_monitoring(files):
    config = text_format.Parse(files["serving/monitoring.config"], server_protos.MonitoringConfig()).prometheus_config
    assert (config.enable, config.path) == (True, "/monitoring/prometheus/metrics")


def test_ssl_template_holds_no_key_and_asks_clients_for_theirs(files):
    config = text_format.Parse(files["serving/ssl.config"], server_protos.SSLConfig())
    assert config.client_verify
    for text, kind in ((config.server_key, "PRIVATE KEY"), (config.server_cert, "CERTIFICATE"), (config.custom_ca, "CERTIFICATE")):
        assert text.startswith(f"-----BEGIN {kind}-----\n")
        assert text.endswith(f"-----END {kind}-----\n")
    assert "# TEMPLATE" in files["serving/ssl.config"]


def test_pem_texts_stand_inline():
    text = serving_config.ssl_config("key\n", "cert\n", "ca\n")
    config = text_format.Parse(text, server_protos.SSLConfig())
    assert (config.server_key, config.server_cert, config.custom_ca, config.client_verify) == ("key\n", "cert\n", "ca\n", True)
    assert r'server_key: "key\n"' in text


def test_every_file_is_sealed_for_its_pairs(files):
    assert tuple(files) == SERVING_FILES
    for path, text in files.items():
        assert sealed_pairs(text, path) == {1: "1" * 64, 3: "3" * 64}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("BatchingParameters", "max_batch_size: 3"),  # a wrapped number
        ("BatchingParameters", 'allowed_batch_sizes: "3"'),
        ("MonitoringConfig", "enable: true"),
        ("SSLConfig", "server_keys: ''"),
    ],
)
def test_the_descriptors_refuse_what_the_server_refuses(message, text):
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text, getattr(server_protos, message)())


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (2, (1, 2)), (8, (1, 2, 4, 8)), (10, (1, 2, 4, 8, 10))])
def test_allowed_batch_sizes(most, sizes):
    assert serving_config.allowed_batch_sizes(most) == sizes
