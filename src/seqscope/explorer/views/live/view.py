"""A sample played step by step through a stream: the heatmap grows, the model says what it would say now."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
import xarray as xr
from matplotlib.figure import Figure
from panel.viewable import Viewable

from seqscope.errors import SeqscopeError, UnsupportedError
from seqscope.explorer.figures import Heatmap
from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.ordering import limits_of, ordered, takes_long
from seqscope.explorer.selection import Chosen
from seqscope.explorer.stretches import MOST_CARRIED, before, carried
from seqscope.explorer.views.live import paper as live_paper
from seqscope.explorer.views.live.models import MOST_LINES, Growing, Outputs, curtain
from seqscope.explorer.views.live.player import NO_DATA, NO_MODEL, Course, Played, Player
from seqscope.explorer.views.sample.channels import Channels
from seqscope.explorer.views.view import Stage, View
from seqscope.labelled import OUTPUT, OUTPUT_TIME, SAMPLE, UNIT
from seqscope.plot import style

# Steps a second, at most ten; more steps than these are played beside the page.
_SPEEDS = {"1 step a second": 1, "2 steps a second": 2, "5 steps a second": 5, "10 steps a second": 10}
_AT_ONCE = 100
_HIGH, _ROW = 340, 24


@dataclass(frozen=True, eq=False)
class Found:
    """What goes in, how long it is, what was played of it, and how the rows of the heatmap stand."""

    input: xr.DataArray
    length: int
    played: Played
    order: np.ndarray
    limits: tuple[float, float]


class Live(View):
    """A sample played through `stream`, one step after the other, the state reset or carried on to the next sample."""

    name, title = "live", "Live"
    follows = frozenset({"sample", "layer", "state", "order", "step", "carried"})

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._player = Player(stage.source)
        self._clock: Any = None  # what calls for the next step while it plays
        self._at: tuple[Course, int, int] | None = None  # what is shown, where the address was then, and how far it was played since
        self._order = np.zeros(0, int)
        self._filling = False

    # The models

    def build(self) -> Viewable:
        """Buttons above; below the input, the heatmap and the outputs."""
        document = pn.state.curdoc
        if document is not None and document.session_context is not None:
            document.on_session_destroyed(lambda context: self.close())
        self._channels = Channels(self.stage)
        n_units = max((len(layer.units) for layer in self.source.layers.values()), default=1)
        self._heatmap = Heatmap(
            self.look, self.stage.time, height=int(min(_HIGH, 90 + _ROW * max(n_units, 3))), chosen=self._clicked, is_clock_named=False
        )
        self._heatmap.plot.name = "live"
        self._growing, self._outputs = Growing(self._heatmap), Outputs(self.look, self.stage.time)
        drawn = self._channels.lines or self._channels.heatmap or self._channels.letters
        self._curtains = [curtain(plot, self.look) for plot in ([drawn.plot] if drawn else [])]
        self._told = pn.pane.HTML("", sizing_mode="stretch_width", margin=(4, 5))
        self._failed = pn.pane.HTML("", css_classes=["sq-told", "sq-failed"], sizing_mode="stretch_width", visible=False)
        plots = [pn.pane.Bokeh(plot, margin=0, sizing_mode="stretch_width") for plot in (self._heatmap.plot, self._outputs.plot)]
        return pn.Column(self._controls(), self._failed, self._told, self._channels.panel, *plots, sizing_mode="stretch_width", margin=0)

    def _controls(self) -> Viewable:
        def button(label: str, width: int, do: Any) -> pn.widgets.Button:
            made = pn.widgets.Button(label=label, width=width, height=28, margin=(4, 4), align="end")
            made.on_click(lambda _: self._tried(do))
            return made

        self._play = button("Play", 70, self._play_or_pause)
        self._step = button("Step", 60, lambda: self._go(+1))
        self._reset = button("Reset", 65, self._begin_anew)
        self._next = button("Next sample, state reset", 175, lambda: self._go_on(is_carried=False))
        self._carry = button("Next sample, carry on", 165, lambda: self._go_on(is_carried=True))
        self._speed = pn.widgets.Select(label="Speed", options=_SPEEDS, value=5, width=150, margin=(0, 6))
        self._place = pn.widgets.IntSlider(label="Steps played", start=0, end=1, value=0, width=210, margin=(0, 10))
        self._speed.param.watch(lambda event: self._restart(), "value")
        self._place.param.watch(lambda event: self._tried(lambda: self._slid(event.new)), "value")
        buttons = (self._play, self._step, self._reset, self._next, self._carry, self._speed, self._place)
        return pn.FlexBox(*buttons, align_items="flex-end", margin=0)

    # What a person does

    def _tried(self, do: Any) -> None:
        try:
            do()
        except SeqscopeError as error:
            self._pause()
            self._say(error.message)

    def _clicked(self, row: int, step: int) -> None:
        self.selection.choose(unit=int(self._order[row]))

    def units_in_order(self) -> list[int]:
        """The units as they stand in the heatmap, from the top."""
        return [int(unit) for unit in self._order]

    @property
    def is_playing(self) -> bool:
        """Whether step follows step."""
        return self._clock is not None

    @property
    def _n(self) -> int:
        return 0 if self._at is None else self._at[2]

    def _play_or_pause(self) -> None:
        if self.is_playing:
            self._stop()
        else:
            self._start()

    def _start(self) -> None:
        if self._at is None or self.is_playing:
            return
        if self._n >= self._length:
            self._begin_anew()
        self._clock = pn.state.add_periodic_callback(self._tick, period=1000 // self._speed.value)
        self._play.label = "Pause"

    def _restart(self) -> None:
        if self.is_playing:
            self._pause()
            self._start()

    def _pause(self) -> None:
        if self._clock is not None:
            self._clock.stop()
            self._clock = None
            self._play.label = "Play"

    def _stop(self) -> None:
        """Pause, and say in the address where."""
        self._pause()
        self.selection.choose(step=self._n)

    def _go(self, by: int) -> None:
        self._pause()
        self.selection.choose(step=min(self._length, max(0, self._n + by)))

    def _slid(self, step: int) -> None:
        if not self._filling:
            self._go(step - self._n)

    def _begin_anew(self) -> None:
        """The state reset, nothing played."""
        self._stop()
        self.selection.choose(step=0, carried="")

    def _go_on(self, *, is_carried: bool) -> None:
        """The next sample, from the state that this one leaves or from none, and play."""
        self._pause()
        now = self.selection.chosen
        sample, played = (now.sample + 1) % len(self.source), (*before(now), now.sample) if is_carried else ()
        if len(played) > MOST_CARRIED:
            raise UnsupportedError(f"The state was carried over {MOST_CARRIED} samples, which is as far as an address can say: reset it.")
        self.selection.choose(sample=sample, step=0, carried=carried(played, sample), start=0, stop=0)
        if self._at is not None and self._at[0].sample == sample:
            self._start()

    def _tick(self) -> None:
        """The next step, while it is looked at."""
        if self._at is None or self._at[0] != _course(self.selection.chosen):
            self._pause()
            return
        if self.selection.chosen.view != self.name:
            self._stop()
            return
        self._tried(self._advance)

    def _advance(self) -> None:
        course, said, n = self._at or (None, 0, 0)
        if course is None:
            return
        self._at = (course, said, n + 1)
        self._show_played(self._found_at(self.selection.chosen, n + 1), self.selection.chosen)
        if n + 1 >= self._length:
            self._stop()

    def close(self) -> None:
        """Give up the stream: the page is gone."""
        self._pause()
        self._player.close()

    # The numbers

    def is_slow_for(self, chosen: Chosen) -> bool:
        """Where a stream is to be opened first, or many steps are to be played."""
        if self.source.scope is None or self.source.X is None:
            return False
        ahead = self._player.ahead(_course(chosen), chosen.step)
        return ahead is None or ahead > _AT_ONCE or takes_long(self.source, chosen)

    def find(self, chosen: Chosen) -> Found:
        """The stream is played to where it is asked for; where only something else changed, it stays where it stands.

        Raises
        ------
        UnsupportedError
            There is no model, or it can't be streamed.
        """
        if self.source.scope is None:
            raise UnsupportedError(NO_MODEL)
        if self.source.X is None:
            raise UnsupportedError(NO_DATA)
        at = self._at
        is_same = at is not None and at[0] == _course(chosen) and at[1] == chosen.step
        return self._found_at(chosen, at[2] if at is not None and is_same else chosen.step)

    def _found_at(self, chosen: Chosen, n_steps: int) -> Found:
        played = self._player.to(_course(chosen), n_steps)
        values = self.source.values(chosen.layer, chosen.state, chosen.sample)  # for the same rows and colours as in the sample
        shown = self.source.inputs()[chosen.sample] if self.source.input(chosen.sample) is None else self.source.input(chosen.sample)
        order, limits = ordered(self.source, chosen, values), limits_of(self.source, chosen, values)
        return Found(shown, int(self.source.lengths[chosen.sample]), played, order, limits)  # type: ignore[arg-type]

    def show(self, found: Found, chosen: Chosen) -> None:
        """All of it."""
        if self._at is None or self._at[0] != found.played.course:
            self._pause()
        self._at = (found.played.course, chosen.step, len(found.played))
        self._length, self._order = found.length, found.order
        self._say("")
        self._channels.fill(found.input, chosen.sample, chosen.cells)
        self._show_played(found, chosen)

    def _show_played(self, found: Found, chosen: Chosen) -> None:
        """What changes from step to step."""
        n, key, clock = len(found.played), (found.played.course,), Clock(found.input)
        names = [str(label) for label in self.source.layer(chosen.layer).units_of(chosen.state)]
        label = style.label_of(self.source.values(chosen.layer, chosen.state, chosen.sample), UNIT)
        self._growing.fill(
            key, found.input, found.played.values, found.order, names=names, limits=found.limits, rows_label=label, cells=chosen.cells
        )
        self._outputs.fill(key, clock, found.played.outputs, found.played.names, self._lines_of(found, chosen) if n else [])
        for one in self._curtains:
            one.update(left=clock.edges[n], right=clock.edges[-1], visible=n < found.length)
        self._told.object = self._said(found)
        self._filling = True
        try:
            self._place.param.update(end=found.length, value=n)
        finally:
            self._filling = False
        self._step.disabled, self._carry.disabled = n >= found.length, len(self.source) < 2

    def _lines_of(self, found: Found, chosen: Chosen) -> list[int]:
        """The outputs with a line: of many those that are highest at the end of the sample."""
        number = len(found.played.names)
        if number <= MOST_LINES:
            return list(range(number))
        known = self.source.predictions()
        last = known.isel({SAMPLE: chosen.sample})
        ends = last.dropna(OUTPUT_TIME, how="all").isel({OUTPUT_TIME: -1}) if OUTPUT_TIME in last.dims else last
        values = ends.values.reshape(-1) if OUTPUT in ends.dims and ends.size == number else found.played.outputs[-1]
        return sorted(np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:MOST_LINES].tolist())

    def _said(self, found: Found) -> str:
        """Where it stands, from which state it began, and what the model says."""
        course, ids = found.played.course, self.source.sample_ids
        names = ", ".join(escape(str(ids[sample])) for sample in course.before)
        began = f"with the state carried on from sample{'s' if len(course.before) > 1 else ''} {names}" if names else "from a fresh state"
        n, length = len(found.played), found.length
        said = f"<b>Step {n} of {length}</b> of sample {escape(str(ids[course.sample]))}, {began}. "
        return said + escape(live_paper.verdict(found))

    def _say(self, sentence: str) -> None:
        self._failed.param.update(object=escape(sentence), visible=bool(sentence))

    # What else is made of them

    def code(self, found: Found, chosen: Chosen) -> str:
        """The stream, and a picture of what it gave."""
        return live_paper.code_of(found, chosen)

    def table(self, found: Found, chosen: Chosen) -> pd.DataFrame:
        """A row for each step that was played."""
        return live_paper.table_of(self.source, found)

    def figure(self, found: Found, chosen: Chosen) -> Figure:
        """What was played, on paper."""
        return live_paper.figure_of(self.source, found, chosen)


def _course(chosen: Chosen) -> Course:
    return Course(chosen.layer, chosen.state, before(chosen), chosen.sample)
