"""Units over time as colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import (
    BasicTicker,
    BoxAnnotation,
    BoxSelectTool,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSHover,
    CustomJSTickFormatter,
    HoverTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    WheelZoomTool,
)

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.pictures import MOST_ROWS, Spans, columns_of, groups, over
from seqscope.explorer.figures.sight import follow
from seqscope.explorer.figures.timed import put_clock, timed
from seqscope.explorer.theme import Look, scale
from seqscope.labelled import UNIT

# What is drawn of a cell that stands for many, and what is told beside it.
EXTREME, MEAN = "extreme", "mean"


class Heatmap:
    """Units over time as colours, with a colour bar: the extreme or the mean of each cell, hover, click and brush.

    Of more units and steps than a screen shows, neighbours share a cell, and fewer do where a person zooms in.

    Parameters
    ----------
    chosen : function of (row, step), optional
        Called with the row (from the top, as they were given) and the step that a person clicks on.
    brushed : function of (start, stop), optional
        Called with the steps that a person brushes, the stop left out.
    is_clock_named : bool
        Whether the time axis is named.
    """

    def __init__(
        self,
        look: Look,
        time: Range1d,
        *,
        height: int = 380,
        name: str = "Activation",
        chosen: Callable[[int, int], None] | None = None,
        brushed: Callable[[int, int], None] | None = None,
        is_clock_named: bool = True,
    ) -> None:
        self.look, self._chosen, self._told_brush, self._time, self._is_clock_named = look, chosen, brushed, time, is_clock_named
        self.source = ColumnDataSource({"image": [], "other": [], "x": [], "y": [], "dw": [], "dh": []})
        self._colors = scale(-1.0, 1.0)[0]
        self.mapper = LinearColorMapper(palette=self._colors, low=-1.0, high=1.0, nan_color=look.missing)
        self.plot = timed(look, time, height=height, y_range=Range1d(-0.5, 0.5))
        self._image = self.plot.image("image", x="x", y="y", dw="dw", dh="dh", color_mapper=self.mapper, source=self.source, level="image")
        self._rows = ColumnDataSource({"names": []})
        self._columns = ColumnDataSource({"x": [], "dx": [], "words": [], "seen": [], "rows": [], "row": []})
        self.plot.add_layout(_bar(self.mapper, name, look), "right")
        frame = {"fill_color": None, "line_color": look.mark, "line_width": 2, "visible": False}
        self._mark = BoxAnnotation(**frame)
        self._brushed = BoxAnnotation(fill_color=look.mark, fill_alpha=0.12, line_color=look.mark, visible=False)
        for mark in (self._mark, self._brushed):
            self.plot.add_layout(mark)
        self._hover = self._hover_tool()
        self.plot.add_tools(self._hover)
        self._put_tools()
        self.plot.yaxis.ticker = BasicTicker(min_interval=1, desired_num_ticks=10, num_minor_ticks=0)
        self.plot.yaxis.formatter = CustomJSTickFormatter(args={"about": self._rows}, code=_ROW_NAME)
        self.plot.yaxis.axis_label = "Hidden Unit"
        self.plot.on_event(Tap, self._tapped)
        self.clock: Clock | None = None
        self.n_rows = 0
        self.is_whole = True
        self._values, self._order, self._drawn = np.zeros((0, 0), np.float32), np.zeros(0, int), (slice(0, 0), slice(0, 0))
        follow((time, self.plot.y_range), self._zoomed)

    # What a person does

    def _put_tools(self) -> None:
        """Drag and wheel: on the picture along time, on the names of the rows along these; with the shift key dragging brushes."""
        drag, wheel = PanTool(dimensions="height"), WheelZoomTool(dimensions="height")
        self._pan = self.plot.toolbar.active_drag
        self._box = BoxSelectTool(dimensions="width", renderers=[], persistent=False)
        self._box.overlay.update(fill_color=self.look.mark, fill_alpha=0.15, line_color=self.look.mark)
        self.plot.add_tools(drag, wheel, *([self._box] if self._told_brush else []))
        args = {
            "time": self._time,
            "toolbar": self.plot.toolbar,
            "along_rows": [drag, wheel],
            "box": self._box if self._told_brush else None,
        }
        self.plot.js_on_event("mousemove", CustomJS(args=args, code=_TOOLS))
        if self._told_brush:
            self.plot.on_event(SelectionGeometry, self._boxed)

    def brush_on_drag(self, brushes: bool) -> None:
        """Whether dragging brushes a stretch, as it does with the shift key, or moves along time."""
        self.plot.toolbar.active_drag = self._box if brushes else self._pan

    def _boxed(self, event: Any) -> None:
        geometry = event.geometry or {}
        if not event.final or self.clock is None or self._told_brush is None or not {"x0", "x1"} <= set(geometry):
            return
        steps = self.clock.steps_between(float(geometry["x0"]), float(geometry["x1"]))
        self._told_brush(steps.start, max(steps.stop, steps.start))

    def _tapped(self, event: Any) -> None:
        if self.clock is None or self._chosen is None or event.x is None or not -0.5 <= event.y < self.n_rows - 0.5:
            return
        self._chosen(self.n_rows - 1 - round(event.y), self.clock.step_at(event.x))

    def _hover_tool(self) -> HoverTool:
        def js(code: str) -> CustomJSHover:
            return CustomJSHover(args={"rows": self._rows, "columns": self._columns}, code=_CELL + code)

        formatters = {"$y": js("return unit;"), "$x": js("return words;"), "$snap_x": js("return seen;")}
        return HoverTool(renderers=[self._image], tooltips=_tooltips("unit", ["value"], is_seen=False), formatters=formatters)

    # What is shown

    def fill(
        self,
        array: xr.DataArray,
        order: np.ndarray,
        names: Sequence[str],
        *,
        limits: tuple[float, float],
        rows_label: str,
        cells: str = EXTREME,
        sees: int | str | None = None,
    ) -> None:
        """Draw another array.

        Parameters
        ----------
        array : DataArray (time, unit) or (step, unit)
        order : int array (row,)
            The position of the unit of each row, from the top.
        names : sequence of str
            Of the units, by position.
        limits : (float, float)
            The least and the greatest value, for the colours.
        cells : {"extreme", "mean"}
            What is drawn of a cell that stands for many.
        sees : int, str or None
            What a step of the layer sees of the input, as `Scope.layers` says it, where the array does not.
        """
        self.clock, self.n_rows, self._cells, self._sees, self._label = Clock(array), len(order), cells, sees, rows_label
        self._values, self._order = np.asarray(array.transpose(UNIT, ...).values), order
        colors, low, high = scale(*limits)
        if colors is not self._colors:  # a palette is long, and all its colours are checked
            self._colors = self.mapper.palette = colors
        self.mapper.update(low=low, high=high)
        self._names = [str(names[place]) for place in order]
        if not self._rows.data["names"] or self._rows.data["names"][0] != self._names:
            self._rows.data = {"names": [self._names]}
        if self.plot.y_range.bounds != (-0.5, self.n_rows - 0.5):
            end = self.n_rows - 0.5
            self.plot.y_range.update(
                start=-0.5, end=end, reset_start=-0.5, reset_end=end, bounds=(-0.5, end), min_interval=min(2, self.n_rows)
            )
        self._draw(self._in_sight())
        put_clock(self.plot, self.clock)
        if not self._is_clock_named:
            self.plot.xaxis.axis_label = ""
        self.plot.yaxis.axis_label = rows_label

    def _in_sight(self) -> tuple[slice, slice]:
        """The rows, from the top, and the steps that are to be drawn: all where that is no more than a screen shows."""
        if self.clock is None:
            return self._drawn
        n_steps, rows = len(self.clock.at), self.plot.y_range
        steps = slice(0, n_steps) if columns_of(self.clock.edges).is_whole else self.clock.in_sight(self._time.start, self._time.end)
        if self.n_rows <= MOST_ROWS:
            return slice(0, self.n_rows), steps
        low, high = (self.n_rows - 0.5 - end for end in (rows.end, rows.start))
        return slice(max(0, int(low)), max(1, min(self.n_rows, int(np.ceil(high))))), steps

    def _zoomed(self) -> None:
        if self.clock is not None and not self.is_whole | (self._in_sight() == self._drawn):
            self._draw(self._in_sight())

    def _draw(self, sight: tuple[slice, slice]) -> None:
        clock = self.clock
        if clock is None:
            return
        rows, steps = self._drawn = sight
        edges = clock.edges[steps.start : steps.stop + 1]
        up, along = groups(rows.stop - rows.start, MOST_ROWS), columns_of(edges)
        values = np.asarray(self._values[self._order[rows], steps], np.float32)
        mean, extreme = over(values, up, along)
        self.is_whole = up.is_whole and along.is_whole and sight == (slice(0, self.n_rows), slice(0, len(clock.at)))
        shown, other = (extreme, mean) if self._cells == EXTREME else (mean, extreme)
        is_single = shown is other  # every cell is there by itself
        self._columns.data = told = self._told_of(clock, steps.start, rows.start, up, along, edges)
        of_cell = ["value"] if is_single else [EXTREME, MEAN] if self._cells == EXTREME else [MEAN, EXTREME]
        self._hover.tooltips = _tooltips(self._label.lower(), of_cell, is_seen=bool(told["seen"][0][0]))
        self.source.data = {
            "image": [shown[::-1]],  # an image begins at the bottom
            "other": [shown[:1, :1] if is_single else other[::-1]],
            "x": [edges[0]],
            "y": [self.n_rows - 0.5 - rows.stop],
            "dw": [edges[-1] - edges[0]],
            "dh": [rows.stop - rows.start],
        }

    def _told_of(self, clock: Clock, first: int, top: int, up: Spans, along: Spans, edges: np.ndarray) -> dict[str, Any]:
        """What hovering says of the time of each column, and how many rows share a cell."""
        stretches = list(zip((along.start + first).tolist(), (along.stop + first).tolist(), strict=True))
        return {
            "x": [edges[0]],
            "dx": [(edges[-1] - edges[0]) / len(stretches)],
            "words": [[clock.said(*stretch) for stretch in stretches]],
            "seen": [[clock.seen(*stretch, self._sees) for stretch in stretches]],
            "rows": [[] if up.is_whole else [*(up.start + top).tolist(), int(up.stop[-1]) + top]],
            "row": [top],
        }

    def mark(self, row: int | None) -> None:
        """Draw a frame around a row; None: around none."""
        if row is None:
            self._mark.visible = False
        else:
            middle = self.n_rows - 1 - row
            self._mark.update(bottom=middle - 0.5, top=middle + 0.5, visible=True)

    def brush(self, start: int, stop: int) -> None:
        """Shade a stretch of steps; none where it is empty."""
        if self.clock is None or not 0 <= start < stop < len(self.clock.edges):
            self._brushed.visible = False
            return
        self._brushed.update(left=self.clock.edges[start], right=self.clock.edges[stop], visible=True)


def _bar(mapper: LinearColorMapper, name: str, look: Look) -> ColorBar:
    return ColorBar(
        color_mapper=mapper,
        title=name,
        width=10,
        padding=4,
        label_standoff=4,
        ticker=BasicTicker(desired_num_ticks=5),
        background_fill_color=look.ground,
        title_text_color=look.text,
        major_label_text_color=look.text,
        title_text_font_style="normal",
        title_text_font_size="11px",
    )


def _tooltips(row: str, of_cell: list[str], *, is_seen: bool) -> list[tuple[str, str]]:
    seen = [("sees input", "$snap_x{custom}")] if is_seen else []
    values = [(name, f"@{column}{{0.0000}}") for name, column in zip(of_cell, ("image", "other"), strict=False)]
    return [(row, "$y{custom}"), ("time", "$x{custom}"), *seen, *values]


_ROW_NAME = """
const names = about.data.names[0];
if (!names) return "";
const row = names.length - 1 - tick;
return Number.isInteger(row) && row >= 0 && row < names.length ? names[row] : "";
"""

# Of the cell under the pointer: its unit or units, its time, and what it sees.
_CELL = """
const about = columns.data, names = rows.data.names[0];
const within = (place, size) => Math.max(0, Math.min(size - 1, place));
const column = within(Math.floor((special_vars.x - about.x[0]) / about.dx[0]), about.words[0].length);
const words = about.words[0][column], seen = about.seen[0][column];
const row = within(Math.round(names.length - 1 - special_vars.y), names.length);
const starts = about.rows[0];
let unit = names[row];
if (starts.length) {
  let group = 0;
  while (group < starts.length - 2 && row >= starts[group + 1]) group += 1;
  const [first, last] = [starts[group], starts[group + 1] - 1];
  unit = first == last ? names[first] : names[first] + " to " + names[last];
}
"""

_TOOLS = """
const over_rows = cb_obj.x < Math.min(time.start, time.end);
const drag = over_rows ? along_rows[0] : cb_obj.modifiers.shift && box ? box : toolbar.active_drag;
const wheel = over_rows ? along_rows[1] : toolbar.active_scroll;
for (const tool of [drag, wheel])
  if (tool && tool !== "auto" && !tool.active) tool.active = true;
"""
