"""Files as MATLAB and R write them, of the shipped network and data: the project's own, made with `onnx.helper`, SciPy and h5py.

An ONNX file after `exportONNXNetwork`: input (time, batch, channel), nodes named as the layers, weights listed as graph inputs too. A
MAT-file of version 7: a cell array of matrices (channel, time), one for each sequence, and the labels. A whole model of Keras 2 after R's
`save_model_hdf5`, and a table after `write.csv`.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np
import onnx
import pandas as pd
import scipy.io
from safetensors.numpy import load_file

import onnx_nets
import seqscope as sq

# torch stacks the gates i f g o, ONNX i o f c.
_IOFC = (0, 3, 1, 2)


def write_network(path: Path, *, opset: int = 14, n_batch: int | str = "N") -> Path:
    """`zoo.japanese_vowels` as `sequenceinput`, `lstm`, `fc`, `softmax`."""
    weights = _weights()
    graph = onnx_nets.Graph(opset, listed=True)
    graph.weight("lstm_W", _in_order(weights["lstm.weight_ih_l0"])[None])
    graph.weight("lstm_R", _in_order(weights["lstm.weight_hh_l0"])[None])
    biases = [_in_order(weights[f"lstm.bias_{which}_l0"]) for which in ("ih", "hh")]
    graph.weight("lstm_B", np.concatenate(biases)[None])
    given = ["sequenceinput", "lstm_W", "lstm_R", "lstm_B"]
    graph.node("LSTM", given, "lstm", ["", "lstm_YH"], hidden_size=100, direction="forward")
    last = graph.squeezed("lstm_YH", "lstm_Squeeze", [0])
    graph.weight("fc_W", weights["fc.weight"])
    graph.weight("fc_B", weights["fc.bias"])
    graph.node("Gemm", [last, "fc_W", "fc_B"], "fc", transB=1)
    graph.node("Softmax", ["fc"], "softmax", axis=1)
    made = graph.made([onnx_nets.floats("sequenceinput", "T", n_batch, 12)], [onnx_nets.floats("softmax", n_batch, 9)])
    onnx.save(made.model, path)
    return path


def write_data(path: Path, places: slice = slice(None)) -> Path:
    """`datasets.japanese_vowels` as the cell array XTest of 370 x 1 and the numbers of the speakers, YTest."""
    X, y = sq.datasets.japanese_vowels("test")
    X, y = X[places], y[places]
    cells = np.empty((len(X), 1), object)
    for place, sequence in enumerate(X):
        cells[place, 0] = sequence.values.T.astype(np.float64)
    scipy.io.savemat(path, {"XTest": cells, "YTest": np.asarray(y).astype(np.float64)[:, None]}, do_compression=True)
    return path


def write_keras2(path: Path) -> Path:
    """`zoo.japanese_vowels` as Keras 2 saved a Sequential of an LSTM and a dense layer, whose gates have torch's order."""
    weights = _weights()
    lstm = {"name": "lstm", "batch_input_shape": [None, None, 12], "dtype": "float32", "units": 100, "activation": "tanh"}
    lstm |= {"recurrent_activation": "sigmoid", "use_bias": True, "return_sequences": False, "time_major": False, "implementation": 2}
    fc = {"name": "fc", "trainable": True, "dtype": "float32", "units": 9, "activation": "softmax", "use_bias": True}
    layers = [{"class_name": "LSTM", "config": lstm}, {"class_name": "Dense", "config": fc}]
    bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    values = {
        "lstm": {"kernel": weights["lstm.weight_ih_l0"].T, "recurrent_kernel": weights["lstm.weight_hh_l0"].T, "bias": bias},
        "fc": {"kernel": weights["fc.weight"].T, "bias": weights["fc.bias"]},
    }
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.7.0", "tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in values]
        for layer, own in values.items():
            names = {f"{layer}/{'lstm_cell/' if layer == 'lstm' else ''}{name}:0": value for name, value in own.items()}
            group.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
            for name, value in names.items():
                group[layer][name] = np.float32(value)
    return path


def write_table(path: Path, n_samples: int = 20) -> Path:
    """The first sequences of `datasets.japanese_vowels`, a row for each step, as `write.csv(d, path, row.names = FALSE)` has them."""
    X, y = sq.datasets.japanese_vowels("test")
    parts = [
        pd.DataFrame(X[place].values, columns=[f"c{channel}" for channel in range(1, 13)]).assign(
            sample=place + 1, time=np.arange(1, X.lengths[place] + 1), label=y[place]
        )
        for place in range(n_samples)
    ]
    frame = pd.concat(parts)
    frame[["sample", "time", "label", *(name for name in frame if name.startswith("c"))]].to_csv(path, index=False)
    return path


def _weights() -> dict[str, np.ndarray]:
    return load_file(str(files("seqscope.zoo") / "japanese_vowels.safetensors"))


def _in_order(weight: np.ndarray) -> np.ndarray:
    return np.concatenate([np.split(weight, 4)[place] for place in _IOFC])
