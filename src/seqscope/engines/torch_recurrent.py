"""The states of torch's recurrent modules: for the time of a pass each wanted module computes its gates along with its value.

A stack is run layer by layer, each as a module of its own that shares the stack's weights, on the input that the stack was called with.
Modules that loop over a cell (`nn.LSTMCell`) call it once for every step: what goes in is kept, and the gates of all steps are computed
together after the pass.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqscope import cells
from seqscope.cells import CellWeights
from seqscope.engines.base import BACKWARD, FORWARD
from seqscope.engines.torch_cells import IN_PLACE, States, Tensor, by_loop, by_product, loop_is_faster, weights_of
from seqscope.engines.torch_holds import Holding
from seqscope.engines.torch_stack import alone, arguments, state_of
from seqscope.engines.torch_state import version_of
from seqscope.errors import LayerError, about_layer

# How far a replay may be from what the layer gave where products may be rounded to TF32.
_TF32_TOLERANCE = 5e-3
# Rows of a batch on which the loop is compared with the layer.
_ROWS_CHECKED = 4
# For each module's layers the weights and the number of steps with which the loop was last found to give what the layer gives.
_sound: weakref.WeakKeyDictionary[nn.Module, dict[int, tuple[tuple[Any, ...], int]]] = weakref.WeakKeyDictionary()


@dataclass
class Watched:
    """The states of one layer, call after call.

    Attributes
    ----------
    calls : list of dicts
        For each call the states by direction ("" where there is one) and name, (sample, time, unit); and what they were before the
        first step, "h0" and "c0", (sample, unit).
    steps : list of (module, input, state, value)
        For a cell, its calls as they were: their gates are computed together in the end.
    clamp : function or None
        What holds units of a cell's h.
    dims : dict of tuples
        What the axes of a state are, by their number; empty where only trying tells.
    versions : list of (tensor, version)
        The hidden states, which share memory with what the layer gave, and how often they had been written to.
    """

    calls: list[dict[str, States]] = field(default_factory=list)
    steps: list[tuple[nn.Module, Tensor, Any, Any]] = field(default_factory=list)
    clamp: cells.Elementwise | None = None
    dims: dict[int, tuple[str, ...]] = field(default_factory=lambda: {3: ("sample", "time", "unit"), 2: ("sample", "unit")})
    versions: list[tuple[Tensor, int | None]] = field(default_factory=list)

    @property
    def overwritten(self) -> bool:
        """Whether the model wrote over the layer's value, and so over h, after the call."""
        return any(version_of(tensor) != version for tensor, version in self.versions)

    def dims_of(self, tensor: Tensor) -> tuple[str, ...] | None:
        """What the axes of a state are; None where the calls are the steps, or where there is no sample axis."""
        return self.dims.get(tensor.dim())

    def by_address(self, name: str) -> dict[str, list[Tensor]]:
        """Every state at every call, under "name[c]" or "name[backward][c]"."""
        if self.steps:
            self.dims = {}
            with about_layer(name):
                self.calls, self.steps = _gates_of_calls(self.steps, self.clamp), []
        found: dict[str, list[Tensor]] = {}
        for call in self.calls:
            for direction, states in call.items():
                for state, tensor in states.items():
                    found.setdefault(f"{name}{f'[{direction}]' if direction else ''}[{state}]", []).append(tensor)
        return found


def has_states(module: nn.Module) -> bool:
    """Whether a module is a recurrent one of torch's own kinds."""
    return isinstance(module, nn.LSTM | nn.GRU | nn.RNN | nn.LSTMCell | nn.GRUCell | nn.RNNCell)


@contextlib.contextmanager
def watching(wanted: Sequence[tuple[str, nn.Module, int]], *, copied: Collection[str], holding: Holding) -> Iterator[dict[str, Watched]]:
    """Let modules compute their states along with their value, and hold units of their h, for the time of one pass.

    Parameters
    ----------
    wanted : sequence of (name, module, layer)
        The module's layer; 0 where it is no stack.
    copied : collection of str
        Names of layers whose value the model writes over.
    """
    seen = {name: Watched() for name, _, _ in wanted}
    with contextlib.ExitStack() as undo:
        for module in {id(module): module for module in (*(module for _, module, _ in wanted), *holding.recurrent)}.values():
            names = {layer: name for name, of, layer in wanted if of is module}
            if "forward" in vars(module):  # something stands in for it
                continue
            vars(module)["forward"] = _forward(module, names, seen, copied, holding)
            undo.callback(vars(module).pop, "forward", None)
        yield seen


def _forward(module: nn.Module, names: Mapping[int, str], seen: Mapping[str, Watched], copied: Collection[str], holding: Holding) -> Any:
    """The module's forward, which keeps the states of its layers under these names."""
    return (_of_cell if isinstance(module, nn.RNNCellBase) else _of_stack)(module, names, seen, copied, holding)


def _of_cell(module: Any, names: Mapping[int, str], seen: Mapping[str, Watched], copied: Collection[str], holding: Holding) -> Any:
    """A cell's forward: it computes its value itself."""
    plain = module.forward

    def forward(input: Tensor, hx: Any = None) -> Any:
        value = plain(input, hx)
        (clamp,) = holding.clamps(module, 0, [weights_of(module)]) if holding.holds(module, 0) else (None,)
        if clamp is not None:
            value = (clamp(value[0]), *value[1:]) if isinstance(value, tuple) else clamp(value)
        if names:
            copies = [each(part, torch.clone) for part in (input, hx, value)]  # the model may write over them
            seen[names[0]].clamp = clamp
            seen[names[0]].steps.append((module, *copies))
        return value

    return forward


def _of_stack(module: Any, names: Mapping[int, str], seen: Mapping[str, Watched], copied: Collection[str], holding: Holding) -> Any:
    """The forward of a layer or a stack of them."""
    plain = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        input, hx = arguments(*args, **kwargs)
        with about_layer(next(iter(names.values()), type(module).__name__).removesuffix(".0")):
            value, found = _run_stack(module, plain, names.keys(), input, hx, holding)
        for layer, ways in found.items():
            watched, copy = seen[names[layer]], names[layer] in copied
            watched.calls.append({way: _sample_first(states, copy=copy) for way, states in ways.items()})
            watched.versions += [(states["h"], version_of(states["h"])) for states in watched.calls[-1].values()]
            if isinstance(input, Tensor) and input.dim() == 2:
                watched.dims = {}
        return value

    return forward


def _sample_first(states: States, *, copy: bool) -> States:
    """The states, (sample, time, unit) where they have a sample axis; h copied where the model writes over it."""
    turned = {name: tensor.transpose(0, 1) if tensor.dim() == 3 else tensor for name, tensor in states.items()}
    return turned | {"h": turned["h"].clone()} if copy else turned


# A stack, layer by layer


def _run_stack(module: Any, plain: Any, wanted: Any, input: Any, hx: Any, holding: Holding) -> tuple[Any, dict[int, dict[str, States]]]:
    """What a recurrent module gives for these arguments, and the states of its wanted layers, (time, sample, unit)."""
    if isinstance(input, Tensor) and input.dim() == 2:  # one sequence without a sample axis
        (value, final), states = _run_stack(
            module, plain, wanted, input.unsqueeze(_sample_axis(module)), each(hx, lambda part: part[:, None]), holding
        )
        single = {
            layer: {way: _each_of(of_way, lambda part: part.squeeze(-2)) for way, of_way in ways.items()} for layer, ways in states.items()
        }
        return (value.squeeze(_sample_axis(module)), each(final, lambda part: part[:, 0])), single
    found: dict[int, dict[str, States]] = {}
    finals, fed = [], input
    written = has_own_forward(module)
    if written and module.num_layers > 1:
        raise LayerError(
            f"is a {type(module).__name__} with a forward of its own and {module.num_layers} layers, whose states can't be told"
        )
    for layer in range(module.num_layers):
        run = plain if module.num_layers == 1 else alone(module, layer)
        state = state_of(module, layer, hx)
        if layer in wanted:
            fed, final, found[layer] = _Layer(module, layer, run, written, holding).run(fed, state)
        else:
            run = run_of(module, layer, state, holding) if holding.holds(module, layer) else run
            fed, final = run(fed, state)
        finals.append(final)
    if len(finals) == 1:
        return (fed, finals[0]), found
    return (fed, torch.cat(finals) if isinstance(finals[0], Tensor) else tuple(map(torch.cat, zip(*finals, strict=True)))), found


def run_of(module: Any, layer: int, state: Any, holding: Holding) -> Callable[[Any, Any], Any]:
    """How one layer of a stack is run, with what is held of it: a function of (input, state)."""
    if not holding.holds(module, layer):
        return alone(module, layer)
    fast = holding.switched_off(module, layer, state)
    if fast is not None:
        return fast
    stepped = _Layer(module, layer, alone(module, layer), False, holding)
    return lambda fed, state: stepped.run(fed, state)[:2]


def has_own_forward(module: nn.Module) -> bool:
    """Whether somebody wrote the module a forward, which may do anything."""
    return not str(getattr(type(module).forward, "__module__", "")).startswith("torch.nn.")


def _sample_axis(module: Any) -> int:
    return 0 if module.batch_first else 1


def each(state: Any, change: Any) -> Any:
    """A state, which may be None, a tensor, or a pair of them, with each tensor changed."""
    if state is None:
        return None
    return change(state) if isinstance(state, Tensor) else tuple(change(part) for part in state)


def _each_of(states: States, change: Callable[[Tensor], Tensor]) -> States:
    return {name: change(tensor) for name, tensor in states.items()}


class _Layer:
    """One layer of a stack at one call.

    Parameters
    ----------
    run : function of (input, state)
        The layer itself.
    written : bool
        Whether it may do something else than the equations, so that its value has to be its own.
    holding : Holding
        Where units of it are held, the equations give its value.
    """

    def __init__(self, module: Any, layer: int, run: Any, written: bool, holding: Holding) -> None:
        self._module, self._layer, self._run, self._written = module, layer, run, written
        self._ways = (FORWARD, BACKWARD) if module.bidirectional else ("",)
        self._weights = {way: weights_of(module, layer, backward=way == BACKWARD) for way in self._ways}
        self._is_held = holding.holds(module, layer)
        self._clamps = dict(zip(self._ways, holding.clamps(module, layer, list(self._weights.values())), strict=True))

    def run(self, fed: Any, state: Any) -> tuple[Any, Any, dict[str, States]]:
        """Its value, its final state, and its states by direction, (time, sample, unit)."""
        x, lengths = steps_of(fed, batch_first=self._module.batch_first)
        initial = {way: initial_state(self._weights[way], place, state, x) for place, way in enumerate(self._ways)}
        if self._is_held:
            return self._by_loop(fed, x, lengths, initial)
        if lengths is None and not self._written and loop_is_faster(self._weights[self._ways[0]], x):
            with contextlib.suppress(LayerError):  # where rounding grows from step to step, each step has to start from the layer's own h
                looped = self._by_loop(fed, x, lengths, initial)
                self._check_loop(x, state, steps_of(looped[0], batch_first=self._module.batch_first)[0])
                return looped
        value, final = self._run(fed, state)
        own = steps_of(value, batch_first=self._module.batch_first)[0].chunk(len(self._ways), -1)
        found = {}
        for (way, weights), h in zip(self._weights.items(), own, strict=True):
            states = by_product(weights, turned(x, lengths, way), turned(h, lengths, way), initial[way])
            _check_replay(weights, states, initial[way], lengths)
            found[way] = {name: _ended(turned(tensor, lengths, way), lengths) for name, tensor in states.items()} | _before(initial[way])
        self._check_final(final, found, lengths)
        return value, final, found

    def _by_loop(self, fed: Any, x: Tensor, lengths: Tensor | None, initial: Mapping[str, States]) -> tuple[Any, Any, dict[str, States]]:
        """The same by the equations alone."""
        looped = {}
        for way, weights in self._weights.items():
            states = by_loop(weights, turned(x, lengths, way), initial[way], self._clamps[way])
            looped[way] = {name: turned(tensor, lengths, way) for name, tensor in states.items()}
        h = torch.cat([states["h"] for states in looped.values()], -1) if len(looped) > 1 else looped[""]["h"]
        final = tuple(self._final_of(looped, name, lengths) for name in initial[self._ways[0]])
        found = {
            way: {name: _ended(tensor, lengths) for name, tensor in states.items()} | _before(initial[way])
            for way, states in looped.items()
        }
        return as_fed(h, fed, lengths, self._module), final if len(final) > 1 else final[0], found

    def _final_of(self, found: Mapping[str, States], name: str, lengths: Tensor | None = None) -> Tensor:
        """The last of a state for each direction, as torch orders them."""
        rows = torch.arange(found[self._ways[0]][name].shape[1])
        last = -1 if lengths is None else (lengths - 1, rows)
        return torch.stack([states[name][0 if way == BACKWARD else last] for way, states in found.items()])

    # A replay is compared with what the layer itself gives

    def _check_loop(self, x: Tensor, state: Any, h: Tensor) -> None:
        """Compare the loop with the layer on a few rows, narrowly: where rounding grows, it may grow more in the others.

        Once for these weights and this many steps.
        """
        weights = tuple((id(weight), version_of(weight)) for weight in self._module.parameters())
        known, n_steps = _sound.setdefault(self._module, {}).get(self._layer, ((), 0))
        if known == weights and len(x) <= n_steps:
            return
        rows = torch.linspace(0, x.shape[1] - 1, min(_ROWS_CHECKED, x.shape[1])).long().to(x.device)
        few = x[:, rows]
        own, _ = self._run(few.transpose(0, 1) if self._module.batch_first else few, each(state, lambda part: part[:, rows]))
        _compare("h", steps_of(own, batch_first=self._module.batch_first)[0], h[:, rows], narrowed=5)
        _sound[self._module][self._layer] = weights, len(x)

    def _check_final(self, final: Any, found: Mapping[str, States], lengths: Tensor | None) -> None:
        """Compare the last cell state with the one that the layer gives."""
        if isinstance(final, tuple):
            _compare("the last c", final[1], self._final_of(found, "c", lengths))


def initial_state(weights: CellWeights, place: int, state: Any, x: Tensor) -> States:
    """The initial state of one direction by name, (sample, unit), out of what a layer was given; zeros where that is nothing."""
    if state is None:
        return cells.zero_state(weights, lambda size: x.new_zeros(x.shape[1], size))
    parts = state if isinstance(state, tuple) else (state,)
    return {name: part[place] for name, part in zip(cells.CARRIED[weights.kind], parts, strict=True)}


def _before(initial: States) -> States:
    """The initial state under names of its own."""
    return {f"{name}0": tensor for name, tensor in initial.items()}


def steps_of(value: Any, *, batch_first: bool) -> tuple[Tensor, Tensor | None]:
    """A sequence as (time, sample, channel), and the length of each sample where it is packed."""
    if isinstance(value, PackedSequence):
        return pad_packed_sequence(value)
    return value.transpose(0, 1) if batch_first else value, None


def as_fed(value: Tensor, fed: Any, lengths: Tensor | None, module: Any) -> Any:
    """A value (time, sample, unit) in the form in which a layer was fed."""
    if lengths is None:
        return value.transpose(0, 1) if module.batch_first else value
    data = pack_padded_sequence(value, lengths, enforce_sorted=False).data
    return PackedSequence(data, fed.batch_sizes, fed.sorted_indices, fed.unsorted_indices)


def turned(tensor: Tensor, lengths: Tensor | None, way: str) -> Tensor:
    """A sequence in the order in which a direction reads it, (time, sample, ...): each row turned around where that is backward."""
    if way != BACKWARD:
        return tensor
    if lengths is None:
        return tensor.flip(0)
    steps = torch.arange(len(tensor))[:, None]
    places = torch.where(steps < lengths, lengths - 1 - steps, steps).to(tensor.device)
    return tensor.gather(0, places[..., None].expand_as(tensor))


def _ended(tensor: Tensor, lengths: Tensor | None) -> Tensor:
    """NaN after the end of each row."""
    if lengths is None or bool((lengths == len(tensor)).all()):
        return tensor
    over = torch.arange(len(tensor))[:, None] >= lengths
    return tensor.masked_fill(over[..., None].to(tensor.device), torch.nan)


def _check_replay(weights: CellWeights, states: States, initial: States, lengths: Tensor | None) -> None:
    """Compare the h that the gates make with the h that the layer gave."""
    gates = {name: states[name].flatten(0, 1) for name in cells.GATES[weights.kind]}
    if weights.kind == "lstm":
        h = cells.hidden_of(weights, gates["o"], states["c"].flatten(0, 1), IN_PLACE)
    else:
        before = torch.cat([initial["h"][None], states["h"][:-1]]).flatten(0, 1)
        h = cells.carried_on(weights, gates, {"h": before}, IN_PLACE)["h"]
    _compare("h", states["h"], _ended(h.view_as(states["h"]), lengths))


def _compare(what: str, own: Tensor, replayed: Tensor, *, narrowed: float = 1) -> None:
    """Refuse a replay that is not what the layer gave.

    Raises
    ------
    LayerError
    """
    dtype = str(own.dtype).removeprefix("torch.")
    allowed = _TF32_TOLERANCE if _may_round(own) else cells.TOLERANCES.get(dtype, 1e-5)
    off = float(((own - replayed).abs() / own.abs().clamp(min=1)).nan_to_num().max())
    cells.refuse_if_off(what, off, allowed / narrowed, dtype)


def _may_round(tensor: Tensor) -> bool:
    """Whether products are allowed to be rounded to TF32."""
    allowed = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    return tensor.is_cuda and tensor.dtype == torch.float32 and allowed


# Cells that a module calls once for every step


def _gates_of_calls(steps: Sequence[tuple[nn.Module, Tensor, Any, Any]], clamp: cells.Elementwise | None) -> list[dict[str, States]]:
    """The states of a cell at each of its calls, the gates of all calls computed together."""
    weights = weights_of(steps[0][0])
    names = cells.CARRIED[weights.kind]
    after = [_by_name(names, value) for *_, value in steps]
    before = [
        {name: torch.zeros_like(now[name]) for name in names} if hx is None else _by_name(names, hx)
        for (_, _, hx, _), now in zip(steps, after, strict=True)
    ]
    state = {name: _as_rows([one[name] for one in before]) for name in names}
    a = torch.addmm(weights.bias, _as_rows([x for _, x, _, _ in steps]), weights.input)
    found = cells.step(weights, a, state, IN_PLACE, clamp=clamp)
    _compare("h", _as_rows([one["h"] for one in after]), found["h"])
    sizes = [one["h"].numel() // one["h"].shape[-1] for one in after]
    parts = {name: torch.split(tensor, sizes) for name, tensor in found.items()}
    calls = [{name: parts[name][place].reshape(one["h"].shape) for name in parts} for place, one in enumerate(after)]
    calls[0] |= _before(before[0])
    return [{"": call} for call in calls]


def _by_name(names: Sequence[str], state: Any) -> States:
    """A cell's state, a tensor or a pair of them, by name."""
    return dict(zip(names, state if isinstance(state, tuple | list) else (state,), strict=True))


def _as_rows(parts: Sequence[Tensor]) -> Tensor:
    """The values of all calls, (row, unit)."""
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
