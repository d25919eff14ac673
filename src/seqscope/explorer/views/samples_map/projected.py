"""Each sample as a point: one state of a layer for each sample, on the two principal components of those states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from seqscope.errors import DataError
from seqscope.explorer.any_source import Source
from seqscope.explorer.shown import one_state, plain
from seqscope.explorer.source import Recorded
from seqscope.labelled import DIRECTION
from seqscope.units.blocks import RECURRENT, as_floats, take_in

# Points that are drawn, and values that are held to make them: of more samples a seeded choice is taken.
MOST_POINTS, _MOST_VALUES = 20_000, 1 << 24
# The values of a live model's layer that are computed at a time.
_LIVE_VALUES = 1 << 24
LAST, MEAN = "last", "mean"


@dataclass(frozen=True, eq=False)
class Projected:
    """Samples as points.

    Attributes
    ----------
    rows : int array (point,)
        The position of the sample of each point, ascending; not of those that have no states yet.
    points : array (point, 2)
    means : array (point, unit)
        Of each unit over the steps of the sample.
    shares : array (2,)
        Of the variance.
    pooled : str
        "last": a point is the state at the sample's last step; "mean": the mean over its steps.
    centre, axes : arrays (unit,) and (unit, 2)
        With which another sample is placed.
    number : int
        The samples that were looked at.
    """

    rows: np.ndarray
    points: np.ndarray
    means: np.ndarray
    shares: np.ndarray
    pooled: str
    centre: np.ndarray
    axes: np.ndarray
    number: int

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return sum(part.nbytes for part in (self.rows, self.points, self.means, self.axes))

    def point_of(self, source: Source, layer: str, state: str, sample: int) -> np.ndarray:
        """Where a sample lies, drawn or not: array (2,), NaN where it has no states."""
        place = np.searchsorted(self.rows, sample)
        if place < len(self.rows) and self.rows[place] == sample:
            return np.asarray(self.points[place])
        block = as_floats(source.values(layer, state, sample).values)[np.newaxis]
        return np.asarray((_pooled(block, self.pooled)[0] - self.centre) @ self.axes)


def projected(source: Source, layer: str, state: str) -> Projected:
    """The points of a layer's states; all samples are read, block by block, once for all who look.

    Raises
    ------
    DataError
        Fewer than two samples have states.
    """
    return source.once(_key(layer, state), lambda: _projected(source, layer, state))  # type: ignore[no-any-return]


def is_projected(source: Source, layer: str, state: str) -> bool:
    """Whether the points are there already."""
    return _key(layer, state) in source.kept


def _key(layer: str, state: str) -> tuple[str, str, str]:
    return ("projected", layer, state)


def drawn(source: Source, n_units: int) -> np.ndarray:
    """The samples that are drawn, by position: all, or a seeded choice where they are too many."""
    most = most_points(n_units)
    if len(source) <= most:
        return np.arange(len(source))
    return np.sort(np.random.default_rng(0).choice(len(source), most, replace=False))


def most_points(n_units: int) -> int:
    """How many samples are drawn at most."""
    return max(100, min(MOST_POINTS, _MOST_VALUES // max(1, n_units)))


def pooling(source: Source, layer: str, state: str) -> str:
    """What of a sample is its point: of a layer that goes forward in time its last state, which has seen all; else the mean over time."""
    values = source.values(layer, state, 0)
    looks_forward = source.layer(layer).kind in RECURRENT and DIRECTION not in values.coords and not state.endswith(".backward")
    return LAST if looks_forward else MEAN


def _projected(source: Source, layer: str, state: str) -> Projected:
    n_units = len(source.layer(layer).units_of(state))
    rows, pooled = drawn(source, n_units), pooling(source, layer, state)
    states, means = np.full((len(rows), n_units), np.nan), np.full((len(rows), n_units), np.nan, np.float32)
    for places, block in _blocks(source, layer, state, rows):
        means[places] = _pooled(block, MEAN)
        states[places] = _pooled(block, pooled)
    known = np.isfinite(states).all(axis=1)
    if known.sum() < 2:
        raise DataError(f"{'One sample has' if known.any() else 'No sample has'} states of '{layer}': a map needs two and more.")
    centre, axes, shares = _components(states[known])
    return Projected(rows[known], (states[known] - centre) @ axes, means[known], shares, pooled, centre, axes, len(rows))


def _components(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, two principal axes (unit, 2) and their shares of the variance; zeros where there is but one axis."""
    from sklearn.decomposition import PCA

    number = min(2, *states.shape)
    with np.errstate(invalid="ignore", divide="ignore"):  # states that are all alike have no variance to share
        fitted = PCA(number, svd_solver="covariance_eigh").fit(states)
    axes, shares = np.zeros((states.shape[1], 2)), np.zeros(2)
    axes[:, :number], shares[:number] = fitted.components_.T, np.nan_to_num(fitted.explained_variance_ratio_)
    return fitted.mean_, axes, shares


def _blocks(source: Source, layer: str, state: str, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Which of the rows, and their values (sample, time, unit), NaN after the end of each."""
    size = max(1, int(source.lengths.max())) * len(source.layer(layer).units_of(state))
    if isinstance(source, Recorded) or len(source) * size <= _LIVE_VALUES:
        taken = take_in(source.whole(layer, state))
        for part in taken.rows():
            start, stop = np.searchsorted(rows, [part.start, part.stop])
            if start < stop:
                yield slice(int(start), int(stop)), taken.block(part)[rows[start:stop] - part.start]
        return
    step = max(1, _LIVE_VALUES // (4 * size))
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        yield part, take_in(_of_some(source, layer, state, rows[part])).block(slice(None))


def _of_some(source: Source, layer: str, state: str, rows: np.ndarray) -> xr.DataArray:
    """What a live model's layer does in some samples."""
    inputs, scope = source.inputs()[rows], source.scope
    if scope is None:
        raise DataError("There is no live model.")
    found = scope.states(inputs, layer) if state else scope.activations(inputs, layer)
    return one_state(found, state) if isinstance(found, xr.Dataset) else plain(found)


def _pooled(block: np.ndarray, how: str) -> np.ndarray:
    """One state of each sample of a block (sample, time, unit): float64 array (sample, unit), NaN of a sample without any."""
    known = ~np.isnan(block).any(axis=2)
    counts = known.sum(axis=1)
    if how == LAST:
        last = block.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
        found = block[np.arange(len(block)), last].astype(float)
    else:
        found = np.where(known[:, :, np.newaxis], block, 0).sum(axis=1, dtype=float) / np.maximum(counts, 1)[:, np.newaxis]
    found[counts == 0] = np.nan
    return np.asarray(found)
