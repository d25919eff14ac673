"""The states of ONNX's recurrent operators through a scope, against float64 equations: at top level, in If and Loop, quantized."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import xarray as xr

import reference_onnx as ref
import seqscope as sq
from onnx_cell_nets import if_net, looped_net, quantized_net, twice_net
from onnx_nets import GATES, C, H, Net, custom_net, disguised_net, lengths_net, recurrent_net, stateful_net
from seqscope import cells
from seqscope.engines.onnx import OnnxEngine
from seqscope.engines.onnx_cells import INPUTS
from seqscope.engines.onnx_quantized import replay_quantized
from seqscope.errors import LayerError, UnsupportedError
from tolerances import assert_close

T, N = 7, 4
BENDS = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}
Array = np.ndarray


def sequences(channels: int = C, *, seed: int = 1) -> Array:
    """(sample, time, channel)"""
    return np.random.default_rng(seed).standard_normal((N, T, channels)).astype(np.float32)


def expected(kind: str, w: dict[str, Array], name: str, x: Array, *, way: int = 0, h: Array | None = None, c: Array | None = None) -> Any:
    """The states of one direction by the equations, each (sample, time, unit), from x (sample, time, channel)."""
    arrays = {part: w[f"{name}_{part}"][way] for part in "WRB"}
    bends = [lambda a, bend=bend: ref.BENDS[bend](a, 0, 0) for bend in BENDS[kind]]
    zero = np.zeros((len(x), H))
    starts = zero if h is None else h, zero if c is None else c
    found = [
        ref.states(kind.upper(), one, arrays, h_0, c_0, bends, linear_before_reset=1) for one, h_0, c_0 in zip(x, *starts, strict=True)
    ]
    return {state: np.array([one[state] for one in found]) for state in found[0]}


def backward(kind: str, w: dict[str, Array], name: str, x: Array, *, way: int = 0) -> Any:
    return {state: value[:, ::-1] for state, value in expected(kind, w, name, x[:, ::-1], way=way).items()}


def assert_states(found: xr.Dataset, wanted: dict[str, Array], *dims: str) -> None:
    assert list(found) == list(cells.STATES[found.attrs["kind"]])
    for name, value in wanted.items():
        assert found[name].dims == (dims or ("sample", "time", "unit"))
        assert_close(found[name], value, "float32")


def scope_of(net: Net, **options: Any) -> sq.Scope:
    return sq.Scope(net.model, **options)


def as_given(x: Array) -> Any:
    return sq.Sequences(x, layout="NTC")


# At top level


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(("ends", "opset"), [("Y_h", 8), ("gather", 11), ("sequence", 14)])
def test_states_equal_the_equations(kind: str, ends: str, opset: int) -> None:
    net = recurrent_net(kind, ends=ends, dense="matmul", opset=opset)
    x = sequences()
    standard = (x - net.weights["sequenceinput_Mean"]) / net.weights["sequenceinput_StandardDeviation"]
    found = scope_of(net).states(as_given(x), kind)
    assert_states(found, expected(kind, net.weights, kind, standard))


@pytest.mark.parametrize("kind", GATES)
def test_both_directions_are_in_input_time(kind: str) -> None:
    net = recurrent_net(kind, "bidirectional", zscore=False)
    name = "bilstm" if kind == "lstm" else kind
    x = sequences()
    sides = [expected(kind, net.weights, name, x), backward(kind, net.weights, name, x, way=1)]
    wanted = {state: np.stack([side[state] for side in sides], axis=1) for state in sides[0]}
    found = scope_of(net).states(as_given(x), name)
    assert_states(found, wanted, "sample", "direction", "time", "unit")
    assert list(found["direction"].values) == ["forward", "backward"]


def test_a_layer_that_reads_backward_is_in_input_time() -> None:
    net = recurrent_net("gru", "reverse", zscore=False)
    x = sequences()
    scope = scope_of(net)
    assert_states(scope.states(as_given(x), "gru"), backward("gru", net.weights, "gru", x))
    memory = scope.memory(as_given(x), "gru")
    whole = memory["written"].sum("time") + memory["initial"]
    assert_close(whole, scope.states(as_given(x), "gru")["h"][:, 0], "float32")


def test_sequences_of_other_lengths_end_in_nan() -> None:
    net = recurrent_net("lstm", zscore=False)
    x = sequences()
    ragged = [x[0], x[1, :3], x[2, :5]]
    found = scope_of(net).states(ragged, "lstm")
    for sample, one in enumerate(ragged):
        wanted = expected("lstm", net.weights, "lstm", one[None])
        for name, value in wanted.items():
            assert_close(found[name][sample, : len(one)], value[0], "float32")
            assert np.isnan(found[name][sample, len(one) :]).all()


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lengths_that_the_graph_takes(direction: str) -> None:
    net = lengths_net("lstm", direction)
    x = sequences()
    ragged = [x[0], x[1, :3], x[2, :5]]
    scope = scope_of(net)
    found = scope.states(ragged, "lstm")
    alone = [scope.states([one], "lstm") for one in ragged]
    for sample, one in enumerate(ragged):
        for name in found:
            assert_close(found[name][sample, ..., : len(one), :], alone[sample][name][0], "float32")
    wanted = expected("lstm", net.weights, "lstm", ragged[1][None])["h"][0]
    h = found["h"][1] if direction == "forward" else found["h"][1, 0]
    assert_close(h[:3], wanted, "float32")


@pytest.mark.parametrize("form", ["h_c", "state"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_states_that_the_graph_takes_start_where_they_are_told(form: str, kind: str) -> None:
    net, x = stateful_net(form, kind), sequences()
    assert_states(scope_of(net).states(as_given(x), kind), expected(kind, net.weights, kind, x))
    start = np.random.default_rng(2).uniform(-1, 1, (2, 1, H)).astype(np.float32)

    def fed(model: Any, batch: Array, lengths: Array) -> Any:
        whole = np.repeat(start, len(lengths), axis=1)[: 2 if kind == "lstm" else 1]
        return model(
            batch, **({"state": whole} if form == "state" else {name: whole[[place]] for place, name in enumerate("hc"[: len(whole)])})
        )

    told = scope_of(net, call=fed, layout="TNC").states(as_given(x), kind)
    h, c = (np.repeat(part, N, axis=0) for part in start)
    assert_states(told, expected(kind, net.weights, kind, x, h=h, c=c))


@pytest.mark.parametrize("opset", [11, 14])
def test_weights_behind_other_nodes(opset: int) -> None:
    net, x = disguised_net(opset=opset), sequences()
    scope = scope_of(net)
    assert_states(scope.states(as_given(x), "lstm"), expected("lstm", net.weights, "lstm", x))
    (layer,) = [layer for layer in scope.layers if layer.kind == "lstm"]
    assert layer.n_params == sum(net.weights[f"lstm_{part}"].size for part in "WRB")


def test_states_make_the_activations() -> None:
    net, x = recurrent_net("lstm", "bidirectional"), as_given(sequences())
    scope = scope_of(net)
    h = scope.states(x, "bilstm")["h"]
    np.testing.assert_array_equal(scope.activations(x, "bilstm"), np.concatenate([h[:, 0], h[:, 1]], axis=-1))


# Inside of other nodes


@pytest.mark.parametrize("kind", GATES)
def test_the_branch_that_was_taken_is_seen(kind: str) -> None:
    net, x = if_net(kind), sequences()
    scope = scope_of(net)
    assert_states(scope.states(as_given(x), "long"), expected(kind, net.weights, "long", x))
    assert_states(scope.states(as_given(x[:, :3]), "short"), expected(kind, net.weights, "short", x[:, :3]))


def test_the_branch_that_was_not_taken_is_told() -> None:
    scope, x = scope_of(if_net()), as_given(sequences())
    with pytest.raises(LayerError, match="The layer 'short' never ran"):
        scope.states(x, "short")
    with pytest.warns(UserWarning, match="never ran for this input: 'short'"):
        assert list(scope.states(x).children) == ["long"]


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("where", ["loop", "scan"])
def test_a_node_in_a_loop_over_the_steps(kind: str, where: str) -> None:
    net, x = looped_net(kind, where), sequences()
    assert_states(scope_of(net).states(as_given(x), kind), expected(kind, net.weights, kind, x))


@pytest.mark.parametrize("kind", GATES)
def test_a_node_that_a_loop_runs_over_whole_sequences(kind: str) -> None:
    net, x = twice_net(kind), sequences(H)
    first = expected(kind, net.weights, kind, x)
    second = expected(kind, net.weights, kind, first["h"])
    wanted = {name: np.stack([first[name], second[name]], axis=1) for name in first}
    assert_states(scope_of(net).states(as_given(x), kind), wanted, "sample", "call", "time", "unit")


def test_a_loop_of_other_operations_is_named() -> None:
    scope, x = scope_of(custom_net()), as_given(sequences())
    with pytest.raises(UnsupportedError, match=r"The states of 'average' can't be told: it carries a state .* not those of an LSTM, a GRU"):
        scope.states(x)
    with pytest.raises(UnsupportedError, match=r"The states of 'average' \(Loop\) can't be told"):
        scope.states(x, "average")
    with pytest.raises(UnsupportedError, match=r"'fc' \(Gemm\) is a layer of kind 'linear' and has no states"):
        scope.states(x, "fc")


# Quantized


@pytest.mark.parametrize(("direction", "per_channel"), [("forward", False), ("bidirectional", True)])
def test_a_quantized_layer_is_replayed_with_its_rounding(tmp_path: Path, direction: str, per_channel: bool) -> None:
    logging.disable(logging.WARNING)
    try:
        net = quantized_net(tmp_path, direction, per_channel=per_channel)
    finally:
        logging.disable(logging.NOTSET)
    name = "lstm" if direction == "forward" else "bilstm"
    x = sequences()
    found = scope_of(net).states(as_given(x), f"{name}_quant")
    wanted = expected("lstm", net.weights, name, x)
    forward = found if direction == "forward" else found.isel(direction=0)
    for state, value in wanted.items():
        off = np.abs(forward[state].values - value)
        assert 1e-4 < off.max() < 0.05, state  # it is another net, near to the one that it was made of
    weights, *_ = OnnxEngine(net.model).recurrent(f"{name}_quant")
    i, o, f, g = np.split(net.weights[f"{name}_W"][0], 4)
    np.testing.assert_allclose(weights.input, np.concatenate([i, f, o, g]).T, atol=np.abs(net.weights[f"{name}_W"]).max() / 127)


def test_a_quantized_replay_does_not_ask_how_many_threads_ran(tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    try:
        net = quantized_net(tmp_path)
    finally:
        logging.disable(logging.NOTSET)
    (node,) = [node for node in net.model.graph.node if node.op_type == "DynamicQuantizeLSTM"]
    node.output[0] = "Y"
    net.model.graph.output.append(onnx.ValueInfoProto(name="Y"))
    held = {one.name: onnx.numpy_helper.to_array(one) for one in net.model.graph.initializer}
    x = np.ascontiguousarray(sequences().swapaxes(0, 1))
    arrays = {called: held[name] for called, name in zip(INPUTS, node.input, strict=True) if name in held} | {"X": x}
    found = []
    for threads in (1, 2, 4):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        (Y,) = onnxruntime.InferenceSession(net.model.SerializeToString(), options).run(["Y"], {"sequenceinput": x})
        found.append(replay_quantized(node, arrays, Y)[""]["c"])
        with pytest.raises(LayerError, match="gives other values than the equations"):
            replay_quantized(node, arrays, Y * np.float32(1.01))
    assert np.abs(found[0] - found[2]).max() > 1e-5  # the samples were rounded apart


# A real network: one voice detector in several forms (MIT, Silero Team). Frames of 64 samples of context and 512 new ones.

SILERO = importlib.util.find_spec("silero_vad")
real = pytest.mark.skipif(SILERO is None, reason="silero-vad is not installed")


def silero(name: str) -> onnx.ModelProto:
    assert SILERO is not None
    return onnx.load(Path(SILERO.origin).parent / "data" / f"{name}.onnx")


def silero_states(name: str) -> xr.Dataset:
    """The states of the only recurrent layer that runs at 16 kHz, over frames of noise that swells."""
    random = np.random.default_rng(0)
    frames = (random.standard_normal((2, 12, 576)) * np.linspace(0.01, 0.3, 12)[:, None]).astype(np.float32)
    model = silero(name)
    takes_rate = any(info.name == "sr" for info in model.graph.input)
    call = (lambda run, batch, lengths: run(batch, sr=np.array(16000))) if takes_rate else None
    scope = sq.Scope(model, call=call)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Left out, since they never ran")
        tree = scope.states(sq.Sequences(frames, layout="NTC"))
    (node,) = tree.children.values()
    return node.to_dataset()


@pytest.fixture(scope="module")
def plain() -> xr.Dataset:
    return silero_states("silero_vad_16k_sequence")


@real
def test_a_real_lstm_equals_the_equations_with_the_files_own_weights(plain: xr.Dataset) -> None:
    model = silero("silero_vad_16k_sequence")
    (node,) = [node for node in model.graph.node if node.op_type == "LSTM"]
    held = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    w = {part: held[name][0] for part, name in zip("WRB", node.input[1:4], strict=True)}
    frames = (np.random.default_rng(0).standard_normal((2, 12, 576)) * np.linspace(0.01, 0.3, 12)[:, None]).astype(np.float32)
    into = sq.Scope(model).activations(sq.Sequences(frames, layout="NTC"), node.input[0])
    bends = [lambda a, bend=bend: ref.BENDS[bend](a, 0, 0) for bend in BENDS["lstm"]]
    for sample in range(2):
        steps = np.asarray(into[sample]).reshape(12, -1)
        wanted = ref.states("LSTM", steps, w, np.zeros(128), np.zeros(128), bends)
        for name, value in wanted.items():
            np.testing.assert_allclose(plain[name][sample], value, atol=2e-5, rtol=1e-5)


@real
@pytest.mark.parametrize("name", ["silero_vad", "silero_vad_16k_op15", "silero_vad_op18_ifless"])
def test_every_form_of_a_real_network_has_the_same_states(name: str, plain: xr.Dataset) -> None:
    found = silero_states(name)
    for state in cells.STATES["lstm"]:
        np.testing.assert_allclose(found[state], plain[state], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_the_layout_is_that_of_the_layer_which_reads_the_input(direction: str) -> None:
    """Where both directions are read, or samples are rounded together, trying would not tell."""
    for fixed in ("T", T):
        net = recurrent_net("gru", direction, ends="sequence", dense="matmul", n_time=fixed)
        example = np.zeros((T, N, C), np.float32)
        assert sq.Scope(net.model, example=example).layers.input.layout == "TNC"
    for where in ("loop", "scan"):
        assert OnnxEngine(looped_net("gru", where).model).layouts == ("TNC",)
