"""A sample outside the page: the Python that draws it, its table, its picture on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from seqscope import plot
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.views.sample.strip import way_of
from seqscope.labelled import CHANNEL, STEP, TIME, TIME_END, TIME_START, UNIT

if TYPE_CHECKING:
    from seqscope.explorer.views.sample.view import Found


def code_of(source: Source, found: Found, chosen: Chosen) -> str:
    """The lines that draw the sample with the heatmap, and the unit with its gates."""
    values = source.code(chosen.layer, chosen.state, chosen.sample)
    sort = f', sort="{chosen.order}"' if _is_sorted(chosen) else ""
    lines = []
    if chosen.order == "selectivity" and source.classes is not None:
        lines, values = _by_selectivity(source, chosen, values), "values.isel({values.dims[-1]: order})"
    above = f"X[{chosen.sample}], " if _has_channels(found) else ""
    lines.append(f"sq.plot.{'activations' if above else 'heatmap'}({above}{values}{sort})")
    return "\n".join([*lines, *_unit_code(source, found, chosen, above)])


def _by_selectivity(source: Source, chosen: Chosen, values: str) -> list[str]:
    labels = "X.labels" if source.code("", "", None).startswith("scope") else "recording.labels"
    whole = source.code(chosen.layer, chosen.state, None)
    projected = chosen.state.partition(".")[0] == "h"
    unit = f'({whole}).rename(projection="unit")' if projected and _is_projected(source, chosen) else whole
    return [
        f"told = sq.units.summary({unit}, {labels}, duplicate=None).selectivity.fillna(0.5)",
        'order = (-abs(told - 0.5).max("label")).argsort(kind="stable").values',
        f"values = {values}",
    ]


def _is_projected(source: Source, chosen: Chosen) -> bool:
    states = source.states(chosen.layer, chosen.sample)
    return UNIT not in states["h"].dims


def _is_sorted(chosen: Chosen) -> bool:
    return chosen.order in ("peak", "cluster")


def _has_channels(found: Found) -> bool:
    return found.input is not None and CHANNEL in found.input.dims


def _unit_code(source: Source, found: Found, chosen: Chosen, above: str) -> list[str]:
    """The unit's gates and cell; its values where it has no states, or where they are not all there."""
    label = source.layer(chosen.layer).units_of(chosen.state)[chosen.unit]
    if not above:
        return []
    if not found.unit.gates:
        return [f"sq.plot.activations({above}{source.code(chosen.layer, chosen.state, chosen.sample)}, unit={label!r})"]
    way, place = way_of(found.values, chosen)
    states = source.code(chosen.layer, "h", chosen.sample).replace('["h"]', "", 1)
    states += f'.sel(direction="{way}")' if way else ""
    return [f"sq.plot.states({above}{states}, unit={_label_of(source, chosen, place)!r})"]


def _label_of(source: Source, chosen: Chosen, place: int) -> Any:
    """What the states call the unit."""
    states = source.states_of_unit(chosen.layer, chosen.sample, place, "")
    return states.coords[UNIT].item() if UNIT in states.coords else place


def table_of(values: xr.DataArray) -> pd.DataFrame:
    """A row for each step, with what it sees, and a column for each unit."""
    clock = STEP if STEP in values.dims else TIME
    told = {str(name): values.coords[name].values for name in (clock, TIME, TIME_START, TIME_END) if name in values.coords}
    told = {name: column for name, column in told.items() if column.ndim == 1 and len(column) == values.sizes[clock]} or {
        clock: np.arange(values.sizes[clock])
    }
    units = values.coords[UNIT].values if UNIT in values.coords else range(values.sizes[UNIT])
    return pd.DataFrame(told | {f"unit {unit}": column for unit, column in zip(units, values.transpose(UNIT, clock).values, strict=True)})


def figure_of(source: Source, found: Found, chosen: Chosen) -> Figure:
    """The pictures that `code_of` draws, one above the other."""
    lines = _unit_figure(found)
    figure: Any = Figure(figsize=(9.0, 7.0 + lines), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[7.0, lines]) if lines else (figure, figure)
    shown = found.values if _is_sorted(chosen) else found.values.isel({UNIT: found.order})
    sort: Any = chosen.order if _is_sorted(chosen) else None
    title = f"{source.name}, sample {chosen.sample}, {chosen.layer}{' ' + chosen.state if chosen.state else ''}"
    if found.input is None or not _has_channels(found):
        plot.heatmap(shown, ax=above.subplots(), sort=sort, title=title)
        return cast("Figure", figure)
    plot.activations(found.input, shown, figure=above, sort=sort, title=title)
    if found.unit.gates:
        way, place = way_of(found.values, chosen)
        states = source.states(chosen.layer, chosen.sample)
        states = states.sel(direction=way) if way else states
        plot.states(found.input, states, unit=_label_of(source, chosen, place), figure=below, title=f"Unit {found.unit.label}")
    else:
        plot.activations(found.input, found.values, unit=_plain(source, chosen), figure=below, title=f"Unit {found.unit.label}")
    return cast("Figure", figure)


def _plain(source: Source, chosen: Chosen) -> Any:
    return source.layer(chosen.layer).units_of(chosen.state)[chosen.unit]


def _unit_figure(found: Found) -> float:
    """The height of the unit's picture in inches, none where nothing is known of the input."""
    if not _has_channels(found):
        return 0.0
    return 6.5 if found.unit.gates else 5.0
