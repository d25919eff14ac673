"""Models that compute just the tensors of a graph that are wanted, from tensors that are known.

A tensor inside of an If, a Loop or a Scan is handed out of it: as one more output, which the other branch of an If gives empty.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from seqscope.engines.onnx_proto import graphs, reads

if TYPE_CHECKING:
    from seqscope.engines.onnx_graph import Graph, Node

# What is put behind the name of a tensor that is inside of a node, where it is seen outside.
_SEEN = " (seen)"
# Below it, initializers have to be inputs too.
_LEAST_IR = 4


def part(graph: Graph, known: Collection[str], wanted: Sequence[str], *, shared: Collection[str] | None = None) -> ModelProto:
    """A model that computes tensors.

    Parameters
    ----------
    known : collection of str
        Tensors that are given; what makes them is left out. Inputs of the graph need not be said.
    wanted : sequence of str
        Tensors of any node, as the outputs in this order: of one that is inside a Loop or a Scan, with an axis in front for each, the
        iterations; of one in a branch of an If that was not taken, empty.
    shared : collection of str, optional
        The weights that a session is handed (`Graph.large`); default: all of these.
    """
    tops = {tensor: _at_the_top(graph, tensor) for tensor in wanted}
    chosen, weights, inputs = _needed(graph, set(known), wanted)
    protos = []
    for node in chosen:
        inner = [tensor for tensor, (name, owner) in tops.items() if owner is node and name != tensor]
        protos.append(_handing_out(graph, node, inner) if inner else node.proto)
    infos = [info for info in graph.inputs if info.name in inputs]  # with the sizes that the file declares, which may be all it takes
    given = [name for name in known if name in inputs and name not in {info.name for info in infos}]
    infos += [helper.make_tensor_value_info(name, graph.types.get(name, TensorProto.FLOAT), None) for name in given]
    held = {name: graph.weights[name] for name in graph.weights if name in weights}
    return model_of(graph, protos, infos, [name for name, _ in tops.values()], held, graph.large if shared is None else shared)


def model_of(
    graph: Graph,
    nodes: Iterable[NodeProto],
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[str],
    weights: Mapping[str, TensorProto],
    shared: Collection[str] = (),
) -> ModelProto:
    """A model of these nodes."""
    model = ModelProto()
    model.CopyFrom(graph.frame)
    model.graph.node.extend(nodes)
    model.graph.input.extend(inputs)
    model.graph.output.extend(ValueInfoProto(name=name) for name in outputs)
    model.graph.initializer.extend(_elsewhere(tensor) if name in shared else tensor for name, tensor in weights.items())
    return model


def frame_of(model: ModelProto) -> ModelProto:
    """All of a model but its graph."""
    frame = ModelProto(ir_version=max(model.ir_version, _LEAST_IR), opset_import=model.opset_import)
    frame.graph.name = model.graph.name or "graph"
    return frame


def _at_the_top(graph: Graph, tensor: str) -> tuple[str, Node | None]:
    """What a tensor is called where no node is around it, and the node there that gives it."""
    around = graph.around(tensor)
    if not around or tensor in graph.constants:
        return tensor, graph.producers.get(tensor)
    return f"{tensor}{_SEEN}", around[0][0]


def _needed(graph: Graph, known: set[str], wanted: Iterable[str]) -> tuple[list[Node], set[str], set[str]]:
    """The nodes, weights and inputs that tensors are made from."""
    nodes: set[str] = set()
    weights: set[str] = set()
    inputs: set[str] = set()
    waiting, seen = list(wanted), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in graph.weights:
            weights.add(name)
        elif name in known or (node := _at_the_top(graph, name)[1]) is None:
            inputs.add(name)
        else:
            nodes.add(node.name)
            waiting += reads(node.proto)
    return [node for node in graph.nodes if node.name in nodes], weights, inputs


def _handing_out(graph: Graph, node: Node, tensors: Sequence[str]) -> NodeProto:
    """A copy of a node that gives tensors from inside of it too."""
    proto = NodeProto()
    proto.CopyFrom(node.proto)
    for tensor in tensors:
        around = graph.around(tensor)
        holders = [proto]
        for (_, branch), (inner, _) in itertools.pairwise(around):
            holders.append(next(one for one in graphs(holders[-1])[branch].node if _is_copy(one, inner)))
        name = tensor
        for depth in reversed(range(len(around))):  # from the inside out
            given = f"{tensor}{_SEEN}" if depth == 0 else f"{tensor}{_SEEN} {depth}"
            _hand_out(holders[depth], around[depth][1], name, given, graph.types.get(tensor, TensorProto.FLOAT))
            name = given
    return proto


def _hand_out(holder: NodeProto, branch: str, name: str, given: str, kind: int) -> None:
    """Let a node give a tensor of one of its graphs."""
    inside = f"{given} inside"
    for attribute, graph in graphs(holder).items():
        if attribute == branch:
            graph.node.append(helper.make_node("Identity", [name], [inside]))
        else:
            nothing = helper.make_tensor(inside, kind, [0], [])
            graph.node.append(helper.make_node("Constant", [], [inside], value=nothing))
        n_before = len(graph.output)
        graph.output.append(ValueInfoProto(name=inside))
    missing = n_before - len(holder.output) - (1 if holder.op_type == "Loop" else 0)  # a Loop's first output says whether to go on
    holder.output.extend([""] * missing)
    holder.output.append(given)
    for own in holder.attribute:  # a Scan says how the steps of each output are put together
        if own.name in ("scan_output_axes", "scan_output_directions"):
            own.ints.append(0)


def _is_copy(proto: NodeProto, node: Node) -> bool:
    """Whether a node of a copied graph, which may give more by now, is the copy of a node."""
    n_outputs = len(node.outputs)
    return proto.op_type == node.op and list(proto.input) == node.inputs and list(proto.output)[:n_outputs] == node.outputs


def _elsewhere(tensor: TensorProto) -> TensorProto:
    """A weight without its numbers, which a session is handed."""
    there = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL)
    there.external_data.add(key="location", value="in memory")
    return there
