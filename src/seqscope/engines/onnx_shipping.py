"""ONNX models for another process: their nodes and weights, and the bytes of the file with the function that feeds them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto

from seqscope.engines.base import Packed
from seqscope.engines.onnx_files import model_of
from seqscope.engines.onnx_graph import Graph
from seqscope.engines.onnx_proto import array_of
from seqscope.engines.onnx_session import session_options
from seqscope.engines.shipping import dumped


def contents(graph: Graph) -> Iterator[str | np.ndarray]:
    """A graph's operators, nodes and weights: not what the file says of who wrote it, nor how it is called."""
    for opset in graph.frame.opset_import:
        yield f"{opset.domain} {opset.version}"
    yield " ".join([*(info.name for info in graph.inputs), "->", *graph.outputs])
    for node in graph.nodes:
        yield np.frombuffer(node.proto.SerializeToString(deterministic=True), np.uint8)
    for name, tensor in graph.weights.items():
        yield name
        yield array_of(tensor)


def packed(model: Any, proto: ModelProto, call: Any) -> Packed:
    """A model, or the session that runs it, and the function that feeds it.

    Parameters
    ----------
    model : ModelProto or onnxruntime.InferenceSession
    proto : ModelProto
        Its graph, with the weights in it.
    """

    def reduced(value: Any) -> Any:
        if isinstance(value, ModelProto):
            return ModelProto.FromString, (value.SerializeToString(),)
        if isinstance(value, onnxruntime.InferenceSession):
            graph = proto if value is model else model_of(value)[0]
            return _session, (graph.SerializeToString(), value.get_providers())
        return NotImplemented

    return Packed("onnx_shipping", dumped((model, call), reduced))


def opened(data: bytes) -> tuple[Any, Any]:
    """The same again."""
    model, call = pickle.loads(data)
    return model, call


def _session(data: bytes, providers: list[str]) -> Any:
    here = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(data, session_options(), providers=[name for name in providers if name in here])
