"""The values of one layer at each step, which commands about units start from."""

from __future__ import annotations

import xarray as xr

from seqscope import files
from seqscope.errors import UnsupportedError, quoted
from seqscope.labelled import STEP, TIME, UNIT


def of_one_layer(found: files.Result, layer: str) -> xr.DataArray:
    """What was read, once it is that of one layer and has units and steps.

    Raises
    ------
    UnsupportedError
    """
    if not isinstance(found, xr.DataArray):
        raise UnsupportedError(f"'{layer}' stands for several layers, {quoted(found.children)}: name one with --layer.")
    if not {TIME, STEP} & set(found.dims) or UNIT not in found.dims:
        raise UnsupportedError(
            f"'{layer}' has no units with a value at each step, but the dims {quoted(map(str, found.dims))}: name another with --layer."
        )
    return found
