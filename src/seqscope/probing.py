"""A model on inputs of which some steps are raised: which steps of its layers move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from seqscope import layouts
from seqscope.axes import Reading
from seqscope.engines.base import StandIn
from seqscope.errors import LayerError, ModelError
from seqscope.feed import Feed
from seqscope.labelled import TIME
from seqscope.randomness import state_kept
from seqscope.reach import Remembers
from seqscope.selection import layer_of
from seqscope.stand_ins import RAISED, StandIns, is_replaced, stack_of

# What one pass may capture, in bytes, and its rows.
_PASS_BYTES, _FEWEST_ROWS, _MOST_ROWS = 64_000_000, 8, 256


class Probe:
    """A model on inputs of which some steps are raised.

    Parameters
    ----------
    readings : dict of Reading
        The layers to see, and what their axes are.
    replaced : bool
        Whether stand-ins are put in place of its layers.
    """

    def __init__(self, feed: Feed, n_channels: int | None, n_steps: int, readings: Mapping[str, Reading], *, replaced: bool = True) -> None:
        self._feed, self._replaced, self.n_steps, self.readings = feed, replaced, n_steps, readings
        random = np.random.default_rng(0)
        width = feed.width if feed.width is not None else 3
        if n_channels is None:  # 0 is often padding
            self._base = np.full(n_steps, min(1, width - 1))
            self._raised = np.full(n_steps, 2 if width > 2 else 0)
        else:
            self._base = random.uniform(1.0, 1.25, (n_steps, n_channels))
            self._raised = self._base + random.uniform(1.0, 1.25, (n_steps, n_channels)) * RAISED

    @property
    def has_memory(self) -> bool:
        """Whether a layer sees steps through memory or attention."""
        by_name = self._feed.engine.by_name
        return self._replaced and any(isinstance(by_name[name].reach, Remembers) for name in by_name if is_replaced(name, by_name))

    def run(self, rows: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray | None]:
        """Which steps of each layer move, (row, step), when the input steps marked in a row are raised; None: it can't be told."""
        return self._run(rows, list(names), memory=False)

    def run_with_memory(self, rows: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray | None]:
        """The same with what memory and attention carry from other steps."""
        return self._run(rows, list(names), memory=True)

    def _run(self, rows: np.ndarray, names: Sequence[str], *, memory: bool) -> dict[str, np.ndarray | None]:
        stand_ins = StandIns(self._feed.engine.by_name, memory=memory) if self._replaced else None
        size = min(len(rows), self._rows_at_once)
        nothing = np.zeros((size, self.n_steps), bool)
        plain = self._pass(nothing, names, None if stand_ins is None else stand_ins.begin(is_plain=True))
        found: dict[str, list[np.ndarray | None]] = {name: [] for name in names}
        for first in range(0, len(rows), size):
            part = nothing.copy()
            part[: len(rows) - first] = rows[first : first + size]
            values = self._pass(part, names, None if stand_ins is None else stand_ins.begin(is_plain=False))
            for name in names:
                found[name].append(_moved(values[name], plain[name], self.readings[name]))
        whole = {name: [own for own in parts if own is not None] for name, parts in found.items()}
        return {name: np.concatenate(own)[: len(rows)] if len(own) == len(found[name]) else None for name, own in whole.items()}

    @cached_property
    def _rows_at_once(self) -> int:
        """How many rows a pass may have: one row tells how much each gives."""
        stand_ins = StandIns(self._feed.engine.by_name, memory=False).begin(is_plain=True) if self._replaced else None
        values = self._pass(np.zeros((1, self.n_steps), bool), list(self.readings), stand_ins)
        n_bytes = sum(value.nbytes for value in values.values() if value is not None)
        return int(np.clip(_PASS_BYTES // max(1, n_bytes), _FEWEST_ROWS, _MOST_ROWS))

    def _pass(self, rows: np.ndarray, names: Sequence[str], instead: Mapping[str, StandIn] | None) -> dict[str, np.ndarray | None]:
        """Each layer's value, in canonical order, on an input of which in each row the marked steps are raised."""
        feed = self._feed
        values = np.where(rows.reshape(*rows.shape, *(1,) * (self._base.ndim - 1)), self._raised, self._base)
        places = {name: _place_of(name, feed) if self._replaced else name for name in names}
        capture = list(dict.fromkeys(layer_of(place) for place in places.values()))
        lengths = np.full(len(values), self.n_steps, np.int64)
        with state_kept(), np.errstate(all="ignore"):
            batch = layouts.to_model(values, feed.layout)
            forward = feed.engine.forward(batch, lengths, capture, instead=instead, sample_axis=feed.sample_axis)
        if forward.drew_noise:
            raise ModelError("The model draws random numbers, so that no two passes are alike.")
        return {name: _value(forward.captured.get(place), self.readings[name], len(values)) for name, place in places.items()}


def _place_of(address: str, feed: Feed) -> str:
    """Where a layer is seen: one in a recurrent stack sees what the stack sees."""
    by_name, name = feed.engine.by_name, layer_of(address)
    return stack_of(name, by_name) if name in by_name and stack_of(name, by_name) != name else address


def _value(calls: Sequence[np.ndarray] | None, reading: Reading, n_rows: int) -> np.ndarray | None:
    """The value of a layer in canonical order; None where the layer gave something else than before."""
    try:
        value = reading.apply(calls, n_rows) if calls else None
    except (LayerError, ValueError):
        return None
    return value if value is not None and len(value) == n_rows and value.dtype.kind in "fiub" else None


def _moved(value: np.ndarray | None, plain: np.ndarray | None, reading: Reading) -> np.ndarray | None:
    """Which steps differ from those of the plain pass, (row, step)."""
    if value is None or plain is None or value.shape != plain.shape:
        return None
    dtype = value.dtype if value.dtype.kind == "f" else np.dtype(np.float64)
    least = 64 * float(np.finfo(dtype).eps) * float(np.max(np.abs(plain), initial=0.0, where=np.isfinite(plain)))
    others = tuple(axis for axis in range(1, value.ndim) if axis != reading.order.index(TIME))
    with np.errstate(invalid="ignore"):
        change = np.subtract(value, plain, dtype=dtype)
        moved: np.ndarray = (np.abs(change, out=change) > least).any(others)
    return moved
