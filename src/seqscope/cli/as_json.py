"""Results as JSON, in the form that xarray's `from_dict` takes back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from seqscope import files

# Values that are written; of more, their sizes and extremes.
MOST = 100_000


def as_json(result: files.Result) -> dict[str, Any]:
    """A result as dicts, lists, numbers and text. Of many values there is only what they are; NaN is None.

    Examples
    --------
    >>> as_json(xr.DataArray([0.5, float("nan")], dims="time", name="h"))["data"]
    [0.5, None]
    """
    if isinstance(result, xr.DataTree):
        whole = sum(array.size for node in result.subtree for array in node.data_vars.values()) <= MOST
        return {
            "attrs": plain(result.attrs),
            "layers": {name: _one(node.to_dataset(), whole=whole) for name, node in result.children.items()},
        }
    size = result.size if isinstance(result, xr.DataArray) else sum(array.size for array in result.data_vars.values())
    return _one(result, whole=size <= MOST)


def _one(result: xr.DataArray | xr.Dataset, *, whole: bool) -> dict[str, Any]:
    made = result.to_dict(data="list" if whole else False)
    if not whole:
        made["coords"] = {name: coord.to_dict() for name, coord in result.coords.items()}
        if isinstance(result, xr.DataArray):
            made |= _extremes(result)
        else:
            for name, array in result.data_vars.items():
                made["data_vars"][name] |= _extremes(array)
    told: dict[str, Any] = plain({"sizes": dict(result.sizes)} | made)
    return told


def _extremes(array: xr.DataArray) -> dict[str, Any]:
    """What can be said of values that are too many to be listed."""
    if array.dtype.kind not in "iufb":
        return {}
    return {"lowest": array.min().item(), "mean": array.mean().item(), "highest": array.max().item()}


def plain(value: Any) -> Any:
    """A value in JSON's types: NaN is None, infinity and times are text."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "Mm":
        return plain(value.astype(str).tolist())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
