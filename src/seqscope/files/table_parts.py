"""Tables that are larger than memory: part by part, their steps written to a file as they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from seqscope import labelled, ram
from seqscope.errors import DataError
from seqscope.files.found import Found, Options
from seqscope.files.kept import Kept
from seqscope.files.tables import check_numbers, check_steps, check_whole, from_long, from_wide, is_wide, named
from seqscope.intake import take_in

# A part has about so many bytes; pandas holds several copies of it while it is put in order.
PART_BYTES = 4_000_000
_LOOK_EVERY = 64_000_000


def from_parts(parts: Iterable[pd.DataFrame], asked: Options, kept: Kept, *, has_names: bool = True) -> Found:
    """Sequences of a table that comes part by part, the same as of the table at once.

    Parameters
    ----------
    parts : iterable of frames
        Their index goes on from one to the next.
    kept : Kept
        What the sequences are given to.

    Raises
    ------
    DataError
        As of the table at once (`tables.from_table`); or the rows of a sample do not stand together.
    """
    filled = (part for part in parts if len(part))
    first = next(filled, None)
    if first is None:
        raise DataError("it holds no row")
    if is_wide(first, asked, has_names=has_names):
        return _from_wide(itertools.chain([first], filled), asked, kept, has_names=has_names)
    return _from_long(itertools.chain([first], filled), asked, kept)


def _from_wide(parts: Iterable[pd.DataFrame], asked: Options, kept: Kept, *, has_names: bool) -> Found:
    known: dict[str, Any] = {}
    for part in parts:
        found = from_wide(part, asked, has_names=has_names)
        _add(found, kept)
        known = {name: value for name, value in found.known.items() if name == labelled.TIME}
        if not has_names and asked.label is None:  # whether the first column is the class was asked of the first part
            asked = replace(asked, label=False)
    return Found(kept.finish(), known)


def _from_long(parts: Iterator[pd.DataFrame], asked: Options, kept: Kept) -> Found:
    first = next(parts)
    sample = named(first, asked.sample, labelled.SAMPLE)
    known = [sample, named(first, asked.time, labelled.TIME), named(first, asked.label, labelled.LABEL)]
    for part in _whole_sequences(_checked(itertools.chain([first], parts), known), sample):
        _add(from_long(part, asked), kept)
    if sample is not None:
        _check_together(kept.samples.values(), sample)
        if len(kept) > 1 and kept.longest < 2:
            check_steps(first, asked, sample)
    return Found(kept.finish(single=sample is None))


def _checked(parts: Iterable[pd.DataFrame], known: list[Any]) -> Iterator[pd.DataFrame]:
    """The parts, before they are cut: a word makes words of the numbers beside it."""
    for part in parts:
        check_numbers(part[[name for name in part.columns if name not in known]])
        yield part


def _add(found: Found, kept: Kept) -> None:
    flat = take_in(found.data)
    flat.samples, flat.labels = found.known.get("samples", flat.samples), found.known.get("labels")
    kept.add(flat)


def _whole_sequences(parts: Iterable[pd.DataFrame], sample: Any) -> Iterator[pd.DataFrame]:
    """Parts that end where a sequence does: the last of each part may go on in the next."""
    held: list[pd.DataFrame] = []
    n_bytes = looked = 0
    for part in parts:
        begins = _last_of(part, sample)
        if held and (begins or (sample is not None and held[-1][sample].iloc[-1] != part[sample].iloc[0])):
            yield pd.concat([*held, part.iloc[:begins]])
            held, n_bytes, looked = [], 0, 0
        elif begins:
            yield part.iloc[:begins]
        held.append(part.iloc[begins:].copy())
        n_bytes += int(held[-1].memory_usage().sum())
        if n_bytes - looked > _LOOK_EVERY:
            looked = n_bytes
            ram.check_fits(3 * n_bytes, "one sequence of the table, with copies,", instead="cut it into several")
    yield pd.concat(held)


def _last_of(part: pd.DataFrame, sample: Any) -> int:
    """The row at which the last sequence of a part begins."""
    if sample is None:
        return 0
    check_whole(part, [sample])
    ids = part[sample].to_numpy()
    changes = np.flatnonzero(ids[1:] != ids[:-1])
    return int(changes[-1]) + 1 if changes.size else 0


def _check_together(ids: np.ndarray | None, sample: Any) -> None:
    again = np.flatnonzero(pd.Series(ids).duplicated())
    if ids is not None and again.size:
        raise DataError(
            f"the rows of {sample} {ids[again[0]]} do not stand together, and keep= reads from front to back: sort the table by "
            f"{sample!r}, or read it without keep="
        )
