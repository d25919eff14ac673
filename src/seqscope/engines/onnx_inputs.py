"""What each input of a graph is for: the sequence, a state that is carried, the lengths."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnx import TensorProto

from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_graph import LOOPS, Graph, Node
from seqscope.engines.onnx_layers import ARRANGES, ELEMENTWISE
from seqscope.engines.onnx_proto import graphs
from seqscope.errors import ModelError, quoted

Shape = tuple[int | str | None, ...]

_WHOLE_NUMBERS = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)
# What people put before and behind the name of a state that goes in or comes out: "past_h", "h_n", "stateN", "c0".
_BEFORE = re.compile(r"^(past|present|prev|previous|new|next|initial|init|final|last|updated|in|out|input|output)[_.\-]")
_BEHIND = re.compile(r"([_.\-]?(in|out|input|output|prev|new|next|initial|init|final|last|updated)|[_.\-]?[n01t]|[_.\-])$")
_LENGTHS = re.compile(r"len(gth)?s?($|_)", re.IGNORECASE)
# What keeps the axes where they are, and what does so where one side is a constant.
_IN_PLACE = (*ELEMENTWISE, "Abs", "Cast", "Identity", "Log", "Neg", "Pad", "Sqrt")
_WITH_CONSTANT = ("Add", "Sub", "Mul", "Div")
# The places of a recurrent operator's inputs.
_SEQUENCE_LENS, _INITIAL = 4, (5, 6)


@dataclass(frozen=True)
class State:
    """An input that carries a state.

    Attributes
    ----------
    input : str
    output : str
        Where it comes out again; "" where it does not.
    shape : tuple
        Its axes, as the file declares them.
    """

    input: str
    output: str
    shape: Shape


@dataclass(frozen=True)
class Inputs:
    """What the inputs are for.

    Attributes
    ----------
    main : str
        The sequence.
    shape : tuple
        Its axes, as the file declares them.
    is_tokens : bool
        Whether it holds whole numbers.
    states : tuple of State
    lengths : str
        What takes the length of each sequence; "" where nothing does.
    unknown : tuple of str
        Inputs that nothing is known of.
    layout : str
        The order of the sequence's axes ("TNC"), where what reads it tells; "" where that does not.
    """

    main: str
    shape: Shape
    is_tokens: bool
    states: tuple[State, ...] = ()
    lengths: str = ""
    unknown: tuple[str, ...] = ()
    layout: str = ""

    @property
    def carried(self) -> tuple[State, ...]:
        """The states that come out again."""
        return tuple(state for state in self.states if state.output)


def inputs_of(graph: Graph) -> Inputs:
    """Tell what the inputs are for: by what reads them, then by their names and shapes.

    Raises
    ------
    ModelError
        None of them can be a sequence.
    """
    names = [info.name for info in graph.inputs]
    if not names:
        raise ModelError("The graph has no input, so there is nothing that a sequence could go into.")
    states = _states(graph, names) if len(names) > 1 else ()
    taken = {state.input for state in states}
    lengths = next((name for name in names if name not in taken and _takes_lengths(graph, name)), "")
    left = [name for name in names if name not in taken and name != lengths]
    fit = {info.name for info in graph.inputs if info.type.WhichOneof("value") not in ("sequence_type", "map_type")}
    fit -= {name for name, kind in graph.types.items() if kind == TensorProto.STRING}
    series = [name for name in left if name in fit and len(graph.shapes.get(name, (None,) * 3)) > 0]
    if not series:
        raise ModelError(
            f"None of the graph's inputs ({quoted(names)}) is a sequence: all are states, lengths, single numbers, text or lists."
        )
    main = series[0]
    is_tokens = graph.types.get(main) in _WHOLE_NUMBERS
    unknown = tuple(name for name in left if name != main)
    return Inputs(main, graph.shapes.get(main, (None, None, None)), is_tokens, states, lengths, unknown, _layout_of(graph, main))


def _layout_of(graph: Graph, main: str) -> str:
    """The order of an input's axes that the first recurrent operators, loops and convolutions on its way ask for."""
    found: set[str] = set()
    waiting: list[tuple[str, tuple[int, ...]]] = [(main, (0, 1, 2))]  # a tensor, and which axis of the input each of its own is
    for tensor, axes in waiting:
        for node in graph.readers(tensor):
            order = _order_for(graph, node, tensor)
            if order is not None:
                found.add("".join(letter for _, letter in sorted(zip(axes, order, strict=True))))
            elif node.op == "Transpose" and sorted(perm := node.attribute("perm") or (2, 1, 0)) == [*range(len(axes))]:
                waiting.append((node.value, tuple(axes[place] for place in perm)))
            elif node.op in _IN_PLACE or (node.op in _WITH_CONSTANT and any(name in graph.constants for name in node.inputs)):
                waiting.append((node.value, axes))
    return found.pop() if len(found) == 1 else ""


def _order_for(graph: Graph, node: Node, tensor: str) -> str | None:
    """The order of axes that an operator asks for, where a tensor that it reads is a sequence to it."""
    axis = _steps_along(graph, node, tensor)
    if axis is not None:
        return {0: "TNC", 1: "NTC"}.get(axis)
    if node.input(0) != tensor or any(outer.op in LOOPS for outer, _ in node.around):
        return None
    if node.op in RECURRENT:
        return "NTC" if node.attribute("layout", 0) else "TNC"
    return "NCT" if node.op == "Conv" and len(graph.shapes.get(node.input(1), ())) == 3 else None


def _steps_along(graph: Graph, node: Node, tensor: str) -> int | None:
    """The axis of a tensor along which a Scan goes, or that step after step is taken from: in a Loop, or at several places."""
    if node.op == "Scan" and tensor in node.inputs:
        n_scanned = int(node.attribute("num_scan_inputs", 0))
        place = node.inputs.index(tensor) - (len(node.inputs) - n_scanned)
        return int((node.attribute("scan_input_axes") or [0] * n_scanned)[place]) if place >= 0 else None
    if node.op != "Gather" or node.input(0) != tensor:
        return None
    axis, places = int(node.attribute("axis", 0)), node.input(1)
    loops = [outer for outer, _ in node.around if outer.op == "Loop"]
    if loops and places == next(iter(graphs(loops[-1].proto).values())).input[0].name:
        return axis
    alike = [other for other in graph.readers(tensor) if other.op == "Gather" and other.attribute("axis", 0) == axis]
    constant = [other for other in alike if other.input(1) in graph.constants and graph.constant(other.input(1)).ndim == 0]
    return axis if node in constant and len(constant) > 1 else None


def _states(graph: Graph, names: list[str]) -> tuple[State, ...]:
    """The inputs that are a recurrent node's initial state, or have an output of their own name and shape."""
    outputs = [name for name in graph.outputs if name not in names]
    initial = {
        source for node in graph.nodes if node.op in RECURRENT for place in _INITIAL if (source := _origin(graph, node.input(place)))
    }
    found = []
    for name in names:
        partner = next((output for output in outputs if _are_one_state(graph, name, output)), "")
        if name in initial or partner:
            outputs = [output for output in outputs if output != partner]
            found.append(State(name, partner, graph.shapes.get(name, ())))
    if len(found) == len(names):  # one of them has to be the sequence: a model that gives series of the shape that it takes
        found = found[1:]
    return tuple(found)


def _are_one_state(graph: Graph, name: str, output: str) -> bool:
    stem = _stem(name)
    if not stem or stem != _stem(output) or graph.types.get(name) != graph.types.get(output):
        return False
    before, after = graph.shapes.get(name), graph.shapes.get(output)
    if before is None or after is None:
        return True
    sizes = zip(before, after, strict=False)
    return len(before) == len(after) > 1 and all(not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in sizes)


def _stem(name: str) -> str:
    """A name without what tells the state that goes in from the one that comes out.

    >>> _stem("past_h"), _stem("hn"), _stem("stateN"), _stem("h"), _stem("output")
    ('h', 'h', 'state', 'h', '')
    """
    stem = name.lower()
    if stem in ("input", "output", "inputs", "outputs"):
        return ""
    stem = _BEFORE.sub("", stem)
    shorter = _BEHIND.sub("", stem)
    return shorter or stem


def _origin(graph: Graph, tensor: str) -> str:
    """The graph's input that a tensor is, arranged anew; "" where it is computed."""
    inputs = {info.name for info in graph.inputs}
    for _ in range(len(graph.nodes) + 1):
        node: Node | None = graph.producers.get(tensor)
        if tensor in inputs or node is None or node.op not in ARRANGES:
            break
        tensor = next((name for name in node.inputs if name and name not in graph.constants), "")
    return tensor if tensor in inputs else ""


def _takes_lengths(graph: Graph, name: str) -> bool:
    """Whether an input says how long each sequence is."""
    if graph.types.get(name) not in _WHOLE_NUMBERS or len(graph.shapes.get(name, ())) != 1:
        return False
    read = any(_origin(graph, node.input(_SEQUENCE_LENS)) == name for node in graph.nodes if node.op in RECURRENT)
    return read or _LENGTHS.search(name) is not None
