"""What the points of a map are coloured by: a class is a colour and a shape, a value a place on a scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqscope.errors import DataError, quoted
from seqscope.explorer.any_source import Source
from seqscope.explorer.theme import Look, scale
from seqscope.explorer.views.samples.listing import PREDICTION, SCORE, WRONG, natural, said
from seqscope.labelled import LABEL, UNIT

COLOURS = (LABEL, PREDICTION, WRONG, SCORE, UNIT)
# The shapes of classes, as Bokeh and matplotlib call them and as a sign in a line of text.
SHAPES = {
    "circle": ("o", "●"),
    "square": ("s", "■"),
    "triangle": ("^", "▲"),
    "diamond": ("D", "◆"),
    "inverted_triangle": ("v", "▼"),
    "star": ("*", "★"),
    "plus": ("P", "✚"),
}
CROSS = "x"
SIGNS = {name: sign for name, (_, sign) in SHAPES.items()} | {CROSS: "✕"}
MARKERS = {name: marker for name, (marker, _) in SHAPES.items()} | {CROSS: "x"}
# As many classes have looks of their own and are named in a legend; of more, all are named where the mouse is.
MOST_NAMED = 24


@dataclass(frozen=True)
class Entry:
    """A line of a legend."""

    marker: str
    color: str
    name: str
    number: int


@dataclass(frozen=True)
class Coloured:
    """How points look.

    Attributes
    ----------
    title : str
        What the colours say.
    color, marker, text : list of str
        Of each point, `text` in words.
    legend : list of Entry
        Of classes; empty where there are too many.
    values : array (point) or None
        Where the colours are a scale.
    limits : (float, float)
        Its ends.
    """

    title: str
    color: list[str]
    marker: list[str]
    text: list[str]
    legend: list[Entry]
    values: np.ndarray | None = None
    limits: tuple[float, float] = (0.0, 1.0)


def available(source: Source) -> list[str]:
    """What points can be coloured by, of a data set and what is known of it."""
    return [name for name in COLOURS if name == UNIT or name in source.samples]


def check_colour(source: Source, value: str) -> str:
    """A colouring that there is.

    Raises
    ------
    DataError
    """
    if value not in COLOURS:
        raise DataError(f"Samples can't be coloured by '{value}': expected one of {quoted(available(source))}.")
    return value


def colouring(source: Source, wanted: str) -> str:
    """The colouring that is wanted; the first that there is where that is not known."""
    known = available(source)
    return wanted if wanted in known else known[0]


def coloured(by: str, values: np.ndarray, look: Look, title: str) -> Coloured:
    """The looks of points.

    Parameters
    ----------
    by : str
        One of `COLOURS`.
    values : array (point,)
        Labels, predictions, whether each is wrong, or numbers.
    """
    if by == WRONG:
        return _mistakes(values, look, title)
    if values.dtype.kind == "f":
        return _scaled(values.astype(float), look, title)
    return _classes(values, look, title)


def _mistakes(values: np.ndarray, look: Look, title: str) -> Coloured:
    is_wrong = values.astype(bool)
    looks = (Entry("circle", look.colors[0], "right", int((~is_wrong).sum())), Entry(CROSS, look.wrong, "wrong", int(is_wrong.sum())))
    return _of_entries(is_wrong.astype(int), list(looks), title)


def _classes(values: np.ndarray, look: Look, title: str) -> Coloured:
    codes, different = pd.factorize(np.asarray(values, object), use_na_sentinel=False)
    names = [said(value) or "none" for value in different]
    in_order = sorted(range(len(names)), key=lambda place: natural(names[place]))
    counts, shapes = np.bincount(codes, minlength=len(names)), list(SHAPES)
    looks: list[Entry] = [Entry("", "", "", 0)] * len(names)
    for number, place in enumerate(in_order):
        looks[place] = Entry(shapes[number % len(shapes)], look.colors[number % len(look.colors)], names[place], int(counts[place]))
    made = _of_entries(codes, looks, title)
    legend = [looks[place] for place in in_order] if len(names) <= MOST_NAMED else []
    return Coloured(made.title, made.color, made.marker, made.text, legend)


def _of_entries(codes: np.ndarray, looks: list[Entry], title: str) -> Coloured:
    def each(part: Callable[[Entry], str]) -> list[str]:
        return np.array([part(entry) for entry in looks], object)[codes].tolist()  # type: ignore[no-any-return]

    return Coloured(title, each(lambda entry: entry.color), each(lambda entry: entry.marker), each(lambda entry: entry.name), looks)


def _scaled(values: np.ndarray, look: Look, title: str) -> Coloured:
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    colors, low, high = scale(low, high)
    places = np.clip((np.nan_to_num(values, nan=low) - low) / (high - low) * (len(colors) - 1), 0, len(colors) - 1).round().astype(int)
    color = np.where(np.isfinite(values), np.array(colors, object)[places], look.missing).tolist()
    return Coloured(title, color, ["circle"] * len(values), [said(value) or "none" for value in values], [], values, (low, high))
