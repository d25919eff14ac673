"""Every gate of torch's recurrent layers, by the fastest of two ways.

Where h is known at every step (torch's fused kernel gives it), the gates of all steps are one product and c is one fused multiply-add a
step. Else one pass: the input's products of all steps at once, then a loop over the steps that writes in place. Which way is faster
depends on the size (`benchmarks/states.py`): see `loop_is_faster`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from seqscope import cells
from seqscope.cells import CellWeights, Elementwise

Tensor = torch.Tensor
States = dict[str, Tensor]

# Steps whose gates are computed together, so that they stay in the cache.
_BLOCK = 64

# From so many rows on the loop is faster on a CPU: for few units, and from `_MANY_UNITS` on.
_ROWS_FOR_LOOP = {"lstm": (56, 24), "gru": (24, 8), "rnn": (12, 6)}
_MANY_UNITS = 256

_NUMPY_TYPES = {torch.float32: np.float32, torch.float64: np.float64}

_BENT = {"tanh": torch.tanh_, "sigmoid": torch.sigmoid_, "relu": torch.relu_}
_APPLIED = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


class InPlace:
    """The operations of the equations, over the memory of their first argument. Without gradients."""

    def add_product(self, a: Tensor, rows: Tensor, matrix: Tensor) -> Tensor:
        """`a + rows @ matrix`."""
        return a.addmm_(rows, matrix)

    def add_multiple(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """`a + b * c`."""
        return a.addcmul_(b, c)

    def affine(self, rows: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        """`rows @ matrix + bias`."""
        return torch.addmm(bias, rows, matrix)

    def mixed(self, a: Tensor, b: Tensor, share: Tensor) -> Tensor:
        """`a + share * (b - a)`."""
        return torch.lerp(a, b, share)

    def bent(self, function: str | Elementwise, a: Tensor) -> Tensor:
        """An elementwise function in place."""
        return _BENT[function](a) if isinstance(function, str) else a.copy_(function(a))

    def apply(self, function: str | Elementwise, a: Tensor) -> Tensor:
        """The same into new memory."""
        result: Tensor = _APPLIED[function](a) if isinstance(function, str) else function(a)
        return result


class WithGradients(InPlace):
    """The same into new memory, so that gradients flow."""

    def add_product(self, a: Tensor, rows: Tensor, matrix: Tensor) -> Tensor:
        """`a + rows @ matrix`."""
        return torch.addmm(a, rows, matrix)

    def add_multiple(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """`a + b * c`."""
        return torch.addcmul(a, b, c)

    def bent(self, function: str | Elementwise, a: Tensor) -> Tensor:
        """An elementwise function."""
        return self.apply(function, a)


IN_PLACE, WITH_GRADIENTS = InPlace(), WithGradients()


def by_loop(weights: CellWeights, x: Tensor, state: Mapping[str, Tensor], clamp: Elementwise | None = None) -> States:
    """Every state at every step, in one pass: (time, sample, unit), from x (time, sample, channel); `clamp` as in `cells.carried_on`."""
    n_steps, n_rows, _ = x.shape
    pre = _empty(x, n_steps, n_rows, len(weights.bias))
    kept = {name: _empty(x, n_steps, *value.shape) for name, value in state.items()}
    now = dict(state)
    for start in range(0, n_steps, _BLOCK):
        block = slice(start, start + _BLOCK)
        _project(weights, x[block], pre[block])
        for at_step, *into in zip(pre[block].unbind(0), *(kept[name][block].unbind(0) for name in now), strict=True):
            everything = cells.step(weights, at_step, now, IN_PLACE, clamp=clamp)
            for name, place in zip(now, into, strict=True):
                now[name] = place.copy_(everything[name])
    return kept | _columns(weights, pre)


def by_product(weights: CellWeights, x: Tensor, h: Tensor, state: Mapping[str, Tensor]) -> States:
    """The same where h is known at every step, (time, sample, unit)."""
    n_steps, n_rows, _ = x.shape
    before = torch.cat([state["h"][None], h[:-1]])
    pre = _empty(x, n_steps, n_rows, len(weights.bias))
    found: States = {"h": h}
    if weights.kind == "lstm":
        found["c"] = _empty(x, n_steps, n_rows, weights.n_units)
        c = state["c"]
    for start in range(0, n_steps, _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = _project(weights, x[block], pre[block])
        opened = cells.gates(weights, rows, before[block].flatten(0, 1), IN_PLACE)
        if weights.kind == "lstm":
            into = found["c"][block]
            torch.mul(opened["i"].view_as(into), opened["g"].view_as(into), out=into)
            for place, f in zip(into.unbind(0), opened["f"].view_as(into).unbind(0), strict=True):
                c = place.addcmul_(f, c)
    return found | _columns(weights, pre)


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Fresh memory. NumPy asks the system for large pages, which are touched for the first time in half the time that torch's take."""
    if like.is_cuda or like.dtype not in _NUMPY_TYPES:
        return like.new_empty(shape)
    return torch.from_numpy(np.empty(shape, _NUMPY_TYPES[like.dtype]))


def loop_is_faster(weights: CellWeights, x: Tensor) -> bool:
    """Whether the loop beats the fused kernel followed by the product, for x (time, sample, channel) (`benchmarks/states.py`).

    The more rows and units, the less the loop's calls weigh; on a GPU each call costs more than the product of all steps.
    """
    few, many = _ROWS_FOR_LOOP[weights.kind]
    return not x.is_cuda and x.shape[1] >= (many if weights.n_units >= _MANY_UNITS else few)


def _project(weights: CellWeights, x: Tensor, into: Tensor) -> Tensor:
    """What the input adds to the gates of some steps, x W + b, as rows of `into`."""
    rows = into.view(-1, into.shape[-1])
    return torch.addmm(weights.bias, x.flatten(0, 1), weights.input, out=rows)


def _columns(weights: CellWeights, pre: Tensor) -> States:
    """The gates as views of the memory that holds them all."""
    return dict(zip(cells.GATES[weights.kind], torch.split(pre, weights.n_units, dim=-1), strict=True))


def weights_of(module: Any, layer: int = 0, *, backward: bool = False) -> CellWeights:
    """The weights of one layer and direction of an `nn.RNNBase`, or of an `nn.RNNCellBase`."""
    end = "" if isinstance(module, nn.RNNCellBase) else f"_l{layer}" + ("_reverse" if backward else "")
    kind = _kind_of(module)
    order = ("i", "f", "g", "o") if kind == "lstm" else cells.GATES[kind]

    def ordered(name: str) -> Tensor:
        blocks = getattr(module, name + end).detach().chunk(len(order))
        return torch.cat(cells.in_order(kind, blocks, order))

    of_input, of_hidden = ordered("weight_ih"), ordered("weight_hh")
    zeros = of_input.new_zeros(len(of_input))
    bias, hidden_bias = (ordered("bias_ih"), ordered("bias_hh")) if module.bias else (zeros, zeros)
    reset_bias = None
    if kind == "gru":  # the reset gate acts on the product with its bias, so this part of the bias stays apart
        n = len(bias) // 3
        bias, reset_bias = torch.cat([bias[: 2 * n] + hidden_bias[: 2 * n], bias[2 * n :]]), hidden_bias[2 * n :]
    else:
        bias = bias + hidden_bias
    projected = bool(getattr(module, "proj_size", 0))
    return CellWeights(
        kind,
        of_input.T,
        of_hidden.T,
        bias,
        reset_bias=reset_bias,
        projection=getattr(module, "weight_hr" + end).detach().T if projected else None,
        activation=getattr(module, "nonlinearity", "tanh"),
    )


def _kind_of(module: nn.Module) -> str:
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return "lstm"
    return "gru" if isinstance(module, nn.GRU | nn.GRUCell) else "rnn"
