"""`privpart-keras predict`: query a served bundle from the device's side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from keras_privpart import atomic
from keras_privpart.contract import Contract, dtype_name, larger_than_raw, raw_nbytes
from keras_privpart.errors import DataError
from keras_privpart.serving.client.connecting import KINDS
from keras_privpart.several_inputs import arrays_of, plain

from ..console import emit, import_tensorflow, json_option, progress_bar, say
from ..data_source import DataSource, data_options, data_source

if TYPE_CHECKING:
    import numpy as np

_CHUNK = 256


@click.command(short_help="Query a served bundle: device half here, server half there.")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--server", "servers", multiple=True, default=["localhost:8500"], help="host:port of the server; repeated, the servers take turns."
)
@click.option(
    "--transport",
    type=click.Choice(KINDS),
    default="grpc",
    show_default=True,
    help="How to reach the server: TensorFlow Serving's gRPC or REST; v2 and v2-grpc for servers of the Open Inference Protocol.",
)
@click.option("--rest", is_flag=True, hidden=True, help="--transport rest, as it was called.")
@click.option(
    "--tls", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder with ca.crt, and client.crt and client.key if any."
)
@click.option("--token-file", type=click.File("r"), help="File with a bearer token for the server's proxy; needs --tls.")
@click.option("--version", type=click.IntRange(min=1), help="Version of the model.  [default: the bundle's newest]")
@click.option("--label", help="Ask for the version with this label on the server, such as stable.")
@click.option("--concurrency", type=click.IntRange(min=1), default=4, help="Requests under way at a time.")
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A .npy file of inputs [n, ...], or a .npz file with an array for each of the model's inputs, by its name.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Send only the first so many examples.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, help="Seconds to wait for the server, and for each request."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the answers to this .npy file (.npz for several outputs)."
)
@data_options(required=False)
@json_option
def predict(
    bundle: Path,
    servers: tuple[str, ...],
    transport: str,
    rest: bool,
    tls: Path | None,
    token_file: TextIO | None,
    version: int | None,
    label: str | None,
    concurrency: int,
    input_file: Path | None,
    limit: int | None,
    timeout: float,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run BUNDLE's device half on the test split of a data set (or on a .npy or .npz file), send the boundary, print what comes back.

    \b
    Example:
      privpart-keras predict saved_models/mnist --server localhost:8500 --data mnist --limit 1000
    """
    source = data_source(options)
    if (input_file is None) == (source is None):
        raise click.UsageError("Give the inputs once: --data or --input.")
    if rest:
        say("--rest is deprecated: write --transport rest.")
        transport = "rest"
    from keras_privpart.serving import Client
    from keras_privpart.serving.client.device import needs_tensorflow

    if needs_tensorflow(Contract.load(bundle, version)):
        import_tensorflow()  # here, quietly, and not at all where the device half runs without
    secured: dict[str, Any] = {"tls": tls, "token": None if token_file is None else token_file.read().strip()}
    with Client(bundle, servers, timeout=timeout, version=version, label=label, transport=transport, **secured) as client:
        x, labels = _test(source, client.contract, limit) if input_file is None else (_read(input_file, client.contract)[:limit], None)
        client.wait_for_ready(timeout)
        chunks = (plain(x[start : start + _CHUNK]) for start in range(0, len(x), _CHUNK))
        answers = []
        with progress_bar(len(x), "predict") as bar:
            for answer in client.stream(chunks, concurrency):
                answers.append(answer)
                bar.update(min(_CHUNK, len(x) - _CHUNK * (len(answers) - 1)))
        contract = client.contract
    outputs = _joined(answers, [spec.name for spec in contract.outputs])
    if output is not None:
        _write(output, outputs)
    facts: dict[str, Any] = {
        "examples": len(x),
        "bytes_sent_each": contract.boundary.nbytes,
        "raw_bytes_each": _raw(x),
        "model": contract.name,
        "version": contract.version,
    }
    first = next(iter(outputs.values()))
    if labels is not None and first.ndim == 2:
        facts["accuracy"] = float((first.argmax(axis=-1) == labels).mean())
    emit(as_json, {**facts, "outputs": {key: value.tolist() for key, value in outputs.items()}}, _text(facts, first, ", ".join(servers)))


def _test(source: DataSource | None, contract: Contract, limit: int | None) -> tuple[Any, np.ndarray]:
    assert source is not None  # or there is an --input
    test = source.load_for(contract).test[:limit]
    return test.x, test.targets["task"]


def _raw(x: Any) -> int | None:
    """Bytes of one example as a client without a device half would send it; None for text."""
    sizes = [raw_nbytes((None, *array.shape[1:]), dtype_name(array)) for array in arrays_of(x).values()]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _read(input_file: Path, contract: Contract) -> Any:
    from keras_privpart.datasets import arrays

    return arrays.inputs(input_file, [spec.source for spec in contract.inputs])


def _joined(answers: list[np.ndarray | dict[str, np.ndarray]], names: list[str]) -> dict[str, np.ndarray]:
    import numpy as np

    named = [answer if isinstance(answer, dict) else {names[0]: answer} for answer in answers]
    return {name: np.concatenate([answer[name] for answer in named]) for name in names}


def _write(path: Path, outputs: dict[str, np.ndarray]) -> None:
    import numpy as np

    named: dict[str, Any] = dict(outputs)
    try:
        with atomic.new_file(path) as fresh, fresh.open("wb") as stream:
            np.save(stream, next(iter(outputs.values()))) if len(outputs) == 1 else np.savez(stream, **named)
    except OSError as error:
        raise DataError(f"Can't write {path}: {error.strerror}. Choose a folder that you may write to.") from error


def _text(facts: dict[str, Any], first: np.ndarray, server: str) -> str:
    lines = [f"{facts['examples']} examples answered by {facts['model']} version {facts['version']} at {server}."]
    sent, raw = facts["bytes_sent_each"], facts["raw_bytes_each"]
    lines.append(f"Sent {sent} bytes of boundary for each; {larger_than_raw(sent, raw) or f'the raw input has {raw}'}.")
    if "accuracy" in facts:
        lines.append(f"Accuracy {facts['accuracy']:.4f}.")
    if first.ndim == 2:
        lines.append("First answers, as classes: " + " ".join(str(c) for c in first[:10].argmax(axis=-1)))
    return "\n".join(lines)
