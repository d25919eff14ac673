"""A graph that runs one step at a time: recurrent nodes start where they ended, causal convolutions keep their last inputs.

A graph that takes a step already is run as it is, with the state that it gave. Of any other a copy is made in memory, in which each
recurrent node's state goes in and comes out, and each convolution gets its last inputs in front of the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from seqscope import cells
from seqscope.engines.base import Carried, Stepped
from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_feeding import STEPPED, Feeding, Passes, rows_at_once, run_batch
from seqscope.engines.onnx_graph import LOOPS, Graph, Node
from seqscope.engines.onnx_inputs import State
from seqscope.engines.onnx_layers import Table
from seqscope.engines.onnx_parts import model_of
from seqscope.engines.onnx_seen import put_together
from seqscope.engines.onnx_session import Sessions
from seqscope.engines.onnx_states import States
from seqscope.errors import UnsupportedError

if TYPE_CHECKING:
    from seqscope.engines.onnx import OnnxEngine

Array = np.ndarray

# What gives its first steps only when later ones are there, or runs over the steps where nothing can be put in between.
_NEEDS_SEVERAL = ("AveragePool", "ConvTranspose", "InstanceNormalization", "LpPool", "MaxPool", *LOOPS)
_SEQUENCE_LENS, _INITIAL_H = 4, 5
_TO_THE_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Kept:
    """What is carried from step to step.

    Attributes
    ----------
    layer, state : str
        Under which names.
    input, output : str
        The tensors as which it goes in and comes out.
    shape : tuple of int or None
        Its axes; None for the streams.
    own : str
        The tensor of the file's graph that it starts from; "" for zeros.
    """

    layer: str
    state: str
    input: str
    output: str
    shape: tuple[int | None, ...]
    own: str = ""

    def by_row(self, value: Array) -> Array:
        """With the streams first, (row, unit) or (row, ...)."""
        rows = np.moveaxis(value, self.shape.index(None), 0)
        return np.ascontiguousarray(rows.reshape(len(rows), *(size for size in self.shape if size not in (None, 1))))

    def as_input(self, rows: Array) -> Array:
        """The same as the graph takes it."""
        sizes = [size for size in self.shape if size is not None]
        return np.ascontiguousarray(np.moveaxis(rows.reshape(len(rows), *sizes), 0, self.shape.index(None)))

    def zeros(self, n_rows: int) -> Array:
        """A state of nothing, as the graph takes it."""
        return np.zeros([n_rows if size is None else size for size in self.shape])


class OnnxStepper:
    """A graph, step by step (see `engines.base.Stepper`).

    Parameters
    ----------
    capture, states : sequence of str
        The layers whose values, and those whose states are wanted.

    Raises
    ------
    UnsupportedError
        A node needs steps that are still to come, or its state can't be put in.
    """

    def __init__(self, engine: OnnxEngine, sessions: Sessions, capture: Sequence[str], states: Sequence[str]) -> None:
        self._engine, self._own = engine, sessions
        self._graph, self._kept = stepping(engine.graph, engine.feeding)
        self._sessions = sessions if self._graph is engine.graph else Sessions(self._graph, providers=sessions.providers)
        self._seen = {name: engine.seen(name) for name in capture}
        self._states = engine.states if self._graph is engine.graph else States(self._graph, Table(self._graph))
        self._of_states = {name: self._states.seen(name) for name in states}
        self.dtype = str(engine.dtype)

    def step(self, batch: Array, n_rows: int, carried: Carried | None, fresh: Array | None) -> Stepped:
        """Run one step."""
        most = rows_at_once(self._engine.feeding, batch, n_rows)
        if n_rows != most:
            raise UnsupportedError(
                f"The graph takes {most} sequences at a time, and {n_rows} streams were asked for: say batch_size={most}."
            )
        runner = _StepRunner(self, n_rows, carried, fresh)
        self._engine.fed(runner, batch, np.ones(n_rows, np.int64))
        way = self._engine.feeding.way
        captured: dict[str, list[Array]] = {}
        for name, seen in self._seen.items():
            captured |= {f"{name}{behind}": calls for behind, calls in put_together(runner.passes, seen, way).items()}
        after: dict[str, dict[str, Array]] = {}
        for kept in self._kept:
            after.setdefault(kept.layer, {})[kept.state] = kept.by_row(runner.found[kept.output])
        return Stepped(runner.output, captured, lambda name: self._states_of(name, runner.passes), after)

    def _states_of(self, name: str, passes: Passes) -> dict[str, Array]:
        """The states of a layer after the step, (row, unit)."""
        found = put_together(passes, self._of_states[name], self._engine.feeding.way)
        named = {place.strip("[]"): calls[0] for place, calls in found.items()}
        return {name: value[:, -1] for name, value in named.items() if value.ndim == 3}

    def as_numpy(self, tensor: Any) -> Array:
        """The array itself."""
        return np.asarray(tensor)

    def as_native(self, array: Array, like: Any) -> Array:
        """The array in the type of another."""
        return np.ascontiguousarray(array, np.asarray(like).dtype)

    # What a runner needs

    @property
    def engine(self) -> OnnxEngine:
        """The engine of the file's own graph."""
        return self._engine

    @property
    def wanted(self) -> tuple[str, ...]:
        """The tensors of every step."""
        seen = (tensor for one in (*self._seen.values(), *self._of_states.values()) for tensor in one.tensors)
        return tuple(dict.fromkeys((*self._engine.outputs, *(kept.output for kept in self._kept), *seen)))

    def run(self, known: Mapping[str, Array], before: Carried | None, fresh: Array | None, n_rows: int) -> Mapping[str, Array]:
        """One step from the graph's inputs and the states before it."""
        return self._sessions.run({**known, **self._put_in(known, before, fresh, n_rows)}, self.wanted)

    def _put_in(self, known: Mapping[str, Array], before: Carried | None, fresh: Array | None, n_rows: int) -> dict[str, Array]:
        """The states that go in: those carried, and where a stream starts anew those that the model itself starts from."""
        if before is not None and fresh is None:
            return {kept.input: kept.as_input(before[kept.layer][kept.state]) for kept in self._kept}
        own = self._own.run(known, [kept.own for kept in self._kept if kept.own])
        found: dict[str, Array] = {}
        for kept in self._kept:
            start = self._graph.as_input(kept.input, own[kept.own] if kept.own else kept.zeros(n_rows))
            if before is not None and fresh is not None:
                anew, rows = kept.by_row(start), before[kept.layer][kept.state]
                start = kept.as_input(np.where(fresh.reshape(-1, *(1,) * (rows.ndim - 1)), anew, rows))
            found[kept.input] = start
        return found


class _StepRunner:
    """A step as a function of its inputs, as `call=` gets it."""

    def __init__(self, stepper: OnnxStepper, n_rows: int, before: Carried | None, fresh: Array | None) -> None:
        self.passes = Passes()
        self.found: Mapping[str, Array] = {}
        self.output: Array = np.zeros(0)
        self._stepper = stepper
        self._run: Callable[[Mapping[str, Array]], Mapping[str, Array]] = lambda known: stepper.run(known, before, fresh, n_rows)
        self._n_rows = n_rows

    def __call__(self, batch: Any, **more: Any) -> Any:
        """Run one step, in the model's layout."""
        engine = self._stepper.engine
        array, lengths = np.asarray(batch), np.ones(self._n_rows, np.int64)
        passes = run_batch(engine.graph, engine.feeding, array, lengths, more, self._run)
        self.passes.add(passes)
        self.found = passes.parts[0][0]
        values = tuple(engine.output(tensor, self.passes) for tensor in engine.outputs)
        self.output = values[0]
        return values if len(values) > 1 else values[0]


# The graph of a step


def stepping(graph: Graph, feeding: Feeding) -> tuple[Graph, tuple[Kept, ...]]:
    """A graph that takes a step, and what it carries.

    Raises
    ------
    UnsupportedError
        As `OnnxStepper`.
    """
    if feeding.way == STEPPED:
        return graph, tuple(_of_input(state) for state in feeding.inputs.carried)
    graph = _opened(graph, feeding.inputs.main)
    kept: list[Kept] = []
    protos: list[NodeProto] = []
    for node in (node for node in graph.nodes if not node.around):
        _refuse(graph, node)
        proto = NodeProto()
        proto.CopyFrom(node.proto)
        if node.op in RECURRENT:
            kept += _carrying(graph, node, proto)
        elif node.op == "Conv" and _runs_over_steps(graph, node):
            made, own = _keeping(graph, node, proto)
            protos += made
            kept.append(own)
        protos.append(proto)
    kinds = {one.input: graph.types.get(one.input.rpartition(_BEFORE)[0], TensorProto.FLOAT) for one in kept}
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    outputs = [*graph.outputs, *(one.output for one in kept)]
    made_graph = Graph(model_of(graph, protos, [*graph.inputs, *infos], outputs, graph.weights))
    return made_graph, tuple(kept)


def _opened(graph: Graph, main: str) -> Graph:
    """A graph whose input takes any number of steps: the file may fix it, where what reads it does not."""
    if sum(isinstance(size, int) for size in graph.shapes.get(main, ())) < 2:
        return graph
    infos = [info for info in graph.inputs if info.name != main]
    rank = len(graph.shapes[main])
    infos.append(helper.make_tensor_value_info(main, graph.types[main], [None] * rank))
    nodes = [node.proto for node in graph.nodes if not node.around]
    return Graph(model_of(graph, nodes, infos, graph.outputs, graph.weights))


# What stands behind the name of a tensor of the kind that is carried.
_BEFORE = " before "


def _of_input(state: State) -> Kept:
    """A state that the file's graph takes and gives itself."""
    shape = state.shape
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    rows = free[0] if free else max(len(shape) - 2, 0)
    sizes = tuple(None if axis == rows else size if isinstance(size, int) else 1 for axis, size in enumerate(shape))
    return Kept(state.input, state.input, state.input, state.output, sizes)


def _refuse(graph: Graph, node: Node) -> None:
    """Refuse what can't run on one step, by what it says of itself; what only turns out not to is found by the check."""
    reason = None
    if node.value not in graph.following:
        return
    if node.op in RECURRENT and node.attribute("direction", "forward") != "forward":
        reason = "reads backwards, so it needs the steps that are still to come"
    elif node.op in _NEEDS_SEVERAL and not (node.op in ("AveragePool", "MaxPool") and not _runs_over_steps(graph, node)):
        reason = f"({node.op}) needs several steps of its input at once"
    elif any(inner.op in RECURRENT for inner in graph.nodes if inner.around and inner.around[0][0] is node):
        reason = f"({node.op}) holds a recurrent layer, whose state can't be put in there"
    elif node.op == "Conv" and _runs_over_steps(graph, node):
        if (node.attribute("strides") or [1])[0] != 1:
            stride = int(node.attribute("strides")[0])
            reason = f"takes every {stride}{ {2: 'nd', 3: 'rd'}.get(stride, 'th') } step (stride)"
        elif node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            reason = "is padded on both sides, so it needs steps that are still to come"
    if reason is not None:
        raise UnsupportedError(f"The model can't be streamed: '{node.name}' {reason}.")


def _runs_over_steps(graph: Graph, node: Node) -> bool:
    """Whether a window of several places lies along an axis whose size the file leaves open, as that of time is."""
    shape = graph.shapes.get(node.input(0))
    window = node.attribute("kernel_shape") or [graph.constant(node.input(1)).shape[-1] if node.input(1) in graph.constants else 1]
    return len(window) == 1 and window[0] > 1 and (not shape or not isinstance(shape[-1], int))


def _carrying(graph: Graph, node: Node, proto: NodeProto) -> list[Kept]:
    """Let a recurrent node's states go in and come out."""
    names = cells.CARRIED[RECURRENT[node.op][0]]
    n_inputs = max(_INITIAL_H + len(names), len(proto.input))
    proto.input.extend([""] * (n_inputs - len(proto.input)))
    proto.output.extend([""] * (1 + len(names) - len(proto.output)))
    proto.input[_SEQUENCE_LENS] = ""
    n_units = int(node.attribute("hidden_size") or graph.constant(node.input(2)).shape[-1])
    shape = (None, 1, n_units) if node.attribute("layout", 0) else (1, None, n_units)
    kept = []
    for place, state in enumerate(names):
        own = node.input(_INITIAL_H + place)
        before = f"{node.value}{_BEFORE}{state}"
        proto.input[_INITIAL_H + place] = before
        proto.output[1 + place] = proto.output[1 + place] or f"{node.value} after {state}"
        kept.append(Kept(node.name, state, before, proto.output[1 + place], shape, own))
    return kept


def _keeping(graph: Graph, node: Node, proto: NodeProto) -> tuple[list[NodeProto], Kept]:
    """Put a causal convolution's last inputs before the new one; padding on the left, which they take the place of, is left out."""
    kernel = graph.constant(node.input(1))
    span = int((node.attribute("dilations") or [1])[0]) * (kernel.shape[-1] - 1)
    left, right = (int(size) for size in node.attribute("pads") or (0, 0))
    source = node.input(0)
    if left == 0:
        left, source = _padded_before(graph, source)
    if left != span or right not in (0, span):
        raise UnsupportedError(
            f"The model can't be streamed: '{node.name}' is padded by {left} steps before and {right} after, and a causal convolution of "
            f"its size by {span} before."
        )
    before, full, after = f"{node.input(0)}{_BEFORE}inputs", f"{node.value} full", f"{node.value} after inputs"
    proto.input[0] = full
    pads = [attribute for attribute in proto.attribute if attribute.name not in ("pads", "auto_pad")]
    del proto.attribute[:]
    proto.attribute.extend([*pads, helper.make_attribute("pads", [0, right])])
    made = [helper.make_node("Concat", [before, source], [full], axis=2), *_without_first(graph, full, after)]
    channels = kernel.shape[1] * int(node.attribute("group", 1))
    return made, Kept(node.name, "inputs", before, after, (None, channels, span))


def _padded_before(graph: Graph, tensor: str) -> tuple[int, str]:
    """The steps that are put before a tensor (sample, channel, time) by a Pad of its own, and what it is without them."""
    node = graph.producers.get(tensor)
    if node is None or node.op != "Pad" or node.attribute("mode", "constant") != "constant":
        return 0, tensor
    said = node.attribute("pads")
    if said is None and node.input(1) in graph.constants:
        said = graph.constant(node.input(1)).tolist()
    if said is None or len(said) != 6 or any(size for place, size in enumerate(said) if place != 2):
        return 0, tensor
    return int(said[2]), node.input(0)


def _without_first(graph: Graph, tensor: str, name: str) -> list[NodeProto]:
    """Nodes that leave the first step of (sample, channel, time) out: Slice has its places as attributes before opset 10."""
    version = max(opset.version for opset in graph.frame.opset_import if opset.domain in ("", "ai.onnx"))
    if version < 10:
        return [helper.make_node("Slice", [tensor], [name], starts=[1], ends=[_TO_THE_END], axes=[2])]
    places = {f"{name} {part}": value for part, value in (("starts", 1), ("ends", _TO_THE_END), ("axes", 2))}
    constants = [
        helper.make_node("Constant", [], [own], value=helper.make_tensor(own, TensorProto.INT64, [1], [value]))
        for own, value in places.items()
    ]
    return [*constants, helper.make_node("Slice", [tensor, *places], [name])]
