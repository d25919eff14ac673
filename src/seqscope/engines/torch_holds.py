"""Units of torch modules that are held for the time of one pass.

What a module gives is changed by a hook. A recurrent module is stepped through its equations, each step with its h held: by whoever runs
it (`torch_recurrent`, `torch_gradient`), who asks here for what holds it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from seqscope.cells import CellWeights, Elementwise
from seqscope.engines.holds import Held, Hold, refuse_unseen
from seqscope.engines.torch_stack import deaf
from seqscope.errors import LayerError, about_layer

# A layer: its name, the module that holds it, and its index where that is a stack.
Place = tuple[str, nn.Module, int | None]


class Holding:
    """What is held in one pass.

    Parameters
    ----------
    held : dict of Hold
    places : iterable of (name, module, index)
        Where each of its layers is.
    """

    def __init__(self, held: Held, places: Iterable[Place]) -> None:
        self._held = [(name, module, index or 0, held[name]) for name, module, index in places]
        self._ran: set[str] = set()

    @property
    def recurrent(self) -> list[nn.Module]:
        """The recurrent modules among them, each once."""
        return list({id(module): module for _, module, _, hold in self._held if hold.axis is None}.values())

    def holds(self, module: nn.Module, layer: int) -> bool:
        """Whether units of a layer of a recurrent module are held."""
        return any(of is module and at == layer and hold.axis is None for _, of, at, hold in self._held)

    def clamps(self, module: nn.Module, layer: int, weights: Sequence[CellWeights]) -> list[Elementwise | None]:
        """What holds the h of a layer at each step, for each direction; None where nothing does.

        Parameters
        ----------
        weights : sequence of CellWeights
            Those of each direction.
        """
        merged = self._merged(module, layer)
        if merged is None:
            return [None] * len(weights)
        ways = [merged.of_way(place, len(weights)) for place in range(len(weights))]
        return [_clamp(hold, one.bias, -1, 1) if hold.mask.any() else None for hold, one in zip(ways, weights, strict=True)]

    def switched_off(self, module: Any, layer: int, state: Any) -> Callable[[Any, Any], Any] | None:
        """A layer of a recurrent module as torch's own kernel runs it, where units of its h are 0 throughout; else None.

        It is the layer with no weight on these units, their h taken for 0: exact where the initial state, `state`, has them at 0 too.
        """
        merged = self._merged(module, layer)
        if merged is None or merged.values.any():
            return None
        n_ways = 2 if module.bidirectional else 1
        like = module.weight_hh_l0
        ways = [merged.of_way(place, n_ways) for place in range(n_ways)]
        masks = [torch.as_tensor(hold.mask, device=like.device) for hold in ways]
        h = state[0] if isinstance(state, tuple) else state
        if h is not None and any(bool(before[:, mask].any()) for before, mask in zip(h, masks, strict=True)):
            return None
        part, whole = deaf(module, layer, masks), torch.cat(masks)

        def run(fed: Any, state: Any) -> tuple[Any, Any]:
            value, final = part(fed, state)
            last, *cells = final if isinstance(final, tuple) else (final,)
            last = last.masked_fill(torch.stack(masks)[:, None], 0)
            if isinstance(value, PackedSequence):
                value = value._replace(data=value.data.masked_fill(whole, 0))
            else:
                value = value.masked_fill(whole, 0)
            return value, (last, *cells) if cells else last

        return run

    def _merged(self, module: nn.Module, layer: int) -> Hold | None:
        """All that is held of a layer of a recurrent module, which has several names where it is shared. Tells that the layer runs."""
        merged: Hold | None = None
        for name, of, at, hold in self._held:
            if of is module and at == layer and hold.axis is None:
                self._ran.add(name)
                merged = hold.over(merged)
        return merged

    def refuse_missing(self) -> None:
        """Refuse a pass in which a layer did not run.

        Raises
        ------
        LayerError
        """
        for name, *_ in self._held:
            if name not in self._ran:
                refuse_unseen(name)

    @contextlib.contextmanager
    def put_in(self) -> Iterator[None]:
        """Hold what other modules than recurrent ones give."""
        with contextlib.ExitStack() as undo:
            for name, module, _, hold in self._held:
                if hold.axis is not None:
                    undo.callback(nn.Module.register_forward_hook(module, functools.partial(self._hook, name, hold)).remove)
            yield

    def _hook(self, name: str, hold: Hold, module: nn.Module, args: Any, value: Any) -> Any:
        self._ran.add(name)
        with about_layer(name):
            return _with_first_held(value, hold)


def _with_first_held(value: Any, hold: Hold) -> Any:
    """What a module gives, its first tensor with the units held."""
    if isinstance(value, tuple | list) and value and not isinstance(value, PackedSequence):
        return (_with_first_held(value[0], hold), *value[1:])
    axis = hold.axis or 0
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dim() <= axis:
        kind = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
        raise LayerError(f"gives {kind}, in which no units can be held")
    hold.refuse_misfit(value.shape[axis])
    return _clamp(hold, value, axis, value.dim())(value)


def _clamp(hold: Hold, like: torch.Tensor, axis: int, n_axes: int) -> Elementwise:
    """What holds units that are on one of so many axes; of the type and on the device of another tensor."""
    sizes = [1] * n_axes
    sizes[axis] = -1
    mask = torch.as_tensor(hold.mask, device=like.device).view(sizes)
    values = torch.as_tensor(hold.values, dtype=like.dtype, device=like.device).view(sizes)
    return lambda tensor: torch.where(mask, values, tensor)
