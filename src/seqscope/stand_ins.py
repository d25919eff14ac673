"""What is computed in place of a layer to see what it can see: it passes on all that its `Reach` allows, whatever its weights are.

A stand-in takes the largest of the magnitudes that it sees. So a step of the input that was raised far above the others wins
everywhere it is seen at all: it is never cancelled, and no trained zero or dead ReLU hides it. Small seeded weights keep places apart
that hold the same number.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from seqscope.engines.base import StandIn
from seqscope.layers import Layer
from seqscope.reach import Mixes, Remembers, Same, Slides

# What an embedding gives for a token that differs from the one it gives about 1 for.
RAISED = 96.0


def stand_ins(by_name: Mapping[str, Layer], *, sample_axis: int, memory: bool) -> dict[str, StandIn]:
    """Make a stand-in for every layer whose reach is known; fresh ones for each pass, since a cell's keeps a state.

    Parameters
    ----------
    sample_axis : int
        Of the model's input, for embeddings.
    memory : bool
        Whether recurrent and attention layers see other steps too; else each step sees itself alone, which tells where it stands.
    """
    return {name: _stand_in(layer, sample_axis, memory) for name, layer in by_name.items() if is_replaced(name, by_name)}


def is_replaced(name: str, by_name: Mapping[str, Layer]) -> bool:
    """Whether a layer gets a stand-in: its reach is known, and it is not one of a recurrent stack, which is replaced as a whole."""
    return by_name[name].reach is not None and stack_of(name, by_name) == name


def stack_of(name: str, by_name: Mapping[str, Layer]) -> str:
    """The stack that a layer belongs to, whose steps are its own; the layer itself where it is in none."""
    above = by_name.get(name.rpartition(".")[0])
    return above.name if above is not None and isinstance(above.reach, Remembers) else name


def _stand_in(layer: Layer, sample_axis: int, memory: bool) -> StandIn:
    random = np.random.default_rng(zlib.crc32(layer.name.encode()))
    match layer.reach:
        case Mixes(axes=()):
            return _Embedding(layer.reach, random, sample_axis)
        case Mixes():
            return _Mixer(layer.reach, random)
        case Slides():
            return _Slider(layer.reach, random)
        case Remembers():
            return _Memory(layer.reach, random, is_cell=layer.kind.endswith("_cell"), memory=memory)
        case Same() | None:
            return np.copy


def _weights(random: np.random.Generator, size: int) -> np.ndarray:
    """Near to one, so that what is raised stays so, and no two alike."""
    return random.uniform(0.9, 1.0, size).astype(np.float32)


def _largest(x: np.ndarray, axis: int) -> np.ndarray:
    """The largest weighted magnitude along one axis."""
    weights = _weights(np.random.default_rng(x.shape[axis]), x.shape[axis])
    weights = weights.reshape([-1 if place == axis % x.ndim else 1 for place in range(x.ndim)]).astype(x.dtype)
    weighted = np.abs(x)
    weighted *= weights
    found: np.ndarray = weighted.max(axis=axis, initial=0)
    return found


def _levelled(x: np.ndarray) -> np.ndarray:
    """The same over its median: one number for the whole batch, so that rows stay comparable and deep stacks do not grow."""
    some = x.ravel()[:: max(1, x.size // 10_000)]
    positive = some[(some > 0) & (some < np.inf)]
    return x / np.median(positive) if positive.size else x


class _Embedding:
    """Tokens that differ from those of the last row, where nothing was raised, are raised; positions, alike in all rows, are not."""

    def __init__(self, reach: Mixes, random: np.random.Generator, sample_axis: int) -> None:
        self._gain, self._sample_axis = _weights(random, reach.size or 1), sample_axis

    def __call__(self, x: np.ndarray) -> np.ndarray:
        ids = x.astype(np.int64)
        raised = np.zeros(ids.shape, bool) if ids.ndim < 2 else ids != ids.take([-1], self._sample_axis)
        level = np.where(raised, RAISED, 1.0 + 0.25 * (ids * 0.61803 % 1.0)).astype(np.float32)
        value: np.ndarray = level[..., None] * self._gain
        return value


class _Mixer:
    """A dense layer, or (where the shape stays) a norm: what is at a place, and the largest that it is mixed with."""

    def __init__(self, reach: Mixes, random: np.random.Generator) -> None:
        self._axes, self._gain = reach.axes, None if reach.size is None else _weights(random, reach.size)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        largest = x
        for axis in self._axes:
            largest = np.expand_dims(_largest(largest, axis), axis)
        if self._gain is None:
            return _levelled(np.abs(x) + largest)
        value: np.ndarray = _levelled(largest) * self._gain.astype(x.dtype)
        return value


class _Slider:
    """A convolution: the largest in the window, over all units of the input."""

    def __init__(self, reach: Slides, random: np.random.Generator) -> None:
        self._reach, self._gain = reach, _weights(random, reach.units)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        reach = self._reach
        x = np.moveaxis(x, (reach.time_axis, reach.unit_axis), (-1, -2))
        steps = _levelled(_largest(x, -2))
        seen = _spread(steps, reach) if reach.transposed else _slid(steps, reach)
        value = seen[..., None, :] * self._gain[:, None].astype(x.dtype)
        return np.moveaxis(value, (-1, -2), (reach.time_axis, reach.unit_axis))


def _slid(steps: np.ndarray, reach: Slides) -> np.ndarray:
    """The largest in each window of (..., step). Zeros are put around where padding holds nothing."""
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
    return _largest_of(taps)


def _spread(steps: np.ndarray, reach: Slides) -> np.ndarray:
    """The largest of what reaches each step of a transposed convolution: step i reaches i x stride + tap x dilation - padding."""
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
        np.maximum(there, steps, out=there)
    return full[..., before : before + size]


def _largest_of(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """The largest at each place."""
    first, *others = arrays
    found = first.copy()
    for array in others:
        np.maximum(found, array, out=found)
    return found


class _Memory:
    """A recurrent or attention layer: the largest over its units at each step, and over the steps that it sees."""

    def __init__(self, reach: Remembers, random: np.random.Generator, *, is_cell: bool, memory: bool) -> None:
        self._reach, self._gain = reach, _weights(random, reach.size)
        self._is_cell, self._memory = is_cell, memory
        self._state: np.ndarray | None = None

    def __call__(self, x: np.ndarray, *, sees: np.ndarray | None = None) -> np.ndarray:
        level = _levelled(_largest(x, -1))
        if self._memory:
            level = self._carried(level) if self._is_cell else self._over_steps(level, sees)
        value: np.ndarray = level[..., None] * self._gain.astype(x.dtype)
        return value

    def _carried(self, level: np.ndarray) -> np.ndarray:
        """A cell is called once a step, and has seen what it was called with before."""
        if self._state is not None and self._state.shape == level.shape:
            level = np.maximum(level, self._state)
        self._state = level
        return level

    def _over_steps(self, level: np.ndarray, sees: np.ndarray | None) -> np.ndarray:
        time = 1 - self._reach.sample_axis if level.ndim == 2 else level.ndim - 1
        level = np.moveaxis(level, time, -1)
        found = level
        if sees is not None and sees.shape == (level.shape[-1],) * 2:
            found = np.stack([np.where(row, level, 0).max(-1) for row in sees], -1)
        else:
            if self._reach.before:
                found = np.maximum(found, np.maximum.accumulate(level, -1))
            if self._reach.after:
                found = np.maximum(found, np.flip(np.maximum.accumulate(np.flip(level, -1), -1), -1))
        return np.moveaxis(found, -1, time)
