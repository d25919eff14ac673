"""ONNX models one step at a time: equal to the whole run, or refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import seqscope as sq
from onnx_cell_nets import if_net, step_net, written_net
from onnx_nets import C, H, K, conv_net, custom_net, floats, lengths_net, recurrent_net, stateful_net, tensor
from seqscope.errors import UnsupportedError
from tolerances import assert_close

Array = np.ndarray
T, N = 7, 3
X = np.random.default_rng(0).standard_normal((N, T, C)).astype(np.float32)
POOL = helper.make_node("MaxPool", ["conv"], ["pool"], name="pool", kernel_shape=[2])
DATA = sq.Sequences(X, layout="NTC")


def streamed(scope: sq.Scope, n_streams: int | None = None) -> Array:
    """The outputs of all steps, (stream, time, output)."""
    with scope.stream(batch_size=n_streams) if n_streams else scope.stream() as stream:
        outputs = [np.asarray(stream.step(X[:n_streams, t] if n_streams else X[0, t]).output) for t in range(T)]
    return np.stack(outputs, axis=1) if n_streams else np.stack(outputs)[None]


def assert_streams(model: onnx.ModelProto, n_streams: int | None = None) -> None:
    scope = sq.Scope(model)
    whole, found = scope.predict(DATA), streamed(scope, n_streams)
    expected = whole.values[: n_streams or 1]
    assert_close(found if whole.ndim == 3 else found[:, -1], expected, "float32")


def causal(
    *before: Any, pads: Any = None, behind: Any = (), weights: dict[str, Array] | None = None, n_time: Any = "T", **options: Any
) -> Any:
    """`x` (N, C, T), a convolution of 3 taps, `fc` (N, T, K)."""
    random = np.random.default_rng(1)
    own = {"k": random.uniform(-0.6, 0.6, (6, C, 3)), "w": random.uniform(-0.6, 0.6, (6, K))} | (weights or {})
    value = before[-1].output[0] if before else "x"
    nodes = [*before, helper.make_node("Conv", [value, "k"], ["conv"], name="conv", pads=pads, **options), *behind]
    nodes.append(helper.make_node("Relu", [nodes[-1].output[0]], ["relu"], name="relu"))
    nodes.append(helper.make_node("Transpose", ["relu"], ["turned"], name="turn", perm=[0, 2, 1]))
    nodes.append(helper.make_node("MatMul", ["turned", "w"], ["fc"], name="fc"))
    tensors = [tensor(np.asarray(value), name) for name, value in own.items()]
    graph = helper.make_graph(nodes, "net", [floats("x", "N", C, n_time)], [floats("fc", "N", n_time, K)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    ("ends", "dense", "opset", "n_batch", "n_time"),
    [("Y_h", "gemm", 8, "N", "T"), ("gather", "conv", 11, 1, "T"), ("slice", "matmul", 13, 1, 7), ("sequence", "conv", 14, "N", "T")],
)
def test_recurrent_nets_step_by_step_are_as_whole(kind: str, ends: str, dense: str, opset: int, n_batch: Any, n_time: Any) -> None:
    net = recurrent_net(kind, ends=ends, dense=dense, opset=opset, n_batch=n_batch, n_time=n_time)
    assert_streams(net.model)
    if n_batch == "N":
        assert_streams(net.model, 3)


@pytest.mark.parametrize(("n_batch", "n_time", "n_streams"), [("N", "T", 3), ("N", 1, 3), (1, 1, None), (1, 7, None), (2, 1, 2)])
@pytest.mark.parametrize(("form", "kind"), [("h_c", "lstm"), ("state", "lstm"), ("h_c", "gru")])
def test_states_that_are_inputs_and_outputs(form: str, kind: str, n_batch: Any, n_time: Any, n_streams: int | None) -> None:
    assert_streams(stateful_net(form, kind, n_batch=n_batch, n_time=n_time).model, n_streams)


def test_a_graph_of_one_step() -> None:
    assert_streams(step_net().model, 3)
    assert_streams(step_net("gru").model)


def test_lengths_of_a_step() -> None:
    assert_streams(lengths_net().model, 2)


def test_a_state_that_is_a_constant_of_the_file_is_where_each_stream_begins() -> None:
    model = recurrent_net(listed=False, n_batch=1).model
    for node in model.graph.node:
        if node.op_type == "LSTM":
            node.input.extend(["", "h_0", "c_0"])
    model.graph.initializer.extend(
        tensor(np.random.default_rng(place).standard_normal((1, 1, H)), f"{name}_0") for place, name in enumerate("hc")
    )
    assert_streams(model)
    scope = sq.Scope(model)
    with scope.stream() as stream:
        first = np.asarray(stream.step(X[0, 0]).output)
        stream.step(X[0, 1])
        stream.reset()
        assert_close(stream.step(X[0, 0]).output, first, "float32")


@pytest.mark.parametrize("n_time", ["T", T])
def test_causal_convolutions_in_each_form(n_time: Any) -> None:
    pad = helper.make_node("Pad", ["x", "pads"], ["padded"], name="pad")
    model = causal(pad, weights={"pads": np.array([0, 0, 4, 0, 0, 0])}, dilations=[2], n_time=n_time)
    assert_streams(model)
    assert_streams(model, 3)
    assert_streams(causal(pads=[2, 0], n_time=n_time), 2)
    cut = helper.make_node("Slice", ["conv", "from", "to", "axis"], ["cut"], name="cut")
    places = {"from": np.array([0]), "to": np.array([-4]), "axis": np.array([2])}
    assert_streams(causal(pads=[4, 4], behind=[cut], weights=places, dilations=[2], n_time=n_time))


def test_streams_are_reset_one_by_one_and_their_state_is_put_back() -> None:
    scope = sq.Scope(stateful_net().model)
    with scope.stream(batch_size=2, layers=["lstm"], states=["lstm"]) as stream:
        first = np.asarray(stream.step(X[:2, 0]).output)
        seen = stream.step(X[:2, 1])
        kept = stream.state
        after = np.asarray(stream.step(X[:2, 2]).output)
        stream.state = kept
        assert_close(stream.step(X[:2, 2]).output, after, "float32")
        stream.reset([1])
        again = np.asarray(stream.step(X[:2, 0]).output)
    assert_close(again[1], first[1], "float32")
    assert np.abs(again[0] - first[0]).max() > 1e-3
    whole = scope.states(DATA, "lstm")
    for name in ("h", "c"):
        assert_close(seen.states["lstm"][name], whole[name][:2, 1], "float32")
    assert_close(seen.activations["lstm"], whole.h[:2, 1], "float32")


def test_a_stream_leaves_the_model_as_it_was() -> None:
    model = recurrent_net().model
    before = model.SerializeToString()
    streamed(sq.Scope(model))
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: recurrent_net("lstm", "bidirectional").model, "'bilstm' reads backwards"),
        (lambda: recurrent_net("gru", "reverse").model, "'gru' reads backwards"),
        (lambda: conv_net().model, "'conv_1' is padded by 1 steps before and 1 after, and a causal convolution of its size by 2 before"),
        (lambda: causal(pads=[2, 0], strides=[2]), r"'conv' takes every 2nd step \(stride\)"),
        (causal, "'conv' is padded by 0 steps before"),
        (lambda: causal(auto_pad="SAME_UPPER"), "'conv' is padded on both sides"),
        (lambda: causal(pads=[2, 0], behind=[POOL]), r"'pool' \(MaxPool\) needs several steps"),
        (lambda: custom_net().model, r"'average' \(Loop\) needs several steps"),
        (lambda: written_net("lstm", "scan").model, r"'scan' \(Scan\) needs several steps"),
        (lambda: if_net().model, r"'either' \(If\) holds a recurrent layer"),
    ],
)  # fmt: skip
def test_what_can_not_be_streamed_is_refused_with_the_reason(make: Any, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        sq.Scope(make()).stream(check=DATA[:1])


def test_a_net_that_looks_at_the_whole_sequence_is_found_out() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], name="mean", axes=[1], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["out"], name="sub"),
    ]
    graph = helper.make_graph(nodes, "net", [floats("x", "N", "T", C)], [floats("out", "N", "T", C)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    with pytest.raises(UnsupportedError, match="gives another value at step 0 than in the whole sequence"):
        sq.Scope(model, layout="NTC").stream(check=DATA[:1])


def test_a_graph_of_a_fixed_number_of_sequences_takes_any_number_of_streams() -> None:
    model = recurrent_net(n_batch=2).model
    assert_streams(model)
    assert_streams(model, 2)


def test_convolution_within_a_frame_is_no_window_over_the_steps():
    """A graph of one sequence, (frame, sound): its padding is computed from constants, its LSTM puts in a sample axis of its own."""
    random = np.random.default_rng(3)
    weights = {
        "front": np.array([0, 0, 1]),
        "one": np.array([1]),
        "first": np.array([0]),
        "kernel": random.standard_normal((4, 1, 3)),
        "W": random.standard_normal((1, 4 * H, 4)),
        "R": random.standard_normal((1, 4 * H, H)),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["wide"]),
        helper.make_node("Concat", ["front", "front"], ["pads"], axis=0),
        helper.make_node("Pad", ["wide", "pads"], ["padded"], mode="reflect"),
        helper.make_node("Conv", ["padded", "kernel"], ["filtered"], name="conv", strides=[2]),
        helper.make_node("ReduceMean", ["filtered"], ["means"], name="mean", axes=[2], keepdims=0),
        helper.make_node("Unsqueeze", ["means", "one"], ["frames"]),
        helper.make_node("LSTM", ["frames", "W", "R"], ["Y"], name="lstm", hidden_size=H),
        helper.make_node("Squeeze", ["Y", "one"], ["h"]),
        helper.make_node("Relu", ["h"], ["seen"], name="relu"),
    ]
    tensors = [tensor(np.asarray(value, np.float64) if value.dtype.kind == "f" else value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "frames", [floats("x", "T", 9)], [floats("seen", "T", 1, H)], tensors)
    scope = sq.Scope(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8))
    X = random.standard_normal((2, 6, 9)).astype(np.float32)
    assert scope.activations(X, "relu").dims == ("sample", "time", "unit")
    expected = np.maximum(scope.states(X[0], "lstm").h.values, 0)
    with scope.stream(layers="relu") as stream:
        streamed = np.array([stream.step(x).activations["relu"].values for x in X[0]])
    np.testing.assert_allclose(streamed, expected, atol=1e-5)
