"""What a data file holds, on its way to Sequences: which arrays are the series and the labels, and the order of their axes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from seqscope.errors import DataError, nearest, quoted, warn
from seqscope.intake import as_array, as_numbers
from seqscope.sequences import Sequences

# The names under which people save data, the likeliest first; in lower case, without the part of the data set and without "_".
_SERIES = ("x", "data", "values", "series", "steps", "sequences", "inputs", "input", "signals")
_LABELS = ("y", "labels", "label", "t", "targets", "target", "classes", "class")
_LENGTHS = ("lengths", "length")
_PARTS = ("", "train", "test", "validation", "valid", "val")

# The orders of axes that an array without names may have; of one with two, a sample or a channel is missing.
LAYOUTS = tuple("".join(order) for letters in ("NTC", "NT", "TC") for order in itertools.permutations(letters))
_WORDS = "N sample, T time, C channel"


@dataclass(frozen=True)
class Options:
    """What a person said of a file, see `seqscope.read`; None where nothing was said."""

    x: str | None = None
    y: str | Literal[False] | None = None
    layout: str | None = None
    sample: str | int | None = None
    time: str | int | None = None
    label: str | int | Literal[False] | None = None
    most: int | None = None
    keep: str | None = None


@dataclass(frozen=True)
class Found:
    """The data as Sequences takes it, and what else is known of it by the names of Sequences' parameters."""

    data: Any
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether it is an array and nothing else, so that a model's layout can be applied to it."""
        return isinstance(self.data, np.ndarray) and not self.known

    def to_sequences(self) -> Sequences:
        """The Sequences."""
        return self.data if isinstance(self.data, Sequences) and not self.known else Sequences(self.data, **self.known)


@dataclass(frozen=True)
class Chosen:
    """The names of the arrays of a file that are the series, and what belongs to them."""

    series: str
    labels: str | None
    lengths: str | None


def choose(names: Collection[str], asked: Options, *, likely: Collection[str] | None = None) -> Chosen:
    """Tell which array holds the series, which the labels and which the lengths, of the same part of the data set.

    Parameters
    ----------
    names : collection of str
        All that the file holds.
    likely : collection of str, optional
        Those that can hold series; default: all.

    Raises
    ------
    DataError
        A name that was given is not there, or none is known, or several parts are.
    """
    for option, name in (("x", asked.x), ("y", asked.y)):
        if name not in (None, False) and name not in names:
            raise DataError(f"it holds no {name!r} ({option}=): {nearest(str(name), names)}")
    series = asked.x or _series(list(names if likely is None else likely), names)
    part = _split(series, _SERIES)
    others = [name for name in names if name != series]
    labels = None if asked.y is False else asked.y or _of_part(others, _LABELS, part)
    return Chosen(series, labels, _of_part(others, _LENGTHS, part))


def _series(likely: list[str], names: Iterable[str]) -> str:
    """The one array that is the series by its name, or because there is no other."""
    by_part = {part: name for part in reversed(_PARTS) if (name := _of_part(likely, _SERIES, part)) is not None}
    if "" in by_part:
        return by_part[""]
    if len(by_part) > 1:
        raise DataError(f"it holds {quoted(by_part.values())}: say which, such as x={next(iter(by_part.values()))!r}")
    if by_part:
        return next(iter(by_part.values()))
    rest = [name for name in likely if all(_split(name, known) is None for known in (_LABELS, _LENGTHS))]
    if len(rest) != 1:
        if not names:
            raise DataError("it holds nothing")
        raise DataError(f"it holds {quoted(names)}, and none is known to be the series: name it 'X', or say which it is, with x='name'")
    return rest[0]


def _of_part(names: Iterable[str], known: tuple[str, ...], part: str | None) -> str | None:
    """The likeliest of the names that mean the same, in a part of the data set."""
    found = {word: name for name in names for word in known if _plain(name) in (word + (part or ""), (part or "") + word)}
    return next((found[word] for word in known if word in found), None)


def _split(name: str, known: tuple[str, ...]) -> str | None:
    """The part of the data set that a name speaks of, where its other half is a known word."""
    return next((part for part in _PARTS for word in known if _plain(name) in (word + part, part + word)), None)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def laid_out(array: np.ndarray, layout: str | None) -> Any:
    """An array as Sequences takes it: (sample, time, channel), (time, channel), or tokens (sample, time). A view where it can be.

    Raises
    ------
    DataError
        The layout is not known, or has another number of axes than the array.
    """
    if layout is None:
        return array
    check_layout(layout)
    if array.ndim != len(layout):
        raise DataError(f"the layout {layout} ({_WORDS}) has {len(layout)} axes, and the array has the shape {array.shape}")
    wanted = [letter for letter in "NTC" if letter in layout]
    array = array.transpose([layout.index(letter) for letter in wanted])
    if wanted == ["N", "T"] and array.dtype.kind not in "iu":
        return array[:, :, None]
    return as_numbers(array) if wanted == ["T", "C"] else array


def check_layout(layout: str) -> None:
    """Refuse a layout of an array that is not known."""
    if layout not in LAYOUTS:
        raise DataError(f"the layout {layout!r} is not known: say one of {quoted(LAYOUTS)} ({_WORDS})")


def with_labels(found: Mapping[str, Any], values: Any, name: str, n_samples: int, *, said: bool) -> dict[str, Any]:
    """What is known of the data, with the labels, where there is one for each sequence; one-hot labels become positions.

    Parameters
    ----------
    said : bool
        Whether the person named them: else what can't be labels is left out with a notice.
    """
    labels = as_array(values)
    if labels.ndim == 2 and labels.shape[0] == n_samples and labels.shape[1] > 1 and _is_one_hot(labels):
        labels = labels.argmax(axis=1)
    if labels.size == n_samples and labels.ndim <= 2 and max(labels.shape, default=1) == n_samples:
        labels = labels.reshape(-1)
        return dict(found) | {"labels": labels.astype(str) if labels.dtype.kind == "O" else labels}
    words = f"{name!r} has the shape {labels.shape}, and labels are one for each of the {n_samples} sequences"
    if said:
        raise DataError(f"{words}: name another array, with y=, or none, with y=False")
    warn(f"{words}: read without labels.")
    return dict(found)


def _is_one_hot(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "iufb" and bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())
