"""What Keras' own layers are, in the words that every framework shares."""

from __future__ import annotations

from typing import Any

from keras import layers as kl

from seqscope.engines.base import InputHint
from seqscope.nn.keras import PoolingHead
from seqscope.reach import Mixes, Reach, Remembers, Same, Slides

_SAMPLE_FIRST, _CHANNELS_FIRST = ("sample", "time", "unit"), ("sample", "unit", "time")

# The first entry that fits is taken.
_KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("LSTM",), "lstm"),
    (("GRU",), "gru"),
    (("RNN",), "rnn"),
    (("Conv1DTranspose",), "conv1d_transposed"),
    (("Conv1D", "SeparableConv1D", "DepthwiseConv1D"), "conv1d"),
    (("Dense", "EinsumDense"), "linear"),
    (("Embedding",), "embedding"),
    (("MultiHeadAttention", "GroupQueryAttention", "Attention"), "attention"),
    (("BatchNormalization",), "batch_norm"),
    (("LayerNormalization", "RMSNormalization"), "layer_norm"),
    (("MaxPooling1D", "AveragePooling1D", "GlobalMaxPooling1D", "GlobalAveragePooling1D"), "pooling"),
    (("AdaptiveMaxPooling1D", "AdaptiveAveragePooling1D"), "pooling"),
    (("Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout", "GaussianNoise"), "dropout"),
    (("Flatten",), "flatten"),
    (("Softmax",), "softmax"),
    (("ReLU", "LeakyReLU", "PReLU", "ELU", "Activation"), "nonlinearity"),
    (("Masking",), "masking"),
)

# Activations that give each place what the same place holds; softmax is none of them.
_ELEMENTWISE = frozenset(
    (
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "swish",
        "mish",
        "softplus",
        "softsign",
        "exponential",
        "tanh",
        "hard_tanh",
        "sigmoid",
        "hard_sigmoid",
        "log_sigmoid",
        "hard_silu",
        "hard_swish",
        "linear",
    )
)


def _is(layer: Any, *names: str) -> bool:
    """Whether a layer is of one of Keras' classes; some are not there in every version of Keras."""
    return isinstance(layer, tuple(getattr(kl, name) for name in names if hasattr(kl, name)))


def kind_of(layer: Any) -> str:
    """Say what a layer is: `lstm`, `conv1d`, ... or `other`; a wrapper is what it wraps."""
    if _is(layer, "Bidirectional"):
        return kind_of(layer.forward_layer)
    if _is(layer, "TimeDistributed"):
        return kind_of(layer.layer)
    if is_head(layer):
        return "pooling_head"
    if _activation_of(layer) == "softmax" and _is(layer, "Activation"):
        return "softmax"
    return next((kind for names, kind in _KINDS if _is(layer, *names)), "other")


def description_of(layer: Any) -> str:
    """Say what a layer is in a few words, with its size."""
    name, after = type(layer).__name__, _and_activation(layer)
    if _is(layer, "Bidirectional"):
        return f"bidirectional {description_of(layer.forward_layer)}" + (f", {layer.merge_mode}" if layer.merge_mode != "concat" else "")
    if _is(layer, "TimeDistributed"):
        return f"{description_of(layer.layer)} at each step"
    if _is(layer, "RNN"):
        units = size_of(layer)
        return f"{name} with {units} hidden units" if units else name
    if _is(layer, "Conv1D", "Conv1DTranspose", "SeparableConv1D"):
        return f"{name} with {layer.filters} filters of {layer.kernel_size[0]} steps{after}"
    if _is(layer, "Dense"):
        return f"fully connected {layer.units}{after}"
    if _is(layer, "Embedding"):
        return f"embedding of {layer.input_dim} tokens in {layer.output_dim} dimensions"
    if _is(layer, "MultiHeadAttention"):
        return f"attention with {layer.num_heads} heads of {layer.key_dim}"
    if is_head(layer):
        return f"{layer.pooling} into {layer.n_outputs} outputs"
    if _is(layer, "MaxPooling1D", "AveragePooling1D"):
        return f"{name} over {layer.pool_size[0]} steps"
    if _is(layer, "Dropout", "SpatialDropout1D"):
        return f"dropout {layer.rate:g} (off)"
    if _is(layer, "Activation", "Softmax"):
        return _activation_of(layer) or name
    return name


def size_of(layer: Any) -> int | None:
    """The hidden units of a recurrent layer; None for a cell that does not say."""
    size = getattr(layer.cell, "output_size", None) or getattr(layer.cell, "units", None) or layer.cell.state_size
    return size if isinstance(size, int) else None


def native_dims(layer: Any) -> tuple[str, ...] | None:
    """Say what the axes of a layer's value are, where its kind alone tells."""
    if _is(layer, "LSTM", "GRU", "SimpleRNN", "MultiHeadAttention"):
        return _SAMPLE_FIRST
    if _is(layer, "Bidirectional"):
        return native_dims(layer.forward_layer)
    if _is(layer, "Conv1D", "Conv1DTranspose", "SeparableConv1D"):
        return _SAMPLE_FIRST if layer.data_format == "channels_last" else _CHANNELS_FIRST
    return None


def directions_of(layer: Any) -> int:
    """2 where a value holds the units of the forward pass, then those of the backward one."""
    return 2 if _is(layer, "Bidirectional") and layer.merge_mode == "concat" else 1


def input_hint(name: str, layer: Any) -> InputHint | None:
    """Say what a layer that was built takes."""
    if _is(layer, "Embedding"):
        return InputHint(name, layer.input_dim, is_tokens=True)
    if _is(layer, "Bidirectional"):
        return input_hint(name, layer.forward_layer)
    if _is(layer, "RNN"):
        kernel = getattr(layer.cell, "kernel", None) if layer.built else None
        return None if kernel is None else InputHint(name, int(kernel.shape[0]))
    if _is(layer, "Conv1D") and layer.built:
        return InputHint(name, int(layer.kernel.shape[1]) * layer.groups)
    if _is(layer, "Dense") and layer.built:
        return InputHint(name, int(layer.kernel.shape[0]))
    if is_head(layer) and layer.n_features is not None:
        return InputHint(name, int(layer.n_features))
    return None


def reach_of(layer: Any) -> Reach | None:
    """Say which places of its input each place of a layer's value depends on; None where the kind does not tell."""
    if _is(layer, "Bidirectional"):
        units = size_of(layer.forward_layer)
        if units is None or layer.merge_mode is None:
            return None
        return Remembers(before=True, after=True, size=units * directions_of(layer))
    if _is(layer, "RNN") and native_dims(layer) is not None:
        return Remembers(before=not layer.go_backwards, after=layer.go_backwards, size=layer.units)
    if _is(layer, "MultiHeadAttention"):
        size = _attended_size(layer)
        return None if size is None else Remembers(before=True, after=True, size=size)
    if _is(layer, "Conv1D", "Conv1DTranspose"):
        return _window(layer)
    if _is(layer, "Dense"):
        return Mixes((-1,), layer.units)
    if _is(layer, "Embedding"):
        return Mixes((), layer.output_dim)
    if _is(layer, "LayerNormalization", "RMSNormalization"):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else (layer.axis,)
        return Mixes(tuple(axes)) if all(axis < 0 for axis in axes) else None
    if kind_of(layer) in ("batch_norm", "dropout", "masking") or _is(layer, "ReLU", "LeakyReLU", "ELU"):
        return Same()
    return Same() if _is(layer, "Activation") and _activation_of(layer) in _ELEMENTWISE else None


def _attended_size(layer: Any) -> int | None:
    """The features that an attention layer gives: as many as its query has, where it was not told otherwise."""
    shape = getattr(layer, "_output_shape", None)
    if shape:
        return int(shape[-1])
    kernel = getattr(getattr(layer, "_output_dense", None), "kernel", None)
    return None if kernel is None else int(kernel.shape[-1])


def _window(layer: Any) -> Slides | None:
    """The window of a convolution."""
    taps, stride, dilation = layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]
    wide = dilation * (taps - 1) + 1
    time_axis, unit_axis = (-2, -1) if layer.data_format == "channels_last" else (-1, -2)
    if _is(layer, "Conv1DTranspose"):
        if layer.output_padding is not None:
            return None  # where the extra steps go differs between backends
        over = max(wide - stride, 0) if layer.padding == "same" else 0  # cut off as a convolution with these options would pad
        cut, extra = (over // 2, over - over // 2), max(stride - wide, 0)
        return Slides(taps, layer.filters, time_axis, unit_axis, stride, dilation, cut, transposed=True, extra=extra)
    before = wide - 1 if layer.padding == "causal" else 0
    padding: tuple[int, int] | str = "same" if layer.padding == "same" else (before, 0)
    return Slides(taps, layer.filters, time_axis, unit_axis, stride, dilation, padding)


def _activation_of(layer: Any) -> str | None:
    """The name of the activation that a layer ends in."""
    if _is(layer, "Softmax"):
        return "softmax"
    function = getattr(layer, "activation", None)
    return getattr(function, "__name__", None) or (type(function).__name__.lower() if function is not None else None)


def _and_activation(layer: Any) -> str:
    name = _activation_of(layer)
    return "" if name in (None, "linear") else f", {name}"


def kernel_axes(layer: Any) -> tuple[int, int, int] | None:
    """The axes of a convolution's weight in the order (unit, tap, channel)."""
    if _is(layer, "Conv1DTranspose"):
        return 1, 0, 2
    return (2, 0, 1) if _is(layer, "Conv1D") else None


def is_recurrent(layer: Any) -> bool:
    """Whether a layer runs a cell over the steps."""
    return _is(layer, "RNN")


def is_bidirectional(layer: Any) -> bool:
    """Whether a layer runs forward and backward."""
    return _is(layer, "Bidirectional")


def is_time_distributed(layer: Any) -> bool:
    """Whether a layer runs another one at each step."""
    return _is(layer, "TimeDistributed")


def is_head(layer: Any) -> bool:
    """Whether a layer is a head of `seqscope.nn`."""
    return isinstance(layer, PoolingHead)


def is_atomic(layer: Any) -> bool:
    """Whether a layer is one row with all that is in it."""
    return (
        is_recurrent(layer) or is_head(layer) or _is(layer, "Bidirectional", "TimeDistributed", "MultiHeadAttention", "GroupQueryAttention")
    )


def gives_main_first(layer: Any) -> bool:
    """Whether the first tensor that a layer gives is its value, and the rest are states or weights with verbs of their own."""
    return is_recurrent(layer) or (is_bidirectional(layer) and layer.merge_mode is not None) or kind_of(layer) == "attention"
