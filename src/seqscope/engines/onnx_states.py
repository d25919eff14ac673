"""The states of a graph's recurrent nodes: which there are, and how they are made from the tensors of a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from seqscope.cells import CellWeights
from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_cells import direction_of, weights_of
from seqscope.engines.onnx_graph import Graph, Node
from seqscope.engines.onnx_layers import Table
from seqscope.engines.onnx_recurrent import replay
from seqscope.engines.onnx_seen import Calls, Seen, Tensors, calls_of
from seqscope.layers import Layer

# The names of a recurrent operator's inputs, in their order.
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


class States:
    """What has states in a graph."""

    def __init__(self, graph: Graph, table: Table) -> None:
        self._graph, self._table = graph, table

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self._graph.nodes if node.op in RECURRENT and node.name in self._table.places}

    @property
    def names(self) -> tuple[str, ...]:
        """The layers that have states."""
        return tuple(self._nodes)

    @property
    def untold(self) -> Mapping[str, str]:
        """The recurrent layers whose states can't be told, and why."""
        return {}

    @property
    def rows(self) -> Mapping[str, Layer]:
        """Recurrent layers that are no nodes."""
        return {}

    def weights(self, name: str) -> tuple[CellWeights, ...]:
        """The weights of a layer, one for each direction."""
        node = self._nodes[name]
        arrays = {
            called: self._graph.constant(node.input(_INPUTS.index(called))) for called in ("W", "R", "B", "P") if _reads(node, called)
        }
        return weights_of(node.proto, arrays)

    def seen(self, name: str) -> Seen:
        """How the states of a layer are made."""
        node = self._nodes[name]
        tensors = [node.input(place) for place in range(len(_INPUTS)) if node.input(place)]
        return Seen((*tensors, node.output(0)), lambda found: self._made(node, found), sample_axis=0, time_axis=1)

    def _made(self, node: Node, found: Tensors) -> Calls:
        arrays = {called: calls_of(node, found[node.input(place)]) for place, called in enumerate(_INPUTS) if node.input(place)}
        arrays["Y"] = calls_of(node, found[node.output(0)])
        states: Calls = {}
        for call in range(len(arrays["Y"])):
            here = {called: calls[call] for called, calls in arrays.items()}
            for behind, value in _replayed(node, here).items():
                states.setdefault(behind, []).append(value)
        return states


def _reads(node: Node, called: str) -> bool:
    return bool(node.input(_INPUTS.index(called)))


def _replayed(node: Node, here: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    weights = weights_of(node.proto, {called: here[called] for called in ("W", "R", "B", "P") if called in here})
    states = replay(
        weights,
        here["X"],
        direction=direction_of(node.proto),
        initial_h=here.get("initial_h"),
        initial_c=here.get("initial_c"),
        sequence_lens=here.get("sequence_lens"),
        Y=here["Y"],
        layout=int(node.attribute("layout", 0)),
    )
    return {f"{f'[{way}]' if way else ''}[{name}]": value for way, by_name in states.items() for name, value in by_name.items()}
