"""ONNX networks whose recurrence is not an LSTM node at top level: inside If, Loop and Scan, written out in small operators, quantised.

The project's own, as those of `onnx_nets` are, after what PyTorch's and TensorFlow's exporters write. Input `x` (T, N, C); states start at
zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_nets import GATES, C, Graph, H, K, Net, cell_weights, floats, recurrent_net

INT64_MAX = 2**63 - 1
# One step of a recurrence: (graph of the step, x (N, C), the states before (N, H)) -> the states after, h first.
Step = Callable[[Graph, str, Sequence[str]], list[str]]


# The operators in subgraphs


def if_net(kind: str = "lstm") -> Net:
    """`x` of over 4 steps goes through the layer `long`, else through `short`; `fc` reads the last step."""
    graph = Graph(14)
    options = {"linear_before_reset": 1} if kind == "gru" else {}
    branches = {}
    for name in ("long", "short"):
        body = Graph(14)
        weights = cell_weights(graph, name, kind)
        body.node(kind.upper(), ["x", *weights], name, [f"{name}_Y", f"{name}_YH"], hidden_size=H, **options)
        branches[name] = helper.make_graph(body.nodes, f"{name}_branch", [], [floats(f"{name}_YH", 1, "N", H)])
    graph.weight("first", np.array(0))
    graph.weight("most", np.array(4))
    length = graph.node("Gather", [graph.node("Shape", ["x"], "shape"), "first"], "length")
    is_long = graph.node("Greater", [length, "most"], "is_long")
    graph.node("If", [is_long], "either", ["last"], then_branch=branches["long"], else_branch=branches["short"])
    return _with_dense(graph, graph.squeezed("last", "last_step", [0]))


def looped_net(kind: str = "lstm", where: str = "loop") -> Net:
    """A recurrent node `lstm` (`gru`, `rnn`) of one step in a Loop or Scan over the steps of `x`."""
    graph = Graph(14)
    weights = cell_weights(graph, kind, kind)
    graph.weight("axis", np.array([0]))
    options = {"linear_before_reset": 1} if kind == "gru" else {}

    def step(body: Graph, x: str, before: Sequence[str]) -> list[str]:
        put_in = [body.node("Unsqueeze", [value, "axis"], f"in_{place}") for place, value in enumerate([x, *before])]
        outputs = ["step_h", "step_c"] if kind == "lstm" else ["step_h"]
        body.node(kind.upper(), [put_in[0], *weights, "", *put_in[1:]], kind, ["", *outputs], hidden_size=H, **options)
        return [body.node("Squeeze", [value, "axis"], f"{value}_after") for value in outputs]

    return _over_steps(graph, step, 2 if kind == "lstm" else 1, where)


def twice_net(kind: str = "lstm") -> Net:
    """A Loop that runs the layer `lstm` (`gru`, `rnn`) twice over the whole sequence, the second time on what the first gave; C is H."""
    graph = Graph(14)
    weights = cell_weights(graph, kind, kind, channels=H)
    graph.weight("axis", np.array([1]))
    body = Graph(14)
    options = {"linear_before_reset": 1} if kind == "gru" else {}
    body.node(kind.upper(), ["before", *weights], kind, [f"{kind}_Y"], hidden_size=H, **options)
    body.node("Squeeze", [f"{kind}_Y", "axis"], "after")
    body.node("Identity", ["go_on"], "goes_on")
    inputs = [_whole("turn"), _flag("go_on"), floats("before", "T", "N", H)]
    made = helper.make_graph(body.nodes, "turns", inputs, [_flag("goes_on"), floats("after", "T", "N", H)])
    graph.weight("turns", np.array(2))
    graph.weight("yes", np.array(True))
    graph.node("Loop", ["turns", "yes", "x"], "loop", ["y"], body=made)
    return graph.made([floats("x", "T", "N", H)], [floats("y", "T", "N", H)])


# Cells written out in small operators


def written_net(kind: str = "lstm", where: str = "loop", *, product: str = "gemm", form: int = 0) -> Net:
    """A cell of Gemm or MatMul, Split, Sigmoid, Tanh, Mul and Add, over the steps of `x`; `fc` reads its last h.

    Weights: `cell_W` (gate x unit, channel), `cell_R` (gate x unit, unit), `cell_Bw` and `cell_Br` (gate x unit), the gates in torch's
    order: LSTM i, f, g, o and GRU r, z, n.

    Parameters
    ----------
    where : {"loop", "scan", "unrolled"}
        "unrolled" takes 6 steps.
    product : {"gemm", "matmul", "apart"}
        "matmul" has W and R transposed (Identity names them); "apart" has a product for each gate.
    form : {0, 1, 2, 3}
        Of a GRU: (1 - z) n + z h;  n + z (h - n);  with u = 1 - z, (1 - u) h + u n;  h + u (n - h).
    """
    graph = Graph(14)
    step = _written(graph, "cell", kind, product, form)
    return _over_steps(graph, step, 2 if kind == "lstm" else 1, where)


def step_net(kind: str = "lstm", *, product: str = "gemm") -> Net:
    """One step of a written-out cell: `x` (N, C), `h` and `c` (N, H) in; `fc` (N, K), `hn` and `cn` out."""
    graph, carried = Graph(14), ["h", "c"] if kind == "lstm" else ["h"]
    after = _written(graph, "cell", kind, product, 0)(graph, "x", carried)
    for name, value in zip(carried, after, strict=True):
        graph.node("Identity", [value], f"{name}n")
    _dense(graph, after[0])
    states = [[floats(f"{name}{end}", "N", H) for name in carried] for end in ("", "n")]
    return graph.made([floats("x", "N", C), *states[0]], [floats("fc", "N", K), *states[1]])


def _written(graph: Graph, name: str, kind: str, product: str, form: int) -> Step:
    """What writes a step of a cell; its weights are the outer graph's."""
    rows = GATES[kind] * H
    for part, shape in {"W": (rows, C), "R": (rows, H), "Bw": (rows,), "Br": (rows,)}.items():
        graph.weight(f"{name}_{part}", shape)
    w = dict(graph.weights)
    if product == "matmul":
        for part in "WR":
            graph.weight(f"{name}_{part}T", w[f"{name}_{part}"].T)
    if product == "apart":
        for part in ("W", "R", "Bw", "Br"):
            for gate, block in enumerate(np.split(w[f"{name}_{part}"], GATES[kind])):
                graph.weight(f"{name}_{part}{gate}", block)
    graph.weight(f"{name}_one", np.array(1.0))
    graph.weight(f"{name}_sizes", np.full(GATES[kind], H))
    body_of = {"lstm": _written_lstm, "gru": _written_gru, "rnn": _written_rnn}[kind]

    def step(body: Graph, x: str, before: Sequence[str]) -> list[str]:
        unique = f"{name}_{len(body.nodes)}"  # in an unrolled net each step has nodes of its own
        sides = [_gates(body, unique, name, product, GATES[kind], side, value) for side, value in (("W", x), ("R", before[0]))]
        return body_of(body, unique, name, sides, before, form)

    return step


def _gates(body: Graph, unique: str, name: str, product: str, n_gates: int, side: str, value: str) -> list[str]:
    """What x (side W) or h (side R) adds to each gate."""
    bias = {"W": "Bw", "R": "Br"}[side]
    if product == "apart":
        added = []
        for gate in range(n_gates):
            ins = [value, f"{name}_{side}{gate}", f"{name}_{bias}{gate}"]
            added.append(body.node("Gemm", ins, f"{unique}_{side}{gate}", transB=1))
        return added
    if product == "gemm":
        whole = body.node("Gemm", [value, f"{name}_{side}", f"{name}_{bias}"], f"{unique}_{side}", transB=1)
    else:
        multiplied = body.node("MatMul", [value, f"{name}_{side}T"], f"{unique}_{side}x")
        whole = body.node("Add", [multiplied, f"{name}_{bias}"], f"{unique}_{side}")
    if n_gates == 1:
        return [whole]
    parts = [f"{unique}_{side}{gate}" for gate in range(n_gates)]
    body.node("Split", [whole, f"{name}_sizes"], f"{unique}_{side}_split", parts, axis=1)
    return parts


def _written_lstm(body: Graph, unique: str, name: str, sides: Sequence[Sequence[str]], before: Sequence[str], form: int) -> list[str]:
    bends = ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid")
    sums = [body.node("Add", [x, h], f"{unique}_a{gate}") for gate, (x, h) in enumerate(zip(*sides, strict=True))]
    i, f, g, o = (body.node(bend, [a], f"{unique}_{gate}") for bend, a, gate in zip(bends, sums, "ifgo", strict=True))
    kept, written = body.node("Mul", [f, before[1]], f"{unique}_kept"), body.node("Mul", [i, g], f"{unique}_written")
    c = body.node("Add", [kept, written], f"{unique}_c")
    return [body.node("Mul", [o, body.node("Tanh", [c], f"{unique}_shown")], f"{unique}_h"), c]


def _written_gru(body: Graph, unique: str, name: str, sides: Sequence[Sequence[str]], before: Sequence[str], form: int) -> list[str]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = sides
    r = body.node("Sigmoid", [body.node("Add", [x_r, h_r], f"{unique}_ar")], f"{unique}_r")
    opens = body.node("Add", [x_z, h_z], f"{unique}_az")
    if form > 1:  # the gate opens for what is new: u = 1 - z
        opens = body.node("Neg", [opens], f"{unique}_au")
    gate = body.node("Sigmoid", [opens], f"{unique}_{'z' if form < 2 else 'u'}")
    reset = body.node("Mul", [r, h_n], f"{unique}_reset")
    n = body.node("Tanh", [body.node("Add", [x_n, reset], f"{unique}_an")], f"{unique}_n")
    (held, written) = (before[0], n) if form < 2 else (n, before[0])
    if form % 2:  # n + z (h - n), h + u (n - h)
        moved = body.node("Mul", [gate, body.node("Sub", [held, written], f"{unique}_apart")], f"{unique}_moved")
        return [body.node("Add", [written, moved], f"{unique}_h")]
    rest = body.node("Mul", [body.node("Sub", [f"{name}_one", gate], f"{unique}_rest"), written], f"{unique}_written")
    return [body.node("Add", [rest, body.node("Mul", [gate, held], f"{unique}_kept")], f"{unique}_h")]


def _written_rnn(body: Graph, unique: str, name: str, sides: Sequence[Sequence[str]], before: Sequence[str], form: int) -> list[str]:
    return [body.node("Tanh", [body.node("Add", [sides[0][0], sides[1][0]], f"{unique}_a")], f"{unique}_h")]


# A step over the steps of x, and what is behind it


def _over_steps(graph: Graph, step: Step, n_states: int, where: str) -> Net:
    """The step over all steps of `x`, from zeros; the last h goes into `fc`, and `hidden` (T, N, H) is an output too."""
    if where == "unrolled":
        return _unrolled(graph, step, n_states)
    zeros = [_zeros(graph, place) for place in range(n_states)]
    last = [f"last_{place}" for place in range(n_states)]
    body = Graph(14)
    before = [floats(f"before_{place}", "N", H) for place in range(n_states)]
    if where == "scan":
        after = step(body, "x_t", [one.name for one in before])
        body.node("Identity", [after[0]], "shown")
        inputs, outputs = [*before, floats("x_t", "N", C)], [*_states(after), floats("shown", "N", H)]
        made = helper.make_graph(body.nodes, "step", inputs, outputs)
        graph.node("Scan", [*zeros, "x"], "scan", [*last, "hidden"], body=made, num_scan_inputs=1)
    else:
        after = step(body, body.node("Gather", ["x", "t"], "x_t"), [one.name for one in before])
        body.node("Identity", ["go_on"], "goes_on")
        body.node("Identity", [after[0]], "shown")
        inputs = [_whole("t"), _flag("go_on"), *before]
        made = helper.make_graph(body.nodes, "step", inputs, [_flag("goes_on"), *_states(after), floats("shown", "N", H)])
        graph.node("Loop", [_n_steps(graph), "", *zeros], "loop", [*last, "hidden"], body=made)
    return _with_dense(graph, last[0], [floats("hidden", "T", "N", H)])


def _unrolled(graph: Graph, step: Step, n_states: int, n_steps: int = 6) -> Net:
    states, hidden = [_zeros(graph, place) for place in range(n_states)], []
    graph.weight("unrolled_axis", np.array([0]))
    for t in range(n_steps):
        states = step(graph, graph.node("Gather", ["x", graph.weight(f"place_{t}", np.array(t))], f"x_{t}"), states)
        hidden.append(graph.node("Unsqueeze", [states[0], "unrolled_axis"], f"step_{t}"))
    graph.node("Concat", hidden, "hidden", axis=0)
    return _with_dense(graph, states[0], [floats("hidden", n_steps, "N", H)], n_steps=n_steps)


def _zeros(graph: Graph, place: int) -> str:
    """Zeros (N, H), as many rows as `x` has."""
    unit = graph.weight("n_units", np.array([H]))
    if place == 0:
        graph.node("Shape", ["x"], "x_shape")
        graph.sliced("x_shape", "n_rows", 1, 2, 0)
        graph.node("Concat", ["n_rows", unit], "state_shape", axis=0)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return graph.node("ConstantOfShape", ["state_shape"], f"zeros_{place}", value=zero)


def _n_steps(graph: Graph) -> str:
    return graph.node("Gather", ["x_shape", graph.weight("first", np.array(0))], "n_steps")


def _states(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
    return [floats(name, "N", H) for name in names]


def _whole(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, [])


def _flag(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.BOOL, [])


def _dense(graph: Graph, value: str) -> None:
    graph.node("Gemm", [value, graph.weight("fc_W", (K, H)), graph.weight("fc_B", (K,))], "fc", transB=1)


def _with_dense(graph: Graph, value: str, also: Sequence[onnx.ValueInfoProto] = (), *, n_steps: Any = "T") -> Net:
    _dense(graph, value)
    return graph.made([floats("x", n_steps, "N", C)], [floats("fc", "N", K), *also])


# Quantised


def quantized_net(folder: Path, direction: str = "forward", *, per_channel: bool = False) -> Net:
    """`recurrent_net` with its LSTM as `DynamicQuantizeLSTM`, made by onnxruntime's own tool in a folder; the weights are those before."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    net = recurrent_net("lstm", direction, listed=False, zscore=False)
    onnx.save(net.model, folder / "float.onnx")
    options = {"op_types_to_quantize": ["LSTM"], "weight_type": QuantType.QInt8, "per_channel": per_channel}
    quantize_dynamic(folder / "float.onnx", folder / "quantized.onnx", **options)
    return Net(onnx.load(folder / "quantized.onnx"), net.weights)
