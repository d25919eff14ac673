"""ONNX: activations and states through seqscope against onnxruntime's bare run of the unmodified graph, and opening a file of 100 MB.

An LSTM(12, 100) whose last step a dense layer of 9 reads, as MATLAB's converter writes it, and a Conv1D net of three layers on 300 steps of
9 channels. Bare is the session's own `run` on the same batches. Opening is `Scope(path)`, and `Scope(path)` with the first prediction,
against making onnxruntime's session from the file, and that with its first run. Each is timed in turn with the others, and the
median of the ratios is given, with the lowest and the highest.

    python benchmarks/onnx.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.pop(0)  # this folder, in which this file has the package's name

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import seqscope as sq

N_SAMPLES, N_STEPS, BATCH, ROUNDS = 1024, 100, 256, 11
random = np.random.default_rng(0)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    """Small random numbers."""
    return numpy_helper.from_array((random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32), name)


def model_of(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], shape: list[object], output: str) -> onnx.ModelProto:
    """A model with the input `x`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "net", [x], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7)


def lstm(channels: int = 12, units: int = 100, layers: int = 1) -> onnx.ModelProto:
    """(time, sample, channel) into an LSTM read at its last step."""
    nodes, weights, value = [], [], "x"
    for layer in range(layers):
        name = "lstm" if layer == layers - 1 else f"lstm_{layer}"
        width = units if layer else channels
        weights += [weight(f"{name}_W", 1, 4 * units, width), weight(f"{name}_R", 1, 4 * units, units), weight(f"{name}_B", 1, 8 * units)]
        outputs = ["", "last"] if layer == layers - 1 else [f"{name}_Y"]
        nodes.append(helper.make_node("LSTM", [value, f"{name}_W", f"{name}_R", f"{name}_B"], outputs, name=name, hidden_size=units))
        if layer < layers - 1:
            axes = numpy_helper.from_array(np.array([1]), f"{name}_axes")
            weights.append(axes)
            nodes.append(helper.make_node("Squeeze", [outputs[0], axes.name], [f"{name}_h"], name=f"{name}_squeeze"))
            value = f"{name}_h"
    weights += [numpy_helper.from_array(np.array([0]), "first"), weight("fc_W", 9, units), weight("fc_B", 9)]
    nodes.append(helper.make_node("Squeeze", ["last", "first"], ["h"], name="squeeze"))
    nodes.append(helper.make_node("Gemm", ["h", "fc_W", "fc_B"], ["fc"], name="fc", transB=1))
    return model_of(nodes, weights, ["T", "N", channels], "fc")


def conv() -> onnx.ModelProto:
    """(sample, channel, time) through three convolutions of 64 filters and the mean over time."""
    nodes, weights, value = [], [], "x"
    for layer in range(3):
        name = f"conv_{layer}"
        weights += [weight(f"{name}_W", 64, 64 if layer else 9, 5), weight(f"{name}_B", 64)]
        nodes.append(helper.make_node("Conv", [value, f"{name}_W", f"{name}_B"], [f"{name}_out"], name=name, pads=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"{name}_out"], [f"relu_{layer}"], name=f"relu_{layer}"))
        value = f"relu_{layer}"
    weights += [weight("fc_W", 9, 64), weight("fc_B", 9)]
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pool"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"], name="flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "fc_W", "fc_B"], ["fc"], name="fc", transB=1))
    return model_of(nodes, weights, ["N", 9, "T"], "fc")


def session(source: str | bytes) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def seconds(action: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(bare: Callable[[], object], others: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Each in turn with the bare one, as ratios to it."""
    for action in (bare, *others.values()):
        action()
    ratios: dict[str, list[float]] = {name: [] for name in others}
    base = []
    for _ in range(ROUNDS):
        for name, action in others.items():
            base.append(seconds(bare))
            ratios[name].append(seconds(action) / base[-1])
    shown = {name: f"{np.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" for name, found in ratios.items()}
    return {"bare, ms": f"{1000 * np.median(base):.1f}"} | shown


def activations(kind: str) -> dict[str, str]:
    """What looking costs over a data set."""
    if kind == "lstm":
        model, shape, layers = lstm(), (N_STEPS, N_SAMPLES, 12), ["lstm"]
        parts = [(slice(None), slice(first, first + BATCH)) for first in range(0, N_SAMPLES, BATCH)]
    else:
        model, shape, layers = conv(), (N_SAMPLES, 9, 300), ["relu_2"]
        parts = [(slice(first, first + BATCH),) for first in range(0, N_SAMPLES, BATCH)]
    X = random.standard_normal(shape).astype(np.float32)
    own, scope = session(model.SerializeToString()), sq.Scope(model, layout="TNC" if kind == "lstm" else "NCT")
    sequences = scope.sequences(X)

    def bare() -> None:
        for part in parts:
            own.run(None, {"x": np.ascontiguousarray(X[part])})

    others = {f"activations of {layers[0]}": lambda: scope.activations(sequences, layers[0], batch_size=BATCH)}
    others["predict"] = lambda: scope.predict(sequences, batch_size=BATCH)
    if kind == "lstm":
        others["states"] = lambda: scope.states(sequences, "lstm", batch_size=BATCH)
    return in_turn(bare, others)


def opening() -> dict[str, str]:
    """What it takes to open a large file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.onnx"
        onnx.save(lstm(units=1400, layers=2), path)
        x = np.zeros((2, 1, 12), np.float32)
        found = {"size, MB": f"{path.stat().st_size / 1e6:.0f}"}
        found |= {
            f"opened: {name}": value for name, value in in_turn(lambda: session(str(path)), {"Scope(path)": lambda: sq.Scope(path)}).items()
        }
        first = {"Scope(path).predict": lambda: sq.Scope(path, layout="TNC").predict(x)}
        found |= {
            f"with a first run: {name}": value for name, value in in_turn(lambda: session(str(path)).run(None, {"x": x}), first).items()
        }
    return found


if __name__ == "__main__":
    for title, found in (("LSTM", activations("lstm")), ("Conv1D", activations("conv")), ("Opening", opening())):
        print(json.dumps({title: found}, indent=2), flush=True)
