"""Files for servers of the Open Inference Protocol: valid by the schemas that can be had, and fitting the bundle that they serve."""

import importlib
import json
import re

import pytest

import keras_privpart as kp
from keras_privpart.serving.open_inference.v2_messages import V2_METHODS
from keras_privpart.serving.servers.deployment import write_deployment

yaml = pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def root(onnx_bundle, parts, other_parts, tmp_path_factory):
    """Three versions, the second without an ONNX half; the third takes more examples a request."""
    root = tmp_path_factory.mktemp("versions") / "mnist"
    for version, half, form, most in ((1, parts, "onnx", 4), (2, other_parts, "saved_model", 64), (3, other_parts, "onnx", 8)):
        kp.export(half, root, version=version, server_format=form, max_batch_size=most)
    return root


@pytest.fixture(scope="module")
def written(root, tmp_path_factory):
    return write_deployment(root, tmp_path_factory.mktemp("deploy") / "mnist", replicas=3).folder / "open-inference"


def read(written, name):
    return yaml.safe_load((written / name).read_text())


def test_they_are_there_where_a_version_has_an_onnx_half(written, bundle, tmp_path):
    assert {path.name for path in written.iterdir()} == {"Dockerfile", "compose.yaml", "config.pbtxt", "envoy.yaml", "kserve.yaml"}
    assert not [name for name in write_deployment(bundle.path, tmp_path / "d").files if "open-inference" in name]


def test_triton_reads_its_configuration(written):
    """By Triton's own message."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc], and with it protobuf 6")
    text = (written / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config.ModelConfig())
    assert (config.name, config.backend, config.default_model_filename) == ("mnist", "onnxruntime", "model.onnx")
    assert (config.max_batch_size, config.version_policy.WhichOneof("policy_choice")) == (8, "all")
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert not config.input, "the outputs' names differ from version to version"
    assert not config.output
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace("backend", "backendd"), model_config.ModelConfig())


def test_triton_may_join_requests(root):
    """It does where the first dimension of every input and output is free."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(root / "server/3/model.onnx"))
    assert all(not isinstance(tensor.shape[0], int) for tensor in (*session.get_inputs(), *session.get_outputs()))


def test_triton_finds_a_model_repository(written, root):
    """Folders of versions beside config.pbtxt, none mounted inside another, each with its model; no version without one."""
    mounts = read(written, "compose.yaml")["services"]["server"]["volumes"]
    assert [mount["target"] for mount in mounts] == [f"/models/mnist/{name}" for name in ("config.pbtxt", "1", "3")]
    assert all(mount["read_only"] for mount in mounts)
    assert (written / mounts[0]["source"]).is_file()
    for mount in mounts[1:]:
        relative, version = re.fullmatch(r"\$\{BUNDLE:-(.+)\}(/server/.+)", mount["source"]).groups()
        assert (written / relative).resolve() == root.resolve()
        assert (root / version[1:] / "model.onnx").is_file()


def test_compose_is_valid(written, compose_schema):
    compose = read(written, "compose.yaml")
    compose_schema.validate(compose)
    assert compose["services"]["server"]["deploy"]["replicas"] == 3
    assert "ports" not in compose["services"]["server"], "only the proxy is reached from outside"
    assert compose["networks"]["inside"] == {"internal": True}


def test_the_proxy_lets_a_clients_calls_through_alone(written):
    envoy = read(written, "envoy.yaml")["static_resources"]
    chain = envoy["listeners"][0]["filter_chains"][0]
    assert chain["transport_socket"]["typed_config"]["require_client_certificate"] is True
    routes = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
    assert {route["match"]["path"] for route in routes} == {method.path for method in V2_METHODS}
    [end] = envoy["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    port = end["endpoint"]["address"]["socket_address"]["port_value"]
    assert str(port) in read(written, "compose.yaml")["services"]["server"]["expose"]


def test_kserve_holds_a_valid_pod_that_finds_every_model(written, root):
    """KServe's own schema cannot be had as a package: the pod in it is checked as a pod. MLServer itself: test_mlserver.py."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    config, service = yaml.safe_load_all((written / "kserve.yaml").read_text())
    kubernetes_validate.validate(config, "1.35", strict=True)
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    assert {key: predictor.pop(key) for key in ("minReplicas", "maxReplicas", "timeout")} == {
        "minReplicas": 3,
        "maxReplicas": 15,
        "timeout": 60,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": service["metadata"], "spec": predictor}
    kubernetes_validate.validate(pod, "1.35", strict=True)
    volumes = {volume["name"]: volume for volume in predictor["volumes"]}
    items = volumes["config"]["configMap"]["items"]
    assert (volumes["config"]["configMap"]["name"], {item["key"] for item in items}) == (config["metadata"]["name"], set(config["data"]))
    mounts = {mount["name"]: mount["mountPath"] for mount in predictor["containers"][0]["volumeMounts"]}
    assert mounts["config"] in (written / "Dockerfile").read_text()
    settings = {item["path"]: json.loads(config["data"][item["key"]]) for item in items}
    assert list(settings) == ["settings.json", "1/model-settings.json", "3/model-settings.json"]
    for model in list(settings.values())[1:]:
        module, name = model["implementation"].rsplit(".", 1)
        assert (module.rsplit(".", 1)[1], name, model["name"]) == ("mlserver_runtime", "OnnxModel", "mnist")
        assert importlib.util.find_spec(module) is not None
        assert (root / "server" / model["parameters"]["uri"].removeprefix(f"{mounts['server']}/")).is_file()
        assert model["parameters"]["uri"].split("/")[-2] == model["parameters"]["version"]


def test_a_changed_onnx_half_is_not_deployed(root, tmp_path):
    file = root / "server/1/model.onnx"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    try:
        with pytest.raises(kp.errors.IntegrityError, match=r"server/1/model\.onnx"):
            write_deployment(root, tmp_path / "d")
    finally:
        file.write_bytes(raw)
    assert list(tmp_path.iterdir()) == []
