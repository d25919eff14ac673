"""Coordinates on their way into a store and back: text, mixed values and dates, which Zarr v3 has no type for that NumPy has too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.coders import CFDatetimeCoder, CFTimedeltaCoder

from seqscope.errors import DataError

# Under which name a column says what it was: dates by their type; "json" where values of several kinds stand in it as text.
_GIVEN, _MIXED = "given_as", "json"
# Where units stand that xarray would take for those of dates ("seconds since the start").
_UNITS = "units_of_numbers"
_PLAIN = str | int | float | bool | None


def check(columns: Mapping[str, Any]) -> None:
    """Refuse what could not be read back as it is.

    Raises
    ------
    DataError
        A column holds something else than numbers, text and dates.
    """
    for name, column in columns.items():
        values = np.asarray(column)
        wrong = values.ravel()[:1].tolist() if values.dtype.kind not in "iufbUTOMm" else []
        if values.dtype.kind == "O":
            wrong = [value for value in map(_item, values.ravel()) if not isinstance(value, _PLAIN)][:1]
        if wrong:
            raise DataError(
                f"The {name}s hold {wrong[0]!r} ({type(wrong[0]).__name__}): a store takes numbers, text and dates, give one of these."
            )


def as_stored(data: xr.Dataset) -> xr.Dataset:
    """Text in the type that Zarr v3 has for it; values of several kinds as JSON, each; dates say what they were."""
    made = data.copy()
    for name, variable in data.variables.items():
        values, said = variable.values, dict(variable.attrs)
        if variable.dtype.kind in "Mm":
            made[name] = (variable.dims, values, said | {_GIVEN: variable.dtype.name})
        elif variable.dtype.kind == "O" and not all(isinstance(value, str) for value in values.flat):
            mixed = np.array([json.dumps(_item(value), ensure_ascii=False) for value in values.flat], np.dtypes.StringDType())
            made[name] = (variable.dims, mixed.reshape(values.shape), said | {_GIVEN: _MIXED})
        elif variable.dtype.kind in "UO":
            made[name] = (variable.dims, values.astype(str).astype(np.dtypes.StringDType()), said)
        elif "since" in str(said.get("units", "")):
            made[name] = (variable.dims, values, {_UNITS if key == "units" else key: value for key, value in said.items()})
    return made


def as_given(data: xr.Dataset) -> xr.Dataset:
    """Columns as NumPy has them everywhere else, of data that was read without making dates of anything."""
    made = {
        name: _given(str(name), variable)
        for name, variable in data.variables.items()
        if variable.dtype.kind in "TO" or not {_GIVEN, _UNITS}.isdisjoint(variable.attrs)
    }
    coords = {name: variable for name, variable in made.items() if name in data.coords}
    return data.assign_coords(coords).assign({name: variable for name, variable in made.items() if name not in coords})


def _given(name: str, variable: xr.Variable) -> xr.Variable:
    attrs = {"units" if key == _UNITS else key: value for key, value in variable.attrs.items() if key != _GIVEN}
    given = variable.attrs.get(_GIVEN)
    if _UNITS in variable.attrs:
        return xr.Variable(variable.dims, variable._data, attrs)
    if given is None:
        return xr.Variable(variable.dims, np.array(variable.values.tolist(), str), attrs)
    if given == _MIXED:
        values = np.empty(variable.shape, object)
        values.flat[:] = [json.loads(text) for text in variable.values.flat]
        return xr.Variable(variable.dims, values, attrs)
    unit: Any = np.datetime_data(np.dtype(given))[0]
    stored = xr.Variable(variable.dims, variable._data, attrs, variable.encoding)  # lazy: nothing is read yet
    decoded: xr.Variable = xr.conventions.decode_cf_variable(
        name, stored, decode_times=CFDatetimeCoder(time_unit=unit), decode_timedelta=CFTimedeltaCoder(time_unit=unit)
    )
    return decoded


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
