"""Positions of samples as a short text, and back: "0-4.7.9-12"."""

from __future__ import annotations

import re

import numpy as np

from seqscope.errors import DataError

_ONE = re.compile(r"(\d{1,12})(?:-(\d{1,12}))?", re.ASCII)


def written(positions: np.ndarray) -> str:
    """Positions in ascending order, those that follow each other put together.

    >>> written(np.array([9, 0, 1, 2, 7]))
    '0-2.7.9'
    """
    ascending = np.unique(positions)
    if not len(ascending):
        return ""
    breaks = np.flatnonzero(np.diff(ascending) > 1)
    first, last = ascending[np.append(0, breaks + 1)].tolist(), ascending[np.append(breaks, len(ascending) - 1)].tolist()
    return ".".join(f"{start}" if start == end else f"{start}-{end}" for start, end in zip(first, last, strict=True))


def read(text: str, number: int) -> np.ndarray:
    """The positions that `written` wrote, of so many samples.

    Raises
    ------
    DataError
        It is no such text, or there is no such sample.

    >>> read("0-2.7", 10)
    array([0, 1, 2, 7])
    """
    if not text:
        return np.zeros(0, int)
    is_listed = np.zeros(number, bool)
    for part in text.split("."):
        one = _ONE.fullmatch(part)
        if one is None:
            raise DataError(f"'{part[:40]}' says no samples: expected positions and ranges such as 0-4.7.9-12.")
        start, stop = int(one[1]), int(one[2] or one[1])
        if not start <= stop < number:
            raise DataError(f"There are no samples {part}: the positions go from 0 to {number - 1}, the lower one first.")
        is_listed[start : stop + 1] = True
    return np.flatnonzero(is_listed)
