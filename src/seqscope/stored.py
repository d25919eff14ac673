"""Values that stay in their file: read as they are asked for, so that a data set may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqscope import ram

# What is read at a time where everything is looked at once, in bytes.
BLOCK_BYTES = 32_000_000


@dataclass(frozen=True, eq=False)
class Stored:
    """The steps of a (sample, time, channel) array that is not in memory, one sample after the other: (step, channel).

    It takes the place of an array of steps in `Flat`: it can be sliced, asked for a table of places, and read whole by NumPy.

    Attributes
    ----------
    read : callable
        Gives the samples at a slice, or at an int array, as an array (sample, time, channel).
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
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False
