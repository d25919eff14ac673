"""Every state of ONNX's LSTM, GRU and RNN in float64 NumPy, one sequence, one step at a time, from the operators' pages.

https://onnx.ai/onnx/operators/onnx__LSTM.html: gates in the order i o f c, z r h, i; peepholes in the order i o f. Nothing of the library
is used. States have the library's names: g is ONNX's c, n its h of a GRU, a what goes into the bend of an RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Array = np.ndarray
Bend = Callable[[Array], Array]
BENDS: dict[str, Callable[[Array, float, float], Array]] = {
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "Relu": lambda x, alpha, beta: np.maximum(x, 0),
    "LeakyRelu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * x),
    "ThresholdedRelu": lambda x, alpha, beta: np.where(x >= alpha, x, 0),
    "Tanh": lambda x, alpha, beta: np.tanh(x),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "Sigmoid": lambda x, alpha, beta: 1 / (1 + np.exp(-x)),
    "HardSigmoid": lambda x, alpha, beta: np.minimum(np.maximum(alpha * x + beta, 0), 1),
    "Elu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * (np.exp(x) - 1)),
    "Softsign": lambda x, alpha, beta: x / (1 + np.abs(x)),
    "Softplus": lambda x, alpha, beta: np.log(1 + np.exp(x)),
}
HAS_ALPHA = ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu")
HAS_BETA = ("Affine", "ScaledTanh", "HardSigmoid")


def states(
    kind: str,
    x: Array,
    w: Mapping[str, Array],
    h: Array,
    c: Array,
    bends: Sequence[Bend],
    *,
    clip: float = np.inf,
    linear_before_reset: int = 0,
    input_forget: int = 0,
) -> dict[str, Array]:
    """One direction of one sequence (time, channel); `w` has W, R, B and maybe P without their direction axis; `bends` are f, g, h."""
    x, h, c = (np.asarray(part, np.float64) for part in (x, h, c))
    w = {name: np.asarray(value, np.float64) for name, value in w.items()}
    step = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[kind]
    clipped = [lambda a, bend=bend: bend(np.clip(a, -clip, clip)) for bend in bends[:2]] + list(bends[2:])
    found = []
    for x_t in x:
        found.append(step(x_t, h, c, w, clipped, linear_before_reset, input_forget))
        h, c = found[-1]["h"], found[-1].get("c", c)
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def _lstm(x, h, c, w, bends, linear_before_reset, input_forget):
    f, g, shown = bends
    n = len(h)
    a = w["W"] @ x + w["R"] @ h + w["B"][: 4 * n] + w["B"][4 * n :]
    p_i, p_o, p_f = np.split(w.get("P", np.zeros(3 * n)), 3)
    into_i, into_o, into_f, into_c = np.split(a, 4)
    i = f(into_i + p_i * c)
    forget = 1 - i if input_forget else f(into_f + p_f * c)
    candidate = g(into_c)
    c = forget * c + i * candidate
    o = f(into_o + p_o * c)
    return {"h": o * shown(c), "c": c, "i": i, "f": forget, "g": candidate, "o": o}


def _gru(x, h, c, w, bends, linear_before_reset, input_forget):
    f, g = bends
    (w_z, w_r, w_h), (r_z, r_r, r_h) = np.split(w["W"], 3), np.split(w["R"], 3)
    wb_z, wb_r, wb_h, rb_z, rb_r, rb_h = np.split(w["B"], 6)
    z = f(w_z @ x + r_z @ h + wb_z + rb_z)
    r = f(w_r @ x + r_r @ h + wb_r + rb_r)
    n = g(w_h @ x + r * (r_h @ h + rb_h) + wb_h) if linear_before_reset else g(w_h @ x + r_h @ (r * h) + rb_h + wb_h)
    return {"h": (1 - z) * n + z * h, "r": r, "z": z, "n": n}


def _rnn(x, h, c, w, bends, linear_before_reset, input_forget):
    wb, rb = np.split(w["B"], 2)
    a = w["W"] @ x + w["R"] @ h + wb + rb
    return {"h": bends[0](a), "a": a}
