"""ONNX's recurrent operators: the weights taken out of a node, and the replay, against onnxruntime and against float64 equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import reference_onnx as ref
from seqscope import cells
from seqscope.engines import onnx_cells, onnx_recurrent
from seqscope.errors import ModelError, UnsupportedError

T, N, C, H = 6, 4, 3, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
N_BENDS = {"LSTM": 3, "GRU": 2, "RNN": 1}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
Options = dict[str, Any]


def node_of(kind: str, **attributes: Any) -> onnx.NodeProto:
    inputs = ["X", "W", "R", "B", "lens", "h0"] + (["c0", "P"] if kind == "LSTM" else [])
    return helper.make_node(kind, inputs, ["Y", "Y_h", *(["Y_c"] * (kind == "LSTM"))], name="cell", hidden_size=H, **attributes)


def arrays_of(kind: str, n_ways: int = 1, *, seed: int = 0) -> dict[str, np.ndarray]:
    random, rows = np.random.default_rng(seed), GATES[kind] * H
    shapes = {"W": (n_ways, rows, C), "R": (n_ways, rows, H), "B": (n_ways, 2 * rows), "P": (n_ways, 3 * H)}
    return {name: random.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items() if name != "P" or kind == "LSTM"}


def run(node: onnx.NodeProto, arrays: dict[str, np.ndarray], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime gives: Y, Y_h, and of an LSTM Y_c."""
    types = {np.dtype(np.int32): TensorProto.INT32, np.dtype(np.float32): TensorProto.FLOAT}
    given = [helper.make_tensor_value_info(name, types[value.dtype], value.shape) for name, value in feed.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()]
    model = helper.make_model(
        helper.make_graph([node], "net", given, made, weights), opset_imports=[helper.make_opsetid("", 14)], ir_version=8
    )
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)


def feed_of(kind: str, n_ways: int, lengths: list[int], *, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feed = {"X": random.standard_normal((T, N, C)), "h0": random.uniform(-1, 1, (n_ways, N, H))}
    feed |= {"c0": random.uniform(-1, 1, (n_ways, N, H))} if kind == "LSTM" else {}
    return {name: value.astype(np.float32) for name, value in feed.items()} | {"lens": np.array(lengths, np.int32)}


def replayed(node: onnx.NodeProto, arrays: dict[str, np.ndarray], feed: dict[str, np.ndarray], Y: np.ndarray | None) -> Any:
    weights = onnx_cells.weights_of(node, arrays)
    direction = onnx_cells.direction_of(node)
    given = {"initial_h": feed["h0"], "initial_c": feed.get("c0"), "sequence_lens": feed["lens"]}
    return onnx_recurrent.replay(weights, feed["X"], direction=direction, Y=Y, **given)


@st.composite
def nodes(draw: st.DrawFn) -> tuple[str, Options, list[int]]:
    kind = draw(st.sampled_from(sorted(GATES)))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    options: Options = {"direction": direction}
    if draw(st.booleans()):
        n_ways = 2 if direction == "bidirectional" else 1
        names = draw(st.lists(st.sampled_from(sorted(ref.BENDS)), min_size=N_BENDS[kind] * n_ways, max_size=N_BENDS[kind] * n_ways))
        numbers = {"alpha": sum(name in ref.HAS_ALPHA for name in names), "beta": sum(name in ref.HAS_BETA for name in names)}
        options["activations"] = names
        for constant, count in numbers.items():
            values = draw(st.lists(st.sampled_from([0.125, 0.25, 0.5, 0.75]), min_size=count, max_size=count))
            options |= {f"activation_{constant}": values} if count else {}
    if draw(st.booleans()):
        options["clip"] = draw(st.sampled_from([0.25, 1.0]))
    if kind == "GRU":
        options["linear_before_reset"] = draw(st.integers(0, 1))
    if kind == "LSTM":
        options["input_forget"] = draw(st.integers(0, 1))
    return kind, options, draw(st.lists(st.integers(1, T), min_size=N, max_size=N))


def expected(kind: str, options: Options, arrays: dict[str, np.ndarray], feed: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The states of each direction by the equations, (sample, time, unit), NaN past the end."""
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[options["direction"]]
    names = options.get("activations", USUAL[kind] * len(ways))
    alphas, betas = (iter(options.get(f"activation_{constant}", [])) for constant in ("alpha", "beta"))
    constants = [(next(alphas) if name in ref.HAS_ALPHA else 0, next(betas) if name in ref.HAS_BETA else 0) for name in names]
    bends = [lambda a, name=name, both=both: ref.BENDS[name](a, *both) for name, both in zip(names, constants, strict=True)]
    others = {name: value for name, value in options.items() if name in ("clip", "linear_before_reset", "input_forget")}
    found = []
    for place, backward in enumerate(ways):
        samples: dict[str, np.ndarray] = {}
        for sample, length in enumerate(feed["lens"]):
            turn = slice(None, None, -1) if backward else slice(None)
            starts = [feed[name][place, sample] if name in feed else np.zeros(H) for name in ("h0", "c0")]
            w = {name: value[place] for name, value in arrays.items()}
            own = bends[place * N_BENDS[kind] : (place + 1) * N_BENDS[kind]]
            states = ref.states(kind, feed["X"][:length, sample][turn], w, *starts, own, **others)
            for name, value in states.items():
                samples.setdefault(name, np.full((N, T, H), np.nan))[sample, :length] = value[turn]
        found.append(samples)
    return found


def assert_near(actual: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    assert actual.shape == wanted.shape
    assert (np.isnan(actual) == np.isnan(wanted)).all()
    assert np.nanmax(np.abs(actual - wanted) / np.maximum(1, np.abs(wanted)), initial=0) < tolerance


@settings(max_examples=80, deadline=None, derandomize=True)
@given(drawn=nodes(), knows_h=st.booleans(), peeps=st.booleans())
def test_replay_equals_onnxruntime_and_the_equations(drawn: tuple[str, Options, list[int]], knows_h: bool, peeps: bool) -> None:
    kind, options, lengths = drawn
    n_ways = 2 if options["direction"] == "bidirectional" else 1
    arrays, feed = arrays_of(kind, n_ways), feed_of(kind, n_ways, lengths)
    node = node_of(kind, **options)
    if kind == "LSTM" and not peeps:
        del arrays["P"], node.input[-1]
    given = run(node, arrays, feed)
    found = replayed(node, arrays, feed, given[0] if knows_h else None)
    past = onnx_recurrent.past_end(T, feed["lens"])
    for place, (way, wanted) in enumerate(zip(found, expected(kind, options, arrays, feed), strict=True)):
        states = found[way]
        for name in cells.STATES[kind.lower()]:
            assert_near(states[name], wanted[name])
        own = given[0][:, place].swapaxes(0, 1)
        assert_near(states["h"], np.where(past[..., None], np.nan, own), 1e-5)
        ends = 0 if options["direction"] == "reverse" or way == "backward" else feed["lens"] - 1
        for name, final in zip(cells.CARRIED[kind.lower()], given[1:], strict=True):
            assert_near(states[name][np.arange(N), ends], final[place])
            np.testing.assert_array_equal(states[f"{name}0"], feed[f"{name}0"][place])


@pytest.mark.parametrize("kind", sorted(GATES))
def test_h_that_gates_make_is_the_nodes_own(kind: str) -> None:
    arrays, feed, node = arrays_of(kind), feed_of(kind, 1, [T] * N), node_of(kind)
    (given, *_) = run(node, arrays, feed)
    states = {name: value.swapaxes(0, 1) for name, value in replayed(node, arrays, feed, given)[""].items() if value.ndim == 3}
    made = onnx_recurrent.made_from(onnx_cells.weights_of(node, arrays)[0], states, {"h": feed["h0"][0]})
    np.testing.assert_allclose(made, given[:, 0], atol=1e-6)
    spoilt = {name: value * (0.9 if name in "fza" else 1) for name, value in states.items()}
    c = onnx_recurrent.made_from(onnx_cells.weights_of(node, arrays)[0], spoilt | {"c": spoilt.get("c", 0) * 0.9}, {"h": feed["h0"][0]})
    assert np.abs(c - given[:, 0]).max() > 1e-2


@pytest.mark.parametrize("kind", sorted(GATES))
def test_batch_first_is_the_same_turned_around(kind: str) -> None:
    arrays, feed = arrays_of(kind, 2), feed_of(kind, 2, [6, 2, 5, 1])
    weights = onnx_cells.weights_of(node_of(kind, direction="bidirectional"), arrays)
    (Y, *_) = run(node_of(kind, direction="bidirectional"), arrays, feed)
    given = {"initial_h": feed["h0"], "initial_c": feed.get("c0")}
    options = {"direction": "bidirectional", "sequence_lens": feed["lens"]}
    first = onnx_recurrent.replay(weights, feed["X"], Y=Y, **given, **options)
    turned = {name: None if value is None else value.swapaxes(0, 1) for name, value in given.items()}
    other = onnx_recurrent.replay(weights, feed["X"].swapaxes(0, 1), Y=np.moveaxis(Y, 2, 0), layout=1, **turned, **options)
    for way, states in first.items():
        for name, value in states.items():
            np.testing.assert_array_equal(other[way][name], value)


def test_nothing_given_is_zeros() -> None:
    arrays = {name: value for name, value in arrays_of("GRU").items() if name != "B"}
    node = helper.make_node("GRU", ["X", "W", "R"], ["Y"], name="cell")
    X = feed_of("GRU", 1, [T] * N)["X"]
    (Y,) = run(node_of_three(node), arrays, {"X": X})
    np.testing.assert_allclose(onnx_recurrent.replay(onnx_cells.weights_of(node, arrays), X)[""]["h"], Y[:, 0].swapaxes(0, 1), atol=1e-6)


def node_of_three(node: onnx.NodeProto) -> onnx.NodeProto:
    """The same with the size that onnxruntime asks for, and that R tells."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.attribute.append(helper.make_attribute("hidden_size", H))
    return copy


def test_constants_that_a_node_leaves_out_are_onnxruntimes() -> None:
    """The operators' page has no default for three of them; onnxruntime takes 0."""
    for name in ("LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Affine", "ScaledTanh"):
        arrays, feed, node = arrays_of("RNN"), feed_of("RNN", 1, [T] * N), node_of("RNN", activations=[name])
        (given, *_) = run(node, arrays, feed)
        np.testing.assert_allclose(replayed(node, arrays, feed, None)[""]["h"], given[:, 0].swapaxes(0, 1), atol=1e-5, err_msg=name)


# What is refused


def test_shapes_that_do_not_fit_are_named() -> None:
    arrays = arrays_of("LSTM")
    for name, shape in {"W": (1, 4 * H + 1, C), "R": (2, 4 * H, H), "B": (1, 4 * H), "P": (1, 4 * H)}.items():
        wrong = arrays | {name: np.zeros(shape, np.float32)}
        with pytest.raises(
            ModelError, match=rf"LSTM node 'cell' has weights {name} of shape .*: expected \(1, .*for 5 units in 1 direction\."
        ):
            onnx_cells.weights_of(node_of("LSTM"), wrong)
    with pytest.raises(ModelError, match=r"weights W of shape \(1, 20, 3\): expected \(2, 20, channel\), for 5 units in 2 directions"):
        onnx_cells.weights_of(node_of("LSTM", direction="bidirectional"), arrays)
    with pytest.raises(ModelError, match="no weights 'R': the file lacks them"):
        onnx_cells.weights_of(node_of("LSTM"), {"W": arrays["W"]})
    with pytest.raises(ModelError, match=r"R of shape \(\)"):
        onnx_cells.weights_of(helper.make_node("RNN", ["X", "W", "R"], ["Y"]), {"R": np.ones(()), "W": np.ones((1, 1, 1))})


def test_options_that_are_not_known_are_named() -> None:
    arrays = arrays_of("RNN")
    with pytest.raises(UnsupportedError, match="the activation 'Swish', which ONNX does not know"):
        onnx_cells.weights_of(node_of("RNN", activations=["Swish"]), arrays)
    with pytest.raises(ModelError, match="has 2 activations, 'Tanh', 'Tanh': expected 1"):
        onnx_cells.weights_of(node_of("RNN", activations=["Tanh", "Tanh"]), arrays)
    with pytest.raises(ModelError, match="the direction 'sideways': expected one of 'forward', 'reverse', 'bidirectional'"):
        onnx_cells.weights_of(node_of("RNN", direction="sideways"), arrays)
    with pytest.raises(UnsupportedError, match="The Gemm node 'fc' is not one of 'LSTM', 'GRU', 'RNN', 'DynamicQuantizeLSTM'"):
        onnx_cells.weights_of(helper.make_node("Gemm", ["x"], ["y"], name="fc"), {})
