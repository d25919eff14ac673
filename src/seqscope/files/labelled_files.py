"""Files whose axes have names: `.nc` (NetCDF) and `.zarr`, left where they are when they are large."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from seqscope import labelled, ram
from seqscope.errors import DataError, nearest, require
from seqscope.files.found import Found, Options, choose
from seqscope.flat import Flat, from_stored
from seqscope.inflation import objection_to_hdf5
from seqscope.intake import take_names
from seqscope.sniff import is_recording
from seqscope.stored import Stored

# What is smaller is read at once: it is quicker, and does not change when the file does.
LARGE = 256_000_000

_AXES = (labelled.SAMPLE, labelled.TIME, labelled.CHANNEL)
_MOST_METADATA = 2**24
# A store may declare so many bytes in any case, and so many times what it has: zeros are made about 1,000 times smaller.
_FREE_BYTES, _TIMES = 2**30, 2000


def read_netcdf(path: Path, asked: Options) -> Found:
    """A variable with the dims sample, time and channel; of NetCDF 4 (HDF5), or of NetCDF 3."""
    with path.open("rb") as file:
        is_classic = file.read(3) == b"CDF"
    if not is_classic and (objection := objection_to_hdf5(path, path.stat().st_size)) is not None:
        raise DataError(f"it {objection}")
    return _chosen(xr.open_dataset(path.absolute(), engine="scipy" if is_classic else "h5netcdf", decode_timedelta=False), asked)


def read_zarr(path: Path, asked: Options) -> Found:
    """The same of a Zarr store, a folder; of a recording its inputs."""
    require("zarr", extra="record", purpose="Reading .zarr stores")
    if is_recording(path):
        return _recorded(path, asked)
    _check_store(path)
    return _chosen(xr.open_zarr(path.absolute(), chunks=None, consolidated=False, decode_timedelta=False), asked)


def _recorded(path: Path, asked: Options) -> Found:
    """The inputs of a recording, with its labels."""
    from seqscope.recording.reading import open_recording

    if asked.x is not None or asked.y:
        raise DataError("it is a recording, whose inputs are read with their labels: leave x= and y= out")
    inputs = open_recording(path).inputs[:]
    inputs.labels = inputs.labels if asked.y is None else None
    return Found(inputs)


def _check_store(path: Path) -> None:
    """Refuse a store before it is opened: one that pickles, since its codecs would run code, and one that declares far more than it has.

    What is not there is read as the fill value, so that a few bytes may declare any size.
    """
    declared = 0
    for place in (found for name in (".zarray", ".zmetadata", "zarr.json") for found in path.rglob(name)):
        if place.stat().st_size > _MOST_METADATA:
            raise DataError(f"its '{place.relative_to(path)}' is larger than what describes an array")
        text = place.read_text(encoding="utf-8")
        if "pickle" in text:
            raise DataError(f"its '{place.relative_to(path)}' says that values are pickled, and to unpickle them would run code")
        declared += 8 * math.prod(json.loads(text).get("shape", [0]))
    if declared > _FREE_BYTES:
        stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if declared > _TIMES * stored:
            raise DataError(f"it declares up to {ram.in_words(declared)}, and {ram.in_words(stored)} are there")


def _chosen(data: xr.Dataset, asked: Options) -> Found:
    if asked.x is not None and asked.x not in data.variables:
        raise DataError(f"it holds no {asked.x!r} (x=): {nearest(asked.x, map(str, data.data_vars))}")
    likely = [str(name) for name, array in data.data_vars.items() if labelled.TIME in array.dims and array.dtype.kind in "fiub"]
    if not likely and asked.x is None:
        held = ", ".join(f"'{name}' {tuple(map(str, array.dims))}" for name, array in list(data.data_vars.items())[:12])
        raise DataError(f"it holds {held or 'no variable'}, and none has a dim 'time': rename yours, as data.rename({{'old': 'time'}})")
    names = [str(name) for name in data.variables]
    chosen = choose(names, asked, likely=likely)
    array = data[chosen.series]
    known: dict[str, Any] = {}
    if chosen.labels is not None and data[chosen.labels].dims == (labelled.SAMPLE,):
        known["labels"] = _label_values(data[chosen.labels])
    elif asked.y:
        raise DataError(f"its {asked.y!r} has the dims {tuple(map(str, data[asked.y].dims))}: labels have the dim 'sample' alone")
    if _is_left(array):
        return Found(_Left(array), known)
    ram.check_fits(3 * array.nbytes, f"its {chosen.series!r}, with copies,", instead="read a part of it with xarray")
    return Found(array.load(), known)


def _label_values(array: xr.DataArray) -> np.ndarray:
    return array.values.astype(str) if array.dtype.kind == "O" else array.values


def _is_left(array: xr.DataArray) -> bool:
    return array.nbytes > LARGE and set(array.dims) == set(_AXES) and array.dtype.kind == "f"


class SamplesInFile:
    """Reads samples of an array that lies in a file; without its coordinates, so that little is pickled with it."""

    def __init__(self, array: xr.DataArray, dtype: np.dtype[Any]) -> None:
        self._variable, self._dtype = array.variable, dtype
        self.place = str(array.encoding.get("source", ""))

    def __call__(self, samples: Any) -> np.ndarray:
        """The samples at a slice, or at an int array, as floats."""
        try:
            values: np.ndarray = self._variable.isel({labelled.SAMPLE: samples}).values
        except OSError as error:
            raise DataError(f"The file '{self.place}', where these sequences lie, can't be read here: {error}") from error
        return values.astype(self._dtype, copy=False)


class _Left:
    """A labelled array that is read as it is asked for: what Sequences takes in."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array.transpose(*_AXES)

    def to_flat(self) -> Flat:
        """The names and the clock, and the values left where they are."""
        array, dtype = self._array, self._array.dtype.newbyteorder("=")
        n_samples, n_steps, n_channels = array.shape
        flat = from_stored(Stored(SamplesInFile(array, dtype), (n_samples, n_steps, n_channels), dtype))
        take_names(flat, array)
        return flat
