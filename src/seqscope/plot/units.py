"""What each unit of a layer does over a data set: a row for each, from its range to the classes that it tells apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from seqscope.errors import DataError, nearest
from seqscope.labelled import GATE, LABEL, STATE_NAMES, UNIT
from seqscope.plot import style

# The widths of the panels, in inches: of figures, of each column of colours, and the least and the most that colours take.
_WIDE, _COLUMN, _LEAST, _MOST = 1.9, 0.2, 1.3, 4.0
_SPREAD, _RANGE, _MARK, _INK = style.COLORS[0], "#BFD7EA", style.COLORS[1], "#1A1A1A"
_GATES_HIGH = 2.6
# From this height on, in points, a row has room for a number.
_ROW = 9.0


def units(
    summary: xr.Dataset, *, sort: str | None = None, figure: Figure | SubFigure | None = None, title: str | None = None
) -> dict[str, Axes]:
    """Draw the unit report: a row for each unit, through all panels.

    Parameters
    ----------
    summary : Dataset
        What `units.summary` gives. Its figures are drawn as far as they are there: the range, the share of time saturated, the half-life,
        the strongest correlation with an input channel, how well each class is told from the rest; below, how often each gate is shut
        against how often it is open.
    sort : str, optional
        Sort the rows by this figure, the highest on top, such as "spread"; "unit": as they are. Default: by the class that a unit tells
        best and by how well, where that is known, else by the mean.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above; default: how many units are dead or do the same as another, and the layer. "": nothing.

    Returns
    -------
    dict of Axes
        "range", "saturated", "half_life", "correlation", "selectivity", and "gate i" for gate i, as far as they are there.

    Raises
    ------
    DataError
        The Dataset is no summary of units, or has no such figure.

    References
    ----------
    Karpathy, Johnson and Fei-Fei, "Visualizing and Understanding Recurrent Networks", 2015, figure 3 (gates).

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> scope = sq.Scope(sq.zoo.japanese_vowels())
    >>> report = sq.units.summary(scope.activations(X, "lstm"), y, X, scope.states(X, "lstm"))
    >>> list(sq.plot.units(report))
    ['range', 'saturated', 'half_life', 'correlation', 'selectivity', 'gate i', 'gate f', 'gate o']
    """
    summary = _sorted(_checked(summary), sort)
    names = [name for name in _PANELS if name in summary and bool(summary[name].notnull().any())]
    gates = summary.coords[GATE].values.tolist() if "left_saturated" in summary else []
    figure, panels = _grid(figure, summary, ["range", *names], gates)
    _draw_range(panels["range"], summary)
    for name in names:
        _PANELS[name](panels[name], summary)
    for gate in gates:
        _draw_gate(panels[f"gate {gate}"], summary.sel({GATE: gate}), str(gate))
    labels = [str(label) for label in summary.coords[UNIT].values]
    style.name_rows(panels["range"], range(len(labels)), labels, small=True)
    panels["range"].set_ylim(len(labels) - 0.5, -0.5)
    panels["range"].set_ylabel(style.label_of(summary["mean"].assign_attrs(summary.attrs), UNIT) + f" ({_sorted_by(summary, sort)})")
    said = _title(summary) if title is None else title
    if said:
        figure.suptitle(said)
    return panels


# The rows


def _checked(summary: Any) -> xr.Dataset:
    if isinstance(summary, xr.Dataset):
        if all(name in summary and summary[name].dims == (UNIT,) for name in ("mean", "spread", "low", "high")):
            return summary if UNIT in summary.coords else summary.assign_coords({UNIT: range(summary.sizes[UNIT])})
        what = f"A Dataset that holds {', '.join(map(repr, summary)) or 'nothing'}"
    else:
        what = f"A {type(summary).__name__}"
    raise DataError(
        f"{what} was given to draw: expected 'mean', 'spread', 'low' and 'high' (unit), as units.summary(activations) gives them."
    )


def _sorted(summary: xr.Dataset, sort: str | None) -> xr.Dataset:
    """The units in the order of the rows."""
    if sort == UNIT:
        return summary
    if sort is None and "selectivity" in summary:
        told = summary["selectivity"].transpose(UNIT, LABEL).fillna(0.5).values
        best = told.argmax(axis=1)
        return summary.isel({UNIT: np.lexsort((-told.max(axis=1), best))})
    name = "mean" if sort is None else sort
    sortable = [str(one) for one, array in summary.items() if array.dims == (UNIT,) and array.dtype.kind in "biuf"]
    if name not in sortable:
        raise DataError(f"Units can't be sorted by {sort!r}: {nearest(str(sort), [UNIT, *sortable])}.")
    return summary.isel({UNIT: np.argsort(-summary[name].fillna(-np.inf).values.astype(float), kind="stable")})


def _sorted_by(summary: xr.Dataset, sort: str | None) -> str:
    if sort is None:
        return "by the class told best" if "selectivity" in summary else "by mean"
    return "in order" if sort == UNIT else f"by {sort.replace('_', ' ')}"


def _title(summary: xr.Dataset) -> str:
    """How many units there are, and how many of them do nothing of their own."""
    parts = []
    if "dead" in summary:
        parts.append(f"{int(summary['dead'].sum())} dead over this data")
    if "duplicate_of" in summary:
        parts.append(f"{int(_is_duplicate(summary).sum())} the same as another")
    layer = f" of '{summary.attrs['layer']}'" if "layer" in summary.attrs else ""
    n_units = summary.sizes[UNIT]
    return f"{n_units} unit{'s' if n_units > 1 else ''}{layer}" + (f": {', '.join(parts)}" if parts else "")


def _is_duplicate(summary: xr.Dataset) -> np.ndarray:
    """Whether a unit does what an earlier one does."""
    of = summary["duplicate_of"].values
    return np.asarray(of != ("" if of.dtype.kind in "UO" else -1))


# The panels


def _grid(
    figure: Figure | SubFigure | None, summary: xr.Dataset, names: list[str], gates: list[Any]
) -> tuple[Figure | SubFigure, dict[str, Axes]]:
    """Panels side by side over the same rows, the gates below."""
    n_columns = {"selectivity": summary.sizes.get(LABEL, 0), "correlation": len(_channels(summary)) if "channel" in summary else 0}
    widths = [min(_MOST, max(_LEAST, _COLUMN * n_columns[name])) + 0.5 if name in n_columns else _WIDE for name in names]
    high = min(9.5, max(3.0, 0.2 * summary.sizes[UNIT]))
    figure = style.new_figure(figure, (max(6.4, sum(widths) + 1.0), high + 0.8 + (_GATES_HIGH if gates else 0.0)))
    grid = figure.add_gridspec(1 + bool(gates), 1, height_ratios=[high, _GATES_HIGH] if gates else [1.0])
    above = grid[0].subgridspec(1, len(names), width_ratios=widths)
    panels: dict[str, Axes] = {}
    for place, name in enumerate(names):
        panels[name] = figure.add_subplot(above[0, place], sharey=panels.get("range"))
        panels[name].tick_params(labelleft=place == 0, left=place == 0, labelsize="small")
    if gates:
        below = grid[1].subgridspec(1, len(gates))
        panels |= {f"gate {gate}": figure.add_subplot(below[0, place]) for place, gate in enumerate(gates)}
    return figure, panels


def _draw_range(ax: Axes, summary: xr.Dataset) -> None:
    """From the lowest value to the highest, a standard deviation around the mean, and which units do nothing of their own."""
    rows = np.arange(summary.sizes[UNIT])
    mean, spread, low, high = (summary[name].values for name in ("mean", "spread", "low", "high"))
    ax.barh(rows, high - low, left=low, height=0.8, color=_RANGE)
    ax.barh(rows, 2 * spread, left=mean - spread, height=0.8, color=_SPREAD)
    ax.plot(mean, rows, linestyle="none", marker="|", markersize=3, color="white")
    named: list[Any] = [Patch(color=_RANGE, label="range"), Patch(color=_SPREAD, label="mean ± spread")]
    marks = [("dead", "x", summary["dead"].values if "dead" in summary else None)]
    marks += [("duplicate", "+", _is_duplicate(summary) if "duplicate_of" in summary else None)]
    for name, marker, which in marks:
        if which is not None and which.any():
            ax.plot(high[which], rows[which], linestyle="none", marker=marker, markersize=6, color=_MARK, clip_on=False, zorder=4)
            named.append(Line2D([], [], linestyle="none", marker=marker, color=_MARK, label=name))
    ax.set_xlabel("Value")
    ax.legend(
        handles=named,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.0,
        ncols=2,
        fontsize="small",
        frameon=False,
        handlelength=1.4,
        columnspacing=1.0,
    )
    room = 0.04 * (float(high.max() - low.min()) or 1.0)
    ax.set_xlim(low.min() - room, high.max() + room)
    if low.min() < 0 < high.max():
        ax.axvline(0.0, color=_INK, linewidth=0.6, linestyle=":", zorder=3)


def _draw_saturated(ax: Axes, summary: xr.Dataset) -> None:
    ax.barh(np.arange(summary.sizes[UNIT]), summary["saturated"].values, height=0.8, color=style.COLORS[2])
    ax.set_xlim(0.0, 1.0)
    ax.set_xticks([0.0, 0.5, 1.0])
    ax.set_xlabel("Saturated (share of time)", fontsize="small")


def _draw_half_life(ax: Axes, summary: xr.Dataset) -> None:
    """On a scale of powers; a unit that forgets nothing lies at the right end."""
    values, rows = summary["half_life"].values, np.arange(summary.sizes[UNIT])
    known, endless = np.isfinite(values) & (values > 0), np.isposinf(values)
    ax.plot(values[known], rows[known], linestyle="none", marker=".", markersize=4, color=_INK)
    if known.any():
        ax.set_xscale("log")
        few = 10 * values[known].min() < values[known].max()  # over more than a decade, its ticks are enough
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if few else (1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(0.8 * values[known].min(), 1.25 * values[known].max())
    if endless.any():
        across = ax.get_yaxis_transform()
        ax.plot(np.ones(endless.sum()), rows[endless], linestyle="none", marker=">", color=_MARK, transform=across, clip_on=False)
    ax.grid(axis="x", linewidth=0.4)
    ax.set_xlabel("Half-life (steps)")


def _channels(summary: xr.Dataset) -> list[Any]:
    """The channels that some unit follows, those with numbers in their names by these: "Feature 2" before "Feature 10"."""
    channels, known = summary["channel"].values, summary["correlation"].notnull().values
    return sorted(
        np.unique(channels[known]).tolist(), key=lambda name: [(part.isdigit(), part.zfill(9)) for part in re.split(r"(\d+)", str(name))]
    )


def _draw_correlation(ax: Axes, summary: xr.Dataset) -> None:
    """The strongest correlation of each unit, in the column of its channel."""
    channels = _channels(summary) if "channel" in summary else [""]
    found = np.full((summary.sizes[UNIT], len(channels)), np.nan)
    of = summary["channel"].values if "channel" in summary else np.full(len(found), "")
    for row, (channel, r) in enumerate(zip(of.tolist(), summary["correlation"].values, strict=True)):
        if not np.isnan(r):
            found[row, channels.index(channel)] = r
    _draw_colours(ax, found, [str(channel) for channel in channels], (-1.0, 0.0, 1.0), "Strongest correlation")
    ax.set_xlabel("Channel")
    if "lag" in summary and style.size_of(ax)[1] / len(found) >= _ROW:
        for row, column in zip(*np.nonzero(~np.isnan(found)), strict=True):
            ink = "white" if abs(found[row, column]) > 0.6 else _INK
            lag = f"{summary['lag'].values[row]:.0f}"
            ax.text(column, row, lag, color=ink, ha="center", va="center_baseline", fontsize="small")
        ax.set_xlabel("Channel (in it: lag in steps)")


def _draw_selectivity(ax: Axes, summary: xr.Dataset) -> None:
    """How well each class is told from the rest: 0.5 tells nothing."""
    told = summary["selectivity"].transpose(UNIT, LABEL)
    labels = told.coords[LABEL].values if LABEL in told.coords else range(told.sizes[LABEL])
    _draw_colours(ax, told.values, [str(label) for label in labels], (0.0, 0.5, 1.0), "Selectivity (AUROC)")
    ax.set_xlabel("Class")


def _draw_colours(ax: Axes, values: np.ndarray, names: list[str], ends: tuple[float, float, float], label: str) -> None:
    """Units by columns, the bar of colours above, where rows and columns have no names."""
    low, middle, high = ends
    cmap = style.color_scale(-1.0, 1.0)[0].with_extremes(bad=(0.0, 0.0, 0.0, 0.0))
    columns, rows = np.arange(len(names) + 1) - 0.5, np.arange(len(values) + 1) - 0.5
    norm = TwoSlopeNorm(middle, low, high)
    mesh = ax.pcolormesh(columns, rows, np.ma.masked_invalid(values), cmap=cmap, norm=norm, rasterized=values.size > 5000)
    above = ax.inset_axes((0.0, 1.0 + 6 / style.size_of(ax)[1], 1.0, 7 / style.size_of(ax)[1]))
    bar = ax.figure.colorbar(mesh, cax=above, orientation="horizontal", ticks=list(ends))
    bar.ax.xaxis.set_ticks_position("top")
    bar.ax.tick_params(labelsize="x-small", pad=1)
    bar.ax.set_title(label, fontsize="small", pad=3)
    upright = sum(map(len, names)) * 6.0 > style.size_of(ax)[0]
    ax.set_xticks(range(len(names)), names, rotation=90 if upright else 0, fontsize="small")


def _draw_gate(ax: Axes, summary: xr.Dataset, gate: str) -> None:
    """How often a gate is shut against how often it is open: a dot for each unit."""
    ax.plot([0.0, 1.0], [1.0, 0.0], color=style.MISSING, linewidth=0.8, zorder=0)
    ax.scatter(summary["left_saturated"], summary["right_saturated"], s=10, color=style.COLORS[0], alpha=0.6, linewidths=0.0, clip_on=False)
    ax.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0), xlabel="Shut (share of time)", ylabel="Open (share of time)")
    ax.set_aspect("equal")
    ax.tick_params(labelsize="small")
    ax.set_title(f"{STATE_NAMES.get(gate, 'Gate')} {gate}", fontsize="medium")


_PANELS: dict[str, Callable[[Axes, xr.Dataset], None]] = {
    "saturated": _draw_saturated,
    "half_life": _draw_half_life,
    "correlation": _draw_correlation,
    "selectivity": _draw_selectivity,
}
