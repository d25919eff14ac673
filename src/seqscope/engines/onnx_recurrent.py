"""The states of ONNX's recurrent operators, replayed from their weights and what went in.

Where the operator's own Y is known, h is known at every step: all gates are one product then, and c a multiply-add for each step. Else, and
where peepholes let the gates see c, a loop over the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seqscope import cells
from seqscope.cells import CellWeights
from seqscope.engines.base import BACKWARD, FORWARD

# Rows whose gates are computed together, so that they stay in the cache.
_ROWS = 2048

Array = np.ndarray
States = dict[str, Array]


class InPlace:
    """The operations of the equations on arrays, over the memory of their first argument."""

    def add_product(self, a: Array, rows: Array, matrix: Array) -> Array:
        """`a + rows @ matrix`."""
        a += rows @ matrix
        return a

    def add_multiple(self, a: Array, b: Array, c: Array) -> Array:
        """`a + b * c`."""
        a += b * c
        return a

    def affine(self, rows: Array, matrix: Array, bias: Array) -> Array:
        """`rows @ matrix + bias`."""
        product = np.asarray(rows @ matrix)
        product += bias
        return product

    def mixed(self, a: Array, b: Array, share: Array) -> Array:
        """`a + share * (b - a)`."""
        return np.asarray(a + share * (b - a))

    def apply(self, function: str | cells.Elementwise, a: Array) -> Array:
        """An elementwise function into new memory."""
        return np.asarray(cells.NUMPY.apply(function, a))

    def bent(self, function: str | cells.Elementwise, a: Array) -> Array:
        """The same in place."""
        if function == "tanh":
            np.tanh(a, out=a)
        elif function == "sigmoid":  # as `cells` has it: never overflows
            half = a.dtype.type(0.5)
            a *= half
            np.tanh(a, out=a)
            a *= half
            a += half
        else:
            a[...] = cells.NUMPY.apply(function, a)
        return a


IN_PLACE: cells.Ops = InPlace()


def replay(
    weights: Sequence[CellWeights],
    X: Array,
    *,
    direction: str = "forward",
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    sequence_lens: Array | None = None,
    Y: Array | None = None,
    layout: int = 0,
    ops: cells.Ops = IN_PLACE,
) -> dict[str, States]:
    """Every state of an LSTM, GRU or RNN node at every step.

    Parameters
    ----------
    weights : sequence of CellWeights
        For each direction, as `onnx_cells.weights_of` gives them.
    X : array (time, sample, channel)
    direction : {"forward", "reverse", "bidirectional"}
    initial_h, initial_c : array (direction, sample, unit), optional
        Default: zeros.
    sequence_lens : int array (sample,), optional
        Where each sequence ends. Default: with X.
    Y : array (time, direction, sample, unit), optional
        The node's own h. It makes the replay faster, rounding can't grow from step to step, and the states are compared with it.
    layout : {0, 1}
        With 1 the sample axis comes first, as the operator's attribute has it: X (sample, time, channel), initial_h and initial_c
        (sample, direction, unit), Y (sample, time, direction, unit).
    ops : Ops
        What the equations are computed with.

    Returns
    -------
    dict of dicts of arrays
        For each direction ("" where there is one) the states by the names of `cells.STATES`, (sample, time, unit), aligned to the
        input's time, NaN past the end of a sequence; and what they were before the first step, "h0" and "c0", (sample, unit).

    Raises
    ------
    LayerError
        They do not make the h that the node gave.

    Examples
    --------
    >>> weights = CellWeights("rnn", np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), activation="relu")
    >>> replay([weights], np.array([[[1.0]], [[2.0]], [[3.0]]]), direction="reverse")[""]["h"].squeeze()
    array([6., 5., 3.])
    """
    if layout == 1:
        X, Y = X.swapaxes(0, 1), None if Y is None else np.moveaxis(Y, 0, 2)
        initial_h, initial_c = (None if part is None else part.swapaxes(0, 1) for part in (initial_h, initial_c))
    initial = {"h": initial_h, "c": initial_c}
    lengths = None if sequence_lens is None or (sequence_lens == len(X)).all() else sequence_lens
    found = {}
    for place, way in enumerate(ways_of(direction)):
        state = initial_state(weights[place], X.shape[1], {name: part[place] for name, part in initial.items() if part is not None})
        backward = direction == "reverse" or way == BACKWARD
        x, h = X, None if Y is None else Y[:, place]
        if backward:
            x, h = turned(x, lengths), None if h is None else turned(h, lengths)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows in the model does so here
            states = by_loop(weights[place], x, state, ops) if h is None else _checked(weights[place], x, h, state, ops, lengths)
        if backward:
            states = {name: turned(value, lengths) for name, value in states.items()}
        found[way] = {name: _sample_first(value, lengths) for name, value in states.items()}
        found[way] |= {f"{name}0": value for name, value in state.items()}
    return found


def initial_state(weights: CellWeights, n_samples: int, given: Mapping[str, Array]) -> States:
    """What the states were before the first step, (sample, unit): as given, else zeros."""
    zeros = cells.zero_state(weights, lambda size: np.zeros((n_samples, size), weights.bias.dtype))
    return {name: given.get(name, zero) for name, zero in zeros.items()}


def _checked(weights: CellWeights, x: Array, h: Array, state: Mapping[str, Array], ops: cells.Ops, lengths: Array | None) -> States:
    """Every state at every step, (time, sample, unit), where h is known: in parts that stay in the cache, each compared with its h.

    Raises
    ------
    LayerError
        The states make another h.
    """
    n_steps, n_samples = x.shape[:2]
    size = max(1, _ROWS // n_samples) if ops is IN_PLACE else n_steps
    found = {name: np.empty((n_steps, n_samples, weights.n_units), weights.bias.dtype) for name in cells.STATES[weights.kind]} | {"h": h}
    there = np.isfinite(h) if lengths is None else np.isfinite(h) & ~past_end(n_steps, lengths).T[..., None]
    off, now = 0.0, dict(state)
    for start in range(0, n_steps, size):
        part = slice(start, start + size)
        run = by_product(weights, x[part], h[part], now, ops) if weights.peepholes is None else by_loop(weights, x[part], now, ops)
        run["h"] = h[part]
        off = max(off, _off(weights, run, now, there[part]))
        for name in found.keys() - {"h"}:
            found[name][part] = run[name]
        now = {name: found[name][part][-1] for name in now}
    dtype = str(h.dtype)
    cells.refuse_if_off("h", off, cells.TOLERANCES.get(dtype, 1e-5), dtype)
    return found


def _off(weights: CellWeights, states: States, before: Mapping[str, Array], there: Array) -> float:
    """How far the h that states make is from the node's own."""
    own = states["h"]
    off = np.abs(made_from(weights, states, before) - own)
    off /= np.maximum(1, np.abs(own))
    most = float(np.max(off, where=there, initial=0.0))
    return np.inf if np.isnan(most) else most


def ways_of(direction: str) -> tuple[str, ...]:
    """The directions' names in a result: "" where there is one."""
    return (FORWARD, BACKWARD) if direction == "bidirectional" else ("",)


def by_loop(weights: CellWeights, x: Array, state: Mapping[str, Array], ops: cells.Ops = IN_PLACE) -> States:
    """Every state at every step, (time, sample, unit), from x (time, sample, channel): one step after the other."""
    pre = _projected(weights, x, ops)
    found = {name: np.empty((*x.shape[:2], _size_of(weights, name)), pre.dtype) for name in cells.STATES[weights.kind]}
    now = dict(state)
    for step, at_step in enumerate(pre):
        everything = cells.step(weights, at_step, now, ops)
        for name, value in everything.items():
            found[name][step] = value
        now = {name: found[name][step] for name in now}
    return found


def by_product(weights: CellWeights, x: Array, h: Array, state: Mapping[str, Array], ops: cells.Ops = IN_PLACE) -> States:
    """The same where h (time, sample, unit) is known at every step: all gates at once."""
    before = np.concatenate([state["h"][None], h[:-1]])
    pre = _projected(weights, x, ops).reshape(-1, len(weights.bias))
    opened = cells.gates(weights, pre, before.reshape(len(pre), -1), ops)
    gates = {name: value.reshape(*x.shape[:2], -1) for name, value in opened.items()}
    if weights.kind != "lstm":
        return {"h": h} | gates
    written, c = gates["i"] * gates["g"], state["c"]
    for step, f in enumerate(gates["f"]):
        written[step] += f * c
        c = written[step]
    return {"h": h, "c": written} | gates


def made_from(weights: CellWeights, states: Mapping[str, Array], before: Mapping[str, Array]) -> Array:
    """The h that gates and cells make, (time, sample, unit): what a node's own h is compared with.

    Parameters
    ----------
    states : dict of arrays (time, sample, unit)
        In the order in which the direction reads its input.
    before : dict of arrays (sample, unit)
    """
    if weights.kind == "lstm":
        return np.asarray(cells.hidden_of(weights, states["o"], states["c"], cells.NUMPY))
    was = np.concatenate([before["h"][None], states["h"][:-1]])
    return np.asarray(cells.carried_on(weights, states, {"h": was}, cells.NUMPY)["h"])


def _projected(weights: CellWeights, x: Array, ops: cells.Ops) -> Array:
    """What the input adds to the gates at all steps, (time, sample, gate x unit)."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    return np.asarray(ops.affine(rows, weights.input, weights.bias).reshape(*x.shape[:2], -1))


def _size_of(weights: CellWeights, name: str) -> int:
    return weights.n_hidden if name == "h" else weights.n_units


def turned(steps: Array, lengths: Array | None) -> Array:
    """A sequence (time, sample, ...) in the order in which a backward direction reads it, and back again: each row turned around."""
    if lengths is None:
        return steps[::-1]
    numbers = np.arange(len(steps))[:, None]
    places = np.where(numbers < lengths, lengths - 1 - numbers, numbers)
    return np.take_along_axis(steps, places[..., None], axis=0)


def past_end(n_steps: int, lengths: Array) -> Array:
    """Which steps come after the end of their sequence, bool (sample, time)."""
    return np.arange(n_steps) >= np.asarray(lengths)[:, None]


def _sample_first(value: Array, lengths: Array | None) -> Array:
    """(time, sample, unit) as (sample, time, unit), NaN past the ends."""
    swapped = value.swapaxes(0, 1)
    return swapped if lengths is None else np.where(past_end(len(value), lengths)[..., None], value.dtype.type(np.nan), swapped)
