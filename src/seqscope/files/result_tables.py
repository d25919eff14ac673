"""Results as tables: a row for each value or each step, for `.csv` and `.parquet`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import xarray as xr

from seqscope import labelled
from seqscope.errors import UnsupportedError

# What tells the rows of a table apart.
_ROWS = (labelled.SAMPLE, labelled.CALL, labelled.TIME, labelled.STEP)


def table_of(result: xr.DataArray | xr.Dataset | xr.DataTree) -> pd.DataFrame:
    """A result as a table, without padding: of one array a row a value; of several a row a step, a column for each array and unit.

    Raises
    ------
    UnsupportedError
        It is of several layers.
    """
    one = check_is_one(result)
    if isinstance(one, xr.Dataset):
        return _wide(one)
    name = str(one.name)
    return one.to_dataframe(name=name).dropna(subset=name).reset_index()


def check_is_one(result: xr.DataArray | xr.Dataset | xr.DataTree) -> xr.DataArray | xr.Dataset:
    """Refuse several layers, which no table holds.

    Raises
    ------
    UnsupportedError
    """
    if isinstance(result, xr.DataTree):
        raise UnsupportedError("A table holds one layer: name it with --layer, or write .nc, .zarr, .npz or .mat.")
    return result


def write_csv(result: xr.DataArray | xr.Dataset | xr.DataTree, place: Path | TextIO) -> None:
    """Text, with commas between."""
    table_of(result).to_csv(place, index=False)


def write_parquet(result: xr.DataArray | xr.Dataset | xr.DataTree, path: Path) -> None:
    """The same columns, each with its type."""
    table_of(result).to_parquet(path, engine="pyarrow", index=False)


def _wide(result: xr.Dataset) -> pd.DataFrame:
    """A row for each sample and step, a column for each array and unit: "c_17", "c_backward_17"; of figures by unit, a row for each."""
    rows = [dim for dim in _ROWS if dim in result.dims] or _first_dim(result)
    columns: dict[str, np.ndarray] = {}
    for name, array in result.data_vars.items():
        across = [dim for dim in array.dims if dim not in rows]
        labels = itertools.product(*(array[dim].values.tolist() for dim in across))
        in_each_row = array.expand_dims({dim: result.sizes[dim] for dim in rows if dim not in array.dims})
        values = in_each_row.transpose(*rows, *across).values.reshape(np.prod([result.sizes[dim] for dim in rows], dtype=int), -1)
        columns |= {"_".join(map(str, (name, *label))): column for label, column in zip(labels, values.T, strict=True)}
    known = {name: coord for name, coord in result.coords.items() if set(coord.dims) <= set(rows)}
    places = xr.Dataset(coords=known).to_dataframe(dim_order=rows).reset_index()
    return pd.concat([places, pd.DataFrame(columns)], axis=1).dropna(subset=list(columns), how="all")


def _first_dim(result: xr.Dataset) -> list[str]:
    """What figures are by: units, else whatever the first array is by."""
    arrays = list(result.data_vars.values())
    return [labelled.UNIT] if any(labelled.UNIT in array.dims for array in arrays) else [str(dim) for dim in arrays[0].dims[:1]]
