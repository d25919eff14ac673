"""What a file is, by its first bytes and, of a zip archive, by the names in it: nothing is unpickled, inflated or run."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO


class Kind(StrEnum):
    """What a file is, as a sentence names it: "'net.pt' is a pickle"."""

    EMPTY = "empty"
    LFS = "a git-LFS pointer"
    HTML = "a web page"
    TEXT = "text"
    CUT_ZIP = "the beginning of a zip archive"
    ZIP = "a zip archive"
    COMPRESSED = "a compressed file"
    NPY = "a NumPy array"
    NPZ = "an archive of NumPy arrays"
    HDF5 = "an HDF5 file"
    MATLAB = "a MATLAB file"
    TFLITE = "a TensorFlow Lite model"
    KERAS = "a Keras 3 model"
    TORCH = "a file of torch.save"
    TORCHSCRIPT = "a TorchScript model"
    EXPORTED = "a program of torch.export"
    SAFETENSORS = "a safetensors file"
    PICKLE = "a pickle"
    ONNX = "an ONNX model"
    UNKNOWN = "of no known kind"


# The attribute that marks a recording.
RECORDING = "seqscope_recording"

_HEAD = 4096

# torch.save before version 1.6, and without zip since: a magic number, pickled.
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (b"version https://git-lfs.github.com/spec/", Kind.LFS),
    (b"\x93NUMPY", Kind.NPY),
    (b"\x89HDF\r\n\x1a\n", Kind.HDF5),
    (b"MATLAB 5.0 MAT-file", Kind.MATLAB),
    (b"MATLAB 7.3 MAT-file", Kind.MATLAB),
    (b"\x80\x02" + _TORCH_MAGIC, Kind.TORCH),
    (b"\x1f\x8b", Kind.COMPRESSED),
    (b"BZh", Kind.COMPRESSED),
    (b"\xfd7zXZ\x00", Kind.COMPRESSED),
    (b"\x04\x22\x4d\x18", Kind.COMPRESSED),
    (b"\x28\xb5\x2f\xfd", Kind.COMPRESSED),
)


def kind_of(path: Path) -> Kind:
    """What a file is by what it holds, whatever its name says.

    Raises
    ------
    OSError
        The file can't be read.

    Examples
    --------
    >>> from importlib.resources import files
    >>> str(kind_of(files("seqscope.datasets") / "japanese_vowels.npz"))
    'an archive of NumPy arrays'
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if not head:
            return Kind.EMPTY
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _kind_of_zip(file)
        for beginning, kind in _BEGINNINGS:
            if head.startswith(beginning):
                return kind
        size = path.stat().st_size
        if _is_safetensors(head, size):
            return Kind.SAFETENSORS
        if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
            return Kind.PICKLE
        if head[4:8] == b"TFL3":
            return Kind.TFLITE
        if head[0] == 0x78 and (head[0] << 8 | (head + b"\0")[1]) % 31 == 0:  # zlib, as joblib writes it
            return Kind.COMPRESSED
        if _is_text(head):
            return Kind.HTML if re.match(rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", head) else Kind.TEXT
        return Kind.ONNX if _is_onnx(file, size) else Kind.UNKNOWN


def is_recording(path: Path) -> bool:
    """Whether a folder is what `Scope.record` wrote, by what it says of itself."""
    try:
        return RECORDING in json.loads((path / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _kind_of_zip(file: BinaryIO) -> Kind:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # no end, or a directory that makes no sense
        return Kind.CUT_ZIP
    within = {name.partition("/")[2] for name in names}  # torch puts everything in one folder
    if {"config.json", "metadata.json"} <= set(names):
        return Kind.KERAS
    if any(name.startswith("code/") for name in within) and "constants.pkl" in within:
        return Kind.TORCHSCRIPT
    if "archive_format" in within or any("serialized_exported_program.json" in name for name in names):  # since, and before torch 2.7
        return Kind.EXPORTED
    if "data.pkl" in within:
        return Kind.TORCH
    return Kind.NPZ if names and all(name.endswith(".npy") for name in names) else Kind.ZIP


def _is_safetensors(head: bytes, size: int) -> bool:
    """Eight bytes with the length of a JSON header, and the header."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or len(head) < _HEAD:  # a character that the end of the head cuts through is fine
            return False
        text = head[: error.start].decode("utf-8-sig")
    return all(letter.isprintable() or letter in "\t\n\r\f" for letter in text)


# The fields of a ModelProto, and how each is written: 0 a number, 2 a length and so many bytes.
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH = 7
_MOST_FIELDS = 10_000


def _is_onnx(file: BinaryIO, size: int) -> bool:
    """Whether a file is a protobuf with the fields of an ONNX model, one of them a graph; it may end before the graph does."""
    file.seek(0)
    for count, (field, length) in enumerate(_protobuf(file)):
        if field is None or count > _MOST_FIELDS:
            return False
        if field == _GRAPH:
            return True
        if file.tell() + length > size:
            return False
        file.seek(length, 1)
    return False


def _protobuf(file: BinaryIO) -> Iterator[tuple[int | None, int]]:
    """Each field's number and the bytes that it has ahead; None where it is not one of a model's."""
    while (key := _varint(file)) is not None:
        field, wire = key >> 3, key & 7
        if _MODEL_FIELDS.get(field) != wire:
            yield None, 0
            return
        value = _varint(file)
        yield (None, 0) if value is None else (field, value if wire == 2 else 0)


def _varint(file: BinaryIO) -> int | None:
    """Seven bits a byte, the lowest first; None where the file ends."""
    value = 0
    for place in range(10):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << 7 * place
        if not byte[0] & 0x80:
            return value
    return None
