"""ONNX's protobufs: what a node reads and gives, the graphs inside of it, and names that are each in one graph alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from seqscope.errors import ModelError


def shape_of(info: ValueInfoProto) -> tuple[int | str | None, ...]:
    """The axes of a tensor as the file declares them: a size, a name, or None; some write 0 or -1 for a size that is open."""
    dims = info.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in dims)


def array_of(tensor: TensorProto) -> np.ndarray:
    """A weight as an array.

    Raises
    ------
    ModelError
        The file holds other bytes than its shape takes.
    """
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise ModelError(f"The weight '{tensor.name}' can't be read as {list(tensor.dims)} numbers: {error}") from error


def graphs(proto: NodeProto) -> dict[str, GraphProto]:
    """The graphs that a node holds, by the attribute."""
    return {attribute.name: attribute.g for attribute in proto.attribute if attribute.type == AttributeProto.GRAPH}


def given(graph: GraphProto) -> set[str]:
    """The tensors that a graph gives or holds, graphs inside of it aside."""
    return {name for node in graph.node for name in node.output} | {own.name for own in (*graph.initializer, *graph.input)}


def all_given(graph: GraphProto) -> Iterator[str]:
    """The tensors that nodes give, inside of nodes too, one by one."""
    for node in graph.node:
        yield from (name for name in node.output if name)
        for inner in graphs(node).values():
            yield from (own.name for own in (*inner.initializer, *inner.input))
            yield from all_given(inner)


def reads(proto: NodeProto) -> set[str]:
    """The tensors that a node reads, by what is inside of it too."""
    found = {name for name in proto.input if name}
    for graph in graphs(proto).values():
        inner = {name for node in graph.node for name in reads(node)} | {info.name for info in graph.output}
        found |= inner - given(graph)
    return found - {""}


def all_infos(graph: GraphProto) -> Iterator[ValueInfoProto]:
    """What is declared of tensors, inside of nodes too."""
    yield from (*graph.input, *graph.output, *graph.value_info)
    for node in graph.node:
        for inner in graphs(node).values():
            yield from all_infos(inner)


def name_apart(graph: GraphProto, times: Counter[str], taken: set[str]) -> None:
    """Give tensors inside of nodes names that no other graph's have: both branches of an If may use the same."""
    for proto in graph.node:
        for branch, inner in graphs(proto).items():
            own = [name for name in given(inner) if name]
            clash = {name: f"{name} ({proto.output[0]}.{branch})" for name in own if times[name] > 1 and name in taken}
            taken.update(own)
            if clash:
                rename(inner, clash)
            name_apart(inner, times, taken)


def taken_out(graph: GraphProto) -> list[TensorProto]:
    """The weights inside of nodes, taken out of there."""
    found: list[TensorProto] = []
    for node in graph.node:
        for inner in graphs(node).values():
            found += [*inner.initializer, *taken_out(inner)]
            del inner.initializer[:]
    return found


def rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors in a graph and what is inside of its nodes."""
    for own in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        own.name = names.get(own.name, own.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = names.get(name, name)
        for inner in graphs(node).values():
            own_names = given(inner)
            rename(inner, {name: new for name, new in names.items() if name not in own_names})
