"""A text or tokens on the time axis, a letter at each step."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, HoverTool, Label, Range1d

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.sight import follow
from seqscope.explorer.figures.timed import put_clock, timed
from seqscope.explorer.theme import Look

# More letters than these can't be read side by side.
_MOST = 160


class Letters:
    """What stands at each step: letters, or the numbers of tokens; where there are too many to read, a word on how to see them."""

    def __init__(self, look: Look, time: Range1d, *, height: int = 74) -> None:
        self.source = ColumnDataSource({"x": [], "text": [], "step": []})
        self._time = time
        self.plot = timed(look, time, height=height, y_range=Range1d(0, 1))
        self.plot.yaxis.visible = False
        drawn = self.plot.text(
            "x",
            0.5,
            text="text",
            text_align="center",
            text_baseline="middle",
            text_font=value("monospace"),
            text_color=look.text,
            source=self.source,
        )
        drawn.glyph.text_font_size = "12px"
        self.plot.add_tools(HoverTool(renderers=[drawn], tooltips=[("", "@text"), ("time", "@step")]))
        self._hint = Label(
            x=6, y=20, x_units="screen", y_units="screen", text_color=look.soft, text_font_size="12px", visible=False, text=""
        )
        self.plot.add_layout(self._hint)
        self._clock: Clock | None = None
        self._texts: Sequence[str] = ()
        follow((time,), self._draw)

    def fill(self, clock: Clock, texts: Sequence[str]) -> None:
        """Write other letters, one for each step."""
        self._clock, self._texts = clock, texts
        put_clock(self.plot, clock)
        self.plot.xaxis.axis_label = ""
        self._draw()

    def _draw(self) -> None:
        clock = self._clock
        if clock is None:
            return
        seen = clock.steps_between(self._time.start, self._time.end)
        if sum(map(len, self._texts[seen.start : min(seen.stop, seen.start + _MOST)])) > _MOST or seen.stop - seen.start > _MOST:
            self.source.data = {"x": [], "text": [], "step": []}
            self._hint.update(text=f"{seen.stop - seen.start:,} steps: zoom in to read them.", visible=True)
            return
        self._hint.visible = False
        places = range(seen.start, seen.stop)
        self.source.data = {
            "x": clock.at[seen],
            "text": [self._texts[place] for place in places],
            "step": [clock.said(place, place + 1) for place in places],
        }
