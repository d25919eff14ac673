"""Rows over time as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Legend, LegendItem, Range1d, Span

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.pictures import thinned
from seqscope.explorer.figures.sight import follow
from seqscope.explorer.figures.timed import put_clock, timed
from seqscope.explorer.theme import Look
from seqscope.explorer.words import short

DASHES = ("solid", "dashed", "dotted", "dotdash")
# The letters of a name that there is room for beside a figure.
_LETTERS = 13


class Lines:
    """A line for each row of an array over time, one colour each, named in a legend to the right or on hover.

    Of more points than a screen has, the lowest and the highest of each few are drawn, and more of them where a person zooms in.

    Parameters
    ----------
    limits : (float, float), optional
        The ends of the y axis; default: those of the lines.
    """

    # More lines than this have no legend.
    MOST_NAMED = 12

    def __init__(
        self,
        look: Look,
        time: Range1d,
        *,
        height: int = 170,
        ylabel: str = "Value",
        limits: tuple[float, float] | None = None,
        is_clock_named: bool = True,
    ) -> None:
        self.look, self._time, self._is_clock_named = look, time, is_clock_named
        self.source = ColumnDataSource({"xs": [], "ys": [], "color": [], "name": [], "short": [], "dash": []})
        self._points = ColumnDataSource({"x": [], "y": [], "color": [], "name": []})
        ends = {} if limits is None else {"y_range": Range1d(*limits)}
        self.plot = timed(look, time, height=height, **ends)
        self.plot.yaxis.axis_label = ylabel
        drawn = self.plot.multi_line("xs", "ys", color="color", line_dash="dash", line_width=1.5, source=self.source)
        alone = self.plot.scatter("x", "y", color="color", size=5, source=self._points)
        self._hover = HoverTool(renderers=[drawn, alone], tooltips=_tooltips(is_dated=False), line_policy="nearest")
        self.plot.add_tools(self._hover)
        self._legend = Legend(items=[LegendItem(label={"field": "short"}, renderers=[drawn])], **_LEGEND)
        self.plot.add_layout(self._legend, "right")
        look.dress(self.plot)
        self._zero = Span(location=0, dimension="width", line_color=look.line, line_width=1, level="underlay")
        self.plot.add_layout(self._zero)
        self._clock: Clock | None = None
        self._rows = np.zeros((0, 0))
        self._drawn = slice(0, 0)
        follow((time,), self._zoomed)

    def fill(self, clock: Clock, rows: np.ndarray, names: Sequence[str], *, ylabel: str | None = None) -> None:
        """Draw other lines.

        Parameters
        ----------
        rows : array (row, step)
            NaN where there is no value.
        """
        self._clock, self._rows, self._names = clock, rows, [str(name) for name in names]
        self._draw()
        self._legend.visible = len(rows) <= self.MOST_NAMED
        put_clock(self.plot, clock)
        if not self._is_clock_named:
            self.plot.xaxis.axis_label = ""
        if ylabel is not None:
            self.plot.yaxis.axis_label = ylabel
        self._hover.update(tooltips=_tooltips(is_dated=clock.is_dated), formatters={"$snap_x": "datetime"} if clock.is_dated else {})

    def _zoomed(self) -> None:
        if self._clock is not None and self._is_thinned and self._clock.in_sight(self._time.start, self._time.end) != self._drawn:
            self._draw()

    def _draw(self) -> None:
        clock = self._clock
        if clock is None:
            return
        whole = thinned(clock.at, clock.at)[0] is clock.at
        self._is_thinned = not whole
        self._drawn = slice(0, len(clock.at)) if whole else clock.in_sight(self._time.start, self._time.end)
        times, rows = clock.at[self._drawn], self._rows[:, self._drawn]
        drawn = [thinned(times, row) for row in rows]
        looks = [
            (self.look.colors[place % len(self.look.colors)], DASHES[place // len(self.look.colors) % len(DASHES)])
            for place in range(len(rows))
        ]
        colors = [color for color, _ in looks]
        self.source.data = {
            "xs": [x for x, _ in drawn],
            "ys": [y for _, y in drawn],
            "color": colors,
            "dash": [dash for _, dash in looks],
            "name": self._names,
            "short": [short(name, _LETTERS) for name in self._names],
        }
        self._points.data = _alone(clock.at, self._rows, colors, self._names)


def _alone(times: np.ndarray, rows: np.ndarray, colors: list[str], names: list[str]) -> dict[str, Any]:
    """Lines of one value, which is a point."""
    found: dict[str, list[Any]] = {"x": [], "y": [], "color": [], "name": []}
    for row, color, name in zip(rows, colors, names, strict=True):
        known = np.flatnonzero(~np.isnan(row[:2])) if len(row) == 1 else np.zeros(0, int)
        for place in known:
            for key, value in zip(found, (times[place], row[place], color, name), strict=True):
                found[key].append(value)
    return found


def _tooltips(*, is_dated: bool) -> list[tuple[str, str]]:
    return [("", "@name"), ("time", "$snap_x{%F %T.%3N}" if is_dated else "$snap_x{0.[000]}"), ("value", "$snap_y{0.0000}")]


_LEGEND: dict[str, Any] = {
    "padding": 0,
    "margin": 4,
    "spacing": 0,
    "glyph_width": 14,
    "glyph_height": 11,
    "label_height": 11,
    "label_standoff": 4,
    "label_text_font_size": "10px",
    "border_line_alpha": 0.0,
    "background_fill_alpha": 0.0,
}
