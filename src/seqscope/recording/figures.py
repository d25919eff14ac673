"""What is known of the columns (units) of one array, from sums that are kept for each shard and merged in their order.

The bins of the histograms are fixed before the recording begins, so that those of shards can be added. Their width is a power of two and
their edges are multiples of it: dividing by the width is then exact, and a value can't fall into the bin beside its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError
from seqscope.labelled import BIN, BIN_HIGH, BIN_LOW, HISTOGRAM, LONG_NAMES, Part, figures_result
from seqscope.units.blocks import RECURRENT
from seqscope.units.moments import Moments, moment_figures, moments_of, without_padding

# The size from which a value within -1 and 1 is near its end.
SATURATED = 0.95
# Inner bins, at least; twice as many where a power of two asks for it.
_BINS = 64
# No bin begins beyond: its edges would be infinite.
_LARGEST = 1e300
# Bins are no narrower than so many bits below the largest value: float32 would not tell them apart.
_BITS = 21
# Values that are counted at once, and columns side by side: their keys stay in a processor's cache, and are exact in float32.
_PIECE, _COLUMNS = 1 << 16, 256
# The values that are taken at once out of what has padding, or is of another type than float32 and float64.
_BLOCK = 1 << 21

_BOUNDED_STATES, _UNBOUNDED_STATES = ("h", "i", "f", "g", "o", "r", "z", "n"), ("c", "a")
_BOUNDED_LAYERS = ("softmax", "sigmoid", "tanh", *RECURRENT)
_OF_MOMENTS = ("n", "mean", "m2", "low", "high", "near_end", "at_zero")


@dataclass
class Figures:
    """What is known of some columns after some of the data.

    Attributes
    ----------
    moments : Moments
        Of the finite values: their number, mean, squares around it, range and ends, each (column,).
    n_infinite : int array (column,)
        The values that are infinite; in the histogram they are in the outer bins.
    histogram : int array (column, bin)
        The first and the last bin hold what lies below and above all others.
    edges : array (bin - 1,)
        Between the bins. A value on an edge is in the bin above it, on the last edge in the bin below.
    """

    moments: Moments
    n_infinite: np.ndarray
    histogram: np.ndarray
    edges: np.ndarray

    def merged(self, other: Figures) -> Figures:
        """What is known after both parts; the same parts in the same order give the same bits.

        Raises
        ------
        DataError
            They are of other columns, or count in other bins.
        """
        if self.histogram.shape != other.histogram.shape or not np.array_equal(self.edges, other.edges):
            raise DataError(
                f"Statistics of {len(self.n_infinite)} units in {_bins_in_words(self.edges)} can't be merged with those of "
                f"{len(other.n_infinite)} units in {_bins_in_words(other.edges)}: expected parts of one recording."
            )
        with np.errstate(over="ignore", invalid="ignore"):  # squares of what is near the largest float64
            moments = self.moments.merged(other.moments)
        return Figures(moments, self.n_infinite + other.n_infinite, self.histogram + other.histogram, self.edges)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The same as arrays by name, for a file."""
        of_moments = {name: getattr(self.moments, name) for name in _OF_MOMENTS}
        return of_moments | {"n_infinite": self.n_infinite, "histogram": self.histogram, "edges": self.edges}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Figures:
        """Figures out of the arrays that `to_arrays` gave."""
        of_moments: dict[str, Any] = {name: np.asarray(arrays[name]) for name in _OF_MOMENTS}
        return cls(Moments(**of_moments), *(np.asarray(arrays[name]) for name in ("n_infinite", "histogram", "edges")))


def edges_for(kind: str, name: str, few: np.ndarray) -> np.ndarray:
    """The edges of a histogram's inner bins, fixed before anything is counted.

    Parameters
    ----------
    kind : str
        The kind of the layer.
    name : str
        The array: a state, such as "h" or "c", or "activations".
    few : array of any shape
        Its values for a few sequences; NaN is padding.

    Returns
    -------
    array (edge,) of float64
        From -1 to 1 in 64 bins where values stay there (gates, hidden states, softmax); else 64 to 130 bins of equal width over the
        range of `few`, with half of it added on both sides.

    Examples
    --------
    >>> edges = edges_for("lstm", "h", np.zeros((2, 5, 3)))
    >>> edges[0], edges[-1], len(edges)
    (np.float64(-1.0), np.float64(1.0), 65)
    """
    there = np.clip(np.asarray(few)[np.isfinite(few)].astype(np.float64), -_LARGEST, _LARGEST)
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
    most = max(-low, high)
    may_be_bounded = name in _BOUNDED_STATES or (name not in _UNBOUNDED_STATES and kind in _BOUNDED_LAYERS)
    if may_be_bounded and most <= 1:  # an LSTM that was given another activation, or a projection, leaves the range
        return np.linspace(-1, 1, _BINS + 1)
    half = (high / 2 - low / 2) or max(1.0, most / 2)
    width = math.ldexp(1.0, max(_exponent(half / _BINS) + 2, _exponent(most) - _BITS))
    first, last = math.floor((low - half) / width), math.ceil((high + half) / width)
    return np.arange(first, max(last, first + _BINS) + 1) * width


def _exponent(value: float) -> int:
    """The largest power of two that is no larger; of tiny values, one that float32 can still divide by."""
    return max(math.frexp(value)[1] - 1, -100)


def figures_of(rows: np.ndarray, edges: np.ndarray) -> Figures:
    """The figures of some values.

    Parameters
    ----------
    rows : array (row, column)
        Samples and steps in one axis. NaN where there is no value. Infinite values are counted in the outer bins and in `n_infinite`, and
        left out of the moments.
    edges : array (edge,)
        What `edges_for` gives.

    Returns
    -------
    Figures

    Raises
    ------
    DataError
        The values are no numbers, or no table; the edges are not those of `edges_for`.

    Examples
    --------
    >>> found = figures_of(np.array([[0.5, -2.0], [0.25, np.nan]]), np.array([-1.0, 0.0, 1.0]))
    >>> found.moments.mean, found.moments.n
    (array([ 0.375, -2.   ]), array([2, 1]))
    >>> found.histogram
    array([[0, 0, 2, 0],
           [1, 0, 0, 0]])
    """
    if rows.ndim != 2 or not rows.shape[1] or rows.dtype.kind not in "fiub":
        raise DataError(f"Statistics are made of numbers (row, column), and an array {rows.shape} of {rows.dtype} was given.")
    counter = _Counter(np.asarray(edges, np.float64), rows.shape[1])
    found: list[Moments] = []
    n_infinite = np.zeros(rows.shape[1], np.int64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large to be divided or squared is infinite
        for block in _blocks(rows):
            counter.add(block)
            here, infinite = _finite_moments(block)
            found = [found[0].merged(here)] if found else [here]
            n_infinite += infinite
    return Figures(found[0], n_infinite, counter.histogram(), np.asarray(edges, np.float64))


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in float32 or float64 without padding: all at once where they are so, else in copies of some of them; one at least."""
    if rows.dtype in (np.float32, np.float64) and rows.flags.c_contiguous and len(rows) and not np.isnan(rows[:, 0]).any():
        yield rows
        return
    dtype = np.dtype(np.float32 if rows.dtype in (np.float16, np.float32) else np.float64)
    size, has_some = max(1, _BLOCK // rows.shape[1]), False
    for start in range(0, len(rows), size):
        block = without_padding(rows[start : start + size])
        if len(block):
            has_some = True
            yield np.ascontiguousarray(block, dtype)
    if not has_some:
        yield np.full((1, rows.shape[1]), np.nan, dtype)


def _finite_moments(block: np.ndarray) -> tuple[Moments, np.ndarray]:
    """The moments of the finite values, and how many are infinite in each column."""
    found = moments_of(block, SATURATED, products=0, in_double=True)
    has_some = found.n > 0
    if not (np.isinf(found.low) | np.isinf(found.high))[has_some].any():
        return found, np.zeros(block.shape[1], np.int64)
    infinite = np.isinf(block)
    return moments_of(np.where(infinite, np.nan, block), SATURATED, products=0, in_double=True), infinite.sum(axis=0)


class _Counter:
    """Counts values in bins, a piece at a time: the place of a value's bin among those of all columns is its key."""

    def __init__(self, edges: np.ndarray, n_columns: int) -> None:
        self._width = float(edges[1] - edges[0]) if len(edges) > 1 else 0.0
        is_power = self._width > 0 and math.frexp(self._width)[0] == 0.5
        if not is_power or not np.array_equal(edges, (round(edges[0] / self._width) + np.arange(len(edges))) * self._width):
            raise DataError(
                f"The {len(edges)} edges of a histogram are not multiples of their distance, a power of two: use those of edges_for."
            )
        self._first, self._last = round(edges[0] / self._width), round(edges[-1] / self._width)
        self._n_bins = len(edges) + 1
        self._groups = [slice(start, min(start + _COLUMNS, n_columns)) for start in range(0, n_columns, _COLUMNS)]
        # For each column its bins, and behind them one for what is no value.
        self._counts = [np.zeros((group.stop - group.start, self._n_bins + 1), np.int64) for group in self._groups]

    def histogram(self) -> np.ndarray:
        """The counts (column, bin)."""
        none = np.zeros((0, self._n_bins), np.int64)
        return np.concatenate([none, *(counts[:, : self._n_bins] for counts in self._counts)])

    def add(self, block: np.ndarray) -> None:
        """Take in values (row, column), float32 or float64."""
        for group, counts in zip(self._groups, self._counts, strict=True):
            self._add(block[:, group], counts)

    def _add(self, block: np.ndarray, counts: np.ndarray) -> None:
        size = max(1, _PIECE // len(counts))
        room, keys = np.empty((size, len(counts)), block.dtype), np.empty((size, len(counts)), np.intp)
        starts = np.tile((np.arange(len(counts)) * counts.shape[1] + 1 - self._first).astype(block.dtype), (size, 1))
        for start in range(0, len(block), size):
            rows = block[start : start + size]
            here = slice(len(rows))
            places = self._places(rows, room[here])
            np.add(places, starts[here], out=keys[here], casting="unsafe")
            counts += np.bincount(keys[here].reshape(-1), minlength=counts.size).reshape(counts.shape)

    def _places(self, rows: np.ndarray, room: np.ndarray) -> np.ndarray:
        """The bin of each value, as a multiple of the width; one below and above all others for what lies there, two above for NaN."""
        # Exact, but for what is so small against the width that it becomes 0.
        places: np.ndarray = np.multiply(rows, rows.dtype.type(1 / self._width), out=room)
        lowest, highest = places.min(), places.max()
        has_holes = bool(np.isnan(lowest))
        if has_holes:
            lowest, highest = np.fmin.reduce(places, axis=None), np.fmax.reduce(places, axis=None)
        if highest > self._last:
            places[places == self._last] -= 0.5  # the last bin has both its edges
            np.minimum(places, self._last, out=places)
        elif highest == self._last:
            np.minimum(places, self._last - 0.5, out=places)
        if lowest < self._first:
            np.maximum(places, self._first - 1, out=places)
        np.floor(places, out=places)
        return np.fmin(places, self._last + 1, out=places) if has_holes else places


def _bins_in_words(edges: np.ndarray) -> str:
    return f"{len(edges) + 1} bins around {edges[0]:g} to {edges[-1]:g}"


def summary(
    figures: Figures,
    *,
    dims: Sequence[str],
    sizes: Sequence[int],
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
    kind: str | None = None,
) -> xr.Dataset:
    """Figures as they are shown: those of `units.summary`, and the histogram.

    Parameters
    ----------
    figures : Figures
    dims, sizes : sequences
        Of the columns: ("unit",), or ("direction", "unit").
    coords : dict
        Coordinates of these dims; those that have none are numbered from 0.
    attrs : dict
        What the result says of where it comes from.
    kind : str, optional
        The kind of the layer, which tells what saturated means; else as `attrs` says.

    Returns
    -------
    Dataset by `dims`
        `mean`, `spread`, `low`, `high`, `saturated` and `dead` as of `units.summary`, over the finite values; NaN where there is none.
        `histogram` (..., bin): the number of values from `bin_low` (bin) to `bin_high` (bin); the first and last bin have no end.
        `n_infinite` where there is any infinite value. The attribute `saturated` says what that means here.

    Raises
    ------
    DataError
        The sizes do not fit the columns.
    """
    if math.prod(sizes) != len(figures.n_infinite):
        expected = ", ".join(f"{size} {dim}s" for dim, size in zip(dims, sizes, strict=False))
        raise DataError(f"There are statistics of {len(figures.n_infinite)} columns, and {expected} were expected.")
    has_infinite = bool(figures.n_infinite.any())
    kind = str(attrs.get("kind", "")) if kind is None else kind
    text, of_moments = moment_figures(figures.moments, kind, SATURATED, may_be_bounded=not has_infinite)
    of_moments |= {"n_infinite": (figures.n_infinite, "Infinite values")} if has_infinite else {}
    parts: dict[str, Part] = {name: (tuple(dims), values.reshape(sizes), called) for name, (values, called) in of_moments.items()}
    parts[HISTOGRAM] = ((*dims, BIN), figures.histogram.reshape(*sizes, -1), "Values in each bin")
    ends = np.concatenate([[-np.inf], figures.edges, [np.inf]])
    bins = {
        BIN_LOW: xr.Variable(BIN, ends[:-1], {"long_name": LONG_NAMES[BIN_LOW]}),
        BIN_HIGH: xr.Variable(BIN, ends[1:], {"long_name": LONG_NAMES[BIN_HIGH]}),
    }
    said = {"saturated": text, "n_steps": int(figures.moments.n.max(initial=0))}
    return figures_result(parts, coords=dict(coords) | bins, attrs=dict(attrs) | said)
