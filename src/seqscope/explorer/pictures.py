"""Arrays brought to the size of a screen: never more cells or points than there are pixels, and nothing that stands out lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The most cells of a heatmap and points of a line that are sent: about the pixels of a large screen.
MOST_ROWS, MOST_COLUMNS = 640, 1400


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


def aggregated(values: np.ndarray, most_rows: int = MOST_ROWS, most_columns: int = MOST_COLUMNS) -> Aggregated:
    """Put cells together so that there are not more than can be seen.

    Parameters
    ----------
    values : array (row, column)
        NaN where there is none.
    most_rows, most_columns : int
        The cells of the picture, at most.
    """
    rows, columns = (_edges(n, most) for n, most in zip(values.shape, (most_rows, most_columns), strict=True))
    if len(rows) - 1 == values.shape[0] and len(columns) - 1 == values.shape[1]:
        return Aggregated(values, values, rows, columns)
    there = np.isfinite(values)
    known = np.where(there, values, 0)
    sums, counts = _over(np.add, known, rows, columns), _over(np.add, there.astype(np.int64), rows, columns)
    highest = _over(np.maximum, np.where(there, values, -np.inf), rows, columns)
    lowest = _over(np.minimum, np.where(there, values, np.inf), rows, columns)
    with np.errstate(invalid="ignore"):
        mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        extreme = np.where(counts > 0, np.where(np.abs(highest) >= np.abs(lowest), highest, lowest), np.nan)
    return Aggregated(mean.astype(values.dtype), extreme.astype(values.dtype), rows, columns)


def _edges(n: int, most: int) -> np.ndarray:
    groups = max(1, min(n, most))
    return np.arange(groups + 1) * n // groups


def _over(by: np.ufunc, values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return by.reduceat(by.reduceat(values, rows[:-1], axis=0), columns[:-1], axis=1)


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """A line of not many more points than pixels: of each group of points the lowest and the highest, in their order.

    Parameters
    ----------
    x, y : array (point)
    most : int
        The groups; there are at most twice as many points.
    """
    if len(x) <= 2 * most:
        return x, y
    edges = _edges(len(x), most)
    known = np.where(np.isfinite(y), y, np.nan)
    kept = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        part = known[start:stop]
        kept += [start] if np.isnan(part).all() else sorted({start + int(np.nanargmin(part)), start + int(np.nanargmax(part))})
    places = np.array(kept)
    return x[places], y[places]
