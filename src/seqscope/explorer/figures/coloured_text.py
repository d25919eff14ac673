"""Text on the page: a cell for each character, coloured, on lines; hover gives its value, a click its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from bokeh.core.properties import value
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d
from bokeh.plotting import figure
from matplotlib.colors import Colormap, to_hex

from seqscope.explorer.theme import Look
from seqscope.plot.text_parts import Cell, Painted

# A letter's cell in pixels, its type, the room left of a line for its name, and the gap between lines of several rows.
_WIDE, _HIGH, _TYPE, _GUTTER, _GAP = 9, 20, 14, 60, 8
# How wide a letter of a name is.
_LETTER = 8
_FIELDS = ("x", "y", "width", "color", "ink", "seen", "value", "place", "row", "step")
_STOPS = 17


@dataclass(frozen=True)
class _Placed:
    """A line of text with a row of values: how far down it is, in pixels."""

    cells: list[Cell]
    row: int
    top: int


class ColouredText:
    """Coloured text, one row of values below the other on each line.

    Parameters
    ----------
    columns : int
        The letters on a line.
    chosen : function of int, optional
        Called with the place in the whole text of the character that a person clicks on.

    Attributes
    ----------
    source : ColumnDataSource
        A row for each character and row of values: where it is, its colours, what it shows, its value and place.
    """

    def __init__(self, look: Look, *, columns: int = 80, chosen: Callable[[int], None] | None = None) -> None:
        self.look, self.columns, self._chosen = look, columns, chosen
        self.source = ColumnDataSource({name: [] for name in _FIELDS})
        self.marked = ColumnDataSource({"x": [], "y": [], "width": []})
        self.plot = figure(
            frame_width=columns * _WIDE,
            frame_height=_HIGH,
            x_range=Range1d(0, columns),
            y_range=Range1d(_HIGH, 0),
            tools="",
            toolbar_location=None,
            min_border=2,
            min_border_left=_GUTTER,
            output_backend="canvas",
        )
        look.dress(self.plot)
        self.plot.outline_line_color = None
        cells = self.plot.rect("x", "y", width="width", height=_HIGH, fill_color="color", line_color="color", source=self.source)
        written = self.plot.text("x", "y", text="seen", text_color="ink", source=self.source)
        written.glyph.update(text_font=value("monospace"), text_font_size=f"{_TYPE}px", text_align="center", text_baseline="middle")
        self.plot.rect("x", "y", width="width", height=_HIGH - 3, fill_color=None, line_color=look.mark, line_width=2.5, source=self.marked)
        tips = [("", "@seen"), ("value", "@value"), ("position", "@step"), ("", "@row")]
        self.plot.add_tools(HoverTool(renderers=[cells], tooltips=tips))
        self.plot.on_event(Tap, self._tapped)
        self._dress_axes()
        self._lines: list[_Placed] = []
        self._offset = 0

    def _dress_axes(self) -> None:
        self.plot.xaxis.visible = False
        self.plot.yaxis.update(axis_line_color=None, major_tick_line_color=None, major_label_text_color=self.look.soft)
        self.plot.yaxis.major_label_text_font = "monospace"

    def fill(self, text: Painted, *, offset: int = 0, mark: tuple[int, int] = (0, 0)) -> None:
        """Show another text.

        Parameters
        ----------
        offset : int
            The place in the whole text of the first character.
        mark : (start, stop)
            The stretch of the whole text to frame; an empty one: none.
        """
        self._offset, self._lines = offset, _placed(text, self.columns)
        cells = [self._cell(text, line, cell) for line in self._lines for cell in line.cells]
        self.source.data = {name: [cell[name] for cell in cells] for name in _FIELDS}
        self._mark(*mark)
        self._name_lines(text)

    def _cell(self, text: Painted, line: _Placed, cell: Cell) -> dict[str, Any]:
        colors = text.colours(line.row, cell.place)
        number = float(text.values[line.row, cell.place])
        return {
            "x": cell.column + cell.width / 2,
            "y": line.top + _HIGH / 2,
            "width": cell.width,
            "color": self.look.ground if colors is None else colors[0],
            "ink": self.look.text if colors is None else colors[1],
            "seen": cell.seen,
            "value": "none" if np.isnan(number) else f"{number:.4g}",
            "place": self._offset + cell.place,
            "row": text.rows[line.row],
            "step": text.positions[cell.place],
        }

    def _mark(self, start: int, stop: int) -> None:
        """Frame the characters of a stretch, line by line."""
        frames: dict[str, list[float]] = {"x": [], "y": [], "width": []}
        for line in self._lines:
            inside = [cell for cell in line.cells if start <= self._offset + cell.place < stop]
            if inside:
                first, last = inside[0].column, inside[-1].column + inside[-1].width
                for name, at in (("x", (first + last) / 2), ("y", line.top + _HIGH / 2), ("width", last - first)):
                    frames[name].append(at)
        self.marked.data = frames

    def _name_lines(self, text: Painted) -> None:
        """Beside each line the position of its first character, or what its row is."""
        several = len(text.rows) > 1
        names = {line.top + _HIGH / 2: text.rows[line.row] if several else text.positions[line.cells[0].place] for line in self._lines}
        high = self._lines[-1].top + _HIGH
        self.plot.yaxis.update(ticker=FixedTicker(ticks=list(names)), major_label_overrides=names)
        self.plot.y_range.update(start=high, end=0)
        self.plot.update(frame_height=high, min_border_left=max(_GUTTER, 10 + _LETTER * max(map(len, names.values()))))

    def _tapped(self, event: Any) -> None:
        if self._chosen is None or event.x is None or event.y is None:
            return
        for line in self._lines:
            for cell in line.cells:
                if line.top <= event.y < line.top + _HIGH and cell.column <= event.x < cell.column + cell.width:
                    self._chosen(self._offset + cell.place)
                    return


def _placed(text: Painted, columns: int) -> list[_Placed]:
    """Each line once for each row of values; where there are several, with a gap before the next line."""
    n_rows = len(text.rows)
    high = n_rows * _HIGH + (_GAP if n_rows > 1 else 0)
    return [_Placed(cells, row, number * high + row * _HIGH) for number, cells in enumerate(text.lines(columns)) for row in range(n_rows)]


def legend_of(text: Painted) -> str:
    """What the colours of a text stand for, as HTML."""
    return legend(text.cmap, [value for value, _ in text.ends], text.legend)


def legend(cmap: Colormap, ends: Sequence[float], name: str) -> str:
    """A colour bar with its name, as HTML.

    Parameters
    ----------
    ends : sequence of float
        The values to write below it, evenly spread.
    """
    stops = ",".join(to_hex(cmap(stop / (_STOPS - 1))) for stop in range(_STOPS))
    numbers = "".join(f"<span>{value:.3g}</span>" for value in ends)
    return (
        f'<div class="sq-legend"><span class="sq-legend-bar"><span style="background:linear-gradient(to right,{stops})"></span>'
        f"<span>{numbers}</span></span><span>{escape(name)}</span></div>"
    )
