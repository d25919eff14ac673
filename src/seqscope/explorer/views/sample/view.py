"""One sample: its channels above, the units of a layer below, and the chosen unit below these, all on one time axis."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
import panel as pn
import xarray as xr
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.errors import DataError
from seqscope.explorer import words
from seqscope.explorer.figures import Heatmap
from seqscope.explorer.ordering import limits_of, ordered, takes_long
from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.sample import paper as sample_paper
from seqscope.explorer.views.sample.channels import Channels
from seqscope.explorer.views.sample.strip import Strip, UnitLines, lines_of
from seqscope.explorer.views.view import Stage, View
from seqscope.labelled import LABEL, STEP, UNIT
from seqscope.plot import style
from seqscope.units import clock_of

# Heights in pixels: of a heatmap, and of one of few units.
_HIGH, _ROW = 380, 24
_DRAG = {"Drag moves": False, "Drag brushes": True}
_CELLS = {"Extreme of a cell": "extreme", "Mean": "mean"}
_HINT = (
    "A click on a row chooses its unit. Drag to move along time, with the shift key to brush a stretch; the wheel zooms along time, on the "
    "names of the units along these."
)


@dataclass(frozen=True, eq=False)
class Found:
    """What went in (None where it is not known), what the units do, the position of the unit of each row, and the chosen unit's lines."""

    input: xr.DataArray | None
    values: xr.DataArray
    order: np.ndarray
    limits: tuple[float, float]
    unit: UnitLines


class Sample(View):
    """A sample's input above the heatmap of a layer; a click on a row chooses its unit, whose gates and cell are below."""

    name, title = "sample", "Sample"
    follows = frozenset({"sample", "layer", "state", "order", "cells", "unit", "start", "stop"})

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._order = np.zeros(0, int)
        self._drawn: tuple[xr.DataArray, np.ndarray, str] | None = None

    # The models

    def build(self) -> Viewable:
        """The channels, the heatmap, the unit."""
        self._channels = Channels(self.stage)
        n_units = max((len(layer.units) for layer in self.source.layers.values()), default=1)
        height = int(min(_HIGH, 90 + _ROW * max(n_units, 3)))
        self._heatmap = Heatmap(
            self.look, self.stage.time, height=height, chosen=self._clicked, brushed=self._brushed, is_clock_named=False
        )
        self._strip = Strip(self.stage)
        picture = pn.pane.Bokeh(self._heatmap.plot, margin=0, sizing_mode="stretch_width")
        hint = pn.pane.HTML(f'<span style="color: var(--sq-soft)">{_HINT}</span>', sizing_mode="stretch_width", margin=(0, 5))
        return pn.Column(self._head(), self._channels.panel, picture, self._strip.panel, hint, sizing_mode="stretch_width", margin=0)

    def _head(self) -> Viewable:
        """What the sample is, and how the heatmap is handled."""
        self._told = pn.pane.HTML("", sizing_mode="stretch_width", margin=(6, 5))
        self._drag = pn.widgets.RadioButtonGroup(options=_DRAG, value=False, height=26, margin=(3, 4), css_classes=["sq-drag"])
        self._cells = pn.widgets.RadioButtonGroup(options=_CELLS, value="extreme", height=26, margin=(3, 4), visible=False)
        self._clear = pn.widgets.Button(label="Clear stretch", height=26, margin=(3, 4), visible=False, css_classes=["sq-clear"])
        self._drag.param.watch(lambda event: self._heatmap.brush_on_drag(event.new), "value")
        self._cells.param.watch(lambda event: self.selection.choose(cells=event.new), "value")
        self._clear.on_click(lambda _: self.selection.choose(start=0, stop=0))
        return pn.Row(self._told, self._clear, self._cells, self._drag, sizing_mode="stretch_width", margin=0)

    def _clicked(self, row: int, step: int) -> None:
        self.selection.choose(unit=int(self._order[row]))

    def _brushed(self, start: int, stop: int) -> None:
        self.selection.choose(start=start, stop=stop) if start < stop else self.selection.choose(start=0, stop=0)

    def units_in_order(self) -> list[int]:
        """The units as they stand in the heatmap, from the top."""
        return [int(unit) for unit in self._order]

    # The numbers

    def is_slow_for(self, chosen: Chosen) -> bool:
        """Only where the units are to be put in an order that takes a while."""
        return takes_long(self.source, chosen)

    def find(self, chosen: Chosen) -> Found:
        """One sample is read, and the states of one unit."""
        values = self.source.values(chosen.layer, chosen.state, chosen.sample)
        if not values.sizes[clock_of(values)]:
            raise DataError(
                f"There are no values of '{chosen.layer}' in sample {chosen.sample}: it is not recorded yet, or it is shorter than what a "
                "step of the layer sees."
            )
        order = ordered(self.source, chosen, values)
        return Found(
            self.source.input_or_none(chosen.sample),
            values,
            order,
            limits_of(self.source, chosen, values),
            lines_of(self.source, chosen, values),
        )

    def show(self, found: Found, chosen: Chosen) -> None:
        """What has not changed is left as it is: a click on a unit sends no heatmap."""
        self._order = found.order
        self._told.object = self._said(found, chosen)
        self._channels.fill(found.input, chosen.sample, chosen.cells)
        self._show_units(found, chosen)
        rows = np.flatnonzero(found.order == chosen.unit)
        self._heatmap.mark(int(rows[0]) if len(rows) else None)
        self._heatmap.brush(chosen.start, chosen.stop)
        self._strip.fill(found.unit)
        self._clear.visible = chosen.start < chosen.stop
        is_whole = self._heatmap.is_whole and (self._channels.heatmap is None or self._channels.heatmap.is_whole)
        self._cells.param.update(visible=not is_whole, value=chosen.cells)

    def _show_units(self, found: Found, chosen: Chosen) -> None:
        """Draw the heatmap, where it is another than before."""
        before, now = self._drawn, (found.values, found.order, chosen.cells)
        if before is not None and before[0] is now[0] and np.array_equal(before[1], now[1]) and before[2] == now[2]:
            return
        self._drawn = now
        names = [str(label) for label in self.source.layer(chosen.layer).units_of(chosen.state)]
        label = style.label_of(found.values, UNIT)
        self._heatmap.fill(
            found.values, found.order, names, limits=found.limits, rows_label=label, cells=chosen.cells, sees=self._sees(chosen)
        )

    def _sees(self, chosen: Chosen) -> int | str | None:
        """What a step of the layer sees of the input, where a model is there to tell."""
        layers = () if self.source.scope is None else self.source.scope.layers
        return next((layer.field for layer in layers if layer.name == chosen.layer), None)

    def _said(self, found: Found, chosen: Chosen) -> str:
        """The sample in words."""
        row = {name: column.iloc[chosen.sample] for name, column in self.source.samples.items()}  # as a row numbers become floats
        parts = [f"{row['length']} step" + ("s" if row["length"] != 1 else "")]
        parts += [f"labelled {words.said(row[LABEL])}"] if LABEL in row else []
        parts += [f"taken for {row['prediction']} ({row['score']:.3f})"] if row.get("prediction", "") != "" else []
        said = f"<b>Sample {escape(str(row['sample']))}</b>: {escape(', '.join(parts))}."
        if chosen.start < chosen.stop <= len(found.unit.clock.at):
            said += f" Stretch: {escape(found.unit.clock.said(chosen.start, chosen.stop))}."
        if found.input is None and self.source.X is not None:
            said += " Its input is not in the store any more: recording.verify() says what is lost."
        if found.input is not None and STEP in found.values.dims and style.clock(found.values, STEP) == STEP:
            said += " Where in the input's time the steps of this layer lie is not known: they are counted from 0."
        return said

    # What else is made of them

    def code(self, found: Found, chosen: Chosen) -> str:
        """What draws the sample, and the unit."""
        return sample_paper.code_of(self.source, found, chosen)

    def table(self, found: Found, chosen: Chosen) -> pd.DataFrame:
        """A row for each step, a column for each unit."""
        return sample_paper.table_of(found.values)

    def figure(self, found: Found, chosen: Chosen) -> Figure:
        """The same on paper."""
        return sample_paper.figure_of(self.source, found, chosen)
