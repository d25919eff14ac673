"""What a sample that is played is shown in: a heatmap and lines that grow by a column, and a curtain before what is still to come."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import BoxAnnotation, ColumnDataSource, HoverTool, Legend, LegendItem, Range1d

from seqscope.explorer.figures import Heatmap
from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.lines import DASHES
from seqscope.explorer.figures.timed import put_clock, timed
from seqscope.explorer.theme import Look
from seqscope.explorer.words import short
from seqscope.labelled import TIME, UNIT

# The outputs that have a line: of more, those that the model says at the end with the highest values.
MOST_LINES = 12
_LETTERS = 12
_LEGEND: dict[str, Any] = {
    "padding": 0,
    "margin": 4,
    "spacing": 0,
    "glyph_width": 14,
    "glyph_height": 10,
    "label_height": 10,
    "label_standoff": 4,
    "label_text_font_size": "10px",
    "border_line_alpha": 0.0,
    "background_fill_alpha": 0.0,
}


class Growing:
    """A heatmap whose columns come one by one: what is there is left as it is, and of a new step only its column is sent."""

    def __init__(self, heatmap: Heatmap) -> None:
        self.heatmap = heatmap
        self._buffer = xr.DataArray(np.zeros((0, 0), np.float32), dims=(TIME, UNIT))
        self._key: tuple[Any, ...] = ()
        self._n = 0

    def fill(self, key: tuple[Any, ...], clock: xr.DataArray, values: np.ndarray, order: np.ndarray, **about: Any) -> None:
        """Show the first steps of something, which is `key`; other steps of the same change only what differs.

        Parameters
        ----------
        clock : DataArray with `time`
            Of the whole sample.
        values : array (step, unit)
            As far as there are any.
        order : int array (row,)
        about
            As of `Heatmap.fill`.
        """
        low, high = about["limits"]
        if len(values):
            low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
        now = (*key, tuple(order.tolist()))
        if now == self._key and self._n <= len(values) and self.heatmap.is_whole and self._fits(low, high):
            self._append(values)
            return
        coords = {TIME: clock.coords[TIME]} if TIME in clock.coords else {}
        empty = np.full((clock.sizes[TIME], len(order)), np.nan, np.float32)
        empty[: len(values)] = values if len(values) else empty[:0]
        self._buffer = xr.DataArray(empty, dims=(TIME, UNIT), coords=coords, attrs=clock.attrs)
        self._key, self._n = now, len(values)
        self.heatmap.fill(self._buffer, order, **(about | {"limits": (low, high)}))
        self._order = order

    def _fits(self, low: float, high: float) -> bool:
        mapper = self.heatmap.mapper
        return bool(mapper.low <= low + 1e-6 and high - 1e-6 <= mapper.high)

    def _append(self, values: np.ndarray) -> None:
        """The heatmap looks at the buffer too where it draws anew."""
        new = slice(self._n, len(values))
        if new.start == new.stop:
            return
        self._buffer.values[new] = values[new]
        columns = np.asarray(values[new].T[self._order][::-1], np.float32)  # an image begins at the bottom
        patch = ((0, slice(0, len(self._order)), new), columns)
        self.heatmap.source.patch({"image": [patch]})
        self._n = new.stop


class Outputs:
    """What the model puts out at each step so far, a line for each output."""

    def __init__(self, look: Look, time: Range1d) -> None:
        self._columns = [f"y{place}" for place in range(MOST_LINES)]
        self.source = ColumnDataSource({"x": []} | {column: [] for column in self._columns})
        self._ends = Range1d(0, 1)
        self.plot = timed(look, time, height=160, y_range=self._ends)
        self.plot.name, self.plot.yaxis.axis_label = "live-output", "Output"
        looks = {"source": self.source, "visible": False}
        self._lines, self._dots = [], []
        for place, column in enumerate(self._columns):
            color, dash = look.colors[place % len(look.colors)], DASHES[place // len(look.colors) % len(DASHES)]
            self._lines.append(self.plot.line("x", column, line_color=color, line_dash=dash, line_width=1.8, **looks))
            self._dots.append(self.plot.scatter("x", column, color=color, size=4, **looks))
        self.plot.add_tools(HoverTool(renderers=self._dots, tooltips=[("", "$name"), ("value", "$snap_y{0.0000}")]))
        self._legend = Legend(items=[], **_LEGEND)
        self.plot.add_layout(self._legend, "right")
        look.dress(self.plot)
        self._names: list[str] = []
        self._key: tuple[Any, ...] = ()

    def fill(self, key: tuple[Any, ...], clock: Clock, outputs: np.ndarray, names: list[str], shown: list[int]) -> None:
        """Draw the outputs so far; of the same sample only what is new.

        Parameters
        ----------
        outputs : array (step, output)
        shown : list of int
            The outputs that have a line.
        """
        drawn = [names[place] for place in shown]
        if drawn and drawn != self._names:
            self._name(drawn)
            self._key = ()
        n_before = len(self.source.data["x"])
        is_more = key == self._key and n_before <= len(outputs)
        new = slice(n_before if is_more else 0, len(outputs))
        blank = np.full(new.stop - new.start, np.nan)
        data = {"x": clock.at[new]} | dict.fromkeys(self._columns, blank)
        data |= {column: outputs[new, output] for column, output in zip(self._columns, shown, strict=False) if len(outputs)}
        if not is_more:
            self.source.data = data
            put_clock(self.plot, clock)
        elif new.start < new.stop:
            self.source.stream(data)
        self._key = key
        self._widen(outputs[:, shown] if len(outputs) else outputs, is_more=is_more)

    def _widen(self, outputs: np.ndarray, *, is_more: bool) -> None:
        """Bring all into sight: 0 to 1, and more where there is more; nothing gets smaller while it grows."""
        known = outputs[np.isfinite(outputs)]
        low, high = min(0.0, float(known.min(initial=0.0))), max(1.0, float(known.max(initial=0.0)))
        room = 0.05 * (high - low)
        low, high = low - room, high + room
        if is_more:
            low, high = min(low, self._ends.start), max(high, self._ends.end)
        self._ends.update(start=low, end=high)

    def _name(self, names: list[str]) -> None:
        """Say which output each line is."""
        self._names = names
        items = []
        for place, (line, dot) in enumerate(zip(self._lines, self._dots, strict=True)):
            line.visible = dot.visible = place < len(names)
            if place < len(names):
                dot.name = names[place]
                items.append(LegendItem(label={"value": short(names[place], _LETTERS)}, renderers=[line]))
        self._legend.items = items


def curtain(plot: Any, look: Look) -> BoxAnnotation:
    """What hides the steps that are still to come."""
    made = BoxAnnotation(
        fill_color=look.ground, fill_alpha=0.88, line_color=look.mark, line_width=1, level="overlay", visible=False, name="still to come"
    )
    plot.add_layout(made)
    return made
