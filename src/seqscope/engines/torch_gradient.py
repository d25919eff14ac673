"""Derivatives of a torch module's scores with respect to what a layer gives.

Zeros that want a derivative, nudges, are added to the layer's value: at each step inside the recurrence where the layer is recurrent, so
that the derivative is the total one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from seqscope import cells
from seqscope.engines.base import BACKWARD, FORWARD
from seqscope.engines.score import TIME, Score, Target, as_score, score_by_function
from seqscope.engines.torch_cells import WITH_GRADIENTS, States, Tensor, weights_of
from seqscope.engines.torch_holds import Holding, Place
from seqscope.engines.torch_logits import LogitWatch, remember_unchanged
from seqscope.engines.torch_recurrent import as_fed, each, has_own_forward, has_states, initial_state, steps_of, turned
from seqscope.engines.torch_stack import alone, arguments, state_of
from seqscope.errors import LayerError, ModelError, UnsupportedError


class Replay:
    """Layers as they run while derivatives are taken: with nudges in their values, with states that can be differentiated, or held.

    Parameters
    ----------
    nudged : tuple (name, module, index) or None
        The layer that nudges are put into (`index`: of a stack).
    state : {"h", "c"}
        What of a recurrent layer they are added to.
    replace : tensor or None
        What the layer gives in this pass in place of its own value.
    shown : tuple (name, module, index) or None
        The recurrent layer whose states are wanted.
    holding : Holding
        What is held: of recurrent layers h at every step, before it is nudged.

    Attributes
    ----------
    nudges, values : dict of lists of tensors
        For each direction ("" where there is one) one a call: the nudges, and what they were added to; of a recurrent layer (sample,
        time, unit).
    states : dict of lists of tensors
        The wanted states, (sample, time, unit), by the ending of their address: "[backward][c]".
    """

    def __init__(self, nudged: Place | None, state: str, replace: Tensor | None, shown: Place | None, holding: Holding) -> None:
        self._nudged, self._state, self._replace, self._shown, self._holding = nudged, state, replace, shown, holding
        self.nudges: dict[str, list[Tensor]] = {}
        self.values: dict[str, list[Tensor]] = {}
        self.states: dict[str, list[Tensor]] = {}

    @contextlib.contextmanager
    def put_in(self) -> Iterator[None]:
        """Change what the modules do, for the time of one pass.

        Raises
        ------
        UnsupportedError
            A module has no such state, or its value can't be replaced.
        """
        with contextlib.ExitStack() as undo:
            if self._nudged is not None:
                self._refuse_wrong_state(*self._nudged[:2])
            touched = [place[1] for place in (self._nudged, self._shown) if place is not None] + self._holding.recurrent
            for module in {id(module): module for module in touched}.values():
                if has_states(module):
                    vars(module)["forward"] = self._cell(module) if isinstance(module, nn.RNNCellBase) else self._stack(module)
                    undo.callback(vars(module).pop, "forward", None)
                else:
                    undo.callback(nn.Module.register_forward_hook(module, lambda _, args, value: self._changed(value)).remove)
            yield

    def _refuse_wrong_state(self, name: str, module: nn.Module) -> None:
        is_lstm = isinstance(module, nn.LSTM | nn.LSTMCell)
        if self._state not in (("h", "c") if is_lstm else ("h",)):
            raise UnsupportedError(
                f"'{name}' ({type(module).__name__}) has no state {self._state!r}: {'h or c' if is_lstm else 'h'} can be asked for."
            )
        if has_states(module) and has_own_forward(module):
            raise UnsupportedError(f"'{name}' is a {type(module).__name__} with a forward of its own, whose recurrence is not known.")
        if has_states(module) and self._replace is not None:
            raise UnsupportedError(f"'{name}' is recurrent, and its states can't be replaced: each follows from the one before.")

    def _is_nudged(self, module: nn.Module, layer: int) -> bool:
        """Whether a layer of a recurrent module is the one that nudges are put into; a stack's own name means its last."""
        return self._nudged is not None and self._nudged[1] is module and layer == _index(self._nudged)

    def _is_shown(self, module: nn.Module, layer: int) -> bool:
        return self._shown is not None and self._shown[1] is module and layer == _index(self._shown)

    def _new(self, like: Tensor, way: str = "") -> Tensor:
        nudge = torch.zeros_like(like, requires_grad=True)
        self.nudges.setdefault(way, []).append(nudge)
        return nudge

    def _changed(self, value: Any) -> Any:
        """A layer's value, of which the first tensor is nudged or replaced."""
        if isinstance(value, tuple):
            return (self._changed(value[0]), *value[1:])
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise UnsupportedError(f"The layer gives a {type(value).__name__}, whose derivative can't be had.")
        own = value
        if self._replace is not None:
            if self._replace.shape != value.shape:
                raise ModelError(
                    f"The layer's value was to be replaced by one of shape {tuple(self._replace.shape)}: {tuple(value.shape)}."
                )
            value = self._replace.to(value)
        changed = value + self._new(value)
        self.values.setdefault("", []).append(changed.detach().clone())  # the next layer may work in place
        return remember_unchanged(changed, own)

    def _cell(self, module: Any) -> Callable[..., Any]:
        nudged, shown = self._is_nudged(module, 0), self._is_shown(module, 0)

        def forward(input: Tensor, hx: Any = None) -> Any:
            weights = weights_of(module)
            rows = input if input.dim() == 2 else input[None]
            state = _by_name(weights, hx, rows)
            nudge = {self._state: self._new(state[self._state])} if nudged else {}
            (clamp,) = self._holding.clamps(module, 0, [weights])
            after = cells.step(weights, rows @ weights.input + weights.bias, state, WITH_GRADIENTS, nudge, clamp)
            if nudged:
                self.values.setdefault("", []).append(after[self._state])
            if shown:
                self._show(after, "")
            given = tuple(after[name] if input.dim() == 2 else after[name][0] for name in state)
            return given if len(given) > 1 else given[0]

        return forward

    def _show(self, after: Mapping[str, Tensor], way: str) -> None:
        for name, value in after.items():  # one that depends on nothing that is asked for has a derivative too: zeros
            kept = value if value.requires_grad else value.detach().requires_grad_()
            self.states.setdefault(f"[{way}][{name}]" if way else f"[{name}]", []).append(kept)

    def _stack(self, module: Any) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            fed, hx = arguments(*args, **kwargs)
            if isinstance(fed, Tensor) and fed.dim() == 2:  # one sequence without a sample axis
                axis = 0 if module.batch_first else 1
                value, final = forward(fed.unsqueeze(axis), each(hx, lambda part: part[:, None]))
                return value.squeeze(axis), each(final, lambda part: part[:, 0])
            finals = []
            for layer in range(module.num_layers):
                state = state_of(module, layer, hx)
                fed, final = self._run_of(module, layer, state)(fed, state)
                finals.append(final)
            return fed, torch.cat(finals) if isinstance(finals[0], Tensor) else tuple(map(torch.cat, zip(*finals, strict=True)))

        return forward

    def _run_of(self, module: Any, layer: int, state: Any) -> Callable[[Any, Any], Any]:
        """How a layer of a stack is run: step by step only where it has to be."""
        if self._is_nudged(module, layer) or self._is_shown(module, layer):
            return self._stepwise(module, layer)
        if not self._holding.holds(module, layer):
            return alone(module, layer)
        return self._holding.switched_off(module, layer, state) or self._stepwise(module, layer)

    def _stepwise(self, module: Any, layer: int) -> Callable[[Any, Any], Any]:
        """A layer of a stack, step by step."""
        nudged, shown = self._is_nudged(module, layer), self._is_shown(module, layer)

        def run(fed: Any, state: Any) -> tuple[Any, Any]:
            x, lengths = steps_of(fed, batch_first=module.batch_first)
            hidden, finals = [], []
            by_way = {way: weights_of(module, layer, backward=way == BACKWARD) for way in _ways(module)}
            clamps = self._holding.clamps(module, layer, list(by_way.values()))
            for place, (way, weights) in enumerate(by_way.items()):
                before = initial_state(weights, place, state, x)
                nudge = {}
                if nudged:
                    own = self._new(x.new_zeros(x.shape[1], len(x), before[self._state].shape[-1]), way)
                    nudge = {self._state: turned(own.transpose(0, 1), lengths, way)}
                steps, last = _run(weights, turned(x, lengths, way), before, lengths, nudge, clamps[place])
                found = {name: turned(value, lengths, way) for name, value in steps.items()}
                by_sample = {name: value.transpose(0, 1) for name, value in found.items()}
                if nudged:
                    self.values.setdefault(way, []).append(by_sample[self._state])
                if shown:
                    self._show(by_sample, way)
                hidden.append(found["h"])
                finals.append(last)
            final = tuple(torch.stack([one[name] for one in finals]) for name in finals[0])
            return as_fed(torch.cat(hidden, -1), fed, lengths, module), final if len(final) > 1 else final[0]

        return run


def _index(place: Place) -> int:
    """The layer of a stack that a place is, the last where the stack itself is named."""
    _, module, index = place
    return index if index is not None else getattr(module, "num_layers", 1) - 1


def _ways(module: Any) -> tuple[str, ...]:
    """The directions of a recurrent module."""
    return (FORWARD, BACKWARD) if module.bidirectional else ("",)


def _run(
    weights: cells.CellWeights,
    x: Tensor,
    state: States,
    lengths: Tensor | None,
    nudges: Mapping[str, Tensor],
    clamp: cells.Elementwise | None,
) -> tuple[States, States]:
    """Every state at every step, (time, sample, unit), and the last state."""
    now: States = dict(state)
    kept: list[States] = []
    pre = x @ weights.input + weights.bias
    for t, at_step in enumerate(pre.unbind(0)):
        with _unwatched():
            after = cells.step(weights, at_step, now, WITH_GRADIENTS, {name: nudge[t] for name, nudge in nudges.items()}, clamp)
        kept.append(after)
        there = None if lengths is None else (t < lengths)[:, None].to(x.device)
        now = {name: after[name] if there is None else torch.where(there, after[name], now[name]) for name in now}
    return {name: torch.stack([after[name] for after in kept]) for name in kept[0]}, now


def _unwatched() -> Any:
    """Inside, calls are not looked at by `LogitWatch`: none of the many of a recurrence is the model's last."""
    return torch._C.DisableTorchFunction()


def _by_name(weights: cells.CellWeights, hx: Any, rows: Tensor) -> States:
    if hx is None:
        return cells.zero_state(weights, lambda size: rows.new_zeros(len(rows), size))
    parts = hx if isinstance(hx, tuple | list) else (hx,)
    return {name: part if part.dim() == 2 else part[None] for name, part in zip(cells.CARRIED[weights.kind], parts, strict=True)}


def score_of(
    output: Any, target: Target, n_rows: int, watch: LogitWatch, seen: Mapping[str, Sequence[Tensor]]
) -> tuple[Tensor, str, Tensor | None]:
    """One score for each row, the function that was looked through, and the logits (or the output) that it was picked from.

    Parameters
    ----------
    output
        What the model gave while it was watched.
    seen : dict of lists of tensors
        What was captured for the score, by address.

    Raises
    ------
    ModelError
        There is none.
    LayerError
        The layer that the score is of never ran.
    """
    score = as_score(target, n_rows)
    if not isinstance(score, Score):
        return by_function(score, output, n_rows), "", None
    if score.address:
        return _picked(_only(seen.get(score.address), score.address), score), "", None
    first = output[0] if isinstance(output, tuple | list) else next(iter(output.values())) if isinstance(output, dict) else output
    if not isinstance(first, Tensor):
        raise ModelError(
            f"There is no output {score.position[0]} in what the model gives, a {type(first).__name__}: expected (sample, output)."
        )
    logits, through = watch.before(first) or (first, "")
    return _picked(logits, score), through, logits


def by_function(function: Callable[[Any], Any], output: Any, n_rows: int) -> Tensor:
    """The scores that a function makes of what the model gave.

    Raises
    ------
    ModelError
        It gives no score for each row.
    """
    score = score_by_function(function, output)
    if not isinstance(score, Tensor) or score.shape != (n_rows,):
        shape = f"a tensor of shape {tuple(score.shape)}" if isinstance(score, Tensor) else f"a {type(score).__name__}"
        raise ModelError(f"The target gave {shape}: expected one score for each of the {n_rows} samples.")
    return score


def _only(calls: Sequence[Tensor] | None, address: str) -> Tensor:
    name = address.partition(" (")[0]
    if not calls:
        raise LayerError(f"The layer '{name}' never ran for this input.")
    if len(calls) == 1:
        return calls[0]
    if " (" in address:  # a cell that the model loops over: its calls are the steps
        return torch.stack(list(calls), dim=1)
    raise UnsupportedError(f"'{name}' is called {len(calls)} times in a pass, so that its value is not one number of a unit.")


def _picked(value: Tensor, score: Score) -> Tensor:
    """Each row's number."""
    score.check(tuple(value.shape), len(score.position))
    position, time = (None if part is None else torch.as_tensor(part, device=value.device) for part in (score.position, score.time))
    rows = torch.arange(len(score.position), device=value.device)
    picked = value[score.places(rows, position, time)]
    if not score.margin or position is None:
        return picked
    by_row = value.permute(score.in_order)
    others = (by_row if time is None or TIME not in score.dims else by_row[rows, time]).reshape(len(rows), -1)
    return picked - others.scatter(1, position[:, None], -torch.inf).amax(1)


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let no weight want a derivative."""
    free = [weight for weight in module.parameters() if weight.requires_grad]
    try:
        for weight in free:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in free:
            weight.requires_grad_(True)


def refuse_cut_off() -> NoReturn:
    """Say why a score has no derivative at all.

    Raises
    ------
    UnsupportedError
    """
    raise UnsupportedError("The score has no derivative: the target, or the model, cuts it off (argmax, detach, no_grad).")


def derivatives(
    score: Tensor, wanted: Mapping[str, Sequence[Tensor]], as_numpy: Callable[[Tensor], np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """The derivative of each sample's score; zeros where it does not depend on what is asked for.

    Raises
    ------
    ModelError
        The model's own backward pass raised.
    """
    flat = [tensor for tensors in wanted.values() for tensor in tensors]
    try:
        found = iter(torch.autograd.grad(score.sum(), flat, allow_unused=True, materialize_grads=True))
    except Exception as error:  # a value that was written over, an autograd.Function of the model's own
        raise ModelError(f"The model can't be differentiated: {type(error).__name__}: {error}") from error
    return {way: [as_numpy(next(found)) for _ in tensors] for way, tensors in wanted.items()}
