"""Results with all their names: `.nc`, `.zarr` and `.npz`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr


def write_netcdf(result: xr.DataArray | xr.Dataset | xr.DataTree, path: Path) -> None:
    """NetCDF 4; several layers are groups."""
    result.to_netcdf(path, engine="h5netcdf")


def write_zarr(result: xr.DataArray | xr.Dataset | xr.DataTree, path: Path) -> None:
    """A Zarr store of version 3, a folder; several layers are groups."""
    from seqscope.recording.skeleton import no_warnings

    made: xr.Dataset | xr.DataTree
    if isinstance(result, xr.DataTree):
        made = xr.DataTree.from_dict({node.path: _with_text(node.to_dataset(inherit=False)) for node in result.subtree})
    elif isinstance(result, xr.Dataset):
        made = _with_text(result)
    else:
        made = _with_text(result.to_dataset(name=result.name or "values", promote_attrs=True))
    with no_warnings():
        made.to_zarr(path, mode="w", consolidated=True, zarr_format=3)


def _with_text(data: xr.Dataset) -> xr.Dataset:
    """Text in the one type that version 3 of Zarr specifies for it."""
    text = {name: variable for name, variable in data.variables.items() if variable.dtype.kind in "UO"}
    return data.assign({name: (one.dims, one.values.astype(np.dtypes.StringDType()), one.attrs) for name, one in text.items()})


def write_npz(result: xr.DataArray | xr.Dataset | xr.DataTree, path: Path) -> None:
    """Values under the layer's name (or the array's), coordinates under theirs; a tree's as "layer/coordinate"."""
    if isinstance(result, xr.DataTree):
        nodes = {node.path.strip("/"): node.to_dataset(inherit=False) for node in result.subtree}
    else:
        nodes = {"": result.to_dataset() if isinstance(result, xr.DataArray) else result}
    arrays = {f"{place}/{name}".strip("/"): variable.values for place, data in nodes.items() for name, variable in data.variables.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
