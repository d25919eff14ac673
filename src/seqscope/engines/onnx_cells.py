"""The weights of ONNX's recurrent operators, LSTM, GRU and RNN, in the order and shape of `cells.CellWeights`.

https://onnx.ai/onnx/operators/onnx__LSTM.html (likewise GRU and RNN) has the equations and the order of the gates. Where it leaves open
what a default is, onnxruntime's is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from seqscope import cells
from seqscope.cells import CellWeights, Elementwise
from seqscope.errors import ModelError, UnsupportedError, quoted

# onnxruntime's own LSTM with weights of 8 bits.
QUANTIZED = "DynamicQuantizeLSTM"
# The operators by the kind of their equations, and the order in which each has its gates.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "LSTM": ("lstm", ("i", "o", "f", "g")),
    "GRU": ("gru", ("z", "r", "n")),
    "RNN": ("rnn", ("a",)),
    QUANTIZED: ("lstm", ("i", "o", "f", "g")),
}
# The inputs of the operators in their order. A GRU and an RNN have no more than the first six, an LSTM no more than eight.
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P", "W_scale", "W_zero_point", "R_scale", "R_zero_point")
# Those that hold weights.
WEIGHTS = ("W", "R", "B", "P", "W_scale", "W_zero_point", "R_scale", "R_zero_point")
# What each bends, in the order of the attribute `activations`, where it is not set.
_BENDS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), QUANTIZED: ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_WAYS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def _scaled(a: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return np.asarray(alpha * a + beta)


def _elu(a: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(a >= 0, a, alpha * np.expm1(np.minimum(a, 0)))


# ONNX's bends of a value and of their own constants, in lower case as onnxruntime compares them; and what the constants are to it where
# the node does not say.
_FUNCTIONS: dict[str, tuple[Any, tuple[float, ...]]] = {
    "affine": (_scaled, (0.0, 0.0)),
    "elu": (_elu, (1.0,)),
    "hardsigmoid": (lambda a, alpha, beta: np.clip(_scaled(a, alpha, beta), 0, 1), (0.2, 0.5)),
    "leakyrelu": (lambda a, alpha: np.where(a >= 0, a, alpha * a), (0.01,)),
    "relu": (cells.ACTIVATIONS["relu"], ()),
    "scaledtanh": (lambda a, alpha, beta: alpha * np.tanh(beta * a), (0.0, 0.0)),
    "sigmoid": (cells.ACTIVATIONS["sigmoid"], ()),
    "softplus": (lambda a: np.logaddexp(a, a.dtype.type(0)), ()),
    "softsign": (lambda a: a / (1 + np.abs(a)), ()),
    "tanh": (cells.ACTIVATIONS["tanh"], ()),
    "thresholdedrelu": (lambda a, alpha: np.where(a > alpha, a, 0), (0.0,)),
}


@dataclass(frozen=True)
class Bend:
    """An elementwise function of ONNX, on arrays.

    Attributes
    ----------
    name : str
        In lower case, as "hardsigmoid".
    constants : tuple of float
        Its alpha, and its beta where it has one.
    clip : float or None
        What is bent is held between -clip and clip.

    Examples
    --------
    >>> import numpy as np
    >>> Bend("hardsigmoid", (0.2, 0.5))(np.array([-4.0, 0.0, 1.0]))
    array([0. , 0.5, 0.7])
    """

    name: str
    constants: tuple[float, ...] = ()
    clip: float | None = None

    def __call__(self, a: np.ndarray) -> np.ndarray:
        """The function of an array, in the array's type."""
        held = a if self.clip is None else np.clip(a, -self.clip, self.clip)
        return np.asarray(_FUNCTIONS[self.name][0](held, *self.constants), a.dtype)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name: numbers, lists, and text as str."""
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: _text(value) for name, value in found.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [_text(one) for one in value] if isinstance(value, list) else value


def direction_of(node: onnx.NodeProto) -> str:
    """Which way a recurrent node reads: "forward", "reverse" or "bidirectional".

    Raises
    ------
    ModelError
    """
    direction = str(attributes_of(node).get("direction", "forward"))
    if direction not in _WAYS:
        raise ModelError(f"{called(node)} has the direction '{direction}': expected one of {quoted(_WAYS)}.")
    return direction


def called(node: onnx.NodeProto) -> str:
    """A node by its kind and name, as the start of a sentence."""
    return f"The {node.op_type} node '{node.name or next(filter(None, node.output), '')}'"


def weights_of(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> tuple[CellWeights, ...]:
    """The weights of an LSTM, GRU or RNN node: one for each direction, the forward one first.

    Parameters
    ----------
    arrays : dict of arrays
        By the names of the operator's inputs: W (direction, gate x unit, channel), R (direction, gate x unit, unit), and where the node
        has them B (direction, 2 x gate x unit) and P (direction, 3 x unit). Of a quantized LSTM W is (direction, channel, gate x unit), R
        (direction, unit, gate x unit), and their scales and zero points are (direction) or (direction, gate x unit); its weights are given
        as they are without the rounding of what comes in.

    Raises
    ------
    UnsupportedError
        The node is of another kind, or bends its gates with a function that ONNX does not know.
    ModelError
        An array has another shape than the operator's.

    Examples
    --------
    >>> node = onnx.helper.make_node("RNN", ["x", "W", "R"], ["Y"], name="rnn", hidden_size=2)
    >>> (weights,) = weights_of(node, {"W": np.ones((1, 2, 3)), "R": np.zeros((1, 2, 2))})
    >>> weights.kind, weights.input.shape, weights.activation
    ('rnn', (3, 2), 'tanh')
    """
    if node.op_type not in KINDS:
        raise UnsupportedError(f"{called(node)} is not one of {quoted(KINDS)}, whose equations are known.")
    n_ways, attributes = _WAYS[direction_of(node)], attributes_of(node)
    if node.op_type == QUANTIZED:
        arrays = {name: dequantized(arrays, name) for name in ("W", "R")} | {name: arrays[name] for name in ("B", "P") if name in arrays}
    given = _checked(node, arrays, n_ways, attributes.get("hidden_size"))
    bends = _bends_of(node, attributes, n_ways)
    return tuple(_of_way(node, {name: array[way] for name, array in given.items()}, bends[way], attributes) for way in range(n_ways))


def dequantized(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """W or R of a quantized LSTM as numbers, (direction, gate x unit, channel or unit)."""
    scale, zero = (_over_columns(arrays[f"{name}_{part}"]) for part in ("scale", "zero_point"))
    return np.asarray((arrays[name].astype(np.float32) - zero) * scale, np.float32).swapaxes(1, 2)


def _over_columns(constant: np.ndarray) -> np.ndarray:
    """What is one number for each direction, or for each column too, as what stands beside a matrix for each direction."""
    return constant.astype(np.float32).reshape(len(constant), 1, -1)


def _of_way(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray], bends: Sequence[str | Elementwise], attributes: Any) -> CellWeights:
    """The weights of one direction; its arrays have no direction axis."""
    kind, order = KINDS[node.op_type]

    def ordered(value: np.ndarray) -> np.ndarray:
        return np.concatenate(cells.in_order(kind, np.split(value, len(order)), order))

    of_input, of_hidden = ordered(arrays["W"]), ordered(arrays["R"])
    own, other = (ordered(part) for part in np.split(arrays["B"], 2))
    n, reset_bias, peepholes = of_hidden.shape[1], None, None
    bias = own + other
    if kind == "gru" and attributes.get("linear_before_reset", 0):
        bias[2 * n :], reset_bias = own[2 * n :], other[2 * n :]
    if "P" in arrays:
        i, o, f = np.split(arrays["P"], 3)
        peepholes = np.stack([i, f, o])
    inner, outer = bends[0], bends[min(1, len(bends) - 1)]
    return CellWeights(
        kind,
        np.ascontiguousarray(of_input.T),
        np.ascontiguousarray(of_hidden.T),
        bias,
        reset_bias=reset_bias,
        activation=outer,
        recurrent_activation=inner,
        output_activation=bends[2] if kind == "lstm" and bends[2] != outer else None,
        peepholes=peepholes,
        couples_gates=kind == "lstm" and bool(attributes.get("input_forget", 0)),
    )


def _checked(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray], n_ways: int, n_units: int | None) -> dict[str, np.ndarray]:
    """The arrays, of the shapes that the operator takes; zeros where there is no bias.

    Raises
    ------
    ModelError
    """
    missing = [name for name in ("W", "R") if name not in arrays]
    if missing:
        raise ModelError(f"{called(node)} has no weights {quoted(missing)}: the file lacks them.")
    n_gates = len(KINDS[node.op_type][1])
    n = int(n_units or (arrays["R"].shape[-1] if arrays["R"].ndim else 0))
    shapes: dict[str, tuple[int | None, ...]] = {
        "W": (n_ways, n_gates * n, None),
        "R": (n_ways, n_gates * n, n),
        "B": (n_ways, 2 * n_gates * n),
        "P": (n_ways, 3 * n),
    }
    for name, array in arrays.items():
        if not _has_shape(array, shapes[name]):
            expected = ", ".join("channel" if size is None else str(size) for size in shapes[name])
            raise ModelError(
                f"{called(node)} has weights {name} of shape {array.shape}: expected ({expected}), for {n} units in {n_ways} "
                f"direction{'s' * (n_ways > 1)}."
            )
    return {"B": np.zeros((n_ways, 2 * n_gates * n), arrays["R"].dtype), **arrays}


def _has_shape(array: np.ndarray, shape: Sequence[int | None]) -> bool:
    return array.ndim == len(shape) and all(wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True))


def _bends_of(node: onnx.NodeProto, attributes: Mapping[str, Any], n_ways: int) -> list[list[str | Elementwise]]:
    """The functions that a node bends with, for each direction in the operator's order.

    What is bent is clipped first where the node says so, but for the memory of an LSTM: onnxruntime does not clip that.
    The constants are taken from `activation_alpha` and `activation_beta` one by one, by those functions that have any.

    Raises
    ------
    UnsupportedError
    """
    own = _BENDS[node.op_type]
    names = list(attributes.get("activations", own * n_ways))
    if len(names) != len(own) * n_ways:
        raise ModelError(f"{called(node)} has {len(names)} activations, {quoted(names)}: expected {len(own) * n_ways}.")
    given = [iter(attributes.get(f"activation_{name}", ())) for name in ("alpha", "beta")]
    clips = [attributes.get("clip") if place % len(own) < 2 else None for place in range(len(names))]
    bends = [_bend(node, name, given, clip) for name, clip in zip(names, clips, strict=True)]
    return [bends[len(own) * way : len(own) * (way + 1)] for way in range(n_ways)]


def _bend(node: onnx.NodeProto, name: str, given: Sequence[Iterator[float]], clip: float | None) -> str | Elementwise:
    """One function: by its name where the equations have it, so that what they are compared and shown with is the same everywhere."""
    known = name.lower()
    if known not in _FUNCTIONS:
        raise UnsupportedError(f"{called(node)} has the activation '{name}', which ONNX does not know: it has {quoted(_FUNCTIONS)}.")
    constants = tuple(next(rest, usual) for rest, usual in zip(given, _FUNCTIONS[known][1], strict=False))
    return Bend(known, constants, clip) if constants or clip is not None or known not in cells.ACTIVATIONS else known
