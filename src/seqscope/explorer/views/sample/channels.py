"""What goes in, above what a layer makes of it: lines, colours where there are many channels, letters of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import panel as pn
import xarray as xr
from panel.viewable import Viewable

from seqscope.errors import DataError
from seqscope.explorer.figures import Clock, Heatmap, Letters, Lines
from seqscope.explorer.source import Source
from seqscope.explorer.views.view import Stage
from seqscope.labelled import CHANNEL, TIME, UNIT
from seqscope.plot import style
from seqscope.plot.text_parts import visible
from seqscope.text import text_of

UNKNOWN = (
    "What went in is not known: the recording was made without its inputs. Give the data too, as in explore(store, X) or "
    "seqscope explore STORE DATA."
)


class Channels:
    """The input of one sample, on the page's time axis.

    Attributes
    ----------
    panel : Viewable
    """

    def __init__(self, stage: Stage) -> None:
        self._source, look = stage.source, stage.look
        self._input: xr.DataArray | None = None
        self._cells = ""
        self.lines: Lines | None = None
        self.heatmap: Heatmap | None = None
        self.letters: Letters | None = None
        if stage.source.X is None:
            self.panel: Viewable = pn.pane.HTML(UNKNOWN, css_classes=["sq-told", "sq-note"], sizing_mode="stretch_width")
            return
        if is_text(stage.source):
            self.letters = Letters(look, stage.time)
        elif (stage.source.X.n_channels or 0) <= Lines.MOST_NAMED:
            self.lines = Lines(look, stage.time, height=190, ylabel="Input", is_clock_named=False)
        else:
            self.heatmap = Heatmap(look, stage.time, height=230, name="Input", is_clock_named=False)
        drawn = self.lines or self.heatmap or self.letters
        self.panel = pn.pane.Bokeh(drawn.plot if drawn else None, margin=0, sizing_mode="stretch_width")

    def fill(self, shown: xr.DataArray | None, sample: int, cells: str) -> None:
        """Draw another sample's; the same one is left as it is."""
        if shown is None or (self._input is shown and self._cells == cells):
            return
        self._input, self._cells = shown, cells
        if self.letters:
            self.letters.fill(Clock(shown), texts_of(self._source, sample))
            return
        channels = shown.transpose(CHANNEL, TIME)
        names = [str(name) for name in channels.coords[CHANNEL].values]
        if self.lines:
            self.lines.fill(Clock(shown), channels.values, names)
        elif self.heatmap:
            as_units = channels.rename({CHANNEL: UNIT})
            limits = style.limits([channels])
            label = style.label_of(channels, CHANNEL)
            self.heatmap.fill(as_units, np.arange(len(names)), names, limits=limits, rows_label=label, cells=cells)


def is_text(source: Source) -> bool:
    """Whether the steps of the input are tokens or characters."""
    X = source.inputs()
    if X.is_tokens:
        return True
    names = X.channels or ()
    if len(names) < 2 or not all(isinstance(name, str) and len(name) <= 1 for name in names):
        return False
    try:
        text_of(X[:1])
    except DataError:
        return False
    return True


def texts_of(source: Source, sample: int) -> Sequence[str]:
    """What stands at each step: a character as it can be seen, or the number of a token."""
    one = source.inputs()[sample : sample + 1]
    try:
        return [visible(character) for character in text_of(one)]
    except DataError:
        return [str(token) for token in one[0].values.tolist()]
