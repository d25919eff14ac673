"""Mean, spread, range and ends of every unit in one pass, in sums that can be merged.

Each block is read once: its rows go through the processor's cache in pieces, and everything is taken from a piece while it is there. Values
are counted from a shift near their mean, so that sums in the array's own type lose nothing; the sums themselves are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from seqscope.errors import DataError
from seqscope.units.blocks import Taken, pieces

# Values side by side in a sum along rows: with few units, several steps make one row, for NumPy sums long rows faster.
_WIDE = 2048
# A mean so many times the spread is taken off before values are squared: float32 would lose the spread.
_LARGE = 4.0


@dataclass
class Moments:
    """What is known of some units after some of the data.

    Attributes
    ----------
    n, mean, m2 : arrays (unit,)
        Steps, their mean, and the sum of squares around it.
    low, high : arrays (unit,)
    near_end, at_zero : int arrays (unit,)
        Steps at which the size is at least the threshold, as long as no unit leaves -1 to 1, and at which the value is 0, as long as no
        unit goes below: of other layers neither is of use.
    complete : int
        Steps at which every unit has a value.
    co : array (unit, unit) or None
        The sum of products around the means, over some or all of the complete steps.
    co_n, co_mean : int and array (unit,)
        The number of those steps, and the means over them.
    """

    n: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray
    high: np.ndarray
    near_end: np.ndarray
    at_zero: np.ndarray
    complete: int = 0
    co: np.ndarray | None = None
    co_n: int = 0
    co_mean: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def merged(self, other: Moments) -> Moments:
        """What is known after both parts (Chan, Golub and LeVeque 1983)."""
        n = self.n + other.n
        apart = other.mean - self.mean
        share = other.n / np.maximum(n, 1)
        co, co_mean = self.co, self.co_mean
        if self.co is not None and other.co is not None:
            co_share = other.co_n / max(self.co_n + other.co_n, 1)
            gap = other.co_mean - self.co_mean
            co, co_mean = self.co + other.co + np.outer(gap, gap) * self.co_n * co_share, self.co_mean + gap * co_share
        return Moments(
            n,
            self.mean + apart * share,
            self.m2 + other.m2 + apart**2 * self.n * share,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.near_end + other.near_end,
            self.at_zero + other.at_zero,
            self.complete + other.complete,
            co,
            self.co_n + other.co_n,
            co_mean,
        )


def over_blocks(taken: Taken, threshold: float, *, products: int, readers: Sequence[Callable[[slice, np.ndarray], None]] = ()) -> Moments:
    """The moments of all blocks.

    Parameters
    ----------
    threshold, products
        As in `moments_of`.
    readers : sequence of functions
        What else takes in each block, with its rows, while it is there.

    Raises
    ------
    DataError
        A value is infinite.
    """
    found: list[Moments] = []
    for rows, block in taken.blocks():
        here = moments_of(block, threshold, products=products)
        if np.isinf(here.low[here.n > 0]).any() or np.isinf(here.high[here.n > 0]).any():
            sample, step, unit = np.argwhere(np.isinf(block))[0].tolist()
            raise DataError(
                f"Unit {taken.unit_labels[unit]!r} is infinite at step {step} of sample {taken.samples[rows.start + sample]!s}: expected "
                "finite activations."
            )
        for read in readers:
            read(rows, block)
        found = [found[0].merged(here)] if found else [here]
    return found[0]


def moments_of(block: np.ndarray, threshold: float, *, products: int) -> Moments:
    """The moments of one block.

    Parameters
    ----------
    block : array (sample, time, unit)
        NaN where there is no value; infinity turns up in `low` or `high`.
    threshold : float
        The size from which a value is near its end.
    products : int
        Sum products of units over every so many pieces: 1 for all, 0 for none.
    """
    rows = block.reshape(-1, block.shape[-1])
    parts = list(pieces(rows, _WIDE))
    sums = _Sums(_shift_of(rows), threshold, rows[parts[0]].size, products=products)
    with np.errstate(invalid="ignore", over="ignore"):
        for part in parts:
            sums.add(rows[part])
        return sums.moments()


def _shift_of(rows: np.ndarray) -> np.ndarray:
    """A value near the mean of each unit, that of some rows; zero where no mean is large against its spread, so that none is needed."""
    some = rows[:: max(1, len(rows) // 256)]
    there = np.isfinite(some)
    n = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, some, 0).sum(axis=0, dtype=np.float64) / n
    spread = np.sqrt(((np.where(there, some, mean) - mean) ** 2).sum(axis=0) / n)
    return np.zeros_like(rows[0]) if (np.abs(mean) <= _LARGE * spread).all() else mean.astype(rows.dtype)


class _Sums:
    """Sums over the rows of one block, around a shift: `n_values` values at a time, `fold` steps side by side in a row."""

    def __init__(self, shift: np.ndarray, threshold: float, n_values: int, *, products: int) -> None:
        self.fold = max(1, _WIDE // len(shift))
        self.shift, self.threshold, self.is_shifted = np.tile(shift, self.fold), shift.dtype.type(threshold), bool(shift.any())
        width = len(self.shift)
        self.near_end, self.at_zero = np.zeros(width, np.int64), np.zeros(width, np.int64)
        self.n_holed = np.zeros(len(shift), np.int64)
        self.sum, self.squares = np.zeros(width), np.zeros(width)
        self.low, self.high = np.full(width, np.inf, shift.dtype), np.full(width, -np.inf, shift.dtype)
        self.n_units, self.complete = len(shift), 0
        self.every, self.pieces, self.co_n = products, 0, 0
        self.products = np.zeros((len(shift), len(shift))) if products else None
        self.product_sum = np.zeros(len(shift))
        # The same places for every piece: new memory costs more than the sums.
        self._room, self._flags = np.empty(n_values, shift.dtype), np.empty(n_values, bool)
        self._ones = np.ones(n_values // len(shift), shift.dtype)

    def add(self, rows: np.ndarray) -> None:
        """Take in some rows, (step, unit); those that are NaN throughout are padding."""
        self.pieces += 1
        empty = np.isnan(rows[:, 0])
        if empty.any():
            empty[empty] = np.isnan(rows[empty]).all(axis=1)
            rows = rows[~empty]
        whole = len(rows) - len(rows) % self.fold
        self._add(rows[:whole].reshape(-1, self.fold * self.n_units))
        self._add(rows[whole:])

    def _add(self, rows: np.ndarray) -> None:
        """Take in rows with `fold` steps or one in each."""
        if not len(rows):
            return
        here = slice(rows.shape[1])
        low, high = np.minimum.reduce(rows, axis=0), np.maximum.reduce(rows, axis=0)
        lowest = low.min()
        if np.isnan(lowest):
            self._add_holed(rows.reshape(-1, self.n_units))
            return
        np.minimum(self.low[here], low, out=self.low[here])
        np.maximum(self.high[here], high, out=self.high[here])
        flags = self._flags[: rows.size].reshape(rows.shape)
        room = self._room[: rows.size].reshape(rows.shape)
        is_bounded = lowest >= -1 and high.max() <= 1
        if lowest >= 0:
            self._count(self.at_zero[here], np.equal(rows, 0, out=flags))
        if is_bounded and self.is_shifted:
            self._count(self.near_end[here], np.greater_equal(np.abs(rows, out=room), self.threshold, out=flags))
        moved = np.subtract(rows, self.shift[here], out=room) if self.is_shifted else rows
        ones = self._ones[: len(rows)]
        total = ones @ moved
        self.sum[here] += total
        self._add_products(moved.reshape(-1, self.n_units), total)
        squares = np.multiply(moved, moved, out=room)
        self.squares[here] += ones @ squares
        if is_bounded and not self.is_shifted:  # the squares are there: they tell, since no two sizes below 1 have the same
            self._count(self.near_end[here], np.greater_equal(squares, self.threshold**2, out=flags))

    def _add_products(self, steps: np.ndarray, total: np.ndarray) -> None:
        self.complete += len(steps)
        if self.products is not None and (self.pieces - 1) % self.every == 0:
            self.products += steps.T @ steps
            self.co_n += len(steps)
            self.product_sum += total.reshape(-1, self.n_units).sum(axis=0, dtype=np.float64)

    def _count(self, into: np.ndarray, flags: np.ndarray) -> None:
        into += np.add.reduce(flags.view(np.uint8), axis=0, dtype=np.uint8 if len(flags) < 256 else np.int64)

    def _add_holed(self, rows: np.ndarray) -> None:
        """Take in steps at which some units have no value; the complete ones among them count for products too."""
        holed = np.isnan(rows).any(axis=1)
        self._add(rows[~holed])
        rows = rows[holed].astype(np.float64)
        here, there = slice(self.n_units), ~np.isnan(rows)
        moved = np.where(there, rows - self.shift[here], 0)
        self.n_holed += there.sum(axis=0)
        self.sum[here] += moved.sum(axis=0)
        self.squares[here] += (moved**2).sum(axis=0)
        np.fmin(self.low[here], np.fmin.reduce(rows, axis=0), out=self.low[here])
        np.fmax(self.high[here], np.fmax.reduce(rows, axis=0), out=self.high[here])
        self.near_end[here] += (np.abs(rows) >= self.threshold).sum(axis=0)
        self.at_zero[here] += (rows == 0).sum(axis=0)

    def moments(self) -> Moments:
        """What the sums say."""
        folded = {name: getattr(self, name).reshape(self.fold, -1) for name in ("sum", "squares", "near_end", "at_zero")}
        total, squares, near_end, at_zero = (values.sum(axis=0) for values in folded.values())
        n = self.complete + self.n_holed
        shift = self.shift[: self.n_units].astype(np.float64)
        low, high = self.low.reshape(self.fold, -1).min(axis=0), self.high.reshape(self.fold, -1).max(axis=0)
        moved = total / np.maximum(n, 1)
        still = low == high  # a sum of equal values may be off by its last digit, and a unit that stands still has no spread
        mean, m2 = np.where(still, low, shift + moved), np.where(still, 0, np.maximum(squares - n * moved**2, 0))
        found = Moments(n, mean, m2, low, high, near_end, at_zero, self.complete)
        if self.products is not None:
            away = self.product_sum / max(self.co_n, 1)
            found.co, found.co_n, found.co_mean = self.products - self.co_n * np.outer(away, away), self.co_n, shift + away
        return found
