"""The states of a graph's recurrent layers: which there are, and how they are made from the tensors of a run.

Those of the recurrent operators are replayed; those of a cell that is written out are tensors of the graph (see `onnx_decomposed`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from seqscope.cells import CellWeights
from seqscope.engines.onnx_cells import INPUTS, QUANTIZED, WEIGHTS, direction_of, weights_of
from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_decomposed import Step, Written, find, first_of, unexplained
from seqscope.engines.onnx_graph import LOOPS, Graph, Node
from seqscope.engines.onnx_layers import Table
from seqscope.engines.onnx_quantized import replay_quantized
from seqscope.engines.onnx_recurrent import States as ByName
from seqscope.engines.onnx_recurrent import replay
from seqscope.engines.onnx_seen import INITIAL, Calls, Seen, Tensors, calls_of, calls_within
from seqscope.errors import UnsupportedError
from seqscope.layers import Layer

# Further operators that have states, and what stands in the way of telling them.
_UNKNOWN = {"AttnLSTM": "its equations are not known: it is an LSTM with attention of onnxruntime's own"}


class States:
    """What has states in a graph.

    Parameters
    ----------
    carried : sequence of (str, str)
        The inputs and outputs through which the graph itself carries a state from run to run.
    stepped : bool
        Whether each run is a step.
    """

    def __init__(self, graph: Graph, table: Table, carried: Sequence[tuple[str, str]] = (), *, stepped: bool = False) -> None:
        self._graph, self._table, self._carried, self._stepped = graph, table, carried, stepped
        self._weights: dict[str, tuple[CellWeights, ...]] = {}

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self._graph.nodes if node.op in RECURRENT and node.name in self._table.places}

    @cached_property
    def _written(self) -> dict[str, Written]:
        found: dict[str, Written] = {}
        for cell in find(self._graph, self._carried):
            name, number = cell.name, 2
            while name in self._table.places or name in found:
                name, number = f"{cell.name}_{number}", number + 1
            found[name] = cell
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The layers that have states."""
        return (*self._nodes, *self._written)

    @cached_property
    def untold(self) -> Mapping[str, str]:
        """The recurrent layers whose states can't be told, and why."""
        found = {node.name: _UNKNOWN[node.op] for node in self._graph.nodes if node.op in _UNKNOWN}
        told = [*self._nodes.values(), *(step.node for cell in self._written.values() for step in cell.steps)]
        found |= unexplained(self._graph, [*told, *(node for node in self._graph.nodes if node.op in _UNKNOWN)])
        if not told and not found:
            found |= {self._graph.producers[after].name: _carries(before) for before, after in self._carried}
        return found

    @cached_property
    def rows(self) -> Mapping[str, Layer]:
        """Recurrent layers that are no nodes."""
        return {name: self._row(name, cell) for name, cell in self._written.items()}

    def node_of(self, name: str) -> Node:
        """The node behind which a layer of `rows` stands."""
        return self._written[name].steps[-1].node

    def _row(self, name: str, cell: Written) -> Layer:
        n_units = (self._graph.shapes.get(cell.steps[0].states["h"]) or (None,))[-1]
        size = f" with {n_units} hidden units" if isinstance(n_units, int) else ""
        kind = cell.kind.upper()
        return Layer(name, cell.kind, f"{kind}, written out", f"{kind}{size}, written out in small operators", 0, 0)

    def weights(self, name: str) -> tuple[CellWeights, ...]:
        """The weights of a layer, one for each direction.

        Raises
        ------
        UnsupportedError
            They are not constants of the file.
        """
        if name in self._written:
            raise UnsupportedError(f"The weights of '{name}' can't be told: it is written out in operators of which each has its own.")
        node = self._nodes[name]
        if not self._has_constant_weights(node):
            raise UnsupportedError(f"The weights of '{name}' ({node.op}) can't be told: the graph computes them from what goes in.")
        if name not in self._weights:
            given = {called: node.input(INPUTS.index(called)) for called in WEIGHTS}
            arrays = {called: self._graph.constant(tensor) for called, tensor in given.items() if tensor}
            self._weights[name] = weights_of(node.proto, arrays)
        return self._weights[name]

    def _has_constant_weights(self, node: Node) -> bool:
        given = [node.input(INPUTS.index(called)) for called in WEIGHTS]
        return all(tensor in self._graph.constants for tensor in given if tensor)

    # How they are made

    def value(self, name: str) -> Seen:
        """How the h of a cell that is written out is made, as its layer's value."""
        cell = self._written[name]
        tensors = tuple(dict.fromkeys(step.states["h"] for step in cell.steps))
        return Seen(tensors, lambda found: self._written_value(cell, found), sample_axis=0, time_axis=self._time_axis)

    def seen(self, name: str) -> Seen:
        """How the states of a layer are made."""
        if name in self._written:
            cell = self._written[name]
            tensors = [tensor for step in cell.steps for tensor in step.states.values()]
            tensors += [first_of(self._graph, cell.steps[0], state) for state in cell.steps[0].before]
            return Seen(tuple(dict.fromkeys(tensors)), lambda found: self._of_written(cell, found), 0, self._time_axis)
        node = self._nodes[name]
        tensors = [tensor for tensor in node.inputs[: len(INPUTS)] if tensor]
        return Seen((*tensors, node.output(0)), lambda found: self._replayed(node, found), sample_axis=0, time_axis=1)

    @property
    def _time_axis(self) -> int | None:
        """Where each run is a step, steps are put together; in a loop and in one step after another they are calls."""
        return 1 if self._stepped else None

    # Of the operators

    def _replayed(self, node: Node, found: Tensors) -> Calls:
        own = found[node.output(0)]
        calls = calls_of(node, own)
        arrays = {called: self._at_calls(node, node.input(place), found, own) for place, called in enumerate(INPUTS) if node.input(place)}
        states: Calls = {}
        for call, y in enumerate(calls):
            here = {called: values[call] for called, values in arrays.items()}
            for way, by_name in self._states(node, here, y).items():
                for name, value in by_name.items():
                    states.setdefault(f"{f'[{way}]' if way else ''}[{name}]", []).append(value)
        looped = any(outer.op in LOOPS for outer, _ in node.around)
        return _steps_of_loop(states) if looped else states

    def _at_calls(self, node: Node, tensor: str, found: Tensors, own: np.ndarray) -> list[np.ndarray]:
        """What a node read at each of its calls: what comes from further out is the same at several."""
        around = () if tensor in self._graph.constants else self._graph.around(tensor)
        deep, deeper = (sum(outer.op in LOOPS for outer, _ in each) for each in (around, node.around))
        times = math.prod(own.shape[deep:deeper])
        return [call for call in calls_within(around, found[tensor]) for _ in range(times)]

    def _states(self, node: Node, here: Mapping[str, np.ndarray], y: np.ndarray) -> dict[str, ByName]:
        """The states at one call, by direction and name."""
        if node.op == QUANTIZED:
            return replay_quantized(node.proto, here, y)
        arrays = {called: here[called] for called in WEIGHTS if called in here}
        return replay(
            self.weights(node.name) if self._has_constant_weights(node) else weights_of(node.proto, arrays),
            here["X"],
            direction=direction_of(node.proto),
            initial_h=here.get("initial_h"),
            initial_c=here.get("initial_c"),
            sequence_lens=here.get("sequence_lens"),
            Y=y,
            layout=int(node.attribute("layout", 0)),
        )

    # Of cells that are written out

    def _written_value(self, cell: Written, found: Tensors) -> Calls:
        calls = [call for step in cell.steps for call in self._each(step, "h", found)]
        return {"": calls} if calls else {}

    def _of_written(self, cell: Written, found: Tensors) -> Calls:
        states: Calls = {}
        for name in cell.steps[0].states:
            calls = [call for step in cell.steps for call in self._each(step, name, found)]
            states |= {f"[{name}]": calls} if calls else {}
        if states:
            rows = states["[h]"][0].shape[0], states["[h]"][0].shape[-1]
            for name in cell.steps[0].before:
                before = self._before(cell.steps[0], name, found, rows)
                states |= {} if before is None else {f"[{name}0]": [before]}
        return states

    def _each(self, step: Step, name: str, found: Tensors) -> list[np.ndarray]:
        """A state at each call of a step, (sample, unit), with an axis for the steps of which each run is one."""
        calls = [_rows(call) for call in calls_of(step.node, found[step.states[name]])]
        turned = [1 - call if name in step.turned else call for call in calls]
        return [call[:, None] for call in turned] if self._stepped else turned

    def _before(self, step: Step, name: str, found: Tensors, rows: tuple[int, int]) -> np.ndarray | None:
        """A state before the first step, (sample, unit); None where its shape does not tell."""
        tensor = first_of(self._graph, step, name)
        around = () if tensor in self._graph.constants else self._graph.around(tensor)
        first = _rows(calls_within(around, found[tensor])[0])
        fits = first.ndim == 2 and all(own in (1, size) for own, size in zip(first.shape, rows, strict=True))
        return np.broadcast_to(first, rows).copy() if fits else None


def _carries(state: str) -> str:
    return f"it gives the '{state}' that the graph carries, with operations that are not those of an LSTM, a GRU or a simple RNN"


def _rows(value: np.ndarray) -> np.ndarray:
    """A state as (sample, unit): some have an axis of one place more, or no sample axis."""
    if value.ndim < 2:
        return value.reshape(1, -1)
    if value.ndim == 3 and 1 in value.shape[:2]:
        return value[0] if value.shape[0] == 1 else value[:, 0]
    return value


def _steps_of_loop(states: Calls) -> Calls:
    """States of a node in a loop: where each call is a step, without an axis for it, and what was before the first of them alone."""
    if any(call.shape[1] != 1 for behind, calls in states.items() if not behind.endswith(INITIAL) for call in calls):
        return states
    return {behind: calls[:1] if behind.endswith(INITIAL) else [call[:, 0] for call in calls] for behind, calls in states.items()}
