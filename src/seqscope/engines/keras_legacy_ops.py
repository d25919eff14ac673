"""Operations of TensorFlow that models of Keras 2 hold as layers (TFOpLambda): those that are done with the operations of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from seqscope.engines.keras_legacy_layers import SWITCH_TO_ONNX
from seqscope.errors import ModelError

# The classes of layers that are one operation.
CLASSES = ("TFOpLambda", "SlicingOpLambda")

# What an operation is given: its first argument, and the others by TensorFlow's names.
Operation = Callable[[Any, Mapping[str, Any]], Any]


def operation(name: str, layer: str) -> Operation:
    """What computes an operation of TensorFlow, "math.reduce_mean".

    Raises
    ------
    ModelError
        It is none of those that are known.
    """
    known = _OPERATIONS.get(name)
    if known is None:
        raise ModelError(f"its layer '{layer}' is the operation tf.{name}, which has no counterpart here: {SWITCH_TO_ONNX}")
    return known


def _pair(function: Callable[[Any, Any], Any], *, turned: bool = False) -> Operation:
    def compute(x: Any, given: Mapping[str, Any]) -> Any:
        y = given["y"] if "y" in given else given["b"]
        return function(y, x) if turned else function(x, y)

    return compute


def _one(function: Callable[[Any], Any]) -> Operation:
    return lambda x, given: function(x)


def _reduced(function: Callable[..., Any]) -> Operation:
    return lambda x, given: function(x, axis=_axis(given.get("axis")), keepdims=bool(given.get("keepdims", False)))


def _axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _reshape(x: Any, given: Mapping[str, Any]) -> Any:
    return ops.reshape(x, tuple(given["shape"]))


def _transpose(x: Any, given: Mapping[str, Any]) -> Any:
    return ops.transpose(x, given.get("perm"))


def _matmul(x: Any, given: Mapping[str, Any]) -> Any:
    def turned(value: Any, name: str) -> Any:
        return ops.swapaxes(value, -1, -2) if given.get(name) else value

    return ops.matmul(turned(x, "transpose_a"), turned(given["b"], "transpose_b"))


def _squeeze(x: Any, given: Mapping[str, Any]) -> Any:
    axis = given.get("axis")
    return ops.squeeze(x, axis=_axis(axis if axis != [] else None))


def _cast(x: Any, given: Mapping[str, Any]) -> Any:
    return ops.cast(x, str(given["dtype"]))


def _slice(x: Any, given: Mapping[str, Any]) -> Any:
    """`x[...]`: a slice is saved as its start, stop and step."""
    spec = given["slice_spec"]
    return x[tuple(map(_place, spec)) if isinstance(spec, list | tuple) else _place(spec)]


def _place(place: Any) -> Any:
    if not isinstance(place, Mapping):
        return place
    if place.get("class_name") == "__ellipsis__":
        return Ellipsis
    return slice(place.get("start"), place.get("stop"), place.get("step"))


_OPERATIONS: dict[str, Operation] = {
    "__operators__.add": _pair(ops.add),
    "__operators__.radd": _pair(ops.add, turned=True),
    "__operators__.sub": _pair(ops.subtract),
    "__operators__.getitem": _slice,
    "math.add": _pair(ops.add),
    "math.subtract": _pair(ops.subtract),
    "math.multiply": _pair(ops.multiply),
    "math.divide": _pair(ops.divide),
    "math.truediv": _pair(ops.divide),
    "math.pow": _pair(ops.power),
    "math.maximum": _pair(ops.maximum),
    "math.minimum": _pair(ops.minimum),
    "math.squared_difference": _pair(lambda x, y: ops.square(x - y)),
    "math.negative": _one(ops.negative),
    "math.abs": _one(ops.abs),
    "math.exp": _one(ops.exp),
    "math.log": _one(ops.log),
    "math.sqrt": _one(ops.sqrt),
    "math.square": _one(ops.square),
    "math.sin": _one(ops.sin),
    "math.cos": _one(ops.cos),
    "math.tanh": _one(ops.tanh),
    "math.sigmoid": _one(ops.sigmoid),
    "nn.tanh": _one(ops.tanh),
    "nn.sigmoid": _one(ops.sigmoid),
    "nn.relu": _one(ops.relu),
    "nn.elu": _one(ops.elu),
    "nn.selu": _one(ops.selu),
    "nn.softplus": _one(ops.softplus),
    "nn.leaky_relu": lambda x, given: ops.leaky_relu(x, negative_slope=float(given.get("alpha", 0.2))),
    "nn.softmax": lambda x, given: ops.softmax(x, axis=-1 if given.get("axis") is None else given["axis"]),
    "identity": _one(lambda x: x),
    "stop_gradient": _one(lambda x: x),
    "math.reduce_mean": _reduced(ops.mean),
    "math.reduce_sum": _reduced(ops.sum),
    "math.reduce_max": _reduced(ops.max),
    "math.reduce_min": _reduced(ops.min),
    "math.reduce_prod": _reduced(ops.prod),
    "math.reduce_std": _reduced(ops.std),
    "math.reduce_variance": _reduced(ops.var),
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": lambda x, given: ops.expand_dims(x, axis=_axis(given["axis"])),
    "squeeze": _squeeze,
    "concat": lambda x, given: ops.concatenate(x, axis=given["axis"]),
    "stack": lambda x, given: ops.stack(x, axis=given.get("axis", 0)),
    "reverse": lambda x, given: ops.flip(x, axis=_axis(given["axis"])),
    "tile": lambda x, given: ops.tile(x, tuple(given["multiples"])),
    "cast": _cast,
    "clip_by_value": lambda x, given: ops.clip(x, given["clip_value_min"], given["clip_value_max"]),
    "linalg.matmul": _matmul,
}
# As TensorFlow 1 and its compatibility names have them.
_OPERATIONS |= {f"compat.v1.{name}": _OPERATIONS[name] for name in ("reshape", "transpose", "squeeze", "expand_dims", "concat")}
