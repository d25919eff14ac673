"""What a cell state is made of: the share of each step that wrote into it.

c_T = f_T ... f_1 c_0 + sum over t of (f_T ... f_{t+1}) i_t g_t, so every step's share follows from the gates by one scan backward. A GRU's
hidden state is such a sum too: it keeps z and writes (1 - z) n.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from seqscope import cells
from seqscope.engines.base import BACKWARD, Dense, Engine, HasDense
from seqscope.errors import DataError, UnsupportedError
from seqscope.labelled import CALL, DIRECTION, SAMPLE, TIME, UNIT, Part
from seqscope.states import SeenStates

Array = np.ndarray


@dataclass(frozen=True)
class Written:
    """A cell state as a sum.

    Attributes
    ----------
    written : array (sample, time, unit)
        What each step wrote, as far as it is left at the step taken apart; 0 after that, NaN after the end.
    initial : array (sample, unit)
        What is left of the initial state.
    half_life : array (unit)
        Steps after which half of what was written is left, at the geometric mean of the forget gates over the data.
    """

    written: Array
    initial: Array
    half_life: Array


def taken_apart(states: Mapping[str, Array], before: Array, ends: Array, lengths: Array) -> Written:
    """Take cell states apart into what each step wrote.

    Parameters
    ----------
    states : dict of arrays (sample, time, unit)
        An LSTM's or a GRU's gates, in the order in which the layer reads its input; NaN where it has read nothing.
    before : array (sample, unit)
        The initial cell state; of a GRU, the initial hidden state.
    ends : int array (sample,)
        The step whose cell state is taken apart.
    lengths : int array (sample,)
    """
    keep, write = _kept_and_written(states)
    written = np.zeros_like(keep)
    left = np.ones_like(before)
    for t in range(keep.shape[1] - 1, -1, -1):
        inside = (t <= ends)[:, None]
        written[:, t] = np.where(inside, left * write[:, t], 0)
        left = np.where(inside, left * keep[:, t], left)
    written[np.arange(keep.shape[1]) >= lengths[:, None]] = np.nan
    return Written(written, left * before, half_life(states["f" if "f" in states else "z"]))


def _kept_and_written(states: Mapping[str, Array]) -> tuple[Array, Array]:
    """What each step keeps and what it writes; a step that a mask leaves out keeps everything and writes nothing."""
    keep, write = (states["f"], states["i"] * states["g"]) if "f" in states else (states["z"], (1 - states["z"]) * states["n"])
    skipped = np.isnan(keep)
    return np.where(skipped, 1, keep), np.where(skipped, 0, write)


def half_life(forget: Array) -> Array:
    """Steps after which half of a cell's content is left, (unit).

    ln(1/2) / mean ln f: the forget gates multiply up, so their geometric mean over all samples and steps counts. Infinite for a gate that
    is always open, 0 for one that ever closes entirely.

    Examples
    --------
    >>> half_life(np.array([[[0.5, 1.0], [0.5, 1.0]]]))
    array([ 1., inf])
    """
    with np.errstate(divide="ignore"):
        decay = np.nanmean(np.log(forget.astype(np.float64)), axis=(0, 1))
        return np.asarray(np.log(0.5) / np.minimum(decay, -0.0))


def in_reading_order(values: Array, lengths: Array) -> Array:
    """Each sample's steps turned around, (sample, time, ...): the order in which a backward direction reads them, and back again."""
    steps = np.arange(values.shape[1])
    places = np.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return np.take_along_axis(values, places[..., None], axis=1)


def reads_backward(states: Mapping[str, Array], lengths: Array, *, likely: bool) -> bool:
    """Whether a layer reads its input from the end: a layer may be told to, so its states are asked which of them follow from which.

    Parameters
    ----------
    likely : bool
        What is believed where that does not tell.
    """
    turned = {name: in_reading_order(value, lengths) for name, value in states.items() if value.ndim == 3}
    forward, backward = _mismatch(states), _mismatch(turned)
    return backward < forward if max(forward, backward) > 100 * min(forward, backward) else likely


def _mismatch(states: Mapping[str, Array]) -> float:
    """By how much the states fail to follow from the ones before them."""
    keep, write = _kept_and_written(states)
    held = states["c" if "f" in states else "h"]
    return float(np.nansum(np.abs(held[:, 1:] - (keep[:, 1:] * held[:, :-1] + write[:, 1:]))))


def ends_of(lengths: Array, time: int | None, *, backward: bool) -> Array:
    """The step of each sample whose state is taken apart, in reading order.

    Raises
    ------
    DataError
        The time asked for is not a step of every sample.
    """
    if time is None:
        return lengths - 1
    if not isinstance(time, int | np.integer) or not -lengths.min() <= time < lengths.min():
        raise DataError(f"time={time!r} was asked for: expected a step of every sequence, 0 to {lengths.min() - 1}, or -1 for the last.")
    steps = np.where(time < 0, lengths + time, time)
    return lengths - 1 - steps if backward else steps


def of_layer(by_way: Mapping[str, Mapping[str, Array]], lengths: Array, time: int | None) -> dict[str, Written]:
    """Take a layer's states apart, one result a direction.

    Parameters
    ----------
    by_way : dict of dicts of arrays
        For each direction ("" where there is one) its states by name, `c0` (`h0` of a GRU) among them.

    Raises
    ------
    UnsupportedError
        The layer keeps no sum.
    """
    found = {}
    for way, states in by_way.items():
        if "f" not in states and "z" not in states:
            raise UnsupportedError("A simple RNN computes its state anew at every step: there is no memory that steps write into.")
        gates = {name: states[name] for name in ("i", "f", "g", "z", "n") if name in states}
        backward = reads_backward(states, lengths, likely=way == BACKWARD)
        if backward:
            gates = {name: in_reading_order(value, lengths) for name, value in gates.items()}
        made = taken_apart(gates, states["c0" if "f" in states else "h0"], ends_of(lengths, time, backward=backward), lengths)
        found[way] = replace(made, written=in_reading_order(made.written, lengths)) if backward else made
    return found


# What each step adds to a logit


@dataclass(frozen=True)
class Share:
    """A logit as a sum: over the steps, what the initial state is left of, and the bias.

    Attributes
    ----------
    share : array (sample, time)
    initial, bias, logit : arrays (sample,)
    """

    share: Array
    initial: Array
    bias: Array
    logit: Array


def shares(made: Written, o: Array, weights: cells.CellWeights, column: Array, bias: Array) -> Share:
    """Take a logit that a dense layer reads from the last hidden state apart.

    With C_t the part of the last cell state that the steps up to t wrote, step t adds w . o_T (tanh C_t - tanh C_{t-1}), which telescopes.

    Parameters
    ----------
    o : array (sample, unit)
        The output gate at the last step.
    column : array (sample, unit)
        What the dense layer weighs h with for each sample's target.
    bias : array (sample,)
    """
    written = np.nan_to_num(made.written).astype(np.float64)
    initial = made.initial.astype(np.float64)
    so_far = np.concatenate([initial[:, None], initial[:, None] + np.cumsum(written, axis=1)], axis=1)
    weighed = column if weights.projection is None else column @ weights.projection.T
    shown = cells.NUMPY.apply(weights.shown_through, so_far)
    parts = np.einsum("stu,su->st", shown, o * weighed)
    share = np.where(np.isnan(made.written).all(axis=2), np.nan, np.diff(parts, axis=1))
    return Share(share, parts[:, 0], bias, parts[:, -1] + bias)


def find_readout(h: Array, dense: Mapping[str, Dense], given: Mapping[str, Array]) -> str:
    """The dense layer that reads the last hidden state, found by comparing what it gives.

    Parameters
    ----------
    h : array (sample, unit)
        The last hidden state.
    dense : dict
        The dense layers by name.
    given : dict of arrays (sample, output)
        What they give.

    Raises
    ------
    UnsupportedError
        None does.
    """
    for name, layer in dense.items():
        if name not in given or len(layer.matrix) != h.shape[1]:
            continue
        expected = _activated(layer.activation, h @ layer.matrix + layer.bias)
        if expected is not None and expected.shape == given[name].shape and np.allclose(expected, given[name], rtol=1e-3, atol=1e-4):
            return name
    raise UnsupportedError(
        "No dense layer reads the last hidden state as it is (there is something between them, or the model reads other steps too), so a "
        "logit can't be shared out among the steps: `memory` takes the cell state itself apart."
    )


def _activated(name: str, logits: Array) -> Array | None:
    """What a dense layer ends in; None where that is not known."""
    if name == "softmax":
        raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
    return cells.NUMPY.apply(name, logits) if name in cells.ACTIVATIONS else None


def targets_of(target: Any, logits: Array, names: Sequence[Hashable] | None) -> Array:
    """The position of each sample's target: a position or a name, one for all or one for each; None: the largest logit.

    Raises
    ------
    DataError
        There is no such output.
    """
    n_samples, n_outputs = logits.shape
    if target is None:
        return np.asarray(logits.argmax(axis=1))
    wanted = [target] * n_samples if isinstance(target, str) or np.ndim(target) == 0 else list(target)
    if len(wanted) != n_samples:
        raise DataError(f"{len(wanted)} targets were given for {n_samples} sequences: expected one, or one for each.")
    places = {name: place for place, name in enumerate(names or ())} if len(names or ()) == n_outputs else {}
    found = [places.get(one, one) if isinstance(one, str) else one for one in wanted]
    for one in found:
        if isinstance(one, str) or not isinstance(one, int | np.integer) or not 0 <= one < n_outputs:
            raise DataError(f"There is no output {one!r}: expected a position from 0 to {n_outputs - 1}{', or a name' if places else ''}.")
    return np.array(found, int)


# From what a scope has seen


def labelled_parts(seen: SeenStates, part: str, time: int | None) -> dict[str, Part]:
    """What each step wrote into a layer's memory, with dims and names."""
    h, lengths = seen.hidden(part), _steps_of(seen, part)
    calls = (h.values.shape[h.dims.index(CALL)],) if CALL in h.dims else ()
    rows = {way: {name: _one_a_row(value, len(calls)) for name, value in states.items()} for way, states in seen.by_way(part).items()}
    by_way = of_layer(rows, np.repeat(lengths, math.prod(calls)), time)
    several = (CALL,) if calls else ()
    both = (DIRECTION,) if len(by_way) > 1 else ()

    def joined(name: str) -> Array:
        arrays = [getattr(made, name) for made in by_way.values()]
        arrays = arrays if name == "half_life" else [array.reshape(len(lengths), *calls, *array.shape[1:]) for array in arrays]
        return np.stack(arrays, axis=0 if name == "half_life" else 1) if both else arrays[0]

    return {
        "written": ((SAMPLE, *both, *several, TIME, UNIT), joined("written"), "What is left of what a step wrote"),
        "initial": ((SAMPLE, *both, *several, UNIT), joined("initial"), "What is left of the initial state"),
        "half_life": ((*both, UNIT), joined("half_life"), "Half-life (steps)"),
    }


def _one_a_row(values: Array, n_dims: int) -> Array:
    """Values (sample, time, unit), the calls of a layer that is called several times one below the other."""
    return values.reshape(-1, *values.shape[1 + n_dims :])


def _steps_of(seen: SeenStates, part: str) -> Array:
    """How many steps of the layer's own each sample has."""
    h = seen.hidden(part)
    if h.on_input_clock:
        return seen.sequences.lengths
    if TIME not in h.dims:
        raise UnsupportedError(f"'{part}' has no time axis (it has {', '.join(h.dims)}), so what each step wrote can't be told.")
    steps = h.dims.index(TIME)
    there = ~np.isnan(h.values).all(axis=tuple(axis for axis in range(1, h.values.ndim) if axis != steps))
    return np.asarray(there.sum(axis=1))


def dense_layers(engine: Engine) -> dict[str, Dense]:
    """The dense layers of a model whose weights can be read."""
    found: dict[str, Dense] = {}
    if not isinstance(engine, HasDense):
        return found
    for name in [layer.name for layer in engine.layers if layer.kind == "linear"]:
        with contextlib.suppress(UnsupportedError):
            found[name] = engine.dense(name)
    return found


def labelled_shares(
    seen: SeenStates, part: str, engine: Engine, dense: Mapping[str, Dense], target: Any, names: Sequence[Hashable] | None
) -> tuple[dict[str, Part], xr.Variable, str]:
    """Each step's share in a logit, with dims and names; each sample's target; and the dense layer that makes the logit."""
    ways = seen.by_way(part)
    if seen.kind(part) != "lstm" or len(ways) > 1:
        raise UnsupportedError(f"A logit is shared out over an LSTM of one direction, and '{part}' is a {_in_words(seen, part, ways)}.")
    if CALL in seen.hidden(part).dims:
        raise UnsupportedError(
            f"'{part}' is called several times in one pass, and a logit is shared out over one call: `memory` takes each call apart."
        )
    states, lengths = ways[""], _steps_of(seen, part)
    backward = reads_backward(states, lengths, likely=False)
    if backward:
        states = {name: in_reading_order(value, lengths) if value.ndim == 3 else value for name, value in states.items()}
    made = taken_apart(states, states["c0"], lengths - 1, lengths)
    last = (np.arange(len(lengths)), _last_read(states["o"]))
    readout = find_readout(states["h"][last], dense, {name: value.values for name, value in seen.found.items() if name in dense})
    layer = dense[readout]
    targets = targets_of(target, states["h"][last] @ layer.matrix + layer.bias, names)
    weights = engine.recurrent(part)[0]  # type: ignore[attr-defined]
    found = shares(made, states["o"][last], weights, layer.matrix.T[targets], layer.bias[targets])
    share = in_reading_order(found.share[..., None], lengths)[..., 0] if backward else found.share
    called = {"initial": "Share of the initial state", "bias": "Bias", "logit": "Logit"}
    parts: dict[str, Part] = {"share": ((SAMPLE, TIME), share, "Share in the logit")}
    parts |= {name: ((SAMPLE,), getattr(found, name), text) for name, text in called.items()}
    return parts, xr.Variable((), targets[0]) if seen.sequences.single else xr.Variable(SAMPLE, targets), readout


def _last_read(gate: Array) -> Array:
    """The last step of each sample that no mask leaves out, and that holds the last hidden state."""
    there = ~np.isnan(gate).all(axis=2)
    return np.asarray(gate.shape[1] - 1 - there[:, ::-1].argmax(axis=1))


def _in_words(seen: SeenStates, part: str, ways: Mapping[str, Any]) -> str:
    return f"{'bidirectional ' if len(ways) > 1 else ''}{seen.kind(part).upper()}"
