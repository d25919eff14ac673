"""Results in files."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from seqscope import labelled
from seqscope.errors import DataError, OutputExistsError, UnsupportedError, quoted

# What a verb of a scope gives: one array of a layer, several, or several layers.
Result = xr.DataArray | xr.Dataset | xr.DataTree

_PICTURES = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Make sure that pictures can be written in the form that a file's ending names.

    Raises
    ------
    UnsupportedError
        They can't.
    """
    if path.suffix.lower() not in _PICTURES:
        raise UnsupportedError(
            f"A picture can't be written as '{path.suffix or path.name}': expected an ending out of {quoted(_PICTURES)}."
        )


def is_picture(path: Path) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.suffix.lower() in _PICTURES


def check_output(path: Path, *, force: bool) -> Path:
    """Make sure that a file can be written, before the work begins.

    Raises
    ------
    OutputExistsError
        It is there already, and `force` was not said.
    DataError
        Its folder is not there.
    """
    if path.exists() and not force:
        raise OutputExistsError(f"'{path}' exists: say --force to write over it, or name another file.")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder '{path.parent}' to write '{path.name}' into.")
    return path


def write_result(result: Result, path: Path, *, force: bool = False) -> None:
    """Write a result in the form that the file's ending names: `.nc` (everything), `.npz` (arrays), `.csv` (a table).

    The file is written under another name and moved into place, so that a failure leaves no half of it.

    Raises
    ------
    OutputExistsError
        The file is there already, and `force` was not said.
    UnsupportedError
        The ending is not known, or that form can't hold several layers.
    """
    writer = writer_for(path)
    check_output(path, force=force)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".seqscope-") as folder:
        made = Path(folder) / path.name
        writer(result, made)
        made.replace(path)


def writer_for(path: Path) -> Callable[[Result, Path], None]:
    """The writer for a file's ending.

    Raises
    ------
    UnsupportedError
        The ending is not known.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UnsupportedError(f"A result can't be written as '{path.suffix or path.name}': expected an ending out of {quoted(_WRITERS)}.")
    return writer


def _write_netcdf(result: Result, path: Path) -> None:
    result.to_netcdf(path, engine="h5netcdf")


def _write_npz(result: Result, path: Path) -> None:
    """Values under the layer's name (or the array's), coordinates under theirs; a tree's as "layer/coordinate"."""
    if isinstance(result, xr.DataTree):
        nodes = {node.path.strip("/"): node.to_dataset(inherit=False) for node in result.subtree}
    else:
        nodes = {"": result.to_dataset() if isinstance(result, xr.DataArray) else result}
    arrays = {f"{place}/{name}".strip("/"): variable.values for place, data in nodes.items() for name, variable in data.variables.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _write_csv(result: Result, path: Path) -> None:
    """Without padding: one row a value; of several arrays, one row a step."""
    if isinstance(result, xr.DataTree):
        raise UnsupportedError("A .csv file holds one layer: name it with --layer, or write .nc or .npz.")
    if isinstance(result, xr.Dataset):
        _wide(result).to_csv(path, index=False)
    else:
        result.to_dataframe(name=str(result.name)).dropna(subset=str(result.name)).reset_index().to_csv(path, index=False)


def _wide(result: xr.Dataset) -> pd.DataFrame:
    """A row for each sample and step, a column for each array and unit: "c_17", "c_backward_17"; of figures by unit, a row for each."""
    rows = [dim for dim in _ROWS if dim in result.dims] or [labelled.UNIT]
    columns: dict[str, np.ndarray] = {}
    for name, array in result.data_vars.items():
        across = [dim for dim in array.dims if dim not in rows]
        labels = itertools.product(*(array.coords[dim].values.tolist() for dim in across))
        values = array.transpose(*rows, *across).values.reshape(np.prod([result.sizes[dim] for dim in rows], dtype=int), -1)
        columns |= {"_".join(map(str, (name, *label))): column for label, column in zip(labels, values.T, strict=True)}
    known = {name: coord for name, coord in result.coords.items() if set(coord.dims) <= set(rows)}
    places = xr.Dataset(coords=known).to_dataframe(dim_order=rows).reset_index()
    return pd.concat([places, pd.DataFrame(columns)], axis=1).dropna(subset=list(columns), how="all")


# What tells the rows of a table apart.
_ROWS = (labelled.SAMPLE, labelled.CALL, labelled.TIME, labelled.STEP)

_WRITERS: dict[str, Callable[[Result, Path], None]] = {
    ".nc": _write_netcdf,
    ".npz": _write_npz,
    ".csv": _write_csv,
}
