"""One unit: what drives it most, and what it does over the whole data set."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import panel as pn
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d, Span
from bokeh.plotting import figure
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.sample.channels import is_text
from seqscope.explorer.views.unit import paper as unit_paper
from seqscope.explorer.views.unit.found import Found, find_unit, stretch_of
from seqscope.explorer.views.unit.windows import Windows
from seqscope.explorer.views.view import Stage, View


class Unit(View):
    """The windows that drive a unit most, its report, its values and the classes that it tells apart."""

    name, title = "unit", "Unit"
    follows = frozenset({"layer", "state", "unit"})
    is_slow = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._shown: tuple[Found, Chosen] | None = None

    def build(self) -> Viewable:
        """The windows above, the report and two bar charts below."""
        self._head = pn.pane.HTML("", sizing_mode="stretch_width", margin=(6, 5))
        self._unknown = pn.pane.HTML("", css_classes=["sq-told", "sq-note"], sizing_mode="stretch_width", visible=False)
        self._windows = Windows(self.look, self._clicked, is_text=self.source.X is not None and is_text(self.source))
        self._report = pn.pane.HTML("", width=330, margin=(4, 5))
        self.counts = ColumnDataSource({"left": [], "right": [], "count": []})
        self.told = ColumnDataSource({"label": [], "auroc": [], "color": []})
        self._classes, self._values, self._steps = FactorRange(), Range1d(0, 1), Range1d(0, 1)
        histogram, classes = self._histogram(), self._selectivity()
        self._class_panel = pn.pane.Bokeh(classes, margin=0, sizing_mode="stretch_width")
        below = pn.Row(
            self._report,
            pn.pane.Bokeh(histogram, margin=0, sizing_mode="stretch_width"),
            self._class_panel,
            sizing_mode="stretch_width",
            margin=0,
        )
        parts = (self._head, self._windows.panel, below, self._unknown)
        self._body = pn.Column(*parts, sizing_mode="stretch_width", margin=0, visible=False)  # empty axes say nothing
        return self._body

    def _histogram(self) -> Any:
        plot = figure(
            height=240,
            sizing_mode="stretch_width",
            tools=[],
            toolbar_location=None,
            min_border_left=60,
            x_range=self._values,
            y_range=self._steps,
        )
        drawn = plot.quad(
            left="left", right="right", bottom=0, top="count", color=self.look.colors[0], line_color=self.look.ground, source=self.counts
        )
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=[("value", "@left{0.000} to @right{0.000}"), ("steps", "@count")]))
        plot.xaxis.axis_label, plot.yaxis.axis_label = "Value", "Steps of all samples"
        return self.look.dress(plot)

    def _selectivity(self) -> Any:
        plot = figure(height=240, sizing_mode="stretch_width", x_range=self._classes, y_range=(0, 1), tools=[], toolbar_location=None)
        drawn = plot.vbar(x="label", bottom=0.5, top="auroc", width=0.8, color="color", source=self.told)
        plot.add_layout(Span(location=0.5, dimension="width", line_color=self.look.soft, line_width=1))
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=[("class", "@label"), ("AUROC", "@auroc{0.000}")]))
        plot.xaxis.axis_label, plot.yaxis.axis_label = "Class", "Selectivity (AUROC)"
        plot.xaxis.major_label_orientation = 0.9
        return self.look.dress(plot)

    def _clicked(self, place: int) -> None:
        if self._shown is None:
            return
        found, chosen = self._shown
        if found.windows is not None:
            self.selection.choose(**stretch_of(self.source, chosen, found.windows, place), view="sample")

    def units_in_order(self) -> list[int]:
        """The units by position."""
        chosen = self.selection.chosen
        return list(range(len(self.source.layer(chosen.layer).units_of(chosen.state))))

    def find(self, chosen: Chosen) -> Found:
        """All samples are read; what is of all units once for all who look."""
        return find_unit(self.source, chosen)

    def show(self, found: Found, chosen: Chosen) -> None:
        """What is not known is left out, with a sentence."""
        self._shown = found, chosen
        state = f", {escape(chosen.state)}" if chosen.state else ""
        drives = ": what drives it most" if found.windows is not None else ""
        self._head.object = f"<b>Unit {escape(str(found.label))} of {escape(chosen.layer)}{state}</b>{drives}"
        self._unknown.param.update(object=" ".join(map(escape, found.unknown)), visible=bool(found.unknown))
        self._windows.panel.visible = found.windows is not None
        if found.windows is not None:
            self._windows.fill(found.windows)
        self._report.object = _table_html(unit_paper.words(found))
        self.counts.data = {"left": found.edges[:-1], "right": found.edges[1:], "count": found.counts}
        self._values.update(start=float(found.edges[0]), end=float(found.edges[-1]))
        self._steps.end = 1.05 * max(1, int(found.counts.max()))
        labels, told = unit_paper.selectivity(found)
        self._class_panel.visible = bool(labels)
        self._classes.factors = labels
        colors = [self.look.colors[0] if value >= 0.5 else self.look.colors[1] for value in told]
        self.told.data = {"label": labels, "auroc": told, "color": colors}
        self._body.visible = True

    def code(self, found: Found, chosen: Chosen) -> str:
        """The report, what it follows, the windows."""
        return unit_paper.code_of(self.source, found, chosen)

    def table(self, found: Found, chosen: Chosen) -> pd.DataFrame:
        """A row for each figure."""
        return unit_paper.table_of(found)

    def figure(self, found: Found, chosen: Chosen) -> Figure:
        """The report above the windows."""
        return unit_paper.figure_of(found)


_NAME = "padding: 1px 8px 1px 0; vertical-align: top; text-align: left; font-weight: normal; color: var(--sq-soft); white-space: nowrap"


def _table_html(rows: list[tuple[str, str]]) -> str:
    body = "".join(f'<tr><th scope="row" style="{_NAME}">{escape(name)}</th><td>{escape(said)}</td></tr>' for name, said in rows)
    return f"<table>{body}</table>"
