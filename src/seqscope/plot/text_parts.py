"""What a picture of text is made of: tokens that can be seen, their values row by row, their colours, and the lines they stand on."""

from __future__ import annotations

import itertools
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import Colormap, Normalize, to_hex
from rich.cells import cell_len

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.attribution_parts import ATTRIBUTION, MAP, NATIVE, method_of, scale_of
from seqscope.plot.heatmap import checked_limits

# What can be given as values: an array, or one line of each of several arrays, such as the gates of one unit.
Values = xr.DataArray | xr.Dataset | np.ndarray | Sequence[float]

MOST_ROWS = 16

NEWLINE, SPACE = "⏎", "·"
_SEEN = {" ": SPACE, "\n": NEWLINE, "\t": "→", "\r": "↵", "\u00a0": "⍽"}
_NOTHING, _CARRIER = "∅", "◌"  # an empty token; what an accent without a letter stands on
_GATES = ("i", "f", "o", "r", "z")
_STATE = "state"
# The luminance at which black and white are told apart from it alike (WCAG 2.1: contrast is (a + .05) / (b + .05)).
_MIDDLE = (1.05 * 0.05) ** 0.5 - 0.05


@dataclass(frozen=True)
class Cell:
    """A token on its line: its place in the text, what is seen of it, and where that begins, in letters."""

    place: int
    seen: str
    column: int

    @property
    def width(self) -> int:
        """How many letters it is wide."""
        return cell_len(self.seen)


@dataclass(frozen=True)
class Painted:
    """Tokens with a value in each row.

    Attributes
    ----------
    tokens : tuple of str
    values : array (row, token)
        NaN: none.
    rows : tuple of str
        What the rows are called; one row may have no name.
    positions : tuple of str
        What the steps are called; `clock` is what they count.
    clock : str
    name : str
        What the values are called.
    cmap, norm
        Their colours.
    """

    tokens: tuple[str, ...]
    values: np.ndarray
    rows: tuple[str, ...]
    positions: tuple[str, ...]
    clock: str
    name: str
    cmap: Colormap
    norm: Normalize

    @property
    def ends(self) -> list[tuple[float, float]]:
        """The values that a legend names, and how far along the colours each lies: the ends, and zero between them."""
        low, high = float(self.norm.vmin or 0.0), float(self.norm.vmax or 0.0)
        return [(low, 0.0), *([(0.0, float(self.norm(0.0)))] if low < 0 < high else []), (high, 1.0)]

    @property
    def legend(self) -> str:
        """What the colours stand for: with one row, that row's values."""
        return ", ".join(part for part in (self.name, *(self.rows if len(self.rows) == 1 else ())) if part)

    def colours(self, row: int, place: int) -> tuple[str, str] | None:
        """The background of a token and the ink that is legible on it; None where it has no value."""
        number = self._numbers[row, place]
        return None if np.ma.is_masked(number) else self._shades[number]

    @cached_property
    def _shades(self) -> list[tuple[str, str]]:
        """All colours of the scale, with the ink on each."""
        return [shade(self.cmap, number) for number in range(self.cmap.N)]

    @cached_property
    def _numbers(self) -> np.ma.MaskedArray:
        """The number of each value's colour."""
        missing = np.isnan(self.values)
        parts = np.clip(np.asarray(self.norm(np.where(missing, float(self.norm.vmin or 0.0), self.values))), 0.0, 1.0)
        return np.ma.masked_array(np.minimum((parts * self.cmap.N).astype(int), self.cmap.N - 1), missing)

    def said(self, row: int, place: int) -> str:
        """A token's value in words."""
        value = self.values[row, place]
        number = "no value" if np.isnan(value) else f"{value:.4g}"
        return f"{self.clock} {self.positions[place]}, {self.tokens[place]!r}: {number}" + (
            f" ({self.rows[row]})" if self.rows[row] else ""
        )

    def lines(self, width: int) -> list[list[Cell]]:
        """The tokens on lines of so many letters."""
        seen = [visible(token) for token in self.tokens]
        gap = int(max(map(len, self.tokens)) > 1)  # words stand apart, characters do not
        lines: list[list[Cell]] = []
        for first, stop in itertools.pairwise([0, *_breaks(self.tokens, seen, width, gap), len(seen)]):
            columns = np.cumsum([0, *(cell_len(one) + gap for one in seen[first:stop])]).tolist()
            lines.append([Cell(first + place, one, columns[place]) for place, one in enumerate(seen[first:stop])])
        return lines


def painted(tokens: str | Iterable[str], values: Values, *, limits: tuple[float, float] | None, name: str | None) -> Painted:
    """Tokens and their values, once both are known to fit.

    Raises
    ------
    DataError
        The tokens are no text or none, the values are not those of one text, or there are not as many of them.
    """
    listed = _tokens(tokens)
    array, time = _rows(values)
    array = _without_padding(array, time, len(listed))
    if np.isinf(array.values).any():
        row, place = np.argwhere(np.isinf(array.values))[0]
        raise DataError(f"The value at position {place} is {array.values[row, place]}: expected numbers, or NaN where there is none.")
    if not array.notnull().any():
        raise DataError("The values are all NaN: there is nothing to draw.")
    positions = array.coords[time].values if time in array.coords else np.arange(array.sizes[time])
    return Painted(
        listed,
        array.values,
        tuple(array.coords["row"].values.tolist()),
        tuple(map(str, positions)),
        style.label_of(array, time),
        _name(array) if name is None else name,
        *_colours(array, limits),
    )


def shade(cmap: Colormap, part: float | int) -> tuple[str, str]:
    """A colour of a scale, by number or by how far along it lies, and black or white, whichever is legible on it."""
    colour = np.asarray(cmap(part))[:3]
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)  # sRGB, IEC 61966-2-1
    return to_hex(tuple(colour.tolist())), "#000000" if float(linear @ (0.2126, 0.7152, 0.0722)) > _MIDDLE else "#ffffff"


def visible(token: str) -> str:
    r"""A token as it can be seen: white space as signs, what can't be printed by its code.

    >>> visible("a b\n")
    'a·b⏎'
    """
    if not token:
        return _NOTHING
    seen = "".join(_SEEN.get(letter) or (letter if letter.isprintable() else ascii(letter)[1:-1]) for letter in token)
    return _CARRIER + seen if unicodedata.combining(seen[0]) else seen


def _breaks(tokens: Sequence[str], seen: Sequence[str], width: int, gap: int) -> list[int]:
    """Where lines begin but the first: after a newline, and where one is full; between words where there is a space on it."""
    breaks: list[int] = []
    first, after_space, column = 0, 0, 0
    for place, one in enumerate(seen):
        wide = cell_len(one)
        if place > first and column + wide > width:
            first = after_space if after_space > first else place
            breaks.append(first)
            column = sum(cell_len(before) + gap for before in seen[first:place])
        column += wide + gap
        after_space = place + 1 if tokens[place].isspace() else after_space
        if tokens[place].endswith("\n") and place + 1 < len(seen):
            first, column = place + 1, 0
            breaks.append(first)
    return breaks


def _tokens(tokens: Any) -> tuple[str, ...]:
    if not isinstance(tokens, str | Iterable):
        raise DataError(f"A {type(tokens).__name__} was given as tokens: expected text, or a list of str, one for each step.")
    listed = tuple(np.asarray(tokens).tolist() if isinstance(tokens, np.ndarray | xr.DataArray) else tokens)
    if not listed:
        raise DataError("The text is empty: there is nothing to draw.")
    for place, token in enumerate(listed):
        if not isinstance(token, str):
            raise DataError(
                f"Token {place} is {textwrap.shorten(repr(token), 40)}, a {type(token).__name__}: expected text, or a list of str, one for "
                "each step; of X[0] from Sequences.from_text, seqscope.text.text_of(X[0])."
            )
    return listed


def _rows(values: Any) -> tuple[xr.DataArray, str]:
    """The values as (row, time), each row named, and the name of the time dim."""
    from seqscope.units import clock_of

    array = _as_array(values)
    time = clock_of(array)
    if array.sizes.get(labelled.SAMPLE) == 1:
        array = array.isel({labelled.SAMPLE: 0})
    if labelled.SAMPLE in array.dims:
        raise DataError(
            f"The values of {array.sizes[labelled.SAMPLE]} samples were given and one text is drawn: choose it, as with .isel(sample=0)."
        )
    others = [str(dim) for dim in array.dims if dim != time]
    n_rows = int(np.prod([array.sizes[dim] for dim in others]))
    if not 0 < n_rows <= MOST_ROWS:
        raise DataError(
            f"The values have dims {array.dims}, which makes {n_rows} rows, and {MOST_ROWS} at most stand one below the other: choose "
            f"some, as with .isel({others[0]}=[3, 17]), or add them up, as with .sum('{others[0]}')."
        )
    names = [", ".join(parts) for parts in itertools.product(*(_labels(array, dim) for dim in others))]
    if not others:
        names = [", ".join(_labels(array, dim)[0] for dim in (labelled.DIRECTION, labelled.UNIT, labelled.HEAD) if dim in array.coords)]
    rows = xr.Variable(("row", time), array.transpose(*others, time).values.reshape(n_rows, -1).astype(float))
    clock = {time: array.coords[time].variable} if time in array.coords and array.coords[time].ndim == 1 else {}
    return xr.DataArray(rows, coords=clock | {"row": names}, name=array.name, attrs=array.attrs), time


def _as_array(values: Any) -> xr.DataArray:
    if isinstance(values, xr.Dataset):
        if not values.data_vars:
            raise DataError("The Dataset of values is empty: expected an array, (time) or (time, unit), or several states of one unit.")
        labels = [str(one.attrs.get("long_name", name)) for name, one in values.items()]
        array = values.to_array(_STATE, name="gates" if set(values) <= set(_GATES) else None).assign_coords({_STATE: labels})
        unit = f", {_labels(array, labelled.UNIT)[0]}" if labelled.UNIT in values.coords and not values.coords[labelled.UNIT].ndim else ""
        return array.assign_attrs(values.attrs | {"long_name": ("Gate" if array.name == "gates" else "State") + unit})
    if isinstance(values, xr.DataArray):
        array = values
    else:
        plain = np.asarray(values)
        if plain.ndim not in (1, 2):
            raise DataError(f"The values have shape {plain.shape}: expected one for each token, (time), or several rows, (time, unit).")
        array = xr.DataArray(plain, dims=(labelled.TIME, "row")[: plain.ndim])
    if array.dtype.kind not in "buif":
        raise DataError(f"The values are of type {array.dtype}: expected numbers, one for each token.")
    return array


def _labels(array: xr.DataArray, dim: str) -> list[str]:
    """What each place on a dim is called: "Unit 17"."""
    labels = np.atleast_1d(array.coords[dim].values).tolist() if dim in array.coords else list(range(array.sizes[dim]))
    if dim in (_STATE, labelled.DIRECTION):
        return [str(label).capitalize() if dim == labelled.DIRECTION else str(label) for label in labels]
    word = style.unit_word(array) if dim == labelled.UNIT else dim.replace("_", " ").capitalize()
    return [f"{word} {label}" for label in labels]


def _without_padding(array: xr.DataArray, time: str, n_tokens: int) -> xr.DataArray:
    """The values of these tokens; what lies beyond them has to be padding."""
    beyond = array.isel({time: slice(n_tokens, None)})
    if array.sizes[time] < n_tokens or beyond.notnull().any():
        raise DataError(f"There are {n_tokens} tokens and {array.sizes[time]} values: expected a value for each token.")
    return array.isel({time: slice(n_tokens)})


def _name(array: xr.DataArray) -> str:
    """What the values are called."""
    if array.name in (ATTRIBUTION, MAP, NATIVE) and "method" in array.attrs:
        return method_of(array)
    if "long_name" in array.attrs:
        return str(array.attrs["long_name"])
    if array.name is None:
        return "Value"
    return "Activation" if array.name == labelled.ACTIVATIONS else str(array.name).capitalize()


def _colours(array: xr.DataArray, limits: tuple[float, float] | None) -> tuple[Colormap, Normalize]:
    """Those of a heatmap: gates from 0 to 1, signed values symmetric about zero, others from zero."""
    if limits is not None:
        return style.color_scale(*checked_limits(limits))
    if array.name in (*_GATES, "gates") and 0.0 <= float(array.min()) <= float(array.max()) <= 1.0:
        return style.color_scale(0.0, 1.0)
    return scale_of([array], None).colours()
