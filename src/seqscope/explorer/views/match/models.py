"""What the matches are shown in: lines over time with a brush and a threshold, and the best places side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import BoxAnnotation, BoxSelectTool, ColumnDataSource, HoverTool, Range1d, Span

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.pictures import thinned
from seqscope.explorer.figures.sight import follow
from seqscope.explorer.figures.timed import put_clock, timed
from seqscope.explorer.theme import Look
from seqscope.explorer.views.match.found import Places
from seqscope.explorer.views.unit.windows import Windows
from seqscope.labelled import SAMPLE, UNIT, WINDOW

# The lines of units that are on, the values of those that are not before a band stands for them, the points of a line.
_MOST_ON, _MOST_VALUES, _MOST_POINTS = 40, 20_000, 500


class Units:
    """The units of a sample over time: those that are on in colour, the others pale, a line at the threshold.

    Parameters
    ----------
    brushed : function of (start, stop)
        Called with the steps that a person brushes, the stop left out.
    put : function of float
        Called with the threshold that a person clicks on.
    """

    def __init__(self, look: Look, time: Range1d, brushed: Callable[[int, int], None], put: Callable[[float], None]) -> None:
        self.look, self._time, self._told_brush, self._told_value = look, time, brushed, put
        self.on = ColumnDataSource({"xs": [], "ys": [], "name": []})
        self.off = ColumnDataSource({"xs": [], "ys": []})
        self.band = ColumnDataSource({"x": [], "low": [], "high": []})
        self._ends = Range1d(0, 1)
        self.plot = timed(look, time, height=230, y_range=self._ends)
        self.plot.name = "match"
        self.plot.varea("x", "low", "high", fill_color=look.soft, fill_alpha=0.25, source=self.band)
        self.plot.multi_line("xs", "ys", line_color=look.soft, line_alpha=0.3, line_width=1, source=self.off)
        drawn = self.plot.multi_line("xs", "ys", line_color=look.colors[0], line_width=1.8, source=self.on)
        self.plot.add_tools(HoverTool(renderers=[drawn], tooltips=[("unit", "@name"), ("value", "$snap_y{0.0000}")], line_policy="nearest"))
        self.line = Span(location=0.0, dimension="width", line_color=look.mark, line_dash="dashed", line_width=2)
        self.stretch = BoxAnnotation(fill_color=look.mark, fill_alpha=0.14, line_color=look.mark, visible=False)
        box = BoxSelectTool(dimensions="width", renderers=[], persistent=False)
        box.overlay.update(fill_color=look.mark, fill_alpha=0.15, line_color=look.mark)
        self.plot.add_tools(box)
        self.plot.toolbar.active_drag = box
        for part in (self.line, self.stretch):
            self.plot.add_layout(part)
        self.plot.on_event(SelectionGeometry, self._boxed)
        self.plot.on_event(Tap, self._tapped)
        self.clock: Clock | None = None
        self._values, self._selected, self._names = np.zeros((0, 0)), np.zeros(0, int), [""]
        self._drawn: tuple[Any, ...] = ()
        follow((time,), self._zoomed)

    def _boxed(self, event: Any) -> None:
        geometry = event.geometry or {}
        if not event.final or self.clock is None or not {"x0", "x1"} <= set(geometry):
            return
        steps = self.clock.steps_between(float(geometry["x0"]), float(geometry["x1"]))
        if steps.start < steps.stop:
            self._told_brush(steps.start, steps.stop)

    def _tapped(self, event: Any) -> None:
        if self.clock is not None and event.y is not None and self._ends.start <= event.y <= self._ends.end:
            size = 10.0 ** np.floor(np.log10(max(self._ends.end - self._ends.start, 1e-12)) - 2)
            self._told_value(float(f"{round(event.y / size) * size:.6g}"))

    def fill(self, values: xr.DataArray, selected: np.ndarray, names: Sequence[str]) -> None:
        """Draw the units of another sample, or others of them as on; the same ones are left as they are.

        Parameters
        ----------
        values : DataArray (time, unit) or (step, unit)
        selected : int array
            The positions of the units that are on.
        names : sequence of str
            Of all units.
        """
        now = (values, tuple(selected.tolist()))
        if self._drawn and self._drawn[0] is values and self._drawn[1] == now[1]:
            return
        self._drawn = now
        self.clock, self._names, self._selected = Clock(values), list(names), selected
        self._values = np.asarray(values.transpose(UNIT, ...).values, np.float32)
        self._draw()
        put_clock(self.plot, self.clock)
        self.plot.yaxis.axis_label = "Units"

    def mark(self, threshold: float, ends: tuple[int, int]) -> None:
        """Put the line at the threshold and shade a stretch; all of it stays in sight."""
        self.line.location = threshold
        known = self._values[np.isfinite(self._values)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        low, high = min(low, threshold), max(high, threshold)
        room = 0.06 * ((high - low) or 1.0)
        self._ends.update(start=low - room, end=high + room)
        start, stop = ends
        if self.clock is None or not start < stop < len(self.clock.edges):
            self.stretch.visible = False
        else:
            self.stretch.update(left=self.clock.edges[start], right=self.clock.edges[stop], visible=True)

    def _zoomed(self) -> None:
        if self.clock is not None and len(self.clock.at) > 2 * _MOST_POINTS:
            self._draw()

    def _draw(self) -> None:
        clock = self.clock
        if clock is None:
            return
        whole = len(clock.at) <= 2 * _MOST_POINTS
        steps = slice(0, len(clock.at)) if whole else clock.in_sight(self._time.start, self._time.end)
        at, values = clock.at[steps], self._values[:, steps]
        on = self._selected[:_MOST_ON]
        drawn = [thinned(at, values[unit], _MOST_POINTS) for unit in on]
        self.on.data = {"xs": [x for x, _ in drawn], "ys": [y for _, y in drawn], "name": [self._names[unit] for unit in on]}
        rest = np.delete(values, on, axis=0)
        is_few = rest.size <= _MOST_VALUES
        self.off.data = {"xs": [at] * len(rest) if is_few else [], "ys": list(rest) if is_few else []}
        self.band.data = {"x": [], "low": [], "high": []} if is_few else _band(at, rest)


def _band(at: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """The lowest and the highest of all rows, in no more places than a screen shows."""
    with np.errstate(all="ignore"):
        low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    size = max(1, -(-len(at) // _MOST_POINTS))
    begins = np.arange(0, len(at), size)
    return {"x": at[begins], "low": np.fmin.reduceat(low, begins), "high": np.fmax.reduceat(high, begins)}


class PlacesSeen(Windows):
    """The input at the best places side by side, each shaded where the units are on together, above their mean."""

    def __init__(self, look: Look, chosen: Callable[[int], None], *, is_text: bool) -> None:
        super().__init__(look, chosen, is_text=is_text)
        self.shades = ColumnDataSource({"left": [], "right": []})
        for plot in (self.input, self.unit):
            plot.vstrip(x0="left", x1="right", fill_color=look.mark, fill_alpha=0.14, line_color=look.mark, source=self.shades)
        if is_text:
            self.input.height = 94  # two lines of a title above the letters
        self.unit.name = "match-places"
        self.unit.xaxis.axis_label = "A click on a place shows it in its sample"
        self._texts: list[list[str]] = []

    def fill_places(self, places: Places) -> None:
        """Draw other places."""
        self._texts = places.texts or []
        number = len(places.titles)
        windows = places.windows.assign({SAMPLE: (WINDOW, [0] * number), "score": (WINDOW, [0.0] * number), "peak": (WINDOW, [0] * number)})
        self.fill(windows)
        lefts = np.asarray(self.peaks.data["x"]) - 0.5
        self.peaks.data = {"x": []}
        self.shades.data = {"left": lefts, "right": lefts + places.lengths}
        self.titles.data = dict(self.titles.data) | {"text": places.titles}
        self.unit.yaxis.axis_label = "Their mean"

    def _fill_letters(self, values: np.ndarray, names: list[str], times: np.ndarray) -> float:
        there = ~np.isnan(values).any(axis=2)
        self.letters.data = {"x": times[there], "text": [text for row in self._texts for text in row]}
        self.input.yaxis.visible = False
        return 1.0
