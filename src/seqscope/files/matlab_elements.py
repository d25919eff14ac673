"""Whether the elements of a MAT-file of version 5 are of kinds that there are, and as many as belong to an array.

SciPy looks kinds up in a table without asking whether they are in it, and reads on behind an array that lacks one, which ends the process.
"MAT-File Format" (The MathWorks): an element is a tag, its kind and how many bytes, and these bytes; those of a matrix are elements again.
"""

from __future__ import annotations

import struct
import zlib

from seqscope.errors import DataError

MATRIX, DEFLATED = 14, 15
_NUMBERS = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 12, 13))
_TEXTS = frozenset((16, 17, 18))
_CHAR, _OPAQUE = 4, 17
# The classes of arrays that hold other arrays: cell, struct, object, function, and those of MATLAB's own.
_HOLDING = frozenset((1, 2, 3, 16, _OPAQUE))
# How many elements an array of a class has: flags, shape, name, and its numbers (of a sparse one with their places); one more if complex.
_N_ELEMENTS = {_CHAR: 4, 5: 6} | dict.fromkeys(range(6, 16), 4)
_COMPLEX = 0x0800
_MOST_DEEP = 64


def check_elements(content: memoryview, order: str) -> None:
    """Look at every element of a file, behind its header.

    Raises
    ------
    DataError
        One is of an unknown kind, ends behind what it is in, or is too deep inside of others.
    """
    for kind, data in _elements(content, order):
        if kind == DEFLATED:
            check_elements(memoryview(zlib.decompress(data)), order)
        elif kind == MATRIX:
            _check_matrix(data, order, 0)


def _check_matrix(content: memoryview, order: str, depth: int) -> None:
    if depth > _MOST_DEEP:
        raise DataError(f"it is damaged: more than {_MOST_DEEP} arrays lie one inside the other")
    number, is_complex = _class_of(content, order)
    leaves = _NUMBERS | _TEXTS if number in (_CHAR, _OPAQUE) else _NUMBERS
    elements = _elements(content, order)
    needed = _N_ELEMENTS.get(number, 0) + is_complex
    if number in _N_ELEMENTS and elements and len(elements) != needed:
        raise DataError(f"it is damaged: an array of numbers has {len(elements)} elements, and {needed} belong to one")
    for kind, data in elements:
        if kind == MATRIX and number in _HOLDING:
            _check_matrix(data, order, depth + 1)
        elif kind not in leaves:
            raise DataError(f"it is damaged: an array holds an element of kind {kind}, which there is not in such an array")


def _class_of(content: memoryview, order: str) -> tuple[int, bool]:
    """The class of an array, the lowest byte of its flags, and whether it is complex. An array of nothing has none."""
    flags = struct.unpack_from(order + "I", content, 8)[0] if len(content) >= 12 else 0
    return flags & 0xFF, bool(flags & _COMPLEX)


def _elements(content: memoryview, order: str) -> list[tuple[int, memoryview]]:
    """Kind and bytes of each element; one of up to four bytes has its length beside the kind."""
    found, place = [], 0
    while place + 8 <= len(content):
        kind, length = struct.unpack_from(order + "II", content, place)
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, place + 4
            place += 8
        else:
            start = place + 8
            place = start + (length if kind == DEFLATED else -(-length // 8) * 8)
        if start + length > len(content):
            raise DataError(f"it is damaged: an element of {length:,} bytes lies in {len(content) - start:,}")
        found.append((kind, content[start : start + length]))
    return found
