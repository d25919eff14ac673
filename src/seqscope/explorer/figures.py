"""The figures that views are made of: on a clock, made once and filled anew."""

from __future__ import annotations

from typing import Any

from bokeh.models import CustomJS, DatetimeTickFormatter, PanTool, Range1d, ResetTool, WheelZoomTool
from bokeh.plotting import figure

from seqscope.explorer.clock import Clock
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


def zoom_rows(plot: Any) -> None:
    """Let the wheel and dragging on the names of the rows zoom and move along these, and on the picture along time, as before."""
    pan, wheel = PanTool(dimensions="height"), WheelZoomTool(dimensions="height")
    plot.add_tools(pan, wheel)
    args = {"plot": plot, "time": plot.x_range, "rows": (pan, wheel), "usual": plot.toolbar}
    plot.js_on_event("mousemove", CustomJS(args=args, code=_OVER_ROWS))


_OVER_ROWS = """
const over = cb_obj.x < Math.min(time.start, time.end);
const [drag, scroll] = over ? rows : [usual.active_drag, usual.active_scroll];
for (const tool of [drag, scroll])
  if (tool && tool !== "auto" && !tool.active) tool.active = true;
"""

# The parts, each in a file of its own; below what they are made of, which they import.
from seqscope.explorer.heatmap import Heatmap  # noqa: E402
from seqscope.explorer.lines import Lines  # noqa: E402

__all__ = ["Clock", "Heatmap", "Lines", "put_clock", "timed", "zoom_rows"]
