"""A figure on the page's one time axis."""

from __future__ import annotations

from typing import Any

from bokeh.models import DatetimeTickFormatter, PanTool, Range1d, ResetTool, WheelZoomTool
from bokeh.plotting import figure

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.theme import Look

# Room left of and right of every figure with time on it, so that one moment stands below itself in all of them.
_LEFT, _RIGHT = 74, 96


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


def put_clock(plot: Any, clock: Clock) -> None:
    """Name a figure's time axis, and write dates on it where time is given in dates."""
    axis = plot.xaxis[0]
    axis.axis_label = clock.label
    if clock.is_dated and not isinstance(axis.formatter, DatetimeTickFormatter):
        axis.formatter = DatetimeTickFormatter()
