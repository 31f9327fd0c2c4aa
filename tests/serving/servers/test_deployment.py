"""Deployment files: valid by the official schemas, and saying what they must say."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from keras_privpart import errors
from keras_privpart.serving.servers.deployment import object_name, write_deployment

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

KUBERNETES = ("1.31", "1.35")  # of the schemas that kubernetes-validate brings


@pytest.fixture(scope="module")
def written(bundle, tmp_path_factory):
    return write_deployment(bundle.path, tmp_path_factory.mktemp("deploy") / "faces", replicas=3).folder


@pytest.fixture(scope="module")
def objects(written):
    """Kubernetes' objects by kind."""
    found = {}
    for document in yaml.safe_load_all((written / "kubernetes.yaml").read_text()):
        assert document["kind"] not in found
        found[document["kind"]] = document
    return found


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_objects_are_valid(objects, version):
    kinds = {"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"}
    assert set(objects) == kinds | {"HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    for document in objects.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_finds_faults(objects):
    broken = json.loads(json.dumps(objects["Deployment"]))
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES[0], strict=True)


def test_kserve_holds_a_valid_pod_and_a_canary(written, objects):
    """KServe's own schema cannot be had as a package: the pod in it is checked as a pod, the rest by what KServe documents."""
    service = yaml.safe_load((written / "kserve.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    predictor = service["spec"]["predictor"]
    own = {key: predictor.pop(key) for key in ("minReplicas", "maxReplicas", "canaryTrafficPercent", "timeout")}
    assert own == {"minReplicas": 3, "maxReplicas": 15, "canaryTrafficPercent": 10, "timeout": 60}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": service["metadata"], "spec": predictor}
    kubernetes_validate.validate(pod, KUBERNETES[0], strict=True)
    assert [port["name"] for port in predictor["containers"][0]["ports"]] == ["h2c"]  # Knative's word for gRPC
    claimed = {volume["name"]: volume for volume in predictor["volumes"]}
    assert claimed["server"]["persistentVolumeClaim"]["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"]
    assert claimed["config"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]


def test_compose_is_valid(written, compose_schema):
    compose = yaml.safe_load((written / "compose.yaml").read_text())
    compose_schema.validate(compose)
    assert not compose_schema.is_valid({**compose, "servers": {}})
    assert compose["services"]["server"]["deploy"]["replicas"] == 3
    assert "ports" not in compose["services"]["server"], "only the proxy is reached from outside"


def test_the_proxy_asks_for_certificates_and_lets_a_clients_calls_through_alone(written):
    """Envoy's schemas are its binary's; what is checked here is what the file must say."""
    from keras_privpart.serving.wire.transport import METHODS

    envoy = yaml.safe_load((written / "envoy.yaml").read_text())["static_resources"]
    chain = envoy["listeners"][0]["filter_chains"][0]
    tls = chain["transport_socket"]["typed_config"]
    assert tls["require_client_certificate"] is True
    assert tls["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": "/keys/ca.crt"}}
    routes = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
    assert {route["match"]["path"] for route in routes} == {method.path for method in METHODS}
    assert {route["route"]["cluster"] for route in routes} == {envoy["clusters"][0]["name"]}
    assert envoy["clusters"][0]["health_checks"][0]["grpc_health_check"] == {}
    assert "http2_protocol_options" in json.dumps(envoy["clusters"])
    assert "retry" not in json.dumps(envoy)


def web_filters(written):
    envoy = yaml.safe_load((written / "envoy-web.yaml").read_text())["static_resources"]
    manager = envoy["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return envoy, manager, {one["name"].rsplit(".", 1)[1]: one["typed_config"] for one in manager["http_filters"]}


def test_browsers_need_a_token_and_an_origin_that_is_named(written):
    envoy, manager, filters = web_filters(written)
    assert list(filters) == ["cors", "jwt_authn", "grpc_web", "router"], "a preflight carries no token"
    checked = filters["jwt_authn"]
    assert checked["rules"] == [{"match": {"prefix": "/"}, "requires": {"provider_name": "users"}}]
    assert checked["providers"]["users"]["local_jwks"] == {"filename": "/keys/jwks.json"}
    assert checked["providers"]["users"]["require_expiration"] is True
    assert checked["bypass_cors_preflight"] is True
    [host] = manager["route_config"]["virtual_hosts"]
    cors = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert cors["allow_origin_string_match"] == [{"exact": "https://www.example.com"}]
    assert {"authorization", "content-type", "x-grpc-web"} <= set(cors["allow_headers"].split(", "))
    assert envoy["listeners"][0]["filter_chains"][0]["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    assert {cluster["name"]: cluster_port(cluster) for cluster in envoy["clusters"]} == {"rest": 8501, "grpc": 8500}


def cluster_port(cluster):
    [end] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    return end["endpoint"]["address"]["socket_address"]["port_value"]


def test_browsers_reach_a_clients_calls_and_no_others(written, bundle):
    from keras_privpart.serving.wire.transport import METHODS

    routes = web_filters(written)[1]["route_config"]["virtual_hosts"][0]["routes"]
    assert {route["match"]["path"] for route in routes if "path" in route["match"]} == {method.path for method in METHODS}
    [pattern] = [route["match"]["safe_regex"]["regex"] for route in routes if "safe_regex" in route["match"]]
    of_model = f"/v1/models/{bundle.name}"
    for path in ("", "/versions/1:predict", ":predict", "/labels/stable:predict", "/metadata", "/versions/2/metadata"):
        assert re.fullmatch(pattern, of_model + path), path
    for path in (
        "/monitoring/prometheus/metrics",
        "/v1/models/other:predict",
        f"{of_model}:classify",
        f"{of_model}/versions/1/x:predict",
        "/",
    ):
        assert not re.fullmatch(pattern, path), path


@pytest.mark.parametrize("name", ["envoy.yaml", "envoy-web.yaml"])
def test_envoy_knows_every_field(name, written):
    """By Envoy's own messages, the extensions' too; what it would make of the values only Envoy can tell."""
    from google.protobuf import json_format

    bootstrap = pytest.importorskip("envoy.config.bootstrap.v3.bootstrap_pb2", reason="found no xds-protos: pip install xds-protos")
    text = (written / name).read_text()
    for module in (
        "transport_sockets.tls.v3.tls_pb2",
        "filters.network.http_connection_manager.v3.http_connection_manager_pb2",
        "filters.http.router.v3.router_pb2",
        "filters.http.cors.v3.cors_pb2",
        "filters.http.jwt_authn.v3.config_pb2",
        "filters.http.grpc_web.v3.grpc_web_pb2",
        "upstreams.http.v3.http_protocol_options_pb2",
    ):
        importlib.import_module(f"envoy.extensions.{module}")
    read = json_format.ParseDict(yaml.safe_load(text), bootstrap.Bootstrap())
    assert len(read.static_resources.listeners) == 1
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(yaml.safe_load(text.replace("stat_prefix", "stat_prefixx")), bootstrap.Bootstrap())


def flags_of(written, objects):
    compose = yaml.safe_load((written / "compose.yaml").read_text())
    kserve = yaml.safe_load((written / "kserve.yaml").read_text())
    containers = (objects["Deployment"]["spec"]["template"]["spec"]["containers"][0], kserve["spec"]["predictor"]["containers"][0])
    wrapped = [container["command"] for container in containers]
    assert wrapped[0] == wrapped[1]
    assert all("args" not in container for container in containers)
    return compose["services"]["server"]["command"], *(command[4:] for command in wrapped)


def test_every_server_is_started_alike(written, objects):
    first, *others = flags_of(written, objects)
    assert all(other == first for other in others)
    for needed in ("--port=8500", "--model_config_file=/config/models.config", "--enable_grpc_healthcheck_service=true"):
        assert needed in first
    named = {re.search("/config/(.+)$", flag).group(1) for flag in first if "/config/" in flag}
    assert named == {path.name for path in (written / "config").iterdir()} == set(objects["ConfigMap"]["data"])


# Stands for TensorFlow Serving: no handler for SIGTERM, which process 1 then does not hear.
DEAF = """#!/bin/sh
echo "$@" > "$0.args"
echo ready
exec sleep 60
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, of util-linux")
def test_a_stopped_container_ends_at_once(written, objects, tmp_path):
    """The command as process 1 of a process namespace of its own, as in a container."""
    server = tmp_path / "tensorflow_model_server"
    server.write_text(DEAF)
    server.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces here")
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    waits = {}
    for name, command in (("alone", ["tensorflow_model_server"]), ("wrapped", container["command"])):
        with subprocess.Popen([*unshare, *command], env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            [first] = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
            os.kill(int(first), signal.SIGTERM)
            try:
                waits[name] = process.wait(1.5 if name == "alone" else 20)
            except subprocess.TimeoutExpired:
                waits[name] = None
            process.kill()
    assert waits == {"alone": None, "wrapped": 143}
    assert Path(f"{server}.args").read_text().split() == container["command"][4:]


def test_pods_have_time_to_leave_and_containers_an_init(written, objects):
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    seconds = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert 5 < seconds < pod["terminationGracePeriodSeconds"]
    assert yaml.safe_load((written / "compose.yaml").read_text())["services"]["server"]["init"] is True


def test_the_configuration_is_the_bundles(written, objects, bundle):
    for name, text in objects["ConfigMap"]["data"].items():
        own = (bundle.path / "serving" / name).read_text()
        assert (written / "config" / name).read_text() == own
        assert text.rstrip() == own.rstrip()
    assert "/models/faces" in objects["ConfigMap"]["data"]["models.config"]


def test_servers_see_the_server_folder_alone(written, bundle):
    compose = yaml.safe_load((written / "compose.yaml").read_text())
    mounts = compose["services"]["server"]["volumes"]
    assert [mount["target"] for mount in mounts] == ["/models/faces", "/config"]
    assert all(mount["read_only"] for mount in mounts)
    relative = re.fullmatch(r"\$\{BUNDLE:-(.+)\}/server", mounts[0]["source"]).group(1)
    assert (written / relative).resolve() == bundle.path.resolve()
    for path in written.rglob("*"):
        if path.is_file():
            assert str(bundle.path) not in path.read_text(), "no path of this machine"


def test_only_labelled_clients_and_the_monitoring_get_in(objects):
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["egress"] == []
    assert [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]] == [[8500], [8501]]
    assert all(rule["from"] for rule in policy["ingress"])


def test_the_dashboard_asks_for_metrics_that_exist(written):
    prometheus_client = pytest.importorskip("prometheus_client")
    from keras_privpart.serving import PrometheusMetrics

    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    metrics.record("Predict", 0.1, 1, 1, "ServingError")
    own = {sample.name for family in registry.collect() for sample in family.samples}
    dashboard = json.loads((written / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 8
    named = set(re.findall(r"privpart_client_\w+", " ".join(asked)))
    assert named
    assert named <= own
    servers = {
        ":tensorflow:serving:request_count",
        ":tensorflow:serving:request_latency_bucket",
        ":tensorflow:serving:runtime_latency_bucket",
    }
    assert set(re.findall(r":tensorflow:[\w:]+", " ".join(asked))) == servers
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("faces", "faces"), ("My_Model.v2", "my-model-v2"), ("8bit", "model-8bit"), ("a" * 128, "a" * 50), ("x-", "x"), ("9", "model-9")],
)
def test_names_of_objects(name, expected):
    assert object_name(name) == expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"replicas": 0}, "Received replicas=0; expected a whole number from 1"),
        ({"image": "a\n- --evil"}, "expected a docker image"),
    ],
)
def test_bad_arguments_leave_nothing(bundle, tmp_path, options, text):
    with pytest.raises(errors.EngineError, match=text):
        write_deployment(bundle.path, tmp_path / "d", **options)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(bundle, written, tmp_path):
    with pytest.raises(errors.EngineError, match="is there already"):
        write_deployment(bundle.path, written)
    with pytest.raises(errors.EngineError, match="is inside the bundle"):
        write_deployment(bundle.path, bundle.path / "serving/deploy")
    assert not (bundle.path / "serving/deploy").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.EngineError, match="Can't write"):
        write_deployment(bundle.path, tmp_path / "file/d")
    assert os.listdir(tmp_path) == ["file"]
