"""How far two attributions of one sequence agree on what counts more and what less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from seqscope.labelled import STEP, TIME

# Ranks of fewer values than this say nothing.
_LEAST = 3


@dataclass(frozen=True)
class Agreement:
    """A rank correlation, and what it is of.

    Attributes
    ----------
    value : float
        Spearman's coefficient, from -1 to 1.
    count : int
        The values that were ranked.
    of_steps : bool
        Whether each step's sum was ranked, in place of each value.
    of_sizes : bool
        Whether sizes were ranked, since one of the two has no sign.
    """

    value: float
    count: int
    of_steps: bool
    of_sizes: bool

    def __str__(self) -> str:
        what = "sums over each step" if self.of_steps else "values"
        sizes = ", of their sizes, since one of the two has no sign" if self.of_sizes else ""
        return f"{self.value:.2f} over {self.count} {what}{sizes}"


def agreement(first: xr.DataArray | xr.Dataset, second: xr.DataArray | xr.Dataset) -> Agreement | None:
    """Spearman's rank correlation of two attributions of one sequence; None where they share no clock, or one is the same everywhere.

    Values are compared one by one where both have the same dims; else the sums over channels or units, step by step. What has no value,
    such as padding, is left out.

    Parameters
    ----------
    first, second : DataArray or Dataset
        As `scope.attribute` gives them for one sequence; of a class activation map its `map`.

    References
    ----------
    Spearman 1904, "The Proof and Measurement of Association between Two Things".

    Examples
    --------
    >>> import xarray as xr
    >>> first = xr.DataArray([[0.1, -0.4], [0.9, 0.2]], dims=("time", "channel"))
    >>> print(agreement(first, 10 * first))
    1.00 over 4 values
    """
    arrays = [one if isinstance(one, xr.DataArray) else one["map"].assign_attrs(one.attrs | one["map"].attrs) for one in (first, second)]
    of_sizes = len({bool(array.attrs.get("signed", True)) for array in arrays}) == 2
    if of_sizes:
        arrays = [abs(array) for array in arrays]
    of_steps = set(arrays[0].dims) != set(arrays[1].dims)
    if of_steps:
        arrays = [array.sum([dim for dim in array.dims if dim not in (TIME, STEP)], min_count=1) for array in arrays]
    a, b = arrays
    if dict(a.sizes) != dict(b.sizes):
        return None
    ranked = np.stack([a.values.ravel(), b.transpose(*a.dims).values.ravel()]).astype(float)
    ranked = ranked[:, np.isfinite(ranked).all(0)]
    if ranked.shape[1] < _LEAST or (np.ptp(ranked, axis=1) == 0).any():
        return None
    from scipy.stats import spearmanr

    return Agreement(float(spearmanr(*ranked).statistic), ranked.shape[1], of_steps, of_sizes)
