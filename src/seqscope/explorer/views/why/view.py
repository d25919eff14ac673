"""What a decision rests on: what two methods of attribution say of a sample, side by side in one scale of colours."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import panel as pn
import xarray as xr
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.figures.coloured_text import ColouredText, legend, legend_of
from seqscope.explorer.figures.lanes import Lanes
from seqscope.explorer.figures.lines import Lines
from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.view import Stage, View
from seqscope.explorer.views.why.code import picture_of, python_of
from seqscope.explorer.views.why.compared import HEATMAP, LANES, TEXT, Compared, Side, compared, name_of
from seqscope.explorer.views.why.controls import WhyControls
from seqscope.labelled import CHANNEL
from seqscope.plot import style
from seqscope.plot.attribution_parts import BEHIND_BLACK

# The completeness gap from which on the sum of integrated gradients is off, as `attribute` warns.
_GAP = 0.05
_FIGURES = ("target", "predicted", "label", "score")


class Why(View):
    """Two attributions of the sample, on one clock and one scale of colours, and how far they agree."""

    name, title = "why", "Why"
    is_slow = True
    follows = frozenset(
        {"sample", "method", "versus", "target", "baseline", "place", "at", "sizes", "layer", "state", "unit", "start", "stop"}
    )

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._is_on_page = False

    def build(self) -> Viewable:
        """Two panels below the lists to choose from."""
        document = pn.state.curdoc
        self._is_on_page = document is not None and document.session_context is not None
        if self.source.scope is None or self.source.X is None:
            return pn.Column(margin=0)
        self._controls = WhyControls(self.source, self.selection)
        self._head = pn.pane.HTML("", sizing_mode="stretch_width", margin=0)
        self._input = Lines(self.look, self.stage.time, height=150, ylabel="Input")
        self._input_box = _Box(self._input.plot)
        self._panels = [_Panel(self.stage, name) for name in ("why-first", "why-second")]
        words = pn.Row(*(panel.words for panel in self._panels), sizing_mode="stretch_width", margin=0)
        drawn = pn.Row(*(panel.box.view for panel in self._panels), sizing_mode="stretch_width", margin=0)
        self._text = ColouredText(self.look, chosen=self._clicked)
        self._text.plot.name = "why-text"
        self._text_box = _Box(self._text.plot)
        parts = (self._controls.view, self._head, self._input_box.view, words, drawn, self._text_box.view)
        return pn.Column(*parts, sizing_mode="stretch_width", margin=0)

    def _clicked(self, place: int) -> None:
        self.selection.choose(start=place, stop=place + 1)

    def find(self, chosen: Chosen) -> Compared | None:
        """Both attributions; nothing where something else was chosen while this waited for its turn."""
        now = self.selection.chosen
        if self._is_on_page and any(getattr(now, name) != getattr(chosen, name) for name in self.follows):
            return None
        return compared(self.source, chosen)

    def show(self, found: Compared | None, chosen: Chosen) -> None:
        """Fill the panels."""
        if found is None:
            return
        self._controls.fill(chosen, {"method": found.sides[0].method, "versus": found.sides[1].method})
        self._head.object = _head(found, chosen)
        self._text_box.put(found.text is not None)
        self._input_box.put(found.style == HEATMAP and CHANNEL in self.source.inputs()[chosen.sample].dims)
        if self._input_box.is_filled:
            self._input.fill(Clock(found.x), found.x.values.T, [str(name) for name in found.x.coords[CHANNEL].values])
        if found.text is not None:
            self._text.fill(found.text, mark=(chosen.start, chosen.stop))
        ends = self._brushed(chosen)
        for place, panel in enumerate(self._panels):
            panel.fill(found, place, ends)

    def _brushed(self, chosen: Chosen) -> tuple[float, float] | None:
        """Where the brushed stretch of the layer's steps lies in time."""
        if chosen.stop <= chosen.start:
            return None
        edges = Clock(self.source.values(chosen.layer, chosen.state, chosen.sample)).edges
        return (float(edges[chosen.start]), float(edges[chosen.stop])) if chosen.stop < len(edges) else None

    def code(self, found: Compared | None, chosen: Chosen) -> str:
        """Two calls of `attribute`, and the plot."""
        return "" if found is None else python_of(self.source, chosen, found)

    def table(self, found: Compared | None, chosen: Chosen) -> pd.DataFrame:
        """All values of both."""
        return pd.DataFrame() if found is None else found.table()

    def figure(self, found: Compared | None, chosen: Chosen) -> Figure:
        """The same on paper."""
        return Figure() if found is None else picture_of(chosen, found)


class _Panel:
    """What one method says: in words, and as colours where it is no text."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.words = pn.pane.HTML("", sizing_mode="stretch_width", margin=(2, 4))
        self.lanes = Lanes(stage.look, stage.time)
        self.lanes.plot.name = name
        self.box = _Box(self.lanes.plot)

    def fill(self, found: Compared, place: int, ends: tuple[float, float] | None) -> None:
        side, array = found.sides[place], found.drawn[place]
        self.words.object = _words(side)
        if array is None or found.style == TEXT:
            self.box.put(False)
            return
        line = found.x if found.style == LANES else None
        dim = str(array.dims[-1])
        axis = style.label_of(array, dim) if line is None else style.label_of(found.x, CHANNEL)
        self.lanes.fill(array, found.scale, size=found.sizes[place], line=line, axis=axis)
        self.lanes.brush(ends)
        self.box.put(True)


class _Box:
    """A place for a plot, which is there or not: a plot that is hidden when the page is made may stay so in the browser."""

    def __init__(self, plot: Any) -> None:
        self._drawn = pn.pane.Bokeh(plot, sizing_mode=plot.sizing_mode, margin=0)
        self.view = pn.Column(css_classes=["sq-wide"], sizing_mode="stretch_width", margin=0)

    @property
    def is_filled(self) -> bool:
        """Whether the plot is there."""
        return len(self.view) > 0

    def put(self, there: bool) -> None:
        """Put the plot there, or take it away."""
        if there != self.is_filled:
            self.view[:] = [self._drawn] if there else []


# Words


def _head(found: Compared, chosen: Chosen) -> str:
    """What is explained, how far the two agree, and what the colours are."""
    arrays = [side.array for side in found.sides if side.array is not None]
    if not arrays:
        return ""
    if len(arrays) < 2:
        alike = ""
    elif found.agreement is None:
        alike = "Their ranks can't be compared: they share no clock, or one of them is the same everywhere."
    else:
        alike = f"Rank correlation of the two (Spearman): {found.agreement}."
    sentences = "".join(f"<div>{escape(text)}</div>" for text in (_explained(arrays[0]), alike) if text)
    return sentences + _legend(found, chosen)


def _explained(array: xr.DataArray) -> str:
    """The score in words, what was predicted, and what is true."""
    target, predicted, label, score = (
        array.coords[name].item() if name in array.coords and not array.coords[name].ndim else None for name in _FIGURES
    )
    named = array.attrs.get("target", "the score") if target is None else f"output '{target}'"
    kind = array.attrs.get("score", "score")
    told = f"What speaks for {named}" + (f" ({'value' if kind == 'unit' else kind} {score:.3g})." if score is not None else ".")
    beside = [f"Predicted '{predicted}'"] if predicted is not None else []
    beside += [f"{'labelled' if beside else 'Labelled'} '{label}'"] if label is not None else []
    return f"{told} {', '.join(beside)}." if beside else told


def _legend(found: Compared, chosen: Chosen) -> str:
    if found.text is not None:
        return legend_of(found.text)
    cmap, norm = found.scale.colours(BEHIND_BLACK if found.style == LANES else None)
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 0.0)
    return legend(cmap, [low, 0.0, high] if low < 0 < high else [low, high], name_of(found, chosen))


def _words(side: Side) -> str:
    """The method, where it was asked and against what, and whether its values add up."""
    name = f"<b>{escape(side.method.replace('_', ' '))}</b>"
    instead = f"{side.instead} can't be done by this model, or not on such data; {side.method} is shown." if side.instead else ""
    if side.array is None:
        return f'{name} <span class="sq-soft">{escape(instead)}</span><div class="sq-told-here">{escape(side.failed)}</div>'
    attrs = side.found.attrs
    said = [f"at '{attrs['layer']}'" if attrs.get("layer") else "at the input"]
    said += [f"against {attrs['baseline']}"] if attrs.get("baseline") else []
    said += [f"windows of {side.asked.window} steps"] if side.asked is not None and side.asked.window else []
    soft = " ".join(part for part in (", ".join(said) + ".", instead, _sum(side)) if part)
    noted = "".join(f"<div>Note: {escape(sentence)}</div>" for sentence in side.warned)
    return f'{name}, <span class="sq-soft">{escape(soft)}</span>{noted}'


def _sum(side: Side) -> str:
    """Whether integrated gradients are complete."""
    array = side.array
    if array is None or "gap" not in array.coords:
        return ""
    gap, total = float(array.coords["gap"]), float(array.sum())
    return f"Its values sum to {total:.3g}, which is {gap:.1%} off the change of the score{' (as they should)' if gap <= _GAP else ''}."
