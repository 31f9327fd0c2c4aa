"""TensorFlow Serving's REST interface for the local server: the same URLs, the same JSON, the same HTTP status codes."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from keras_privpart.contract import DEFAULT_SIGNATURE
from keras_privpart.errors import EngineError

from . import open_inference_rest, rest_json
from .servable import Refusal

# As TensorFlow Serving maps its status codes; all others are 500.
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# What `--rest_api_enable_cors_support` sends: any page may ask, with no header of its own but the content's type, so with no token.
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Content-Type",
}
_PATH = re.compile(r"/v1/models/(?P<name>[^/:]+)(?:/(?:versions/(?P<version>\d+)|labels/(?P<label>[^/:]+)))?(?P<what>:predict|/metadata)?")


class RestServer:
    """Answers REST in a thread of its own.

    Args:
        services: what the server can be asked.
        host, port: where to listen; port 0 takes a free one.
        cors: whether pages of other origins may ask.

    Raises:
        EngineError: the port cannot be had.
    """

    def __init__(self, services: Any, host: str, port: int, *, cors: bool = False) -> None:
        handler = type("Handler", (_Handler,), {"services": services, "cors": cors})
        try:
            self._server = _server_class(host)((host.strip("[]"), port), handler)
        except (OSError, OverflowError) as error:
            raise EngineError(f"Can't listen on {host}:{port}: {error}. Choose another port.") from error
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    """Ends its connections when it is closed, as those of a server that is gone end."""

    def __init__(self, *args: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):  # it has just ended by itself
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


def _server_class(host: str) -> type[_Server]:
    """For the family of addresses that `host` is of; `localhost` and other names are looked up by the system."""
    if ":" not in host:
        return _Server
    return type("IPv6Server", (_Server,), {"address_family": socket.AF_INET6})


class _Handler(BaseHTTPRequestHandler):
    services: Any = None
    cors = False
    protocol_version = "HTTP/1.1"
    timeout = 5.0  # of a connection that is kept alive

    def do_GET(self) -> None:
        self._answer(self._get, b"")

    def do_OPTIONS(self) -> None:
        self._answer(self._preflight, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(lambda found: self._predict(found, body), body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # requests are not logged

    def _answer(self, compute: Any, body: bytes) -> None:
        found = _PATH.fullmatch(self.path)
        try:
            if self.path.startswith("/v2/"):
                code, text = 200, open_inference_rest.answer(self.services, self.command, self.path, body)
            elif found is None:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {self.command} {self.path}")
            else:
                code, text = 200, compute(found)
        except Refusal as refusal:
            code, text = HTTP_STATUS.get(refusal.code, 500), json.dumps({"error": refusal.message})
        raw = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in _CORS.items() if self.cors else ():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def _preflight(self, found: re.Match[str]) -> str:
        """What browsers ask before they let a page of another origin post JSON."""
        if not self.cors:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: OPTIONS {self.path}")
        return ""

    def _get(self, found: re.Match[str]) -> str:
        if found["what"] == "/metadata":
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
            _name(request.model_spec, found)
            response = self.services.metadata(request)
            signatures = get_model_metadata_pb2.SignatureDefMap.FromString(response.metadata["signature_def"].value)
            return json.dumps({"model_spec": _as_json(response.model_spec), "metadata": {"signature_def": _as_json(signatures)}}, indent=1)
        if found["what"] is not None:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: GET {self.path}")
        request = get_model_status_pb2.GetModelStatusRequest()
        _name(request.model_spec, found)
        return json.dumps(_as_json(self.services.status(request)), indent=1)

    def _predict(self, found: re.Match[str], body: bytes) -> str:
        if found["what"] != ":predict":
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: POST {self.path}")
        sent = rest_json.parse(body)
        request = predict_pb2.PredictRequest()
        _name(request.model_spec, found)
        request.model_spec.signature_name = sent.get("signature_name", "")
        infos = self._signature(found, request.model_spec.signature_name or DEFAULT_SIGNATURE).inputs
        for alias, tensor in rest_json.read_inputs(sent, infos).items():
            request.inputs[alias].CopyFrom(tensor)
        return rest_json.write_outputs(dict(self.services.predict(request).outputs), by_row="instances" in sent)

    def _signature(self, found: re.Match[str], name: str) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        _name(request.model_spec, found)
        raw = self.services.metadata(request).metadata["signature_def"].value
        signatures = get_model_metadata_pb2.SignatureDefMap.FromString(raw).signature_def
        if name not in signatures:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def')
        return signatures[name]


def _name(spec: Any, found: re.Match[str]) -> None:
    spec.name = found["name"]
    if found["version"] is not None:
        spec.version.value = int(found["version"])
    if found["label"] is not None:
        spec.version_label = found["label"]


def _as_json(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
