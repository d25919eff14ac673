"""Which samples are listed, and in which order: searched, filtered and sorted as the selection says."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqscope.errors import DataError, nearest, quoted
from seqscope.explorer.any_source import Source
from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.samples import ranges
from seqscope.explorer.words import said
from seqscope.judged import PREDICTION, SCORE, WRONG
from seqscope.labelled import LABEL, SAMPLE

__all__ = ["FIELDS", "MOST_CLASSES", "ONLY", "PREDICTION", "SCORE", "SEARCHED", "WRONG", "said"]
# What may be filtered for besides a class.
ONLY = ("", WRONG)
# The fields of a selection on which the list depends.
FIELDS = frozenset({"search", "only", "group", "sort", "among"})
# What a search looks into.
SEARCHED = (SAMPLE, LABEL, PREDICTION)
# More classes than these are searched for and not chosen from a list; more names than these are sorted as plain text.
MOST_CLASSES, _MOST_NATURAL = 200, 10_000
# Ids that are made into text at a time.
_PIECE = 1 << 16


def positions(source: Source, chosen: Chosen) -> np.ndarray:
    """The samples that are listed, by position, in their order: int array (row,). Kept for all who look."""
    if not chosen.sort and not is_filtered(chosen):
        return np.arange(len(source))
    key = ("listed", chosen.search.lower(), chosen.only, chosen.group, chosen.among, chosen.sort)
    return source.once(key, lambda: _positions(source, chosen))  # type: ignore[no-any-return]


def is_filtered(chosen: Chosen) -> bool:
    """Whether fewer than all samples may be listed."""
    return bool(chosen.search or chosen.only or chosen.group or chosen.among)


def _positions(source: Source, chosen: Chosen) -> np.ndarray:
    rows = np.flatnonzero(_fits(source, chosen)) if is_filtered(chosen) else np.arange(len(source))
    if not chosen.sort:
        return rows
    keys = _keys(source, chosen.sort.removeprefix("-"))[rows]
    return np.asarray(rows)[np.argsort(-keys if chosen.sort.startswith("-") else keys, kind="stable")]


def _fits(source: Source, chosen: Chosen) -> np.ndarray:
    """Whether each sample is listed: bool array (sample,)."""
    fits = np.ones(len(source), bool)
    if chosen.among:
        fits[:] = False
        fits[ranges.read(chosen.among, len(source))] = True
    if chosen.only == WRONG:
        fits &= source.samples[WRONG].to_numpy(bool)
    if chosen.group:
        codes, names = _named(source, group_column(source))
        fits &= np.array([name == chosen.group for name in names], bool)[codes]
    if chosen.search:
        fits &= _holds(source, chosen.search)
    return fits


def _holds(source: Source, text: str) -> np.ndarray:
    """Whether the id, the label or the prediction of each sample holds a text, in upper or lower case."""
    text = text.lower()
    held = _ids_hold(source.sample_ids, text)
    for column in (LABEL, PREDICTION):
        if column in source.samples:
            codes, names = _named(source, column)
            held |= np.array([text in name.lower() for name in names], bool)[codes]
    return held


def _ids_hold(ids: np.ndarray, text: str) -> np.ndarray:
    """Whether each id holds a text in lower case."""
    are_numbers = ids.dtype.kind in "iu"
    if are_numbers and not text.lstrip("-").isdecimal():
        return np.zeros(len(ids), bool)
    parts = [ids[start : start + _PIECE].astype(str) for start in range(0, len(ids), _PIECE)]
    return np.concatenate([np.strings.find(part if are_numbers else np.strings.lower(part), text) >= 0 for part in parts])


def _named(source: Source, column: str) -> tuple[np.ndarray, list[str]]:
    """What stands in a column: the place of each sample's among the different ones, and those as text."""

    def made() -> tuple[np.ndarray, list[str]]:
        codes, different = pd.factorize(source.samples[column], use_na_sentinel=False)
        return codes, [said(value) for value in different]

    return source.once(("named", column), made)  # type: ignore[no-any-return]


def _keys(source: Source, column: str) -> np.ndarray:
    """Numbers that sort samples by a column: NaN, which comes last either way, where there is no value."""
    values = source.samples[column]
    if values.dtype.kind in "iufb":
        return values.to_numpy(float)
    codes, names = _named(source, column)
    in_order = sorted(range(len(names)), key=lambda place: natural(names[place])) if len(names) <= _MOST_NATURAL else np.argsort(names)
    ranks = np.empty(len(names))
    ranks[in_order] = np.arange(len(names))
    ranks[[place for place, name in enumerate(names) if not name]] = np.nan
    return np.asarray(ranks[codes])


def natural(name: str) -> tuple[int, float, str]:
    """Numbers by their size, and before words."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name.lower())


# Classes


def group_column(source: Source) -> str:
    """The column that has the class of each sample: the label, where that is not known the prediction; "" of values, which are none."""
    samples = source.samples
    if LABEL in samples:
        return "" if samples[LABEL].dtype.kind == "f" else LABEL
    return PREDICTION if PREDICTION in samples else ""


def groups(source: Source) -> list[str]:
    """The classes to choose from, numbers by their size; none where they are too many for a list."""
    column = group_column(source)
    if not column:
        return []
    names = [name for name in _named(source, column)[1] if name]
    return sorted(names, key=natural) if len(names) <= MOST_CLASSES else []


# What an address may say


def check_only(source: Source, value: str) -> str:
    """A filter that there is.

    Raises
    ------
    DataError
    """
    if value not in ONLY:
        raise DataError(f"There is no filter '{value}' of samples: expected {quoted(ONLY[1:])}, or none.")
    if value and not source.is_classified:
        raise DataError("It is not known which samples are wrong here: there are no classes, or no labels.")
    return value


def check_group(source: Source, value: str) -> str:
    """A class that there is.

    Raises
    ------
    DataError
    """
    column = group_column(source)
    if value and (not column or value not in _named(source, column)[1]):
        known = groups(source)
        raise DataError(f"No sample is of the class '{value}'" + (f": {nearest(value, known)}." if known else "."))
    return value


def check_sort(source: Source, value: str) -> str:
    """A column that there is, with a minus in front from the highest down.

    Raises
    ------
    DataError
    """
    columns = [str(column) for column in source.samples.columns]
    if value and value.removeprefix("-") not in columns:
        raise DataError(
            f"Samples can't be sorted by '{value}': expected one of {quoted(columns)}, with a minus in front from the highest down."
        )
    return value


def check_among(source: Source, value: str) -> str:
    """Positions that there are.

    Raises
    ------
    DataError
    """
    ranges.read(value, len(source))
    return value
