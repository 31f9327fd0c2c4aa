"""Looks into a SavedModel before it is loaded: does its graph compute only, or reach for files, the network or Python?

A graph is code. Hashes say that it is the graph that was exported; this says that even a forged one reads and writes nothing
besides its own variables. Reading the graph needs TensorFlow's messages, which are imported when a graph is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_privpart.errors import IntegrityError

# Names of operations with effects beyond their outputs. `.*` covers the versions of a family.
_FORBIDDEN = re.compile(
    r"ReadFile|WriteFile|MatchingFiles|(Eager)?PyFunc(Stateless)?|PrintV2"  # files, Python, and printing, which can go to a file
    r"|.*Reader(V2)?|Reader.*|.*LineDataset|.*RecordDataset.*|.*CSVDataset.*|(Save|Load|Snapshot|Cache|DataService|Generator|Sql).*Dataset.*"
    r"|.*Summary.*Writer|Write.*Summary|Debug(Identity|NumericSummary|NanCount).*"  # logs, and probes that stream to files or hosts
    r"|_?Send|_?Recv|_?Host(Send|Recv)|RemoteCall|Rpc.*|Collective.*|.*GrpcServer.*"  # other machines
    r"|Save|SaveSlices|Restore|RestoreSlice|LoadLibrary"
)
# What a SavedModel's own checkpoint functions use, and nothing else may.
_CHECKPOINT = re.compile(r"SaveV2|RestoreV2|MergeV2Checkpoints")
_TABLE_FROM_FILE = re.compile(r"InitializeTableFromTextFile(V2)?|InitializeTableFromDataset")


def check_saved_model(folder: Path, name: str) -> None:
    """Raises `IntegrityError` if the SavedModel in `folder` holds an operation that does more than compute.

    Args:
        folder: of `saved_model.pb`.
        name: the folder as messages shall call it.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        graphs = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    except (OSError, DecodeError) as error:
        raise IntegrityError(f"Can't read {name}/saved_model.pb: {error}. Copy the bundle again.") from error
    strays = sorted({operation for graph in graphs for operation in _strays(graph)})
    if strays:
        raise IntegrityError(
            f"{name}/saved_model.pb holds the operations {strays}, which reach for files, the network or Python; expected operations that "
            "only compute. Do not load this model. If it is your own, take layers that print, read files or call Python out of it."
        )


def _strays(graph: Any) -> Iterator[str]:
    functions = graph.graph_def.library.function
    saver = {graph.saver_def.save_tensor_name.split(":")[0], graph.saver_def.restore_op_name}
    own = {callee for node in graph.graph_def.node if node.name in saver for callee in _callees(node)}
    elsewhere = [node for node in graph.graph_def.node if node.name not in saver]
    elsewhere += [node for function in functions for node in function.node_def]
    own -= {callee for node in elsewhere for callee in _callees(node)}  # what others call too is no mere checkpoint function
    for function in functions:
        yield from _stray_nodes(function.node_def, checkpoint=function.signature.name in own, assets=bool(graph.asset_file_def))
    yield from _stray_nodes(graph.graph_def.node, checkpoint=False, assets=bool(graph.asset_file_def))


def _stray_nodes(nodes: Any, *, checkpoint: bool, assets: bool) -> Iterator[str]:
    for node in nodes:
        bad = _FORBIDDEN.fullmatch(node.op) or (not checkpoint and _CHECKPOINT.fullmatch(node.op))
        if bad or (not assets and _TABLE_FROM_FILE.fullmatch(node.op)):
            yield node.op


def _callees(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        yield from (f.name for f in (value.func, *value.list.func) if f.name)
