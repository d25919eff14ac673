"""HDF5's global heaps, where texts and references of any length lie: one that is damaged in a certain way makes the HDF5 library loop.

The library goes from object to object by their sizes ("HDF5 File Format Specification", III.E), and never ends at free space of size 0.
That can't be interrupted from Python, so it is looked for before the library opens the file.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import BinaryIO

_BEGINNING = b"GCOL\x01\0\0\0"
_OBJECT = struct.Struct("<HHIQ")  # number, how often it is referred to, reserved, size


def has_endless_heap(source: Path | BinaryIO) -> bool:
    """Whether the HDF5 library would loop for ever in one of a file's global heaps.

    Raises
    ------
    OSError
        The file can't be read.
    """
    if not isinstance(source, Path):
        source.seek(0)
        return _is_endless(source.read())
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _is_endless(content)


def _is_endless(content: bytes | mmap.mmap) -> bool:
    place = content.find(_BEGINNING)
    while place >= 0:
        if _stands_still(content, place):
            return True
        place = content.find(_BEGINNING, place + 1)
    return False


def _stands_still(content: bytes | mmap.mmap, heap: int) -> bool:
    """Walk through a heap as the library does."""
    size = int.from_bytes(content[heap + 8 : heap + 16], "little")
    place, end = heap + 16, min(heap + size, len(content))
    while place + _OBJECT.size <= end:
        number, _, _, size = _OBJECT.unpack(content[place : place + _OBJECT.size])
        if number == 0 and size == 0:
            return True
        place += size if number == 0 else _OBJECT.size + -(-size // 8) * 8
    return False
