"""Coloured text in a panel of matplotlib."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D

from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.attribution_parts import colour_bar
from seqscope.plot.text_parts import Cell, Painted

# The most tokens, counted in every row, and the most lines that one picture holds: a taller one is no picture any more.
MOST_DRAWN, MOST_LINES = 20_000, 2_000

# A letter of a monospaced type is so many of its heights wide and a line so many high, its base line so far down; and how much of a row
# lies between the rows of one line of text and those of the next.
_WIDE, _HIGH, _BASE, _GAP = 0.602, 1.3, 0.74, 0.5
# The type of a figure of its own, and what its labels and its colour bar take, in points.
_TYPE, _BESIDE, _AROUND = 10.0, 170.0, 45.0
_LEAST_WIDTH, _LEAST_HEIGHT = 40, 7
_BLACK = "#000000"

# A token on its line, the row of values, and how far down that stands.
Placed = tuple[Cell, int, float]


class Letters(PathPatch):
    """Many tokens in one ink, as outlines: each as large as its cell, and thousands drawn as fast as one.

    Attributes
    ----------
    placed : list of (Cell, row, top)
    """

    def __init__(self, placed: list[Placed], ink: str) -> None:
        outlines = {seen: _outline(seen) for seen in {cell.seen for cell, _, _ in placed}}
        paths = [outlines[cell.seen].transformed(_to_cell(cell, top)) for cell, _, top in placed]
        super().__init__(Path.make_compound_path(*paths), facecolor=ink, linewidth=0.0)
        self.placed = placed


def _outline(seen: str) -> Path:
    """A token as an outline, its type 1 high. Dollar signs are dollar signs."""
    vertices, codes = text_to_path.get_text_path(FontProperties(family="monospace"), seen, ismath=False)
    return Path(np.reshape(vertices, (-1, 2)) / text_to_path.FONT_SCALE, codes)


def _to_cell(cell: Cell, top: float) -> Affine2D:
    """Outlines to letters and rows, the rows downward."""
    return Affine2D().scale(1 / _WIDE, -1 / _HIGH).translate(cell.column, top + _BASE)


def draw(text: Painted, ax: Axes | None, *, width: int, title: str | None) -> Axes:
    """Draw the text in a panel.

    Raises
    ------
    DataError
        There are more tokens than one picture holds.
    """
    lines = text.lines(width)
    n_rows = len(text.rows)
    if text.values.size > MOST_DRAWN or len(lines) * n_rows > MOST_LINES:
        raise DataError(
            f"{text.values.size} tokens on {len(lines) * n_rows} lines are to be drawn, counted in every row, and one picture holds "
            f"{MOST_DRAWN} on {MOST_LINES}: draw a part of the text, or save it as .html."
        )
    heights = [line * (n_rows + (_GAP if n_rows > 1 else 0.0)) for line in range(len(lines))]
    wide = max(cells[-1].column + cells[-1].width for cells in lines)
    ax = style.new_axes(ax, _size(wide, heights[-1] + n_rows))
    placed = [(cell, row, top + row) for top, line in zip(heights, lines, strict=True) for row in range(n_rows) for cell in line]
    _frame(ax, wide, heights[-1] + n_rows)
    shades = _backgrounds(ax, text, placed)
    _letters(ax, text, placed)
    _name_rows(ax, text, lines, heights)
    colour_bar(ax, shades, text.legend, _extend(text))
    if title is not None:
        style.put_title(ax, title)
    return ax


def _size(wide: int, high: float) -> tuple[float, float]:
    """The size of a figure of its own, in inches."""
    across = max(_LEAST_WIDTH, wide) * _TYPE * _WIDE + _BESIDE
    return across / 72, (max(_LEAST_HEIGHT, high) * _TYPE * _HIGH + _AROUND) / 72


def _frame(ax: Axes, wide: int, high: float) -> None:
    """A panel of so many letters by so many rows, the first on top; a short text is not blown up."""
    ax.set_xlim(0.0, max(_LEAST_WIDTH, wide))
    ax.set_ylim(max(float(_LEAST_HEIGHT), high), 0.0)
    ax.set_aspect(_HIGH / _WIDE, anchor="NW")  # the type keeps its form
    ax.set_xticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _backgrounds(ax: Axes, text: Painted, placed: list[Placed]) -> PolyCollection:
    """A rectangle behind each token, coloured by its value."""
    corners = [
        [(cell.column, top), (cell.column + cell.width, top), (cell.column + cell.width, top + 1), (cell.column, top + 1)]
        for cell, _, top in placed
    ]
    values = np.array([text.values[row, cell.place] for cell, row, _ in placed])
    shades = PolyCollection(corners, cmap=text.cmap, norm=text.norm, linewidths=0.0, antialiaseds=False)
    shades.set_array(np.ma.masked_invalid(values))
    ax.add_collection(shades, autolim=False)
    return shades


def _letters(ax: Axes, text: Painted, placed: list[Placed]) -> None:
    """The tokens themselves, in black on light colours and in white on dark ones."""
    inks: dict[str, list[Placed]] = {}
    for one in placed:
        colours = text.colours(one[1], one[0].place)
        inks.setdefault(colours[1] if colours else _BLACK, []).append(one)
    for ink, of_ink in inks.items():
        ax.add_artist(Letters(of_ink, ink)).set_zorder(2)  # as a patch, its curves would be measured one by one


def _name_rows(ax: Axes, text: Painted, lines: list[list[Cell]], heights: list[float]) -> None:
    """The names of the rows or, of one row, the position of each line's first token."""
    ax.tick_params(axis="y", length=0)
    if len(text.rows) > 1:
        places = [top + row + 0.5 for top in heights for row in range(len(text.rows))]
        style.name_rows(ax, places, list(text.rows) * len(heights), small=True, together=len(text.rows))
    else:
        style.name_rows(ax, [top + 0.5 for top in heights], [text.positions[cells[0].place] for cells in lines], small=True)
        ax.set_ylabel(text.clock)


def _extend(text: Painted) -> str:
    """At which ends of the colour bar values lie beyond it."""
    low, *_, high = (value for value, _ in text.ends)
    beyond = float(np.nanmin(text.values)) < low, float(np.nanmax(text.values)) > high
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
