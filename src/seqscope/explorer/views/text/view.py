"""A text whose characters are coloured by what the chosen unit does at each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
import xarray as xr
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.errors import SeqscopeError, UnsupportedError
from seqscope.explorer.figures.coloured_text import ColouredText, legend_of
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.views.text.characters import characters, code_of, why_no_text
from seqscope.explorer.views.view import View
from seqscope.labelled import TIME, UNIT
from seqscope.plot import text_axes
from seqscope.plot.text_parts import Painted, painted

# Characters that are shown at a time.
PART = 1200


@dataclass(frozen=True)
class Found:
    """A part of a text: where it begins and stops, how long the whole is, what the unit does there, and its colours.

    Attributes
    ----------
    values : DataArray (time)
        Of the whole text.
    text : Painted
        Of the part, in the colours of the whole.
    """

    start: int
    stop: int
    length: int
    values: xr.DataArray
    text: Painted


class Text(View):
    """The characters of a sample, coloured by the unit; a click on one chooses that step."""

    name, title = "text", "Text"
    follows = frozenset({"sample", "layer", "state", "unit", "start", "stop", "part"})

    @classmethod
    def missing(cls, source: Source) -> str:
        """Why there is none: the data is no text."""
        return why_no_text(source)

    def build(self) -> Viewable:
        """The text, what its colours mean, and buttons for more of it."""
        self._text = ColouredText(self.look, chosen=self._clicked)
        self._text.plot.name = "text"
        self._head = pn.pane.HTML("", sizing_mode="stretch_width", margin=0)
        self._before = pn.widgets.Button(label="Previous part", width=110, height=28, margin=(0, 6, 6, 0))
        self._after = pn.widgets.Button(label="Next part", width=110, height=28, margin=(0, 6, 6, 0))
        self._before.on_click(lambda event: self._turn(-1))
        self._after.on_click(lambda event: self._turn(+1))
        self._turning = pn.Row(self._before, self._after, margin=0)
        shown = pn.Column(pn.pane.Bokeh(self._text.plot, margin=0), css_classes=["sq-wide"], sizing_mode="stretch_width", margin=0)
        return pn.Column(self._head, self._turning, shown, sizing_mode="stretch_width", margin=0)

    def _clicked(self, place: int) -> None:
        self.selection.choose(start=place, stop=place + 1)

    def _turn(self, by: int) -> None:
        try:
            self.selection.choose(part=max(0, self.selection.chosen.part + by))
        except SeqscopeError as error:
            self._head.object = error.message

    def find(self, chosen: Chosen) -> Found:
        """The part and its values.

        Raises
        ------
        UnsupportedError
            The layer has steps of its own.
        """
        values = self.source.values(chosen.layer, chosen.state, chosen.sample)
        if TIME not in values.dims:
            raise UnsupportedError(
                f"'{chosen.layer}' has steps of its own, fewer than the characters: choose a layer with a value at each of them."
            )
        whole, of_unit = characters(self.source, chosen.sample), values.isel({UNIT: chosen.unit})
        scale = painted(whole, of_unit, limits=None, name=None).norm
        start = min(chosen.part, (len(whole) - 1) // PART) * PART
        stop = min(len(whole), start + PART)
        limits = (float(scale.vmin or 0.0), float(scale.vmax or 0.0))
        shown = painted(whole[start:stop], of_unit.isel({TIME: slice(start, stop)}), limits=limits, name=None)
        return Found(start, stop, len(whole), of_unit, shown)

    def show(self, found: Found, chosen: Chosen) -> None:
        """Fill the text."""
        self._text.fill(found.text, offset=found.start, mark=(chosen.start, chosen.stop))
        part = f"Characters {found.start:,} to {found.stop - 1:,} of {found.length:,}"
        self._head.object = f'{legend_of(found.text)}<div class="sq-soft">{part}. A click chooses a character.</div>'
        self._turning.visible = found.length > PART
        self._before.disabled, self._after.disabled = found.start == 0, found.stop == found.length

    def code(self, found: Found, chosen: Chosen) -> str:
        """The plot of the part."""
        values, text = self.source.code(chosen.layer, chosen.state, chosen.sample), code_of(self.source, chosen.sample)
        part = "" if found.length <= PART else f"[{found.start}:{found.stop}]"
        low, high = float(found.text.norm.vmin or 0.0), float(found.text.norm.vmax or 0.0)
        opening = "from seqscope.text import text_of\n" if text.startswith("text_of") else ""
        return f"{opening}values = {values}.isel(unit={chosen.unit})\nsq.plot.text({text}{part}, values{part}, limits=({low!r}, {high!r}))"

    def table(self, found: Found, chosen: Chosen) -> pd.DataFrame:
        """A row for each character of the whole text."""
        whole = characters(self.source, chosen.sample)
        steps: Any = found.values.coords[TIME].values if TIME in found.values.coords else np.arange(found.length)
        return pd.DataFrame({"position": steps, "character": list(whole), "value": found.values.values})

    def figure(self, found: Found, chosen: Chosen) -> Figure:
        """The part on paper."""
        lines = len(found.text.lines(self._columns))
        figure = Figure(figsize=(9.5, max(2.0, 0.21 * lines + 0.8)), layout="constrained")
        title = f"{self.source.name}, sample {chosen.sample}, {chosen.layer}{' ' + chosen.state if chosen.state else ''}"
        text_axes.draw(found.text, figure.subplots(), width=self._columns, title=title)
        return figure

    _columns = 80
