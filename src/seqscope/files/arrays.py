"""NumPy's files: `.npy`, mapped into memory, and `.npz`, whose sizes are checked before anything is inflated."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from seqscope import ram
from seqscope.errors import DataError
from seqscope.files.found import Found, Options, choose, laid_out, with_labels

# Deflate makes zeros about 1,000 times smaller, and data that somebody measured seldom ten times. So much is let through in any case.
_TIMES, _FREE_BYTES = 400, 2**30
_PICKLED = "is of dtype object, which is pickled and would run code: save floats, padded or with lengths"


def read_npy(path: Path, asked: Options) -> Found:
    """One array, which stays in its file until it is asked for."""
    with path.open("rb") as file:
        shape, dtype = _header(file, "array")
        expected, there = _bytes_of(shape, dtype), path.stat().st_size - file.tell()
    if dtype.hasobject:
        raise DataError(f"it {_PICKLED}")
    if expected > there:
        raise DataError(f"it is cut short: {ram.in_words(expected)} of values were expected and it has {ram.in_words(there)}")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.kind not in "f" and not (array.dtype.kind in "iu" and array.ndim < 3):  # it will be copied, as floats
        ram.check_fits(array.size * 8, f"its {array.dtype} values, as floats,", instead="save it as float32")
    return Found(laid_out(array, asked.layout))


def read_npz(path: Path, asked: Options) -> Found:
    """Several arrays, the series, labels and lengths among them by their names."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        chosen = choose(list(entries), asked)
        wanted = [name for name in (chosen.series, chosen.labels, chosen.lengths) if name is not None]
        for name in wanted:
            _check_size(entries[name], name)
        arrays = {name: _array(archive, entries[name], name) for name in wanted}
    data = arrays[chosen.series]
    lengths = None if chosen.lengths is None else arrays[chosen.lengths]
    if lengths is not None and data.ndim == 2 and data.dtype.kind == "f":
        return _labelled(Found(_split(data, lengths)), arrays, chosen.labels, len(lengths), asked)
    found = Found(laid_out(data, asked.layout), {} if lengths is None else {"lengths": lengths})
    return _labelled(found, arrays, chosen.labels, len(found.data) if found.data.ndim > 2 or data.dtype.kind in "iu" else 1, asked)


def _labelled(found: Found, arrays: dict[str, np.ndarray], name: str | None, n_samples: int, asked: Options) -> Found:
    if name is None:
        return found
    return Found(found.data, with_labels(found.known, arrays[name], name, n_samples, said=asked.y is not None))


def _split(steps: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """The sequences, of all steps one after the other."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 1).any():
        raise DataError(f"its lengths ({lengths.dtype}, shape {lengths.shape}) are not whole numbers from 1 on, one for each sequence")
    if lengths.sum() != len(steps):
        raise DataError(f"its lengths add up to {lengths.sum()} and it holds {len(steps)} steps")
    return np.split(steps, np.cumsum(lengths)[:-1])


def _check_size(entry: zipfile.ZipInfo, name: str) -> None:
    if entry.file_size > max(_FREE_BYTES, _TIMES * entry.compress_size):
        raise DataError(
            f"its {name!r} declares {ram.in_words(entry.file_size)} in {ram.in_words(entry.compress_size)}, as files do that are made "
            "to fill the memory: if it is yours, save it as .npy"
        )
    ram.check_fits(2 * entry.file_size, f"its {name!r}, with a copy,", instead="save it as .npy, which is read as it is asked for")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
    """One array, whose header declares no more than the archive does."""
    with archive.open(entry) as file:
        shape, dtype = _header(file, name)
    declared = _bytes_of(shape, dtype)
    if dtype.hasobject:
        raise DataError(f"its {name!r} {_PICKLED}")
    if declared > entry.file_size:
        raise DataError(f"its {name!r} is cut short: {ram.in_words(declared)} were expected and it has {ram.in_words(entry.file_size)}")
    with archive.open(entry) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type that an array declares."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read_header is None:
        raise DataError(f"its {name!r} is of the unknown version {version}")
    shape, _, dtype = read_header(file)
    return shape, dtype
