"""The states of Keras' recurrent layers: their own loop runs cells that show their gates.

Keras' loop over the steps takes care of masks, unrolling, the direction and initial states on each backend; what a cell gives at a step is
replaced by all its states side by side.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from seqscope import cells
from seqscope.cells import CARRIED, STATES, CellWeights, Elementwise
from seqscope.engines import keras_kinds
from seqscope.engines.base import BACKWARD, FORWARD
from seqscope.engines.base import STATES as BEHIND
from seqscope.engines.places import replaced

# Keras' cells by the kind of their equations, and the order in which each has its gates.
_KINDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("LSTMCell", "lstm", ("i", "f", "g", "o")),
    ("GRUCell", "gru", ("z", "r", "n")),
    ("SimpleRNNCell", "rnn", ("a",)),
)

# What is given to whoever wants states: the name of one ("c", "[backward][c]") and its tensor.
Keep = Callable[[str, Any], None]


class _Ops:
    """The equations' operations on Keras' tensors."""

    def add_product(self, a: Any, rows: Any, matrix: Any) -> Any:
        return a + ops.matmul(rows, matrix)

    def add_multiple(self, a: Any, b: Any, c: Any) -> Any:
        return a + b * c

    def apply(self, function: str | Elementwise, a: Any) -> Any:
        return keras.activations.get(function)(a)

    bent = apply


OPS: cells.Ops = _Ops()


def parts_of(name: str, layer: Any) -> tuple[str, ...]:
    """The names under which a recurrent layer's states are asked for: one for each of its stacked cells."""
    n_cells = len(cells_of(layer))
    return tuple(f"{name}.{place}" for place in range(n_cells)) if n_cells > 1 else (name,)


def cells_of(layer: Any) -> list[Any]:
    """The cells of a recurrent layer, or of the forward one of a bidirectional layer, from the input on."""
    if keras_kinds.is_bidirectional(layer):
        layer = layer.forward_layer
    return list(layer.cell.cells) if isinstance(layer.cell, kl.StackedRNNCells) else [layer.cell]


def why_unknown(layer: Any) -> str | None:
    """What the equations do not cover in a recurrent layer; None where they do."""
    both = (layer.forward_layer, layer.backward_layer) if keras_kinds.is_bidirectional(layer) else (layer,)
    for one in both:
        if not isinstance(one, kl.RNN):
            return f"it runs a {type(one).__name__}"
        for cell in cells_of(one):
            known = next((getattr(kl, name) for name, *_ in _KINDS if isinstance(cell, getattr(kl, name))), None)
            if known is None or type(cell).call is not known.call:
                return f"its cell is a {type(cell).__name__}, and the equations known are those of {', '.join(name for name, *_ in _KINDS)}"
    return None


def weights_of(cell: Any) -> CellWeights:
    """The weights of a cell, in the type that it computes in."""
    kind, order = next((kind, order) for name, kind, order in _KINDS if isinstance(cell, getattr(kl, name)))

    def ordered(value: Any) -> Any:
        blocks = ops.split(_plain(value, cell), len(order), axis=-1)
        return ops.concatenate(cells.in_order(kind, blocks, order), axis=-1)

    kernel, recurrent = ordered(cell.kernel), ordered(cell.recurrent_kernel)
    bias = ordered(cell.bias) if cell.use_bias else ops.zeros((len(order) * cell.units,), kernel.dtype)
    reset_bias = None
    if kind == "gru" and cell.reset_after:
        own, other = (bias[0], bias[1]) if cell.use_bias else (bias, ops.zeros_like(bias))
        n = 2 * cell.units
        bias, reset_bias = ops.concatenate([own[:n] + other[:n], own[n:]]), other[n:]
    inner = getattr(cell, "recurrent_activation", None)
    return CellWeights(kind, kernel, recurrent, bias, reset_bias, None, cell.activation, inner or cell.activation)


def as_arrays(cell: Any) -> CellWeights:
    """The weights of a cell as NumPy arrays, its activations by name where they have one."""
    weights = weights_of(cell).mapped(ops.convert_to_numpy)
    return replace(weights, activation=_named(weights.activation), recurrent_activation=_named(weights.recurrent_activation))


def _named(function: Any) -> str | Elementwise:
    """An activation by its name, or as a function of arrays."""
    name = getattr(function, "__name__", "")
    if name in cells.ACTIVATIONS and keras.activations.get(name) is function:
        return str(name)
    return lambda a: ops.convert_to_numpy(function(ops.convert_to_tensor(a)))


def output_of(layer: Any, name: str, parts: Sequence[str], captured: Mapping[str, list[np.ndarray]]) -> list[np.ndarray] | None:
    """What the layer itself gives at every step, call after call, made from its states; None where they do not tell."""
    last = parts_of(name, layer)[-1]
    if last not in parts:
        return None
    if not keras_kinds.is_bidirectional(layer):
        return captured.get(f"{last}{BEHIND}[h]")
    both = [captured.get(f"{last}{BEHIND}[{way}][h]") for way in (FORWARD, BACKWARD)]
    if layer.merge_mode != "concat" or both[0] is None or both[1] is None:
        return None
    return [np.concatenate(pair, axis=-1) for pair in zip(*both, strict=True)]


def _plain(value: Any, cell: Any) -> Any:
    """A variable's tensor."""
    return ops.cast(ops.convert_to_tensor(value), cell.compute_dtype)


@contextlib.contextmanager
def showing(layer: Any, keep: Keep) -> Iterator[None]:
    """Let a recurrent layer, or both of a bidirectional one, hand over all its states at each call.

    Parameters
    ----------
    keep : function of (place, tensor)
        Gets each state, (sample, time, unit) in input time, with its place: "[c]", "[backward][c]", and ".1[c]" for the second of stacked
        cells; and what they were before the first step, "[c0]", (sample, unit).
    """
    with contextlib.ExitStack() as undo:
        if keras_kinds.is_bidirectional(layer):
            for way, one in ((FORWARD, layer.forward_layer), (BACKWARD, layer.backward_layer)):
                undo.enter_context(_showing_one(one, lambda place, tensor, way=way: keep(_with_way(place, way), tensor)))  # type: ignore[misc]
        else:
            undo.enter_context(_showing_one(layer, keep))
        yield


def _with_way(place: str, way: str) -> str:
    part, _, state = place.partition("[")
    return f"{part}[{way}][{state}"


@contextlib.contextmanager
def _showing_one(layer: Any, keep: Keep) -> Iterator[None]:
    def inner_loop(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        mask = keras.tree.flatten(mask)[0] if mask is not None else None
        shown = _Shown(cells_of(layer))
        with replaced(layer, "cell", shown), replaced(layer, "return_sequences", True):
            last, steps, states = kl.RNN.inner_loop(layer, shown.projected(sequences, mask), initial_state, None, training)
        before = iter(keras.tree.flatten(initial_state))
        for part, name, as_run in shown.split(steps):
            keep(f"{part}[{name}]", ops.flip(as_run, axis=1) if layer.go_backwards else as_run)
            if name in ("h", "c"):
                keep(f"{part}[{name}0]", next(before))
        last, steps = last[..., shown.place_of_output], steps[..., shown.place_of_output]
        if mask is not None and layer.zero_output_for_mask:
            there = ops.cast(ops.flip(mask, axis=1) if layer.go_backwards else mask, steps.dtype)[..., None]
            last, steps = last * there[:, -1], steps * there
        return last, steps, states

    with replaced(layer, "inner_loop", inner_loop):
        yield


class _Shown:
    """Cells in the place of a layer's own, which give all their states side by side; the input of the first comes multiplied already.

    What is masked is told by a last column of the input: a state is then carried over the step, and the gates are NaN. (What Keras' loops
    give at masked steps differs between backends.)
    """

    def __init__(self, of: Sequence[Any]) -> None:
        self._cells, self._weights = of, [weights_of(cell) for cell in of]
        self.state_size = [cell.state_size for cell in of]

    def projected(self, sequences: Any, mask: Any) -> Any:
        """What the input adds to the gates of the first cell, at all steps at once; and the mask."""
        first = self._weights[0]
        a = ops.matmul(ops.cast(sequences, first.input.dtype), first.input) + first.bias
        self._has_mask = mask is not None
        return ops.concatenate([a, ops.cast(mask, a.dtype)[..., None]], axis=-1) if self._has_mask else a

    def __call__(self, a: Any, states: Any, **kwargs: Any) -> tuple[Any, Any]:
        """One step."""
        there = a[:, -1:] > 0 if self._has_mask else None
        a = a[:, :-1] if self._has_mask else a
        nested = [states] if len(self._cells) == 1 else states
        shown, after, x = [], [], None
        for weights, before in zip(self._weights, nested, strict=True):
            if x is not None:
                a = ops.matmul(x, weights.input) + weights.bias
            now = dict(zip(CARRIED[weights.kind], keras.tree.flatten(before), strict=True))
            everything = cells.step(weights, a, now, OPS)
            if there is not None:
                everything = {name: ops.where(there, value, now.get(name, float("nan"))) for name, value in everything.items()}
            x = everything["h"]
            shown += [everything[name] for name in STATES[weights.kind]]
            after.append(keras.tree.pack_sequence_as(before, [everything[name] for name in CARRIED[weights.kind]]))
        return ops.concatenate(shown, axis=-1), after[0] if len(after) == 1 else after

    @property
    def _columns(self) -> list[tuple[int, str, slice]]:
        """Which columns of what a step gives are which state of which cell."""
        columns, start = [], 0
        for place, weights in enumerate(self._weights):
            for name in STATES[weights.kind]:
                columns.append((place, name, slice(start, start + weights.n_units)))
                start += weights.n_units
        return columns

    @property
    def place_of_output(self) -> slice:
        """The columns that the layer itself gives: h of the last cell."""
        return next(columns for place, name, columns in self._columns if place == len(self._cells) - 1 and name == "h")

    def split(self, steps: Any) -> list[tuple[str, str, Any]]:
        """The states of each cell: the part that it is (".1", or "" where there is one), the state's name, and its steps."""
        several = len(self._cells) > 1
        return [(f".{place}" if several else "", name, steps[..., columns]) for place, name, columns in self._columns]
