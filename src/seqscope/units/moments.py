"""Mean, spread, range and ends of every unit in one pass, in sums that can be merged.

Each block is read once: its rows go through the processor's cache in pieces, and everything is taken from a piece while it is there. Values
are counted from a shift near their mean, so that sums in the array's own type lose nothing; the sums themselves are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seqscope.errors import DataError
from seqscope.units.blocks import RECURRENT, Taken, pieces
from seqscope.units.working import Reader, each_block

if TYPE_CHECKING:
    import distributed

# Values side by side in a sum along rows: with few units, several steps make one row, for NumPy sums long rows faster.
_WIDE = 2048
# A mean so many times the spread is taken off before values are squared: float32 would lose the spread.
_LARGE = 4.0
# Kinds of layer whose values say nothing of an end to be near to, though they may lie within -1 and 1.
_UNBOUNDED = ("conv1d", "conv1d_transposed", "linear", "embedding", "batch_norm", "layer_norm", "dropout", "attention")


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


def over_blocks(
    taken: Taken,
    threshold: float,
    *,
    products: int,
    readers: Sequence[Reader] = (),
    workers: distributed.Client | None = None,
) -> Moments:
    """The moments of all blocks.

    Parameters
    ----------
    threshold, products
        As in `moments_of`.
    readers : sequence of Reader
        What else takes in each block while it is there.
    workers : distributed.Client, optional
        Who reads the blocks.

    Raises
    ------
    DataError
        A value is infinite.
    """
    look = partial(_look, threshold=threshold, products=products, reads=[reader.read for reader in readers])
    beside = partial(_beside, readers, is_sent=workers is not None and taken.is_stored)
    found: list[Moments] = []
    for rows, here, infinite, seen in each_block(taken, look, workers, beside=beside):
        if infinite is not None:
            sample, step, unit = infinite
            raise DataError(
                f"Unit {taken.unit_labels[unit]!r} is infinite at step {step} of sample {taken.samples[rows.start + sample]!s}: expected "
                "finite activations."
            )
        for reader, of_block in zip(readers, seen, strict=True):
            reader.take(rows, of_block)
        found = [found[0].merged(here)] if found else [here]
    return found[0]


def _beside(readers: Sequence[Reader], rows: slice, *, is_sent: bool) -> list[Any]:
    return [reader.beside(rows, is_sent=is_sent) for reader in readers]


def _look(
    rows: slice, block: np.ndarray, beside: list[Any], *, threshold: float, products: int, reads: list[Callable[[np.ndarray, Any], Any]]
) -> tuple[slice, Moments, list[int] | None, list[Any]]:
    """One block: its samples, its moments, the place of a value that is infinite, and what the readers see where there is none."""
    here = moments_of(block, threshold, products=products)
    if np.isinf(here.low[here.n > 0]).any() or np.isinf(here.high[here.n > 0]).any():
        return rows, here, np.argwhere(np.isinf(block))[0].tolist(), []
    return rows, here, None, [read(block, part) for read, part in zip(reads, beside, strict=True)]


def moment_figures(
    found: Moments, kind: str, threshold: float, *, may_be_bounded: bool = True
) -> tuple[str, dict[str, tuple[np.ndarray, str]]]:
    """What was summed up, by name, each with what it is called in full, and what `saturated` means in a layer of this kind.

    Parameters
    ----------
    threshold : float
        As in `moments_of`.
    may_be_bounded : bool
        False where there were values outside of -1 and 1 that are not among those summed up.

    Returns
    -------
    text : str
    figures : dict of (array (unit,), str)
        NaN, or not dead, where a unit has no value.
    """
    lowest, highest = found.low.min(), found.high.max()
    rectified = bool(lowest == 0) and kind not in ("softmax", *RECURRENT)
    bounded = may_be_bounded and lowest >= -1 and highest <= 1 and kind not in _UNBOUNDED
    is_there = found.n > 0
    n = np.where(is_there, found.n, np.nan)
    if rectified:
        text, share = "share of time at 0 (a rectified layer)", found.at_zero / n
    elif bounded:
        text, share = f"share of time with |value| >= {threshold:g} (a layer within -1 and 1)", found.near_end / n
    else:
        text, share = "not defined: the layer's values have no end to be near to", np.full(len(n), np.nan)
    still = found.high == found.low
    return text, {
        "mean": (np.where(is_there, found.mean, np.nan), "Mean"),
        "spread": (np.sqrt(found.m2 / n), "Standard deviation"),
        "low": (np.where(is_there, found.low, np.nan).astype(np.float64), "Lowest value"),
        "high": (np.where(is_there, found.high, np.nan).astype(np.float64), "Highest value"),
        "saturated": (share, "Share of time saturated"),
        "dead": (is_there & (still | (rectified & (found.high <= 0))), "Dead over this data"),
    }


def moments_of(block: np.ndarray, threshold: float, *, products: int, in_double: bool = False) -> Moments:
    """The moments of one block.

    Parameters
    ----------
    block : array (sample, time, unit)
        NaN where there is no value; infinity turns up in `low` or `high`.
    threshold : float
        The size from which a value is near its end.
    products : int
        Sum products of units over every so many pieces: 1 for all, 0 for none.
    in_double : bool
        Sum up float32 in float64 from the first value on, so that figures do not depend on how data was cut to more than their last digits.
    """
    rows = block.reshape(-1, block.shape[-1])
    parts = list(pieces(rows, _WIDE))
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _Sums(_shift_of(rows), threshold, rows[parts[0]].size, products=products, in_double=in_double)
        for part in parts:
            sums.add(rows[part])
        return sums.moments()


def without_padding(rows: np.ndarray) -> np.ndarray:
    """The rows that are not NaN throughout."""
    empty = np.isnan(rows[:, 0])
    if empty.any():
        empty[empty] = np.isnan(rows[empty]).all(axis=1)
        rows = rows[~empty]
    return rows


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

    def __init__(self, shift: np.ndarray, threshold: float, n_values: int, *, products: int, in_double: bool) -> None:
        self.fold, wide = max(1, _WIDE // len(shift)), np.dtype(np.float64 if in_double else shift.dtype)
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
        self._room, self._flags = np.empty(n_values, wide), np.empty(n_values, bool)
        self._ones = np.ones(n_values // len(shift), wide)

    def add(self, rows: np.ndarray) -> None:
        """Take in some rows, (step, unit); those that are NaN throughout are padding."""
        self.pieces += 1
        rows = without_padding(rows)
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
        moved = self._moved(rows, room)
        ones = self._ones[: len(rows)]
        total = ones @ moved
        self.sum[here] += total
        self._add_products(moved.reshape(-1, self.n_units), total)
        squares = np.multiply(moved, moved, out=room)
        self.squares[here] += ones @ squares
        if is_bounded and not self.is_shifted:  # the squares are there: they tell, since no two sizes below 1 have the same
            self._count(self.near_end[here], np.greater_equal(squares, room.dtype.type(self.threshold) ** 2, out=flags))

    def _moved(self, rows: np.ndarray, room: np.ndarray) -> np.ndarray:
        """The rows around the shift, as they are summed up; in `room`, unless they are that already."""
        if rows.dtype != room.dtype:
            np.copyto(room, rows)
            rows = room
        return np.subtract(rows, self.shift[: rows.shape[1]], out=room) if self.is_shifted else rows

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
