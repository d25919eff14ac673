"""What torch's own modules are, in the words that every framework shares."""

from __future__ import annotations

import torch
from torch import nn

from seqscope.engines.base import InputHint
from seqscope.nn.torch import PoolingHead

_TIME_FIRST, _SAMPLE_FIRST, _CHANNELS_FIRST = ("time", "sample", "unit"), ("sample", "time", "unit"), ("sample", "unit", "time")

# The first entry that fits is taken.
_KINDS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.LSTM,), "lstm"),
    ((nn.GRU,), "gru"),
    ((nn.RNN,), "rnn"),
    ((nn.LSTMCell,), "lstm_cell"),
    ((nn.GRUCell,), "gru_cell"),
    ((nn.RNNCell,), "rnn_cell"),
    ((nn.Conv1d,), "conv1d"),
    ((nn.ConvTranspose1d,), "conv1d_transposed"),
    ((nn.Linear,), "linear"),
    ((nn.Embedding,), "embedding"),
    ((nn.MultiheadAttention,), "attention"),
    ((nn.BatchNorm1d, nn.SyncBatchNorm), "batch_norm"),
    ((nn.LayerNorm, nn.RMSNorm), "layer_norm"),
    ((nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d), "pooling"),
    ((nn.Dropout, nn.Dropout1d, nn.AlphaDropout), "dropout"),
    ((nn.Flatten,), "flatten"),
    ((nn.Softmax, nn.LogSoftmax), "softmax"),
    ((PoolingHead,), "pooling_head"),
    ((nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh), "nonlinearity"),
)


def kind_of(module: nn.Module) -> str:
    """Say what a module is: `lstm`, `conv1d`, ... or `other`."""
    return next((kind for types, kind in _KINDS if isinstance(module, types)), "other")


def kind_named(name: str) -> str:
    """Say what torch's own module of this name is, where there is only the name."""
    return next((kind for types, kind in _KINDS if any(one.__name__ == name for one in types)), "other")


def description_of(module: nn.Module) -> str:
    """Say what a module is in a few words, with its size."""
    match module:
        case nn.RNNBase():
            both_ways = "bidirectional " if module.bidirectional else ""
            return f"{both_ways}{type(module).__name__} with {module.hidden_size} hidden units"
        case nn.RNNCellBase():
            return f"{type(module).__name__} with {module.hidden_size} hidden units"
        case nn.Conv1d() | nn.ConvTranspose1d():
            return f"{type(module).__name__} with {module.out_channels} filters of {module.kernel_size[0]} steps"
        case nn.Linear():
            return f"fully connected {module.out_features}"
        case nn.Embedding():
            return f"embedding of {module.num_embeddings} tokens in {module.embedding_dim} dimensions"
        case nn.MultiheadAttention():
            return f"attention with {module.num_heads} heads of {module.head_dim}"
        case PoolingHead():
            return f"{module.pooling} into {module.n_outputs} outputs"
        case nn.Softmax():
            return "softmax"
        case nn.Dropout():
            return f"dropout {module.p:g} (off)"
        case torch.jit.ScriptModule():
            return f"TorchScript {module.original_name}"
    return type(module).__name__


def native_dims(module: nn.Module) -> tuple[str, ...] | None:
    """Say what the axes of a module's value are, where its kind alone tells; batches have a sample axis here."""
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return _SAMPLE_FIRST if module.batch_first else _TIME_FIRST
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
        return _CHANNELS_FIRST
    return None


def input_hint(name: str, module: nn.Module) -> InputHint | None:
    """Say what a module takes, where its parameters tell."""
    match module:
        case nn.RNNBase() | nn.RNNCellBase():
            return InputHint(name, module.input_size)
        case nn.Conv1d() | nn.ConvTranspose1d():
            return InputHint(name, module.in_channels)
        case nn.Linear():
            return InputHint(name, module.in_features)
        case nn.Embedding():
            return InputHint(name, module.num_embeddings, is_tokens=True)
        case nn.BatchNorm1d():
            return InputHint(name, module.num_features)
        case nn.LayerNorm():
            return InputHint(name, module.normalized_shape[-1])
        case nn.MultiheadAttention():
            return InputHint(name, module.embed_dim)
        case PoolingHead():
            return InputHint(name, module.n_features)
    return None
