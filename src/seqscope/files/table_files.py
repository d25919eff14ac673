"""Files of tables: `.csv`, `.tsv` and `.parquet`, at once, or part by part where their steps are kept in another file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqscope import labelled, ram
from seqscope.errors import DataError, require, warn
from seqscope.files.found import Found, Options
from seqscope.files.kept import Kept, StepsFile
from seqscope.files.table_parts import PART_BYTES, from_parts
from seqscope.files.tables import from_table, is_number, is_numbered, is_wide, named

_MOST_OF_A_LINE = 2**24  # a first line that is longer is no table of ours
_NOT_AT_ONCE = "name a file that its steps are written to as they come, such as keep='steps.npy', or read a part of it"


@dataclass(frozen=True)
class _Text:
    """What the first lines of a text table say of all of it.

    Attributes
    ----------
    names : list of str or None
        The cells of the first line, where they are names.
    options : dict
        What pandas is told.
    n_bytes : int
        Of a row, about.
    """

    path: Path
    names: list[str] | None
    options: dict[str, Any]
    n_bytes: int

    @classmethod
    def of(cls, path: Path) -> _Text:
        """Commas, semicolons or tabs between the cells, told by the first line; with a line of names, or without."""
        first, second = _beginning(path)
        between = max(",;\t", key=first.count)
        cells, more = (next(csv.reader([line], delimiter=between), []) for line in (first, second))
        has_names = not all(is_number(cell) for cell in cells) or is_numbered([cell.strip() for cell in cells])
        if has_names and len(more) > len(cells):  # pandas would take the first cells of all rows for their names
            raise DataError(
                f"its rows have different numbers of cells: {len(cells)} names in the first line and {len(more)} cells in the second"
            )
        options = {
            "sep": between,
            "decimal": "." if between != ";" or "," not in second else ",",
            "header": 0 if has_names else None,
            "names": None if has_names else range(_most_cells(path, between)),
            "encoding": "utf-8-sig",
            "low_memory": False,
        }
        return cls(path, cells if has_names else None, options, max(len(second), 8 * len(cells), 1))

    @property
    def counts_rows(self) -> bool:
        """Whether the first column has no name, as one that R or pandas wrote to count the rows."""
        return self.names is not None and not self.names[0].strip()

    def check_rows(self, frame: pd.DataFrame) -> bool:
        """Say the line that has fewer cells than the names, where there are gaps; pandas fills them with NaN. Gives whether it looked."""
        if not frame.iloc[:, -1].isna().any():
            return False
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=self.options["sep"])
            for cells in lines:
                if cells and len(cells) < frame.shape[1]:
                    raise DataError(
                        f"its rows have different numbers of cells: expected {frame.shape[1]} in line {lines.line_num}, saw {len(cells)}"
                    )
        return True


def read_csv(path: Path, asked: Options) -> Found:
    """A text table."""
    if asked.keep is None:
        ram.check_fits(3 * path.stat().st_size, "the table", instead=_NOT_AT_ONCE)
    text = _Text.of(path)
    if asked.keep is not None:
        return _csv_in_parts(text, asked, Path(asked.keep))
    with _told():
        frame = pd.read_csv(path, **text.options)
    if text.names is not None and not is_wide(frame, asked):
        text.check_rows(frame)
    if text.counts_rows and (start := _row_numbers(frame, None)) is not None:
        frame = _without_row_numbers(frame, start)
    return from_table(frame, asked, has_names=text.names is not None)


def _csv_in_parts(text: _Text, asked: Options, keep: Path) -> Found:
    words: set[Any] = set()
    while True:
        try:
            with StepsFile(keep) as file:
                return from_parts(_csv_parts(text, asked, words), asked, Kept(file), has_names=text.names is not None)
        except _HoldsWordsError as found:  # not only numbers, as its first parts said: they are read again as what was written
            words.add(found.column)


class _HoldsWordsError(Exception):
    """A column that says what a row is holds words further on."""

    def __init__(self, column: Any) -> None:
        self.column = column


def _csv_parts(text: _Text, asked: Options, words: set[Any]) -> Iterator[pd.DataFrame]:
    """The table from front to back; `words` are the columns that are no numbers."""
    n_rows = max(1, PART_BYTES // text.n_bytes)
    looked, start, first = False, None, None
    with _told(), pd.read_csv(text.path, chunksize=n_rows, dtype=dict.fromkeys(words, "str"), **text.options) as parts:
        for part in parts:
            if first is None:
                first = part
                looked = text.names is None or not len(part) or is_wide(part, asked)
                start = _row_numbers(part, None) if text.counts_rows else None
            _check_words(part, first, asked)
            looked = looked or text.check_rows(part)
            if start is not None and _row_numbers(part, start) is None:
                raise DataError(f"its first column has no name and counts the rows, but not behind row {part.index[0]}: give it a name")
            yield part if start is None else _without_row_numbers(part, start)


def _check_words(part: pd.DataFrame, first: pd.DataFrame, asked: Options) -> None:
    for said, default in ((asked.sample, labelled.SAMPLE), (asked.time, labelled.TIME), (asked.label, labelled.LABEL)):
        name = named(part, said, default)
        if name is not None and pd.api.types.is_numeric_dtype(first[name]) and not pd.api.types.is_numeric_dtype(part[name]):
            raise _HoldsWordsError(name)


def _row_numbers(frame: pd.DataFrame, start: int | None) -> int | None:
    """The first of the numbers that a first column counts the rows with: 1 as in R's write.csv, 0 as in pandas'; None if it does not."""
    if not len(frame) or frame.shape[1] < 2:
        return None
    numbers, rows = frame.iloc[:, 0].to_numpy(), frame.index.to_numpy()
    return next((one for one in ((0, 1) if start is None else (start,)) if np.array_equal(numbers, one + rows)), None)


def _without_row_numbers(frame: pd.DataFrame, start: int) -> pd.DataFrame:
    if frame.index[0] == 0:
        warn("The first column has no name and counts the rows: it is left out (in R, write.csv(..., row.names = FALSE) writes none).")
    return frame.iloc[:, 1:]


@contextmanager
def _told() -> Iterator[None]:
    """What pandas says of a text that is no table, in a sentence."""
    try:
        yield
    except pd.errors.EmptyDataError:
        raise DataError("it holds no table") from None
    except pd.errors.ParserError as error:
        raise DataError(f"its rows have different numbers of cells: {str(error).rsplit(': ', maxsplit=1)[-1].strip()}") from error


def read_parquet(path: Path, asked: Options) -> Found:
    """A table in columns, as pandas, polars, Spark or R's arrow write it."""
    parquet = require("pyarrow.parquet", extra="parquet", purpose="Reading .parquet files")
    with parquet.ParquetFile(path) as file:
        groups = (file.metadata.row_group(place) for place in range(file.metadata.num_row_groups))
        n_bytes = sum(group.total_byte_size for group in groups)
        if asked.keep is not None:
            with StepsFile(Path(asked.keep)) as steps:
                return from_parts(_parquet_parts(file, n_bytes), asked, Kept(steps))
    ram.check_fits(3 * n_bytes, "the table", instead=_NOT_AT_ONCE)
    frame = pd.read_parquet(path, engine="pyarrow")
    return from_table(_with_index(frame), asked)


def _parquet_parts(file: Any, n_bytes: int) -> Iterator[pd.DataFrame]:
    """The table from front to back."""
    metadata, schema = file.metadata, file.schema_arrow
    of_row = max(n_bytes // max(1, metadata.num_rows), 8 * metadata.num_columns)
    described = (schema.pandas_metadata or {}).get("index_columns", [])
    counted = [one for one in described if isinstance(one, dict) and one.get("name") is not None]  # an index that is no column
    begin = 0
    for batch in file.iter_batches(batch_size=max(1, PART_BYTES // of_row)):
        part = _with_index(batch.to_pandas())
        rows = pd.RangeIndex(begin, begin + len(part))
        for one in counted:
            part[one["name"]] = one["start"] + one["step"] * rows.to_numpy()
        if isinstance(part.index, pd.RangeIndex):
            part.index = rows
        begin += len(part)
        yield part


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with pandas' own index, where it has names, as columns."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    return frame.rename(columns=str)


def _most_cells(path: Path, between: str) -> int:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return max(line.count(between) for line in file) + 1


def _beginning(path: Path) -> tuple[str, str]:
    """The first two lines that are not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = (line for line in iter(lambda: file.readline(_MOST_OF_A_LINE), "") if line.strip())
        return next(lines, ""), next(lines, "")
