"""Results in files: the ending says the form."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import UnsupportedError, quoted, require
from seqscope.files.result_places import all_or_none, check_output

# What a verb of a scope gives: one array of a layer, several, or several layers.
Result = xr.DataArray | xr.Dataset | xr.DataTree


@dataclass(frozen=True)
class _Form:
    """A form of results: its writer (module and function, imported when it is needed), and the package and the extra that it needs."""

    writer: str
    package: str = ""
    extra: str = ""


_FORMS: dict[str, _Form] = {
    ".nc": _Form("result_labelled:write_netcdf"),
    ".zarr": _Form("result_labelled:write_zarr", "zarr", "record"),
    ".npz": _Form("result_labelled:write_npz"),
    ".csv": _Form("result_tables:write_csv"),
    ".parquet": _Form("result_tables:write_parquet", "pyarrow", "parquet"),
    ".mat": _Form("result_matlab:write_mat"),
}

RESULTS = tuple(_FORMS)
PICTURES = (".png", ".svg", ".pdf")
_TABLES = (".csv", ".parquet")


def check_picture(path: Path) -> None:
    """Make sure that pictures can be written in the form that a file's ending names.

    Raises
    ------
    UnsupportedError
        They can't.
    """
    if not is_picture(path):
        raise UnsupportedError(f"A picture can't be written as '{path.suffix or path.name}': expected an ending out of {quoted(PICTURES)}.")


def is_picture(path: Path) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.suffix.lower() in PICTURES


def is_table(path: Path) -> bool:
    """Whether a file's ending is that of a table: one layer, a row for each value or step."""
    return path.suffix.lower() in _TABLES


def write_result(result: Result, path: Path, *, force: bool = False) -> None:
    """Write a result in the form that the file's ending names.

    `.nc`, `.zarr` hold everything, `.npz` the arrays, `.mat` structs of MATLAB, `.csv` and `.parquet` a table. The file is written under
    another name and moved into place, so that a failure leaves no half of it.

    Raises
    ------
    OutputExistsError
        The file is there already, and `force` was not said.
    UnsupportedError
        The ending is not known, or that form can't hold several layers.
    MissingPackageError
        A package that writes this form is not installed.
    TooLargeError
        The form can't hold so much.

    Examples
    --------
    >>> import tempfile
    >>> hidden = xr.DataArray([[0.5, 1.0]], dims=("time", "unit"), coords={"unit": [0, 1]}, name="activations")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_result(hidden, Path(folder, "hidden.csv"))
    ...     Path(folder, "hidden.csv").read_text().splitlines()[-1]
    '0,1,1.0'
    """
    writer = writer_for(path)
    check_output(path, force=force)
    with all_or_none([path]) as (made,):
        writer(result, made)


def writer_for(path: Path) -> Callable[[Result, Path], None]:
    """The writer for a file's ending.

    Raises
    ------
    UnsupportedError
        The ending is not known.
    MissingPackageError
        A package that it needs is not installed.
    """
    ending = path.suffix.lower()
    form = _FORMS.get(ending)
    if form is None:
        raise UnsupportedError(f"A result can't be written as '{path.suffix or path.name}': expected an ending out of {quoted(RESULTS)}.")
    if form.package:
        require(form.package, extra=form.extra, purpose=f"Writing {ending} files")
    module, _, name = form.writer.partition(":")
    writer: Callable[[Result, Path], None] = getattr(importlib.import_module(f"seqscope.files.{module}"), name)
    return lambda result, place: writer(_without_objects(result), place)


def _without_objects(result: Result) -> Result:
    """The same with names of several kinds (1, "a") as text, which every form can hold."""
    if isinstance(result, xr.DataTree):
        nodes = {node.path: node.to_dataset(inherit=False) for node in result.subtree}
        return xr.DataTree.from_dict({path: data.assign(_as_text(data)) for path, data in nodes.items()})
    if isinstance(result, xr.DataArray):
        return result.assign_coords(_as_text(result.coords.to_dataset()))
    return result.assign(_as_text(result))


def _as_text(data: xr.Dataset) -> dict[Any, Any]:
    """Those variables that hold objects, as text."""
    objects = {name: one for name, one in data.variables.items() if one.dtype.kind == "O"}
    texts = {name: ["" if value is None else str(value) for value in one.values.flat] for name, one in objects.items()}
    return {name: (one.dims, np.array(texts[name], str).reshape(one.shape), one.attrs) for name, one in objects.items()}
