"""Layers of Keras 2, made in Keras 3 from what a file says of them, so that they compute what they computed.

References: the sources of tf_keras (the last Keras 2) and of the standalone Keras before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers as kl
from keras import ops

from seqscope.errors import ModelError, quoted

# A layer as a file has it: {"class_name": ..., "config": {...}}.
Spec = Mapping[str, Any]

SWITCH_TO_ONNX = "convert it to ONNX with tf2onnx in the environment that it was made in, and open Scope('net.onnx')"

# What was renamed since, and what computes the same as another layer that is still there.
_CLASSES = {
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "UnifiedLSTM": "LSTM",
    "UnifiedGRU": "GRU",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
}
MODELS = ("Sequential", "Functional", "Model")
_REMOVED = ("LocallyConnected1D", "LocallyConnected2D", "PeepholeLSTMCell", "DenseFeatures", "TensorFlowOpLayer", "ConvLSTM2DCell")

# How weights began and what training adds to the loss: they are read from the file, and nothing is trained.
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")

# Options that Keras 3 has not, which change nothing of what is computed.
_WITHOUT_EFFECT = frozenset(
    {
        "activity_regularizer",
        "adjustment",
        "autocast",
        "batch_input_shape",
        "dynamic",
        "fused",
        "force_generator",
        "implementation",
        "input_dim",
        "input_dtype",
        "input_length",
        "input_shape",
        "input_spec",
        "key_shape",
        "noise_shape",
        "num_constants",
        "query_shape",
        "ragged",
        "renorm",
        "renorm_clipping",
        "renorm_momentum",
        "rng_type",
        "sparse",
        "unit_forget_bias",
        "value_shape",
        "virtual_batch_size",
        "weights",
    }
)


@keras.saving.register_keras_serializable(package="seqscope")  # type: ignore[untyped-decorator]
def hard_sigmoid(x: Any) -> Any:
    """Keras 2's hard_sigmoid, clip(0.2 x + 0.5, 0, 1); Keras 3's is clip(x / 6 + 0.5, 0, 1)."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="seqscope")
class TimeDistributed(kl.TimeDistributed):  # type: ignore[misc]
    """Keras 2's TimeDistributed, which gives the mask that the layer inside makes of each step (Keras 3's gives the one that came in)."""

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """A mask (sample, time, ...); None where there is none."""
        made = None if isinstance(self.layer, keras.Model) else self.layer.compute_mask(inputs, mask)
        if made is not None or mask is None:
            return made
        return mask if len(mask.shape) == 2 else ops.any(mask, axis=tuple(range(2, len(mask.shape))))


@keras.saving.register_keras_serializable(package="seqscope")
class AveragePooling1D(kl.AveragePooling1D):  # type: ignore[misc]
    """Averages over the steps that are there, as Keras 2 does (Keras 3 on torch repeats the last step where one is missing)."""

    def call(self, inputs: Any) -> Any:
        """The averages, (sample, step, unit)."""
        if keras.backend.backend() != "torch":
            return super().call(inputs)
        axis = 1 if self.data_format == "channels_last" else 2
        (size,), (stride,) = self.pool_size, self.strides
        n_steps = ops.shape(inputs)[axis]
        missing = ops.maximum((-(-n_steps // stride) - 1) * stride + size - n_steps, 0)
        widths = [(0, 0)] * 3
        widths[axis] = (int(missing) // 2, int(missing) - int(missing) // 2)

        def pooled(value: Any) -> Any:
            return ops.average_pool(ops.pad(value, widths), size, stride, "valid", self.data_format)

        return pooled(inputs) / pooled(ops.ones_like(inputs))


def _quiet(layer: Any) -> Any:
    """A layer in which masks end without a word, as in Keras 2: Keras 3 warns of it at each call."""
    if not layer.supports_masking:
        layer.supports_masking, layer.compute_mask = True, _no_mask
    return layer


def _no_mask(inputs: Any, previous_mask: Any) -> None:
    """The mask that comes out of such a layer."""


@dataclass
class Repairs:
    """What was changed so that Keras 3 opens a file, each with the layers that it was changed of."""

    made: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, layer: str) -> None:
        """Write down a repair of a layer."""
        layers = self.made.setdefault(what, [])
        if layer not in layers:
            layers.append(layer)

    def __str__(self) -> str:
        return "; ".join(f"{what} ({quoted(layers, most=4)})" for what, layers in self.made.items())


def clean_name(name: str, repairs: Repairs) -> str:
    """A name that Keras 3 takes: without "/"."""
    if "/" in name:
        repairs.note("'/' in names is '_' now", name)
    return name.replace("/", "_")


@dataclass
class LayerMaker:
    """Makes layers from what a file says of them.

    Parameters
    ----------
    make_model : function of spec
        What makes the models among them.
    custom_objects : dict
        Classes and functions of the person's own, by name.
    trust : bool
        Whether functions that the file holds as code may be made.
    masks_inside : bool
        Whether a TimeDistributed of the file wraps a layer that makes a mask.
    """

    make_model: Callable[[Spec], Any]
    custom_objects: Mapping[str, Any]
    trust: bool
    masks_inside: bool
    repairs: Repairs
    swapped: set[int] = field(default_factory=set)
    causal: set[int] = field(default_factory=set)

    def layer(self, spec: Spec) -> Any:
        """A layer.

        Raises
        ------
        ModelError
            Keras 3 has no such layer, or it has an option that Keras 3 can't follow.
        """
        kind, config = _kind(spec), dict(spec["config"]) if isinstance(spec.get("config"), Mapping) else spec.get("config")
        own = self._own(spec, kind)
        if own is not None:
            return self._made(kind, own.from_config, self._plain(config))
        if kind in MODELS:
            return _quiet(self.make_model(spec))
        if not isinstance(config, dict):
            raise ModelError(f"it describes a layer of class {kind!r} without its options")
        if kind == "Lambda":
            return self._lambda(config)
        cls = getattr(kl, _CLASSES.get(kind, kind), None)
        name = str(config.get("name", kind))
        if kind in _REMOVED or (cls is None and kind.startswith(("TFOp", "Slicing"))):
            raise ModelError(f"its layer '{name}' is a {kind}, which Keras 3 has no more: {SWITCH_TO_ONNX}")
        if not (inspect.isclass(cls) and issubclass(cls, keras.Layer)):
            raise ModelError(
                f"its layer '{name}' is a {kind!r}, which Keras does not know: say what it is with custom_objects={{{kind!r}: ...}}"
            )
        if kind == "TimeDistributed" and self.masks_inside:
            cls = TimeDistributed
        if kind in ("AveragePooling1D", "AvgPool1D") and config.get("padding") == "same":
            cls = AveragePooling1D
        layer = self._made(kind, lambda options: cls(**options), self._options(kind, cls, config))
        if config.get("trainable") is False:
            layer.trainable = False
        _quiet(layer)
        if config.get("time_major") or (kind == "Bidirectional" and config["layer"]["config"].get("time_major")):
            self.swapped.add(id(layer))
        if kind in ("Attention", "AdditiveAttention") and config.get("causal"):
            self.causal.add(id(layer))
        return layer

    def _own(self, spec: Spec, kind: str) -> Any:
        """A class of the person's own, or one registered with Keras, under its name or its full name."""
        full = str(spec.get("registered_name") or spec.get("class_name"))
        for name in (full, kind):
            known = self.custom_objects.get(name) or keras.saving.get_registered_object(name)
            if inspect.isclass(known):
                return known
        return None

    def _made(self, kind: str, make: Callable[[dict[str, Any]], Any], options: dict[str, Any]) -> Any:
        """Call what makes a layer; its complaint becomes part of a sentence."""
        try:
            return make(options)
        except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
            raise ModelError(f"its layer '{options.get('name', kind)}' ({kind}) can't be made by Keras 3: {_short(error)}") from error

    def _plain(self, config: Any) -> Any:
        """The options of a class of the person's own, with what Keras' own part of it takes."""
        if not isinstance(config, dict):
            return config
        config.pop("batch_input_shape", None)
        return config | self._base(config)

    def _base(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What every layer has: name and type."""
        base: dict[str, Any] = {}
        if config.get("name") is not None:
            base["name"] = clean_name(str(config["name"]), self.repairs)
        if config.get("dtype") is not None:
            base["dtype"] = dtype_of(config["dtype"])
        return base

    def _options(self, kind: str, cls: type, config: dict[str, Any]) -> dict[str, Any]:
        """The options of a layer as Keras 3 takes them."""
        name = str(config.get("name", kind))
        translate = _TRANSLATED.get(kind)
        if translate is not None:
            config = config | translate(config, lambda what: self.repairs.note(what, name))
            config = {option: value for option, value in config.items() if value is not _GONE}
        taken = parameters_of(cls)
        options = self._base(config)
        for option, value in config.items():
            if option in (*options, "name", "dtype", "trainable") or option.endswith(_OF_TRAINING):
                continue
            if option not in taken:
                self._left_out(kind, name, option, value)
            elif option in ("activation", "recurrent_activation"):
                options[option] = self.activation(value, name)
            elif option in ("layer", "backward_layer", "cell") and isinstance(value, Mapping):
                options[option] = self._inside(kind, option, value)
                if (
                    kind == "Bidirectional"
                    and option == "layer"
                    and value["config"].get("go_backwards")
                    and not config.get("backward_layer")
                ):
                    options["backward_layer"] = self.layer({**value, "config": {**value["config"], "go_backwards": False}})
            elif option == "cells" or (option == "cell" and isinstance(value, list)):
                options[option] = [self.layer(cell) for cell in value]
            else:
                options[option] = value
        return options

    def _inside(self, kind: str, option: str, spec: Spec) -> Any:
        """The layer that a wrapper wraps."""
        layer = self.layer(spec)
        if option != "cell" and kind not in ("Bidirectional",) and id(layer) in self.swapped:
            raise ModelError(f"its layer '{layer.name}' has time_major=True inside a {kind}, which is not translated: {SWITCH_TO_ONNX}")
        return layer

    def _left_out(self, kind: str, name: str, option: str, value: Any) -> None:
        """Leave out an option that Keras 3 does not take, where nothing is computed otherwise without it."""
        if option == "time_major":
            time_first = "time_major=True, which Keras 3 has no more, is done by swapping the axes before and after"
            self.repairs.note(time_first if value else "time_major=False, which Keras 3 has no more, was left out", name)
        elif not (
            option in _WITHOUT_EFFECT
            or value is None
            or value is False
            or (option, value) == ("groups", 1)
            or (kind.endswith("Attention") and option == "causal")
        ):
            raise ModelError(f"its layer '{name}' ({kind}) has {option}={value!r}, which Keras 3 has no more: {SWITCH_TO_ONNX}")

    def activation(self, value: Any, layer: str) -> Any:
        """An activation: a function by its name, or a layer that is one."""
        if isinstance(value, Mapping):
            if value.get("class_name") == "function":
                return self.activation(value["config"], layer)
            return self.layer(value)
        if value is None or value in self.custom_objects:
            return None if value is None else self.custom_objects[value]
        if value == "hard_sigmoid":
            self.repairs.note("hard_sigmoid is that of Keras 2, clip(0.2 x + 0.5, 0, 1)", layer)
            return hard_sigmoid
        try:
            return keras.activations.get(value)
        except (ValueError, TypeError):
            pass
        if inspect.isclass(getattr(kl, str(value), None)):
            return self.layer({"class_name": value, "config": {}})
        raise ModelError(
            f"its layer '{layer}' has the activation {value!r}, which Keras does not know: say what it is with "
            f"custom_objects={{{value!r}: ...}}"
        )

    def _lambda(self, config: dict[str, Any]) -> Any:
        """A Lambda layer: by the name of a function of the person's own, or, of a file that is trusted, the code in it."""
        name, function = str(config.get("name", "lambda")), config.get("function")
        options = self._base(config) | {"arguments": config.get("arguments") or {}}
        if isinstance(function, Mapping) and isinstance(function.get("config"), str):
            function = function["config"]
        if isinstance(function, str):
            own = self.custom_objects.get(function)
            if own is None:
                raise ModelError(
                    f"its layer '{name}' is a Lambda of the function {function!r}, which the file does not hold: give it with "
                    f"custom_objects={{{function!r}: ...}}"
                )
            return kl.Lambda(own, **options)
        if not self.trust:
            raise ModelError(
                f"its layer '{name}' is a Lambda layer, which is code that opening would run: if you trust the file, say trust=True"
            )
        code: Any = function["config"] if isinstance(function, Mapping) else function
        parts = [code["code"], code["defaults"], code["closure"]] if isinstance(code, Mapping) else list(code)
        return self._made("Lambda", lambda given: _with_code(parts, given), options)


def _with_code(parts: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """A Lambda layer of the code that a file holds."""
    code, defaults, closure = parts
    value = {"class_name": "__lambda__", "config": {"code": code, "defaults": defaults, "closure": closure}}
    return kl.Lambda.from_config({**options, "function": value}, safe_mode=False)


def _kind(spec: Spec) -> str:
    """The class of a layer, without the package that it was registered under."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_name"), str):
        raise ModelError("it describes a layer without its class")
    return str(spec["class_name"]).rpartition(">")[2]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def dtype_of(value: Any) -> Any:
    """A type, or policy, by its name."""
    if isinstance(value, Mapping):
        config = value.get("config")
        return config.get("name", "float32") if isinstance(config, Mapping) else config
    return value


def parameters_of(cls: type) -> frozenset[str]:
    """The options that a layer's class and those above it take by name."""
    found: set[str] = set()
    for above in cls.__mro__:
        if above is keras.Layer:
            break
        if "__init__" in vars(above):
            taken = inspect.signature(above.__init__).parameters  # type: ignore[misc]
            found |= set(taken) - {"self", "args", "kwargs"}
            if "kwargs" not in taken:
                break
    return frozenset(found)


# What a class's options become. `_GONE` takes one away.

_GONE = object()
Note = Callable[[str], None]


def _lstm(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    return {"recurrent_activation": config.get("recurrent_activation", "hard_sigmoid")} | _rolled(config, note)


def _gru(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    """Before it could be said, the reset gate came before the product, and the gates were hard."""
    if "reset_after" not in config:
        note("reset_after, which the file does not say yet, is False as it was then")
    return {"reset_after": bool(config.get("reset_after", False))} | _lstm(config, note)


def _rolled(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    """A loop computes the same as steps one after the other, which Keras 3 can't do over masks on each backend."""
    return {"unroll": False}


def _cudnn_lstm(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    note("CuDNNLSTM, which Keras 3 has no more, is an LSTM")
    return {"activation": "tanh", "recurrent_activation": "sigmoid"}


def _cudnn_gru(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    note("CuDNNGRU, which Keras 3 has no more, is a GRU with reset_after=True")
    return {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}


def _cell(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    return {"recurrent_activation": config.get("recurrent_activation", "hard_sigmoid")}


def _gru_cell(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    return {"reset_after": bool(config.get("reset_after", False))} | _cell(config, note)


def _batch_norm(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    axis = config.get("axis", -1)
    if not isinstance(axis, list | tuple):
        return {}
    if len(axis) > 1:
        raise ModelError(f"its layer '{config.get('name')}' normalizes over the axes {list(axis)} at once: {SWITCH_TO_ONNX}")
    return {"axis": int(axis[0])}


def _leaky(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    """The slope's name changed; it was 0.3 where it was not said, as it is now."""
    slope = config.get("alpha", config.get("negative_slope", 0.3))
    return {"negative_slope": float(slope), "alpha": _GONE}


def _thresholded(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    note("ThresholdedReLU, which Keras 3 has no more, is a ReLU with a threshold")
    return {"threshold": float(config.get("theta", 1.0)), "theta": _GONE}


def _conv_lstm(config: Mapping[str, Any], note: Note) -> dict[str, Any]:
    return {"recurrent_activation": config.get("recurrent_activation", "hard_sigmoid")}


_TRANSLATED: dict[str, Callable[[Mapping[str, Any], Note], dict[str, Any]]] = {
    "LSTM": _lstm,
    "UnifiedLSTM": _lstm,
    "GRU": _gru,
    "UnifiedGRU": _gru,
    "SimpleRNN": _rolled,
    "RNN": _rolled,
    "CuDNNLSTM": _cudnn_lstm,
    "CuDNNGRU": _cudnn_gru,
    "LSTMCell": _cell,
    "GRUCell": _gru_cell,
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "BatchNormalizationV2": _batch_norm,
    "SyncBatchNormalization": _batch_norm,
    "LeakyReLU": _leaky,
    "ThresholdedReLU": _thresholded,
    "ConvLSTM1D": _conv_lstm,
    "ConvLSTM2D": _conv_lstm,
    "ConvLSTM3D": _conv_lstm,
}
