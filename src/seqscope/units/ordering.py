"""Units put in an order for a picture."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from scipy.cluster import hierarchy

from seqscope.errors import DataError, quoted
from seqscope.units.clocks import clock_of

_ORDERS = ("peak", "cluster")


def order(activations: xr.DataArray, by: Literal["peak", "cluster"]) -> np.ndarray:
    """Put units that do alike at like times next to each other.

    Parameters
    ----------
    activations : DataArray (time, unit)
        One sequence; `step` in place of `time` will do.
    by : {"peak", "cluster"}
        "peak": by the time at which a unit is farthest from zero. "cluster": by average linkage of the correlation distance, leaves
        ordered so that neighbours are near (Bar-Joseph et al. 2001, "Fast optimal leaf ordering for hierarchical clustering").

    Returns
    -------
    int array (unit,)
        Positions, for `activations.isel(unit=...)`.

    Raises
    ------
    DataError
        The array has other dims, or the order is not known.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X[0], "lstm")
    >>> order(hidden, "peak").shape
    (100,)
    """
    if by not in _ORDERS:
        raise DataError(f"Units can't be sorted by {by!r}: say one of {quoted(_ORDERS)}.")
    time = clock_of(activations)
    others = [dim for dim in activations.dims if dim != time]
    if len(others) != 1:
        raise DataError(f"Units are sorted in one sequence, (time, unit): the array has dims {activations.dims}.")
    values = activations.dropna(time, how="all").transpose(others[0], time).values.astype(float)
    if by == "peak":
        return np.argsort(np.nanargmax(np.abs(values), axis=1), kind="stable")
    return _leaves(values)


def _leaves(values: np.ndarray) -> np.ndarray:
    """The leaves of a tree over the rows. A unit that never moves has no correlation: such units go last."""
    moves = np.ptp(values, axis=1) > 0
    moving, still = np.flatnonzero(moves), np.flatnonzero(~moves)
    if len(moving) < 3:
        return np.concatenate([moving, still])
    distances = np.clip(1 - np.corrcoef(values[moving]), 0, 2)[np.triu_indices(len(moving), 1)]
    tree = hierarchy.linkage(distances, "average", optimal_ordering=len(moving) <= 1000)
    return np.concatenate([moving[hierarchy.leaves_list(tree)], still])
