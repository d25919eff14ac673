"""The equations, step by step in float64 NumPy: what a captured value is compared with.

Written from the papers' equations and torch's documented order of the gates (LSTM i, f, g, o; GRU r, z, n), one sequence and one
step at a time. No torch computation is used: weights are only read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def weights_of(module: Any) -> dict[str, Array]:
    """The parameters of a torch module as float64, by name."""
    return {name: p.detach().to("cpu").double().numpy() for name, p in module.named_parameters()}


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def relu(x: Array) -> Array:
    return np.where(x > 0, x, 0.0)


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def linear(module: Any, x: Array) -> Array:
    w = weights_of(module)
    return x @ w["weight"].T + w.get("bias", 0.0)


def layer_norm(module: Any, x: Array) -> Array:
    w = weights_of(module)
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + module.eps) * w["weight"] + w["bias"]


# Recurrent cells: one sequence (time, channel), one direction. `w` has weight_ih, weight_hh, bias_ih, bias_hh (and weight_hr).


def lstm(x: Array, w: Mapping[str, Array], h: Array, c: Array) -> tuple[Array, Array]:
    """Hidden and cell state after every step: (time, projection or unit), (time, unit)."""
    n = len(c)
    hidden, cell = [], []
    for step in x:
        a = w["weight_ih"] @ step + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
        i, f, g, o = sigmoid(a[:n]), sigmoid(a[n : 2 * n]), np.tanh(a[2 * n : 3 * n]), sigmoid(a[3 * n :])
        c = f * c + i * g
        h = o * np.tanh(c)
        if "weight_hr" in w:
            h = w["weight_hr"] @ h
        hidden.append(h)
        cell.append(c)
    return np.array(hidden), np.array(cell)


def gru(x: Array, w: Mapping[str, Array], h: Array) -> Array:
    """Hidden state after every step: (time, unit)."""
    n = len(h)
    hidden = []
    for step in x:
        of_x, of_h = w["weight_ih"] @ step + w["bias_ih"], w["weight_hh"] @ h + w["bias_hh"]
        r = sigmoid(of_x[:n] + of_h[:n])
        z = sigmoid(of_x[n : 2 * n] + of_h[n : 2 * n])
        candidate = np.tanh(of_x[2 * n :] + r * of_h[2 * n :])
        h = (1 - z) * candidate + z * h
        hidden.append(h)
    return np.array(hidden)


def rnn(x: Array, w: Mapping[str, Array], h: Array, nonlinearity: str = "tanh") -> Array:
    """Hidden state after every step: (time, unit)."""
    bend = np.tanh if nonlinearity == "tanh" else relu
    hidden = []
    for step in x:
        h = bend(w["weight_ih"] @ step + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"])
        hidden.append(h)
    return np.array(hidden)


def stack(module: Any, x: Array, h0: Array | None = None, c0: Array | None = None) -> list[Array]:
    """What each layer of an `nn.LSTM`, `nn.GRU` or `nn.RNN` puts out for one sequence (time, channel).

    `h0` and `c0` are (layer x direction, unit), as torch orders them. The last entry is the module's own output.
    """
    ways = 2 if module.bidirectional else 1
    layers = []
    for layer in range(module.num_layers):
        both = []
        for way in range(ways):
            place = layer * ways + way
            w = _weights(module, layer, "_reverse" if way else "")
            h = np.zeros(getattr(module, "proj_size", 0) or module.hidden_size) if h0 is None else h0[place]
            c = np.zeros(module.hidden_size) if c0 is None else c0[place]
            steps = x[::-1] if way else x
            match module.mode:
                case "LSTM":
                    out = lstm(steps, w, h, c)[0]
                case "GRU":
                    out = gru(steps, w, h)
                case _:
                    out = rnn(steps, w, h, module.nonlinearity)
            both.append(out[::-1] if way else out)
        x = np.concatenate(both, axis=-1)
        layers.append(x)
    return layers


def _weights(module: Any, layer: int, suffix: str) -> dict[str, Array]:
    known = weights_of(module)
    end = f"_l{layer}{suffix}"
    found = {name.removesuffix(end): value for name, value in known.items() if name.endswith(end)}
    zeros = np.zeros(len(found["weight_ih"]))
    return {"bias_ih": zeros, "bias_hh": zeros} | found


def stacks(module: Any, x: Sequence[Array]) -> list[list[Array]]:
    """`stack` for several sequences: for each, what each layer puts out."""
    return [stack(module, np.asarray(one, np.float64)) for one in x]


def hidden(module: Any, x: Sequence[Array]) -> Array:
    """What a recurrent module puts out for sequences of one length: (sample, time, unit)."""
    return np.array([layers[-1] for layers in stacks(module, x)])


# Convolution and attention


def conv1d(module: Any, x: Array) -> Array:
    """What an `nn.Conv1d` without groups gives for one sequence, (time, channel) -> (time, filter), as a sum over taps."""
    w = weights_of(module)
    weight, bias = w["weight"], w.get("bias", np.zeros(module.out_channels))
    (stride,), (dilation,), taps = module.stride, module.dilation, weight.shape[2]
    reach = dilation * (taps - 1)
    before, after = (reach // 2, reach - reach // 2) if module.padding == "same" else (module.padding[0],) * 2
    padded = np.concatenate([np.zeros((before, x.shape[1])), x, np.zeros((after, x.shape[1]))])
    starts = range(0, len(padded) - reach, stride)
    return np.array([bias + sum(weight[:, :, k] @ padded[start + k * dilation] for k in range(taps)) for start in starts])


def attention(module: Any, x: Array) -> tuple[Array, Array]:
    """What an `nn.MultiheadAttention` gives for one sequence that attends to itself: (time, unit), weights (head, time, time)."""
    w = weights_of(module)
    q, k, v = np.split(x @ w["in_proj_weight"].T + w["in_proj_bias"], 3, axis=-1)
    width = module.head_dim
    heads, weights = [], []
    for head in range(module.num_heads):
        part = slice(head * width, (head + 1) * width)
        weights.append(softmax(q[:, part] @ k[:, part].T / np.sqrt(width)))
        heads.append(weights[-1] @ v[:, part])
    return np.concatenate(heads, axis=-1) @ w["out_proj.weight"].T + w["out_proj.bias"], np.array(weights)


def encoder_layer(module: Any, x: Array) -> dict[str, Array]:
    """What the parts of an `nn.TransformerEncoderLayer` (norm after, ReLU) give for one sequence, by name; "" is the layer's own."""
    attended = attention(module.self_attn, x)[0]
    x = layer_norm(module.norm1, x + attended)
    inner = linear(module.linear1, x)
    outer = linear(module.linear2, relu(inner))
    return {"self_attn": attended, "norm1": x, "linear1": inner, "linear2": outer, "": layer_norm(module.norm2, x + outer)}
