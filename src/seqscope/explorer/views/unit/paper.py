"""A unit outside the page: its figures in words and as a table, the Python that gives them, its pictures on paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqscope import plot
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Live, Source
from seqscope.explorer.views.unit.found import Found, K, gates_of
from seqscope.labelled import GATE, LABEL, STATE_NAMES


def words(found: Found) -> list[tuple[str, str]]:
    """The report, a name and a sentence for each figure."""
    one = {str(name): array.values[0] for name, array in found.report.items() if array.ndim == 1}
    said = [
        ("Mean", f"{one['mean']:.4g}, standard deviation {one['spread']:.4g}"),
        ("Range", f"{one['low']:.4g} to {one['high']:.4g}"),
        ("Saturated", "does not apply" if np.isnan(one["saturated"]) else f"{one['saturated']:.1%} of the time"),
        ("Dead", "yes: over this data it never moves" if one["dead"] else "no"),
        ("Same as another", _duplicate(one)),
    ]
    if found.followed is not None:
        said.append(("Follows", _follows(found)))
    if "half_life" in one:
        said.append(
            ("Half-life of its cell", f"{one['half_life']:.3g} steps" if np.isfinite(one["half_life"]) else "endless: it forgets nothing")
        )
    for gate in found.report.coords[GATE].values.tolist() if "left_saturated" in found.report else []:
        shut, opened = (float(found.report[name].sel({GATE: gate})[0]) for name in ("left_saturated", "right_saturated"))
        said.append((f"{STATE_NAMES[gate]} {gate}", f"shut {shut:.1%}, open {opened:.1%} of the time"))
    return said


def _duplicate(one: dict[str, Any]) -> str:
    if one["duplicate_of"] in (-1, ""):
        return "no"
    opposite = " (the opposite)" if one["duplicate_correlation"] < 0 else ""
    return f"unit {one['duplicate_of']}{opposite}, r = {one['duplicate_correlation']:.4f}"


def _follows(found: Found) -> str:
    followed = found.followed
    if followed is None or bool(np.isnan(followed["correlation"].values[0])):
        return "no channel"
    lag, r = followed["lag"].values[0], float(followed["correlation"].values[0])
    after = f", {abs(lag):g} step{'s' if abs(lag) != 1 else ''} {'later' if lag > 0 else 'before'}" if lag else ""
    part = "" if found.n_followed == found.n_samples else f" (in the first {found.n_followed:,} samples)"
    name = str(followed["channel"].values[0])
    return f"{'channel ' if name.isdigit() else ''}{name}{after}, r = {r:.3f}{part}"


def selectivity(found: Found) -> tuple[list[str], np.ndarray]:
    """The classes, and how well the unit tells each from the rest (AUROC); none where they are not known."""
    if "selectivity" not in found.report:
        return [], np.zeros(0)
    told = found.report["selectivity"][0]
    return [str(label) for label in told.coords[LABEL].values], np.asarray(told.values)


def table_of(found: Found) -> pd.DataFrame:
    """A row for each figure: what, of which class, gate or bin, how much."""
    rows: list[tuple[str, Any, Any]] = [(str(name), "", array.values[0]) for name, array in found.report.items() if array.ndim == 1]
    if found.followed is not None:
        rows += [(name, "", found.followed[name].values[0]) for name in ("correlation", "channel", "lag")]
    rows += [("selectivity", label, value) for label, value in zip(*selectivity(found), strict=True)]
    for name in ("left_saturated", "right_saturated"):
        if name in found.report:
            rows += [(name, gate, float(found.report[name].sel({GATE: gate})[0])) for gate in found.report.coords[GATE].values.tolist()]
    rows += [("count", f"{low:.6g} to {high:.6g}", n) for low, high, n in zip(found.edges, found.edges[1:], found.counts, strict=False)]
    if found.windows is not None:
        told = zip(*(found.windows[name].values.tolist() for name in ("sample", "start", "stop", "score")), strict=True)
        rows += [("top window", f"sample {sample}, steps {start} to {stop - 1}", score) for sample, start, stop, score in told]
    return pd.DataFrame(rows, columns=["figure", "of", "value"])


def code_of(source: Source, found: Found, chosen: Chosen) -> str:
    """The lines that give the report and the windows, and draw them."""
    is_live = isinstance(source, Live)
    labels = ("X.labels" if is_live else "recording.labels") if source.classes is not None else "None"
    way = chosen.state.partition(".")[2]
    values = source.code(chosen.layer, chosen.state, None)
    drop = '.drop_vars("direction")' if way else ""
    renamed = '.rename(projection="unit")' if _is_projected(source, chosen) else ""
    lines = [f"values = {values}{drop}{renamed}"]
    states = ""
    if "left_saturated" in found.report and gates_of(source, chosen) is not None:
        whole_states = f"scope.states(X, {chosen.layer!r})" if is_live else f"recording.states({chosen.layer!r})"
        states = f", states={whole_states}" + (f'.sel(direction="{way}").drop_vars("direction")' if way else "")
    lines.append(f"report = sq.units.summary(values, {labels}{states}).isel(unit=[{chosen.unit}])")
    if found.followed is not None:
        few = found.n_followed < len(source)
        part, of = (f".isel(sample=slice({found.n_followed}))", f"X[:{found.n_followed}]") if few else ("", "X")
        lines.append(f"followed = sq.units.summary(values{part}, X={of}, duplicate=None).isel(unit=[{chosen.unit}])")
    lines.append('sq.plot.units(report, sort="unit")')
    if found.windows is not None:
        steps = "" if found.steps is None else f", steps={found.steps!r}"
        lines += [f"windows = sq.units.top_windows(values, X, {found.label!r}, {K}{steps})", "sq.plot.top_windows(windows)"]
    return "\n".join(lines)


def _is_projected(source: Source, chosen: Chosen) -> bool:
    return chosen.state.partition(".")[0] == "h" and "projection" in source.whole_states(chosen.layer)["h"].dims


def figure_of(found: Found) -> Figure:
    """The report above the windows."""
    figure: Any = Figure(figsize=(9.5, 12.0 if found.windows is not None else 5.0), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[5.0, 7.0]) if found.windows is not None else (figure, None)
    plot.units(found.report, sort="unit", figure=above, title=f"Unit {found.label}")
    if found.windows is not None:
        plot.top_windows(found.windows, figure=below)
    drawn: Figure = figure
    return drawn
