"""The windows of the input that drive a unit most, side by side, each above what the unit does there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn
import xarray as xr
from bokeh.core.properties import value
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, LinearColorMapper, Range1d
from bokeh.plotting import figure

from seqscope.explorer import words
from seqscope.explorer.figures import Lines
from seqscope.explorer.figures.lines import DASHES
from seqscope.explorer.figures.pictures import aggregated
from seqscope.explorer.theme import Look, scale
from seqscope.labelled import CHANNEL, LABEL, SAMPLE, TIME, WINDOW
from seqscope.plot import style
from seqscope.plot.text_parts import visible

# Steps between two windows, as a part of one; the room above the lines for what a window is.
_GAP, _ROOM = 0.12, 0.34
_MOST_ROWS = 200


class Windows:
    """Two figures: the input of each window, and below it the unit.

    Parameters
    ----------
    chosen : function of int
        Called with the window that a person clicks on, the best first.
    is_text : bool
        Whether the channels are characters.
    """

    def __init__(self, look: Look, chosen: Callable[[int], None], *, is_text: bool) -> None:
        self.look, self._chosen, self._is_text = look, chosen, is_text
        self._across = Range1d(0, 1)
        self._n, self._wide = 0, 1.0
        self.input = self._figure(64 if is_text else 190, "" if is_text else "Input")
        self.unit = self._figure(130, "Unit")
        self.lines = ColumnDataSource({"xs": [], "ys": [], "color": [], "dash": [], "name": []})
        self.image = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self.letters = ColumnDataSource({"x": [], "text": []})
        self.titles = ColumnDataSource({"x": [], "y": [], "text": []})
        self.peaks = ColumnDataSource({"x": []})
        self.grounds = ColumnDataSource({"left": [], "right": []})
        self.values = ColumnDataSource({"xs": [], "ys": []})
        self.mapper = LinearColorMapper(palette=scale(-1, 1)[0], low=-1, high=1, nan_color="rgba(0, 0, 0, 0)")
        self._draw()
        parts = [pn.pane.Bokeh(plot, margin=0, sizing_mode="stretch_width") for plot in (self.input, self.unit)]
        self.panel = pn.Column(*parts, sizing_mode="stretch_width", margin=0)

    def _figure(self, height: int, label: str) -> Any:
        plot = figure(
            height=height,
            sizing_mode="stretch_width",
            x_range=self._across,
            y_range=Range1d(0, 1),
            tools=[],
            toolbar_location=None,
            min_border_left=74,
            min_border_right=12,
        )
        plot.xaxis.ticker, plot.xaxis.major_label_text_font_size, plot.yaxis.axis_label = FixedTicker(ticks=[]), "0px", label
        plot.on_event(Tap, self._tapped)
        return self.look.dress(plot)

    def _draw(self) -> None:
        colors = {"line_color": self.look.soft, "line_dash": "dotted", "line_width": 1}
        for plot in (self.input, self.unit):
            plot.vstrip(x0="left", x1="right", fill_color=self.look.panel, line_color=None, source=self.grounds)
            plot.vspan(x="x", source=self.peaks, **colors)
        drawn = self.input.multi_line("xs", "ys", color="color", line_dash="dash", line_width=1.3, source=self.lines)
        self.input.image("image", x="x", y="y", dw="dw", dh="dh", color_mapper=self.mapper, source=self.image)
        self.input.text(
            "x", 0.3, text="text", text_color=self.look.text, text_font=value("monospace"), text_align="center", source=self.letters
        )
        said = self.input.text("x", "y", text="text", text_color=self.look.text, text_baseline="top", x_offset=3, source=self.titles)
        said.glyph.text_font_size = "11px"
        unit = self.unit.multi_line("xs", "ys", color=self.look.colors[0], line_width=1.8, source=self.values)
        self.input.add_tools(HoverTool(renderers=[drawn], tooltips=[("", "@name"), ("value", "$snap_y{0.0000}")], line_policy="nearest"))
        self.unit.add_tools(HoverTool(renderers=[unit], tooltips=[("value", "$snap_y{0.0000}")], line_policy="nearest"))
        self.unit.xaxis.axis_label = "A click on a window shows it in its sample"
        self.unit.xaxis.axis_label_text_color = self.look.soft

    def _tapped(self, event: Any) -> None:
        if self._n and event.x is not None:
            self._chosen(int(np.clip(event.x // (self._wide * (1 + _GAP)), 0, self._n - 1)))

    def fill(self, windows: xr.Dataset) -> None:
        """Draw other windows."""
        windows = windows.transpose(WINDOW, TIME, CHANNEL, ...)
        known = windows["input"].notnull().any([WINDOW, CHANNEL]).values | windows["activation"].notnull().any(WINDOW).values
        windows = windows.isel({TIME: known})
        self._n, self._wide = windows.sizes[WINDOW], float(windows.sizes[TIME])
        begins = np.arange(self._n) * self._wide * (1 + _GAP)
        times = begins[:, None] + np.arange(windows.sizes[TIME]) + 0.5
        self._across.update(start=0, end=float(begins[-1] + self._wide))
        self.grounds.data = {"left": begins, "right": begins + self._wide}
        self.peaks.data = {"x": begins + int(np.searchsorted(windows.coords[TIME].values, 0)) + 0.5}
        self._fill_input(windows, begins, times)
        values = windows["activation"].values
        there = ~np.isnan(values)
        self.values.data = {
            "xs": [x[seen] for x, seen in zip(times, there, strict=True)],
            "ys": [y[seen] for y, seen in zip(values, there, strict=True)],
        }
        _put_ends(self.unit.y_range, values, 0.08)
        self.unit.yaxis.axis_label = "Unit " + str(windows.attrs.get("unit", ""))

    def _fill_input(self, windows: xr.Dataset, begins: np.ndarray, times: np.ndarray) -> None:
        values, names = windows["input"].values, [str(name) for name in windows.coords[CHANNEL].values]
        if self._is_text:
            top = self._fill_letters(values, names, times)
        elif len(names) > Lines.MOST_NAMED:
            top = self._fill_image(values, begins, names)
        else:
            top = self._fill_lines(values, names, times)
        said = [_said(windows.isel({WINDOW: place})) for place in range(self._n)]
        self.titles.data = {"x": begins, "y": [top] * self._n, "text": said}

    def _fill_lines(self, values: np.ndarray, names: list[str], times: np.ndarray) -> float:
        """A line for each channel of each window; the y at which their titles are."""
        colors = self.look.colors
        found: dict[str, list[Any]] = {"xs": [], "ys": [], "color": [], "dash": [], "name": []}
        for window, x in zip(values, times, strict=True):
            there = ~np.isnan(window).any(axis=1)
            for place, name in enumerate(names):
                one = (x[there], window[there, place], colors[place % len(colors)], DASHES[place // len(colors) % len(DASHES)], name)
                for key, part in zip(found, one, strict=True):
                    found[key].append(part)
        self.lines.data = found
        return _put_ends(self.input.y_range, values, _ROOM)

    def _fill_image(self, values: np.ndarray, begins: np.ndarray, names: list[str]) -> float:
        """Channels as rows of colours, the first on top."""
        colors, low, high = scale(*style.limits([xr.DataArray(values)]))
        self.mapper.update(palette=colors, low=low, high=high)
        images = [aggregated(np.asarray(window.T, np.float32), most_rows=_MOST_ROWS).extreme[::-1] for window in values]
        self.image.data = {
            "image": images,
            "x": begins,
            "y": [0.0] * self._n,
            "dw": [self._wide] * self._n,
            "dh": [float(len(names))] * self._n,
        }
        self.input.y_range.update(start=0.0, end=len(names) * (1 + _ROOM))
        self.input.yaxis.update(ticker=FixedTicker(ticks=[]))
        self.input.yaxis.axis_label = f"{len(names)} channels"
        return len(names) * (1 + _ROOM)

    def _fill_letters(self, values: np.ndarray, names: list[str], times: np.ndarray) -> float:
        there = ~np.isnan(values).any(axis=2)
        texts = [visible(names[int(one.argmax())]) for one in values[there]]
        self.letters.data = {"x": times[there], "text": texts}
        self.input.yaxis.visible = False
        return 1.0


def _put_ends(ends: Range1d, values: np.ndarray, room: float) -> float:
    """Bring all values into sight with this much room above, as a part of them; the upper end."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    size = (high - low) or 1.0
    top = high + size * (0.05 + room)
    ends.update(start=low - 0.05 * size, end=top)
    return top


def _said(window: xr.Dataset) -> str:
    """Which sample a window is of, its class, and how high the unit is."""
    label = f" ({words.said(window[LABEL].item())})" if LABEL in window.variables else ""
    title = words.short(f"sample {window[SAMPLE].item()}{label}", words.TITLE)
    return f"{title}\n{window['score'].item():.3g} at step {window['peak'].item()}"
