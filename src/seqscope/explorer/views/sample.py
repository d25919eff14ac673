"""One sample: its channels above, the units of a layer below, all on one time axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import panel as pn
import xarray as xr
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.explorer.figures import Clock, Heatmap, Lines
from seqscope.explorer.ordering import limits_of, ordered
from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.view import Stage, View
from seqscope.labelled import CHANNEL, TIME, UNIT
from seqscope.plot import style


@dataclass(frozen=True)
class Found:
    """The input (None where it is not known), what the units do, and the position of the unit of each row."""

    input: xr.DataArray | None
    values: xr.DataArray
    order: np.ndarray
    limits: tuple[float, float]


class Sample(View):
    """A sample's input above the heatmap of a layer; a click on a row chooses its unit."""

    name, title = "sample", "Sample"
    follows = frozenset({"sample", "layer", "state", "order", "unit", "start", "stop"})

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._order = np.zeros(0, int)
        self._drawn: Chosen | None = None

    def build(self) -> Viewable:
        self._lines = Lines(self.look, self.stage.time, height=190, ylabel="Input")
        self._heatmap = Heatmap(self.look, self.stage.time, height=400, chosen=self._clicked)
        self._head = pn.pane.HTML("", css_classes=["sq-line"], sizing_mode="stretch_width", margin=0)
        return pn.Column(
            self._head, pn.pane.Bokeh(self._lines.plot, margin=0), pn.pane.Bokeh(self._heatmap.plot, margin=0), sizing_mode="stretch_width", margin=0
        )

    def _clicked(self, row: int, step: int) -> None:
        self.selection.choose(unit=int(self._order[row]))

    def find(self, chosen: Chosen) -> Found:
        values = self.source.values(chosen.layer, chosen.state, chosen.sample)
        return Found(self.source.input(chosen.sample), values, ordered(self.source, chosen, values), limits_of(self.source, chosen, values))

    def show(self, found: Found, chosen: Chosen) -> None:
        self._order = found.order
        shown = found.values
        if found.input is not None and CHANNEL in found.input.dims:
            clock = Clock(found.input)
            names = [str(name) for name in found.input.coords[CHANNEL].values]
            self._lines.fill(clock, found.input.transpose(CHANNEL, TIME).values, names)
        names = [str(label) for label in self.source.layer(chosen.layer).units]
        self._heatmap.fill(shown, found.order, names, limits=found.limits, rows_label=style.label_of(shown, UNIT))
        self._heatmap.mark(int(np.flatnonzero(found.order == chosen.unit)[0]) if chosen.unit in found.order else None)
        self._heatmap.brush(chosen.start, chosen.stop)

    def code(self, found: Found, chosen: Chosen) -> str:
        values = self.source.code(chosen.layer, chosen.state, chosen.sample)
        sort = f', sort="{chosen.order}"' if chosen.order in ("peak", "cluster") else ""
        if found.input is None:
            return f"sq.plot.heatmap({values}{sort})"
        return f"sq.plot.activations(X[{chosen.sample}], {values}{sort})"

    def table(self, found: Found, chosen: Chosen) -> pd.DataFrame:
        return found.values.rename("value").to_dataframe().reset_index()

    def figure(self, found: Found, chosen: Chosen) -> Figure:
        from seqscope import plot

        figure = Figure(figsize=(9.0, 7.5), layout="constrained")
        shown = found.values.isel({UNIT: found.order})
        title = f"{self.source.name}, sample {chosen.sample}, {chosen.layer}{' ' + chosen.state if chosen.state else ''}"
        if found.input is None or CHANNEL not in found.input.dims:
            plot.heatmap(shown, ax=figure.subplots(), title=title)
        else:
            plot.activations(found.input, shown, figure=figure, title=title)
        return figure
