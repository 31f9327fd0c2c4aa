"""The files of `serving/`: models and labels, batching, metrics, and a template for TLS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_privpart.contract import (
    SERVING_FILES,
    Contract,
)
from keras_privpart.exporting.tf_serving import server_protos
from keras_privpart.integrity import seal

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MODELS_CONFIG = SERVING_FILES[0]
PROMETHEUS_PATH = "/monitoring/prometheus/metrics"
STABLE, CANARY = "stable", "canary"
_BATCH_TIMEOUT_MICROS = 1000
_QUEUED_BATCHES = 100


def allowed_batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Powers of two up to `max_batch_size`, which is always the last: `(1, 2, 4, 8, 10)` for 10."""
    sizes = [1 << power for power in range(max_batch_size.bit_length()) if 1 << power < max_batch_size]
    return (*sizes, max_batch_size)


def models_config(contracts: Sequence[Contract], labels: Mapping[str, int]) -> str:
    """`models.config` for `tensorflow_model_server --model_config_file`: all versions of a bundle, and their labels."""
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name = contracts[0].name
    model.base_path = f"/models/{model.name}"
    model.model_platform = "tensorflow"
    model.model_version_policy.specific.versions.extend(sorted(contract.version for contract in contracts))
    for label, version in sorted(labels.items()):
        model.version_labels[label] = version
    return (
        f"# For tensorflow_model_server --model_config_file=models.config --allow_version_labels_for_unavailable_models=true\n"
        f"# (at its start no version is loaded yet, and labels would be refused).\n"
        f"# base_path is the bundle's server/ folder, mounted at /models/{model.name}. Mount nothing else of the bundle.\n"
        f"# Keep request logging (logging_config) off: it would record what devices send.\n"
        f"{text_format.MessageToString(config)}"
    )


def read_labels(text: str) -> dict[str, int]:
    """Labels that a `models.config` of `models_config` gives."""
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return dict(config.model_config_list.config[0].version_labels)


def batching_config(max_batch_size: int) -> str:
    """`batching.config` for `--enable_batching --batching_parameters_file`; its last allowed batch size is `max_batch_size`."""
    parameters = server_protos.BatchingParameters(allowed_batch_sizes=allowed_batch_sizes(max_batch_size))
    parameters.max_batch_size.value = max_batch_size
    parameters.batch_timeout_micros.value = _BATCH_TIMEOUT_MICROS
    parameters.max_enqueued_batches.value = _QUEUED_BATCHES
    return (
        "# For tensorflow_model_server --enable_batching --batching_parameters_file=batching.config\n"
        "# The server is warmed up for these sizes. A request that comes alone waits batch_timeout_micros for company.\n"
        f"{text_format.MessageToString(parameters)}"
    )


def monitoring_config() -> str:
    """`monitoring.config` for `--monitoring_config_file`: Prometheus metrics on the REST port."""
    config = server_protos.MonitoringConfig()
    config.prometheus_config.enable = True
    config.prometheus_config.path = PROMETHEUS_PATH
    return (
        f"# For tensorflow_model_server --monitoring_config_file=monitoring.config. Metrics are at {PROMETHEUS_PATH} on the REST port,\n"
        f"# which is never encrypted: keep it inside the cluster.\n"
        f"{text_format.MessageToString(config)}"
    )


def ssl_config(server_key: str, server_cert: str, custom_ca: str) -> str:
    """`ssl.config` for `--ssl_config_file`, which takes PEM text inline: mutual TLS on the gRPC port.

    Args:
        server_key, server_cert: the server's own, as PEM text.
        custom_ca: certificate of the authority that signs the clients' certificates, as PEM text.
    """
    config = server_protos.SSLConfig(server_key=server_key, server_cert=server_cert, custom_ca=custom_ca, client_verify=True)
    return (
        "# For tensorflow_model_server --ssl_config_file=ssl.config. PEM text stands inline, with \\n for the ends of its lines.\n"
        "# It covers gRPC only: do not publish the REST port, which stays plain.\n"
        f"{text_format.MessageToString(config)}"
    )


def ssl_template() -> str:
    """`ssl.config` without keys: a bundle is no place for them. Copy it, and fill it in outside the bundle."""
    return "# TEMPLATE. Copy it to a place that only the server reads, and put your PEM texts in.\n" + ssl_config(
        _pem("PRIVATE KEY", "the server's private key"),
        _pem("CERTIFICATE", "the server's certificate"),
        _pem("CERTIFICATE", "the authority that signs clients' certificates"),
    )


def serving_files(contracts: Sequence[Contract], labels: Mapping[str, int]) -> dict[str, str]:
    """All files of `serving/`, sealed, for all versions of a bundle.

    Args:
        contracts: one per version.
        labels: version by label.

    Returns:
        Texts by path inside the bundle.
    """
    pairs = {contract.version: contract.fingerprint for contract in contracts}
    texts = (
        models_config(contracts, labels),
        batching_config(max(contract.max_batch_size for contract in contracts)),
        monitoring_config(),
        ssl_template(),
    )
    return {path: seal(text, pairs) for path, text in zip(SERVING_FILES, texts, strict=True)}


def _pem(kind: str, what: str) -> str:
    return f"-----BEGIN {kind}-----\n(PEM text of {what})\n-----END {kind}-----\n"
