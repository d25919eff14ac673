"""Results for MATLAB: `.mat` of version 5, a struct for each array that says what its axes are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import xarray as xr

from seqscope import ram
from seqscope.errors import TooLargeError

# What a variable of version 5 may take, and how long a name may be.
_MOST_BYTES, _MOST_LETTERS = 2**31 - 1, 63


def write_mat(result: xr.DataArray | xr.Dataset | xr.DataTree, path: Path) -> None:
    """A struct for each array, under its name; of several layers, a struct for each layer that holds them.

    An array's struct has the fields `values`, `dims` (a cell array of names, an axis each), `coords` (a struct: what stands along them)
    and `attrs` (a struct: how it was made).

    Raises
    ------
    TooLargeError
        A variable would take more than the 2 GB that version 5 can hold.
    """
    if isinstance(result, xr.DataTree):
        held = _named({name: _structs(node.to_dataset()) for name, node in result.children.items()})
    else:
        held = _structs(result.to_dataset(name=result.name or "values", promote_attrs=True) if isinstance(result, xr.DataArray) else result)
    for name, value in held.items():
        if (size := _size(value)) > _MOST_BYTES:
            raise TooLargeError(
                f"A .mat file of version 5 holds 2 GB in a variable, and '{name}' would take {ram.in_words(size)}: write .nc or .zarr, "
                "or fewer layers or samples."
            )
    scipy.io.savemat(path, held, long_field_names=True, do_compression=True, oned_as="column")


def _structs(data: xr.Dataset) -> dict[str, Any]:
    """A struct for each array, and for each coordinate that no array has."""
    alone = {name: coord for name, coord in data.coords.items() if not any(name in array.coords for array in data.data_vars.values())}
    return _named(
        {
            name: {
                "values": _values(array.values),
                "dims": _cells(array.dims),
                "coords": _named({place: _values(coord.values) for place, coord in array.coords.items()}),
                "attrs": _named({what: _attribute(said) for what, said in (data.attrs | array.attrs).items()}),
            }
            for name, array in (dict(data.data_vars) | alone).items()
        }
    )


def _named(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Values under names that MATLAB takes: "rnn.0" is "rnn_0"."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        plain = re.sub(r"\W", "_", str(name), flags=re.ASCII)
        plain = (plain if plain[:1].isalpha() else f"x{plain}")[:_MOST_LETTERS]
        while plain in made:
            plain = f"{plain[: _MOST_LETTERS - 1]}_"
        made[plain] = value
    return made


def _values(array: np.ndarray) -> np.ndarray:
    """An array in a type that MATLAB has: text in cells, times as text or seconds."""
    kind = array.dtype.kind
    if kind == "M":
        return _cells(np.datetime_as_string(array))
    if kind == "m":
        return array / np.timedelta64(1, "s")
    if kind in "UOST":
        return _cells(array)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _cells(texts: Any) -> np.ndarray:
    """A cell array of texts; a single one as it is."""
    listed = np.asarray(texts if isinstance(texts, np.ndarray) else [*texts])
    made = np.empty(listed.shape, object)
    made.flat[:] = [str(text) for text in listed.flat]
    return made


def _attribute(said: Any) -> Any:
    """A text or number as it is, several as an array or as cells."""
    return _values(np.asarray(said)) if isinstance(said, Iterable) and not isinstance(said, str) else said


def _size(value: Any) -> int:
    """Bytes of all arrays within, before they are compressed."""
    return sum(map(_size, value.values())) if isinstance(value, dict) else int(getattr(value, "nbytes", 0))
