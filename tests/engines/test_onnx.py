"""The ONNX engine: its layer table, the activations of any tensor, ragged data, the promises, against onnxruntime's own runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import seqscope as sq
from onnx_cell_nets import if_net, looped_net, step_net, written_net
from onnx_nets import INPUT, C, K, conv_net, disguised_net, floats, lengths_net, recurrent_net, stateful_net, tensor
from seqscope.engines.onnx import load_weights
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError
from tolerances import assert_close

Array = np.ndarray
T, N = 7, 4
random = np.random.default_rng(0)
X = random.standard_normal((N, T, C)).astype(np.float32)
DATA = sq.Sequences(X, layout="NTC")
RAGGED = [X[place, :length] for place, length in enumerate((7, 3, 5, 1))]
TIME_FIRST, CHANNELS_FIRST = X.transpose(1, 0, 2).copy(), X.transpose(0, 2, 1).copy()


def run(model: onnx.ModelProto, feeds: dict[str, Array], *tensors: str) -> list[Array]:
    """onnxruntime's own run of the whole file, with tensors added as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in {own.name for own in copy.graph.output})
    copy.ir_version = max(copy.ir_version, 4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(list(tensors), feeds)


def model_of(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any] | None = None, **options: Any) -> Any:
    tensors = [tensor(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", options.pop("opset", 14))], ir_version=8, **options)


def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    """Named as what it gives; "-" is an input that is left out."""
    return helper.make_node(op, ["" if name == "-" else name for name in inputs.split()], [output], name=output, **attributes)


def uniform(*shape: int) -> Array:
    return random.uniform(-0.6, 0.6, shape)


# The table


def test_the_table_of_a_net_as_matlab_writes_it() -> None:
    layers = sq.Scope(recurrent_net(opset=8).model, example=DATA).layers
    rows = [(row.name, row.kind, row.description, row.n_params, row.dims, row.shape, row.field) for row in layers]
    assert rows == [
        ("sequenceinput_Sub", "other", "Sub", C, ("time", "unit"), (T, C), 1),
        ("sequenceinput_Div", "other", "Div", C, ("time", "unit"), (T, C), 1),
        ("lstm", "lstm", "LSTM with 5 hidden units", 4 * 5 * (C + 5 + 2), ("time", "unit"), (T, 5), "all before"),
        ("fc", "linear", "fully connected 4", 5 * K + K, ("unit",), (K,), None),
        ("softmax", "softmax", "softmax", 0, ("unit",), (K,), None),
    ]
    assert (layers.input.layout, layers.input.description) == ("TNC", "sequence input with 3 dimensions")


@pytest.mark.parametrize("dense", ["gemm", "matmul", "conv"])
def test_a_dense_layer_is_one_layer_however_it_is_written(dense: str) -> None:
    rows = {row.description: row for row in sq.Scope(recurrent_net(dense=dense).model).layers}
    name = "fully connected 4" if dense != "conv" else "Conv with 4 filters of 1 steps"
    assert rows[name].n_params == 5 * K + K
    assert sum(row.n_params for row in rows.values()) == 2 * C + 200 + 24


@pytest.mark.parametrize("shape", [(K,), (1, K), (1, 1, K)])
def test_a_constant_that_is_added_to_a_product_is_its_bias(shape: tuple[int, ...]) -> None:
    weights = {"w": uniform(C, K), "b": uniform(*shape)}
    nodes = [node("MatMul", "x w", "fc_MatMul"), node("Add", "b fc_MatMul", "fc")]
    model = model_of(nodes, [floats("x", "N", "T", C)], [floats("fc", "N", "T", K)], weights)
    scope = sq.Scope(model, layout="NTC")
    (row,) = scope.layers
    assert (row.name, row.kind, row.description) == ("fc", "linear", "fully connected 4")
    assert_close(scope.activations(DATA, "fc"), X @ weights["w"] + weights["b"], "float32")
    dense = scope._engine.dense("fc")
    assert_close(dense.matrix, weights["w"], "float32")
    assert_close(dense.bias, np.broadcast_to(weights["b"].reshape(-1), K), "float32")


def test_weights_are_found_behind_other_nodes_and_counted_once() -> None:
    (row,) = sq.Scope(disguised_net().model).layers
    assert (row.name, row.n_params) == ("lstm", 200)
    nodes = [node("MatMul", "x w", "one"), node("Identity", "w", "same"), node("MatMul", "one same", "two")]
    model = model_of(nodes, [floats("x", "N", "T", 3)], [floats("two", "N", "T", 3)], {"w": uniform(3, 3)})
    assert [(row.name, row.n_params) for row in sq.Scope(model, layout="NTC").layers] == [("one", 9), ("two", 0)]


def test_receptive_fields_of_convolutions_are_those_of_torch() -> None:
    layers = sq.Scope(conv_net().model, example=DATA).layers
    twin = nn.Sequential(
        *(nn.Conv1d(C, 6, 3, padding=1), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(6, 6, 3, padding=2, dilation=2), nn.ReLU()),
    ).eval()
    expected = [(row.kind, row.field, row.stride) for row in sq.Scope(twin, layout="NCT", example=DATA).layers]
    found = {row.name: row for row in layers}
    names = ("conv_1", "batchnorm_1", "relu_1", "maxpool", "conv_2", "relu_2")
    assert [(found[name].kind, found[name].field, found[name].stride) for name in names] == expected
    assert found["maxpool"].dims == ("step", "unit")
    assert found["batchnorm_1"].trainable == 12  # the running mean and variance are no parameters that were trained


# The activations


@pytest.mark.parametrize(("opset", "n_batch", "n_time"), [(8, 1, "T"), (11, "N", "T"), (13, 4, 7), (14, "N", "T")])
@pytest.mark.parametrize(
    ("kind", "direction", "ends", "dense"),
    [
        ("lstm", "forward", "Y_h", "gemm"),
        ("lstm", "bidirectional", "slice", "matmul"),
        ("gru", "reverse", "gather", "conv"),
        ("rnn", "bidirectional", "sequence", "conv"),
    ],
)
def test_the_variants_of_matlabs_files(kind: str, direction: str, ends: str, dense: str, opset: int, n_batch: Any, n_time: Any) -> None:
    net = recurrent_net(kind, direction, ends=ends, dense=dense, opset=opset, n_batch=n_batch, n_time=n_time)
    before = net.model.SerializeToString()
    scope = sq.Scope(net.model)
    rows = [[place] for place in range(N)] if n_batch == 1 else [list(range(N))]
    whole = [run(net.model, {INPUT: TIME_FIRST[:, own]}, "softmax")[0] for own in rows]
    axis = 1 if ends == "sequence" else 0
    assert_close(scope.predict(DATA), np.moveaxis(np.concatenate(whole, axis), axis, 0), "float32")
    name = "bilstm" if kind == "lstm" else kind
    name = "lstm" if direction == "forward" else name
    hidden = scope.activations(DATA, name)
    assert hidden.dims == ("sample", "time", "unit")
    assert hidden.shape[1] == T
    if ends == "sequence":
        y = np.concatenate([run(net.model, {INPUT: TIME_FIRST[:, own]}, f"{name}_Y")[0] for own in rows], axis=2)
        assert_close(hidden, y.transpose(2, 0, 1, 3).reshape(N, T, -1), "float32")
    assert net.model.SerializeToString() == before


def test_a_recurrent_layer_read_at_its_last_step_is_shown_at_every_step() -> None:
    net, whole = recurrent_net(), recurrent_net(ends="gather")
    expected = run(whole.model, {INPUT: TIME_FIRST}, "lstm_Y")[0][:, 0].swapaxes(0, 1)
    scope = sq.Scope(net.model)
    assert_close(scope.activations(DATA, "lstm"), expected, "float32")
    assert_close(scope.activations(DATA, "lstm_YH").squeeze(), expected[:, -1], "float32")


def test_every_tensor_of_a_convolutional_net_by_the_name_of_node_or_output() -> None:
    model = conv_net().model
    names = [name for own in model.graph.node for name in own.output]
    scope = sq.Scope(model)
    for name, expected in zip(names, run(model, {"x": CHANNELS_FIRST}, *names), strict=True):
        found = scope.activations(DATA, name)
        steps = found.dims[1:2] in (("time",), ("step",))
        assert_close(found, np.moveaxis(expected, 2, 1) if steps else expected, "float32")
    assert_close(scope.activations(DATA, "flatten"), run(model, {"x": CHANNELS_FIRST}, "flatten")[0], "float32")


@pytest.mark.parametrize("layout", ["NT", "TN"])
def test_tokens(layout: str) -> None:
    axis, tokens = layout.index("T"), np.random.default_rng(1).integers(0, 11, (N, T))
    nodes = [node("Gather", "w t", "embedding"), node("ReduceMean", "embedding", "mean", axes=[axis], keepdims=0)]
    nodes += [node("MatMul", "mean m", "fc_MatMul"), node("Add", "b fc_MatMul", "fc")]
    weights = {"w": uniform(11, 6), "m": uniform(6, 4), "b": uniform(4)}
    model = model_of(nodes, [helper.make_tensor_value_info("t", TensorProto.INT64, list(layout))], [floats("fc", "N", 4)], weights)
    scope = sq.Scope(model)
    assert [(row.name, row.kind, row.n_params) for row in scope.layers] == [
        ("embedding", "embedding", 66),
        ("mean", "other", 0),
        ("fc", "linear", 28),
    ]
    fed = tokens if layout == "NT" else tokens.T
    embedded, output = run(model, {"t": fed}, "embedding", "fc")
    assert_close(scope.activations(sq.Sequences(tokens), "embedding"), embedded if layout == "NT" else embedded.swapaxes(0, 1), "float32")
    assert_close(scope.predict(sq.Sequences(tokens)), output, "float32")


@pytest.mark.parametrize("axis", [1, 2])
def test_an_input_with_an_axis_of_one_place(axis: int) -> None:
    shape = ["N", C, "T"]
    shape.insert(axis, 1)
    kernel = uniform(6, 1, C, 5) if axis == 1 else uniform(6, C, 1, 5)
    nodes = [node("Conv", "x k", "conv", pads=[0, 2, 0, 2]), node("GlobalMaxPool", "conv", "pool"), node("Flatten", "pool", "flat")]
    model = model_of(
        [*nodes, node("MatMul", "flat m", "fc")], [floats("x", *shape)], [floats("fc", "N", 4)], {"k": kernel, "m": uniform(6, 4)}
    )
    scope = sq.Scope(model)
    conv, output = run(model, {"x": np.expand_dims(CHANNELS_FIRST, axis)}, "conv", "fc")
    assert_close(scope.predict(DATA), output, "float32")
    assert_close(scope.activations(DATA, "conv").squeeze(), conv[:, :, 0].swapaxes(1, 2), "float32")


def test_a_graph_that_takes_one_sequence_and_no_samples() -> None:
    nodes = [node("MatMul", "x w", "dense"), node("CumSum", "dense zero", "sums"), node("Tanh", "sums", "out")]
    weights = {"w": uniform(C, 5), "zero": np.array(0)}
    model = model_of(nodes, [floats("x", "T", C)], [floats("out", "T", 5)], weights)
    scope = sq.Scope(model)
    found = scope.activations(RAGGED, "sums")
    assert found.dims == ("sample", "time", "unit")
    for place, x in enumerate(RAGGED):
        sums, out = run(model, {"x": x}, "sums", "out")
        assert_close(found[place, : len(x)], sums, "float32")
        assert_close(scope.predict(RAGGED)[place, : len(x)], out, "float32")
        assert np.isnan(found[place, len(x) :]).all()


@pytest.mark.parametrize("n_steps", [T, 3])
def test_a_branch_that_is_taken_gives_what_the_if_gives(n_steps: int) -> None:
    model, scope = if_net("gru").model, sq.Scope(if_net("gru").model)
    taken, other = ("long", "short") if n_steps > 4 else ("short", "long")
    data = sq.Sequences(X[:, :n_steps], layout="NTC")
    last, output = run(model, {"x": TIME_FIRST[:n_steps]}, "last", "fc")
    assert_close(scope.predict(data), output, "float32")
    assert_close(scope.activations(data, taken)[:, -1], last[0], "float32")
    with pytest.raises(LayerError, match=f"'{other}' never ran"):
        scope.activations(data, other)


def test_a_recurrent_node_inside_of_a_loop_is_seen_at_each_of_its_calls() -> None:
    model = looped_net("lstm", "loop").model
    hidden = run(model, {"x": TIME_FIRST}, "hidden")[0].swapaxes(0, 1)
    assert_close(sq.Scope(model).activations(DATA, "lstm").squeeze(), hidden, "float32")


def test_the_state_inside_of_a_scan_is_the_output_that_shows_it() -> None:
    model = written_net("lstm", "scan").model
    hidden = run(model, {"x": TIME_FIRST}, "hidden")[0].swapaxes(0, 1)
    found = sq.Scope(model).activations(DATA, "shown")
    assert found.sizes["sample"] == N
    assert_close(np.sort(found.values.ravel()), np.sort(hidden.ravel()), "float32")


def test_a_net_that_takes_a_step_is_run_along_the_sequence() -> None:
    model = step_net().model
    h = c = np.zeros((N, 5), np.float32)
    expected = []
    for t in range(T):
        fc, h, c = run(model, {"x": X[:, t], "h": h, "c": c}, "fc", "hn", "cn")
        expected.append(fc)
    assert_close(sq.Scope(model).predict(DATA), np.stack(expected, axis=1), "float32")


@pytest.mark.parametrize("n_batch", [1, 2, "N"])
@pytest.mark.parametrize("form", ["h_c", "state"])
def test_a_net_that_carries_its_state_one_step_long(form: str, n_batch: Any) -> None:
    whole = stateful_net(form).model
    step = stateful_net(form, n_batch=n_batch, n_time=1).model
    assert_close(sq.Scope(step).predict(DATA), sq.Scope(whole).predict(DATA), "float32")
    hidden = sq.Scope(step).activations(DATA, "lstm")
    assert hidden.dims == ("sample", "time", "unit")
    assert_close(hidden, sq.Scope(whole).activations(DATA, "lstm"), "float32")


def test_functions_of_the_file_are_put_in() -> None:
    own = helper.make_opsetid("own", 1)
    body = [helper.make_node("MatMul", ["a", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["b"])]
    function = helper.make_function("own", "layer", ["a", "w"], ["b"], body, [helper.make_opsetid("", 14)])
    nodes = [
        helper.make_node("layer", ["x", "w"], ["one"], domain="own", name="one"),
        node("ReduceMean", "one", "mean", axes=[1], keepdims=0),
    ]
    model = model_of(nodes, [floats("x", "N", "T", C)], [floats("mean", "N", 5)], {"w": uniform(C, 5)}, functions=[function])
    model.opset_import.append(own)
    scope = sq.Scope(model, layout="NTC")
    assert [row.kind for row in scope.layers] == ["linear", "nonlinearity", "other"]
    assert_close(scope.activations(DATA, "one"), run(model, {"x": X}, "one")[0], "float32")


def test_a_file_of_torchs_newer_exporter(tmp_path: Any) -> None:
    pytest.importorskip("onnxscript")

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv1d(C, 6, 3, padding=1), nn.Linear(6, K)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.relu(self.conv(x)).mean(dim=-1))

    net = Reader().eval()
    dims = {0: torch.export.Dim("n"), 2: torch.export.Dim("t")}
    torch.onnx.export(net, (torch.tensor(CHANNELS_FIRST),), tmp_path / "net.onnx", dynamo=True, dynamic_shapes=(dims,), verbose=False)
    scope = sq.Scope(tmp_path / "net.onnx")
    assert_close(scope.predict(RAGGED), sq.Scope(net, layout="NCT").predict(RAGGED), "float32")
    conv = next(row.name for row in scope.layers if row.kind == "conv1d")
    assert_close(scope.activations(DATA, conv), sq.Scope(net, layout="NCT").activations(DATA, "conv"), "float32")


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "float64")])
def test_other_kinds_of_numbers(kind: int, dtype: str) -> None:
    weights = [numpy_helper.from_array(uniform(C, 5).astype(dtype), "w"), numpy_helper.from_array(uniform(5, K).astype(dtype), "m")]
    nodes = [node("MatMul", "x w", "one"), node("Tanh", "one", "bent"), node("ReduceMean", "bent", "mean", axes=[1], keepdims=0)]
    x, out = helper.make_tensor_value_info("x", kind, ["N", "T", C]), helper.make_tensor_value_info("fc", kind, ["N", K])
    graph = helper.make_graph([*nodes, node("MatMul", "mean m", "fc")], "net", [x], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    scope = sq.Scope(model, layout="NTC")
    bent, output = run(model, {"x": X.astype(dtype)}, "bent", "fc")
    assert_close(scope.activations(DATA, "bent"), bent, dtype)
    assert_close(scope.predict(DATA), output, dtype)


def quantized() -> onnx.ModelProto:
    """A convolution of 8-bit numbers, and a product whose input is scaled by its own largest number."""
    nodes = [
        node("QuantizeLinear", "x xs z", "q"),
        node("QLinearConv", "q xs z k ks kz ys z", "conv", pads=[1, 1]),
        node("DequantizeLinear", "conv ys z", "float"),
        node("GlobalAveragePool", "float", "pool"),
        node("Flatten", "pool", "flat"),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["dynamic", "scale", "place"], name="dynamic"),
        node("MatMulInteger", "dynamic m place", "product"),
        node("Cast", "product", "wide", to=TensorProto.FLOAT),
        node("Mul", "wide scale", "fc"),
    ]
    numbers = np.random.default_rng(2)
    weights = {"k": numbers.integers(-100, 100, (6, C, 3)).astype(np.int8), "m": numbers.integers(-100, 100, (6, K)).astype(np.int8)}
    weights |= {"kz": np.int8(0), "z": np.uint8(128), "xs": 0.05, "ks": 0.02, "ys": 0.1}
    return model_of(nodes, [floats("x", "N", C, "T")], [floats("fc", "N", K)], weights)


def test_quantised_layers_are_named_and_a_sequence_is_scaled_by_itself() -> None:
    model = quantized()
    scope = sq.Scope(model)
    assert {"QLinearConv", "MatMulInteger", "DynamicQuantizeLinear"} <= {row.type for row in scope.layers}
    assert_close(scope.activations(DATA, "conv"), run(model, {"x": CHANNELS_FIRST}, "conv")[0].swapaxes(1, 2), "float32")
    alone = [run(model, {"x": CHANNELS_FIRST[[place]]}, "fc", "product") for place in range(N)]
    assert_close(scope.predict(DATA), np.concatenate([fc for fc, _ in alone]), "float32")
    assert_close(scope.activations(DATA, "product"), np.concatenate([product for _, product in alone]), "float32")


# What goes in


def test_a_session_in_place_of_a_file() -> None:
    model = recurrent_net(listed=False).model
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scope = sq.Scope(session)
    assert scope.model is session
    assert_close(scope.predict(DATA), run(model, {INPUT: TIME_FIRST}, "softmax")[0], "float32")


def test_lengths_are_fed() -> None:
    model = lengths_net("gru", "bidirectional").model
    found = sq.Scope(model).predict(RAGGED)
    for place, x in enumerate(RAGGED):
        alone = run(model, {"x": x[:, None], "lengths": np.array([len(x)], np.int32)}, "fc")[0]
        assert_close(found[place], alone[0], "float32")


def test_an_input_of_which_nothing_is_known_is_asked_for_and_then_fed() -> None:
    inputs = [floats("x", "N", "T", C), helper.make_tensor_value_info("gain", TensorProto.FLOAT, [])]
    model = model_of(
        [node("Mul", "x gain", "louder"), node("MatMul", "louder w", "fc")], inputs, [floats("fc", "N", "T", K)], {"w": uniform(C, K)}
    )
    with pytest.raises(ModelError, match=r"of 'gain' \(float32, one number\) nothing is known.*model\(batch, gain=...\)"):
        sq.Scope(model, layout="NTC").predict(DATA)
    scope = sq.Scope(model, layout="NTC", call=lambda model, batch, lengths: model(batch, gain=2.0))
    assert_close(scope.predict(DATA), run(model, {"x": X, "gain": np.array(2, np.float32)}, "fc")[0], "float32")
    with pytest.raises(ModelError, match="no input 'gian'"):
        sq.Scope(model, layout="NTC", call=lambda model, batch, lengths: model(batch, gian=2.0)).predict(DATA)
    with pytest.raises(ModelError, match="never ran it"):
        sq.Scope(model, layout="NTC", call=lambda model, batch, lengths: batch).predict(DATA)


def test_several_outputs() -> None:
    model = recurrent_net().model
    model.graph.output.append(floats("lstm_Squeeze", "N", 5))
    assert sq.Scope(model).predict(DATA).attrs["tensor"] == "the first of 2 that the model gives"
    second = sq.Scope(model, call=lambda model, batch, lengths: model(batch)[1])
    assert_close(second.activations(DATA, "lstm_Squeeze"), run(model, {INPUT: TIME_FIRST}, "lstm_Squeeze")[0], "float32")


# The promises


@pytest.mark.parametrize("make", [recurrent_net, conv_net, lambda: recurrent_net(n_batch=1, ends="sequence")])
def test_a_sequence_alone_is_the_same_as_among_others(make: Any) -> None:
    scope, data = sq.Scope(make().model), [x if len(x) > 1 else X[3, :2] for x in RAGGED]
    name = next(row.name for row in scope.layers if row.kind in ("lstm", "conv1d"))
    among = scope.activations(data, name)
    for place, x in enumerate(data):
        assert_close(among[place, : len(x)], scope.activations([x], name)[0], "float32")
        assert np.isnan(among[place, len(x) :]).all()
    outputs = scope.predict(data)
    assert_close(scope.predict(data, batch_size=1), outputs, "float32")
    assert_close(scope.activations(data)["softmax"]["activations"], outputs, "float32")


def test_the_model_stays_as_it_was() -> None:
    model = conv_net().model
    before, scope = model.SerializeToString(), sq.Scope(model)
    scope.predict(DATA)
    scope.activations(DATA)
    _ = scope.layers
    scope.attribute(DATA, "occlusion")
    scope.attribute(DATA, "score_cam")
    assert scope.model is model
    assert model.SerializeToString() == before


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    sq.Scope(recurrent_net(opset=8).model).activations(DATA)
    with pytest.raises(DataError, match="has 9 channels and the model takes 3"):
        sq.Scope(recurrent_net().model).predict(sq.Sequences(np.zeros((N, T, 9)), layout="NTC"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_two_threads_may_share_a_scope() -> None:
    scope, found = sq.Scope(conv_net().model), {}
    expected = {name: scope.activations(DATA, name).values for name in ("conv_1", "conv_2")}
    shared = sq.Scope(conv_net().model)

    def work(name: str) -> None:
        found[name] = [shared.activations(DATA, name).values for _ in range(3)]

    threads = [threading.Thread(target=work, args=(name,)) for name in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, value in expected.items():
        for one in found[name]:
            assert_close(one, value, "float32")


# The score and the methods


@pytest.mark.filterwarnings("ignore:For . of 4 sequences the target's probability is below chance")
@pytest.mark.parametrize(
    ("ends", "opset", "function"),
    [
        (["Softmax"], 13, "softmax"),
        (["Softmax"], 11, "softmax"),
        (["LogSoftmax"], 13, "log_softmax"),
        (["Sigmoid"], 13, "sigmoid"),
        (["Softmax", "Reshape"], 13, "softmax"),
        (["Sigmoid", "Identity"], 13, "sigmoid"),
    ],
)
def test_the_score_is_the_logit(ends: list[str], opset: int, function: str) -> None:
    nodes = [node("ReduceMean", "x", "mean", axes=[1], keepdims=0), node("MatMul", "mean w", "fc")]
    weights, value = {"w": uniform(C, K), "shape": np.array([0, -1])}, "fc"
    for op in ends:
        options = {"axis": 1} if op.endswith("oftmax") else {}
        nodes.append(node(op, f"{value} shape" if op == "Reshape" else value, f"last_{op}", **options))
        value = f"last_{op}"
    model = model_of(nodes, [floats("x", "N", "T", C)], [floats(value, "N", K)], weights, opset=opset)
    found = sq.Scope(model, layout="NTC").attribute(DATA, "occlusion", target=1)
    assert (found.attrs["score"], found.attrs["looked_through"]) == ("logit", function)
    assert_close(found.transpose("sample", "time", "channel"), X / T * weights["w"][:, 1], "float32")


def torch_twin(net: Any) -> nn.Module:
    """The same recurrent net in torch, of the same weights: ONNX has the gates i, o, f, g."""

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc, self.softmax = nn.LSTM(C, 5), nn.Linear(5, K), nn.Softmax(dim=-1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.softmax(self.fc(self.lstm(x)[0][-1]))

    w, order = net.weights, np.r_[0:5, 10:20, 5:10]
    biases = np.split(w["lstm_B"][0], 2)
    state = {"weight_ih_l0": w["lstm_W"][0][order], "weight_hh_l0": w["lstm_R"][0][order]}
    state |= {"bias_ih_l0": biases[0][order], "bias_hh_l0": biases[1][order]}
    twin = Twin()
    twin.lstm.load_state_dict({name: torch.tensor(np.float32(value)) for name, value in state.items()})
    twin.fc.load_state_dict({"weight": torch.tensor(np.float32(w["fc_W"])), "bias": torch.tensor(np.float32(w["fc_B"]))})
    return twin.eval()


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation", "score_cam"])
def test_methods_without_derivatives_agree_with_torch(method: str) -> None:
    net = recurrent_net(zscore=False)
    mine, other = sq.Scope(net.model), sq.Scope(torch_twin(net), layout="TNC")
    assert_close(mine.predict(DATA), other.predict(DATA), "float32")
    options = {"layer": "lstm"} if method == "score_cam" else {}
    found, expected = (scope.attribute(DATA, method, target=2, **options) for scope in (mine, other))
    if method == "score_cam":
        found, expected = found["map"], expected["map"]
    assert found.dims == expected.dims
    assert_close(found, expected, "float32")


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam"])
def test_methods_that_need_derivatives_say_which_need_none(method: str) -> None:
    with pytest.raises(UnsupportedError, match="'occlusion'"):
        sq.Scope(conv_net().model).attribute(DATA, method)


def test_what_can_not_be_done_is_refused_in_a_sentence() -> None:
    scope = sq.Scope(recurrent_net().model)
    with pytest.raises(UnsupportedError, match=r"seqscope\.nn\.torch\.ConjunctivePooling"):
        scope.attribute(DATA, "instances")
    with pytest.raises(UnsupportedError, match="maximize needs derivatives"):
        scope.maximize(0, like=DATA)
    with pytest.raises(UnsupportedError, match=r"(?i)onnx"), scope.ablate("lstm", [0]):
        scope.predict(DATA)
    with pytest.raises(LayerError, match="nearest are 'lstm"):
        scope.activations(DATA, "lstn")
    with pytest.raises(ModelError, match="An ONNX model holds its weights"):
        load_weights(recurrent_net().model, Path("net.onnx"))


def test_state_that_a_constant_shape_makes_is_what_the_layer_starts_from():
    half = numpy_helper.from_array(np.array([0.5], np.float32))
    nodes = [
        node("ConstantOfShape", "sizes", "start", value=half),
        helper.make_node("RNN", ["x", "W", "R", "", "", "start"], ["Y"], name="rnn", hidden_size=2),
        node("Squeeze", "Y axes", "y"),
    ]
    weights = {"sizes": np.array([1, 1, 2]), "W": uniform(1, 2, C), "R": uniform(1, 2, 2), "axes": np.array([1])}
    scope = sq.Scope(model_of(nodes, [floats("x", "T", 1, C)], [floats("y", "T", 1, 2)], weights))
    h, expected = np.full(2, 0.5), []
    for x in X[0]:
        h = np.tanh(weights["W"][0] @ x + weights["R"][0] @ h)
        expected.append(h)
    assert_close(scope.states(X[0], "rnn").h.values, np.array(expected), "float32")


def test_as_many_samples_as_steps_are_still_told_apart():
    """A batch (T, N, C) of a model that takes one sample at a time is cut along the samples, which sizes can't tell where N is T."""
    scope = sq.Scope(recurrent_net(n_time=6, n_batch=1).model)
    X = np.random.default_rng(0).standard_normal((6, 6, 3)).astype(np.float32)
    together = scope.predict(sq.Sequences(X, layout="NTC"))
    for row in range(6):
        alone = scope.predict(sq.Sequences(X[row : row + 1], layout="NTC"))
        np.testing.assert_allclose(together.values[row], alone.values[0], rtol=1e-5)
