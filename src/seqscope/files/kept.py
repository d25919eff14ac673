"""Steps that are written to a file as they come: what `keep=` of `seqscope.read` does with data that is larger than memory."""

from __future__ import annotations

import errno
import math
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from seqscope import ram
from seqscope.clock import Clock
from seqscope.errors import DataError, OutputExistsError, TooLargeError
from seqscope.flat import Flat, check_alike
from seqscope.stored import pieces

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BUFFER = 2**20
_TOGETHER = 4096  # so many small arrays are put together, since each alone has a hundred bytes around it


@contextmanager
def nothing_half(path: Path | None) -> Iterator[None]:
    """Make sure that the file to keep can be written; where reading it in fails, it is not left there.

    Raises
    ------
    OutputExistsError
        It is there already.
    DataError
        It has another ending than `.npy`, or its folder is not there.
    """
    if path is None:
        yield
        return
    if path.suffix.lower() != ".npy":
        raise DataError(
            f"The file to keep is '{path}': expected a name that ends in '.npy', such as keep='{path.with_suffix('.npy').name}'."
        )
    if path.exists():
        raise OutputExistsError(f"'{path}' exists, and `keep` writes over no file: name another one, or delete it.")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder '{path.parent}' to keep '{path.name}' in.")
    try:
        yield
    except BaseException:  # Ctrl-C too
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


class StepsFile:
    """A `.npy` file of the steps of all sequences, one after the other; it gets its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] | None = None

    def __enter__(self) -> Self:
        with self._told():
            self._folder = tempfile.TemporaryDirectory(dir=self._path.parent, prefix=".seqscope-", ignore_cleanup_errors=True)
            self._file = self._opened()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):  # what could not be written is told already
            self._file.close()
        self._folder.cleanup()

    def write(self, steps: np.ndarray) -> None:
        """Put steps behind those that are there: (step, channel), or (step,) of tokens; in the type that holds both.

        Raises
        ------
        TooLargeError
            The disk is full.
        DataError
            The file can't be written.
        """
        with self._told():
            dtype = steps.dtype if self._dtype is None else np.result_type(self._dtype, steps.dtype)
            if self._dtype is None:
                self._begin(dtype, steps.shape[1:])
            elif dtype != self._dtype:
                self._widen(dtype)
            self._append(steps)

    def finish(self) -> np.ndarray:
        """Give the file its name, and all steps as a view of it."""
        with self._told():
            self._close().replace(self._path)
            steps: np.ndarray = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return steps

    def _opened(self) -> IO[bytes]:
        return Path(self._folder.name, self._path.name).open("wb", buffering=_BUFFER)

    def _begin(self, dtype: np.dtype[Any], width: tuple[int, ...]) -> None:
        self._dtype, self._shape = dtype, (0, *width)
        self._write_header()

    def _append(self, steps: np.ndarray) -> None:
        if steps.size:
            self._file.write(np.ascontiguousarray(steps, self._dtype).data.cast("B"))
        self._shape = (self._shape[0] + len(steps), *self._shape[1:])

    def _write_header(self) -> None:
        """NumPy leaves room in it for a first axis that grows."""
        descr = np.lib.format.dtype_to_descr(np.dtype(self._dtype))
        np.lib.format.write_array_header_1_0(self._file, {"descr": descr, "fortran_order": False, "shape": self._shape})

    def _close(self) -> Path:
        self._file.seek(0)
        self._write_header()
        self._file.close()
        return Path(self._file.name)

    def _widen(self, dtype: np.dtype[Any]) -> None:
        """Begin again in a type that holds more, with what is there."""
        narrow = self._close()
        narrow = narrow.replace(narrow.with_suffix(f".{self._dtype}"))
        self._file = self._opened()
        self._begin(dtype, self._shape[1:])
        for piece in pieces(np.load(narrow, mmap_mode="r")):
            self._append(piece)
        with suppress(OSError):  # it goes with its folder
            narrow.unlink()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                written = ram.in_words(math.prod(self._shape) * np.dtype(self._dtype).itemsize) if self._shape else "nothing"
                raise TooLargeError(
                    f"The disk has no space left for '{self._path}' (keep=), after {written}: make some, or name a file on another disk."
                ) from error
            raise DataError(f"The file '{self._path}' (keep=) can't be written: {error.strerror or error}.") from error


class Column:
    """Values of which each sequence has one, in few arrays."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._last: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Put values behind those that are there."""
        self._last.append(values)
        if len(self._last) == _TOGETHER:
            self._parts.append(np.concatenate(self._last))
            self._last = []

    def values(self) -> np.ndarray | None:
        """All of them; None where there are none."""
        parts = self._parts + self._last
        return np.concatenate(parts) if parts else None


class Kept:
    """Sequences whose steps go to a file as they come, while lengths and names stay in memory: what Sequences takes in."""

    def __init__(self, file: StepsFile) -> None:
        self._file = file
        self._first: Flat | None = None
        self._lengths = array("q")
        self.samples, self._labels = Column(), Column()
        self._longest: np.ndarray | None = None  # the stamps of the longest, of which all others' are the beginning
        self._own: list[np.ndarray] | None = None  # or of each
        self._is_finite = True
        self._whole: Flat | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def longest(self) -> int:
        """The number of steps of the longest sequence."""
        return max(self._lengths, default=0)

    def add(self, flat: Flat) -> None:
        """Take some sequences in.

        Raises
        ------
        DataError
            They have other channels than the first; the file can't be written.
        TooLargeError
            The disk is full.
        """
        if self._first is None:
            self._first = Flat(flat.steps[:0], flat.starts[:0], flat.lengths[:0], channels=flat.channels)
        check_alike(flat, self._first, len(self))
        self._add_stamps(flat)
        steps = flat.packed()
        self._file.write(steps)
        self._lengths.extend(flat.lengths.tolist())
        for column, values in ((self.samples, flat.samples), (self._labels, flat.labels)):
            if values is not None:
                column.add(values)
        self._is_finite = self._is_finite and (flat.is_finite or steps.ndim == 1 or bool(np.isfinite(steps).all()))

    def _add_stamps(self, flat: Flat) -> None:
        if flat.clock.own is None and self._own is None:
            stamps = flat.clock.of_sample(0, int(flat.lengths.max(initial=0)))
            known = stamps[:0] if self._longest is None else self._longest
            both = min(len(known), len(stamps))
            if np.array_equal(known[:both], stamps[:both]):
                self._longest = stamps if len(stamps) > len(known) or self._longest is None else known
                return
        if self._own is None:
            self._own = [] if self._longest is None else [self._longest[:length] for length in self._lengths]
        self._own.extend(flat.clock.of_sample(row, int(length)) for row, length in enumerate(flat.lengths))

    def finish(self, *, single: bool = False) -> Self:
        """Make the file whole: no more comes."""
        lengths = np.array(self._lengths, np.int64)
        stamps = self._own if self._own is not None or self._longest is None else [self._longest]
        self._whole = Flat(
            self._file.finish(),
            np.cumsum(lengths) - lengths,
            lengths,
            single=single,
            channels=None if self._first is None else self._first.channels,
            samples=self.samples.values(),
            labels=self._labels.values(),
            clock=Clock.of(stamps or [np.arange(0)]),
            is_finite=self._is_finite,
        )
        return self

    def to_flat(self) -> Flat:
        """All sequences, their steps a view of the file."""
        return self._whole or self.finish().to_flat()
