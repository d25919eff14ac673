"""Where else the units of a brushed stretch are on together, ranked (Strobelt et al. 2018, LSTMVis)."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.errors import SeqscopeError
from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.selection import Chosen
from seqscope.explorer.stretches import Stretch, like, looked_at, searched
from seqscope.explorer.views.match import paper as match_paper
from seqscope.explorer.views.match.found import Found, K, columns, find_matches, key_of
from seqscope.explorer.views.match.models import PlacesSeen, Units
from seqscope.explorer.views.sample.channels import Channels, is_text
from seqscope.explorer.views.view import Stage, View
from seqscope.labelled import SAMPLE

# The units that are listed to choose from.
_MOST_LISTED = 48
_TITLES = {
    "rank": "Rank",
    "sample": "Sample",
    "label": "Label",
    "prediction": "Prediction",
    "start": "First step",
    "stop": "Stop",
    "length": "Steps",
    "score": "Score",
    "others": "Other units on",
}
_NUMBERS = ("rank", "start", "stop", "length", "score", "others")
_HINT = (
    "Drag over the units to brush a stretch, or give its steps; a click puts the threshold there. A unit is looked for that is at the "
    "threshold or above throughout the stretch, and below it just before and after. The score is the share of these units in all that are "
    "on throughout a place."
)
_ROW, _HEAD = 25, 30
_TABLE = """
:host .tabulator { background: var(--sq-ground); border: 1px solid var(--sq-line); font-size: 12px; color: var(--sq-text); }
:host .tabulator .tabulator-header, :host .tabulator .tabulator-header .tabulator-col {
  background: var(--sq-panel); color: var(--sq-text); border-color: var(--sq-line); }
:host .tabulator .tabulator-header .tabulator-col .tabulator-col-content { padding: 5px 4px; }
:host .tabulator .tabulator-tableholder, :host .tabulator .tabulator-table { background: var(--sq-ground); color: var(--sq-text); }
:host .tabulator .tabulator-table .tabulator-row { background: var(--sq-ground); color: var(--sq-text); min-height: 24px;
  border-bottom: 1px solid var(--sq-line); cursor: pointer; }
:host .tabulator .tabulator-table .tabulator-row:hover { background: var(--sq-panel); }
:host .tabulator .tabulator-row .tabulator-cell { padding: 3px 6px; height: 24px; border-right: none; }
"""
_WRAP = [".bk-btn-group { flex-wrap: wrap; } .bk-btn { flex: 0 0 auto; min-width: 34px; }"]


class Match(View):
    """Brush a stretch: the units that are on in it, and the other places where they are; a click on one shows it in its sample."""

    name, title = "match", "Match"
    follows = frozenset({"sample", "layer", "state", "start", "stop", "threshold", "like", "unit"})
    is_slow = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._filling = False
        self._found: Found | None = None
        self._drawn: object = None
        self._is_on_page = False

    # The models

    def build(self) -> Viewable:
        """The input above the units with the brush; what is looked for, the best places, the table."""
        document = pn.state.curdoc
        self._is_on_page = document is not None and document.session_context is not None
        self._channels = Channels(self.stage)
        self._units = Units(self.look, self.stage.time, self._brushed, lambda value: self._choose(threshold=value))
        has_text = self.source.X is not None and is_text(self.source)
        self._places = PlacesSeen(self.look, self._clicked_place, is_text=has_text)
        self._table = self._table_of()
        self._head = pn.pane.HTML("", sizing_mode="stretch_width", margin=(4, 5))
        self._failed = pn.pane.HTML("", css_classes=["sq-told", "sq-failed"], sizing_mode="stretch_width", visible=False)
        self._chips = pn.widgets.RadioButtonGroup(options={}, margin=(0, 5), css_classes=["sq-chips"], stylesheets=_WRAP)
        self._chips.param.watch(self._chipped, "value")
        if self.source.X is None:
            self._places.input.visible = False
        plot = pn.pane.Bokeh(self._units.plot, margin=0, sizing_mode="stretch_width")
        hint = pn.pane.HTML(f'<span class="sq-soft">{_HINT}</span>', sizing_mode="stretch_width", margin=(0, 5))
        parts = (self._channels.panel, plot, self._controls(), hint, self._failed, self._head, self._chips, self._places.panel, self._table)
        return pn.Column(*parts, sizing_mode="stretch_width", margin=0)

    def _controls(self) -> Viewable:
        self._start = pn.widgets.IntInput(label="First step", start=0, width=100)
        self._stop = pn.widgets.IntInput(label="Stop (left out)", start=0, width=110)
        self._threshold = pn.widgets.FloatInput(label="Threshold", step=0.05, width=110)
        self._clear = pn.widgets.Button(label="Clear", width=70, height=30, align="end", css_classes=["sq-clear"])
        self._back = pn.widgets.Button(label="Back to what is searched for", width=200, height=30, align="end", visible=False)
        self._start.param.watch(lambda event: self._typed(start=event.new), "value")
        self._stop.param.watch(lambda event: self._typed(stop=event.new), "value")
        self._threshold.param.watch(lambda event: self._typed(threshold=event.new), "value")
        self._clear.on_click(lambda _: self._choose(start=0, stop=0, like=""))
        self._back.on_click(lambda _: self._go_back())
        return pn.Row(self._start, self._stop, self._threshold, self._clear, self._back, sizing_mode="stretch_width", margin=(0, 5))

    def _table_of(self) -> pn.widgets.Tabulator:
        known = columns(self.source)
        made = pn.widgets.Tabulator(
            pd.DataFrame({name: np.array([], str) for name in known}),
            show_index=False,
            disabled=True,
            selectable=False,
            layout="fit_columns",
            titles={name: _TITLES[name] for name in known},
            text_align=dict.fromkeys(_NUMBERS, "right"),
            header_align=dict.fromkeys(_NUMBERS, "right"),
            configuration={"columnDefaults": {"headerSort": False, "tooltip": False}},
            sizing_mode="stretch_width",
            stylesheets=[_TABLE],
            height=_ROW * K + _HEAD,
            visible=False,
            css_classes=["sq-matches"],
        )
        made.on_click(lambda event: self._clicked(int(event.row)))
        return made

    # What a person does

    def _choose(self, **changes: Any) -> None:
        try:
            self.selection.choose(**changes)
        except SeqscopeError as error:
            self._say(error.message)

    def _brushed(self, start: int, stop: int) -> None:
        self._choose(start=start, stop=stop, like="")

    def _typed(self, **changes: Any) -> None:
        if self._filling or None in changes.values():
            return
        now = self.selection.chosen
        if "start" in changes:
            changes |= {"stop": max(now.stop, changes["start"] + 1), "like": ""}
        elif "stop" in changes:
            changes |= {"start": max(0, min(now.start, changes["stop"] - 1)), "like": ""}
        self._choose(**changes)

    def _chipped(self, event: Any) -> None:
        if not self._filling and event.new is not None:
            self._choose(unit=event.new)

    def _clicked_place(self, place: int) -> None:
        """The first place is the stretch that is looked for."""
        if place:
            self._clicked(place - 1)
        else:
            self._go_back()

    def _clicked(self, row: int) -> None:
        found = self._found
        if found is not None and 0 <= row < len(found.stretches):
            self._go_to(found.stretches[row], like(found.query, found.stretches[row]))

    def _go_back(self) -> None:
        self._go_to(searched(self.selection.chosen), "")

    def _go_to(self, stretch: Stretch, said: str) -> None:
        self._choose(sample=stretch.sample, start=stretch.start, stop=stretch.stop, like=said)

    # The numbers

    def is_slow_for(self, chosen: Chosen) -> bool:
        """Not where the search was made before, or there is none."""
        return searched(chosen).is_there and (*key_of(chosen), "places") not in self.source.kept

    def find(self, chosen: Chosen) -> Found | None:
        """All samples are read; nothing where something else was chosen while this waited for its turn."""
        now = self.selection.chosen
        if self._is_on_page and any(getattr(now, name) != getattr(chosen, name) for name in self.follows):
            return None
        return find_matches(self.source, chosen)

    def show(self, found: Found | None, chosen: Chosen) -> None:
        """The units with their brush are always there; what can't be found is said below them."""
        if found is None:
            return
        self._found = found
        names = [str(label) for label in self.source.layer(chosen.layer).units_of(chosen.state)]
        self._channels.fill(found.input, chosen.sample, chosen.cells)
        self._units.fill(found.values, found.units, names)
        self._units.mark(chosen.threshold, (chosen.start, chosen.stop))
        self._filling = True
        try:
            self._start.value, self._stop.value, self._threshold.value = chosen.start, chosen.stop, chosen.threshold
            listed = found.units[:_MOST_LISTED].tolist()
            self._chips.param.update(options={names[unit]: unit for unit in listed}, value=chosen.unit if chosen.unit in listed else None)
        finally:
            self._filling = False
        self._say(found.unknown)
        self._head.object = _said(self.source.samples, found, chosen, names)
        self._back.visible = found.query != looked_at(chosen)
        self._show_places(found)

    def _show_places(self, found: Found) -> None:
        """The table and the pictures, where they are others than before."""
        if self._drawn is not None and self._drawn is found.result:
            return
        self._drawn = found.result
        self._table.visible, self._places.panel.visible = len(found.table) > 0, found.places is not None
        self._table.value = _in_words(found.table)
        if found.places is not None:
            self._places.fill_places(found.places)

    def _say(self, sentence: str) -> None:
        self._failed.param.update(object=escape(sentence), visible=bool(sentence))

    # What else is made of them

    def code(self, found: Found | None, chosen: Chosen) -> str:
        """The search, and pictures of the best places."""
        return "" if found is None else match_paper.code_of(self.source, found, chosen)

    def table(self, found: Found | None, chosen: Chosen) -> pd.DataFrame:
        """A row for each place."""
        return pd.DataFrame() if found is None else found.table

    def figure(self, found: Found | None, chosen: Chosen) -> Figure:
        """The units that are looked for, in the stretch and in the best places."""
        return Figure() if found is None else match_paper.figure_of(self.source, found, chosen)


def _in_words(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(score=[f"{score:.3f}" for score in table["score"]]).astype(str)


def _said(samples: pd.DataFrame, found: Found, chosen: Chosen, names: list[str]) -> str:
    """What was looked for and how often it was found."""
    if not found.query.is_there:
        return "<b>Nothing is brushed yet.</b>"
    if found.result is None:
        return ""
    query, number, n_found = found.query, len(found.units), found.result.attrs["n_found"]
    is_here = query.sample == chosen.sample
    steps = Clock(found.values).said(query.start, query.stop) if is_here else f"{query.start} to {query.stop - 1}"
    units = f"{number} unit{' is' if number == 1 else 's are'}"
    said = f"<b>{units} on</b> in sample {escape(str(samples[SAMPLE].iloc[query.sample]))}, {escape(steps)}"
    more = f" (the first {_MOST_LISTED} are listed)" if number > _MOST_LISTED else ""
    shown = len(found.stretches)
    places = "no other place" if not n_found else "1 other place" if n_found == 1 else f"{n_found:,} other places"
    said += f"{more}; together they are on in <b>{places}</b>{f', of which the best {shown} are listed' if shown < n_found else ''}."
    if looked_at(chosen) != query:
        seen = escape(str(samples[SAMPLE].iloc[chosen.sample]))
        said += f" Above is one of these, in sample {seen}; a new brush there searches anew."
    return said
