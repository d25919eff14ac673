"""`.ts`, the format of the time series archive (timeseriesclassification.com), as aeon and sktime write it.

A header of lines that begin with "@", and after "@data" a line for each sequence: its dimensions with ":" between them, each of values
with "," between them, or of (time,value) pairs; the class, or the value to predict, behind the last ":".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqscope import ram
from seqscope.errors import DataError, quoted
from seqscope.files.found import Found, Options

_PAIR = re.compile(r"\(([^,()]*),([^,()]*)\)")
_BEHIND_PAIRS = re.compile(r"(?<=\)):")  # and not the colons of a time of day


@dataclass
class _Header:
    """What the lines before "@data" say."""

    has_times: bool = False
    n_channels: int | None = None
    classes: tuple[str, ...] | None = None
    has_values: bool = False  # a number to predict, in place of a class

    @property
    def is_labelled(self) -> bool:
        return self.classes is not None or self.has_values


@dataclass
class _Cases:
    """The sequences, line by line."""

    values: list[np.ndarray] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)


def read_ts(path: Path, asked: Options) -> Found:
    """Sequences of an archive file, with their classes; the output names are those of `@classLabel`."""
    ram.check_fits(2 * path.stat().st_size, "the data", instead="read a part of it")
    with path.open(encoding="utf-8-sig") as file:
        lines = ((number, line.strip()) for number, line in enumerate(file, start=1))
        told = ((number, line) for number, line in lines if line and not line.startswith(("#", "%")))
        header = _header(told)
        cases = _cases(told, header)
    if not cases.values:
        raise DataError("it holds no sequence behind '@data'")
    known: dict[str, Any] = {}
    if header.is_labelled:
        known["labels"] = np.array(cases.labels)
    if header.classes:
        known["outputs"] = header.classes
    if header.has_times:
        known["time"] = cases.times
    return Found(cases.values, known)


def _header(lines: Iterator[tuple[int, str]]) -> _Header:
    """The lines up to "@data"."""
    header = _Header()
    for number, line in lines:
        word, *rest = line.split()
        said = word.lower()
        if said == "@data":
            return header
        if not said.startswith("@"):
            raise DataError(f"line {number} ({line[:30]!r}) is no line of a header, which begin with '@' and end with '@data'")
        if said == "@timestamps":
            header.has_times = _truth(rest, number, line)
        elif said == "@univariate" and _truth(rest, number, line):
            header.n_channels = 1
        elif said in ("@dimension", "@dimensions"):
            if len(rest) != 1 or not rest[0].isdecimal():
                raise DataError(f"line {number} is {line[:60]!r}: expected the number of dimensions")
            header.n_channels = int(rest[0])
        elif said == "@classlabel":
            header.classes = tuple(rest[1:]) if _truth(rest, number, line) else None
        elif said == "@targetlabel":
            header.has_values = _truth(rest, number, line)
    raise DataError("it has no line '@data': expected a header that ends with it, and sequences behind")


def _truth(words: list[str], number: int, line: str) -> bool:
    if not words or words[0].lower() not in ("true", "false"):
        raise DataError(f"line {number} is {line[:60]!r}: expected true or false")
    return words[0].lower() == "true"


def _cases(lines: Iterator[tuple[int, str]], header: _Header) -> _Cases:
    cases = _Cases()
    for number, line in lines:
        try:
            dimensions, label = _parts(line, header)
            _add(cases, dimensions, header)
            if header.is_labelled:
                cases.labels.append(_label(label, header))
        except DataError as error:
            raise DataError(f"line {number}: {error.message}") from error
    return cases


def _parts(line: str, header: _Header) -> tuple[list[str], str]:
    """The dimensions, and what stands behind the last colon where sequences have labels."""
    parts = _BEHIND_PAIRS.split(line) if header.has_times else line.split(":")
    return (parts[:-1], parts[-1].strip()) if header.is_labelled else (parts, "")


def _label(word: str, header: _Header) -> Any:
    if header.has_values:
        return _number(word, "the value to predict")
    if header.classes and word not in header.classes:
        raise DataError(f"its class {word!r} is none of {quoted(header.classes)} that '@classLabel' lists")
    return word


def _add(cases: _Cases, dimensions: list[str], header: _Header) -> None:
    """Take one sequence in."""
    expected = header.n_channels or (cases.values[0].shape[1] if cases.values else len(dimensions))
    if len(dimensions) != expected or not dimensions:
        where = f"{expected} are expected" if expected else "at least one is expected"
        behind = ", and the label behind" if header.is_labelled else ""
        raise DataError(f"it has {len(dimensions)} dimensions and {where} (with ':' between them{behind})")
    read = [_pairs(text, place) if header.has_times else (None, _values(text, place)) for place, text in enumerate(dimensions)]
    lengths = [len(values) for _, values in read]
    if len(set(lengths)) > 1:
        raise DataError(f"its dimensions have {', '.join(map(str, lengths))} values: a sequence has a value of each at every step")
    times = [stamps for stamps, _ in read if stamps is not None]
    if any(not np.array_equal(stamps, times[0]) for stamps in times):
        raise DataError("its dimensions have different times: a sequence has a value of each at every step")
    cases.values.append(np.stack([values for _, values in read], axis=1))
    cases.times.extend(times[:1])


def _values(text: str, place: int) -> np.ndarray:
    cells = text.split(",")
    try:
        return np.array(cells, np.float64)
    except ValueError:
        return np.array([_number(cell, f"dimension {place}, step {step}") for step, cell in enumerate(cells)])


def _pairs(text: str, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of "(0.5,1.2),(1.0,3.4)"."""
    found = list(_PAIR.finditer(text))
    if not found or set(_PAIR.sub("", text)) - set(" ,\t"):
        raise DataError(f"dimension {place} is {text[:40]!r}: expected (time,value) pairs, as '@timeStamps true' says")
    values = np.array([_number(match[2], f"dimension {place}, step {step}") for step, match in enumerate(found)])
    return _stamps([match[1].strip(' "') for match in found], place), values


def _stamps(words: list[str], place: int) -> np.ndarray:
    for kind in (np.float64, "datetime64[us]"):
        try:
            return np.array(words, kind)
        except ValueError:
            continue
    raise DataError(f"dimension {place} has times such as {words[0]!r}: expected numbers, or dates such as 2026-01-31 10:30:00")


def _number(word: str, where: str) -> float:
    if word.strip() == "?":
        raise DataError(f"{where} is '?', a missing value: fill the gap, or leave the sequence out")
    try:
        return float(word)
    except ValueError:
        raise DataError(f"{where} is {word.strip()[:30]!r}: expected a number") from None
