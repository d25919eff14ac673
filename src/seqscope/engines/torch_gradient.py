"""Derivatives of a torch module's scores with respect to what a layer gives.

Zeros that want a derivative, nudges, are added to the layer's value: at each step inside the recurrence where the layer is recurrent, so
that the derivative is the total one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from seqscope import cells
from seqscope.engines.base import BACKWARD, FORWARD, Target, score_by_function
from seqscope.engines.torch_cells import WITH_GRADIENTS, States, Tensor, weights_of
from seqscope.engines.torch_recurrent import each, has_own_forward, has_states, initial_state, steps_of, turned
from seqscope.engines.torch_stack import alone, arguments, state_of
from seqscope.errors import ModelError, UnsupportedError


class Nudges:
    """The nudges of one layer, made as it is called.

    Parameters
    ----------
    state : {"h", "c"}
        What of a recurrent layer they are added to.

    Attributes
    ----------
    by_way : dict of lists of tensors
        For each direction ("" where there is one) one nudge a call; of a recurrent layer (sample, time, unit).
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self.by_way: dict[str, list[Tensor]] = {}

    @contextlib.contextmanager
    def put_in(self, name: str, module: nn.Module, index: int | None) -> Iterator[None]:
        """Add them to what a module gives (to layer `index` of a stack), for the time of one pass.

        Raises
        ------
        UnsupportedError
            The module has no such state.
        """
        is_lstm = isinstance(module, nn.LSTM | nn.LSTMCell)
        if self._state not in (("h", "c") if is_lstm else ("h",)):
            raise UnsupportedError(
                f"'{name}' ({type(module).__name__}) has no state {self._state!r}: {'h or c' if is_lstm else 'h'} can be asked for."
            )
        if has_states(module) and has_own_forward(module):
            raise UnsupportedError(f"'{name}' is a {type(module).__name__} with a forward of its own, whose recurrence is not known.")
        if not has_states(module):
            handle = module.register_forward_hook(lambda _, args, value: self._nudged(value))
            undo: Callable[[], Any] = handle.remove
        else:
            last = index if index is not None else getattr(module, "num_layers", 1) - 1
            vars(module)["forward"] = self._cell(module) if isinstance(module, nn.RNNCellBase) else self._stack(module, last)
            undo = lambda: vars(module).pop("forward", None)  # noqa: E731
        try:
            yield
        finally:
            undo()

    def _new(self, like: Tensor, way: str = "") -> Tensor:
        nudge = torch.zeros_like(like, requires_grad=True)
        self.by_way.setdefault(way, []).append(nudge)
        return nudge

    def _nudged(self, value: Any) -> Any:
        """A layer's value, of which the first tensor is nudged."""
        if isinstance(value, tuple):
            return (self._nudged(value[0]), *value[1:])
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise UnsupportedError(f"The layer gives a {type(value).__name__}, whose derivative can't be had.")
        return value + self._new(value)

    def _cell(self, module: Any) -> Callable[..., Any]:
        def forward(input: Tensor, hx: Any = None) -> Any:
            weights = weights_of(module)
            rows = input if input.dim() == 2 else input[None]
            state = _by_name(weights, hx, rows)
            nudge = self._new(state[self._state])
            after = cells.step(weights, rows @ weights.input + weights.bias, state, WITH_GRADIENTS, {self._state: nudge})
            given = tuple(after[name] if input.dim() == 2 else after[name][0] for name in state)
            return given if len(given) > 1 else given[0]

        return forward

    def _stack(self, module: Any, wanted: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            fed, hx = arguments(*args, **kwargs)
            if isinstance(fed, Tensor) and fed.dim() == 2:  # one sequence without a sample axis
                axis = 0 if module.batch_first else 1
                value, final = forward(fed.unsqueeze(axis), each(hx, lambda part: part[:, None]))
                return value.squeeze(axis), each(final, lambda part: part[:, 0])
            finals = []
            for layer in range(module.num_layers):
                run = self._stepwise(module, layer) if layer == wanted else alone(module, layer)
                fed, final = run(fed, state_of(module, layer, hx))
                finals.append(final)
            return fed, torch.cat(finals) if isinstance(finals[0], Tensor) else tuple(map(torch.cat, zip(*finals, strict=True)))

        return forward

    def _stepwise(self, module: Any, layer: int) -> Callable[[Any, Any], Any]:
        """A layer of a stack, step by step, with nudges."""

        def run(fed: Any, state: Any) -> tuple[Any, Any]:
            x, lengths = steps_of(fed, batch_first=module.batch_first)
            hidden, finals = [], []
            for place, way in enumerate((FORWARD, BACKWARD) if module.bidirectional else ("",)):
                weights = weights_of(module, layer, backward=way == BACKWARD)
                before = initial_state(weights, place, state, x)
                size = before[self._state].shape[-1]
                nudge = self._new(x.new_zeros(x.shape[1], len(x), size), way)
                order = turned(nudge.transpose(0, 1), lengths, way)
                steps, last = _run(weights, turned(x, lengths, way), before, lengths, order, self._state)
                hidden.append(turned(steps, lengths, way))
                finals.append(last)
            final = tuple(torch.stack([one[name] for one in finals]) for name in finals[0])
            return _as_fed(torch.cat(hidden, -1), fed, lengths, module), final if len(final) > 1 else final[0]

        return run


def _as_fed(value: Tensor, fed: Any, lengths: Tensor | None, module: Any) -> Any:
    """A value (time, sample, unit) in the form in which a layer was fed."""
    if lengths is None:
        return value.transpose(0, 1) if module.batch_first else value
    data = pack_padded_sequence(value, lengths, enforce_sorted=False).data
    return PackedSequence(data, fed.batch_sizes, fed.sorted_indices, fed.unsorted_indices)


def _run(
    weights: cells.CellWeights, x: Tensor, state: States, lengths: Tensor | None, nudges: Tensor, nudged: str
) -> tuple[Tensor, States]:
    """The hidden states, (time, sample, unit), and the last state."""
    now, hidden = dict(state), []
    for t, (at_step, nudge) in enumerate(zip(x.unbind(0), nudges.unbind(0), strict=True)):
        after = cells.step(weights, at_step @ weights.input + weights.bias, now, WITH_GRADIENTS, {nudged: nudge})
        hidden.append(after["h"])
        there = None if lengths is None else (t < lengths)[:, None].to(x.device)
        now = {name: after[name] if there is None else torch.where(there, after[name], now[name]) for name in now}
    return torch.stack(hidden), now


def _by_name(weights: cells.CellWeights, hx: Any, rows: Tensor) -> States:
    if hx is None:
        return cells.zero_state(weights, lambda size: rows.new_zeros(len(rows), size))
    parts = hx if isinstance(hx, tuple | list) else (hx,)
    return {name: part if part.dim() == 2 else part[None] for name, part in zip(cells.CARRIED[weights.kind], parts, strict=True)}


def score_of(output: Any, target: Target, n_samples: int) -> Tensor:
    """One score for each sample.

    Raises
    ------
    ModelError
        There is none.
    """
    if not isinstance(target, int | np.integer):
        score = score_by_function(target, output)
        if not isinstance(score, Tensor) or score.shape != (n_samples,):
            shape = f"a tensor of shape {tuple(score.shape)}" if isinstance(score, Tensor) else f"a {type(score).__name__}"
            raise ModelError(f"The target gave {shape}: expected one score for each of the {n_samples} samples.")
        return score
    first = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(first, Tensor) or first.dim() != 2 or not -first.shape[1] <= target < first.shape[1]:
        shape = f"of shape {tuple(first.shape)}" if isinstance(first, Tensor) else f"a {type(first).__name__}"
        raise ModelError(f"There is no output {target} in what the model gives, {shape}: expected (sample, output).")
    return first[:, target]


def derivatives(
    score: Tensor, wanted: Mapping[str, Sequence[Tensor]], as_numpy: Callable[[Tensor], np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """The derivative of each sample's score; zeros where it does not depend on what is asked for.

    Raises
    ------
    UnsupportedError
        It has none.
    """
    if not score.requires_grad:
        raise UnsupportedError("The score has no derivative: the target, or the model, cuts it off (argmax, detach, no_grad).")
    flat = [tensor for tensors in wanted.values() for tensor in tensors]
    found = iter(torch.autograd.grad(score.sum(), flat, allow_unused=True, materialize_grads=True))
    return {way: [as_numpy(next(found)) for _ in tensors] for way, tensors in wanted.items()}
