"""Every state of a recurrent layer at every step, in float64 NumPy: what `Scope.states` is compared with.

One sequence, one direction, one step, one gate at a time, from the papers' equations. Frameworks are imported nowhere here: their
objects are asked for weights and options alone. A state's values are (time, unit), those of a bidirectional layer (direction, time, unit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
States = dict[str, Array]


@dataclass(frozen=True)
class Gate:
    """What one gate is made of; weights are (unit, channel) and (unit, hidden), whatever the framework stores."""

    of_x: Array
    of_h: Array
    bias_x: Array
    bias_h: Array

    def from_x(self, x: Array) -> Array:
        return self.of_x @ x + self.bias_x

    def from_h(self, h: Array) -> Array:
        return self.of_h @ h + self.bias_h

    def at(self, x: Array, h: Array) -> Array:
        return self.from_x(x) + self.from_h(h)


# Activations, by Keras' names


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "elu": elu,
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * elu(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "silu": lambda x: x * sigmoid(x),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,  # Keras 3; Keras 2 had 0.2 x + 0.5
}


# The cells. At a masked step the state is held and no gate is computed.


def lstm(
    x: Array,
    w: Mapping[str, Gate],
    h0: Array,
    c0: Array,
    *,
    activation: Callable[[Array], Array] = np.tanh,
    recurrent_activation: Callable[[Array], Array] = sigmoid,
    mask: Array | None = None,
    projection: Array | None = None,
) -> States:
    """`h c i f g o` after every step; `h` is (time, projection) where there is one."""
    h, c, steps = h0, c0, []
    for step, is_there in _steps(x, mask):
        gates = _no_gates("ifgo", len(c0))
        if is_there:
            gates = {name: (activation if name == "g" else recurrent_activation)(w[name].at(step, h)) for name in "ifgo"}
            c = gates["f"] * c + gates["i"] * gates["g"]
            h = gates["o"] * activation(c)
            h = h if projection is None else projection @ h
        steps.append({"h": h, "c": c} | gates)
    return _together(steps)


def gru(
    x: Array,
    w: Mapping[str, Gate],
    h0: Array,
    *,
    reset_after: bool = True,
    activation: Callable[[Array], Array] = np.tanh,
    recurrent_activation: Callable[[Array], Array] = sigmoid,
    mask: Array | None = None,
) -> States:
    """`h r z n` after every step. The reset gate acts after the product with h (cuDNN, torch) or before it (Cho et al. 2014)."""
    h, steps = h0, []
    for step, is_there in _steps(x, mask):
        gates = _no_gates("rzn", len(h0))
        if is_there:
            r, z = (recurrent_activation(w[name].at(step, h)) for name in "rz")
            remembered = r * w["n"].from_h(h) if reset_after else w["n"].from_h(r * h)
            n = activation(w["n"].from_x(step) + remembered)
            h = z * h + (1 - z) * n
            gates = {"r": r, "z": z, "n": n}
        steps.append({"h": h} | gates)
    return _together(steps)


def rnn(x: Array, w: Mapping[str, Gate], h0: Array, *, activation: Callable[[Array], Array] = np.tanh, mask: Array | None = None) -> States:
    """`h a` after every step."""
    h, steps = h0, []
    for step, is_there in _steps(x, mask):
        gates = _no_gates("a", len(h0))
        if is_there:
            gates = {"a": w["a"].at(step, h)}
            h = activation(gates["a"])
        steps.append({"h": h} | gates)
    return _together(steps)


def _steps(x: Array, mask: Array | None) -> Iterator[tuple[Array, bool]]:
    """Every step, and whether it counts."""
    return zip(np.asarray(x, np.float64), np.ones(len(x), bool) if mask is None else mask, strict=True)


def _no_gates(names: str, units: int) -> States:
    return {name: np.full(units, np.nan) for name in names}


def _together(steps: Iterable[States]) -> States:
    steps = list(steps)
    return {name: np.array([step[name] for step in steps]) for name in steps[0]}


def _back_in_time(states: States) -> States:
    """States that were computed from the last step to the first, in the order of the input's steps."""
    return {name: values[::-1] for name, values in states.items()}


def _both(forward: States, backward: States) -> States:
    return {name: np.stack([forward[name], backward[name]]) for name in forward}


def _gates(names: str, of_x: Array, of_h: Array, bias_x: Array, bias_h: Array) -> dict[str, Gate]:
    """Cut weights whose rows are the gates' units, gate after gate."""
    cut = (np.split(np.asarray(part, np.float64), len(names)) for part in (of_x, of_h, bias_x, bias_h))
    return {name: Gate(*parts) for name, *parts in zip(names, *cut, strict=True)}


# Torch: rows in the documented order, i f g o and r z n

TORCH_ORDER = {"LSTM": "ifgo", "GRU": "rzn", "RNN_TANH": "a", "RNN_RELU": "a"}


def torch_stack(module: Any, x: Array, h0: Array | None = None, c0: Array | None = None) -> list[States]:
    """The states of each layer of an `nn.LSTM`, `nn.GRU` or `nn.RNN`; `h0` and `c0` are (layer x direction, unit)."""
    ways = 2 if module.bidirectional else 1
    layers = []
    for layer in range(module.num_layers):
        places = [layer * ways + way for way in range(ways)]
        starts = [[None if start is None else start[place] for start in (h0, c0)] for place in places]
        sides = [_torch_direction(module, f"_l{layer}", x, *starts[0])]
        if ways == 2:
            sides.append(_back_in_time(_torch_direction(module, f"_l{layer}_reverse", x[::-1], *starts[1])))
        x = np.concatenate([side["h"] for side in sides], axis=-1)
        layers.append(_both(*sides) if ways == 2 else sides[0])
    return layers


def _torch_direction(module: Any, end: str, x: Array, h0: Array | None, c0: Array | None) -> States:
    # What torch multiplies by is in this list, also where a parametrization has an attribute of the same name.
    flat = dict(zip(module._flat_weights_names, module._flat_weights, strict=True))
    known = {name: flat[name + end] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr") if name + end in flat}
    return _torch_loop(module.mode, {name: value.detach().double().numpy() for name, value in known.items()}, x, h0, c0)


def torch_cell(cell: Any, x: Array, h0: Array | None = None, c0: Array | None = None) -> States:
    """The states of an `nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell` that is looped over the steps."""
    mode = {"LSTMCell": "LSTM", "GRUCell": "GRU"}.get(type(cell).__name__) or f"RNN_{cell.nonlinearity.upper()}"
    return _torch_loop(mode, {name: value.detach().double().numpy() for name, value in cell.named_parameters()}, x, h0, c0)


def _torch_loop(mode: str, w: Mapping[str, Array], x: Array, h0: Array | None, c0: Array | None) -> States:
    rows = len(w["weight_ih"])
    units, none = rows // len(TORCH_ORDER[mode]), np.zeros(rows)
    gates = _gates(TORCH_ORDER[mode], w["weight_ih"], w["weight_hh"], w.get("bias_ih", none), w.get("bias_hh", none))
    h0 = np.zeros(w["weight_hh"].shape[1]) if h0 is None else h0
    if mode == "LSTM":
        return lstm(x, gates, h0, np.zeros(units) if c0 is None else c0, projection=w.get("weight_hr"))
    return gru(x, gates, h0) if mode == "GRU" else rnn(x, gates, h0, activation=ACTIVATIONS[mode.removeprefix("RNN_").lower()])


# Keras: columns in the order i f c o and z r h

KERAS_ORDER = {"LSTMCell": "ifgo", "GRUCell": "zrn", "SimpleRNNCell": "a"}


def keras_layer(layer: Any, x: Array, state: Iterable[Array] | None = None, mask: Array | None = None) -> States:
    """The states of an `LSTM`, a `GRU`, a `SimpleRNN` or an `RNN` of one cell; backwards they are in the input's order too."""
    if layer.go_backwards:
        return _back_in_time(keras_cell(layer.cell, x[::-1], state, None if mask is None else mask[::-1]))
    return keras_cell(layer.cell, x, state, mask)


def keras_both(layer: Any, x: Array, state: Iterable[Array] | None = None, mask: Array | None = None) -> States:
    """The states of a `Bidirectional`; `state` is first that of the layer forward, then that of the layer backward."""
    states = None if state is None else list(state)
    of_forward, of_backward = (None, None) if states is None else (states[: len(states) // 2], states[len(states) // 2 :])
    return _both(keras_layer(layer.forward_layer, x, of_forward, mask), keras_layer(layer.backward_layer, x, of_backward, mask))


def keras_stack(layer: Any, x: Array, mask: Array | None = None) -> list[States]:
    """The states of each cell of an `RNN([...])`: the next cell reads the h of the one before at the same step."""
    x, mask = (x, mask) if not layer.go_backwards else (x[::-1], None if mask is None else mask[::-1])
    found = []
    for cell in layer.cell.cells:
        found.append(keras_cell(cell, x, None, mask))
        x = found[-1]["h"]
    return [_back_in_time(states) for states in found] if layer.go_backwards else found


def keras_cell(cell: Any, x: Array, state: Iterable[Array] | None = None, mask: Array | None = None) -> States:
    """The states of an `LSTMCell`, a `GRUCell` or a `SimpleRNNCell` run from the first step of `x` to the last."""
    kind = type(cell).__name__
    kernel, recurrent, *biases = cell.get_weights()
    none = np.zeros(kernel.shape[1])
    # A GRU whose reset comes after the product has a bias on either side of it; elsewhere the one bias can stand with x.
    bias_x, bias_h = biases[0] if biases and biases[0].ndim == 2 else (biases[0] if biases else none, none)
    gates = _gates(KERAS_ORDER[kind], kernel.T, recurrent.T, bias_x, bias_h)
    h0, *c0 = [np.zeros(cell.units)] * 2 if state is None else [np.asarray(part, np.float64) for part in state]
    options = {"activation": ACTIVATIONS[cell.activation.__name__], "mask": mask}
    if kind == "SimpleRNNCell":
        return rnn(x, gates, h0, **options)
    options["recurrent_activation"] = ACTIVATIONS[cell.recurrent_activation.__name__]
    return lstm(x, gates, h0, c0[0], **options) if kind == "LSTMCell" else gru(x, gates, h0, reset_after=cell.reset_after, **options)
