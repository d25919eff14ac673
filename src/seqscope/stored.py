"""Values that stay in their file: read as they are asked for, so that a data set may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqscope import ram
from seqscope.errors import DataError

# What is read at a time where everything is looked at once, in bytes.
BLOCK_BYTES = 32_000_000


@dataclass(frozen=True, eq=False)
class Stored:
    """The steps of a (sample, time, channel) array that is not in memory, one sample after the other: (step, channel).

    It takes the place of an array of steps in `Flat`: it can be sliced, asked for a table of places, and read whole by NumPy.

    Attributes
    ----------
    read : callable
        Gives the samples at a slice, or at an int array, as an array (sample, time, channel). It can be pickled, without the values.
    block : tuple of int
        Number of samples, steps and channels.
    dtype : dtype
        What `read` gives: floats.
    """

    read: Callable[[Any], np.ndarray]
    block: tuple[int, int, int]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Steps of all samples, and channels."""
        return self.block[0] * self.block[1], self.block[2]

    @property
    def ndim(self) -> int:
        """Two: step and channel."""
        return 2

    @property
    def size(self) -> int:
        """How many values there are."""
        return int(np.prod(self.block, dtype=np.int64))

    @property
    def place(self) -> str:
        """The file or store, as far as what reads it says so."""
        return str(getattr(self.read, "place", ""))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """Steps, from a slice, or from a table (sample, time) of places each row of which lies in one sample."""
        n_steps = self.block[1]
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            first = start // n_steps
            steps = self.read(slice(first, -(-stop // n_steps))).reshape(-1, self.block[2])
            return steps[start - first * n_steps : stop - first * n_steps]
        samples = self.read(key[:, 0] // n_steps)
        return np.take_along_axis(samples, (key % n_steps)[:, :, None], axis=1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        ram.check_fits(self.size * self.dtype.itemsize, "the data set", instead="take a part of it, such as X[:1000]")
        steps = self[:]
        return steps if dtype is None else steps.astype(dtype)


def pieces(steps: np.ndarray | Stored, n_steps: int = 1) -> Iterator[np.ndarray]:
    """All steps, block by block, each of whole samples of `n_steps`: what looks at everything needs the memory of one block."""
    width = int(np.prod(steps.shape[1:], dtype=np.int64)) * steps.dtype.itemsize
    rows = n_steps * max(1, BLOCK_BYTES // max(1, width * n_steps))
    return (steps[start : start + rows] for start in range(0, len(steps), rows))


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is a view of a file that is mapped into memory."""
    return _map_of(array) is not None


def _map_of(array: np.ndarray) -> np.memmap[Any, Any] | None:
    """The map of the file that an array is a view of: the last on the way, since only its own offset is where it begins in the file."""
    base: Any = array
    found = None
    while isinstance(base, np.ndarray):
        found = base if isinstance(base, np.memmap) else found
        base = base.base
    return found


@dataclass(frozen=True)
class Mapped:
    """Where an array lies in a file: what is sent to another process in place of its values, which NumPy would send.

    Attributes
    ----------
    path : str
    offset : int
        Of its first value, in bytes.
    shape, strides : tuple of int
    dtype : dtype
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    def open(self) -> np.ndarray:
        """The array, mapped into memory again.

        Raises
        ------
        DataError
            The file is not there, or is shorter than it was.
        """
        spans = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        back = -sum(span for span in spans if span < 0)  # an axis that was turned round goes back from the first value
        size = self.dtype.itemsize + sum(map(abs, spans))
        try:
            there: np.ndarray = np.memmap(self.path, np.uint8, "r", self.offset - back, (size,))
        except (OSError, ValueError) as error:
            raise DataError(
                f"These sequences lie in the file '{self.path}', which can't be read here ({error}): it has to be there, under this path "
                "and unchanged, wherever they are used."
            ) from error
        return np.ndarray(self.shape, self.dtype, there, back, self.strides)


def without_values(array: Any) -> Any:
    """What to pickle for an array: its place where it is a view of a mapped file, else itself."""
    found = _map_of(array) if isinstance(array, np.ndarray) and array.size else None
    if found is None or found.mode == "c" or found.filename is None or not Path(found.filename).is_file():
        return array  # (a map that copies on writing may hold other values than its file)
    ahead = array.__array_interface__["data"][0] - found.__array_interface__["data"][0]
    return Mapped(str(found.filename), found.offset + ahead, array.shape, array.strides, array.dtype)


def with_values(pickled: Any) -> Any:
    """The array again."""
    return pickled.open() if isinstance(pickled, Mapped) else pickled


def place_of(array: np.ndarray) -> str:
    """The file that an array is a view of; "" where it is in memory."""
    found = _map_of(array)
    return "" if found is None or found.filename is None else str(found.filename)


class SamplesOf:
    """Reads the samples of a (sample, time, channel) view of a mapped file, whatever the order in which it lies there."""

    def __init__(self, block: np.ndarray) -> None:
        self._block = block

    @property
    def place(self) -> str:
        """The file."""
        return place_of(self._block)

    def __call__(self, samples: Any) -> np.ndarray:
        """The samples in an array of their own."""
        return np.ascontiguousarray(self._block[samples])

    def __getstate__(self) -> Any:
        return without_values(self._block)

    def __setstate__(self, state: Any) -> None:
        self._block = with_values(state)
