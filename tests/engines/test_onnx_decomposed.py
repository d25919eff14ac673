"""Cells written out in small operators: found by their form, and their states against float64 equations and against torch."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import reference_states as ref
import seqscope as sq
from onnx_cell_nets import looped_net, step_net, written_net
from onnx_nets import GATES, C, Graph, H, K, Net, conv_net, floats, recurrent_net
from seqscope import cells
from seqscope.engines.onnx_decomposed import find, unexplained
from seqscope.engines.onnx_graph import Graph as Read
from seqscope.errors import UnsupportedError
from tolerances import assert_close

N, T = 4, 6
ORDER = {"lstm": "ifgo", "gru": "rzn", "rnn": "a"}
Array = np.ndarray


def sequences(*, seed: int = 1) -> Array:
    """(sample, time, channel)"""
    return np.random.default_rng(seed).standard_normal((N, T, C)).astype(np.float32)


def expected(kind: str, w: dict[str, Array], x: Array) -> dict[str, Array]:
    gates = ref._gates(ORDER[kind], *(w[f"cell_{part}"] for part in ("W", "R", "Bw", "Br")))
    zero = np.zeros(H)
    run = {"lstm": lambda one: ref.lstm(one, gates, zero, zero), "gru": lambda one: ref.gru(one, gates, zero)}
    found = [run.get(kind, lambda one: ref.rnn(one, gates, zero))(one) for one in x]
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def assert_states(found: Any, wanted: dict[str, Array], kind: str) -> None:
    assert list(found) == list(cells.STATES[kind])
    assert found.attrs["kind"] == kind
    for name, value in wanted.items():
        assert found[name].dims == ("sample", "time", "unit")
        assert_close(found[name], value, "float32")


FORMS = [("lstm", 0), ("rnn", 0), ("gru", 0), ("gru", 1), ("gru", 2), ("gru", 3)]


@pytest.mark.parametrize(("kind", "form"), FORMS)
@pytest.mark.parametrize(("where", "product"), [("loop", "gemm"), ("scan", "matmul"), ("unrolled", "apart")])
def test_states_equal_the_equations(kind: str, form: int, where: str, product: str) -> None:
    net, x = written_net(kind, where, product=product, form=form), sequences()
    scope = sq.Scope(net.model)
    name = kind if where == "unrolled" else where
    found = scope.states(sq.Sequences(x, layout="NTC"), name)
    assert_states(found, expected(kind, net.weights, x), kind)


@pytest.mark.parametrize("kind", GATES)
def test_a_graph_of_one_step_gives_every_step(kind: str) -> None:
    net, x = step_net(kind), sequences()
    scope = sq.Scope(net.model)
    wanted = expected(kind, net.weights, x)
    assert_states(scope.states(x, kind), wanted, kind)
    assert_close(scope.activations(x, kind), wanted["h"], "float32")


def test_it_is_a_layer_like_others() -> None:
    net, x = written_net("lstm"), sequences()
    scope = sq.Scope(net.model, example=np.ascontiguousarray(x.swapaxes(0, 1)))
    (row,) = [layer for layer in scope.layers if layer.kind == "lstm"]
    assert (row.name, row.n_params, row.output) == ("loop", 0, "time 6 x unit 5")
    assert "LSTM with 5 hidden units, written out in small operators" in row.description
    names = [layer.name for layer in scope.layers]
    assert names.index("loop") < names.index("fc")
    given = sq.Sequences(x, layout="NTC")
    assert_close(scope.activations(given, "loop"), expected("lstm", net.weights, x)["h"], "float32")
    assert list(scope.states(given).children) == ["loop"]
    with pytest.raises(UnsupportedError, match="The weights of 'loop' can't be told: it is written out"):
        scope._specimen.engine.recurrent("loop")


@pytest.mark.parametrize(("kind", "state"), [("lstm", "c"), ("gru", "h")])
@pytest.mark.parametrize("where", ["loop", "unrolled"])
def test_what_was_written_sums_up_to_the_memory(kind: str, state: str, where: str) -> None:
    net, x = written_net(kind, where), sequences()
    memory = sq.Scope(net.model).memory(sq.Sequences(x, layout="NTC"), kind if where == "unrolled" else where)
    whole = memory["written"].sum("time") + memory["initial"]
    assert_close(whole, expected(kind, net.weights, x)[state][:, -1], "float32")


# As PyTorch writes them


class Looped(nn.Module):
    """A cell over the steps of (sample, time, channel), and a dense layer that reads its last h."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell, self.fc = kind(C, H), nn.Linear(H, K)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(x.shape[0], H)
        c = torch.zeros(x.shape[0], H)
        for t in range(x.shape[1]):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(x[:, t], (h, c))
            else:
                h = self.cell(x[:, t], h)
        return self.fc(h)


def exported(model: nn.Module, *args: torch.Tensor) -> onnx.ModelProto:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, args, file, dynamo=False, input_names=["x"])
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_traced_loop_over_a_cell_of_torch(kind: type[nn.RNNCellBase]) -> None:
    torch.manual_seed(0)
    model, x = Looped(kind).eval(), sequences()
    scope = sq.Scope(exported(model, torch.from_numpy(x)), layout="NTC")
    assert_close(scope.predict(x), sq.Scope(model).predict(x), "float32")
    found = scope.states(x, "/cell")
    for sample, one in enumerate(x):
        for name, value in ref.torch_cell(model.cell, one).items():
            assert found[name].dims == ("sample", "time", "unit")
            assert_close(found[name][sample], value, "float32")


# What is found and what is not


def test_other_networks_have_none() -> None:
    for net in (recurrent_net("lstm"), conv_net(), looped_net("gru"), mlp_net()):
        assert find(Read(net.model)) == ()


def mlp_net() -> Net:
    """Layers with the same weights one after another, and a gate: nothing of it is carried."""
    graph = Graph(14)
    graph.weight("W", (C, C))
    value = "x"
    for layer in range(3):
        value = graph.node("Tanh", [graph.node("MatMul", [value, "W"], f"product_{layer}")], f"bent_{layer}")
    gate = graph.node("Sigmoid", [graph.node("MatMul", ["x", graph.weight("V", (C, C))], "into_gate")], "gate")
    graph.node("Add", [graph.node("Mul", [gate, value], "gated"), "x"], "y")
    return graph.made([floats("x", "N", "T", C)], [floats("y", "N", "T", C)])


def gates_alike_net() -> Net:
    """An LSTM in a Loop whose candidate is bent as the gates are: i and g can't be told apart."""
    net = written_net("lstm")
    for node in net.model.graph.node:
        if node.op_type == "Loop":
            for inner in node.attribute[0].g.node:
                if inner.op_type == "Tanh" and inner.name.endswith("_g"):
                    inner.op_type = "Sigmoid"
    return net


def test_a_cell_whose_gates_are_not_known_is_named() -> None:
    scope, x = sq.Scope(gates_alike_net().model), sq.Sequences(sequences(), layout="NTC")
    with pytest.raises(UnsupportedError, match="The states of 'loop' can't be told: it carries a state from step to step with operations"):
        scope.states(x)


def test_a_carried_state_that_no_cell_makes_is_named() -> None:
    graph = Graph(14)
    kept = graph.node("Mul", ["h", graph.weight("decay", np.array(0.9))], "kept")
    graph.node("Add", [kept, "x"], "hn")
    graph.node("Gemm", ["hn", graph.weight("fc_W", (K, C)), graph.weight("fc_B", (K,))], "fc", transB=1)
    net = graph.made([floats("x", "N", C), floats("h", "N", C)], [floats("fc", "N", K), floats("hn", "N", C)])
    with pytest.raises(UnsupportedError, match="The states of 'hn' can't be told: it gives the 'h' that the graph carries"):
        sq.Scope(net.model).states(sequences())


def test_a_loop_that_carries_no_numbers_is_no_layer() -> None:
    graph, body = Graph(14), Graph(14)
    body.node("Identity", ["go_on"], "goes_on")
    body.node("Gather", ["x", "t"], "x_t")
    body.node("Relu", ["x_t"], "shown")
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go_on", "goes_on")]
    step = helper.make_tensor_value_info("t", TensorProto.INT64, [])
    made = helper.make_graph(body.nodes, "step", [step, flags[0]], [flags[1], floats("shown", "N", C)])
    length = graph.node("Gather", [graph.node("Shape", ["x"], "shape"), graph.weight("first", np.array(0))], "length")
    graph.node("Loop", [length, ""], "loop", ["y"], body=made)
    read = Read(graph.made([floats("x", "T", "N", C)], [floats("y", "T", "N", C)]).model)
    assert unexplained(read, []) == {}


@pytest.mark.parametrize("kind", GATES)
def test_a_stream_has_the_states_of_the_whole_sequence(kind: str) -> None:
    net, x = step_net(kind), sequences()
    scope = sq.Scope(net.model)
    whole = scope.states(x[:1], kind)
    with scope.stream(states=[kind]) as stream:
        for t in range(T):
            seen = stream.step(x[0, t])
            for name in whole:
                assert_close(seen.states[kind][name], whole[name][0, t], "float32")
