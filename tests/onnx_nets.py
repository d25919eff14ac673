"""ONNX networks for the tests, made with `onnx.helper` and random weights.

They are the project's own, written after what people bring: MATLAB's converter (`exportONNXNetwork`, opset 8 to 14: parameters listed as
initializers and as graph inputs, nodes named as the layers, input (time, batch, channel), z-score in front), PyTorch's and Keras' ones
(weights behind Transpose and Unsqueeze, NCT convolutions), and graphs that carry their state. No file of another project is copied.

Every maker gives a `Net`: the model, and its weights in float64 by the names of the initializers, for references. Axes: T time, N batch,
C channel, H unit, K class, D direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

C, H, K = 3, 5, 4
INPUT = "sequenceinput"
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
Array = np.ndarray


class Net(NamedTuple):
    model: onnx.ModelProto
    weights: dict[str, Array]


class Graph:
    """Nodes and weights as they are put together; `node` gives the name of what it makes, which is the node's own where none is said.

    Parameters
    ----------
    listed : bool
        Whether weights are graph inputs too, as older files have it (and as IR versions before 4 ask for).
    """

    def __init__(self, opset: int = 14, *, listed: bool = False, seed: int = 0) -> None:
        self.opset, self.listed, self.random = opset, listed or opset < 9, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}

    def weight(self, name: str, value: Any, scale: float = 0.6) -> str:
        """A weight of these values, or of this shape with random ones; floats are kept as float32 can hold them."""
        drawn = self.random.uniform(-scale, scale, value) if isinstance(value, tuple) else np.asarray(value)
        self.weights[name] = np.float64(np.float32(drawn)) if drawn.dtype.kind == "f" else drawn
        return name

    def node(self, op: str, inputs: Sequence[str], name: str, outputs: Sequence[str] | None = None, **attributes: Any) -> str:
        made = helper.make_node(op, inputs, [name] if outputs is None else outputs, name=name, **attributes)
        self.nodes.append(made)
        return next(filter(None, made.output))

    def squeezed(self, value: str, name: str, axes: Sequence[int], op: str = "Squeeze") -> str:
        """Squeeze or Unsqueeze: the axes are an attribute before opset 13, an input since."""
        if self.opset < 13:
            return self.node(op, [value], name, axes=list(axes))
        return self.node(op, [value, self.weight(f"{name}_axes", np.array(axes, np.int64))], name)

    def sliced(self, value: str, name: str, start: int, end: int, axis: int) -> str:
        """Slice: all are attributes before opset 10, inputs since."""
        if self.opset < 10:
            return self.node("Slice", [value], name, starts=[start], ends=[end], axes=[axis])
        places = [self.weight(f"{name}_{part}", np.array([at], np.int64)) for part, at in (("s", start), ("e", end), ("a", axis))]
        return self.node("Slice", [value, *places], name)

    def made(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto], domains: Sequence[str] = ()) -> Net:
        tensors = [tensor(value, name) for name, value in self.weights.items()]
        listed = [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in tensors] if self.listed else []
        graph = helper.make_graph(self.nodes, "net", [*inputs, *listed], outputs, tensors)
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=3 if self.opset < 9 else 7, producer_name="seqscope tests")
        return Net(model, self.weights)


def tensor(value: Array, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.float32(value) if value.dtype.kind == "f" else value, name)


def floats(name: str, *shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or None)


def cell_weights(graph: Graph, name: str, kind: str = "lstm", *, n_ways: int = 1, channels: int = C, units: int = H) -> list[str]:
    """W, R and B of a recurrent operator, `<name>_W` and so on."""
    rows = GATES[kind] * units
    shapes = {"W": (n_ways, rows, channels), "R": (n_ways, rows, units), "B": (n_ways, 2 * rows)}
    return [graph.weight(f"{name}_{part}", shape) for part, shape in shapes.items()]


# As MATLAB's converter writes them


def recurrent_net(
    kind: str = "lstm",
    direction: str = "forward",
    *,
    ends: str = "Y_h",
    dense: str = "gemm",
    opset: int = 14,
    n_time: Any = "T",
    n_batch: Any = "N",
    zscore: bool = True,
    listed: bool = True,
    seed: int = 0,
    **options: Any,
) -> Net:
    """`sequenceinput` (T, N, C), a recurrent layer `lstm`, `bilstm`, `gru` or `rnn`, `fc` and `softmax`.

    Parameters
    ----------
    ends : {"Y_h", "gather", "slice", "sequence"}
        What is read of the layer: its last step as Y_h gives it (both directions: their own last), or out of Y by Gather or Slice (the
        last step in time); or every step.
    dense : {"gemm", "matmul", "conv"}
        How `fc` is written; "conv" as a convolution of width 1.
    options
        Further attributes of the recurrent node.
    """
    graph = Graph(opset, listed=listed, seed=seed)
    n_ways = 2 if direction == "bidirectional" else 1
    name = "bilstm" if n_ways == 2 and kind == "lstm" else kind
    x = zscored(graph) if zscore else INPUT
    inputs = [x, *cell_weights(graph, name, kind, n_ways=n_ways)]
    options = {"linear_before_reset": 1} | options if kind == "gru" else options
    outputs = ["", f"{name}_YH"] if ends == "Y_h" else [f"{name}_Y"]
    graph.node(kind.upper(), inputs, name, outputs, hidden_size=H, direction=direction, **options)
    read = _read(graph, name, ends, n_ways)
    logits = _dense(graph, read, dense, n_ways * H, steps=ends == "sequence")
    # Before opset 13 the axis says where the value is cut in two: (T, 1, K) at 1 is (T, K), which is right for one sequence alone.
    old = opset < 13 and n_batch == 1
    graph.node("Softmax", [logits], "softmax", axis=2 if ends == "sequence" and not old else 1)
    shape = (n_time, n_batch, K) if ends == "sequence" else (n_batch, K)
    return graph.made([floats(INPUT, n_time, n_batch, C)], [floats("softmax", *shape)])


def zscored(graph: Graph) -> str:
    """The z-score of the input."""
    graph.weight(f"{INPUT}_Mean", (1, 1, C))
    graph.weight(f"{INPUT}_StandardDeviation", graph.random.uniform(0.5, 2, (1, 1, C)))
    centred = graph.node("Sub", [INPUT, f"{INPUT}_Mean"], f"{INPUT}_Sub")
    return graph.node("Div", [centred, f"{INPUT}_StandardDeviation"], f"{INPUT}_Div")


def _read(graph: Graph, name: str, ends: str, n_ways: int) -> str:
    """What a recurrent layer hands on: (N, D x H), or (T, N, D x H)."""
    if ends == "sequence":  # Y is (T, D, N, H)
        turned = graph.node("Transpose", [f"{name}_Y"], f"{name}_Transpose", perm=[0, 2, 1, 3])
        return graph.node("Reshape", [turned, graph.weight(f"{name}_shape", np.array([0, 0, n_ways * H]))], f"{name}_Reshape")
    if ends == "Y_h":  # (D, N, H)
        last = f"{name}_YH"
    elif ends == "gather":
        last = graph.node("Gather", [f"{name}_Y", graph.weight(f"{name}_last", np.array(-1))], f"{name}_Gather", axis=0)
    else:
        last = graph.squeezed(graph.sliced(f"{name}_Y", f"{name}_Slice", -1, 2**31 - 1, 0), f"{name}_Step", [0])
    if n_ways == 1:
        return graph.squeezed(last, f"{name}_Squeeze", [0])
    turned = graph.node("Transpose", [last], f"{name}_Transpose", perm=[1, 0, 2])
    return graph.node("Reshape", [turned, graph.weight(f"{name}_shape", np.array([0, n_ways * H]))], f"{name}_Reshape")


def _dense(graph: Graph, value: str, dense: str, n_in: int, *, steps: bool) -> str:
    """`fc` of (N, n_in), or of (T, N, n_in) at every step: fc_W is (K, n_in), for "matmul" (n_in, K), for "conv" (K, n_in, 1)."""
    bias = graph.weight("fc_B", (K,))
    if dense == "matmul":
        product = graph.node("MatMul", [value, graph.weight("fc_W", (n_in, K))], "fc_MatMul")
        return graph.node("Add", [product, bias], "fc")
    if dense == "gemm":
        if not steps:
            return graph.node("Gemm", [value, graph.weight("fc_W", (K, n_in)), bias], "fc", transB=1)
        rows = graph.node("Reshape", [value, graph.weight("fc_rows", np.array([-1, n_in]))], "fc_Reshape")  # batch 1
        product = graph.node("Gemm", [rows, graph.weight("fc_W", (K, n_in)), bias], "fc_Gemm", transB=1)
        return graph.node("Reshape", [product, graph.weight("fc_shape", np.array([-1, 1, K]))], "fc")
    weight = graph.weight("fc_W", (K, n_in, 1))
    if steps:  # (T, N, n_in) -> (N, n_in, T), and back
        turned = graph.node("Transpose", [value], "fc_Transpose", perm=[1, 2, 0])
        return graph.node("Transpose", [graph.node("Conv", [turned, weight, bias], "fc_Conv")], "fc", perm=[2, 0, 1])
    wide = graph.squeezed(value, "fc_Unsqueeze", [2], "Unsqueeze")
    return graph.squeezed(graph.node("Conv", [wide, weight, bias], "fc_Conv"), "fc", [2])


def conv_net(*, opset: int = 13, n_time: Any = "T", n_batch: Any = "N", listed: bool = False) -> Net:
    """`x` (N, C, T): `conv_1`, `batchnorm_1`, `relu_1`, `maxpool`, `conv_2`, `relu_2`, `pool`, `fc`, `softmax`."""
    graph, n = Graph(opset, listed=listed), 6
    weights = [graph.weight("conv_1_W", (n, C, 3)), graph.weight("conv_1_B", (n,))]
    value = graph.node("Conv", ["x", *weights], "conv_1", pads=[1, 1])
    graph.weight("batchnorm_1_var", graph.random.uniform(0.5, 2, n))
    norm = [graph.weight(f"batchnorm_1_{part}", (n,)) for part in ("scale", "B", "mean")]
    value = graph.node("BatchNormalization", [value, *norm, "batchnorm_1_var"], "batchnorm_1", epsilon=1e-3)
    value = graph.node("MaxPool", [graph.node("Relu", [value], "relu_1")], "maxpool", kernel_shape=[2], strides=[2])
    weights = [graph.weight("conv_2_W", (n, n, 3)), graph.weight("conv_2_B", (n,))]
    value = graph.node("Relu", [graph.node("Conv", [value, *weights], "conv_2", pads=[2, 2], dilations=[2])], "relu_2")
    pooled = graph.node("Flatten", [graph.node("GlobalAveragePool", [value], "pool")], "flatten")
    logits = graph.node("Gemm", [pooled, graph.weight("fc_W", (K, n)), graph.weight("fc_B", (K,))], "fc", transB=1)
    graph.node("Softmax", [logits], "softmax", axis=1)
    return graph.made([floats("x", n_batch, C, n_time)], [floats("softmax", n_batch, K)])


# Weights behind other nodes


def disguised_net(*, opset: int = 14) -> Net:
    """An LSTM `lstm` whose W is stored transposed and without its first axis, R cast from float64 behind an Identity, B a Constant node.

    The weights are those that the operator gets, `lstm_W` and so on.
    """
    graph = Graph(opset)
    names = cell_weights(graph, "lstm")
    given = {name: graph.weights[name] for name in names}
    nodes, tensors = graph.nodes, []
    tensors.append(tensor(given["lstm_W"][0].T, "W_stored"))
    tensors.append(numpy_helper.from_array(given["lstm_R"], "R_stored"))
    tensors.append(numpy_helper.from_array(np.array([0]), "first"))
    turned = graph.node("Transpose", ["W_stored"], "W_turned", perm=[1, 0])
    graph.node("Unsqueeze", [turned, "first"] if opset >= 13 else [turned], "lstm_W", **({} if opset >= 13 else {"axes": [0]}))
    graph.node("Cast", [graph.node("Identity", ["R_stored"], "R_same")], "lstm_R", to=TensorProto.FLOAT)
    graph.node("Constant", [], "lstm_B", value=tensor(given["lstm_B"], "B_stored"))
    graph.node("LSTM", ["x", *names], "lstm", ["lstm_Y"], hidden_size=H)
    made = helper.make_graph(nodes, "net", [floats("x", "T", "N", C)], [floats("lstm_Y", "T", 1, "N", H)], tensors)
    return Net(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=7), given)


def with_external_paths(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """The model with every weight said to lie in this file, from its start. (`onnx.save` makes sound ones.)"""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for one in copy.graph.initializer:
        one.ClearField("raw_data")
        one.data_location = TensorProto.EXTERNAL
        one.external_data.add(key="location", value=location)
    return copy


# Graphs that carry their state


def stateful_net(form: str = "h_c", kind: str = "lstm", *, n_batch: Any = "N", n_time: Any = "T") -> Net:
    """`x` (T, N, C) and the state in; `fc` (T, N, K) and the state out.

    Parameters
    ----------
    form : {"h_c", "state"}
        The state as `h` and `c`, each (1, N, H), out as `hn` and `cn`; or as one `state` (2, N, H), out as `stateN`.
    """
    graph, carried = Graph(14), ("h", "c") if kind == "lstm" else ("h",)
    weights = cell_weights(graph, kind, kind)
    if form == "h_c":
        before, inputs, outputs = list(carried), [floats(name, 1, n_batch, H) for name in carried], [f"{name}n" for name in carried]
    else:
        before = [graph.sliced("state", f"before_{name}", place, place + 1, 0) for place, name in enumerate(carried)]
        inputs, outputs = [floats("state", len(carried), n_batch, H)], [f"after_{name}" for name in carried]
    options = {"linear_before_reset": 1} if kind == "gru" else {}
    graph.node(kind.upper(), ["x", *weights, "", *before], kind, [f"{kind}_Y", *outputs], hidden_size=H, **options)
    if form == "state":
        graph.node("Concat", outputs, "stateN", axis=0)
    shown = [floats(name, 1, n_batch, H) for name in outputs] if form == "h_c" else [floats("stateN", len(carried), n_batch, H)]
    _dense(graph, graph.squeezed(f"{kind}_Y", f"{kind}_Squeeze", [1]), "matmul", H, steps=True)
    return graph.made([floats("x", n_time, n_batch, C), *inputs], [floats("fc", n_time, n_batch, K), *shown])


def lengths_net(kind: str = "lstm", direction: str = "forward") -> Net:
    """`x` (T, N, C) and `lengths` (N): a recurrent layer that takes `sequence_lens`; `fc` reads its last step."""
    graph, n_ways = Graph(14), 2 if direction == "bidirectional" else 1
    weights = cell_weights(graph, kind, kind, n_ways=n_ways)
    options = {"linear_before_reset": 1} if kind == "gru" else {}
    graph.node(kind.upper(), ["x", *weights, "lengths"], kind, [f"{kind}_Y", f"{kind}_YH"], hidden_size=H, direction=direction, **options)
    _dense(graph, _read(graph, kind, "Y_h", n_ways), "gemm", n_ways * H, steps=False)
    lengths = helper.make_tensor_value_info("lengths", TensorProto.INT32, ["N"])
    return graph.made([floats("x", "T", "N", C), lengths], [floats("fc", "N", K)])


def custom_net() -> Net:
    """A Loop that carries a state which is no known cell's: a running mean of what came, times a weight."""
    graph, body = Graph(14), Graph(14)
    graph.weight("decay", np.array(0.9))
    graph.weight("zero", np.zeros((1, C)))
    graph.weight("first", np.array(0))
    x_t = body.node("Gather", ["x", "t"], "x_t")
    body.node("Add", [body.node("Mul", ["before", "decay"], "kept"), x_t], "after")
    body.node("Identity", ["go_on"], "goes_on")
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go_on", "goes_on")]
    inputs = [helper.make_tensor_value_info("t", TensorProto.INT64, []), flags[0], floats("before", "N", C)]
    made = helper.make_graph(body.nodes, "step", inputs, [flags[1], floats("after", "N", C)])
    length = graph.node("Gather", [graph.node("Shape", ["x"], "shape"), "first"], "length")
    start = graph.node("Mul", [graph.node("Gather", ["x", "first"], "x_0"), "zero"], "start")
    graph.node("Loop", [length, "", start], "average", ["last"], body=made)
    graph.node("Gemm", ["last", graph.weight("fc_W", (K, C)), graph.weight("fc_B", (K,))], "fc", transB=1)
    return graph.made([floats("x", "T", "N", C)], [floats("fc", "N", K)])
