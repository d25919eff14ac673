"""Which of an array's dims is its clock."""

from __future__ import annotations

import xarray as xr

from seqscope import labelled
from seqscope.errors import DataError


def clock_of(array: xr.DataArray) -> str:
    """The dim along which time runs: `time`, or a layer's or output's own steps.

    Raises
    ------
    DataError
        There is none.
    """
    for dim in (labelled.TIME, labelled.STEP, labelled.OUTPUT_TIME):
        if dim in array.dims:
            return dim
    raise DataError(f"The array has dims {array.dims} and no time axis: expected 'time' or 'step'.")
