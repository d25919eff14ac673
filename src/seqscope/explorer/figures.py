"""The figures that views are made of: on a clock, made once and filled anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from bokeh.events import Tap
from bokeh.models import (
    BasicTicker,
    BoxAnnotation,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    DatetimeTickFormatter,
    HoverTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    Span,
    WheelZoomTool,
)
from bokeh.plotting import figure

from seqscope.explorer.pictures import aggregated, thinned
from seqscope.explorer.theme import Look, scale
from seqscope.labelled import STEP, TIME, TIME_END, TIME_START, UNIT
from seqscope.plot import style

# Room left of and right of every figure with time on it, so that one moment stands below itself in all of them.
_LEFT, _RIGHT = 74, 96


class Clock:
    """Where the steps of an array lie on the x axis, and what the axis is called.

    Parameters
    ----------
    array : DataArray with `time` or `step`

    Attributes
    ----------
    at, edges : array (step), (step + 1)
        The middle of each step and the borders between them, in the axis' numbers (milliseconds where time is given in dates).
    first, last : list of str
        The first and the last input step that each step sees, in words; of the input's own clock the step itself.
    label : str
    is_dated : bool
    """

    def __init__(self, array: xr.DataArray) -> None:
        dim = STEP if STEP in array.dims else TIME
        name = style.clock(array, dim)
        coordinate = array.coords[name] if name in array.coords else xr.DataArray(np.arange(array.sizes[dim]), dims=dim)
        self.is_dated = coordinate.dtype.kind == "M"
        self.at = _numbers(coordinate.values)
        self.edges = style.edges(self.at)
        self.label = style.label_of(array, name)
        ends = [array.coords[end].values if end in array.coords else coordinate.values for end in (TIME_START, TIME_END)]
        self.first, self.last = ([_said(value) for value in end.tolist()] for end in ends)
        self.words = [_said(value) for value in coordinate.values.tolist()]

    def step_at(self, x: float) -> int:
        """The step at a place of the axis; the nearest one beyond the ends."""
        return int(np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, len(self.at) - 1))


def _numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]").astype(np.int64) / 1000.0
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "s")
    return values.astype(float)


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def timed(look: Look, time: Range1d, *, height: int, label: str = "", title: str = "", dated: bool = False, **options: Any) -> Any:
    """A figure whose x axis is the page's time: dragging pans, the wheel zooms, a double click shows everything again."""
    pan, wheel = PanTool(dimensions="width"), WheelZoomTool(dimensions="width")
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_range=time,
        tools=[pan, wheel, ResetTool()],
        toolbar_location=None,
        min_border_left=_LEFT,
        min_border_right=_RIGHT,
        output_backend="canvas",
        **options,
    )
    plot.toolbar.active_drag, plot.toolbar.active_scroll = pan, wheel
    plot.xaxis.axis_label = label
    if title:
        plot.title.text, plot.title.text_font_size = title, "13px"
    if dated:
        plot.xaxis.formatter = DatetimeTickFormatter()
    return look.dress(plot)


class Lines:
    """A line for each row of an array over time, one colour each, named in a legend to the right or on hover."""

    # More lines than this have no legend.
    MOST_NAMED = 12

    def __init__(self, look: Look, time: Range1d, *, height: int = 170, ylabel: str = "Value") -> None:
        self.look = look
        self.source = ColumnDataSource({"xs": [], "ys": [], "color": [], "name": [], "dash": []})
        self.plot = timed(look, time, height=height)
        self.plot.yaxis.axis_label = ylabel
        drawn = self.plot.multi_line("xs", "ys", color="color", line_dash="dash", line_width=1.5, source=self.source)
        hover = HoverTool(renderers=[drawn], tooltips=[("", "@name"), ("time", "$data_x{0.###}"), ("value", "$data_y{0.0000}")], line_policy="nearest")
        self.plot.add_tools(hover)

    def fill(self, clock: Clock, rows: np.ndarray, names: Sequence[str], *, ylabel: str | None = None) -> None:
        """Draw other lines.

        Parameters
        ----------
        rows : array (row, step)
        """
        drawn = [thinned(clock.at, row) for row in rows]
        looks = [(self.look.colors[place % len(self.look.colors)], _DASHES[place // len(self.look.colors) % len(_DASHES)]) for place in range(len(rows))]
        self.source.data = {
            "xs": [x for x, _ in drawn],
            "ys": [y for _, y in drawn],
            "color": [color for color, _ in looks],
            "dash": [dash for _, dash in looks],
            "name": list(names),
        }
        self.plot.xaxis.axis_label = clock.label
        if ylabel is not None:
            self.plot.yaxis.axis_label = ylabel


_DASHES = ("solid", "dashed", "dotted", "dotdash")


class Heatmap:
    """Units over time as colours, with a colour bar: the extreme or the mean of each cell, hover and click.

    Parameters
    ----------
    chosen : function of (row, step), optional
        Called with the row (from the top, as they were given) and the step that a person clicks on.
    """

    def __init__(
        self, look: Look, time: Range1d, *, height: int = 380, name: str = "Activation", chosen: Callable[[int, int], None] | None = None
    ) -> None:
        self.look, self._chosen = look, chosen
        self.source = ColumnDataSource({"image": [], "mean": [], "x": [], "y": [], "dw": [], "dh": []})
        self.mapper = LinearColorMapper(palette=scale(-1.0, 1.0)[0], low=-1.0, high=1.0, nan_color=look.missing)
        self.plot = timed(look, time, height=height, y_range=Range1d(0, 1))
        self._image = self.plot.image("image", x="x", y="y", dw="dw", dh="dh", color_mapper=self.mapper, source=self.source, level="image")
        self._about = ColumnDataSource({"edges": [], "rows": [], "names": [], "first": [], "last": [], "words": []})
        self._bar = ColorBar(
            color_mapper=self.mapper,
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
        self.plot.add_layout(self._bar, "right")
        self._mark = [Span(dimension="width", line_color=look.mark, line_width=1.5, visible=False) for _ in range(2)]
        self._brushed = BoxAnnotation(fill_color=look.mark, fill_alpha=0.12, line_color=look.mark, visible=False)
        for mark in (*self._mark, self._brushed):
            self.plot.add_layout(mark)
        self.plot.add_tools(self._hover())
        self.plot.yaxis.ticker = BasicTicker(min_interval=1, desired_num_ticks=10)
        self.plot.yaxis.formatter = CustomJSTickFormatter(args={"about": self._about}, code=_ROW_NAME)
        self.plot.yaxis.axis_label = "Hidden Unit"
        self.plot.on_event(Tap, self._tapped)
        self.clock: Clock | None = None
        self.n_rows = 0

    def _hover(self) -> HoverTool:
        def js(code: str) -> CustomJSHover:
            return CustomJSHover(args={"about": self._about}, code=code)

        return HoverTool(
            renderers=[self._image],
            tooltips=[
                ("", "$y{custom}"),
                ("time", "$x{custom}"),
                ("sees", "$data_x{custom}"),
                ("value", "@image{0.0000}"),
                ("mean", "@mean{0.0000}"),
            ],
            formatters={"$y": js(_HOVER_ROW), "$x": js(_HOVER_STEP), "$data_x": js(_HOVER_SEES)},
        )

    def fill(self, array: xr.DataArray, order: np.ndarray, names: Sequence[str], *, limits: tuple[float, float], rows_label: str) -> None:
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
        """
        self.clock, self.n_rows = Clock(array), len(order)
        values = array.transpose(UNIT, ...).values[order][::-1]  # an image begins at the bottom
        cells = aggregated(np.asarray(values, np.float32))
        edges = self.clock.edges
        colors, low, high = scale(*limits)
        self.mapper.update(palette=colors, low=low, high=high)
        self._about.data = {
            "edges": [edges],
            "rows": [self.n_rows],
            "names": [[names[place] for place in order]],
            "first": [self.clock.first],
            "last": [self.clock.last],
            "words": [self.clock.words],
        }
        self.source.data = {
            "image": [cells.extreme],
            "mean": [cells.mean],
            "x": [edges[0]],
            "y": [0],
            "dw": [edges[-1] - edges[0]],
            "dh": [self.n_rows],
        }
        self.plot.y_range.update(start=0, end=self.n_rows)
        self.plot.xaxis.axis_label, self.plot.yaxis.axis_label = self.clock.label, rows_label

    def mark(self, row: int | None) -> None:
        """Draw a frame around a row; None: around none."""
        for side, line in enumerate(self._mark):
            line.update(visible=row is not None, location=0 if row is None else self.n_rows - row - side)

    def brush(self, start: int, stop: int) -> None:
        """Shade a stretch of steps; none where it is empty."""
        if self.clock is None or not 0 <= start < stop < len(self.clock.edges):
            self._brushed.visible = False
            return
        self._brushed.update(left=self.clock.edges[start], right=self.clock.edges[stop], visible=True)

    def _tapped(self, event: Any) -> None:
        if self.clock is None or self._chosen is None or not 0 <= event.y < self.n_rows:
            return
        self._chosen(self.n_rows - 1 - int(event.y), self.clock.step_at(event.x))


_ROW_NAME = """
const names = about.data.names[0];
if (!names) return "";
const row = names.length - 1 - Math.floor(tick);
return Number.isInteger(tick) && row >= 0 && row < names.length ? names[row] : "";
"""

_STEP = """
const edges = about.data.edges[0];
let step = 0;
while (step < edges.length - 2 && special_vars.data_x >= edges[step + 1]) step += 1;
"""
_HOVER_STEP = _STEP + "return about.data.words[0][step];"
_HOVER_SEES = _STEP + "const first = about.data.first[0][step], last = about.data.last[0][step]; return first == last ? first : first + ' to ' + last;"
_HOVER_ROW = """
const names = about.data.names[0];
return names[Math.max(0, Math.min(names.length - 1, names.length - 1 - Math.floor(special_vars.data_y)))];
"""
