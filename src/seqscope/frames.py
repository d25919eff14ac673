"""pandas frames as sequences: rows are steps, columns channels, the index says whose step a row is and when."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqscope import labelled
from seqscope.clock import Clock
from seqscope.errors import DataError, quoted
from seqscope.flat import Flat, from_block


def from_frame(frame: pd.DataFrame) -> Flat:
    """Take a frame in. An index of two levels is (sample, time), in the order that their names say if they say one.

    One level tells samples apart where it is named `sample` or repeats, else it is the time of one sequence.

    Raises
    ------
    DataError
        The frame is empty, a column is not numeric, or the index has too many levels or gaps.
    """
    if frame.empty:
        raise DataError(f"The frame is empty ({len(frame)} rows, {len(frame.columns)} columns).")
    values, channels = _values(frame), list(frame.columns)
    samples, times = _levels(frame.index)
    if samples is None:
        flat = from_block(values[None])
        flat.single, flat.channels = True, channels
        if times is not None and not isinstance(times, pd.RangeIndex):
            flat.clock = Clock.of([np.asarray(times)])
        return flat
    codes, ids = pd.factorize(samples)
    if (codes < 0).any():
        raise DataError(f"Row {int(np.flatnonzero(codes < 0)[0])} of the frame has no sample in its index.")
    order = np.argsort(codes, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    flat = _ragged(values[order], np.array([len(row) for row in rows]))
    flat.channels, flat.samples = channels, np.asarray(ids)
    if times is not None:
        flat.clock = Clock.of([np.asarray(times)[row] for row in rows])
    return flat


def _values(frame: pd.DataFrame) -> np.ndarray:
    words = [str(name) for name, kind in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if words:
        raise DataError(f"The columns {quoted(words)} of the frame are not numbers: every column is a channel.")
    if any(pd.api.types.is_complex_dtype(kind) for kind in frame.dtypes):
        raise DataError("The frame has columns of type complex128: expected real numbers.")
    plain = all(isinstance(kind, np.dtype) and kind.kind == "f" for kind in frame.dtypes)
    return frame.to_numpy() if plain else frame.to_numpy(np.float64, na_value=np.nan)


def _levels(index: pd.Index) -> tuple[pd.Index | None, pd.Index | None]:
    """The levels that say the sample and the time."""
    if index.nlevels > 2:
        raise DataError(f"The frame's index has {index.nlevels} levels {tuple(index.names)}: expected a sample, or a sample and a time.")
    if index.nlevels == 2:
        swapped = index.names[1] == labelled.SAMPLE or index.names[0] == labelled.TIME
        first, second = index.get_level_values(0), index.get_level_values(1)
        return (second, first) if swapped else (first, second)
    if index.name == labelled.SAMPLE or not index.is_unique:
        return index, None
    return None, index


def _ragged(steps: np.ndarray, lengths: np.ndarray) -> Flat:
    """Sequences one after the other; the steps at the end of one that are NaN throughout are padding."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    there = ~np.isnan(steps).all(axis=1)
    last = [np.flatnonzero(there[start:end]) for start, end in zip(starts, ends, strict=True)]
    return Flat(steps, starts.astype(np.int64), np.array([found[-1] + 1 if found.size else 0 for found in last], np.int64))
