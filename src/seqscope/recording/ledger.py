"""The ledger: what of a store is there. A unit of work counts when its files and its entry are both there, and the files are as it says.

It stands inside the store, behind the name of a small array (`ledger`, the first sample of each unit of work), since what lies there is
never taken for a part of the hierarchy: one text in JSON for each unit of work, and its statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numcodecs import Zstd
from safetensors.numpy import load, save
from zarr.abc.store import Store

from seqscope.recording import stores

ROOT = "ledger"
ENTRIES, PARTS, ARRIVED, BEGUN = f"{ROOT}/entries", f"{ROOT}/statistics", f"{ROOT}/inputs", f"{ROOT}/begun"
# What is written once: coordinates and what is said of arrays, at the beginning; statistics, at the end.
FRAME, END = f"{ROOT}/frame", f"{ROOT}/end"


@dataclass(frozen=True)
class Entry:
    """What is known of one unit of work that is done.

    Attributes
    ----------
    number : int
        Which.
    rows : tuple of int
        The first sample, and that after the last.
    files : dict of (int, str)
        Bytes and CRC-32C of each file that was written.
    failed : dict of str
        What the model said to the samples that were set aside, by position.
    correct, labelled : int
        Of how many samples the highest output is the one that the label names, and of how many this can be told.
    seconds : dict of float
        How long its parts took.
    worker : str
        Who did it.
    """

    number: int
    rows: tuple[int, int]
    files: Mapping[str, tuple[int, str]]
    failed: Mapping[str, str] = field(default_factory=dict)
    correct: int = 0
    labelled: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return sum(size for size, _ in self.files.values())


class Ledger:
    """The entries of a store.

    Parameters
    ----------
    store : Store
    kind : str
        `ENTRIES` of units of work; `ARRIVED` of their inputs, where those are written before; `FRAME` and `END`: one entry, 0, of what
        is written once.
    """

    def __init__(self, store: Store, kind: str = ENTRIES) -> None:
        self._store, self._kind = store, kind

    def write(self, entry: Entry) -> None:
        """Say that a unit of work is done: the last that is written of it."""
        stores.put(self._store, self._key(entry.number), json.dumps(asdict(entry), indent=1).encode())

    def read(self, number: int) -> Entry | None:
        """The entry of a unit of work; None where there is none, or where it was cut short."""
        data = stores.get(self._store, self._key(number))
        try:
            return None if data is None else _entry(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def numbers(self) -> list[int]:
        """The units of work that have an entry."""
        names = [key.rpartition("/")[2].removesuffix(".json") for key in stores.keys(self._store, self._kind)]
        return sorted(int(name) for name in names if name.isdecimal())

    def damage(self, entry: Entry, *, thorough: bool) -> list[str]:
        """What is wrong with the files of an entry, in words; nothing where they are as it says.

        Parameters
        ----------
        thorough : bool
            Whether every byte is read, for the checksums; else sizes are compared.
        """
        wrong = []
        for key, (size, checksum) in entry.files.items():
            there = stores.size(self._store, key)
            if there is None:
                wrong.append(f"'{key}' is missing")
            elif there != size:
                wrong.append(f"'{key}' has {there:,} bytes, and {size:,} were written")
            elif thorough and stores.crc32c(self._store, key) != checksum:
                wrong.append(f"'{key}' has another checksum than what was written")
        return wrong

    def forget(self, number: int) -> None:
        """Take an entry back, so that its work is done again."""
        stores.delete(self._store, self._key(number))

    def _key(self, number: int) -> str:
        return f"{self._kind}/{number:06d}.json"


def _entry(said: dict[str, Any]) -> Entry:
    files = {key: (int(size), str(checksum)) for key, (size, checksum) in said.pop("files").items()}
    first, last = said.pop("rows")
    return Entry(files=files, rows=(first, last), **said)


def part_key(number: int) -> str:
    """Where the statistics of a unit of work stand."""
    return f"{PARTS}/{number:06d}.safetensors.zst"


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as one file; equal arrays give equal bytes."""
    return bytes(Zstd(level=1, checksum=True).encode(save({name: np.ascontiguousarray(array) for name, array in arrays.items()})))


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of such a file."""
    return load(bytes(Zstd().decode(data)))
