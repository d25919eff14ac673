"""What the nodes of an ONNX graph are, in the words that every framework shares.

A layer is a node whose value follows what goes in and that does more than to arrange it. A product with constant weights and the constant
that is added to it are one: ONNX has no dense layer over sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import helper

from seqscope.engines.base import InputHint
from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_cells import QUANTIZED
from seqscope.engines.onnx_graph import Graph, Node
from seqscope.engines.onnx_proto import shape_of
from seqscope.layers import Layer
from seqscope.reach import Mixes, Reach, Remembers, Same, Slides

# What arranges values and computes none.
ARRANGES = (
    "Cast",
    "CastLike",
    "Concat",
    "Constant",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
_NORMS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool")
_SOFTMAX = ("LogSoftmax", "Softmax")
# Each value depends on the same place of the first input alone.
ELEMENTWISE = (
    "BatchNormalization",
    "Celu",
    "Clip",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "PRelu",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
)
_KINDS = {
    "BatchNormalization": "batch_norm",
    "Conv": "conv1d",
    "ConvTranspose": "conv1d_transposed",
    "Dropout": "dropout",
    "Gather": "embedding",
    "Gemm": "linear",
    "InstanceNormalization": "norm",
    "MatMul": "linear",
} | {op: kind for op, (kind, _) in RECURRENT.items()}
_TIME_FIRST, _SAMPLE_FIRST, _CHANNELS_FIRST = ("time", "sample", "unit"), ("sample", "time", "unit"), ("sample", "unit", "time")


@dataclass(frozen=True)
class Place:
    """Where a layer stands in the graph.

    Attributes
    ----------
    node : Node
    tensor : str
        Its value: what the node gives, or what is made of that by adding a constant.
    weights : tuple of str
        The constants that it computes with.
    """

    node: Node
    tensor: str
    weights: tuple[str, ...]


class Table:
    """The layers of a graph, and all else that can be asked for by name."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def places(self) -> dict[str, Place]:
        """The layers by name, in the order in which they run."""
        found: dict[str, Place] = {}
        added: set[str] = set()
        for node in self.graph.nodes:
            if self._is_layer(node) and node.name not in added:
                adds = self._adds_to(node)
                if adds is not None:
                    added.add(adds.name)
                weights = [name for name in dict.fromkeys(node.inputs) if self._is_weight(name)]
                weights += [] if adds is None else [name for name in adds.inputs if self._is_weight(name)]
                # Exporters give one of the two the layer's own name: "fc_MatMul" and "fc".
                name = adds.name if adds is not None and node.name.startswith(adds.name) else node.name
                found[name] = Place(node, node.value if adds is None else adds.value, tuple(weights))
        return found

    @cached_property
    def rows(self) -> tuple[Layer, ...]:
        """The layers; a weight that several share counts with the first."""
        seen: set[str] = set()
        return tuple(self._row(name, place, seen) for name, place in self.places.items())

    @cached_property
    def others(self) -> dict[str, Place]:
        """What else can be asked for: nodes that arrange values, and every tensor by its own name."""
        found: dict[str, Place] = {}
        for node in self.graph.nodes:
            for name, tensor in ((node.name, node.value), *((tensor, tensor) for tensor in node.outputs)):
                if tensor in self.graph.following and name not in self.places:
                    found.setdefault(name, Place(node, tensor, ()))
        return found

    def by_name(self) -> dict[str, Layer]:
        """Layers, other nodes and tensors."""
        others = {name: self._other(name, place) for name, place in self.others.items()}
        return {row.name: row for row in self.rows} | others

    def _other(self, name: str, place: Place) -> Layer:
        what = f"what {place.node.op} gives" if name == place.node.name else f"a tensor of '{place.node.name}'"
        return Layer(name, "other", place.node.op, what, 0, 0)

    # Which nodes are layers

    def _is_layer(self, node: Node) -> bool:
        if node.value not in self.graph.following or node.op in ("If", "Loop", "Scan"):
            return False
        return node.op not in ARRANGES or self._is_embedding(node)

    def _is_embedding(self, node: Node) -> bool:
        """Rows of a constant matrix, taken by what goes in."""
        return node.op == "Gather" and node.input(0) in self.graph.constants and self._rank(node.input(0)) == 2

    def _is_weight(self, tensor: str) -> bool:
        """A constant that holds numbers to compute with, not the places or sizes of something."""
        if tensor not in self.graph.constants:
            return False
        return any(self._holds_numbers(source) for source in self.graph.sources(tensor))

    def _holds_numbers(self, source: str) -> bool:
        return self._rank(source) > (0 if self._is_float(source) else 1)

    def _is_float(self, tensor: str) -> bool:
        kind = self.graph.types.get(tensor)
        dtype = self.graph.constant(tensor).dtype if kind is None else helper.tensor_dtype_to_np_dtype(kind)
        return dtype.kind == "f"

    def _rank(self, constant: str) -> int:
        weight = self.graph.weights.get(constant)
        return len(weight.dims) if weight is not None else self.graph.constant(constant).ndim

    def _adds_to(self, node: Node) -> Node | None:
        """The node that adds a constant, one number for each unit, to a product with constant weights."""
        readers = self.graph.readers(node.value)
        if node.op != "MatMul" or node.input(1) not in self.graph.constants or len(readers) != 1 or node.value in self.graph.outputs:
            return None
        (reader,) = readers
        if reader.op != "Add" or reader.around != node.around:
            return None
        other = next((name for name in reader.inputs if name != node.value), "")
        shape = self._shape(other)
        return reader if shape and math.prod(shape[:-1]) == 1 else None

    # What they are

    def _row(self, name: str, place: Place, seen: set[str]) -> Layer:
        sources = [source for weight in place.weights for source in self.graph.sources(weight) if self._holds_numbers(source)]
        fresh = [source for source in dict.fromkeys(sources) if source not in seen]
        seen.update(fresh)
        n_params = sum(self._size(source) for source in fresh)
        fixed = place.node.inputs[3:] if place.node.op == "BatchNormalization" else []
        fixed_sources = {source for weight in fixed if weight for source in self.graph.sources(weight)}
        directions = 2 if place.node.op in RECURRENT and place.node.attribute("direction") == "bidirectional" else 1
        return Layer(
            name=name,
            kind=self.kind_of(place.node),
            type=place.node.op,
            description=self._description(place),
            n_params=n_params,
            trainable=sum(self._size(source) for source in fresh if source not in fixed_sources),
            native_dims=self._native_dims(place.node),
            directions=directions,
            reach=self._reach(place) if not place.node.around else None,
        )

    def _size(self, source: str) -> int:
        weight = self.graph.weights.get(source)
        return int(np.prod(weight.dims)) if weight is not None else int(self.graph.constant(source).size)

    def kind_of(self, node: Node) -> str:
        """Say what a node is: `lstm`, `conv1d`, ... or `other`."""
        if node.op in ("Conv", "ConvTranspose") and self._taps(node) is None:
            return "other"
        if node.op in ("MatMul", "Gemm") and self._matrix_shape(node) is None:
            return "other"
        if node.op in _KINDS:
            return _KINDS[node.op]
        named = ((_NORMS, "layer_norm"), (_POOLS, "pooling"), (_SOFTMAX, "softmax"), (ELEMENTWISE, "nonlinearity"))
        return next((kind for ops, kind in named if node.op in ops), "other")

    def _shape(self, constant: str) -> tuple[int, ...] | None:
        if constant not in self.graph.constants:
            return None
        weight = self.graph.weights.get(constant)
        return tuple(weight.dims) if weight is not None else self.graph.constant(constant).shape

    def _taps(self, node: Node) -> tuple[int, int, int] | None:
        """Of a convolution along one axis: its filters, the channels of a group, its taps."""
        shape = self._shape(node.input(1))
        if shape is None or len(shape) != 3:
            return None
        groups = int(node.attribute("group", 1))
        return (shape[1] * groups, shape[0], shape[2]) if node.op == "ConvTranspose" else (shape[0], shape[1] * groups, shape[2])

    def _matrix_shape(self, node: Node) -> tuple[int, int] | None:
        """Of a product with a constant matrix: what comes in, what goes out."""
        shape = self._shape(node.input(1))
        if shape is None or len(shape) != 2:
            return None
        return (shape[1], shape[0]) if node.op == "Gemm" and node.attribute("transB", 0) else (shape[0], shape[1])

    def _n_units(self, node: Node) -> int:
        said = node.attribute("hidden_size")
        shape = self._shape(node.input(2))
        return int(said) if said else 0 if shape is None else shape[-1]

    def _description(self, place: Place) -> str:
        node = place.node
        match self.kind_of(node):
            case "lstm" | "gru" | "rnn":
                way = {"bidirectional": "bidirectional ", "reverse": "backward "}.get(node.attribute("direction", "forward"), "")
                return f"{way}{node.op} with {self._n_units(node)} hidden units"
            case "conv1d" | "conv1d_transposed":
                filters, _, taps = self._taps(node) or (0, 0, 0)
                return f"{node.op} with {filters} filters of {taps} steps"
            case "linear":
                return f"fully connected {(self._matrix_shape(node) or (0, 0))[1]}"
            case "embedding":
                n_tokens, size = self._shape(node.input(0)) or (0, 0)
                return f"embedding of {n_tokens} tokens in {size} dimensions"
            case "softmax":
                return "softmax"
            case "dropout":
                return "dropout (off)"
        return node.op if not node.around else f"{node.op}, inside {node.around[-1][0].op}"

    def _native_dims(self, node: Node) -> tuple[str, ...] | None:
        """What the axes of a layer's value are, where its kind alone tells; those inside of loops have more."""
        if node.op in RECURRENT and not any(outer.op in ("Loop", "Scan") for outer, _ in node.around):
            return _SAMPLE_FIRST if node.attribute("layout", 0) else _TIME_FIRST
        has_steps = (self.graph.shapes.get(node.input(0)) or (None,))[-1] != 1  # a dense layer may be written as a convolution
        return _CHANNELS_FIRST if self.kind_of(node) == "conv1d" and not node.around and has_steps else None

    def _reach(self, place: Place) -> Reach | None:
        node = place.node
        match self.kind_of(node):
            case "conv1d" | "conv1d_transposed":
                return self._slides(node)
            case "linear":
                return Mixes((-1,), (self._matrix_shape(node) or (0, 0))[1])
            case "embedding":
                return Mixes((), (self._shape(node.input(0)) or (0, 0))[1]) if node.attribute("axis", 0) == 0 else None
            case "layer_norm":
                axis = int(node.attribute("axis", -1))
                return Mixes(tuple(range(axis, 0))) if axis < 0 else None
            case "lstm" | "gru" | "rnn":
                direction, size = node.attribute("direction", "forward"), self._n_units(node)
                both = direction == "bidirectional"
                axis = 0 if node.attribute("layout", 0) else 1
                return Remembers(direction != "reverse", direction != "forward", size * (2 if both else 1), axis)
        return Same() if node.op in ELEMENTWISE else None

    def _slides(self, node: Node) -> Slides | None:
        filters, _, taps = self._taps(node) or (0, 0, 0)
        pads, auto = node.attribute("pads") or [0, 0], node.attribute("auto_pad", "NOTSET")
        if auto == "SAME_LOWER" or node.attribute("output_shape"):
            return None
        extra = node.attribute("output_padding") or [0]
        return Slides(
            taps=taps,
            units=filters,
            time_axis=-1,
            unit_axis=-2,
            stride=(node.attribute("strides") or [1])[0],
            dilation=(node.attribute("dilations") or [1])[0],
            padding="same" if auto == "SAME_UPPER" else (0, 0) if auto == "VALID" else (int(pads[0]), int(pads[1])),
            transposed=node.op == "ConvTranspose",
            extra=int(extra[0]),
        )

    # What the model takes

    def hints(self, main: str) -> Iterator[InputHint]:
        """What the layers take, in the order in which they run; what the file declares of the input comes first."""
        info = next(info for info in self.graph.inputs if info.name == main)
        shape = shape_of(info)
        if len(shape) == 2 and self._is_float(main) and isinstance(shape[1], int):  # a sequence alone, or a step
            yield InputHint(main, shape[1])
        if len(shape) == 3:
            sizes = [size for size in shape if isinstance(size, int) and size > 1]
            if len(sizes) == 1:
                yield InputHint(main, sizes[0])
            for size, n_steps in ((sizes[-1], sizes[-2]), (sizes[-2], sizes[-1])) if len(sizes) == 2 else ():  # in either order
                yield InputHint(main, size, n_steps=n_steps)
        for name, place in self.places.items():
            in_branch = any(outer.op == "If" for outer, _ in place.node.around)  # of which another may take something else
            hint = None if in_branch else self._hint(name, place.node)
            if hint is not None:
                yield hint

    def _hint(self, name: str, node: Node) -> InputHint | None:
        match self.kind_of(node):
            case "conv1d" | "conv1d_transposed":
                return InputHint(name, (self._taps(node) or (0, 0, 0))[1])
            case "linear":
                return InputHint(name, (self._matrix_shape(node) or (0, 0))[0])
            case "embedding":
                return InputHint(name, (self._shape(node.input(0)) or (0, 0))[0], is_tokens=True)
            case "lstm" | "gru" | "rnn":
                shape = self._shape(node.input(1))
                return None if shape is None else InputHint(name, shape[1 if node.op == QUANTIZED else -1])
            case "batch_norm":
                shape = self._shape(node.input(1))
                return None if shape is None else InputHint(name, shape[0])
        return None
