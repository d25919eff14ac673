"""What is wrong with an ONNX file, told before anything of it runs: weights that are not all there, sizes that no memory has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from seqscope.errors import ModelError, quoted

# Numbers of one input, as far as the file fixes its axes, and of any tensor whose size the file tells: more is no real network.
_MOST_IN, _MOST = 2**27, 2**31
# Nodes after functions are put in where they are called: each may call others twice, and so on.
_MOST_NODES = 200_000
# Kinds of less than a byte, by name: older releases of `onnx` have not all of them.
_SMALL = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
# Kinds of numbers that have a field of their own, of one entry each.
_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.STRING: "string_data",
    **dict.fromkeys((TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.UINT8, TensorProto.UINT16), "int32_data"),
    **dict.fromkeys((TensorProto.BOOL, TensorProto.FLOAT16, TensorProto.BFLOAT16), "int32_data"),
}


def check_model(model: ModelProto) -> None:
    """Refuse a model whose weights are not what it says of them, or that grows beyond all bounds.

    Raises
    ------
    ModelError
    """
    if not model.graph.node or not model.graph.output:
        raise ModelError("The graph is empty: it has no nodes, or no output. Export the model again.")
    if model.graph.sparse_initializer:
        raise ModelError("The graph has sparse weights, which are not read: export it with dense ones.")
    for tensor in tensors(model.graph):
        _check_weight(tensor)
    if model.functions:
        _check_functions(model)


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """The weights and constants of a graph, inside of nodes too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == AttributeProto.GRAPH:
                yield from tensors(attribute.g)


def is_kind(number: int) -> bool:
    """Whether ONNX has such a kind of number."""
    return number != TensorProto.UNDEFINED and number in TensorProto.DataType.values()


def _check_weight(tensor: TensorProto) -> None:
    """Refuse a weight that has another size than it says."""
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ModelError(
            f"The weight '{tensor.name}' lies in a file of its own, which was not read with the model: give Scope the path of the model."
        )
    if not is_kind(tensor.data_type):
        raise ModelError(f"The weight '{tensor.name}' holds numbers of no known kind ({tensor.data_type}): export the model again.")
    if min(tensor.dims, default=0) < 0:
        raise ModelError(f"The weight '{tensor.name}' has the shape {list(tensor.dims)}, and no axis is shorter than 0: export it again.")
    wanted, there = _size(tensor)
    if wanted != there:
        raise ModelError(
            f"The weight '{tensor.name}' has the shape {list(tensor.dims)}, which takes {wanted:,} "
            f"{'bytes' if tensor.HasField('raw_data') else 'numbers'}, and the file holds {there:,}: it is damaged; export the model again."
        )


def _size(tensor: TensorProto) -> tuple[int, int]:
    """The size that a weight should have and that it has, in bytes or in numbers; the same where its field is of no plain form."""
    n_numbers = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        if (bits := _SMALL.get(TensorProto.DataType.Name(tensor.data_type))) is None:
            bits = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
        elif bits == 6:  # in bytes of their own, or four in three bytes
            return 0, 0
        return -(-n_numbers * bits // 8), len(tensor.raw_data)
    field = _FIELDS.get(tensor.data_type)
    return (n_numbers, len(getattr(tensor, field))) if field else (0, 0)


def _check_functions(model: ModelProto) -> None:
    """Refuse functions that call each other in a circle, or so often that they fill the memory where they are put in."""
    bodies = {(own.domain, own.name): list(_nodes(own.node)) for own in model.functions}
    calls = {key: [called for node in nodes if (called := (node.domain, node.op_type)) in bodies] for key, nodes in bodies.items()}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise ModelError(
            f"The functions {quoted([name for _, name in error.args[1]], most=4)} of the file call each other in a circle."
        ) from error
    sizes: dict[tuple[str, str], int] = {}
    for key in order:
        sizes[key] = len(bodies[key]) + sum(sizes[called] for called in calls[key])
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in _nodes(model.graph.node))
    if total > _MOST_NODES:
        raise ModelError(f"The graph has {total:,} nodes once its functions are put in, and at most {_MOST_NODES:,} are read.")


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, and those inside of them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _nodes(attribute.g.node)


def check_sizes(inputs: Sequence[str], shapes: Mapping[str, tuple[int | str | None, ...]]) -> None:
    """Refuse tensors of a size that no memory has, as a damaged or hostile file declares them.

    Raises
    ------
    ModelError
    """
    for name, shape in shapes.items():
        sizes = [size for size in shape if isinstance(size, int)]
        most = _MOST_IN if name in inputs else _MOST
        if (name in inputs or len(sizes) == len(shape)) and math.prod(sizes) > most:
            raise ModelError(
                f"The tensor '{name}' is said to have the axes {list(shape)}, more than any memory holds: the file is "
                "damaged; export the model again."
            )
