"""Arrays brought to the size of a screen: never more cells or points than there are pixels, and nothing that stands out lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The most cells of a heatmap and points of a line that are sent: about the pixels of a large screen.
MOST_ROWS, MOST_COLUMNS = 640, 1400
# Columns in the narrowest of steps that are not equally wide, and how far rounding may move a border, as a part of a column.
_FINER, _NEAR = 4, 1e-6


@dataclass(frozen=True)
class Aggregated:
    """A table whose rows and columns are put together in groups, each as equal as can be.

    Attributes
    ----------
    mean, extreme : array (row group, column group)
        Of the cells of each group the mean, and the value farthest from zero; NaN where no cell has a value.
    rows, columns : int array
        Where each group begins, and where the last ends.
    """

    mean: np.ndarray
    extreme: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether each cell is there by itself."""
        return bool(self.mean.shape == (self.rows[-1] - self.rows[0], self.columns[-1] - self.columns[0]))


@dataclass(frozen=True)
class Spans:
    """Columns of equal width over steps that need not be: each column has those steps of which a part lies in it.

    Attributes
    ----------
    start, stop : int array (column,)
        The steps, the stop left out. A step that is wider than a column is in several.
    """

    start: np.ndarray
    stop: np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether each column has one step."""
        return bool((self.stop - self.start == 1).all())


def aggregated(values: np.ndarray, most_rows: int = MOST_ROWS, most_columns: int = MOST_COLUMNS) -> Aggregated:
    """Put cells together so that there are not more than can be seen.

    Parameters
    ----------
    values : array (row, column)
        NaN where there is none.
    most_rows, most_columns : int
        The cells of the picture, at most.

    Examples
    --------
    >>> aggregated(np.array([[0.0, 1.0, -3.0, 2.0]]), most_columns=2).extreme
    array([[ 1., -3.]])
    """
    rows, columns = (_edges(n, most) for n, most in zip(values.shape, (most_rows, most_columns), strict=True))
    mean, extreme = over(values, Spans(rows[:-1], rows[1:]), Spans(columns[:-1], columns[1:]))
    return Aggregated(mean, extreme, rows, columns)


def over(values: np.ndarray, rows: Spans, columns: Spans) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the value farthest from zero of the cells of each group of rows and columns; NaN where no cell has a value.

    Parameters
    ----------
    values : array (row, column)
        NaN where there is none.
    """
    if rows.is_whole and columns.is_whole:
        picked = values[rows.start][:, columns.start]
        return picked, picked
    there = np.isfinite(values)
    if there.all():
        counts: np.ndarray = np.outer(rows.stop - rows.start, columns.stop - columns.start)
        low = high = known = values
    else:
        counts = _reduced(np.add, there.astype(np.int64), rows, columns)
        low, high, known = (np.where(there, values, beyond) for beyond in (np.inf, -np.inf, 0))
    sums, lowest, highest = (_reduced(by, of, rows, columns) for by, of in ((np.add, known), (np.minimum, low), (np.maximum, high)))
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    extreme = np.where(counts > 0, np.where(np.abs(highest) >= np.abs(lowest), highest, lowest), np.nan)
    return mean.astype(values.dtype), extreme.astype(values.dtype)


def _reduced(by: np.ufunc, values: np.ndarray, rows: Spans, columns: Spans) -> np.ndarray:
    along = values if columns.is_whole and len(columns.start) == values.shape[1] else _over(by, values, columns, 1)
    return along if rows.is_whole and len(rows.start) == values.shape[0] else _over(by, along, rows, 0)


def _over(by: np.ufunc, values: np.ndarray, spans: Spans, axis: int) -> np.ndarray:
    """Every second result of `reduceat` is that of a span; it takes places only, so the end needs one more."""
    if (spans.start[1:] == spans.stop[:-1]).all() and spans.stop[-1] == values.shape[axis]:
        return np.asarray(by.reduceat(values, spans.start, axis=axis))
    one_more = np.concatenate([values, values.take([-1], axis=axis)], axis=axis)
    found = by.reduceat(one_more, np.stack([spans.start, spans.stop], axis=1).ravel(), axis=axis)
    return found[::2] if axis == 0 else found[:, ::2]


def groups(n: int, most: int) -> Spans:
    """So many rows in groups as equal as can be."""
    edges = _edges(n, most)
    return Spans(edges[:-1], edges[1:])


def columns_of(edges: np.ndarray, most: int = MOST_COLUMNS) -> Spans:
    """Columns of equal width, no more than so many, for steps with these borders.

    Examples
    --------
    >>> columns_of(np.array([0.0, 1.0, 3.0]), most=3).start
    array([0, 1, 1])
    """
    widths, lasting = np.diff(edges), edges[-1] - edges[0]
    is_even = np.ptp(widths) <= 2 * _NEAR * widths.mean()
    finest = widths.mean() if is_even else max(widths.min() / _FINER, lasting / most)
    n = min(most, max(1, int(np.ceil(lasting / finest - 1e-3))))
    borders = np.linspace(edges[0], edges[-1], n + 1)
    slack = _NEAR * lasting / n  # what rounding moves is in neither neighbour
    start = np.searchsorted(edges, borders[:-1] + slack, side="right") - 1
    stop = np.searchsorted(edges, borders[1:] - slack, side="left")
    return Spans(np.clip(start, 0, len(widths) - 1), np.clip(np.maximum(stop, start + 1), 1, len(widths)))


def _edges(n: int, most: int) -> np.ndarray:
    groups = max(1, min(n, most))
    return np.arange(groups + 1) * n // groups


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """A line of not many more points than pixels: of each group of points the lowest and the highest, in their order.

    Parameters
    ----------
    x, y : array (point)
    most : int
        The groups; there are at most twice as many points.

    Examples
    --------
    >>> thinned(np.arange(6), np.array([0.0, 5.0, 1.0, 1.0, -2.0, 0.0]), most=2)[1]
    array([ 0.,  5.,  1., -2.])
    """
    if len(x) <= 2 * most:
        return x, y
    size = -(-len(x) // most)
    padded = np.full((-(-len(x) // size), size), np.nan)
    padded.reshape(-1)[: len(x)] = np.where(np.isfinite(y), y, np.nan)
    missing = np.isnan(padded)
    lowest, highest = np.where(missing, np.inf, padded).argmin(axis=1), np.where(missing, -np.inf, padded).argmax(axis=1)
    places = np.unique(np.stack([lowest, highest], axis=1) + size * np.arange(len(padded))[:, None])
    return x[places], y[places]
