"""ONNX models from files and sessions: nothing in a file can run, and no other file is read than weights in its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, external_data_helper

from seqscope.engines.onnx_checks import tensors
from seqscope.errors import ModelError

# Under which the file's name is kept in the model.
_FILE = "file"
# Names of graphs that say nothing: those that exporters give to all.
_ANY = ("", "graph", "main_graph", "main", "model", "torch_jit", "torch-jit-export", "g")


def open_file(path: Path, *, trust: bool = False, custom_objects: Mapping[str, Any] | None = None) -> ModelProto:
    """Read an ONNX file with all its weights, those in files of their own too.

    Raises
    ------
    ModelError
        It is no ONNX file, was cut short, or names a weights file that is missing or lies outside of its folder.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"'{path}' can't be read as ONNX: it is another kind of file, or was cut short. Export or copy it again."
        ) from error
    except OSError as error:
        raise ModelError(f"'{path}' can't be read: {error}") from error
    if not model.graph.node:
        raise ModelError(f"'{path}' holds no ONNX graph: it is empty, another kind of file, or was cut short. Export or copy it again.")
    if not _names_are_text(model.graph):
        raise ModelError(f"'{path}' is damaged: names in it are no text. Export or copy it again.")
    for tensor in tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            _load_beside(tensor, path)
    model.metadata_props.add(key=_FILE, value=path.stem)
    return model


def _load_beside(tensor: TensorProto, path: Path) -> None:
    """Read a weight that lies in a file of its own."""
    folder, said = path.resolve().parent, ""
    try:
        said = external_data_helper.ExternalDataInfo(tensor).location
        there = (folder / said).resolve()
        is_file = there.is_file()
    except (ValueError, OSError) as error:
        raise ModelError(f"'{path}' does not say where its weight '{tensor.name}' lies ({error}): export it again.") from error
    if Path(said).is_absolute() or not there.is_relative_to(folder):
        raise ModelError(
            f"'{path}' says that its weight '{tensor.name}' lies in '{said}', which is outside of its own folder: that is not read. "
            "Put the file with the weights beside the model and export it so."
        )
    if not is_file:
        raise ModelError(
            f"The weight '{tensor.name}' of '{path}' lies in a file of its own, '{said}', and that is not beside it: copy both."
        )
    try:
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    except Exception as error:
        raise ModelError(f"The weight '{tensor.name}' of '{path}' can't be read from '{said}': {' '.join(str(error).split())}") from error
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _names_are_text(graph: GraphProto) -> bool:
    """Whether every name in a graph can be read, inside of nodes too: what is no UTF-8 comes as bytes, or as an exception."""
    try:
        named = [graph.name, *(own.name for own in (*graph.initializer, *graph.input, *graph.output, *graph.value_info))]
        for node in graph.node:
            named += [node.name, node.op_type, node.domain, *node.input, *node.output, *(attribute.name for attribute in node.attribute)]
            if not all(_names_are_text(attribute.g) for attribute in node.attribute if attribute.type == AttributeProto.GRAPH):
                return False
    except UnicodeDecodeError:
        return False
    return all(isinstance(name, str) for name in named)


def model_of(model: Any) -> tuple[ModelProto, list[Any] | None, str]:
    """The graph of what a person gave, what it runs on where they said so, and a name for it.

    Raises
    ------
    ModelError
        A session does not tell which file it was made from.
    """
    if not isinstance(model, onnxruntime.InferenceSession):
        return model, None, _name_of(model)
    path = getattr(model, "_model_path", None)
    data = getattr(model, "_model_bytes", None)
    if path:
        proto = open_file(Path(path))
    elif data:
        proto = ModelProto.FromString(data)
    else:
        raise ModelError("The session does not tell which file it was made from: give Scope the path of the ONNX file.")
    return proto, list(model.get_providers()), _name_of(proto)


def _name_of(model: ModelProto) -> str:
    """What a model is called: by its graph, else by its file."""
    name = str(model.graph.name)
    files = [own.value for own in model.metadata_props if own.key == _FILE]
    return files[-1] if files else name if name.lower() not in _ANY else "onnx model"


def load_weights(model: Any, path: Path, *, trust: bool = False) -> None:
    """Refuse: an ONNX file holds its weights.

    Raises
    ------
    ModelError
    """
    raise ModelError(f"An ONNX model holds its weights: '{path}' can't be filled into it. Export the model again with these weights.")
