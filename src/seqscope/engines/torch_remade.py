"""torch's own modules made again from their weights, where a program keeps those and the name of the class and no module."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

# For how many gates the rows of `weight_ih` are.
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1, "LSTMCell": 4, "GRUCell": 3, "RNNCell": 1}


def remade(name: str, weights: Mapping[str, Tensor], **options: Any) -> nn.Module | None:
    """The module of torch's own of this name that has these weights, which it shares; None where they tell too little.

    What the weights do not tell (a convolution's stride and groups, dropout) is as torch has it by default.

    Parameters
    ----------
    name : str
        That of the class.
    weights : dict of tensors
        By the names that the module has for them.
    options : optional
        What else the class takes.

    Examples
    --------
    >>> import torch
    >>> remade("Linear", dict(nn.Linear(3, 2).named_parameters()))
    Linear(in_features=3, out_features=2, bias=True)
    """
    with contextlib.suppress(KeyError, ValueError, IndexError, TypeError):
        module = _made(name, weights, options)
        if module is not None and {key: weight.shape for key, weight in module.named_parameters()} == {
            key: weight.shape for key, weight in weights.items() if key in dict(module.named_parameters())
        }:
            for key in list(module._parameters):
                if module._parameters[key] is not None:
                    setattr(module, key, nn.Parameter(weights[key].detach(), requires_grad=False))  # the same memory
            return module.eval()
    return None


def _made(name: str, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module | None:
    """A module of these sizes, without memory."""
    on: dict[str, Any] = {**options, "device": "meta"}
    if name in ("LSTM", "GRU", "RNN"):
        return _stack(name, weights, on)
    if name in _GATES:
        rows, n_inputs = weights["weight_ih"].shape
        cell: nn.Module = getattr(nn, name)(n_inputs, rows // _GATES[name], bias="bias_ih" in weights, **on)
        return cell
    if not weights:
        return _without_weights(name)
    weight, bias = weights["weight"], "bias" in weights
    match name:
        case "Linear":
            return nn.Linear(weight.shape[1], weight.shape[0], bias=bias, **on)
        case "Conv1d":
            return nn.Conv1d(weight.shape[1] * on.get("groups", 1), weight.shape[0], weight.shape[2], bias=bias, **on)
        case "Embedding":
            return nn.Embedding(*weight.shape, **on)
        case "LayerNorm":
            return nn.LayerNorm(tuple(weight.shape), bias=bias, **on)
        case "BatchNorm1d":
            return nn.BatchNorm1d(len(weight), **on)
    return None


def _without_weights(name: str) -> nn.Module | None:
    kind = getattr(nn, name, None)
    return kind() if isinstance(kind, type) and issubclass(kind, nn.Module) else None


def _stack(name: str, weights: Mapping[str, Tensor], on: Mapping[str, Any]) -> nn.Module:
    rows, n_inputs = weights["weight_ih_l0"].shape
    projected = {"proj_size": weights["weight_hr_l0"].shape[0]} if "weight_hr_l0" in weights else {}
    n_layers = sum(key.startswith("weight_ih_l") and not key.endswith("_reverse") for key in weights)
    made: nn.Module = getattr(nn, name)(
        n_inputs,
        rows // _GATES[name],
        n_layers,
        bias="bias_ih_l0" in weights,
        bidirectional="weight_ih_l0_reverse" in weights,
        **projected,
        **on,
    )
    return made
