"""Archives that would fill the memory, or that read other files, found by what they declare: before anything is inflated."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import BinaryIO

from seqscope.errors import quoted
from seqscope.heaps import has_endless_heap
from seqscope.ram import in_words

# What may be declared whatever the size of the file, and how many times its size above that: deflate makes a file of zeros 1,000
# times smaller, and trained weights hardly at all.
_FREE_BYTES = 100 * 2**20
_TIMES = 100

# Of a `.keras` file: what its layers are.
_SETTINGS = ("config.json", "metadata.json")


def objection_to_zip(path: Path) -> str | None:
    """Why a zip archive (a `.keras` file too, with the HDF5 file in it) must not be opened, None where it may.

    Returns
    -------
    str or None
        The rest of a sentence that begins with the file: "declares 5 GB in a file of 10 kB".

    Raises
    ------
    OSError, RuntimeError, zipfile.BadZipFile
        The file is damaged.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        declared = sum(entry.file_size for entry in entries)
        if _too_much(declared, size):
            return _said(declared, size)
        for entry in entries:
            if entry.filename in _SETTINGS and entry.file_size > _FREE_BYTES:
                return f"holds a {entry.filename} of {in_words(entry.file_size)}, which no network needs"
        for entry in entries:
            if entry.filename.endswith(".h5"):
                objection = objection_to_hdf5(io.BytesIO(archive.read(entry)), entry.file_size)
                if objection is not None:
                    return objection
    return None


def objection_to_hdf5(source: Path | BinaryIO, size: int) -> str | None:
    """Why an HDF5 file must not be opened, None where it may; as `objection_to_zip`.

    Raises
    ------
    OSError, RuntimeError, KeyError
        The file is damaged.
    """
    import h5py

    if has_endless_heap(source):
        return "has a heap that is damaged, in which reading would never end"
    with h5py.File(source, "r") as file:
        elsewhere: list[str] = []
        sets: list[h5py.Dataset] = []
        file.visititems_links(lambda name, link: elsewhere.append(name) if isinstance(link, h5py.ExternalLink) else None)
        file.visititems(lambda _, item: sets.append(item) if isinstance(item, h5py.Dataset) else None)
        elsewhere += [item.name.lstrip("/") for item in sets if item.external or item.is_virtual]
        if elsewhere:
            return f"takes {quoted(elsewhere, most=3)} from other files"
        declared = sum(item.nbytes for item in sets)
        return _said(declared, size) if _too_much(declared, size) else None


def _too_much(declared: int, size: int) -> bool:
    return declared > _FREE_BYTES and declared > _TIMES * size


def _said(declared: int, size: int) -> str:
    return f"declares {in_words(declared)} in a file of {in_words(size)}, as files do that are made to fill the memory"
