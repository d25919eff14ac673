"""All samples as points, near each other where the model is in like states: clicked, or selected by a lasso to list some alone."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
from bokeh.core.property.descriptors import UnsetValueError
from bokeh.events import SelectionGeometry, Tap
from bokeh.models import (
    BasicTicker,
    BoxSelectTool,
    ColorBar,
    ColumnDataSource,
    HoverTool,
    LassoSelectTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.plotting import figure
from matplotlib.figure import Figure
from matplotlib.path import Path
from panel.viewable import Viewable

from seqscope.errors import DataError
from seqscope.explorer.any_source import Source
from seqscope.explorer.selection import Chosen
from seqscope.explorer.theme import scale
from seqscope.explorer.views.samples import listing, ranges
from seqscope.explorer.views.samples.listing import PREDICTION, SCORE, WRONG
from seqscope.explorer.views.samples_map.code import code_of
from seqscope.explorer.views.samples_map.colours import CROSS, SIGNS, Coloured, available, coloured, colouring
from seqscope.explorer.views.samples_map.paper import axis_label, draw
from seqscope.explorer.views.samples_map.projected import LAST, Projected, is_projected, projected
from seqscope.explorer.views.view import Stage, View
from seqscope.labelled import LABEL, SAMPLE, STATE_NAMES, UNIT

# How near to a point a click counts as one on it, in pixels.
_NEAR = 14.0
# From so many points on the browser's graphics card draws.
_MANY = 3000
_HEIGHT = 360
_TITLES = {PREDICTION: "Predicted class", WRONG: "Prediction"}
_WORDS = {LABEL: "label", PREDICTION: "predicted class", WRONG: "mistakes", SCORE: "score", UNIT: "chosen unit"}


@dataclass(frozen=True, eq=False)
class Found:
    """The points, how they look and by what, where the chosen sample lies, and which of the points are selected."""

    projected: Projected
    looks: Coloured
    by: tuple[str, int]
    chosen: np.ndarray
    inside: np.ndarray


class SamplesMap(View):
    """The map of samples."""

    name, title = "map", "Map"
    follows = frozenset({SAMPLE, "layer", "state", UNIT, "colour", "among"})
    is_slow = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._found: Found | None = None
        self._order = np.zeros(0, int)
        self._is_filling = False

    @classmethod
    def missing(cls, source: Source) -> str:
        """Without layers there are no states."""
        return "" if source.layers else "No layer has a state for each step, so there is nothing to make a map of."

    def is_slow_for(self, chosen: Chosen) -> bool:
        """Once the points are there, they are only coloured and marked anew."""
        return not is_projected(self.source, chosen.layer, chosen.state)

    # Its models

    def build(self) -> Viewable:
        """The plot, its legend and what it is coloured by."""
        self._points = ColumnDataSource(
            {name: [] for name in ("x", "y", "color", "edge", "edge_width", "marker", "text", "size", "id", "label", "prediction")}
        )
        self._mark = ColumnDataSource({"x": [], "y": []})
        self.plot = self._plot()
        self._colour = pn.widgets.Select(
            label="Coloured by", options={_WORDS[name]: name for name in available(self.source)}, width=140, margin=(0, 6, 4, 0)
        )
        self._colour.param.watch(lambda event: self._choose(colour=event.new), "value")
        self._clear = pn.widgets.Button(
            label="Clear selection", visible=False, height=26, align="end", margin=(0, 0, 6, 0), css_classes=["sq-clear"]
        )
        self._clear.on_click(lambda event: self._choose(among=""))
        self._about = pn.pane.HTML("", css_classes=["sq-line"], sizing_mode="stretch_width", margin=(0, 0, 4, 0))
        self._legend = pn.pane.HTML("", css_classes=["sq-line"], sizing_mode="stretch_width", margin=(4, 0, 0, 0))
        head = pn.Row(self._colour, self._clear, margin=0, sizing_mode="stretch_width")
        return pn.Column(head, self._about, pn.pane.Bokeh(self.plot, margin=0), self._legend, sizing_mode="stretch_width", margin=0)

    def _plot(self) -> Any:
        lasso, box, pan, wheel = LassoSelectTool(), BoxSelectTool(), PanTool(), WheelZoomTool()
        plot = figure(
            height=_HEIGHT,
            sizing_mode="stretch_width",
            x_range=Range1d(0, 1),
            y_range=Range1d(0, 1),
            tools=[lasso, box, pan, wheel, ResetTool()],
            toolbar_location="above",
            output_backend="webgl" if len(self.source) > _MANY else "canvas",
            name="map",
        )
        plot.toolbar.active_drag, plot.toolbar.active_scroll, plot.toolbar.logo = lasso, wheel, None
        marks = plot.scatter(
            "x",
            "y",
            marker="marker",
            size="size",
            fill_color="color",
            line_color="edge",
            line_width="edge_width",
            fill_alpha=0.65,
            line_alpha=0.9,
            nonselection_fill_alpha=0.08,
            nonselection_line_alpha=0.15,
            source=self._points,
        )
        for width, color in ((5, self.look.ground), (2.5, self.look.mark)):
            plot.scatter("x", "y", marker="circle", size=17, fill_color=None, line_color=color, line_width=width, source=self._mark)
        lasso.renderers = box.renderers = [marks]
        self._hover = HoverTool(renderers=[marks], visible=False, limit=3)
        plot.add_tools(self._hover)
        self._mapper = LinearColorMapper(palette=scale(0.0, 1.0)[0], low=0.0, high=1.0)
        self._bar = ColorBar(
            color_mapper=self._mapper,
            height=8,
            padding=2,
            label_standoff=3,
            ticker=BasicTicker(desired_num_ticks=5),
            background_fill_color=self.look.ground,
            title_text_color=self.look.text,
            major_label_text_color=self.look.text,
            title_text_font_style="normal",
            title_text_font_size="11px",
            visible=False,
        )
        plot.add_layout(self._bar, "below")
        for axis in plot.axis:
            axis.axis_label_text_font_size = "11px"
        plot.on_event(Tap, self._tapped)
        plot.on_event(SelectionGeometry, self._selected)
        return self.look.dress(plot)

    # What a person does

    def _choose(self, **changes: Any) -> None:
        if not self._is_filling:
            self.selection.choose(**changes)

    def _tapped(self, event: Any) -> None:
        """A click: on the nearest point, if it is near."""
        if self._found is None or event.x is None:
            return
        wide, high = (_pixels(self.plot, name) for name in ("inner_width", "inner_height"))
        per_pixel = np.array(
            [(self.plot.x_range.end - self.plot.x_range.start) / wide, (self.plot.y_range.end - self.plot.y_range.start) / high]
        )
        away = np.hypot(*((self._found.projected.points - [event.x, event.y]) / per_pixel).T)
        nearest = int(away.argmin())
        if away[nearest] <= _NEAR:
            self._choose(sample=int(self._found.projected.rows[nearest]))

    def _selected(self, event: Any) -> None:
        """A lasso or a box that is finished: the table lists what is in it."""
        if self._found is None or not event.final or event.geometry.get("type") not in ("poly", "rect"):
            return
        inside = within(self._found.projected.points, event.geometry)
        if inside.any():
            self._choose(among=ranges.written(self._found.projected.rows[inside]))
        else:
            self._mark_inside(self._found)  # nothing was caught: as it was before

    # What is seen

    def samples_in_order(self) -> np.ndarray:
        """The positions of the samples that the table lists, in its order."""
        return listing.positions(self.source, self.selection.chosen)

    def find(self, chosen: Chosen) -> Found:
        """Points and looks; the first time all samples are read."""
        found = projected(self.source, chosen.layer, chosen.state)
        by = colouring(self.source, chosen.colour)
        if by == UNIT:
            title = f"Mean of {style_of(chosen)}, unit {self._unit(chosen)}"
            values = found.means[:, chosen.unit].astype(float)
        else:
            values, title = self.source.samples[by].to_numpy()[found.rows], _TITLES.get(by, by.capitalize())
        inside = np.isin(found.rows, ranges.read(chosen.among, len(self.source)))
        point = found.point_of(self.source, chosen.layer, chosen.state, chosen.sample)
        return Found(found, coloured(by, values, self.look, title), (by, chosen.unit if by == UNIT else 0), point, inside)

    def _unit(self, chosen: Chosen) -> Hashable:
        """The label of the chosen unit.

        Raises
        ------
        DataError
            The state has fewer units than its layer.
        """
        units = self.source.layer(chosen.layer).units_of(chosen.state)
        if chosen.unit >= len(units):
            raise DataError(f"There is no unit {chosen.unit} in {style_of(chosen)}: the positions go from 0 to {len(units) - 1}.")
        return units[chosen.unit]

    def show(self, found: Found, chosen: Chosen) -> None:
        """Move, colour and mark the points."""
        before, self._found = self._found, found
        is_there = bool(np.isfinite(found.chosen).all())
        are_others = before is None or before.projected is not found.projected
        if are_others:
            self._frame(found)
        if are_others or before is None or before.by != found.by:  # not for each sample: many points would be sent for one ring
            self._fill(found)
            self._legend.object = legend_html(found.looks)
        self._mark.data = {"x": found.chosen[:1], "y": found.chosen[1:]} if is_there else {"x": [], "y": []}
        self._mark_inside(found)
        self._is_filling = True
        try:
            self._colour.value = colouring(self.source, chosen.colour)
        finally:
            self._is_filling = False
        self._clear.visible = bool(chosen.among)
        self._about.object = f'<span role="status">{escape(" ".join(self._sentences(found, chosen)))}</span>'

    def _fill(self, found: Found) -> None:
        looks, is_cross = found.looks, np.array(found.looks.marker, object) == CROSS
        self._order = np.argsort(is_cross, kind="stable")  # mistakes lie on top
        part = self.source.samples.iloc[found.projected.rows]
        none = [""] * len(part)
        columns = {
            "x": found.projected.points[:, 0],
            "y": found.projected.points[:, 1],
            "color": looks.color,
            "edge": looks.color if looks.values is None else [self.look.soft] * len(part),
            "edge_width": np.where(is_cross, 2.0, 1.0),
            "marker": looks.marker,
            "text": looks.text,
            "size": np.where(is_cross, 9.0, 6.0 if len(part) <= _MANY else 4.0),
            "id": [listing.said(value) for value in part[SAMPLE].tolist()],
            **{name: [listing.said(value) for value in part[name].tolist()] if name in part else none for name in (LABEL, PREDICTION)},
        }
        self._points.data = {name: _in_order(values, self._order) for name, values in columns.items()}
        known = [name for name in (LABEL, PREDICTION) if name in part]
        more = [] if found.by[0] in known else [(looks.title, "@text")]
        self._hover.tooltips = [(SAMPLE, "@id"), *((_WORDS[name], f"@{name}") for name in known), *more]
        self._bar.visible = looks.values is not None
        if looks.values is not None:
            self._mapper.update(palette=scale(*looks.limits)[0], low=looks.limits[0], high=looks.limits[1])
            self._bar.title = looks.title

    def _mark_inside(self, found: Found) -> None:
        self._points.selected.indices = np.flatnonzero(found.inside[self._order]).tolist()

    def _frame(self, found: Found) -> None:
        """Bring all points into sight, and name the axes."""
        points = found.projected.points
        for number, (span, axis) in enumerate(((self.plot.x_range, self.plot.xaxis), (self.plot.y_range, self.plot.yaxis))):
            low, high = float(points[:, number].min()), float(points[:, number].max())
            room = 0.06 * (high - low) or 1.0
            span.update(start=low - room, end=high + room, reset_start=low - room, reset_end=high + room)
            axis.axis_label = axis_label(found.projected, number)

    def _sentences(self, found: Found, chosen: Chosen) -> list[str]:
        made = found.projected
        what = "last state" if made.pooled == LAST else "mean over its steps"
        said = [f"Each point is a sample: its {what} of {style_of(chosen)}, on two principal components of {len(made.rows):,} samples."]
        if made.number < len(self.source):
            said.append(f"They were drawn from {len(self.source):,} (seed 0); the chosen one is placed among them.")
        elif len(made.rows) < made.number:
            said.append(f"{made.number - len(made.rows):,} have no states yet.")
        if chosen.among:
            said.append(f"{int(found.inside.sum()):,} are selected: the table lists these.")
        return said

    # What makes the same

    def code(self, found: Found, chosen: Chosen) -> str:
        """The points in Python."""
        return code_of(self.source, chosen, found.projected.pooled)

    def table(self, found: Found, chosen: Chosen) -> pd.DataFrame:
        """A row for each point."""
        points = pd.DataFrame(found.projected.points, columns=["component_0", "component_1"])
        if colouring(self.source, chosen.colour) == UNIT:
            points[f"mean_of_unit_{self._unit(chosen)}"] = found.projected.means[:, chosen.unit]
        return pd.concat([self.source.samples.iloc[found.projected.rows].reset_index(drop=True), points], axis=1)

    def figure(self, found: Found, chosen: Chosen) -> Figure:
        """The map on paper."""
        looks = coloured_on_paper(self.source, found, chosen)
        return draw(found.projected, looks, found.chosen, title=f"{self.source.name}, {style_of(chosen)}")


def _in_order(values: Any, order: np.ndarray) -> Any:
    return values[order] if isinstance(values, np.ndarray) else [values[place] for place in order.tolist()]


def _pixels(plot: Any, name: str) -> int:
    """A size that the browser tells; about what it is before it does."""
    try:
        return max(1, int(getattr(plot, name)))
    except UnsetValueError:
        return _HEIGHT


def coloured_on_paper(source: Source, found: Found, chosen: Chosen) -> Coloured:
    """The looks of the points on white."""
    from seqscope.explorer.theme import LIGHT

    by = colouring(source, chosen.colour)
    values = found.looks.values if by == UNIT else source.samples[by].to_numpy()[found.projected.rows]
    return coloured(by, np.asarray(values), LIGHT, found.looks.title)


def style_of(chosen: Chosen) -> str:
    """The layer and the state, in words."""
    name, _, way = chosen.state.partition(".")
    return chosen.layer + (f" ({STATE_NAMES.get(name, name)}{', ' + way if way else ''})" if chosen.state else "")


def within(points: np.ndarray, geometry: dict[str, Any]) -> np.ndarray:
    """Which points lie in what Bokeh says of a lasso ("poly": x, y) or a box ("rect": x0, x1, y0, y1): bool array (point,)."""
    if geometry["type"] == "rect":
        corners = np.array([[geometry["x0"], geometry["y0"]], [geometry["x1"], geometry["y1"]]], float)
        low, high = corners.min(axis=0), corners.max(axis=0)
        return np.asarray(((points >= low) & (points <= high)).all(axis=1))
    border = np.column_stack([_numbers(geometry["x"]), _numbers(geometry["y"])])
    return np.asarray(Path(border).contains_points(points)) if len(border) > 2 else np.zeros(len(points), bool)


def _numbers(values: Any) -> np.ndarray:
    return np.array(list(values.values()) if isinstance(values, dict) else list(values), float)


def legend_html(looks: Coloured) -> str:
    """The classes, each with its sign and how many there are."""
    if looks.values is not None:
        return ""
    if not looks.legend:
        return f"<span>{escape(looks.title)}: {len(set(looks.text)):,} classes, named where the mouse is.</span>"
    entries = "".join(
        f'<span style="white-space: nowrap" title="{entry.number:,} samples"><span style="color: {entry.color}" aria-hidden="true">'
        f"{SIGNS[entry.marker]}</span> {escape(entry.name)}</span> "
        for entry in looks.legend
    )
    return f'<div style="display: flex; flex-wrap: wrap; gap: 0 10px"><span>{escape(looks.title)}:</span> {entries}</div>'
