"""Tables as sequences: long (a row for each step) or wide (a row for each sequence, a column for each step)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from seqscope import labelled
from seqscope.errors import DataError, nearest, quoted
from seqscope.files.found import Found, Options

LONG, WIDE = "long", "wide"

# What stands before the number of a step in the names of columns; any other word is one of channels ("ch1", "ax2").
_STEP = re.compile(r"(?i)(?:t|time|step|timestep|time_step)?[_ ]?(\d+)")
_HOW = "say layout='long' (a row for each step) or layout='wide' (a row for each sequence, its columns the steps)"


def from_table(frame: pd.DataFrame, asked: Options, *, has_names: bool = True) -> Found:
    """Sequences of a table.

    Raises
    ------
    DataError
        It could be long or wide, a column is missing or is no channel, a step stands there twice.
    """
    if not len(frame):
        raise DataError("it holds no row")
    if is_wide(frame, asked, has_names=has_names):
        return from_wide(frame, asked, has_names=has_names)
    sample = named(frame, asked.sample, labelled.SAMPLE)
    if sample is not None and len(frame) > 1 and frame[sample].is_unique:
        check_steps(frame, asked, sample)
    return from_long(frame, asked)


def is_wide(frame: pd.DataFrame, asked: Options, *, has_names: bool = True) -> bool:
    """Whether the columns are steps: as said, or by their names.

    Raises
    ------
    DataError
        The layout is none of a table, or has to be said.
    """
    if asked.layout not in (None, LONG, WIDE):
        raise DataError(f"the layout {asked.layout!r} is not one of a table: {_HOW}")
    if asked.layout is None and not has_names and frame.shape[1] > 1:
        raise DataError(
            f"it has no line of names: write one in front, or {_HOW}; columns are then named by their position, such as label=0 for the "
            "first"
        )
    if asked.layout is not None or named(frame, asked.time, labelled.TIME) is not None:
        return asked.layout == WIDE
    known = [named(frame, asked.sample, labelled.SAMPLE), named(frame, asked.label, labelled.LABEL)]
    return is_numbered(others(frame, known))


def check_steps(frame: pd.DataFrame, asked: Options, sample: Any) -> None:
    """Of a table with one row for each sample, refuse to guess that these are sequences of one step.

    Raises
    ------
    DataError
        Neither a layout was said nor is there a time.
    """
    if asked.layout is None and named(frame, asked.time, labelled.TIME) is None:
        raise DataError(f"it has one row for each {sample!r} and no column of times: {_HOW}")


# A row for each step


def from_long(frame: pd.DataFrame, asked: Options) -> Found:
    """Sequences of rows that are steps."""
    sample, time = named(frame, asked.sample, labelled.SAMPLE), named(frame, asked.time, labelled.TIME)
    label = named(frame, asked.label, labelled.LABEL)
    check_whole(frame, [name for name in (sample, time, label) if name is not None])
    if time is not None:
        frame = _in_time(frame, sample, time)
    known = {} if label is None else {"labels": _label_of_each(frame, sample, label)}
    values = _numbers(frame[others(frame, [sample, time, label])])
    for name in (sample, time):
        if name is not None:
            values[name] = frame[name]
    index = [name for name in (sample, time) if name is not None]
    if not index:
        return Found(values, known)
    values = values.set_index(index)
    values.index.names = [{sample: labelled.SAMPLE, time: labelled.TIME}[name] for name in index]
    return Found(values, known)


def _in_time(frame: pd.DataFrame, sample: Any, time: Any) -> pd.DataFrame:
    """The rows of each sample in the order of their times, each time once."""
    if not pd.api.types.is_numeric_dtype(frame[time]) and not pd.api.types.is_datetime64_any_dtype(frame[time]):
        try:
            frame = frame.assign(**{str(time): pd.to_datetime(frame[time], format="ISO8601")})
        except (ValueError, TypeError) as error:
            raise DataError(
                f"its times ({str(frame[time].iloc[0])!r}, column {time!r}) are no numbers and no dates such as 2026-01-31 10:30:00"
            ) from error
    keys = [name for name in (sample, time) if name is not None]
    again = np.flatnonzero(frame.duplicated(keys))
    if again.size:
        where = ", ".join(f"{name} {frame[name].iloc[again[0]]}" for name in keys)
        hint = "" if sample is not None else "; where there are several sequences, say sample= the column that tells them apart"
        raise DataError(f"two rows have the same {where} (the second is row {frame.index[again[0]]}): each step stands there once{hint}")
    samples = np.zeros(len(frame), int) if sample is None else pd.factorize(frame[sample])[0]
    return frame.iloc[np.lexsort((frame[time].to_numpy(), samples))]


def _label_of_each(frame: pd.DataFrame, sample: Any, label: Any) -> np.ndarray:
    samples = np.zeros(len(frame), int) if sample is None else pd.factorize(frame[sample])[0]
    groups = frame[label].groupby(samples)
    changing = np.flatnonzero(groups.nunique().to_numpy() > 1)
    if changing.size:
        which = "the sequence" if sample is None else f"{sample} {pd.factorize(frame[sample])[1][changing[0]]}"
        raise DataError(f"the {label!r} changes within {which}: a label is one for each sequence")
    return _as_labels(groups.first())


# A row for each sequence


def from_wide(frame: pd.DataFrame, asked: Options, *, has_names: bool) -> Found:
    """Sequences of rows that are sequences of one channel."""
    if asked.time is not None:
        raise DataError(f"a wide table has a column for each step and none for the time (time={asked.time!r})")
    sample, label = named(frame, asked.sample, labelled.SAMPLE), named(frame, asked.label, labelled.LABEL)
    steps = others(frame, [sample, label])
    check_whole(frame, [name for name in (sample, label) if name is not None])
    if label is None and not has_names and asked.label is None and len(steps) > 2:
        _check_first(frame)
    values = _numbers(frame[steps]).to_numpy(np.float64)
    known: dict[str, Any] = {} if sample is None else {"samples": frame[sample].to_numpy()}
    if label is not None:
        known["labels"] = _as_labels(frame[label])
    times = _times(steps) if has_names else None
    return Found(values[:, :, None], known if times is None else known | {"time": times})


def _check_first(frame: pd.DataFrame) -> None:
    """Ask whether the first column is the class, as it is in the UCR archive's tables."""
    whole = [pd.api.types.is_numeric_dtype(frame[name]) and bool((frame[name].dropna() % 1 == 0).all()) for name in frame.columns]
    if whole[0] and not all(whole[1:]):
        raise DataError("the first column alone holds whole numbers: say label=0 if it is the class, label=False if it is the first step")


def _times(steps: list[Any]) -> np.ndarray | None:
    """The times that the names of the columns are, where they are not just numbers of steps."""
    if is_numbered([str(name) for name in steps]) or not all(is_number(str(name)) for name in steps):
        return None
    times = np.array([float(name) for name in steps])
    return times if (np.diff(times) > 0).all() else None


# Columns


def named(frame: pd.DataFrame, said: Any, default: str) -> Any:
    """The column that was said, or the one of the usual name, whatever its case; None where there is none."""
    if said is False:
        return None
    if said is None:
        return next((name for name in frame.columns if str(name).strip().lower() == default), None)
    if said not in frame.columns:
        raise DataError(f"it has no column {said!r} ({default}=): {nearest(str(said), map(str, frame.columns))}")
    return said


def others(frame: pd.DataFrame, known: list[Any]) -> list[Any]:
    """The columns that are none of those that are known: values."""
    rest = [name for name in frame.columns if not any(name == one for one in known if one is not None)]
    if not rest:
        raise DataError(f"it has the columns {quoted(map(str, frame.columns))} and none of values")
    return rest


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    check_numbers(frame)
    return frame.copy()


def check_numbers(frame: pd.DataFrame) -> None:
    """Refuse columns of values that are no numbers."""
    for name in frame.columns:
        column = frame[name]
        if not pd.api.types.is_numeric_dtype(column):
            wrong = np.flatnonzero(pd.to_numeric(column, errors="coerce").isna() & column.notna())
            what = f"{str(column.iloc[wrong[0]])!r} in row {column.index[wrong[0]]}" if wrong.size else f"values of type {column.dtype}"
            raise DataError(
                f"the column {name!r} holds {what}, and every column of values is numbers: leave it out, or say what it is "
                f"(sample={name!r}, time={name!r}, label={name!r})"
            )


def check_whole(frame: pd.DataFrame, names: list[Any]) -> None:
    """Refuse gaps in columns that say what a row is."""
    for name in names:
        gaps = np.flatnonzero(frame[name].isna())
        if gaps.size:
            raise DataError(f"row {frame.index[gaps[0]]} has nothing in the column {name!r}")


def _as_labels(column: pd.Series[Any]) -> np.ndarray:
    return column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.astype(str).to_numpy(dtype=str)


def is_numbered(names: list[Any]) -> bool:
    """Whether names are those of steps that follow each other: 0, 1, 2 or t1, t2, t3."""
    found = [_STEP.fullmatch(str(name)) for name in names]
    numbers = [int(match[1]) for match in found if match is not None and len(match[1]) < 10]
    if len(names) < 2 or len(numbers) < len(names):
        return False
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(names)))


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, or nothing."""
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True
