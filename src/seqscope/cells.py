"""The equations of LSTM, GRU and RNN: every gate at every step, from the weights, what goes in and the state before.

They are written once, on an operations namespace (`Ops`): NumPy here, an engine's own tensors there. A row is one sample at one step,
and rows do not see each other. So one call computes the gates of one step of a batch, or of all steps at once where the hidden states
are known already.

    LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000)
        i, f, o = s(x W + h U + b),  g = t(x W + h U + b),  c' = f c + i g,  h' = o t(c')   (times P where h is projected)
        with peepholes (Gers and Schmidhuber 2000) p c is added to what opens i and f, and p c' to what opens o;
        with coupled gates (Greff et al. 2017) f = 1 - i
    GRU (Cho et al. 2014)
        r, z = s(x W + h U + b),  h' = (1 - z) n + z h
        n = t(x W + b + r (h U + d)), the reset gate after the product;  n = t(x W + b + (r h) U), before it
    RNN (Elman 1990)
        a = x W + h U + b,  h' = t(a)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from seqscope.errors import LayerError

# An array or tensor of whatever framework computes.
Tensor = Any
Elementwise = Callable[[Tensor], Tensor]

# The gates of each kind, in the order in which the columns of the weights hold them.
GATES: dict[str, tuple[str, ...]] = {"lstm": ("i", "f", "o", "g"), "gru": ("r", "z", "n"), "rnn": ("a",)}
# What is carried from step to step.
CARRIED: dict[str, tuple[str, ...]] = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}
# All that a result holds, in the order of its variables.
STATES: dict[str, tuple[str, ...]] = {"lstm": ("h", "c", "i", "f", "g", "o"), "gru": ("h", "r", "z", "n"), "rnn": ("h", "a")}

NO_NUDGE: Mapping[str, Tensor] = MappingProxyType({})


class Ops(Protocol):
    """The operations that the equations need besides + - * and slices.

    A method that "may overwrite" gives its result in the memory of its first argument where that is faster.
    """

    def add_product(self, a: Tensor, rows: Tensor, matrix: Tensor) -> Tensor:
        """`a + rows @ matrix`; may overwrite."""
        ...

    def add_multiple(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """`a + b * c`; may overwrite."""
        ...

    def affine(self, rows: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        """`rows @ matrix + bias`."""
        ...

    def mixed(self, a: Tensor, b: Tensor, share: Tensor) -> Tensor:
        """`a + share * (b - a)`."""
        ...

    def bent(self, function: str | Elementwise, a: Tensor) -> Tensor:
        """An elementwise function of `a`, by its name or as it is; may overwrite."""
        ...

    def apply(self, function: str | Elementwise, a: Tensor) -> Tensor:
        """The same into new memory."""
        ...


@dataclass(frozen=True)
class CellWeights:
    """The weights of one cell, in one order and shape whatever the framework stores.

    Attributes
    ----------
    kind : {"lstm", "gru", "rnn"}
    input : tensor (channel, gate x unit)
        Gates in the order of `GATES`.
    hidden : tensor (unit, gate x unit)
        (projection, gate x unit) where h is projected.
    bias : tensor (gate x unit)
        All that is added before the gates' nonlinearity.
    reset_bias : tensor (unit) or None
        Of a GRU whose reset gate comes after the product: what is added to the product. None: the gate comes before it.
    projection : tensor (unit, projection) or None
        Of an LSTM whose h is projected.
    activation, recurrent_activation : str or function
        The bends of candidate and state, and of the gates: a name of `ACTIVATIONS`, or a function of the framework's own.
    output_activation : str, function or None
        Of an LSTM whose memory is shown through another bend than the candidate's.
    peepholes : tensor (gate, unit) or None
        Of an LSTM whose gates see the memory: the weights of i, f and o.
    couples_gates : bool
        Whether an LSTM forgets as much as it lets in, f = 1 - i.
    hidden_parts : pair of tensors or None
        Of a GRU, `hidden` cut into that of the gates and that of the candidate, where to cut it at every step would cost a copy.
    """

    kind: str
    input: Tensor
    hidden: Tensor
    bias: Tensor
    reset_bias: Tensor | None = None
    projection: Tensor | None = None
    activation: str | Elementwise = "tanh"
    recurrent_activation: str | Elementwise = "sigmoid"
    hidden_parts: tuple[Tensor, Tensor] | None = None
    output_activation: str | Elementwise | None = None
    peepholes: Tensor | None = None
    couples_gates: bool = False

    @property
    def n_units(self) -> int:
        """The hidden units."""
        return int(self.bias.shape[0]) // len(GATES[self.kind])

    @property
    def n_hidden(self) -> int:
        """The size of h: that of the projection where there is one."""
        return int(self.hidden.shape[0])

    @property
    def shown_through(self) -> str | Elementwise:
        """The bend through which an LSTM shows its memory."""
        return self.activation if self.output_activation is None else self.output_activation

    def mapped(self, change: Callable[[Tensor], Tensor]) -> CellWeights:
        """The same weights in another form: as arrays, say."""
        names = ("input", "hidden", "bias", "reset_bias", "projection", "peepholes")
        return replace(self, **{name: change(value) for name in names if (value := getattr(self, name)) is not None})


def gates(weights: CellWeights, a: Tensor, h: Tensor, ops: Ops, c: Tensor | None = None) -> dict[str, Tensor]:
    """The gates of some rows.

    Parameters
    ----------
    a : tensor (row, gate x unit)
        What the input adds: x W + b. May be overwritten.
    h : tensor (row, unit)
        The hidden state before.
    c : tensor (row, unit), optional
        The cell state before, which peepholes see.
    """
    n, inner, outer = weights.n_units, weights.recurrent_activation, weights.activation
    match weights.kind:
        case "lstm":
            a = ops.add_product(a, h, weights.hidden)
            if weights.peepholes is not None:
                return _peeping(weights, weights.peepholes, a, c, ops)
            opened = ops.bent(inner, a[:, : 3 * n])
            i, f = opened[:, :n], opened[:, n : 2 * n]
            return {"i": i, "f": 1 - i if weights.couples_gates else f, "g": ops.bent(outer, a[:, 3 * n :]), "o": opened[:, 2 * n :]}
        case "gru":
            of_gates, of_h = weights.hidden_parts or (weights.hidden[:, : 2 * n], weights.hidden[:, 2 * n :])
            opened = ops.bent(inner, ops.add_product(a[:, : 2 * n], h, of_gates))
            r, into_n = opened[:, :n], a[:, 2 * n :]
            if weights.reset_bias is None:
                into_n = ops.add_product(into_n, r * h, of_h)
            else:
                into_n = ops.add_multiple(into_n, r, ops.affine(h, of_h, weights.reset_bias))
            return {"r": r, "z": opened[:, n:], "n": ops.bent(outer, into_n)}
    return {"a": ops.add_product(a, h, weights.hidden)}


def _peeping(weights: CellWeights, peepholes: Tensor, a: Tensor, c: Tensor, ops: Ops) -> dict[str, Tensor]:
    """The gates of an LSTM with peepholes: i and f see the cell state before, o the one that they make."""
    n, inner, (to_i, to_f, to_o) = weights.n_units, weights.recurrent_activation, peepholes
    i = ops.bent(inner, ops.add_multiple(a[:, :n], to_i, c))
    f = 1 - i if weights.couples_gates else ops.bent(inner, ops.add_multiple(a[:, n : 2 * n], to_f, c))
    g = ops.bent(weights.activation, a[:, 3 * n :])
    o = ops.bent(inner, ops.add_multiple(a[:, 2 * n : 3 * n], to_o, ops.add_multiple(i * g, f, c)))
    return {"i": i, "f": f, "g": g, "o": o}


def carried_on(
    weights: CellWeights,
    gate: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    ops: Ops,
    nudge: Mapping[str, Tensor] = NO_NUDGE,
    clamp: Elementwise | None = None,
) -> dict[str, Tensor]:
    """The state after a step, from its gates and the state before, both (row, unit).

    Parameters
    ----------
    nudge : dict of tensors, optional
        What is added to the new h or c: the total derivative with respect to it is that with respect to the nudge.
    clamp : function, optional
        Holds units of the new h at values of their own, before a nudge is added.
    """
    after: dict[str, Tensor] = {}
    match weights.kind:
        case "lstm":
            after["c"] = _nudged("c", ops.add_multiple(gate["i"] * gate["g"], gate["f"], state["c"]), nudge)
            h = hidden_of(weights, gate["o"], after["c"], ops)
        case "gru":
            h = ops.mixed(gate["n"], state["h"], gate["z"])
        case _:
            h = ops.apply(weights.activation, gate["a"])
    return {"h": _nudged("h", h if clamp is None else clamp(h), nudge)} | after


def _nudged(name: str, value: Tensor, nudge: Mapping[str, Tensor]) -> Tensor:
    return value + nudge[name] if name in nudge else value


def hidden_of(weights: CellWeights, o: Tensor, c: Tensor, ops: Ops) -> Tensor:
    """What an LSTM shows of its cell state, (row, unit)."""
    h = o * ops.apply(weights.shown_through, c)
    return h if weights.projection is None else h @ weights.projection


def step(
    weights: CellWeights,
    a: Tensor,
    state: Mapping[str, Tensor],
    ops: Ops,
    nudge: Mapping[str, Tensor] = NO_NUDGE,
    clamp: Elementwise | None = None,
) -> dict[str, Tensor]:
    """Everything after one step: the state that is carried on, and the gates.

    Parameters
    ----------
    a : tensor (row, gate x unit)
        What the input adds: x W + b. May be overwritten.
    state : dict of tensors (row, unit)
        The state before, by name.
    nudge, clamp
        As in `carried_on`.
    """
    opened = gates(weights, a, state["h"], ops, state.get("c"))
    return carried_on(weights, opened, state, ops, nudge, clamp) | opened


def run(weights: CellWeights, x: np.ndarray, state: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Every state at every step, in NumPy.

    Parameters
    ----------
    x : array (sample, time, channel)
    state : dict of arrays (sample, unit), optional
        The initial state; default: zeros.

    Returns
    -------
    dict of arrays (sample, time, unit)
        By the names of `STATES`.

    Examples
    --------
    >>> import numpy as np
    >>> weights = CellWeights("rnn", input=np.ones((1, 1)), hidden=np.ones((1, 1)), bias=np.zeros(1), activation="linear")
    >>> run(weights, np.array([[[1.0], [2.0], [3.0]]]))["h"].squeeze()
    array([1., 3., 6.])
    """
    now = zero_state(weights, lambda size: np.zeros((len(x), size), weights.bias.dtype)) if state is None else dict(state)
    steps: list[dict[str, np.ndarray]] = []
    for at_step in np.moveaxis(x, 1, 0):
        everything = step(weights, NUMPY.affine(at_step, weights.input, weights.bias), now, NUMPY)
        now = {name: everything[name] for name in CARRIED[weights.kind]}
        steps.append(everything)
    return {name: np.stack([one[name] for one in steps], axis=1) for name in STATES[weights.kind]}


def zero_state(weights: CellWeights, zeros: Callable[[int], Tensor]) -> dict[str, Tensor]:
    """A state of nothing, from a function that gives so many zeros for each row."""
    sizes = {"h": weights.n_hidden, "c": weights.n_units}
    return {name: zeros(sizes[name]) for name in CARRIED[weights.kind]}


class _NumPy:
    """The equations' operations on arrays; nothing is overwritten."""

    def add_product(self, a: np.ndarray, rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(a + rows @ matrix)

    def add_multiple(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return np.asarray(a + b * c)

    def affine(self, rows: np.ndarray, matrix: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return np.asarray(rows @ matrix + bias)

    def mixed(self, a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
        return np.asarray(a + share * (b - a))

    def apply(self, function: str | Elementwise, a: np.ndarray) -> np.ndarray:
        return np.asarray(ACTIVATIONS[function](a) if isinstance(function, str) else function(a))

    bent = apply


NUMPY: Ops = _NumPy()


def _sigmoid(a: np.ndarray) -> np.ndarray:
    half = a.dtype.type(0.5)
    return np.asarray(half + half * np.tanh(half * a))  # never overflows


# The bends by name, as Keras 3 defines them.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda a: a,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda a: np.maximum(a, 0),
    "hard_sigmoid": lambda a: np.clip(a / 6 + a.dtype.type(0.5), 0, 1),
}


def in_order(kind: str, blocks: Sequence[Tensor], order: Sequence[str]) -> list[Tensor]:
    """The gates' blocks of a weight in the order of `GATES`.

    Parameters
    ----------
    blocks : sequence of tensors
        One for each gate.
    order : sequence of str
        The gates in the order in which a framework has them.
    """
    return [blocks[list(order).index(gate)] for gate in GATES[kind]]


# How far a replay may be from what the layer gave, by the type that it computes in.
TOLERANCES = {"float64": 1e-9, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


def refuse_if_off(what: str, off: float, allowed: float, dtype: str) -> None:
    """Refuse a replay that is further from what the layer gave than rounding explains.

    Raises
    ------
    LayerError
    """
    if off > allowed:
        raise LayerError(
            f"gives other values than the equations of its kind: {what} is off by {off:.1g}, and {allowed:.0e} is allowed for {dtype}. "
            "Reduced precision does that (run the model in float32, and on a GPU turn TF32 off: in torch, set "
            "torch.backends.cudnn.allow_tf32 = False and torch.backends.cuda.matmul.allow_tf32 = False); so does a forward of its "
            "own, and a net in which rounding grows from step to step"
        )
