"""The Python that gives the points of the map."""

from __future__ import annotations

from seqscope.explorer.any_source import Source
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Recorded
from seqscope.explorer.views.samples_map.projected import LAST, most_points
from seqscope.labelled import STEP, TIME


def code_of(source: Source, chosen: Chosen, pooled: str) -> str:
    """The lines that make `points`, a DataArray (sample, component)."""
    lines = []
    values, length = source.code(chosen.layer, chosen.state, None), 'values["length"]'
    clock = STEP if STEP in source.values(chosen.layer, chosen.state, 0).dims else TIME
    most = most_points(len(source.layer(chosen.layer).units_of(chosen.state)))
    if len(source) > most:
        lines += ["import numpy as np", f"rows = np.sort(np.random.default_rng(0).choice({len(source)}, {most}, replace=False))"]
        values = f"{values}.isel(sample=rows)" if isinstance(source, Recorded) else values.replace("(X,", "(X[rows],")
    lines.append(f"values = {values}")
    if clock == STEP:
        lines.append('length = values.notnull().all("unit").sum("step")')
        length = "length"
    if pooled == LAST:
        drop = '.drop_vars("time")' if clock == TIME else ""
        lines.append(f'states = values.isel({clock}={length} - 1){drop}.expand_dims("{clock}", axis=1)')
    else:
        lines.append(f'states = values.mean("{clock}").expand_dims("{clock}", axis=1)')
    return "\n".join([*lines, "points = sq.units.project(states)[:, 0]"])
