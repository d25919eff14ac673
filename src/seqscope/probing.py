"""A model on inputs of which some steps are raised: which steps of its layers move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from seqscope import layouts
from seqscope.axes import Reading
from seqscope.errors import LayerError, ModelError
from seqscope.feed import Feed
from seqscope.labelled import TIME
from seqscope.randomness import state_kept
from seqscope.reach import Remembers
from seqscope.selection import layer_of
from seqscope.stand_ins import RAISED, is_replaced, stack_of, stand_ins

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
        found: dict[str, list[np.ndarray | None]] = {name: [] for name in names}
        done, size = 0, _FEWEST_ROWS
        while done < len(rows):
            part = rows[done : done + size]
            moved, n_bytes = self._pass(part, names, memory=memory)
            for name, own in moved.items():
                found[name].append(own)
            done += len(part)
            size = int(np.clip(_PASS_BYTES * (len(part) + 1) // max(1, n_bytes), _FEWEST_ROWS, _MOST_ROWS))
        whole = {name: [own for own in parts if own is not None] for name, parts in found.items()}
        return {name: np.concatenate(whole[name]) if len(whole[name]) == len(parts) else None for name, parts in found.items()}

    def _pass(self, rows: np.ndarray, names: Sequence[str], *, memory: bool) -> tuple[dict[str, np.ndarray | None], int]:
        """One pass over some rows and, behind them, one in which nothing is raised; and how many bytes it gave."""
        feed, by_name = self._feed, self._feed.engine.by_name
        marked = np.concatenate([rows, np.zeros((1, self.n_steps), bool)])
        values = np.where(marked.reshape(*marked.shape, *(1,) * (self._base.ndim - 1)), self._raised, self._base)
        instead = stand_ins(by_name, sample_axis=feed.layout.index("N"), memory=memory) if self._replaced else None
        places = {name: _place_of(name, feed) if self._replaced else name for name in names}
        capture = list(dict.fromkeys(layer_of(place) for place in places.values()))
        lengths = np.full(len(values), self.n_steps, np.int64)
        with state_kept(), np.errstate(all="ignore"):
            forward = feed.engine.forward(layouts.to_model(values, feed.layout), lengths, capture, instead=instead)
        if forward.drew_noise:
            raise ModelError("The model draws random numbers, so that no two rows are alike.")
        moved = {name: _moved(forward.captured.get(place), self.readings[name], len(values)) for name, place in places.items()}
        return moved, sum(call.nbytes for calls in forward.captured.values() for call in calls)


def _place_of(address: str, feed: Feed) -> str:
    """Where a layer is seen: one in a recurrent stack sees what the stack sees."""
    by_name, name = feed.engine.by_name, layer_of(address)
    return stack_of(name, by_name) if name in by_name and stack_of(name, by_name) != name else address


def _moved(calls: Sequence[np.ndarray] | None, reading: Reading, n_rows: int) -> np.ndarray | None:
    """Which steps differ from the last row's, (row, step); None where the layer gave something else than before."""
    try:
        value = reading.apply(calls, n_rows) if calls else None
    except (LayerError, ValueError):
        return None
    if value is None or len(value) != n_rows or value.dtype.kind not in "fiub":
        return None
    value = value.astype(value.dtype if value.dtype.kind == "f" else np.float64, copy=False)
    base = value[-1]
    least = 64 * float(np.finfo(value.dtype).eps) * float(np.max(np.abs(base), initial=0.0, where=np.isfinite(base)))
    others = tuple(axis for axis in range(1, value.ndim) if axis != reading.order.index(TIME))
    with np.errstate(invalid="ignore"):
        change = np.subtract(value[:-1], base)
        moved: np.ndarray = (np.abs(change, out=change) > least).any(others)
    return moved
