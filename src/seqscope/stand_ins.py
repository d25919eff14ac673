"""What is computed in place of a layer to see what it can see: it passes on all that its `Reach` allows, whatever its weights are.

The model is run twice on batches of one shape: on a plain one, at which each stand-in remembers what came in, and on one of which
steps are raised. Then a stand-in gives a large number at each place that its reach lets see a step which differs, and the same number
as before everywhere else. So nothing is cancelled or diluted on the way, however deep the model is, and no trained zero hides it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from seqscope.engines.base import StandIn
from seqscope.layers import Layer
from seqscope.reach import Mixes, Remembers, Same, Slides

# How many times larger what is seen to differ gets.
RAISED = 96.0


class StandIns:
    """Stand-ins for the layers of a model whose reach is known.

    Parameters
    ----------
    memory : bool
        Whether recurrent and attention layers see other steps too; else each step sees itself alone, which tells where it stands.
    """

    def __init__(self, by_name: Mapping[str, Layer], *, memory: bool) -> None:
        self._made = {name: _stand_in(layer, memory) for name, layer in by_name.items() if is_replaced(name, by_name)}

    def begin(self, *, is_plain: bool) -> dict[str, StandIn]:
        """Give the stand-ins for a pass: a plain one, or one on a batch of the last plain one's shape."""
        for stand_in in self._made.values():
            if isinstance(stand_in, _Seeing):
                stand_in.begin(is_plain=is_plain)
        return dict(self._made)


def is_replaced(name: str, by_name: Mapping[str, Layer]) -> bool:
    """Whether a layer gets a stand-in: its reach is known, and it is not one of a recurrent stack, which is replaced as a whole."""
    return by_name[name].reach is not None and stack_of(name, by_name) == name


def stack_of(name: str, by_name: Mapping[str, Layer]) -> str:
    """The stack that a layer belongs to, whose steps are its own; the layer itself where it is in none."""
    above = by_name.get(name.rpartition(".")[0])
    return above.name if above is not None and isinstance(above.reach, Remembers) else name


def _stand_in(layer: Layer, memory: bool) -> StandIn:
    random = np.random.default_rng(zlib.crc32(layer.name.encode()))
    match layer.reach:
        case Mixes():
            return _Mixer(layer.reach, random)
        case Slides():
            return _Slider(layer.reach, random)
        case Remembers():
            return _Memory(layer.reach, random, is_cell=layer.kind.endswith("_cell"), memory=memory)
        case Same() | None:
            return np.copy


class _Seeing:
    """What a stand-in knows of the plain pass.

    Parameters
    ----------
    size : int or None
        Of the last axis of what it gives; None: that of what comes in.
    """

    def __init__(self, size: int | None, random: np.random.Generator) -> None:
        self._gain = None if size is None else random.uniform(0.9, 1.0, size).astype(np.float32)
        self._plain: list[np.ndarray] = []
        self._n_calls, self._is_plain = 0, True

    def begin(self, *, is_plain: bool) -> None:
        """Before each pass."""
        self._n_calls, self._is_plain = 0, is_plain
        if is_plain:
            self._plain = []

    def _differs(self, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Where what comes in differs from the plain pass, over some axes at once: one bool for all places along them, which are kept.

        The places along the axes are told by their sum with random weights, so that only that is remembered.
        """
        for axis in axes:
            x = _summed(x, axis)
        if self._is_plain:
            self._plain.append(x)
            return np.zeros(x.shape, bool)
        plain = self._plain[self._n_calls]
        self._n_calls += 1
        if plain.shape != x.shape:
            raise ValueError(f"A layer got an input of shape {x.shape} where it got {plain.shape} before.")
        if x.dtype.kind != "f":
            return np.asarray(x != plain)
        least = 1e-5 * float(np.max(np.abs(plain), initial=0.0))
        return np.asarray(np.abs(x - plain) > least)

    def _value(self, seen: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """What the stand-in gives: 1 or `RAISED`, times a number near 1 for each place along the last axis."""
        level: np.ndarray = np.where(seen, np.float32(RAISED), np.float32(1.0))
        value: np.ndarray = level if self._gain is None else level * self._gain
        return value.astype(dtype if dtype.kind == "f" else np.float32, copy=False)


def _summed(x: np.ndarray, axis: int) -> np.ndarray:
    """The sum along an axis, which is kept, with seeded weights that no change cancels in; what is not finite counts as large."""
    random = np.random.default_rng(x.shape[axis])
    weights: np.ndarray = np.asarray(random.uniform(0.5, 1.0, x.shape[axis]), x.dtype if x.dtype.kind == "f" else np.float64)
    along = np.moveaxis(x, axis, -1)
    found = along @ weights
    if not np.isfinite(found).all():
        found = np.nan_to_num(along, nan=1e4, posinf=1e4, neginf=-1e4) @ weights
    return np.expand_dims(found, axis)


class _Mixer(_Seeing):
    """A dense layer, a norm, an embedding."""

    def __init__(self, reach: Mixes, random: np.random.Generator) -> None:
        super().__init__(reach.size, random)
        self._reach = reach

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if not self._reach.axes:
            return self._value(self._differs(x, ())[..., None], x.dtype)
        seen = self._differs(x, self._reach.axes)
        return self._value(seen if self._gain is not None else np.broadcast_to(seen, x.shape), x.dtype)


class _Slider(_Seeing):
    """A convolution: each place sees the steps of its window, in all units of the input."""

    def __init__(self, reach: Slides, random: np.random.Generator) -> None:
        super().__init__(reach.units, random)
        self._reach = reach

    def __call__(self, x: np.ndarray) -> np.ndarray:
        reach = self._reach
        axes = (reach.time_axis, reach.unit_axis)
        steps = np.moveaxis(self._differs(x, (reach.unit_axis,)), axes, (-2, -1))[..., 0]
        seen = _spread(steps, reach) if reach.transposed else _slid(steps, reach)
        return np.moveaxis(self._value(seen[..., None], x.dtype), (-2, -1), axes)


def _slid(steps: np.ndarray, reach: Slides) -> np.ndarray:
    """Which windows of (..., step) hold a step that is marked; padding with zeros holds none."""
    n_steps, width = steps.shape[-1], (reach.taps - 1) * reach.dilation + 1
    if isinstance(reach.padding, str):
        total = max((-(-n_steps // reach.stride) - 1) * reach.stride + width - n_steps, 0)
        before, after = total // 2, total - total // 2
    else:
        before, after = reach.padding
    padded = np.pad(steps, [(0, 0)] * (steps.ndim - 1) + [(before, after)], mode=reach.mode)  # type: ignore[call-overload]
    n_windows = (padded.shape[-1] - width) // reach.stride + 1
    last = (n_windows - 1) * reach.stride + 1
    taps = (padded[..., tap * reach.dilation :][..., : last : reach.stride] for tap in range(reach.taps))
    return np.asarray(np.logical_or.reduce(list(taps)))


def _spread(steps: np.ndarray, reach: Slides) -> np.ndarray:
    """Which steps of a transposed convolution a marked step reaches: step i reaches i x stride + tap x dilation - padding."""
    n_steps, last = steps.shape[-1], (steps.shape[-1] - 1) * reach.stride
    reached = last + (reach.taps - 1) * reach.dilation + 1
    if isinstance(reach.padding, str):
        total = max((reach.taps - 1) * reach.dilation + 1 - reach.stride, 0)
        before, size = total // 2, n_steps * reach.stride
    else:
        before, size = reach.padding[0], reached - sum(reach.padding) + reach.extra
    full = np.zeros((*steps.shape[:-1], max(reached, before + size)), steps.dtype)
    for tap in range(reach.taps):
        there = full[..., tap * reach.dilation :][..., : last + 1 : reach.stride]
        np.logical_or(there, steps, out=there)
    return full[..., before : before + size]


class _Memory(_Seeing):
    """A recurrent or attention layer: each step sees itself in all units, and the steps that are carried to it."""

    def __init__(self, reach: Remembers, random: np.random.Generator, *, is_cell: bool, memory: bool) -> None:
        super().__init__(reach.size, random)
        self._reach, self._is_cell, self._memory = reach, is_cell, memory
        self._state: np.ndarray | None = None

    def begin(self, *, is_plain: bool) -> None:
        super().begin(is_plain=is_plain)
        self._state = None

    def __call__(self, x: np.ndarray, *, sees: np.ndarray | None = None) -> np.ndarray:
        seen = self._differs(x, (-1,))
        if self._memory:
            seen = self._carried(seen) if self._is_cell else self._over_steps(seen, sees)
        return self._value(seen, x.dtype)

    def _carried(self, seen: np.ndarray) -> np.ndarray:
        """A cell is called once a step, and has seen what it was called with before."""
        if self._state is not None and self._state.shape == seen.shape:
            seen = seen | self._state
        self._state = seen
        return seen

    def _over_steps(self, seen: np.ndarray, sees: np.ndarray | None) -> np.ndarray:
        time = 1 - self._reach.sample_axis if seen.ndim == 3 else seen.ndim - 2
        steps = np.moveaxis(seen, time, -1)
        found = steps
        if sees is not None and sees.shape == (steps.shape[-1],) * 2:
            found = steps.astype(np.float32) @ sees.T.astype(np.float32) > 0
        else:
            if self._reach.before:
                found = found | np.logical_or.accumulate(steps, -1)
            if self._reach.after:
                found = found | np.flip(np.logical_or.accumulate(np.flip(steps, -1), -1), -1)
        return np.moveaxis(found, -1, time)
