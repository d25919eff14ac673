"""Attributions of many sequences and the classes that these belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.plot.attribution_parts import CLOCKS, TARGET, Attribution, drawn_of

# What says to which class each sample belongs: the name of a coordinate, or a label for each.
By = str | Sequence[Any] | np.ndarray | xr.DataArray


def samples_of(a: Attribution, *, one_will_do: bool = False) -> tuple[xr.DataArray, str]:
    """The attributions, (sample, time[, channel]), and the dim of their time, both with names for their steps.

    Raises
    ------
    DataError
        There are no samples or no time, or nothing but NaN.
    """
    array = drawn_of(a)
    if labelled.SAMPLE not in array.dims:
        if not one_will_do:
            raise DataError(
                f"The attribution has dims {array.dims}, that of one sequence: expected many, (sample, time, channel). One is drawn with "
                "plot.attribution."
            )
        array = array.expand_dims(labelled.SAMPLE)
    time = next((dim for dim in CLOCKS if dim in array.dims), None)
    if time is None:
        raise DataError(f"The attribution has dims {array.dims} and no time: expected (sample, time, channel) or (sample, time).")
    for dim in array.dims:
        array = array if dim in array.coords else array.assign_coords({dim: range(array.sizes[dim])})
    array = array.transpose(labelled.SAMPLE, time, ...)
    known = array.notnull().any([dim for dim in array.dims if dim != time]).values
    if not known.any():
        raise DataError("The attributions are all NaN: there is nothing to draw.")
    return array.isel({time: slice(int(np.flatnonzero(known)[-1]) + 1)}), time


def classes_of(array: xr.DataArray, by: By | None) -> tuple[list[Any], np.ndarray]:
    """The classes in order, and the place of each sample's among them.

    Raises
    ------
    DataError
        They are not known, or not as many as there are samples.
    """
    if by is None:
        known = [name for name in (labelled.LABEL, TARGET) if name in array.coords]
        if not known:
            raise DataError("The attributions have neither labels nor targets: say the class of each sample with by=.")
        by = known[0]
    if isinstance(by, str):
        if by not in array.coords or array.coords[by].dims != (labelled.SAMPLE,):
            raise DataError(f"The attributions have no coordinate {by!r} that says something of each sample: give by= a class for each.")
        by = array.coords[by]
    labels = _in_order(array, by)
    try:
        classes, numbers = np.unique(labels, return_inverse=True)
    except TypeError:  # of several kinds, as in "a" and 1
        classes, numbers = np.unique(labels.astype(str), return_inverse=True)
    return classes.tolist(), numbers


def _in_order(array: xr.DataArray, by: Any) -> np.ndarray:
    """A class for each sample: by the samples' ids where both have them, else in order."""
    n_samples = array.sizes[labelled.SAMPLE]
    labels = np.asarray(by)
    if labels.shape != (n_samples,):
        raise DataError(f"by= has shape {labels.shape} and there are {n_samples} samples: expected a class for each.")
    if isinstance(by, xr.DataArray) and labelled.SAMPLE in by.coords and by.dims == (labelled.SAMPLE,):
        ids, theirs = array.coords[labelled.SAMPLE].values.tolist(), by.coords[labelled.SAMPLE].values.tolist()
        if set(ids) != set(theirs):
            raise DataError("by= and the attributions are not of the same samples: their coordinates 'sample' differ.")
        return labels[[theirs.index(one) for one in ids]]
    return labels
