"""One unit over time: its gates, its cell and what it puts out."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import panel as pn
import xarray as xr

from seqscope.explorer.figures import Clock, Lines
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.views.view import Stage
from seqscope.labelled import DIRECTION, UNIT
from seqscope.plot.states import GATES

# What each state is called beside its line.
NAMES = {
    "i": "i input",
    "f": "f forget",
    "o": "o output",
    "r": "r reset",
    "z": "z update",
    "g": "g candidate",
    "n": "n candidate",
    "a": "a before tanh",
    "c": "c cell",
    "h": "h hidden",
}
OUTPUT = "output"
# What the axis of gates leaves beyond 0 and 1, so that a gate that stands open or shut is seen.
_MARGIN = 0.06


@dataclass(frozen=True)
class UnitLines:
    """What one unit does in a sample: by name, (step,) each.

    Attributes
    ----------
    clock : Clock
    label : str
        Of the unit.
    gates, values : dict of arrays
    """

    clock: Clock
    label: str
    gates: dict[str, np.ndarray]
    values: dict[str, np.ndarray]


class Strip:
    """The chosen unit below the heatmap."""

    def __init__(self, stage: Stage) -> None:
        limits = (-_MARGIN, 1 + _MARGIN)
        self.gates = Lines(stage.look, stage.time, height=120, ylabel="Gates", limits=limits, is_clock_named=False)
        self.values = Lines(stage.look, stage.time, height=160, ylabel="Value")
        self._gates = pn.pane.Bokeh(self.gates.plot, margin=0, sizing_mode="stretch_width")
        values = pn.pane.Bokeh(self.values.plot, margin=0, sizing_mode="stretch_width")
        self._head = pn.pane.HTML("", sizing_mode="stretch_width", margin=(2, 5, 0, 5))
        self.panel = pn.Column(self._head, self._gates, values, sizing_mode="stretch_width", margin=0)

    def fill(self, found: UnitLines) -> None:
        """Draw another unit's."""
        for lines, drawn in ((self.gates, found.gates), (self.values, found.values)):
            if drawn:
                lines.fill(found.clock, np.stack(list(drawn.values())), [NAMES.get(name, name) for name in drawn])
        if self._gates.visible != bool(found.gates):
            self._gates.visible = bool(found.gates)
        self._head.object = f"<b>Unit {escape(found.label)}</b>"  # on an axis it would lay the figure out anew


def lines_of(source: Source, chosen: Chosen, values: xr.DataArray) -> UnitLines:
    """The chosen unit's states as far as they are known, and what is shown of it in the heatmap."""
    label = str(source.layer(chosen.layer).units_of(chosen.state)[chosen.unit])
    own = values.isel({UNIT: chosen.unit})
    states = _states(source, chosen, values)
    shown = chosen.state.partition(".")[0] or OUTPUT
    lines = {str(name): np.asarray(array.values) for name, array in states.items() if array.sizes == own.sizes}
    if shown not in lines and not (shown == OUTPUT and "h" in lines):
        lines[shown] = np.asarray(own.values)
    gates = {name: line for name, line in lines.items() if name in GATES}
    return UnitLines(Clock(own), label, gates, {name: line for name, line in lines.items() if name not in gates})


def _states(source: Source, chosen: Chosen, values: xr.DataArray) -> xr.Dataset:
    """All states of the unit; none where the layer has none, or it is one of a projection."""
    layer = source.layer(chosen.layer)
    if not layer.is_recurrent:
        return xr.Dataset()
    direction, unit = way_of(values, chosen)
    if not direction and any("." in state for state in layer.states):
        return xr.Dataset()
    states = source.states_of_unit(chosen.layer, chosen.sample, unit, direction)
    return xr.Dataset() if _is_projection(source, chosen, states) else states


def _is_projection(source: Source, chosen: Chosen, states: xr.Dataset) -> bool:
    """Whether what is shown is projected, so that its units are not those of the cells."""
    return chosen.state.partition(".")[0] in ("", "h") and "h" in _names(source, chosen) and "h" not in states


def _names(source: Source, chosen: Chosen) -> set[str]:
    return {state.partition(".")[0] for state in source.layer(chosen.layer).states}


def way_of(values: xr.DataArray, chosen: Chosen) -> tuple[str, int]:
    """The direction of the chosen unit, "" where there is one alone, and its place among the units of that direction."""
    _, _, way = chosen.state.partition(".")
    if way or DIRECTION not in values.coords or values.coords[DIRECTION].dims != (UNIT,):
        return way, chosen.unit
    ways = values.coords[DIRECTION].values
    way = str(ways[chosen.unit])
    return way, int((ways[: chosen.unit] == way).sum())
