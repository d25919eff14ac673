"""The layers inside a recurrent stack: `nn.LSTM(num_layers=2)` gives only what its last layer puts out.

Each layer is run as a stack of one that shares the stack's weights, on the input that the stack was called with. The last layer's
value is the stack's own, so nothing is computed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

# How a layer of a stack is run: from the stack, the layer and its initial state a function of (input, state).
RunOf = Callable[[nn.RNNBase, int, Any], Callable[[Any, Any], Any]]


def stack_names(name: str, module: nn.RNNBase) -> tuple[str, ...]:
    """The names of a stack's layers: `lstm.0`, `lstm.1`."""
    return tuple(f"{name}.{index}" for index in range(module.num_layers))


def stack_layer(module: nn.Module, index: int, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any, run_of: RunOf) -> Any:
    """Give what layer `index` of a stack put out in a call with these arguments that gave `value`; `run_of` says how a layer is run."""
    if not isinstance(module, nn.RNNBase):
        raise TypeError(f"{type(module).__name__} is no recurrent stack")
    if index == module.num_layers - 1:
        return value
    fed, state = arguments(*args, **kwargs)
    for layer in range(index + 1):
        own = state_of(module, layer, state)
        fed = run_of(module, layer, own)(fed, own)[0]
    return fed, None


def arguments(input: Any, hx: Any = None) -> tuple[Any, Any]:
    """Name the arguments of a recurrent module's call."""
    return input, hx


def alone(module: nn.RNNBase, layer: int) -> nn.RNNBase:
    """Layer `layer` as a module of its own that shares the weights."""
    ways = 2 if module.bidirectional else 1
    width = module.proj_size or module.hidden_size
    options = {"proj_size": module.proj_size} if module.proj_size else {}
    if isinstance(module, nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    kind: Any = next(kind for kind in (nn.LSTM, nn.GRU, nn.RNN) if isinstance(module, kind))
    part: nn.RNNBase = kind(
        module.input_size if layer == 0 else width * ways,
        module.hidden_size,
        bias=module.bias,
        batch_first=module.batch_first,
        bidirectional=module.bidirectional,
        device="meta",
        **options,
    )
    for name in list(part._parameters):
        weight = getattr(module, name.replace("_l0", f"_l{layer}"))
        setattr(part, name, nn.Parameter(weight.detach(), requires_grad=False))  # the same memory
    part.flatten_parameters()  # what cuDNN asks for; it moves the new parameters alone
    return part.eval()


def deaf(module: nn.RNNBase, layer: int, masks: Sequence[torch.Tensor]) -> nn.RNNBase:
    """Layer `layer` as a module of its own that takes no notice of some units of its h before, those of a mask for each direction."""
    part = alone(module, layer)
    for mask, end in zip(masks, ("", "_reverse"), strict=False):
        weight = getattr(part, f"weight_hh_l0{end}").detach()
        setattr(part, f"weight_hh_l0{end}", nn.Parameter(weight.masked_fill(mask, 0), requires_grad=False))
    part.flatten_parameters()
    return part


def state_of(module: nn.RNNBase, layer: int, state: Any) -> Any:
    """The rows of the initial state that belong to one layer."""
    if state is None:
        return None
    ways = 2 if module.bidirectional else 1
    rows = slice(layer * ways, (layer + 1) * ways)
    if isinstance(state, torch.Tensor):
        return state[rows]
    return tuple(part[rows] for part in state)
