"""The page: one selection, many views. Made anew for each person who opens it, over one source that all share."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from html import escape
from importlib import resources
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import Range1d

from seqscope._version import __version__
from seqscope.errors import DataError, LayerError, SeqscopeError, nearest, quoted
from seqscope.explorer import selection as chosen_by
from seqscope.explorer import stretches
from seqscope.explorer.figures import Clock
from seqscope.explorer.frame import Frame
from seqscope.explorer.selection import Chosen, Selection, read_query
from seqscope.explorer.source import Source
from seqscope.explorer.theme import LOOKS, Look
from seqscope.explorer.views import MAIN, SIDE
from seqscope.explorer.views.samples import listing
from seqscope.explorer.views.samples_map.colours import check_colour
from seqscope.explorer.views.view import Stage, View
from seqscope.explorer.views.why import explaining
from seqscope.labelled import STATE_NAMES

_PRESSED = re.compile(r"(-?[0-9]{1,9}):(-?[0-9]{1,9})")
# Threads in which slow views find their numbers, over all people who look.
_WORKERS = 2


@cache
def workers() -> ThreadPoolExecutor:
    """The threads of this process for what takes longer than a person waits."""
    return ThreadPoolExecutor(_WORKERS, thread_name_prefix="seqscope-explorer")


def page_of(source: Source) -> pn.Template:
    """The page for one session; what the address says is chosen, and what it says wrongly is told."""
    pn.config.raw_css = [_text("parts.css")]  # of this session: Panel hands it to each part, whose own styles the page's can't reach
    location = pn.state.location
    checks = Checks(source)
    first = first_choice(source)
    chosen, wrong = read_query("" if location is None else location.search or "", first, checks)
    page = Page(source, Selection(chosen, checks), wrong)
    if location is not None:
        page.selection.follow(lambda fields: location.param.update(search=_search(page.selection.chosen)))
        location.param.watch(lambda event: page.go_to(event.new), "search")
    return page.template()


def _search(chosen: Chosen) -> str:
    return f"?{chosen.query}" if chosen.query else ""


def first_choice(source: Source) -> Chosen:
    """What is looked at where the address says nothing: the first recurrent layer, else the last with units."""
    recurrent = [name for name, shown in source.layers.items() if shown.is_recurrent]
    layer = next(iter(recurrent or reversed(list(source.layers))), "")
    return Chosen(layer=layer, state=source.layers[layer].states[0] if layer else "")


class Checks:
    """Whether a choice can be, for one source: called with the field, its value and all that is chosen."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, field: str, value: Any, chosen: Chosen) -> Any:
        """The value.

        Raises
        ------
        SeqscopeError
            It can't be.
        """
        check = getattr(self, f"_{field}", None)
        return value if check is None else check(value, chosen)

    def _sample(self, value: int, chosen: Chosen) -> int:
        return self._source.check(value)

    def _layer(self, value: str, chosen: Chosen) -> str:
        return self._source.layer(value).name

    def _state(self, value: str, chosen: Chosen) -> str:
        states = self._source.layer(chosen.layer).states
        if value not in states:
            raise LayerError(f"'{chosen.layer}' has no state '{value}' here: {nearest(value, map(repr, states))}.")
        return value

    def _unit(self, value: int, chosen: Chosen) -> int:
        n_units = len(self._source.layer(chosen.layer).units_of(chosen.state))
        if not 0 <= value < n_units:
            raise DataError(f"There is no unit {value} in '{chosen.layer}': the positions go from 0 to {n_units - 1}.")
        return value

    def _order(self, value: str, chosen: Chosen) -> str:
        return _one_of(value, chosen_by.ORDERS, "order")

    def _cells(self, value: str, chosen: Chosen) -> str:
        return _one_of(value, chosen_by.CELLS, "figure of a cell")

    def _only(self, value: str, chosen: Chosen) -> str:
        return listing.check_only(self._source, value)

    def _group(self, value: str, chosen: Chosen) -> str:
        return listing.check_group(self._source, value)

    def _sort(self, value: str, chosen: Chosen) -> str:
        return listing.check_sort(self._source, value)

    def _among(self, value: str, chosen: Chosen) -> str:
        return listing.check_among(self._source, value)

    def _colour(self, value: str, chosen: Chosen) -> str:
        return check_colour(self._source, value)

    def _start(self, value: int, chosen: Chosen) -> int:
        return stretches.check_step(value)

    _stop = _start

    def _like(self, value: str, chosen: Chosen) -> str:
        return stretches.check_like(self._source, value)

    def _step(self, value: int, chosen: Chosen) -> int:
        return stretches.check_played(self._source, value, chosen.sample)

    def _carried(self, value: str, chosen: Chosen) -> str:
        return stretches.check_carried(self._source, value)

    def _method(self, value: str, chosen: Chosen) -> str:
        return explaining.check_method(value)

    _versus = _method

    def _target(self, value: str, chosen: Chosen) -> str:
        return explaining.check_target(self._source, value)

    def _baseline(self, value: str, chosen: Chosen) -> str:
        return explaining.check_baseline(value)

    def _place(self, value: str, chosen: Chosen) -> str:
        return value if not value else self._source.layer(value).name

    def _at(self, value: int, chosen: Chosen) -> int:
        return explaining.check_step(value)

    def _sizes(self, value: str, chosen: Chosen) -> str:
        return _one_of(value, chosen_by.SIZES, "way to make sizes alike")

    def _part(self, value: int, chosen: Chosen) -> int:
        return max(0, value)

    def _theme(self, value: str, chosen: Chosen) -> str:
        return _one_of(value, chosen_by.THEMES, "theme")

    def _view(self, value: str, chosen: Chosen) -> str:
        return _one_of(value, tuple(view.name for view in MAIN), "view")


def _one_of(value: str, known: tuple[str, ...], what: str) -> str:
    if value not in known:
        raise DataError(f"There is no {what} '{value}': expected one of {quoted(known)}.")
    return value


class _Template(pn.Template):  # type: ignore[misc]
    """A template with a short name: Panel asks for it again with each part, and the usual one says all that is on the page."""

    def __repr__(self) -> str:
        return type(self).__name__

    def server_doc(self, doc: Any = None, *given: Any, **options: Any) -> Any:
        """The document, whose models are gathered once and not after each part."""
        if doc is None:
            return super().server_doc(doc, *given, **options)
        with doc.models.freeze():
            return super().server_doc(doc, *given, **options)


class Page:
    """One person's page."""

    def __init__(self, source: Source, selection: Selection, wrong: list[str]) -> None:
        self.source, self.selection, self._wrong = source, selection, wrong
        self.look: Look = LOOKS[selection.chosen.theme]
        self._stage = Stage(source, selection, self.look, Range1d(0, 1))
        document = pn.state.curdoc
        self._side = {kind.name: Frame(kind(self._stage), workers(), document) for kind in _there(SIDE, source)}
        self._main = {kind.name: Frame(kind(self._stage), workers(), document) for kind in _there(MAIN, source)}
        self._controls = Controls(source, selection)
        self._keys = pn.widgets.TextInput(visible=False)
        self._steps = (0, 0)
        self._keys.param.watch(lambda event: self._pressed(event.new), "value")
        self._told = pn.pane.HTML("", css_classes=["sq-told", "sq-failed"], sizing_mode="stretch_width", visible=False, margin=0)
        self._tabs = self._tabs_of(self._main, selection.chosen.view)
        self._side_tabs = self._tabs_of(self._side, next(iter(self._side), ""))
        selection.follow(self._changed)
        self._tabs.param.watch(lambda event: self._open(self._main, event.new, is_main=True), "active")
        self._side_tabs.param.watch(lambda event: self._open(self._side, event.new, is_main=False), "active")

    @staticmethod
    def _tabs_of(frames: dict[str, Frame], active: str) -> pn.Tabs:
        names = list(frames)
        return pn.Tabs(
            *((frame.view.title, frame.panel) for frame in frames.values()),
            active=names.index(active) if active in names else 0,
            sizing_mode="stretch_width",
            css_classes=["sq-tabs"],
            margin=0,
        )

    def template(self) -> pn.Template:
        """The whole, filled with what is chosen."""
        self.tell(self._wrong)
        self._show_time()
        self._open(self._side, self._side_tabs.active, is_main=False)
        self._open(self._main, self._tabs.active, is_main=True)
        made = _Template(_text("page.html"))
        made.location = True
        for name, part in {
            "keys": self._keys,
            "controls": self._controls.panel,
            "told": self._told,
            "side": self._side_tabs,
            "main": self._tabs,
        }.items():
            made.add_panel(name, part)
        for name, value in {
            "title": f"{self.source.name} - seqscope",
            "source_name": self.source.name,
            "about": self.source.about,
            "style": _text("page.css"),
            "script": _text("page.js"),
            "look": self.look,
            "version": __version__,
        }.items():
            made.add_variable(name, value)
        return made

    # What is told, in words

    def tell(self, sentences: list[str]) -> None:
        """Say above all views what can't be; nothing where there is nothing to say."""
        self._told.param.update(object="<br>".join(map(escape, sentences)), visible=bool(sentences))

    # What changes

    def _changed(self, fields: frozenset[str]) -> None:
        self.tell([])
        if fields & {"sample", "layer"}:
            self._show_time()
        if "view" in fields:
            names = list(self._main)
            if self.selection.chosen.view in names:
                self._tabs.active = names.index(self.selection.chosen.view)

    def _show_time(self) -> None:
        """Bring the whole of a sample into sight."""
        chosen = self.selection.chosen
        try:
            shown = self.source.input_or_none(chosen.sample)
            edges = Clock(self.source.values(chosen.layer, chosen.state, chosen.sample) if shown is None else shown).edges
        except SeqscopeError as error:
            self.tell([error.message])
            return
        self._stage.time.update(start=edges[0], end=edges[-1], reset_start=edges[0], reset_end=edges[-1], bounds=(edges[0], edges[-1]))

    def _open(self, frames: dict[str, Frame], active: int, *, is_main: bool) -> None:
        for place, frame in enumerate(frames.values()):
            frame.see(place == active)
        if is_main and frames:
            self.selection.choose(view=list(frames)[active])

    def go_to(self, search: str) -> None:
        """Follow the address where it was changed by hand, or by going back."""
        now, wrong = read_query(search or "", first_choice(self.source), Checks(self.source))
        if now.query != self.selection.chosen.query:
            self.selection.chosen = now
        self.tell(wrong)

    def _pressed(self, said: str) -> None:
        """Keys, as page.js says them: "3:-1", three samples on and one unit back in all since the page was opened."""
        told = _PRESSED.fullmatch(said)
        if told is None:
            return
        before, self._steps = self._steps, (int(told[1]), int(told[2]))
        try:
            for field, last, now in zip(("sample", "unit"), before, self._steps, strict=True):
                if now != last:
                    self.selection.choose(**self._stepped(field, now - last))
        except SeqscopeError as error:
            self.tell([error.message])

    def _stepped(self, field: str, step: int) -> dict[str, int]:
        """The next or last sample of the table as it is filtered and sorted, or unit of the heatmap as it is sorted."""
        frames = self._side if field == "sample" else self._main
        now = getattr(self.selection.chosen, field)
        for frame in frames.values():
            rows = getattr(frame.view, f"{field}s_in_order", None)
            listed = np.asarray([] if rows is None or not frame.is_seen else rows(), int)
            places = np.flatnonzero(listed == now)
            if len(places):
                return {field: int(listed[(places[0] + step) % len(listed)])}
            if len(listed) and field == "sample":  # it was filtered away: on with those that are listed
                return {field: int(listed[0 if step > 0 else -1])}
        chosen = self.selection.chosen
        number = len(self.source) if field == "sample" else len(self.source.layer(chosen.layer).units_of(chosen.state))
        return {field: (now + step) % number}


def _there(kinds: tuple[type[View], ...], source: Source) -> list[type[View]]:
    return [kind for kind in kinds if not kind.missing(source)]


class Controls:
    """What is chosen by lists: sample, layer, state, unit, order."""

    def __init__(self, source: Source, selection: Selection) -> None:
        self._source, self._selection = source, selection
        chosen = selection.chosen
        self.sample = pn.widgets.IntInput(label="Sample", value=chosen.sample, start=0, end=len(source) - 1, width=90)
        self.layer = pn.widgets.Select(label="Layer", options=list(source.layers), value=chosen.layer, width=150)
        self.state = pn.widgets.Select(label="State", options=self._states(chosen), value=chosen.state, width=150)
        self.unit = pn.widgets.IntInput(label="Unit", value=chosen.unit, start=0, end=self._last_unit(chosen), width=90)
        self.order = pn.widgets.Select(label="Units sorted by", options=self._orders(), value=chosen.order, width=140)
        widgets = {"sample": self.sample, "layer": self.layer, "state": self.state, "unit": self.unit, "order": self.order}
        for name, widget in widgets.items():
            widget.param.watch(lambda event, name=name: self._chose(name, event.new), "value")
        self.panel = pn.Row(*widgets.values(), css_classes=["sq-controls"], sizing_mode="stretch_width", margin=0)
        self._filling = False
        selection.follow(lambda _: self._fill())

    def _states(self, chosen: Chosen) -> dict[str, str]:
        def called(state: str) -> str:
            name, _, way = state.partition(".")
            return f"{name}: {STATE_NAMES.get(name, name)}{', ' + way if way else ''}" if state else "output"

        return {called(state): state for state in self._source.layer(chosen.layer).states}

    def _orders(self) -> list[str]:
        return [name for name in chosen_by.ORDERS if name != "selectivity" or self._source.classes is not None]

    def _chose(self, name: str, value: Any) -> None:
        if self._filling or value is None:
            return
        changes: dict[str, Any] = {name: value}
        if name == "layer":
            shown = self._source.layer(value)
            state = self._selection.chosen.state
            changes = {"unit": 0, "layer": value, "state": state if state in shown.states else shown.states[0], "start": 0, "stop": 0}
        elif name == "state" and self._selection.chosen.unit >= len(self._source.layer(self._selection.chosen.layer).units_of(value)):
            changes["unit"] = 0  # one direction has half of the units that both put out
        self._selection.choose(**changes)

    def _last_unit(self, chosen: Chosen) -> int:
        return len(self._source.layer(chosen.layer).units_of(chosen.state)) - 1

    def _fill(self) -> None:
        chosen = self._selection.chosen
        self._filling = True
        try:
            self.layer.value = chosen.layer
            self.state.param.update(options=self._states(chosen), value=chosen.state)
            self.unit.param.update(end=self._last_unit(chosen), value=chosen.unit)
            self.sample.value, self.order.value = chosen.sample, chosen.order
        finally:
            self._filling = False


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
