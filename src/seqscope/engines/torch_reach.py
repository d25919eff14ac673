"""What each kind of torch module can see of its input, and how a stand-in takes its place for one pass.

A stand-in takes an array and gives one; here it gets the module's first input, and what it gives is put where the module would give
it: with a recurrent module's last step and states, packed where the input was packed, with attention's weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqscope.engines.base import StandIn
from seqscope.reach import Mixes, Reach, Remembers, Same, Slides

# Each value depends on the same place of the input alone.
_ELEMENTWISE: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d,
    nn.SyncBatchNorm,
    nn.Dropout,
    nn.Dropout1d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Threshold,
    nn.Tanhshrink,
    nn.Softshrink,
    nn.Hardshrink,
)

# What torch calls a way of padding, and what NumPy calls it.
_PADDINGS = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def reach_of(module: nn.Module) -> Reach | None:
    """Say which places of its input each place of a module's value depends on; None where its kind does not tell.

    A subclass with a forward of its own may do anything (pad, cut, flip), so it is not known; but a convolution's kernel is, which
    such a forward calls in its turn.
    """
    if isinstance(module, torch.jit.ScriptModule) or not _is_torchs_own(module, _entry(module)):
        return None
    match module:
        case nn.Conv1d() | nn.ConvTranspose1d():
            return _of_convolution(module)
        case nn.Linear():
            return Mixes((-1,), module.out_features)
        case nn.Embedding():
            return Mixes((), module.embedding_dim)
        case nn.LayerNorm() | nn.RMSNorm():
            return Mixes(tuple(range(-len(module.normalized_shape), 0)))
        case nn.RNNBase():
            size = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
            return Remembers(True, module.bidirectional, size, 0 if module.batch_first else 1)
        case nn.RNNCellBase():
            return Remembers(True, False, module.hidden_size)
        case nn.MultiheadAttention():
            return Remembers(True, True, module.embed_dim, 0 if module.batch_first else 1)
    return Same() if isinstance(module, _ELEMENTWISE) else None


def _entry(module: nn.Module) -> str:
    """The method that is replaced."""
    return "_conv_forward" if isinstance(module, nn.Conv1d) else "forward"


def _is_torchs_own(module: nn.Module, method: str) -> bool:
    return str(getattr(getattr(type(module), method), "__module__", "")).startswith("torch.nn.")


def _of_convolution(module: nn.Conv1d | nn.ConvTranspose1d) -> Slides:
    padding = module.padding if isinstance(module.padding, str) else (int(module.padding[0]),) * 2
    is_transposed = isinstance(module, nn.ConvTranspose1d)
    return Slides(
        taps=module.kernel_size[0],
        units=module.out_channels,
        time_axis=-1,
        unit_axis=-2,
        stride=module.stride[0],
        dilation=module.dilation[0],
        padding=(0, 0) if padding == "valid" else padding,
        mode=_PADDINGS[module.padding_mode],
        transposed=is_transposed,
        extra=int(module.output_padding[0]) if is_transposed else 0,
    )


@contextlib.contextmanager
def replaced(modules: Mapping[str, nn.Module], instead: Mapping[str, StandIn]) -> Iterator[None]:
    """Let stand-ins compute in place of modules, for the time of one pass.

    Each gets a hook that does nothing too: the fused kernel of a transformer's layer, which calls none of its modules, is not taken
    where a module in it has a hook.
    """
    with contextlib.ExitStack() as undo:
        for name, stand_in in instead.items():
            module = modules[name]
            method = _entry(module)
            if method in vars(module):  # somebody else's replacement: left alone
                continue
            vars(module)[method] = stand_in_of(module, stand_in)
            undo.callback(vars(module).pop, method, None)
            undo.callback(module.register_forward_hook(_nothing).remove)
        yield


def _nothing(module: nn.Module, args: Any, value: Any) -> None:
    return None


def stand_in_of(module: nn.Module, stand_in: StandIn) -> Callable[..., Any]:
    """What is called in place of a module, with the arguments that the module takes."""
    match module:
        case nn.RNNBase():
            return lambda input, hx=None: _recurrent(module, stand_in, input, hx)
        case nn.LSTMCell():
            return lambda input, hx=None: (_through(module, stand_in, input),) * 2
        case nn.MultiheadAttention():
            return lambda query, key, value, *args, **kwargs: _attention(module, stand_in, (query, key), *args, **kwargs)
    plain = module.forward

    def forward(input: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(module, nn.ConvTranspose1d) and (args or kwargs):  # a size was asked for, which only the module can give
            return plain(input, *args, **kwargs)
        return _through(module, stand_in, input)

    return forward


def _through(module: nn.Module, stand_in: Callable[[np.ndarray], np.ndarray], input: torch.Tensor) -> torch.Tensor:
    """A tensor through a stand-in: out in the type that the module computes in."""
    weight = next(module.parameters(), None)
    dtype = input.dtype if input.is_floating_point() or weight is None else weight.dtype
    array = input.detach().float() if input.dtype in (torch.bfloat16, torch.float16) else input.detach()
    return torch.as_tensor(np.ascontiguousarray(stand_in(array.cpu().numpy())), dtype=dtype, device=input.device)


def _recurrent(module: nn.RNNBase, stand_in: StandIn, input: Any, hx: Any) -> tuple[Any, Any]:
    """What a recurrent module gives: every step, and the states, which have seen all steps. A state that goes in is a step at each end."""
    if isinstance(input, PackedSequence):
        padded, lengths = pad_packed_sequence(input, batch_first=module.batch_first)
        value, states = _recurrent(module, stand_in, padded, hx)
        return pack_padded_sequence(value, lengths, batch_first=module.batch_first, enforce_sorted=False), states
    time = 1 if module.batch_first and input.dim() == 3 else 0
    if hx is None:
        value = _through(module, stand_in, input)
    else:
        parts = hx if isinstance(hx, tuple) else (hx,)
        largest = torch.stack([part.abs().amax(dim=(0, -1)) for part in parts]).amax(0)  # (sample,), or one number
        step = largest[..., None].unsqueeze(time).expand_as(input.narrow(time, 0, 1)).to(input)
        value = _through(module, stand_in, torch.cat([step, input, step], time)).narrow(time, 1, input.shape[time])
    ways = 2 if module.bidirectional else 1
    seen = value.amax(time)  # (sample, ways x size)
    h = torch.stack(seen.chunk(ways, -1)).repeat(module.num_layers, *(1,) * seen.dim())
    if not isinstance(module, nn.LSTM):
        return value, h
    return value, (h, h.amax(-1, keepdim=True).expand(*h.shape[:-1], module.hidden_size).contiguous())


def _attention(
    module: nn.MultiheadAttention,
    stand_in: StandIn,
    of: tuple[torch.Tensor, torch.Tensor],
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What attention gives; where the keys are another sequence, its steps are put behind the query's own."""
    query, key = of
    time = 1 if module.batch_first and query.dim() == 3 else 0
    n_queries, n_keys = query.shape[time], key.shape[time]
    sees = None if attn_mask is None else _allowed(attn_mask)
    if query is key:
        value = _through(module, lambda x: stand_in(x, sees=sees), query)
    else:
        steps = key.abs().amax(-1, keepdim=True).expand(*key.shape[:-1], query.shape[-1]).to(query)
        across = np.ones((n_queries, n_keys), bool) if sees is None else sees
        sees = np.zeros((n_queries + n_keys,) * 2, bool)
        sees[:n_queries] = np.hstack([np.eye(n_queries, dtype=bool), across])
        value = _through(module, lambda x: stand_in(x, sees=sees), torch.cat([query, steps], time)).narrow(time, 0, n_queries)
    if not need_weights:
        return value, None
    shape = [] if query.dim() == 2 else [query.shape[1 - time]]
    shape += ([] if average_attn_weights else [module.num_heads]) + [n_queries, n_keys]
    return value, torch.full(shape, 1 / n_keys, dtype=query.dtype, device=query.device)


def _allowed(mask: torch.Tensor) -> np.ndarray:
    """Which keys each query may look at, (query, key): torch marks those that it may not with True or minus infinity."""
    allowed = ~mask if mask.dtype == torch.bool else mask > -1e30  # some write a very large number for infinity
    return np.asarray((allowed if allowed.dim() == 2 else allowed.flatten(0, -3).any(0)).cpu().numpy())
