"""Recurrent cells that a graph has written out in small operators: found by their form, their gates served from the graph's own tensors.

What is looked for is how the new state is put together, in a Loop, a Scan, one step of a graph that carries its state, or step after step:

    LSTM    c' = f c + i g,  h' = o t(c')
    GRU     h' = (1 - z) n + z h,  or  n + z (h - n),  or  h + (1 - z) (n - h)
    RNN     h' = t(a),  a a sum of products of which one is with h

What the gates are is told by which of the factors are bent: how their sums come about does not matter.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from seqscope.engines.onnx_graph import LOOPS, Graph, Node
from seqscope.engines.onnx_proto import graphs

# What bends a value.
_BENDS = ("Tanh", "Sigmoid", "Relu", "HardSigmoid", "LeakyRelu", "Elu", "Selu", "Softsign", "Softplus", "ThresholdedRelu", "HardTanh")
# What hands on the first thing that it reads: its numbers, in another arrangement or a part of them.
_PASSES_ON = (
    "Cast",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
_PRODUCTS = ("Gemm", "MatMul")
# What a sum of products may be made with.
_SUMS = (*_PRODUCTS, "Add", "Concat", "Sum")


@dataclass(frozen=True)
class Step:
    """One step of a cell.

    Attributes
    ----------
    kind : {"lstm", "gru", "rnn"}
    node : Node
        That gives its h.
    states : dict of str
        The tensor of each state, by the names of `cells.STATES`.
    before : dict of str
        The tensors of the states before; of an LSTM's h where that can be told.
    turned : frozenset of str
        The states that are 1 less the tensor.
    products : frozenset of bytes
        What tells the constants that it multiplies with. Steps of one cell have the same; a first one that starts from constants may have
        fewer, since what it makes of those is a constant too.
    """

    kind: str
    node: Node
    states: Mapping[str, str]
    before: Mapping[str, str]
    products: frozenset[bytes]
    turned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Written:
    """A cell that is written out: one step in a loop or a graph of one step, or several after each other."""

    name: str
    steps: tuple[Step, ...]

    @property
    def kind(self) -> str:
        """Which equations it follows."""
        return self.steps[0].kind

    @property
    def node(self) -> Node:
        """The node that gives its first h."""
        return self.steps[0].node


def find(graph: Graph, carried: Sequence[tuple[str, str]] = ()) -> tuple[Written, ...]:
    """The cells of a graph that are written out, in the order in which they run.

    Parameters
    ----------
    carried : sequence of (str, str), optional
        The inputs and outputs through which the graph itself carries a state from run to run.
    """
    return tuple(_named(_Search(graph, carried).cells()))


def unexplained(graph: Graph, explained: Sequence[Node]) -> dict[str, str]:
    """Loops that carry a state by other operations than known cells', by name, and what stands in the way of telling their states.

    Parameters
    ----------
    explained : sequence of Node
        Recurrent nodes, and those that give the h of written-out cells.
    """
    inside = {outer.name for node in explained for outer, _ in node.around}
    found = {}
    for node in graph.nodes:
        if node.op in LOOPS and node.name not in inside and any(_is_number(graph, before) for before, _ in carried_by(node)):
            found[node.name] = "it carries a state from step to step with operations that are not those of an LSTM, a GRU or a simple RNN"
    return found


def carried_by(node: Node) -> list[tuple[str, str]]:
    """What a Loop or Scan carries from step to step: inside of it, the tensor before a step and the one after."""
    (body,) = graphs(node.proto).values()
    before, after = [info.name for info in body.input], [info.name for info in body.output]
    if node.op == "Loop":
        before, after = before[2:], after[1:]
    else:
        before = before[: len(before) - int(node.attribute("num_scan_inputs", 0))]
    return list(zip(before, after, strict=False))


def first_of(graph: Graph, step: Step, name: str) -> str:
    """The tensor of a state before the first step: what goes into the loop where that is what the step reads."""
    tensor = step.before[name]
    for outer, _ in reversed(step.node.around):
        names = [before for before, _ in carried_by(outer)] if outer.op in LOOPS else []
        if tensor in names:
            tensor = outer.input(names.index(tensor) + (2 if outer.op == "Loop" else 0))
    return tensor


def _is_number(graph: Graph, tensor: str) -> bool:
    return graph.types.get(tensor) in _FLOATS and tensor in graph.following


# onnx.TensorProto's FLOAT, FLOAT16, DOUBLE and BFLOAT16
_FLOATS = (1, 10, 11, 16)


class _Search:
    """Looks for the steps of cells."""

    def __init__(self, graph: Graph, carried: Sequence[tuple[str, str]]) -> None:
        self._graph, self._carried = graph, carried
        self._digests: dict[str, bytes] = {}

    def steps(self) -> Iterator[Step]:
        """Every step of every cell; those of a simple RNN only where no other cell is made of it."""
        found = []
        for node in self._graph.nodes:
            step = self._lstm(node) or self._gru(node)
            if step is not None:
                found.append(step)
        used = {tensor for step in found for tensor in step.states.values()}
        found += [step for step in self._rnns() if not {*step.states.values()} & used]
        order = {node.name: place for place, node in enumerate(self._graph.nodes)}
        return iter(sorted(found, key=lambda step: order[step.node.name]))

    # LSTM

    def _lstm(self, node: Node) -> Step | None:
        """The step whose c' a node is."""
        products = self._both(node, "Add", "Mul")
        shown = [reader for bend in self._readers(node) if bend.op in _BENDS for reader in self._readers(bend) if reader.op == "Mul"]
        if products is None or len(shown) != 1:
            return None
        (gives_h,) = shown
        o = next((tensor for tensor in gives_h.inputs if self._bent(tensor) and not self._shows(tensor, node)), "")
        for keeps, writes in itertools.permutations(products):
            f, c = self._bent_and_not(keeps)
            i, g = self._gate_and_not(writes, o)
            if o and f and i:
                states = {"h": gives_h.value, "c": node.value, "i": i, "f": f, "g": g, "o": o}
                before = {"c": c} | self._h_before(gives_h, i)
                return Step("lstm", gives_h, states, before, self._weights([i, f, g, o]))
        return None

    def _shows(self, tensor: str, c: Node) -> bool:
        """Whether a tensor is the memory, bent."""
        bend = self._root(tensor)
        return bend is not None and self._root(bend.input(0)) is c

    def _bent_and_not(self, node: Node) -> tuple[str, str]:
        """The factors of a product of which one is bent."""
        bent = [tensor for tensor in node.inputs if self._bent(tensor)]
        rest = [tensor for tensor in node.inputs if not self._bent(tensor)]
        return (bent[0], rest[0]) if len(bent) == len(rest) == 1 else ("", "")

    def _gate_and_not(self, node: Node, o: str) -> tuple[str, str]:
        """The factors of a product: the one that is bent as the output gate is, and the other."""
        a, b = node.inputs
        gate = self._bent(o)
        if not self._bent(a) or not self._bent(b) or (self._bent(a) == gate) == (self._bent(b) == gate):
            return "", ""
        return (a, b) if self._bent(a) == gate else (b, a)

    def _h_before(self, gives_h: Node, gate: str) -> dict[str, str]:
        """The hidden state before: that of what a gate is made from which is carried."""
        root = self._root(gate)
        leaves = [] if root is None else self._leaves(root.input(0))
        before = {tensor for tensor, _ in self._carried_around(gives_h)}
        return next(({"h": leaf} for leaf in leaves if self._origin(leaf) in before), {})

    def _carried_around(self, node: Node) -> Sequence[tuple[str, str]]:
        """What is carried by the loop around a node, or by the graph."""
        loops = [outer for outer, _ in node.around if outer.op in LOOPS]
        return carried_by(loops[-1]) if loops else self._carried

    # GRU

    def _gru(self, node: Node) -> Step | None:
        """The step whose h' a node is."""
        found = self._weighed(node) or self._moved(node)
        if found is None:
            return None
        z, n, h, turned = found
        r = self._reset(n)
        if r is None or not self._bent(z):
            return None
        return Step(
            "gru", node, {"h": node.value, "r": r, "z": z, "n": n}, {"h": h}, self._weights([r, z, n]), frozenset("z" if turned else "")
        )

    def _weighed(self, node: Node) -> tuple[str, str, str, bool] | None:
        """z, n and h of (1 - z) n + z h, and whether z is 1 less the gate."""
        products = self._both(node, "Add", "Mul")
        for first, second in itertools.permutations(products) if products else ():
            for rest, other in itertools.permutations(first.inputs):
                gate = self._one_less(rest)
                if gate is None or gate not in second.inputs:
                    continue
                across = next((tensor for tensor in second.inputs if tensor != gate), gate)
                if self._bent(other):
                    return gate, other, across, False
                if self._bent(across):  # the gate opens for what is new
                    return gate, across, other, True
        return None

    def _moved(self, node: Node) -> tuple[str, str, str, bool] | None:
        """The same of n + z (h - n), and of h + u (n - h) with u = 1 - z."""
        if node.op != "Add" or len(node.inputs) != 2:
            return None
        for start, product in itertools.permutations(node.inputs):
            times = self._graph.producers.get(product)
            if times is None or times.op != "Mul":
                continue
            for gate, apart in itertools.permutations(times.inputs):
                less = self._graph.producers.get(apart)
                if less is not None and less.op == "Sub" and less.input(1) == start:
                    turned = not self._bent(start)
                    n, h = (less.input(0), start) if turned else (start, less.input(0))
                    return (gate, n, h, turned) if self._bent(n) else None
        return None

    def _one_less(self, tensor: str) -> str | None:
        """The tensor that is taken from 1."""
        node = self._graph.producers.get(tensor)
        if node is None or node.op != "Sub" or node.input(0) not in self._graph.constants:
            return None
        return node.input(1) if (self._graph.constant(node.input(0)) == 1).all() else None

    def _reset(self, n: str) -> str | None:
        """The reset gate in what the candidate is bent from: the bent factor of the first product on the way back."""
        bend = self._root(n)
        waiting, seen = [] if bend is None else [bend.input(0)], set[str]()
        while waiting:
            tensor = waiting.pop()
            node = self._graph.producers.get(tensor)
            if node is None or tensor in seen:
                continue
            seen.add(tensor)
            if node.op == "Mul":
                gate = self._bent_and_not(node)[0]
                if gate:
                    return gate
            elif node.op in (*_SUMS, *_PASSES_ON):
                waiting += node.inputs
        return None

    # RNN

    def _rnns(self) -> Iterator[Step]:
        """The steps of simple RNNs: what a loop or the graph carries, bent from a sum with a product of it; or one such after another."""
        yielded: set[str] = set()
        for node in self._graph.nodes:
            leaves = self._leaves(node.input(0)) if node.op in _BENDS else []
            places = [place for place, leaf in enumerate(leaves) if len(leaves) > 1 and self._comes_back(node, leaf)]
            if len(places) != 1:
                continue
            twin = self._root(leaves[places[0]])
            if twin is not None and twin.name not in yielded and self._are_twins(twin, node):  # the first of several steps
                first = self._leaves(twin.input(0))
                yield self._rnn(twin, first[places[0]] if len(first) == len(leaves) else "")
            yielded.add(node.name)
            yield self._rnn(node, leaves[places[0]])

    def _rnn(self, node: Node, before: str) -> Step:
        states = {"h": node.value, "a": node.input(0)}
        return Step("rnn", node, states, {"h": before} if before else {}, self._weights([node.value]))

    def _comes_back(self, node: Node, leaf: str) -> bool:
        """Whether what a sum is made of is the state that a node gives: carried by a loop or the graph, or given by a twin of the node."""
        if any(self._origin(leaf) == before and self._root(after) is node for before, after in self._carried_around(node)):
            return True
        twin = self._root(leaf)
        return twin is not None and self._are_twins(twin, node)

    def _are_twins(self, node: Node, other: Node) -> bool:
        """Whether a node is the step of a cell before another one: they bend alike what is made with the same weights."""
        own = self._weights([node.value])
        same = node is not other and node.op == other.op and node.around == other.around
        return same and bool(own) and own <= self._weights([other.value])

    def _leaves(self, tensor: str) -> list[str]:
        """What is multiplied with constants in a sum."""
        found: list[str] = []
        waiting, seen = [tensor], set[str]()
        while waiting:
            name = waiting.pop()
            node = self._graph.producers.get(name)
            if node is None or name in self._graph.constants or name in seen:
                continue
            seen.add(name)
            if node.op not in _PRODUCTS:
                waiting += reversed(node.inputs) if node.op in (*_SUMS, *_PASSES_ON) else ()
            elif node.input(1) in self._graph.constants:
                found.append(node.input(0))
        return found

    # The graph

    def _both(self, node: Node, op: str, made_by: str) -> tuple[Node, Node] | None:
        """The nodes that give the two things that a node of a kind puts together, where both are of another kind."""
        if node.op != op or len(node.inputs) != 2:
            return None
        first, second = (self._graph.producers.get(name) for name in node.inputs)
        if first is None or second is None or first.op != made_by or second.op != made_by:
            return None
        return first, second

    def _readers(self, node: Node) -> list[Node]:
        return self._graph.readers(node.value)

    def _bent(self, tensor: str) -> str:
        """The bend that a tensor comes from; "" where it comes from something else."""
        node = self._root(tensor)
        return node.op if node is not None and node.op in _BENDS else ""

    def _root(self, tensor: str) -> Node | None:
        """The node that computes a tensor's numbers."""
        return self._graph.producers.get(self._origin(tensor))

    def _origin(self, tensor: str) -> str:
        """The tensor that another is an arrangement or a part of."""
        node = self._graph.producers.get(tensor)
        while node is not None and node.op in _PASSES_ON and tensor not in self._graph.constants:
            tensor = node.input(0)
            node = self._graph.producers.get(tensor)
        return tensor

    def _weights(self, gates: Sequence[str]) -> frozenset[bytes]:
        """The constants that gates are made with, as what tells them from others."""
        found: dict[str, None] = {}
        waiting = [root.input(0) for gate in gates if (root := self._root(gate)) is not None]
        seen = set[str]()
        while waiting:
            tensor = waiting.pop()
            node = self._graph.producers.get(tensor)
            if node is None or tensor in seen or node.op not in (*_SUMS, *_PASSES_ON):
                continue
            seen.add(tensor)
            found |= dict.fromkeys(name for name in node.inputs if name in self._graph.constants and node.op in _PRODUCTS)
            waiting += [] if node.op in _PRODUCTS else [name for name in node.inputs if name not in self._graph.constants]
        return frozenset(self._digest(name) for name in found)

    def _digest(self, constant: str) -> bytes:
        if constant not in self._digests:
            self._digests[constant] = hashlib.sha256(self._graph.constant(constant).tobytes()).digest()
        return self._digests[constant]

    def follows(self, step: Step, other: Step) -> bool:
        """Whether a step of a cell comes right after another one."""
        name = "c" if step.kind == "lstm" else "h"
        return (
            step.kind == other.kind
            and name in step.before
            and self._origin(step.before[name]) == other.states[name]
            and bool(other.products)
            and other.products <= step.products
        )

    def cells(self) -> list[list[Step]]:
        """The steps of each cell, one after the other."""
        found: list[list[Step]] = []
        for step in self.steps():
            before = next((steps for steps in found if self.follows(step, steps[-1])), None)
            if before is None:
                found.append([step])
            else:
                before.append(step)
        return found


def _named(found: Sequence[Sequence[Step]]) -> Iterator[Written]:
    """The cells with names: that of the module they were written out from where the nodes' names tell, else of the loop, else the kind."""
    taken: dict[str, int] = {}
    for steps in found:
        name = _name_of(steps[0])
        taken[name] = taken.get(name, 0) + 1
        yield Written(name if taken[name] == 1 else f"{name}_{taken[name]}", tuple(steps))


def _name_of(step: Step) -> str:
    folder = step.node.name.rpartition("/")[0]
    if folder.strip("/"):
        return folder
    if not step.node.around:
        return step.kind
    outer, branch = step.node.around[-1]
    return outer.name if outer.op in LOOPS else f"{outer.name}.{branch}.{step.kind}"
