"""An ONNX graph as data: its nodes, those inside If, Loop and Scan too, and what each tensor is made from.

The file's own protobuf is never changed. What runs are parts put together from its nodes (see `onnx_parts`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx.inliner
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from seqscope.engines import onnx_parts
from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_checks import check_model, check_sizes, is_kind
from seqscope.engines.onnx_proto import all_given, all_infos, array_of, given, graphs, name_apart, reads, shape_of, taken_out
from seqscope.errors import ModelError, quoted

_SAMPLES = "samples of seqscope"
# What runs the graph that is inside of it again and again.
LOOPS = ("Loop", "Scan")
# What gives the shape of what comes in and nothing of its values.
_SHAPE_ALONE = ("Shape", "Size")
# What takes the shape of what it gives from its further inputs.
_SHAPED = ("ConstantOfShape", "Expand", "Pad", "Reshape", "Slice", "Squeeze", "Tile", "Unsqueeze")
# What draws random numbers.
DRAWS = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
# Weights of so many numbers and more are handed to every session as they lie in memory, instead of being copied into each.
_SHARED_FROM = 256
# The kinds of numbers that a session takes from NumPy's memory.
_SHAREABLE = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
)


@dataclass(frozen=True, eq=False)
class Node:
    """One node.

    Attributes
    ----------
    name : str
        Its own name; the first tensor that it gives where it has none; what is around it in front where two have the same.
    proto : NodeProto
    around : tuple of (Node, str)
        The nodes that it is inside of, outermost first, each with the attribute that holds it: "then_branch", "body".
    """

    name: str
    proto: NodeProto
    around: tuple[tuple[Node, str], ...] = ()

    @property
    def op(self) -> str:
        """The operator."""
        return str(self.proto.op_type)

    @property
    def inputs(self) -> list[str]:
        """The tensors that it reads; "" where one is left out."""
        return list(self.proto.input)

    @property
    def outputs(self) -> list[str]:
        """The tensors that it gives; "" where one is left out."""
        return list(self.proto.output)

    @property
    def value(self) -> str:
        """The first tensor that it gives."""
        return next((name for name in self.proto.output if name), "")

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value; text as str."""
        for attribute in self.proto.attribute:
            if attribute.name == name and not attribute.ref_attr_name:
                value = helper.get_attribute_value(attribute)
                if isinstance(value, list):
                    return [item.decode() if isinstance(item, bytes) else item for item in value]
                return value.decode() if isinstance(value, bytes) else value
        return default

    def input(self, place: int) -> str:
        """The tensor that is read at a place; "" where there is none."""
        return self.inputs[place] if place < len(self.inputs) else ""

    def output(self, place: int) -> str:
        """The tensor that is given at a place; "" where there is none."""
        return self.outputs[place] if place < len(self.outputs) else ""


class Graph:
    """A model's graph.

    Parameters
    ----------
    model : ModelProto
        With its weights in it.

    Raises
    ------
    ModelError
        A tensor is read that nothing gives, two nodes give the same one, nodes go round in a circle, or sizes are wrong.
    """

    def __init__(self, model: ModelProto) -> None:
        check_model(model)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        self.frame = onnx_parts.frame_of(model)
        top = GraphProto(node=model.graph.node)
        _give_every_step(top)
        outer = [own.name for own in model.graph.initializer]
        outer += [info.name for info in model.graph.input if info.name not in outer]
        name_apart(top, Counter([*all_given(top), *outer]), {*outer, *given(top)})
        # An initializer may be an input too, whose default it is. Those inside of nodes serve as well outside.
        weights = [*model.graph.initializer, *taken_out(top)]
        self.weights = {tensor.name: tensor for tensor in weights}
        self.inputs = tuple(_with_open_axes(info) for info in model.graph.input if info.name not in self.weights)
        self.outputs = tuple(dict.fromkeys(info.name for info in model.graph.output))
        self._refuse_twice(top, [tensor.name for tensor in weights])
        self._ordered(top)
        self.nodes = tuple(_named(_walk(top, ())))
        self.producers: Mapping[str, Node] = {tensor: node for node in self.nodes for tensor in node.outputs if tensor}
        self._evaluated: dict[str, np.ndarray] = {}
        check_sizes([info.name for info in self.inputs], self.shapes)

    # What is wrong with it

    def _refuse_twice(self, top: GraphProto, weights: list[str]) -> None:
        there = Counter([*(name for node in top.node for name in node.output if name), *weights, *(info.name for info in self.inputs)])
        twice = [name for name, times in there.items() if times > 1]
        if twice:
            raise ModelError(f"The graph gives {quoted(twice)} more than once, and each tensor can come from one place alone.")

    def _ordered(self, top: GraphProto) -> None:
        """Put the nodes in the order in which they can run."""
        there = {*self.weights, *(info.name for info in self.inputs)}
        made = {name for node in top.node for name in node.output}
        waiting, ready = list(top.node), []
        while waiting:
            late = []
            for node in waiting:
                read = reads(node)
                lost = sorted(read - there - made)
                if lost:
                    raise ModelError(
                        f"The node '{node.name or node.output[0]}' ({node.op_type}) reads {quoted(lost)}, which nothing in the file "
                        "gives: a weight is missing, or the file was cut short; export the model again."
                    )
                if read <= there:
                    ready.append(node)
                    there.update(node.output)
                else:
                    late.append(node)
            if len(late) == len(waiting):
                names = quoted([node.name or node.output[0] for node in late], most=4)
                raise ModelError(f"The graph goes round in a circle through {names}, so nothing can be computed: export the model again.")
            waiting = late
        missing = [name for name in self.outputs if name not in there]
        if missing:
            raise ModelError(f"The graph's output {quoted(missing)} is given by no node: export the model again.")
        if ready != list(top.node):
            ordered = GraphProto(node=ready)
            top.CopyFrom(ordered)

    # What is known of its tensors

    @cached_property
    def types(self) -> Mapping[str, int]:
        """The kind of number that each tensor holds (`TensorProto.FLOAT`, ...), where it can be told."""
        kinds = {name: info.type.tensor_type.elem_type for name, info in self._infos.items()}
        return {name: kind for name, kind in kinds.items() if is_kind(kind)}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int | str | None, ...]]:
        """The axes of each tensor, where they can be told: a size, the name that the file has for one, or None."""
        with_shape = {name: info for name, info in self._infos.items() if info.type.tensor_type.HasField("shape")}
        return {name: shape_of(info) for name, info in with_shape.items()} | {
            name: tuple(tensor.dims) for name, tensor in self.weights.items()
        }

    @cached_property
    def _infos(self) -> Mapping[str, ValueInfoProto]:
        try:
            inferred = onnx.shape_inference.infer_shapes(self._whole(self.inputs))
        except Exception:  # an operator that onnx does not know, say: the kinds that the file tells are all there is
            inferred = self._whole(self.inputs)
        infos = {info.name: info for info in all_infos(inferred.graph)}
        return infos | {tensor.name: helper.make_tensor_value_info(tensor.name, tensor.data_type, None) for tensor in self.weights.values()}

    @cached_property
    def constants(self) -> frozenset[str]:
        """The tensors that are the same whatever goes in: weights, and what is made of weights alone."""
        found = set(self.weights)
        for node in self.nodes:  # in the order in which they run
            if node.op not in DRAWS and not graphs(node.proto) and all(name in found for name in node.inputs if name):
                found.update(name for name in node.outputs if name)
        return frozenset(found)

    @cached_property
    def following(self) -> frozenset[str]:
        """The tensors that follow the values of what goes in, not its shape alone."""
        found = {info.name for info in self.inputs}
        for node in self.nodes:  # what is inside of one stands behind it
            if node.op not in _SHAPE_ALONE and reads(node.proto) & found:
                found.update(node.outputs)
                if node.op in LOOPS:
                    found.update(info.name for graph in graphs(node.proto).values() for info in graph.input)
        return frozenset(found - {""})

    def around(self, tensor: str) -> tuple[tuple[Node, str], ...]:
        """The nodes that a tensor is inside of, as `Node.around`."""
        return self._around.get(tensor, ())

    @cached_property
    def _around(self) -> Mapping[str, tuple[tuple[Node, str], ...]]:
        found = {tensor: node.around for tensor, node in self.producers.items()}
        for node in self.nodes:
            for branch, graph in graphs(node.proto).items():
                found |= {info.name: (*node.around, (node, branch)) for info in graph.input}
        return found

    def readers(self, tensor: str) -> list[Node]:
        """The nodes that read a tensor."""
        return self._readers.get(tensor, [])

    @cached_property
    def _readers(self) -> Mapping[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(node.inputs):
                found.setdefault(tensor, []).append(node)
        return found

    def as_input(self, tensor: str, array: np.ndarray) -> np.ndarray:
        """An array in the kind of number that a tensor holds."""
        kind = self.types.get(tensor)
        return np.ascontiguousarray(array, None if kind is None else helper.tensor_dtype_to_np_dtype(kind))

    def _whole(self, inputs: Iterable[ValueInfoProto]) -> ModelProto:
        """A model that shapes can be told of: what they are taken from is computed, and nothing gives what is among the inputs."""
        inputs = list(inputs)
        there = {info.name for info in inputs} | self._shapes_given.keys()
        protos = [node.proto for node in self.nodes if not node.around and not there & set(node.outputs)]
        return onnx_parts.model_of(self, protos, inputs, self.outputs, self.weights | self._shapes_given, self.large)

    @cached_property
    def _shapes_given(self) -> dict[str, TensorProto]:
        """The shapes and widths that nodes make of constants, computed: inference of shapes does not follow how."""
        read = {name for node in self.nodes if not node.around and node.op in _SHAPED for name in node.inputs[len(node.inputs) > 1 :]}
        made = [name for name in sorted(read & self.constants) if name in self.producers and not self.around(name)]
        try:
            return {name: numpy_helper.from_array(self.constant(name), name) for name in made if self.producers[name].op != "Constant"}
        except Exception:  # an operator that can't run: what is wrong is said where the graph is to run
            return {}

    def sample_axes(self, axes: Mapping[str, int]) -> Mapping[str, int]:
        """Which axis of each tensor is the samples', where those of some are named and the sizes that follow can be told.

        Parameters
        ----------
        axes : dict of int
            For inputs, and for tensors that nodes give whose number of axes is known.
        """
        made = [name for name in axes if name in self.producers and name in self.shapes]
        infos = [helper.make_tensor_value_info(name, self.types.get(name, TensorProto.FLOAT), list(self.shapes[name])) for name in made]
        for info in infos:
            info.type.tensor_type.shape.dim[axes[info.name]].dim_param = _SAMPLES
        for info in self.inputs:
            named = ValueInfoProto.FromString(info.SerializeToString())
            if info.name in axes:
                named.type.tensor_type.shape.dim[axes[info.name]].dim_param = _SAMPLES
            infos.append(named)
        try:
            inferred = onnx.shape_inference.infer_shapes(self._whole(infos))
        except Exception:  # the file has its number of samples built in
            return {}
        shapes = {info.name: shape_of(info) for info in all_infos(inferred.graph)}
        return {name: shape.index(_SAMPLES) for name, shape in shapes.items() if shape.count(_SAMPLES) == 1}

    def sources(self, tensor: str) -> list[str]:
        """The file's own weights that a constant is made of, through Identity, Transpose, Cast, Slice and the like."""
        if tensor in self.weights or tensor not in self.producers:
            return [tensor] if tensor else []
        node = self.producers[tensor]
        if node.op in ("Constant", "ConstantOfShape"):
            return [tensor]
        return list(dict.fromkeys(source for name in node.inputs for source in self.sources(name)))

    def constant(self, tensor: str) -> np.ndarray:
        """The value of a tensor of `constants`."""
        if tensor not in self._evaluated:
            node = self.producers.get(tensor)
            stored = node.attribute("value") if node is not None and node.op == "Constant" else self.weights.get(tensor)
            self._evaluated[tensor] = self._computed(tensor) if stored is None else array_of(stored)
        return self._evaluated[tensor]

    def _computed(self, tensor: str) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        part = onnx_parts.part(self, (), (tensor,), shared=())
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {})[0])

    @cached_property
    def large(self) -> frozenset[str]:
        """The weights that are handed to sessions in memory."""
        kept = (tensor for tensor in self.weights.values() if tensor.data_type in _SHAREABLE)
        return frozenset(tensor.name for tensor in kept if math.prod(tensor.dims) >= _SHARED_FROM)


def _with_open_axes(info: ValueInfoProto) -> ValueInfoProto:
    """An input, in which axes that are written as 0 or -1 are of any size."""
    if all(dim.dim_value > 0 or not dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim):
        return info
    copy: ValueInfoProto = ValueInfoProto.FromString(info.SerializeToString())
    for dim in copy.type.tensor_type.shape.dim:
        if dim.dim_value <= 0:
            dim.ClearField("dim_value")
    return copy


def _give_every_step(graph: GraphProto) -> None:
    """Let recurrent nodes give their h at every step, where the file asks for the last one alone."""
    for node in graph.node:
        for inner in graphs(node).values():
            _give_every_step(inner)
        if node.op_type in RECURRENT and node.output and not node.output[0]:
            node.output[0] = f"{node.name or next(filter(None, node.output))} (every step)"


def _walk(graph: GraphProto, around: tuple[tuple[Node, str], ...]) -> Iterator[Node]:
    """Every node, what is inside of one behind it."""
    for proto in graph.node:
        node = Node(proto.name, proto, around)
        yield node
        for branch, inner in graphs(proto).items():
            yield from _walk(inner, (*around, (node, branch)))


def _named(nodes: Iterator[Node]) -> Iterator[Node]:
    """The nodes with names that no two share."""
    there = list(nodes)
    times = Counter(node.name or node.value for node in there)
    taken: set[str] = set()
    renamed: dict[int, Node] = {}
    for node in there:
        around = tuple((renamed[id(outer)], branch) for outer, branch in node.around)
        name = node.name or node.value or node.op
        if times[name] > 1 and around:
            name = f"{around[-1][0].name}.{around[-1][1]}.{name}"
        base, number = name, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        renamed[id(node)] = Node(name, node.proto, around)
        yield renamed[id(node)]
