"""A torch module that runs one step at a time: a copy of it that shares the weights, whose recurrent modules start where they ended.

The copy's recurrent modules run their cell once, from the state that is put in; its causal convolutions keep their last inputs. So a step
costs what the module costs on one step, and the person's own module is not touched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from seqscope import cells
from seqscope.engines.base import Carried, Stepped
from seqscope.engines.torch_cells import IN_PLACE, States, Tensor, weights_of
from seqscope.engines.torch_recurrent import has_states, steps_of
from seqscope.engines.torch_stack import arguments, stack_names, state_of
from seqscope.errors import UnsupportedError

# How a model is fed: a function of (model, batch, lengths).
Call = Callable[[nn.Module, Tensor, Tensor], Any]
# The tensors of a module's value by their place in it.
ValuesOf = Callable[[nn.Module, Any], Mapping[str, Tensor]]


class TorchStepper:
    """A module, step by step (see `engines.base.Stepper`).

    Parameters
    ----------
    names : dict of modules
        The modules by the names under which they are known.
    like : tensor or None
        A tensor of the type and on the device that the module computes in.
    """

    def __init__(
        self,
        module: nn.Module,
        names: Mapping[str, nn.Module],
        call: Call,
        capture: Sequence[str],
        values_of: ValuesOf,
        like: Tensor | None,
    ) -> None:
        parts, self._call = _copies(module, names), call
        self._module = parts.pop("")
        self._device = None if like is None else like.device
        self._dtype = torch.float32 if like is None else like.dtype
        self.dtype = str(self._dtype).removeprefix("torch.")
        self._captured: dict[str, list[Tensor]] = {}
        self._lengths = torch.ones(0)
        self._carry = _Carry()
        for name, part in parts.items():
            part.training = False
            if "forward" not in vars(part):  # one module may have two names
                _let_carry(name, part, self._carry)
        self._carried = [name for name in capture if name not in parts or _gives_h(parts[name])]  # they need no hook
        for name in capture:
            if name not in self._carried:
                nn.Module.register_forward_hook(parts[name], self._hook(name, values_of))

    def _hook(self, name: str, values_of: ValuesOf) -> Any:
        def hook(module: nn.Module, args: Any, value: Any) -> None:
            for place, tensor in values_of(module, value).items():
                self._captured.setdefault(name + place, []).append(tensor)

        return hook

    def step(self, batch: np.ndarray, n_rows: int, carried: Carried | None, fresh: np.ndarray | None) -> Stepped:
        """Run one step."""
        captured: dict[str, list[Tensor]] = {}
        self._captured = captured
        if len(self._lengths) != n_rows:
            self._lengths = torch.ones(n_rows, dtype=torch.long)
        with torch.no_grad():
            begun = self._carry.begin(carried, None if fresh is None else torch.tensor(fresh, device=self._device))
            x = self._to_tensor(batch)
            output = self._call(self._module, x, self._lengths)
        captured |= {name: begun.layers[name] for name in self._carried if name in begun.layers}
        return Stepped(output[0] if isinstance(output, tuple | list) else output, captured, begun.states, begun.after)

    def _to_tensor(self, batch: np.ndarray) -> Tensor:
        """A copy, which a module may write into."""
        return torch.from_numpy(batch.copy()).to(self._device, torch.long if batch.dtype.kind in "iu" else self._dtype)

    def as_numpy(self, tensor: Tensor) -> np.ndarray:
        """An array of a tensor."""
        from seqscope.engines.torch import as_numpy

        return as_numpy(tensor)

    def as_native(self, array: np.ndarray, like: Tensor) -> Tensor:
        """A tensor of an array."""
        return torch.tensor(array, dtype=like.dtype, device=like.device)


def _copies(module: nn.Module, names: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """A copy of a module (under ""), and of the modules in it by their names; the weights are shared and not copied.

    Raises
    ------
    UnsupportedError
        The module can't be copied.
    """
    shared: dict[int, Tensor] = {id(parameter): parameter for parameter in module.parameters()}
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):  # its statistics are weights that training sets
            shared |= {id(buffer): buffer for buffer in part.buffers(recurse=False)}
        kept = [value for value in vars(part).values() if isinstance(value, Tensor) and value.grad_fn is not None]
        shared |= {id(tensor): tensor.detach().clone() for tensor in kept}  # what it keeps of its last call hangs on a graph
    try:
        made: dict[str, nn.Module] = copy.deepcopy({"": module, **names}, shared)
    except Exception as error:
        raise UnsupportedError(f"The model can't be streamed, since it can't be copied ({type(error).__name__}: {error}).") from error
    return made


def _gives_h(module: nn.Module) -> bool:
    """Whether what a module gives is the hidden state of its one layer."""
    return has_states(module) and getattr(module, "num_layers", 1) == 1


class _Begun:
    """One step under way: what its recurrent modules start from, and what they end with."""

    def __init__(self, carried: Carried | None, fresh: Tensor | None) -> None:
        self._carried, self._fresh = carried, fresh
        self.after: dict[str, States] = {}
        self.last: States = {}
        self.layers: dict[str, list[Tensor]] = {}
        self._gates: dict[str, Callable[[], States]] = {}

    def start(self, name: str, own: Callable[[], States]) -> tuple[str, States]:
        """The name of this call of a module, and the state that it starts from: `own` where the row starts anew."""
        key, n = name, 1
        while key in self.after:
            n += 1
            key = f"{name} (call {n})"
        if self._carried is None or key not in self._carried:
            return key, own()
        before = self._carried[key]
        if self._fresh is None:
            return key, dict(before)
        return key, {
            state: torch.where(self._fresh.view(-1, *(1,) * (anew.dim() - 1)), anew, before[state]) for state, anew in own().items()
        }

    def end(self, key: str, after: States, gates: Callable[[], States] | None = None) -> None:
        """Keep what a call ends with."""
        self.after[key] = self.last = after
        if gates is not None:
            self._gates[key] = gates

    def states(self, name: str) -> States:
        """All states of a recurrent layer after the step; the gates are computed now.

        Raises
        ------
        UnsupportedError
            It was called several times.
        """
        if f"{name} (call 2)" in self.after:
            raise UnsupportedError(f"'{name}' is called several times in a step, so its states can't be shown: `activations` can.")
        return self.after[name] | self._gates[name]()


class _Carry:
    """Where the modules of a copy find the step that is under way."""

    def __init__(self) -> None:
        self.now = _Begun(None, None)

    def begin(self, carried: Carried | None, fresh: Tensor | None) -> _Begun:
        """Begin a step."""
        self.now = _Begun(carried, fresh)
        return self.now


def _let_carry(name: str, module: nn.Module, carry: _Carry) -> None:
    """Let a module start each step where it ended the last.

    Raises
    ------
    UnsupportedError
        It needs steps that are still to come.
    """
    if isinstance(module, nn.RNNBase) and has_states(module):
        if module.bidirectional:
            raise UnsupportedError(f"The model can't be streamed: '{name}' is bidirectional, so it needs the steps that are still to come.")
        vars(module)["forward"] = _stack(name, module, carry)
    elif has_states(module):
        vars(module)["forward"] = _cell(name, module, carry)
    elif isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
        _refuse_convolution(name, module)
        vars(module)["forward"] = _convolution(name, module, carry)
    elif isinstance(module, nn.ConvTranspose1d | nn.InstanceNorm1d):
        raise UnsupportedError(f"The model can't be streamed: '{name}' ({type(module).__name__}) needs several steps of its input at once.")


def _stack(name: str, module: Any, carry: _Carry) -> Callable[..., Any]:
    names = stack_names(name, module) if module.num_layers > 1 else (name,)
    layers = [_Cell(module, layer) for layer in range(module.num_layers)]

    def forward(*args: Any, **kwargs: Any) -> Any:
        fed, hx = arguments(*args, **kwargs)
        x, lengths = steps_of(fed, batch_first=module.batch_first) if isinstance(fed, PackedSequence) else (fed, None)
        time = 1 if module.batch_first and lengths is None else 0
        if x.dim() != 3 or x.shape[time] != 1:
            raise UnsupportedError(f"The model can't be streamed: '{name}' gets an input of shape {tuple(x.shape)} where one step is fed.")
        h, finals = x.select(time, 0), []
        for layer, (part, cell) in enumerate(zip(names, layers, strict=True)):
            h = cell.step(carry.now, part, h, state_of(module, layer, hx))
            carry.now.layers.setdefault(part, []).append(h.unsqueeze(1 if module.batch_first else 0))
            finals.append(carry.now.last)
        value = h.unsqueeze(time)
        if lengths is not None:
            value = PackedSequence(h[fed.sorted_indices] if fed.sorted_indices is not None else h, fed.batch_sizes, *fed[2:])
        final = tuple(_stacked([last[state] for last in finals]) for state in finals[0])
        return value, final if len(final) > 1 else final[0]

    return forward


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(list(parts))


def _cell(name: str, module: Any, carry: _Carry) -> Callable[..., Any]:
    cell = _Cell(module, None)

    def forward(input: Tensor, hx: Any = None) -> Any:
        h = cell.step(carry.now, name, input, hx)
        carry.now.layers.setdefault(name, []).append(h)
        return (h, carry.now.last["c"]) if "c" in carry.now.last else h

    return forward


class _Cell:
    """One layer of a stack, or a cell, at one step."""

    def __init__(self, module: Any, layer: int | None) -> None:
        self._module, self._layer, self._kind = module, layer, weights_of(module, layer or 0).kind
        end = "" if layer is None else f"_l{layer}"
        self._names = [f"{weight}{end}" for weight in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ()))]
        self._projected = bool(getattr(module, "proj_size", 0))
        self._run: Any = {"lstm": torch.lstm_cell, "gru": torch.gru_cell}.get(
            self._kind, torch.rnn_relu_cell if getattr(module, "nonlinearity", "") == "relu" else torch.rnn_tanh_cell
        )

    def step(self, begun: _Begun, name: str, x: Tensor, hx: Any) -> Tensor:
        """What it shows after a step."""
        key, before = begun.start(name, lambda: self._own(x, hx))
        if self._projected:
            weights = weights_of(self._module, self._layer or 0)
            everything = cells.step(weights, torch.addmm(weights.bias, x, weights.input), before, IN_PLACE)
            after = {state: everything[state] for state in before}
        else:
            state = (before["h"], before["c"]) if self._kind == "lstm" else before["h"]
            given = self._run(x, state, *(getattr(self._module, weight) for weight in self._names))
            after = {"h": given[0], "c": given[1]} if self._kind == "lstm" else {"h": given}
        begun.end(key, after, lambda: self._gates(x, before["h"]))
        h: Tensor = after["h"]
        return h

    def _own(self, x: Tensor, hx: Any) -> States:
        """The state that the model itself gives, zeros where it gives none."""
        if hx is None:
            return cells.zero_state(weights_of(self._module, self._layer or 0), lambda size: x.new_zeros(len(x), size))
        parts = hx if isinstance(hx, tuple | list) else (hx,)
        return {state: part[0] if part.dim() == 3 else part for state, part in zip(cells.CARRIED[self._kind], parts, strict=True)}

    def _gates(self, x: Tensor, h: Tensor) -> States:
        with torch.no_grad():
            weights = weights_of(self._module, self._layer or 0)
            return cells.gates(weights, torch.addmm(weights.bias, x, weights.input), h, IN_PLACE)


# Convolutions


def _refuse_convolution(name: str, module: nn.Conv1d) -> None:
    """Refuse a convolution that is not causal, by what it says of itself; one that only turns out not to be is found by the check."""
    reason = None
    if module.stride[0] != 1:
        reason = f"takes every {module.stride[0]}th step (stride)"
    elif module.padding == "same":
        reason = "is padded on both sides, so it needs steps that are still to come"
    elif module.padding_mode != "zeros":
        reason = f"is padded by '{module.padding_mode}'"
    if reason is not None:
        raise UnsupportedError(f"The model can't be streamed: '{name}' {reason}.")


def _convolution(name: str, module: Any, carry: _Carry) -> Callable[[Tensor], Tensor]:
    """A causal convolution at one step, over the inputs that it has kept.

    Padded by the module itself (`padding=` of both sides, of which the model cuts the right one off), one step comes in and the value has
    the right side behind it. Padded before it, the step comes in behind the padding.
    """
    span = module.dilation[0] * (module.kernel_size[0] - 1)
    behind = 0 if module.padding == "valid" else module.padding[0]

    def forward(x: Tensor) -> Tensor:
        if x.dim() != 3 or x.shape[-1] != (1 if behind else 1 + span) or behind not in (0, span):
            raise UnsupportedError(
                f"The model can't be streamed: '{name}' gets {x.shape[-1]} steps where one step is fed, and a causal convolution of its "
                f"size gets 1 with padding={span}, or {1 + span} padded on the left."
            )
        key, before = carry.now.start(name, lambda: {"inputs": x.new_zeros(len(x), x.shape[1], span)})
        full = torch.cat([before["inputs"], x[..., -1:]], dim=-1)
        carry.now.end(key, {"inputs": full[..., 1:]})
        value = functional.conv1d(full, module.weight, module.bias, dilation=module.dilation, groups=module.groups)
        return functional.pad(value, (0, behind)) if behind else value

    return forward
