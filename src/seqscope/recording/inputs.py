"""The inputs of a recording, as the data set that they were: Sequences whose values stay in the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from seqscope.clock import Clock
from seqscope.errors import DataError
from seqscope.files.labelled_files import SamplesInFile
from seqscope.flat import Flat
from seqscope.labelled import CHANNEL, SAMPLE, TIME, TIMESTAMP
from seqscope.sequences import Sequences
from seqscope.stored import Stored


def sequences_of(
    array: xr.DataArray, *, lengths: np.ndarray, labels: np.ndarray | None, said: Mapping[str, Any], name: str, place: str
) -> Sequences:
    """Sequences out of the array that they were written as.

    Parameters
    ----------
    array : DataArray (sample, time, channel), or (sample, time) of tokens
        The tokens are read, as nothing else is.
    lengths : int array (sample,)
    labels : array (sample,), optional
    said : dict
        What is said of the recording.
    name : str
        What messages call it.
    place : str
        Its folder, or its address.

    Raises
    ------
    DataError
        Tokens are not there (yet).
    """
    n_samples, longest = array.shape[:2]
    read = _Inputs(SamplesInFile(array, array.dtype), name, n_samples, place)
    is_series = CHANNEL in array.dims
    token_type = array.attrs.get("token_type", array.dtype)
    flat = Flat(
        Stored(read, (n_samples, longest, array.shape[-1]), array.dtype) if is_series else read(slice(None)).reshape(-1).astype(token_type),
        np.arange(n_samples, dtype=np.int64) * longest,
        lengths.astype(np.int64),
        bool(said["single"]),
        array.coords[CHANNEL].values.tolist() if is_series else None,
        array.coords[SAMPLE].values,
        labels,
        list(said["outputs"]) or None,
        _clock(array, lengths, said.get("time_units", "")),
        room=np.full(n_samples, longest, np.int64),
        is_finite=True,
    )
    return Sequences(_Whole(flat))


class _Inputs:
    """Reads inputs, all of which are finite: what was never written, or is lost, is told from what is there.

    Parameters
    ----------
    read : SamplesInFile
    name : str
        Of the recording.
    n_samples : int
    place : str
    """

    def __init__(self, read: SamplesInFile, name: str, n_samples: int, place: str) -> None:
        self._read, self._name, self._n_samples, self.place = read, name, n_samples, place

    def __call__(self, samples: Any) -> np.ndarray:
        """The samples at a slice, or at an int array.

        Raises
        ------
        DataError
            Some of them are not there.
        """
        values = self._read(samples)
        first = values[:, 0].reshape(len(values), -1)[:, 0]
        missing = np.isnan(first) if values.dtype.kind == "f" else first == -1
        if missing.any():
            place = int(np.arange(self._n_samples)[samples][missing][0])
            raise DataError(f"The inputs of sample {place} are not in '{self._name}': not yet, or not any more (recording.verify() tells).")
        return values


class _Whole:
    """Sequences in flat form, for `Sequences` to take in."""

    def __init__(self, flat: Flat) -> None:
        self._flat = flat

    def to_flat(self) -> Flat:
        """As it is."""
        return self._flat


def _clock(array: xr.DataArray, lengths: np.ndarray, units: str) -> Clock:
    """The input's clock, from the coordinates that it was written as."""
    if TIMESTAMP in array.coords:
        return Clock.of([stamps[:length] for stamps, length in zip(array.coords[TIMESTAMP].values, lengths, strict=True)], units)
    time = array.coords[TIME].values
    return Clock() if not units and time.dtype.kind in "iu" and np.array_equal(time, np.arange(len(time))) else Clock(time, None, units)
