"""What was played, outside the page: the Python that plays it, its table, its picture on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from seqscope import plot
from seqscope.errors import DataError
from seqscope.explorer.selection import Chosen
from seqscope.explorer.shown import code_of_state
from seqscope.explorer.source import Source
from seqscope.explorer.views.sample.paper import table_of as values_as_table
from seqscope.labelled import CHANNEL, TIME, UNIT

if TYPE_CHECKING:
    from seqscope.explorer.views.live.view import Found


def as_array(source: Source, found: Found) -> xr.DataArray:
    """What was played so far: (time, unit).

    Raises
    ------
    DataError
        Nothing was.
    """
    if not len(found.played):
        raise DataError("No step has been played yet: press Play or Step.")
    course = found.played.course
    steps = found.input.isel({TIME: slice(len(found.played))})
    time = {TIME: steps.coords[TIME]} if TIME in steps.coords else {}
    units = list(source.layer(course.layer).units_of(course.state))
    return xr.DataArray(found.played.values, dims=(TIME, UNIT), coords={**time, UNIT: units}, attrs={"layer": course.layer})


def code_of(found: Found, chosen: Chosen) -> str:
    """The lines that play the same steps, and draw them; all steps where none was played yet."""
    course, sample = found.played.course, chosen.sample
    played = f"X[{sample}]" if not 0 < len(found.played) < found.length else f"X[{sample}][:{len(found.played)}]"
    shows = f"states={course.layer!r}" if course.state else f"layers={course.layer!r}"
    value = f"step.states[{course.layer!r}]{code_of_state(course.state)}" if course.state else f"step.activations[{course.layer!r}]"
    rows = "for x_t in {}.values"
    lines = ["import xarray as xr", f"with scope.stream(check=X[[{sample}]], {shows}) as stream:"]
    lines += [f"    {rows.format(f'X[{one}]')}: stream.step(x_t)" for one in course.before]
    lines += [f"    seen = [stream.step(x_t) {rows.format(played)}]"]
    lines += [
        f"values = xr.concat([{value} for step in seen], {played}.time)",
        "outputs = xr.concat([step.output for step in seen], values.time)",
    ]
    return "\n".join([*lines, f"sq.plot.activations({played}, values)" if CHANNEL in found.input.dims else "sq.plot.heatmap(values)"])


def table_of(source: Source, found: Found) -> pd.DataFrame:
    """A row for each step that was played: what the units did, and what the model put out."""
    told = values_as_table(as_array(source, found))
    named = {f"output {name}": column for name, column in zip(found.played.names, found.played.outputs.T, strict=True)}
    return pd.concat([told, pd.DataFrame(named)], axis=1)


def figure_of(source: Source, found: Found, chosen: Chosen) -> Figure:
    """The picture that `code_of` draws."""
    values = as_array(source, found)
    shown = found.input.isel({TIME: slice(len(found.played))})
    figure: Any = Figure(figsize=(9.0, 7.0), layout="constrained")
    title = f"{source.name}, sample {chosen.sample}, {len(found.played)} of {found.length} steps"
    if CHANNEL in shown.dims:
        plot.activations(shown, values, figure=figure, title=title)
    else:
        plot.heatmap(values, ax=figure.subplots(), title=title)
    drawn: Figure = figure
    return drawn


def verdict(found: Found) -> str:
    """What the model would say now."""
    played = found.played
    if not len(played):
        return "Nothing has been played yet."
    last = played.outputs[-1]
    if len(played.names) < 2:
        return f"The output is {float(last[0]):.4g} now."
    best = int(np.nanargmax(last))
    return f"The highest output is '{played.names[best]}' now ({float(last[best]):.3f})."
