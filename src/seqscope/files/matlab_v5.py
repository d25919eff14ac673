"""MAT-files of version 5 (MATLAB's -v6 and -v7): the names and classes of the variables by their headers, the values through SciPy.

SciPy lists no variable where one is an object, and does not tell an object's name. So the headers are read here, as "MAT-File Format"
(The MathWorks) has them: elements of a type, a length and so many bytes, some of them deflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from seqscope import ram
from seqscope.errors import DataError
from seqscope.files.matlab_elements import check_elements
from seqscope.files.matlab_names import Variable

_MATRIX, _DEFLATED = 14, 15
_OBJECT = 17  # a class of MATLAB's own, without a shape
_CLASSES = (
    *("", "cell", "struct", "object", "char", "sparse", "double", "single"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "function"),
)
_HEAD = 4096  # more than a variable's flags, shape and names take
_HEADER = 128
# Deflate makes zeros about 1,000 times smaller. So much is let through in any case.
_TIMES, _FREE_BYTES = 400, 2**28


def variables(path: Path) -> list[Variable]:
    """All variables of a file, in their order.

    Raises
    ------
    DataError
        The file ends within one, or its header makes no sense.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER)
        order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
        if order is None:
            raise DataError("its header ends without the order of its bytes: it is cut short, or was changed")
        try:
            return list(_variables(file, order, path.stat().st_size))
        except (struct.error, zlib.error, IndexError) as error:
            raise DataError(f"it is damaged: what a variable begins with makes no sense ({error})") from error


def read(path: Path, wanted: list[Variable]) -> dict[str, Any]:
    """The values of variables: arrays as MATLAB shows them, lists for cells, strings for rows of characters."""
    import scipy.io

    _check_sizes(path)
    _check_elements(path)
    found = scipy.io.loadmat(path, variable_names=[variable.name for variable in wanted])
    missing = [variable.name for variable in wanted if variable.name not in found]
    if missing:
        raise DataError(f"its {missing[0]!r} can't be read")
    return {variable.name: _plain(found[variable.name], variable.name) for variable in wanted}


def _plain(value: Any, name: str) -> Any:
    array = value.toarray() if hasattr(value, "toarray") else np.asarray(value)  # a sparse matrix
    if array.dtype.names is not None:
        raise DataError(f"its {name!r} holds a struct: save the field that is wanted as a variable of its own")
    if array.dtype.kind == "O":
        return [_plain(item, name) for item in array.ravel(order="F")]
    if array.dtype.kind == "U":
        texts = [str(text).rstrip() for text in array.ravel()]
        return texts[0] if len(texts) == 1 else texts
    return array


def _variables(file: BinaryIO, order: str, size: int) -> Iterator[Variable]:
    place = _HEADER
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack(order + "II", file.read(8))
        if place + 8 + length > size:
            raise DataError(f"it is cut short: {length:,} bytes were expected from {place + 8:,} on, and it ends at {size:,}")
        head = file.read(min(length, _HEAD))
        place += 8 + length
        if kind == _DEFLATED:
            head = zlib.decompressobj().decompress(head, _HEAD)
            kind = struct.unpack_from(order + "I", head)[0]
            head = head[8:]
        if kind == _MATRIX and (variable := _variable(head, order)) is not None:
            yield variable


def _variable(head: bytes, order: str) -> Variable | None:
    """What a matrix element begins with: flags, shape, name; an object's: flags, name, kind of object, class."""
    (_, flags), place = _element(head, 0, order)
    number = flags[0] if order == "<" else flags[3]
    if number != _OBJECT:
        _, place = _element(head, place, order)
    (_, name), place = _element(head, place, order)
    if not name:
        return None  # where MATLAB keeps the parts of its objects
    if number != _OBJECT:
        return Variable(name.decode("latin-1"), _CLASSES[number] if number < len(_CLASSES) else "unknown")
    _, place = _element(head, place, order)
    (_, kind), _ = _element(head, place, order)
    return Variable(name.decode("latin-1"), kind.decode("latin-1"))


def _element(head: bytes, place: int, order: str) -> tuple[tuple[int, bytes], int]:
    """Type and bytes of an element, and where the next begins; one of up to four bytes has its length beside the type."""
    kind, length = struct.unpack_from(order + "II", head, place)
    if kind >> 16:
        return (kind & 0xFFFF, head[place + 4 : place + 4 + (kind >> 16)]), place + 8
    return (kind, head[place + 8 : place + 8 + length]), place + 8 + -(-length // 8) * 8


def _check_sizes(path: Path) -> None:
    """Inflate what is deflated once, keeping nothing, to know how large it is."""
    size = path.stat().st_size
    most = max(_FREE_BYTES, _TIMES * size)
    inflated = 0
    with path.open("rb") as file:
        order = ">" if file.read(_HEADER)[126:128] == b"MI" else "<"
        place = _HEADER
        while place + 8 <= size:
            file.seek(place)
            kind, length = struct.unpack(order + "II", file.read(8))
            inflated += _inflated(file, length, most) if kind == _DEFLATED else length
            place += 8 + length
            if inflated > most:
                raise DataError(
                    f"it inflates to more than {ram.in_words(most)} from {ram.in_words(size)}, as files do that are made to fill the memory"
                )
    ram.check_fits(2 * inflated, "what it holds, with a copy,", instead="save it with '-v7.3'")


def _check_elements(path: Path) -> None:
    """Look at every element, without reading those that lie in the file as they are."""
    content = np.memmap(path, np.uint8, "r").data
    check_elements(content[_HEADER:], ">" if bytes(content[126:128]) == b"MI" else "<")


def _inflated(file: BinaryIO, length: int, most: int) -> int:
    """How large so many bytes are, inflated; counting ends behind `most`."""
    inflater, total = zlib.decompressobj(), 0
    while length > 0 and total <= most:
        data = file.read(min(length, 2**16))
        length -= len(data)
        if not data:
            break
        while data and total <= most:
            total += len(inflater.decompress(data, 2**20))
            data = inflater.unconsumed_tail
    return total
