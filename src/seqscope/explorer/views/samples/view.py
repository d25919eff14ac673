"""All samples as a table: searched, filtered, sorted, and clicked. Only the rows that are in sight are sent."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
from matplotlib.figure import Figure
from panel.io.model import JSCode
from panel.viewable import Viewable

from seqscope.explorer.selection import Chosen
from seqscope.explorer.views.samples import listing
from seqscope.explorer.views.samples.code import code_of
from seqscope.explorer.views.samples.listing import PREDICTION, SCORE, WRONG
from seqscope.explorer.views.samples.paper import draw
from seqscope.explorer.views.view import Stage, View
from seqscope.labelled import LABEL, LENGTH, SAMPLE

ROWS = 18
_TITLES = {SAMPLE: "Sample", LABEL: "Label", PREDICTION: "Predicted", SCORE: "Score", LENGTH: "Steps", WRONG: "Error"}
_SAID = {
    SAMPLE: "The id of the sample",
    LABEL: "The class or value that the data gives",
    PREDICTION: "The class that the model predicts",
    SCORE: "What the model puts out for the predicted class",
    LENGTH: "How many input steps it has",
    WRONG: "✗ where label and prediction differ",
}
_NUMBERS = (SCORE, LENGTH)
_WIDE = {SAMPLE: 4, PREDICTION: 4, WRONG: 4}  # others are 3
# Rows come in their order, page by page: the browser leaves them so.
_AS_GIVEN = JSCode("(a, b, first, second, column, way) => (first.getData()._index - second.getData()._index) * (way === 'desc' ? -1 : 1)")
# In which directions a column is sorted, in words.
_UP, _DOWN = "ascending", "descending"
_LONGEST_SEARCH = 200
# Milliseconds without a new letter after which a search begins.
_PAUSE = 250
_ROW, _HEAD = 25, 30
_STYLE = """
:host .tabulator { background: var(--sq-ground); border: 1px solid var(--sq-line); font-size: 12px; color: var(--sq-text); }
:host .tabulator .tabulator-header, :host .tabulator .tabulator-header .tabulator-col,
:host .tabulator .tabulator-header .tabulator-col.tabulator-sortable.tabulator-col-sorter-element:hover {
  background: var(--sq-panel); color: var(--sq-text); border-color: var(--sq-line); }
:host .tabulator .tabulator-header .tabulator-col .tabulator-col-content { padding: 5px 2px; }
:host .tabulator .tabulator-header .tabulator-col .tabulator-col-content .tabulator-col-title {
  padding-right: 0; font-size: 11px; }
:host .tabulator .tabulator-header .tabulator-col .tabulator-col-content .tabulator-col-sorter { right: 0; display: none; }
:host .tabulator .tabulator-header .tabulator-col:is([aria-sort=ascending], [aria-sort=descending]) .tabulator-col-sorter { display: flex; }
:host .tabulator .tabulator-header .tabulator-col:is([aria-sort=ascending], [aria-sort=descending]) .tabulator-col-title {
  padding-right: 10px; }
:host .tabulator .tabulator-header .tabulator-col[aria-sort=ascending] .tabulator-arrow { border-bottom-color: var(--sq-text); }
:host .tabulator .tabulator-header .tabulator-col[aria-sort=descending] .tabulator-arrow { border-top-color: var(--sq-text); }
:host .tabulator .tabulator-tableholder, :host .tabulator .tabulator-table { background: var(--sq-ground); color: var(--sq-text); }
:host .tabulator .tabulator-table .tabulator-row { background: var(--sq-ground); color: var(--sq-text); min-height: 24px;
  border-bottom: 1px solid var(--sq-line); cursor: pointer; }
:host .tabulator .tabulator-table .tabulator-row:hover { background: var(--sq-panel); }
:host .tabulator .tabulator-table .tabulator-row .tabulator-cell { padding: 3px; height: 24px; font-size: 12px; border-right: none; }
:host .tabulator .tabulator-table .tabulator-row.tabulator-selected { background: var(--sq-panel); font-weight: 700;
  box-shadow: inset 4px 0 0 var(--sq-mark), inset 0 0 0 1px var(--sq-mark); }
:host .tabulator .tabulator-table .tabulator-row .tabulator-cell.sq-error { color: var(--sq-wrong); font-weight: 700; }
"""


@dataclass(frozen=True)
class Found:
    """The samples that are listed, in their order, and the row of the chosen one: None where it is not among them."""

    order: np.ndarray
    place: int | None


class Samples(View):
    """The table of samples."""

    name, title = "samples", "Samples"
    follows = frozenset({SAMPLE, *listing.FIELDS})

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._found = Found(np.zeros(0, int), None)
        self._drawn: Chosen | None = None
        self._page = self._letters = 0
        self._is_filling = False

    # Its models

    def build(self) -> Viewable:
        """The filters, the rows and what leafs through them."""
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 0, 4, 0)}
        self._said = pn.pane.HTML("", css_classes=["sq-line"], **wide)
        self._rows = self._table()
        return pn.Column(self._filters(), self._said, self._rows, self._pager(), sizing_mode="stretch_width", margin=0)

    def _table(self) -> pn.widgets.Tabulator:
        columns = [str(column) for column in self.source.samples.columns]
        made = pn.widgets.Tabulator(
            self._in_words(np.zeros(0, int)),
            show_index=False,
            disabled=True,
            selectable=1,
            layout="fit_columns",
            titles={column: _TITLES[column] for column in columns},
            header_tooltips={column: _SAID[column] for column in columns},
            text_align=dict.fromkeys(_NUMBERS, "right"),
            configuration={
                "headerSortTristate": True,
                "columnDefaults": {"tooltip": False},
                "columns": [
                    {"field": name, "sorter": _AS_GIVEN, "widthGrow": _WIDE.get(name, 3), "minWidth": 36}
                    | ({"cssClass": "sq-error"} if name == WRONG else {})
                    for name in columns
                ],
            },
            stylesheets=[_STYLE],
            sizing_mode="stretch_width",
            height=_ROW * ROWS + _HEAD,
            margin=0,
        )
        made.on_click(self._clicked)
        made.param.watch(lambda event: self._sorted(event.new), "sorters")
        return made

    def _filters(self) -> Viewable:
        small: dict[str, Any] = {"margin": (0, 6, 4, 0)}
        self._search = pn.widgets.TextInput(
            label="Search", placeholder=self._searched(), max_length=_LONGEST_SEARCH, sizing_mode="stretch_width", margin=(0, 0, 4, 0)
        )
        self._search.param.watch(lambda event: self._typed(), "value_input")
        known = listing.groups(self.source)
        word = "Label" if listing.group_column(self.source) == LABEL else "Predicted"
        self._group = pn.widgets.Select(
            label=word, options={"all": "", **{name: name for name in known}}, width=96, visible=bool(known), **small
        )
        self._group.param.watch(lambda event: self._choose(group=event.new), "value")
        self._sort = pn.widgets.Select(label="Sorted by", options=self._sorts(), width=142, **small)
        self._sort.param.watch(lambda event: self._choose(sort=event.new), "value")
        self._only = pn.widgets.CheckBoxGroup(
            options={"Mistakes": WRONG}, width=84, align="end", margin=(0, 0, 8, 0), visible=self.source.is_classified
        )
        self._only.param.watch(lambda event: self._choose(only=event.new[0] if event.new else ""), "value")
        self._clear = pn.widgets.Button(
            label="Clear the map's selection", visible=False, height=26, margin=(0, 0, 6, 0), css_classes=["sq-clear"]
        )
        self._clear.on_click(lambda event: self._choose(among=""))
        row = pn.Row(self._group, self._sort, self._only, margin=0, sizing_mode="stretch_width")
        return pn.Column(self._search, row, self._clear, margin=0, sizing_mode="stretch_width")

    def _searched(self) -> str:
        there = [{SAMPLE: "id"}.get(column, column) for column in listing.SEARCHED if column in self.source.samples]
        return ", ".join(there[:-1]) + f" or {there[-1]}" if len(there) > 1 else there[0]

    def _sorts(self) -> dict[str, str]:
        made = {"as in the data": ""}
        for column in map(str, self.source.samples.columns):
            made |= {f"{_TITLES[column]}, {_UP}": column, f"{_TITLES[column]}, {_DOWN}": f"-{column}"}
        return made

    def _pager(self) -> Viewable:
        self._back = pn.widgets.Button(label="Previous", height=26, width=72, margin=(6, 4, 0, 0), css_classes=["sq-pager"])
        self._next = pn.widgets.Button(label="Next", height=26, width=56, margin=(6, 4, 0, 0), css_classes=["sq-pager"])
        self._at = pn.pane.HTML("", margin=(9, 0, 0, 4))
        self._back.on_click(lambda event: self._turn(-1))
        self._next.on_click(lambda event: self._turn(1))
        return pn.Row(self._back, self._next, self._at, margin=0, sizing_mode="stretch_width")

    # What a person does

    def _choose(self, **changes: Any) -> None:
        if not self._is_filling:
            self.selection.choose(**changes)

    def _typed(self) -> None:
        """A letter of the search: it begins when no other follows."""
        self._letters += 1
        letters, document = self._letters, pn.state.curdoc
        if document is None or document.session_context is None:
            self._search_for(letters)
        else:
            document.add_timeout_callback(lambda: self._search_for(letters), _PAUSE)

    def _search_for(self, letters: int) -> None:
        if letters == self._letters:
            self._choose(search=(self._search.value_input or "").strip())

    def _clicked(self, event: Any) -> None:
        rows = self._in_sight()
        if 0 <= event.row < len(rows):
            self._mark()  # the browser takes the mark off a row that is clicked on again
            self._choose(sample=int(rows[event.row]))

    def _sorted(self, sorters: list[dict[str, str]]) -> None:
        """A click on the head of a column."""
        first = sorters[0] if sorters else {"field": "", "dir": "asc"}
        self._choose(sort=f"{'-' if first['dir'] == 'desc' and first['field'] else ''}{first['field']}")

    def _turn(self, pages: int) -> None:
        self._page = int(np.clip(self._page + pages, 0, self._n_pages - 1))
        self._fill()

    # What is seen

    def samples_in_order(self) -> np.ndarray:
        """The positions of the samples that are listed, in their order."""
        return listing.positions(self.source, self.selection.chosen)

    def find(self, chosen: Chosen) -> Found:
        """The samples in their order; nothing but numbers is looked at."""
        order = listing.positions(self.source, chosen)
        place = np.flatnonzero(order == chosen.sample)
        return Found(order, int(place[0]) if len(place) else None)

    def show(self, found: Found, chosen: Chosen) -> None:
        """Bring the chosen sample into sight, or the first page where the list is another."""
        self._found = found
        before, self._drawn = self._drawn, chosen
        if before is None or before.sample != chosen.sample:  # it is brought into sight
            self._page = 0 if found.place is None else found.place // ROWS
        elif any(getattr(before, name) != getattr(chosen, name) for name in listing.FIELDS):
            self._page = 0
        self._is_filling = True
        try:
            if before is None or before.search != chosen.search:
                self._fill_search(chosen)
            self._fill_filters(chosen)
            self._fill()
        finally:
            self._is_filling = False
        self._said.object = _in_sentence(self._summary(found, chosen))

    def _fill_search(self, chosen: Chosen) -> None:
        if (self._search.value_input or "").strip() != chosen.search:  # what is being typed is left alone
            self._search.param.update(value=chosen.search, value_input=chosen.search)

    def _fill_filters(self, chosen: Chosen) -> None:
        self._group.param.update(options=self._group.options | ({chosen.group: chosen.group} if chosen.group else {}), value=chosen.group)
        self._sort.value, self._only.value = chosen.sort, [chosen.only] if chosen.only else []
        self._clear.visible = bool(chosen.among)
        sorters = [{"field": chosen.sort.removeprefix("-"), "dir": "desc" if chosen.sort.startswith("-") else "asc"}] if chosen.sort else []
        if sorters != [{"field": one["field"], "dir": one["dir"]} for one in self._rows.sorters]:
            self._rows.sorters = sorters

    def _fill(self) -> None:
        rows = self._in_sight()
        shown = self._in_words(rows)
        if not shown.equals(self._rows.value):
            self._rows.param.update(value=shown, selection=[])
        self._mark()
        self._back.disabled, self._next.disabled = self._page == 0, self._page == self._n_pages - 1
        self._at.object = f"page {self._page + 1:,} of {self._n_pages:,}"

    def _mark(self) -> None:
        """Mark the chosen row where it is in sight."""
        place = -1 if self._found.place is None else self._found.place - self._page * ROWS
        marked = [place] if 0 <= place < len(self._in_sight()) else []
        if self._rows.selection != marked:
            self._rows.selection = marked

    def _in_sight(self) -> np.ndarray:
        return self._found.order[self._page * ROWS : (self._page + 1) * ROWS]

    @property
    def _n_pages(self) -> int:
        return max(1, -(-len(self._found.order) // ROWS))

    def _in_words(self, rows: np.ndarray) -> pd.DataFrame:
        """Some rows as they are read."""
        part = self.source.samples.iloc[rows]
        words = {str(name): [_cell(str(name), value) for value in part[name].tolist()] for name in part}
        return pd.DataFrame(words, dtype=object)

    def _summary(self, found: Found, chosen: Chosen) -> list[str]:
        number, of = len(found.order), len(self.source)
        if not number:
            return [f"None of the {of:,} samples fits: search for less, or take a filter off."]
        said = [f"{number:,} of {of:,} samples" if number < of else f"{of:,} sample{'s' if of > 1 else ''}"]
        if WRONG in self.source.samples:
            wrong = int(self.source.samples[WRONG].to_numpy()[found.order].sum())
            said[0] += f", {wrong:,} {'mistake' if wrong == 1 else 'mistakes'}"
        said[0] += "."
        if chosen.among and len(chosen.among) > _LONGEST_SEARCH:
            said.append("Those selected on the map are too many for the address: it leaves them out.")
        if found.place is None:
            said.append(f"The chosen one, {listing.said(self.source.sample_ids[chosen.sample])}, is not among them.")
        return said

    # What makes the same

    def code(self, found: Found, chosen: Chosen) -> str:
        """The table in Python."""
        return code_of(self.source, chosen)

    def table(self, found: Found, chosen: Chosen) -> pd.DataFrame:
        """All rows that are listed, in their order."""
        return self.source.samples.iloc[found.order]

    def figure(self, found: Found, chosen: Chosen) -> Figure:
        """What the listed samples are taken for."""
        return draw(self.source, found.order, self.source.name)


def _cell(column: str, value: Any) -> str:
    if column == WRONG:
        return "✗ wrong" if value else ""
    if column == SCORE:
        return "" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1e-3 and value else f"{value:.3f}"
    return listing.said(value)


def _in_sentence(parts: list[str]) -> str:
    return f'<span role="status">{escape(" ".join(parts))}</span>'
