"""Whole models of Keras 2 (`.h5`, from Python and from R), put together in Keras 3 from what the file says of them.

The layers are made one by one (`keras_legacy_layers`) and called as the file says, so that what Keras 3's own reader refuses (wrappers in
wrappers, options that are gone, names with "/") opens, and what changed its meaning keeps the old one.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from seqscope.engines import keras_h5, keras_legacy_ops
from seqscope.engines.keras_legacy_layers import MODELS, LayerMaker, Repairs, Spec, clean_name, dtype_of
from seqscope.errors import ModelError

_CONSTANT = "_CONSTANT_VALUE"


def build(
    config: Spec, saved: Mapping[str, list[keras_h5.Saved]], *, custom_objects: Mapping[str, Any], trust: bool
) -> tuple[Any, Repairs, keras_h5.Orders]:
    """Make the model that a file of Keras 2 describes, without its weights.

    Parameters
    ----------
    config : dict
        `model_config` of the file.
    saved : dict of lists
        The weights in the file: what a model takes that does not say it is told from their shapes.

    Returns
    -------
    model, repairs, orders
        `orders` tells the layers of each model in the file's order, by the model's id.

    Raises
    ------
    ModelError
        It can't be made; the message goes on from "'file'".
    """
    repairs = Repairs()
    orders: dict[int, Sequence[Any]] = {}
    plain = _plain(config)
    if not isinstance(plain, Mapping) or "class_name" not in plain:
        raise ModelError("its description of the model is none of Keras")

    def make_model(spec: Spec) -> Any:
        return _Builder(maker, saved, orders).model(spec)

    maker = LayerMaker(make_model, custom_objects, trust, _masks_inside(plain), repairs)
    with warnings.catch_warnings(), keras.saving.custom_object_scope(dict(custom_objects)):
        warnings.simplefilter("ignore")  # Keras' advice to those who write models
        return _with_free_names(lambda: maker.layer(plain)), repairs, orders


def _with_free_names(make: Callable[[], Any]) -> Any:
    """What is made; again where an operation took the name of a layer.

    Keras merges masks with operations that it names itself, "concatenate", which the file may have named a layer: its numbers go on, so
    that the next try has other names.
    """
    for _ in range(_TRIES):
        try:
            return make()
        except ValueError as error:
            if "All operation names should be unique" not in str(error):
                raise
    return make()


_TRIES = 8


def _plain(value: Any) -> Any:
    """A description with tuples and shapes as they were."""
    if isinstance(value, Mapping):
        if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
            return tuple(map(_plain, value["items"]))
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _masks_inside(value: Any) -> bool:
    """Whether a TimeDistributed wraps a layer that makes a mask of its own."""
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == "TimeDistributed" and isinstance(config, Mapping):
            inner = config.get("layer") or {}
            if inner.get("class_name") == "Masking" or (inner.get("config") or {}).get("mask_zero"):
                return True
        return any(map(_masks_inside, value.values()))
    return any(map(_masks_inside, value)) if isinstance(value, list | tuple) else False


@dataclass
class _Builder:
    """Puts one model together.

    Attributes
    ----------
    orders : dict of lists
        Takes in the layers of the model, under its id.
    layers : dict
        By the name that the file has, what makes a value of values.
    calls : dict of lists
        What each layer gave at each of its calls, flat.
    first_call : dict of int
        The number that the file gives to the first call: that of a model is 1, since its own making counted.
    """

    maker: LayerMaker
    saved: Mapping[str, list[keras_h5.Saved]]
    orders: dict[int, Sequence[Any]]
    layers: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, list[list[Any]]] = field(default_factory=dict)
    first_call: dict[str, int] = field(default_factory=dict)

    def model(self, spec: Spec) -> Any:
        """A model, which may be inside another one."""
        config = spec["config"]
        if spec["class_name"].rpartition(">")[2] == "Sequential" or isinstance(config, list):
            return self._sequential(config)
        if not isinstance(config, Mapping) or "layers" not in config:
            raise ModelError("it holds a model without its layers: a subclassed model is opened with weights= and the code that makes it")
        return self._functional(config)

    def _sequential(self, config: Any) -> Any:
        listed = config if isinstance(config, list) else config["layers"]
        name = None if isinstance(config, list) else config.get("name")
        if not listed:
            raise ModelError("it holds a Sequential model without layers")
        begin, rest = self._begin(listed, None if isinstance(config, list) else config.get("build_input_shape"))
        made = [self.maker.layer(spec) for spec in rest]
        clean = None if name is None else clean_name(str(name), self.maker.repairs)
        if not any(id(layer) in self.maker.swapped for layer in made):
            return keras.Sequential([begin, *made] if begin is not None else made, name=clean)
        if begin is None:
            raise ModelError("it has a layer with time_major=True and does not say the shape of its input")
        value = begin
        for layer in made:
            value = self._called(layer, value, {})
        model = keras.Model(begin, value, name=clean)
        self.orders[id(model)] = made
        return model

    def _begin(self, listed: list[Any], built: Any) -> tuple[Any, list[Any]]:
        """The input of a Sequential model, and the layers that come after it."""
        first = listed[0]
        config = first.get("config")
        if first.get("class_name") == "InputLayer":
            return self._input(config), listed[1:]
        inside = config
        while isinstance(inside, Mapping) and "batch_input_shape" not in inside and isinstance(inside.get("layer"), Mapping):
            inside = inside["layer"].get("config")  # what a wrapper wraps may say it
        shape = inside.get("batch_input_shape") if isinstance(inside, Mapping) else None
        name = config.get("name", "layer") if isinstance(config, Mapping) else "model"
        if shape is not None and inside is not config:
            shape = None  # of a step, not of the series
        if shape is not None:
            self.maker.repairs.note("the input, which only 'batch_input_shape' told, is an input layer", str(name))
        elif built is not None:
            shape = built
        elif first.get("class_name") not in MODELS:
            shape = self._shape_by_weights(str(name), str(first.get("class_name")))
            if shape is not None:
                self.maker.repairs.note("the input, of which the file says nothing, has the shape that the weights take", str(name))
        if shape is None:
            return None, listed
        dtype = dtype_of(config.get("dtype")) if isinstance(config, Mapping) else None
        return keras.Input(batch_shape=tuple(shape), dtype=dtype if dtype in ("float16", "float64", "int32", "int64") else None), listed

    def _shape_by_weights(self, name: str, kind: str) -> tuple[int | None, ...] | None:
        """What a first layer takes, told by its first saved array."""
        kernel = self.saved[name][0].shape if name in self.saved else ()
        if kind == "Embedding":
            return (None, None)
        if kind == "Dense" and len(kernel) == 2:
            return (None, kernel[0])
        if kind.endswith(("LSTM", "GRU", "SimpleRNN", "Bidirectional")) and len(kernel) == 2:
            return (None, None, kernel[0])
        return (None, None, kernel[1]) if kind in ("Conv1D", "Convolution1D") and len(kernel) == 3 else None

    def _input(self, config: Mapping[str, Any]) -> Any:
        if config.get("ragged"):
            raise ModelError(f"its input '{config.get('name')}' takes ragged tensors, which Keras 3 has not: pad the sequences")
        shape = config.get("batch_input_shape", config.get("batch_shape"))
        if shape is None:
            raise ModelError(f"its input '{config.get('name')}' has no shape")
        name = clean_name(str(config["name"]), self.maker.repairs) if config.get("name") else None
        return keras.Input(batch_shape=tuple(shape), dtype=dtype_of(config.get("dtype")), name=name)

    def _functional(self, config: Mapping[str, Any]) -> Any:
        waiting: dict[str, list[Any]] = {}
        for spec in config["layers"]:
            name = str(spec.get("name") or spec["config"]["name"])
            self._make(name, spec)
            waiting[name] = list(spec.get("inbound_nodes") or [])
        self._call_all(waiting)
        inputs, outputs = (_unnested(self._values(config[which])) for which in ("input_layers", "output_layers"))
        own = config.get("name")
        model = keras.Model(inputs, outputs, name=None if own is None else clean_name(str(own), self.maker.repairs))
        self.orders[id(model)] = [layer for layer in self.layers.values() if isinstance(layer, keras.Layer)]
        if config.get("trainable") is False:
            model.trainable = False
        return model

    def _make(self, name: str, spec: Spec) -> None:
        kind, config = str(spec["class_name"]), spec["config"]
        self.calls[name] = []
        self.first_call[name] = int(_counts_its_making(spec))
        if kind == "InputLayer":
            self.calls[name].append([self._input(config)])
        elif kind in keras_legacy_ops.CLASSES:
            compute = keras_legacy_ops.operation(str(config.get("function")), name)
            self.maker.repairs.note("an operation of TensorFlow is done with one of Keras", name)
            self.layers[name] = lambda x, **given: compute(x, given)
        else:
            self.layers[name] = self.maker.layer(spec)

    def _call_all(self, waiting: dict[str, list[Any]]) -> None:
        """Call the layers on what others gave, until each call was made."""
        while any(waiting.values()):
            before = sum(map(len, waiting.values()))
            for name, nodes in waiting.items():
                while nodes and self._ready(nodes[0]):
                    node = nodes.pop(0)
                    given = self._called(self.layers[name], _unnested(self._values(node)), self._named(node))
                    self.calls[name].append(keras.tree.flatten(given))
            if sum(map(len, waiting.values())) == before:
                left = [name for name, nodes in waiting.items() if nodes]
                raise ModelError(f"its layers wait for each other or for what is not there: '{left[0]}' is one of {len(left)}")

    def _called(self, layer: Any, value: Any, named: dict[str, Any]) -> Any:
        """What a layer gives: with what Keras 2 had as options and Keras 3 has not."""
        if not isinstance(layer, keras.Layer):
            return layer(value, **named)
        try:
            if id(layer) not in self.maker.swapped:
                return self._plainly_called(layer, value, named)
            values = value if isinstance(value, list) else [value]
            given = self._plainly_called(layer, _unnested([_swapped(values[0]), *values[1:]]), named)
        except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
            raise ModelError(f"its layer '{layer.name}' can't be called by Keras 3: {' '.join(str(error).split())[:300]}") from error
        flat = list(given) if isinstance(given, list | tuple) else [given]
        if getattr(layer, "return_sequences", False):
            flat[0] = _swapped(flat[0])
        return _unnested(flat)

    def _plainly_called(self, layer: Any, value: Any, named: dict[str, Any]) -> Any:
        if id(layer) in self.maker.causal:
            named = named | {"use_causal_mask": True}
        if isinstance(value, list) and isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional):
            value, *states = value
            named = named | {"initial_state": states}
        return layer(value, **named)

    # What a call was given: ["lstm", 0, 1, {...}] is what the layer 'lstm' gave second at its first call, with options of this call.

    def _ready(self, node: Any) -> bool:
        return all(len(self.calls.get(name, ())) > max(self._place(name, call), 0) for name, call, _ in self._asked(node))

    def _asked(self, node: Any) -> Iterator[tuple[str, int, int]]:
        """The values that a call takes, those among its options too."""
        if _is_value(node, self.calls):
            yield node[0], node[1], node[2]
            node = node[3] if len(node) == 4 else {}
        elif _is_constant(node):
            node = node[3] if len(node) == 4 else {}
        inside = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ()
        for one in inside:
            yield from self._asked(one)

    def _place(self, name: str, call: int) -> int:
        return call - self.first_call[name] if call >= self.first_call[name] else call

    def _values(self, node: Any) -> Any:
        if _is_value(node, self.calls):
            return self.calls[node[0]][self._place(node[0], node[1])][node[2]]
        if _is_constant(node):
            return node[2]
        if isinstance(node, Mapping):
            return {name: self._values(one) for name, one in node.items()}
        return [self._values(one) for one in node] if isinstance(node, list | tuple) else node

    def _named(self, node: Any) -> dict[str, Any]:
        """The options of a call."""
        found: dict[str, Any] = {}
        if _is_value(node, self.calls) or _is_constant(node):
            found = dict(node[3]) if len(node) == 4 and isinstance(node[3], Mapping) else {}
        elif isinstance(node, Mapping | list | tuple):
            for one in node.values() if isinstance(node, Mapping) else node:
                found = found | self._named(one)
        return {name: self._values(one) for name, one in found.items() if one is not None and name != "name"}


def _counts_its_making(spec: Spec) -> bool:
    """Whether the calls of a layer are counted from 1 in the file: a model that knows its input was called when it was made."""
    config = spec["config"]
    if spec["class_name"] not in MODELS:
        return False
    if spec["class_name"] != "Sequential":
        return True
    listed = config if isinstance(config, list) else config["layers"]
    return bool(listed) and (listed[0]["class_name"] == "InputLayer" or "batch_input_shape" in listed[0]["config"])


def _is_value(node: Any, known: Mapping[str, Any]) -> bool:
    return isinstance(node, list | tuple) and len(node) in (3, 4) and isinstance(node[0], str) and node[0] in known and _are_places(node)


def _are_places(node: Any) -> bool:
    return all(type(place) is int for place in itertools.islice(node, 1, 3))


def _is_constant(node: Any) -> bool:
    return isinstance(node, list | tuple) and len(node) in (3, 4) and node[0] == _CONSTANT


def _unnested(values: Any) -> Any:
    return values[0] if isinstance(values, list | tuple) and len(values) == 1 else values


def _swapped(value: Any) -> Any:
    """Time first as sample first, or the other way around."""
    return ops.transpose(value, (1, 0, *range(2, len(value.shape))))
