"""The states of Keras' recurrent layers: their own loop runs cells that show their gates.

Keras' loop over the steps takes care of masks, unrolling, the direction and initial states on each backend; what a cell gives at a step is
replaced by all its states side by side.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
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

# Which columns of a tensor are which state.
Columns = Mapping[str, slice]
# What is given to whoever wants states: a place, a tensor, and the places of its columns.
Keep = Callable[[str, Any, Columns], None]
# For places, functions that are given zeros and give what is added there.
Nudges = Mapping[str, Callable[[Any], Any]]
NO_NUDGES: Nudges = MappingProxyType({})
# For places, functions that hold units of the h of a step.
Clamps = Mapping[str, Elementwise]
NO_CLAMPS: Clamps = MappingProxyType({})


class _Ops:
    """The equations' operations on Keras' tensors."""

    def add_product(self, a: Any, rows: Any, matrix: Any) -> Any:
        return a + rows @ matrix  # Keras' own product takes float64 as float32 on jax and torch

    def add_multiple(self, a: Any, b: Any, c: Any) -> Any:
        return a + b * c

    def affine(self, rows: Any, matrix: Any, bias: Any) -> Any:
        return rows @ matrix + bias

    def mixed(self, a: Any, b: Any, share: Any) -> Any:
        return a + share * (b - a)

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
    if len(both) > 1 and both[0].go_backwards:
        return "its first layer goes backwards and its second one forward, so that their steps are not those of the input"
    kinds = [[(type(cell), cell.units) for cell in cells_of(one)] for one in both]
    return "its two directions run different cells" if kinds[0] != kinds[-1] else None


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
    parts = (recurrent[:, : 2 * cell.units], recurrent[:, 2 * cell.units :]) if kind == "gru" else None
    return CellWeights(kind, kernel, recurrent, bias, reset_bias, None, cell.activation, inner or cell.activation, parts)


def as_arrays(cell: Any) -> CellWeights:
    """The weights of a cell as NumPy arrays, its activations by name where they have one."""
    weights = weights_of(cell).mapped(ops.convert_to_numpy)
    activation, inner = _named(weights.activation), _named(weights.recurrent_activation)
    return replace(weights, activation=activation, recurrent_activation=inner, hidden_parts=None)


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
        return _given_h(layer, f"{last}{BEHIND}", captured)
    ways = {FORWARD: layer.forward_layer, BACKWARD: layer.backward_layer}
    both = [_given_h(one, f"{last}{BEHIND}[{way}]", captured) for way, one in ways.items()]
    merge = _MERGES.get(layer.merge_mode)
    if merge is None or both[0] is None or both[1] is None:
        return None
    return [merge(*pair) for pair in zip(*both, strict=True)]


def _given_h(layer: Any, place: str, captured: Mapping[str, list[np.ndarray]]) -> list[np.ndarray] | None:
    """A layer's hidden states as it gives them: 0 at masked steps, where gates are NaN, if it was told so."""
    h = captured.get(f"{place}[h]")
    kind = next((kind for name, kind, _ in _KINDS if isinstance(cells_of(layer)[-1], getattr(kl, name))), None)
    if h is None or kind is None or not layer.zero_output_for_mask:
        return h
    gates = captured.get(f"{place}[{next(state for state in STATES[kind] if state not in CARRIED[kind])}]")
    return h if gates is None else [np.where(np.isnan(gate), 0, value) for gate, value in zip(gates, h, strict=True)]


# How a bidirectional layer puts its two directions together.
_MERGES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "concat": lambda one, other: np.concatenate([one, other], axis=-1),
    "sum": np.add,
    "mul": np.multiply,
    "ave": lambda one, other: (one + other) / 2,
}


def check_replay(layer: Any, own: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> None:
    """Refuse states that do not make the hidden states that a layer itself gives, call after call.

    Raises
    ------
    LayerError
    """
    dtype = str(layer.compute_dtype)
    allowed = max(cells.TOLERANCES.get(dtype, 1e-5), _KERAS_FLOAT64)
    for given, replayed in zip(own, made, strict=True):
        exact = given.astype(np.float64)
        off = np.nanmax(np.abs(exact - replayed) / np.maximum(1.0, np.abs(exact)), initial=0.0)
        cells.refuse_if_off("h", float(off), allowed, dtype)


# Keras' own product takes float64 as float32 on jax and torch.
_KERAS_FLOAT64 = 1e-6


def _plain(value: Any, cell: Any) -> Any:
    """A variable's tensor."""
    return ops.cast(ops.convert_to_tensor(value), cell.compute_dtype)


@contextlib.contextmanager
def showing(layer: Any, keep: Keep, nudges: Nudges = NO_NUDGES, *, clamps: Clamps = NO_CLAMPS, careful: bool = False) -> Iterator[None]:
    """Let a recurrent layer, or both of a bidirectional one, hand over all its states at each call.

    Parameters
    ----------
    keep : function of (place, tensor, columns)
        Gets all states of a layer at every step side by side, (sample, time, state x unit) in input time, with the columns of each by its
        place: "[c]", "[backward][c]", and ".1[c]" for the second of stacked cells (they are taken apart where that costs nothing); and
        what the states were before the first step, "[c0]", (sample, unit), without columns.
    nudges : dict of functions, optional
        What is added to the states at these places, (sample, time, unit): made of zeros at each call.
    clamps : dict of functions, optional
        What holds units of h at these places: given h at a step, (sample, unit), gives what is seen of it.
    careful : bool
        Whether each step goes on from the hidden state that the layer itself gives, at the cost of running it: the equations of a step
        are then off by their rounding alone, however it would grow from step to step. Stacked cells, and a layer that is nudged or held,
        give theirs by their own cells, at the cost of a second product.
    """
    with contextlib.ExitStack() as undo:
        if not keras_kinds.is_bidirectional(layer):
            undo.enter_context(_showing_one(layer, keep, nudges, clamps, careful))
        else:
            for way, one in ((FORWARD, layer.forward_layer), (BACKWARD, layer.backward_layer)):
                undo.enter_context(_showing_one(one, _under_way(keep, way), _of_way(nudges, way), _of_way(clamps, way), careful))
        yield


def _of_way(functions: Mapping[str, Elementwise], way: str) -> dict[str, Elementwise]:
    """Those of the places of one direction."""
    return {place.replace(f"[{way}]", ""): function for place, function in functions.items() if f"[{way}]" in place}


def _under_way(keep: Keep, way: str) -> Keep:
    """What takes in the states of one direction."""

    def under_way(place: str) -> str:
        part, _, state = place.partition("[")
        return f"{part}[{way}][{state}"

    def keep_in(place: str, tensor: Any, columns: Columns) -> None:
        keep(under_way(place), tensor, {under_way(of): where for of, where in columns.items()})

    return keep_in


@contextlib.contextmanager
def _showing_one(layer: Any, keep: Keep, nudges: Nudges, clamps: Clamps, careful: bool) -> Iterator[None]:
    def inner_loop(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        mask = keras.tree.flatten(mask)[0] if mask is not None else None
        follows = careful and not nudges and not clamps and len(cells_of(layer)) == 1
        shown = _Shown(cells_of(layer), nudges, clamps, careful and not follows, follows)
        with replaced(layer, "return_sequences", True):
            given = type(layer).inner_loop(layer, sequences, initial_state, mask, training) if follows else None
            own = None if given is None else _in_input_time(layer, given[1])
            with replaced(layer, "cell", shown):
                last, steps, states = kl.RNN.inner_loop(layer, shown.side_by_side(sequences, mask, own), initial_state, None, training)
        keep("[]", _in_input_time(layer, steps), shown.places)
        for place, tensor in zip(shown.carried, keras.tree.flatten(initial_state), strict=True):
            keep(place.replace("]", "0]"), tensor, {})
        if given is not None:
            return given
        last, steps = last[..., shown.place_of_output], steps[..., shown.place_of_output]
        if mask is not None and layer.zero_output_for_mask:
            there = ops.cast(_in_input_time(layer, mask), steps.dtype)[..., None]
            last, steps = last * there[:, -1], steps * there
        return last, steps, states

    with replaced(layer, "inner_loop", inner_loop):
        yield


def _in_input_time(layer: Any, steps: Any) -> Any:
    """Steps in the order of the input out of those in which a layer goes through it, and the other way around."""
    return ops.flip(steps, axis=1) if layer.go_backwards else steps


class _Shown:
    """Cells in the place of a layer's own, which give all their states side by side.

    What is masked is told by a last column of the input: a state is then carried over the step, and the gates are NaN. (What Keras' loops
    give at masked steps differs between backends.) Nudges come in columns too, so that Keras turns them around with the input, and so does
    the hidden state that the next step goes on from, where it is to follow the layer's own.
    """

    def __init__(self, of: Sequence[Any], nudges: Nudges, clamps: Clamps, careful: bool, follows: bool) -> None:
        self._cells, self._weights, self._clamps = of, [weights_of(cell) for cell in of], clamps
        self._careful, self._follows = careful, follows
        self._parts = [f".{place}" if len(of) > 1 else "" for place in range(len(of))]
        self._nudges = {place: nudge for place, nudge in nudges.items() if place.partition("[")[0] in self._parts}
        self.state_size = [cell.state_size for cell in of]

    def side_by_side(self, sequences: Any, mask: Any, own: Any) -> Any:
        """What each step takes: what the input adds to the gates of the first cell, at all steps at once; nudges; own h; the mask."""
        first, self._has_mask = self._weights[0], mask is not None
        x = ops.cast(sequences, first.input.dtype)
        columns = [x if self._careful else x @ first.input + first.bias]
        for place, nudge in self._nudges.items():
            columns.append(nudge(ops.zeros_like(x[..., :1]) + ops.zeros((self._size_of(place),), x.dtype)))
        if self._follows:
            columns.append(ops.cast(own, x.dtype))
        if self._has_mask:
            columns.append(ops.cast(mask, x.dtype)[..., None])
        return columns[0] if len(columns) == 1 else ops.concatenate(columns, axis=-1)

    def _apart(self, columns: Any) -> tuple[Any, dict[str, Any], Any, Any]:
        """The input of a step, the nudges by place, the layer's own h, and whether the step is there."""
        there = columns[:, -1:] > 0 if self._has_mask else None
        end = columns.shape[-1] - int(self._has_mask)
        start = end - (int(self._weights[0].n_units) if self._follows else 0)
        own, end = columns[:, start:end] if self._follows else None, start
        nudges: dict[str, Any] = {}
        for place in reversed(self._nudges):
            size = self._size_of(place)
            nudges[place] = columns[:, end - size : end]
            end -= size
        return columns[:, :end], nudges, own, there

    def _size_of(self, place: str) -> int:
        """How many units the state at a place has."""
        return int(self._weights[self._parts.index(place.partition("[")[0])].n_units)

    def __call__(self, columns: Any, states: Any, **kwargs: Any) -> tuple[Any, Any]:
        """One step."""
        x, nudges, own_h, there = self._apart(columns)
        nested = [states] if len(self._cells) == 1 else states
        shown, after = [], []
        for place, before in enumerate(nested):
            weights, part = self._weights[place], self._parts[place]
            now = dict(zip(CARRIED[weights.kind], keras.tree.flatten(before), strict=True))
            nudge = {name: nudges[f"{part}[{name}]"] for name in now if f"{part}[{name}]" in nudges}
            a = x if place == 0 and not self._careful else x @ weights.input + weights.bias
            clamp = self._clamps.get(f"{part}[h]")
            everything = cells.step(weights, a, now, OPS, nudge, clamp)
            if self._careful:
                own = keras.tree.flatten(self._cells[place](x, before)[1])
                everything |= dict(zip(CARRIED[weights.kind], own, strict=True))
                everything["h"] = everything["h"] if clamp is None else clamp(everything["h"])
            if there is not None:
                everything = {name: ops.where(there, value, now.get(name, float("nan"))) for name, value in everything.items()}
            x = everything["h"]
            shown += [everything[name] for name in STATES[weights.kind]]
            if own_h is not None:
                everything["h"] = own_h if there is None else ops.where(there, own_h, now["h"])
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

    @property
    def places(self) -> dict[str, slice]:
        """The columns of each state of each cell: ".1[c]", or "[c]" where there is one cell."""
        return {f"{self._parts[place]}[{name}]": columns for place, name, columns in self._columns}

    @property
    def carried(self) -> list[str]:
        """The states that are carried from step to step, in Keras' order."""
        return [f"{self._parts[place]}[{name}]" for place, name, _ in self._columns if name in ("h", "c")]
