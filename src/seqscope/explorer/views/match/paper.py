"""Matches outside the page: the Python that finds and draws them, and their picture on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from seqscope import plot
from seqscope.errors import DataError
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.views.match.found import AROUND, DRAWN
from seqscope.labelled import PROJECTION, SAMPLE, STEP, TIME, UNIT

if TYPE_CHECKING:
    from seqscope.explorer.views.match.found import Found


def code_of(source: Source, found: Found, chosen: Chosen) -> str:
    """The lines that search, and draw the units that were looked for in the stretch and in the best places."""
    values = source.code(chosen.layer, chosen.state, None)
    drop = '.drop_vars("direction")' if "." in chosen.state else ""
    lines = [f"values = {values}{drop}{_renamed(source, chosen)}"]
    query = found.query
    if found.result is None:
        return "\n".join([*lines, "# Brush a stretch to look for it."])
    clock = STEP if STEP in found.values.dims else TIME
    name = source.sample_ids[query.sample].item()
    return "\n".join(
        [
            "import matplotlib.pyplot as plt",
            *lines,
            f"found = sq.units.match(values, {name!r}, {query.start}, {query.stop}, threshold={chosen.threshold!r})",
            "of_units = values.sel(unit=found.unit.values)",
            f"places = [({name!r}, {query.start}, {query.stop}), "
            f'*zip(*(found[column].values.tolist() for column in ("sample", "start", "stop")))][:{DRAWN + 1}]',
            "figure, axes = plt.subplots(len(places), figsize=(6, 2.5 * len(places)), layout='constrained', squeeze=False)",
            "for ax, (sample, start, stop) in zip(axes.flat, places):",
            f"    near = of_units.sel(sample=sample).isel({clock}=slice(max(0, start - {AROUND}), stop + {AROUND}))",
            f'    sq.plot.heatmap(near.dropna("{clock}", how="all"), ax=ax, title=f"Sample {{sample}}, steps {{start}} to {{stop - 1}}")',
        ]
    )


def _renamed(source: Source, chosen: Chosen) -> str:
    is_hidden = chosen.state.partition(".")[0] == "h"
    is_projected = is_hidden and PROJECTION in source.whole_states(chosen.layer)["h"].dims
    return '.rename(projection="unit")' if is_projected else ""


def figure_of(source: Source, found: Found, chosen: Chosen) -> Figure:
    """The picture that `code_of` draws.

    Raises
    ------
    DataError
        Nothing was looked for.
    """
    if found.result is None:
        raise DataError(found.unknown or "There is nothing to draw: brush a stretch first.")
    places = [found.query, *found.stretches[:DRAWN]]
    figure: Any = Figure(figsize=(6, 2.5 * len(places)), layout="constrained")
    axes = figure.subplots(len(places), squeeze=False)
    for ax, place in zip(axes.flat, places, strict=True):
        values = source.values(chosen.layer, chosen.state, place.sample).isel({UNIT: found.units})
        clock = STEP if STEP in values.dims else TIME
        near = values.isel({clock: slice(max(0, place.start - AROUND), place.stop + AROUND)}).dropna(clock, how="all")
        name = source.samples[SAMPLE].iloc[place.sample]
        plot.heatmap(near, ax=ax, title=f"Sample {name}, steps {place.start} to {place.stop - 1}")
    drawn: Figure = figure
    return drawn
