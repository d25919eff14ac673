"""The same network in each framework, from the same weights: NumPy arrays in torch's order, gates and all.

`SEQSCOPE_ENGINE` says which framework a process tests; Keras' backend is chosen at its import.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import reference as ref

ENGINE = os.environ.get("SEQSCOPE_ENGINE", "torch")
BACKEND = os.environ.get("KERAS_BACKEND", "torch") if ENGINE == "keras" else ENGINE
CHANNELS, UNITS, OUTPUTS = 3, 5, 2
GATES = {"lstm": 4, "gru": 3, "gru_before": 3, "rnn": 1}


def weights_of(cell: str, channels: int = CHANNELS, seed: int = 0) -> dict[str, np.ndarray]:
    random, rows = np.random.default_rng(seed), GATES[cell] * UNITS
    shapes = {"weight_ih": (rows, channels), "weight_hh": (rows, UNITS), "bias_ih": (rows,), "bias_hh": (rows,)}
    return {name: random.uniform(-0.6, 0.6, shape) for name, shape in shapes.items()}


def steps_of(cell: str, x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """h at every step of one sequence, by the equations."""
    h = np.zeros(UNITS)
    match cell:
        case "lstm":
            return ref.lstm(x, w, h, h)[0]
        case "gru":
            return ref.gru(x, w, h)
        case "gru_before":
            return _gru_reset_before(x, w, h)
    return ref.rnn(x, w, h)


def _gru_reset_before(x: np.ndarray, w: dict[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    """Cho et al. 2014: the reset gate comes before the product. One bias, `bias_ih` plus `bias_hh`."""
    bias, hidden = w["bias_ih"] + w["bias_hh"], []
    of_r, of_z, of_n = (slice(gate * UNITS, (gate + 1) * UNITS) for gate in range(3))
    for step in x:
        r, z = (ref.sigmoid(w["weight_ih"][gate] @ step + w["weight_hh"][gate] @ h + bias[gate]) for gate in (of_r, of_z))
        n = np.tanh(w["weight_ih"][of_n] @ step + w["weight_hh"][of_n] @ (r * h) + bias[of_n])
        h = (1 - z) * n + z * h
        hidden.append(h)
    return np.array(hidden)


@dataclass
class Made:
    """A network, and what its layers give for one sequence (time, channel) by the equations."""

    model: object
    expected: Callable[[np.ndarray], dict[str, np.ndarray]]
    causal: bool


def dense(seed: int, n_in: int, n_out: int = OUTPUTS) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.standard_normal((n_out, n_in)), random.standard_normal(n_out)


def recurrent(cell: str, *, both_ways: bool = False, layout: str = "NTC") -> Made:
    """A recurrent layer `rnn` whose last step a dense layer `fc` reads."""
    w, back = weights_of(cell), weights_of(cell, seed=1)
    matrix, bias = dense(2, UNITS * (2 if both_ways else 1))

    def expected(x: np.ndarray) -> dict[str, np.ndarray]:
        h = steps_of(cell, x, w)
        last = h[-1]
        if both_ways:
            backward = steps_of(cell, x[::-1], back)[::-1]
            h, last = np.concatenate([h, backward], axis=1), np.concatenate([h[-1], backward[0]])
        return {"rnn": h, "fc": matrix @ last + bias}

    make = {"torch": _torch_recurrent, "keras": _keras_recurrent, "onnx": _onnx_recurrent}[ENGINE]
    return Made(make(cell, w, back if both_ways else None, matrix, bias, layout), expected, causal=not both_ways)


def convolution(*, padding: str = "valid", stride: int = 1, dilation: int = 1) -> Made:
    """A convolution `conv` of 4 filters of 3 taps, ReLU `relu`, the mean over its steps, a dense layer `fc`."""
    random = np.random.default_rng(3)
    kernel, bias = random.standard_normal((4, CHANNELS, 3)), random.standard_normal(4)  # (filter, channel, tap)
    head = dense(4, 4)

    def expected(x: np.ndarray) -> dict[str, np.ndarray]:
        reach = dilation * 2
        padded = np.pad(x, [{"valid": (0, 0), "same": (reach // 2, reach - reach // 2), "causal": (reach, 0)}[padding], (0, 0)])
        starts = range(0, len(padded) - reach, stride)
        conv = np.array([np.einsum("fct,tc->f", kernel, padded[start : start + reach + 1 : dilation]) + bias for start in starts])
        relu = np.maximum(conv, 0)
        return {"conv": conv, "relu": relu, "fc": head[0] @ relu.mean(axis=0) + head[1]}

    make = {"torch": _torch_convolution, "keras": _keras_convolution, "onnx": _onnx_convolution}[ENGINE]
    return Made(make(kernel, bias, head, padding, stride, dilation), expected, causal=False)


# torch


def _torch_recurrent(cell, w, back, matrix, bias, layout):
    import torch
    from torch import nn

    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
    rnn = kind(CHANNELS, UNITS, batch_first=layout == "NTC", bidirectional=back is not None, dtype=torch.float64)
    state = {f"{name}_l0": value for name, value in w.items()} | {f"{name}_l0_reverse": value for name, value in (back or {}).items()}
    rnn.load_state_dict({name: torch.tensor(value) for name, value in state.items()})

    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = rnn, _torch_dense(matrix, bias)

        def forward(self, x):
            hidden = self.rnn(x)[0]
            hidden = hidden if layout == "NTC" else hidden.transpose(0, 1)
            last = hidden[:, -1] if back is None else torch.cat([hidden[:, -1, :UNITS], hidden[:, 0, UNITS:]], dim=1)
            return self.fc(last)

    return Read().double().eval()


def _torch_convolution(kernel, bias, head, padding, stride, dilation):
    import torch
    from torch import nn

    conv = nn.Conv1d(CHANNELS, 4, 3, stride, dilation=dilation, padding="same" if padding == "same" else 0, dtype=torch.float64)
    conv.load_state_dict({"weight": torch.tensor(kernel), "bias": torch.tensor(bias)})

    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.fc = conv, nn.ReLU(), _torch_dense(*head)

        def forward(self, x):
            x = nn.functional.pad(x, (2 * dilation, 0)) if padding == "causal" else x
            return self.fc(self.relu(self.conv(x)).mean(dim=-1))

    return Read().double().eval()


def _torch_dense(matrix, bias):
    import torch
    from torch import nn

    layer = nn.Linear(matrix.shape[1], matrix.shape[0], dtype=torch.float64)
    layer.load_state_dict({"weight": torch.tensor(matrix), "bias": torch.tensor(bias)})
    return layer


# Keras


def _keras_recurrent(cell, w, back, matrix, bias, layout):
    import keras
    from keras import layers as kl

    kinds = {
        "lstm": kl.LSTM,
        "gru": kl.GRU,
        "gru_before": lambda units, **options: kl.GRU(units, reset_after=False, **options),
        "rnn": kl.SimpleRNN,
    }
    inner = kinds[cell](UNITS, name="rnn")
    layer = inner if back is None else kl.Bidirectional(inner, name="rnn")
    model = keras.Sequential([keras.Input((None, CHANNELS)), layer, kl.Dense(OUTPUTS, name="fc")])
    layer.set_weights([*_keras_weights(cell, w), *([] if back is None else _keras_weights(cell, back))])
    model.get_layer("fc").set_weights([matrix.T, bias])
    return model


def _keras_weights(cell, w):
    """Transposed; an LSTM's and an RNN's two biases added; a GRU's gates z r h where torch has r z n."""
    if cell.startswith("gru"):
        order = np.r_[UNITS : 2 * UNITS, 0:UNITS, 2 * UNITS : 3 * UNITS]
        w = {name: value[order] for name, value in w.items()}
    both = np.stack([w["bias_ih"], w["bias_hh"]])
    return [w["weight_ih"].T, w["weight_hh"].T, both if cell == "gru" else both.sum(axis=0)]


def _keras_convolution(kernel, bias, head, padding, stride, dilation):
    import keras
    from keras import layers as kl

    conv = kl.Conv1D(4, 3, strides=stride, dilation_rate=dilation, padding=padding, name="conv")
    stack = [conv, kl.ReLU(name="relu"), kl.GlobalAveragePooling1D(name="mean"), kl.Dense(OUTPUTS, name="fc")]
    model = keras.Sequential([keras.Input((None, CHANNELS)), *stack])
    conv.set_weights([kernel.transpose(2, 1, 0), bias])
    model.get_layer("fc").set_weights([head[0].T, head[1]])
    return model


# ONNX


def _onnx_recurrent(cell, w, back, matrix, bias, layout):
    import contract_onnx

    return contract_onnx.recurrent(cell, w, back, matrix, bias, layout, (CHANNELS, UNITS, OUTPUTS))


def _onnx_convolution(kernel, bias, head, padding, stride, dilation):
    import contract_onnx

    return contract_onnx.convolution(kernel, bias, head, padding, stride, dilation, CHANNELS)
