"""The contract's networks as ONNX graphs, of the same weights in torch's order, written as exporters write them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

# Where ONNX has each of torch's gates.
ORDERS = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "gru_before": [1, 0, 2], "rnn": [0]}


def recurrent(cell, w, back, matrix, bias, layout, sizes):
    channels, units, outputs = sizes
    directions = [w] if back is None else [w, back]
    op = cell.partition("_")[0].upper()
    weights = {
        "rnn_W": np.stack([_in_order(cell, one["weight_ih"]) for one in directions]),
        "rnn_R": np.stack([_in_order(cell, one["weight_hh"]) for one in directions]),
        "rnn_B": np.stack([_biases(cell, one) for one in directions]),
        "fc_W": matrix,
        "fc_B": bias,
    }
    options = {"linear_before_reset": int(cell == "gru")} if op == "GRU" else {}
    direction = "forward" if back is None else "bidirectional"
    turned = [helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2], name="turn")] if layout == "NTC" else []
    last = [
        helper.make_node("Transpose", ["rnn_h"], ["last_by_row"], perm=[1, 0, 2], name="rows"),
        helper.make_node("Flatten", ["last_by_row"], ["last"], axis=1, name="flat"),
    ]
    nodes = [
        *turned,
        helper.make_node(
            op,
            ["turned" if turned else "x", "rnn_W", "rnn_R", "rnn_B"],
            ["", "rnn_h"],
            name="rnn",
            hidden_size=units,
            direction=direction,
            **options,
        ),
        *last,
        helper.make_node("Gemm", ["last", "fc_W", "fc_B"], ["fc_out"], transB=1, name="fc"),
    ]
    shape = ["N", "T", channels] if layout == "NTC" else ["T", "N", channels]
    return _model(nodes, weights, shape, ["N", outputs])


def convolution(kernel, bias, head, padding, stride, dilation, channels):
    weights = {"conv_W": kernel, "conv_B": bias, "fc_W": head[0].T, "fc_B": head[1]}
    source, before, pads = "turned", [], [0, 0]
    if padding == "same":
        pads = [dilation, dilation]
    if padding == "causal":
        places = numpy_helper.from_array(np.array([0, 0, 2 * dilation, 0, 0, 0]), "pads")
        before = [
            helper.make_node("Constant", [], ["pads"], value=places, name="places"),
            helper.make_node("Pad", ["turned", "pads"], ["padded"], name="pad"),
        ]
        source = "padded"
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1], name="turn"),
        *before,
        helper.make_node(
            "Conv", [source, "conv_W", "conv_B"], ["conv_out"], strides=[stride], dilations=[dilation], pads=pads, name="conv"
        ),
        helper.make_node("Relu", ["conv_out"], ["relu_out"], name="relu"),
        helper.make_node("ReduceMean", ["relu_out"], ["mean_out"], axes=[2], keepdims=0, name="mean"),
        helper.make_node("MatMul", ["mean_out", "fc_W"], ["fc_product"], name="fc_MatMul"),
        helper.make_node("Add", ["fc_product", "fc_B"], ["fc_out"], name="fc"),
    ]
    return _model(nodes, weights, ["N", "T", channels], ["N", head[0].shape[0]])


def _in_order(cell, weight):
    blocks = np.split(weight, len(ORDERS[cell]))
    return np.concatenate([blocks[place] for place in ORDERS[cell]])


def _biases(cell, w):
    """Wb and Rb. A GRU whose reset gate comes before the product has one bias: the rest is added to it."""
    both = [_in_order(cell, w[name]) for name in ("bias_ih", "bias_hh")]
    return np.concatenate([both[0] + both[1], np.zeros_like(both[1])] if cell == "gru_before" else both)


def _model(nodes, weights, shape, shape_out):
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    x, out = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in (("x", shape), ("fc_out", shape_out)))
    graph = helper.make_graph(nodes, "contract", [x], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
