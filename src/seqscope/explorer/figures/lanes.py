"""What an attribution says of each channel and step, as colours behind the channels' lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import BoxAnnotation, ColumnDataSource, CustomJSHover, FixedTicker, HoverTool, LinearColorMapper, Range1d
from matplotlib.colors import to_hex

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.pictures import MOST_ROWS, columns_of, groups, over, thinned
from seqscope.explorer.figures.timed import put_clock, timed
from seqscope.explorer.theme import Look
from seqscope.explorer.words import short
from seqscope.labelled import STEP, TIME
from seqscope.plot.attribution_parts import BEHIND_BLACK, Scale
from seqscope.plot.attribution_styles import INK

# The most lanes with a line each; of more, the colours alone are shown. The most lanes that are named, and the letters of a name.
_MOST_LINES, _MOST_NAMED, _LETTERS = 40, 16, 13
_LEFT, _RIGHT = 92, 14
_NO_ROWS = "all channels"


class Lanes:
    """A lane for each channel, shaded by its attribution, its line over that; of a map along time one shade for all lanes.

    Parameters
    ----------
    time : Range1d
        The page's time.
    """

    def __init__(self, look: Look, time: Range1d, *, height: int = 340) -> None:
        self.look = look
        self.source = ColumnDataSource({name: [] for name in ("image", "raw", "x", "y", "dw", "dh")})
        self.lines = ColumnDataSource({"xs": [], "ys": []})
        self.mapper = LinearColorMapper(palette=["#ffffff", "#ffffff"], low=-1.0, high=1.0, nan_color=look.missing)
        self.plot = timed(look, time, height=height, y_range=Range1d(0, 1))
        self.plot.update(min_border_left=_LEFT, min_border_right=_RIGHT)
        image = self.plot.image("image", x="x", y="y", dw="dw", dh="dh", color_mapper=self.mapper, source=self.source, level="image")
        self.plot.multi_line("xs", "ys", line_color=INK, line_width=1, source=self.lines)
        self._brushed = BoxAnnotation(fill_color=look.mark, fill_alpha=0.1, line_color=look.mark, line_width=1.5, visible=False)
        self.plot.add_layout(self._brushed)
        self._about = ColumnDataSource({name: [] for name in ("names", "words", "x", "dx", "high")})
        self.plot.add_tools(self._hover(image))

    def _hover(self, image: Any) -> HoverTool:
        def js(code: str) -> CustomJSHover:
            return CustomJSHover(args={"about": self._about}, code=code)

        tips = [("", "$y{custom}"), ("time", "$x{custom}"), ("attribution", "@raw{custom}"), ("in colours", "@image{0.00}")]
        return HoverTool(renderers=[image], tooltips=tips, formatters={"$y": js(_ROW), "$x": js(_STEP), "@raw": js(_NUMBER)})

    def fill(self, array: xr.DataArray, scale: Scale, *, size: float = 1.0, line: xr.DataArray | None = None, axis: str = "") -> None:
        """Draw another attribution.

        Parameters
        ----------
        array : DataArray (time), (time, channel) or (step, unit)
        scale : Scale
            Of the colours, after each value was divided by `size`.
        line : DataArray (time, channel), optional
            The lines.
        axis : str
            What the rows are.
        """
        clock_dim = STEP if STEP in array.dims else TIME
        rows = [str(dim) for dim in array.dims if dim != clock_dim]
        values = array.transpose(*rows, clock_dim).values.reshape(-1, array.sizes[clock_dim])[::-1]  # an image begins at the bottom
        lanes = _names(array, rows[0]) if rows else [_NO_ROWS] if line is None else [str(name) for name in line.coords[line.dims[1]].values]
        self._colour(Clock(array), np.asarray(values, np.float64), lanes if rows else [_NO_ROWS], len(lanes), size)
        cmap, norm = scale.colours(BEHIND_BLACK if line is not None else None)
        low, high = float(norm.vmin or 0.0), float(norm.vmax or 1.0)
        self.mapper.update(palette=[to_hex(color) for color in cmap(np.linspace(0, 1, 256))], low=low, high=high)
        self._draw_lines(line if line is not None and len(lanes) <= _MOST_LINES else None, len(lanes))
        self._name_lanes(lanes, axis)

    def _colour(self, clock: Clock, values: np.ndarray, names: Sequence[str], n_lanes: int, size: float) -> None:
        columns = columns_of(clock.edges)
        _, cells = over(values, groups(len(values), MOST_ROWS), columns)
        left, right = clock.edges[[0, -1]]
        words = [clock.said(start, stop) for start, stop in zip(columns.start.tolist(), columns.stop.tolist(), strict=True)]
        self._about.data = {"names": [list(names)], "words": [words], "x": [left], "dx": [(right - left) / len(words)], "high": [n_lanes]}
        self.source.data = {"image": [cells / size], "raw": [cells], "x": [left], "y": [0], "dw": [right - left], "dh": [n_lanes]}
        put_clock(self.plot, clock)

    def _draw_lines(self, line: xr.DataArray | None, n_lanes: int) -> None:
        """Each channel around the middle of its lane, all on one scale: the widest fills its lane, as in `plot.series`."""
        if line is None:
            self.lines.data = {"xs": [], "ys": []}
            return
        at, values = Clock(line).at, line.values.T.astype(float)
        low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
        around = 0.95 * (values - (low + high) / 2) / (float((high - low).max()) or 1.0)
        drawn = [thinned(at, row + n_lanes - 0.5 - place) for place, row in enumerate(around)]
        self.lines.data = {"xs": [x for x, _ in drawn], "ys": [y for _, y in drawn]}

    def _name_lanes(self, lanes: Sequence[str], axis: str) -> None:
        every = -(-len(lanes) // _MOST_NAMED)
        named = {len(lanes) - 0.5 - place: short(lanes[place], _LETTERS) for place in range(0, len(lanes), every)}
        shown = {} if lanes == [_NO_ROWS] else named
        self.plot.yaxis.update(ticker=FixedTicker(ticks=list(shown)), major_label_overrides=shown, axis_label=axis)
        self.plot.y_range.update(start=0, end=len(lanes))

    def brush(self, ends: tuple[float, float] | None) -> None:
        """Mark a stretch of time."""
        left, right = ends or (0.0, 0.0)
        self._brushed.update(left=left, right=right, visible=ends is not None)


def _names(array: xr.DataArray, dim: str) -> list[str]:
    return [str(name) for name in array.coords[dim].values] if dim in array.coords else [str(place) for place in range(array.sizes[dim])]


_ROW = """
const names = about.data.names[0], high = about.data.high[0];
const row = Math.floor((high - special_vars.y) * names.length / high);
return names[Math.max(0, Math.min(names.length - 1, row))];
"""
_STEP = """
const words = about.data.words[0];
return words[Math.max(0, Math.min(words.length - 1, Math.floor((special_vars.x - about.data.x[0]) / about.data.dx[0])))];
"""
_NUMBER = "return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : 'none';"
