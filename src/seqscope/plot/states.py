"""The gates, the memory cell and the hidden state of a recurrent layer, below what goes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.activations import have_one_clock
from seqscope.plot.choice import Units, choose
from seqscope.plot.series import MOST_OVERLAID, as_lines, name_lines, series
from seqscope.plot.windows import mark_windows

# From top to bottom: the gates first, then what they let through.
NAMES = {
    "i": "Input gate",
    "f": "Forget gate",
    "r": "Reset gate",
    "z": "Update gate",
    "g": "Candidate",
    "n": "Candidate",
    "o": "Output gate",
    "a": "Pre-activation",
    "c": "Cell state",
    "h": "Hidden state",
}
GATES = ("i", "f", "o", "r", "z")
FIRST_UNITS = 3

_WORDS = {labelled.UNIT: "Unit", labelled.PROJECTION: "Projection"}
_INK = "#000000"
# A panel lower than this, in points, has small ticks and its state's letter alone; the most names on a line below all panels.
_LOW, _MOST_ACROSS = 30.0, 4
# What a gate's axis leaves beyond 0 and 1, so that a gate that stands open or shut is seen.
_MARGIN = 0.05


def states(
    x: xr.DataArray,
    states: xr.Dataset,
    *,
    unit: Units | None = None,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> dict[str, Axes]:
    """Draw what goes in above the gates, the cell and the hidden state of some units, all on one time axis.

    The gates of one unit share a panel. Of several units, each gate has a panel of its own with a line for each unit. The axes of gates
    go from 0 to 1. A layer with steps of its own is drawn as in `activations`.

    Parameters
    ----------
    x : DataArray (time, channel)
        The sequence.
    states : Dataset
        What `scope.states` gives for one sequence and one layer, each variable (time, unit) or (step, unit): h, c, i, f, g, o of an LSTM,
        h, r, z, n of a GRU, h, a of an RNN. The h of a projected LSTM, (time, projection), is drawn at the positions that were asked for.
    unit : int, list of int, or slice, optional
        The units to draw, by their labels, 16 at most; a slice leaves its end out, as in Python. Default: the first 3.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above.

    Returns
    -------
    dict of Axes
        "input" and the names of the states, as in "f" and "c"; of one unit, "gates" in place of the gates' names.

    Raises
    ------
    DataError
        The states are not those of one sequence and one direction, or there are no such units or more than a panel holds.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> states = sq.Scope(sq.zoo.japanese_vowels()).states(X[0], "lstm")
    >>> list(sq.plot.states(X[0], states, unit=17))
    ['input', 'gates', 'g', 'c', 'h']
    """
    sequence, time, _ = as_lines(x)
    lines, left_out = _chosen(checked(states, "states"), slice(FIRST_UNITS) if unit is None else unit)
    layer = next(iter(lines.values()))
    alone = layer.shape[1] == 1
    gates = [name for name in lines if name in GATES] if alone else []
    names = ["input", *(["gates"] if gates else []), *(name for name in lines if name not in gates)]
    heights = [1.4 if name in ("input", "gates") else 1.0 for name in names]
    figure = style.new_figure(figure, (8.0, 0.9 + 1.15 * sum(heights)))
    axes = figure.subplots(len(names), 1, height_ratios=heights)
    panels: dict[str, Axes] = dict(zip(names, np.atleast_1d(axes), strict=True))
    series(sequence, ax=panels["input"])
    if gates:
        _draw_gates([lines[name] for name in gates], gates, panels["gates"])
    for name in [name for name in lines if name not in gates]:
        _draw_state(lines[name], name, panels[name], alone=alone)
    _name_lines(figure, panels, lines, gates)
    _mark_zero([panels[name] for name in lines if name not in GATES])
    _shrink(panels)
    on_one_time(list(panels.values()), sequence, time, layer)
    if left_out:
        figure.supxlabel(left_out, fontsize="small", wrap=True)
    if title is not None:
        style.put_title(panels["input"], title)
    return panels


def checked(dataset: xr.Dataset, verb: str) -> xr.Dataset:
    """What a verb gave for one sequence, one layer and one direction.

    Raises
    ------
    DataError
        It is something else.
    """
    if isinstance(dataset, xr.DataTree) and dataset.children:
        layers = ", ".join(f"'{name}'" for name in dataset.children)
        raise DataError(
            f"A DataTree of the layers {layers} was given to draw: choose one, as with scope.{verb}(X[0], {layers.split(',')[0]})."
        )
    if not isinstance(dataset, xr.Dataset):
        raise DataError(f"A {type(dataset).__name__} was given to draw: expected a Dataset, as scope.{verb}(X[0], 'lstm') gives it.")
    if labelled.SAMPLE in dataset.dims:
        raise DataError(
            f"{dataset.sizes[labelled.SAMPLE]} sequences were given and one is drawn: choose it, as with scope.{verb}(X[0], 'lstm') or "
            ".isel(sample=0)."
        )
    if labelled.DIRECTION in dataset.dims:
        raise DataError('The layer reads the sequence both ways and one is drawn: choose it with .sel(direction="forward").')
    return dataset


def on_one_time(axes: list[Axes], sequence: xr.DataArray, time: str, layer: xr.DataArray) -> None:
    """Give panels, the input on top, one time axis, labelled below the lowest.

    A layer whose own steps have no place in the input's time has an axis of its own.
    """
    steps = str(layer.dims[0])
    stamps = sequence.coords[style.clock(sequence, time)]
    one_clock = have_one_clock(stamps, layer.coords[style.clock(layer, steps)])
    together = axes if one_clock else axes[1:]
    for ax in together[1:]:
        ax.sharex(together[0])
    for ax in together[:-1]:
        ax.label_outer()
    if one_clock and steps != time:
        mark_windows(axes[1], layer, steps, stamps)


def _chosen(states: xr.Dataset, unit: Units) -> tuple[dict[str, xr.DataArray], str]:
    """The lines of each state, from top to bottom, and why the hidden state is left out, if it is."""
    there = [name for name in NAMES if name in states]
    if not there:
        held = ", ".join(map(repr, states)) or "nothing"
        raise DataError(
            f"The Dataset holds {held}: expected the states of a layer (h, c, i, f, g, o), as scope.states(X[0], 'lstm') gives them."
        )
    arrays = {name: states[name].assign_attrs(states.attrs | states[name].attrs) for name in there}
    projected = {name: array for name, array in arrays.items() if labelled.PROJECTION in array.dims}
    lasting, clock, _ = as_lines(arrays[there[-1]])
    lines = {name: _of_units(array, unit, lasting.coords[clock]) for name, array in arrays.items() if name not in projected}
    labels = next(iter(lines.values())).coords[labelled.UNIT].values.tolist() if lines else []
    if len(labels) > MOST_OVERLAID:
        raise DataError(
            f"{len(labels)} units were asked for and a panel holds {MOST_OVERLAID}: choose some, as with unit=slice({MOST_OVERLAID}) or "
            "unit=[3, 17], or draw one state of all units, as with plot.heatmap(states['h'])."
        )
    left_out = ""
    for name, array in projected.items():
        whole, _, dim = as_lines(array)
        kept = [label for label in labels if label in whole.coords[dim].values] if labels else unit
        if labels and not kept:
            left_out = f"{NAMES[name]} {name} is left out: it is projected to {whole.sizes[dim]} values, with none at the units drawn."
        else:
            lines[name] = choose(whole, dim, kept)
    return lines, left_out


def _of_units(array: xr.DataArray, unit: Units, times: xr.DataArray) -> xr.DataArray:
    """The values of some units, (time, unit), at all these times: a gate has none where a mask leaves a step out."""
    whole, clock, dim = as_lines(array)
    if whole.sizes[clock] != times.size:
        whole = array.sel({clock: times.values}).transpose(clock, dim).assign_coords({dim: whole.coords[dim]})
    return choose(whole, dim, unit)


def _draw_gates(gates: list[xr.DataArray], names: list[str], ax: Axes) -> None:
    """The gates of one unit in one panel."""
    unit = str(gates[0].dims[1])
    together = xr.concat([gate.isel({unit: 0}, drop=True) for gate in gates], "gate", coords="minimal", compat="override")
    looks = [{"color": color, "linestyle": line} for color, line in zip(style.COLORS, style.LINES, strict=False)]
    _plot(together.transpose(..., "gate"), [f"{NAMES[name]} {name}" for name in names], looks, ax)
    ax.set_ylabel("Gates", rotation=0, ha="right", va="center")
    _from_zero_to_one(ax, together)


def _draw_state(array: xr.DataArray, name: str, ax: Axes, *, alone: bool) -> None:
    """One state: a line for each unit."""
    dim = str(array.dims[1])
    looks = [{"color": _INK}] if alone else style.line_styles(array.sizes[dim])  # of one unit, the colours are the gates'
    _plot(array, [f"{_WORDS.get(dim, dim)} {label}" for label in array.coords[dim].values], looks, ax)
    said = name if _is_low(ax) else f"{NAMES[name]} {name}".replace(" ", "\n", 1)
    ax.set_ylabel(said, rotation=0, ha="right", va="center")
    if name in GATES:
        _from_zero_to_one(ax, array)


def _plot(array: xr.DataArray, names: list[str], looks: list[dict[str, Any]], ax: Axes) -> None:
    """Lines as those of `series`, but with gaps where there is no value."""
    time = style.clock(array, str(array.dims[0]))
    times = style.positions(array.coords[time])
    marker = "." if len(times) == 1 else None
    for values, name, look in zip(array.values.T, names, looks, strict=False):
        ax.plot(times, values, label=name, linewidth=1.2, marker=marker, **look)
    style.time_axis(ax, array, time)


def _is_low(ax: Axes) -> bool:
    """Whether a panel has no room for a name and ticks of the usual size, nor for a legend beside it."""
    return style.size_of(ax)[1] < _LOW


def _from_zero_to_one(ax: Axes, gates: xr.DataArray) -> None:
    """The y axis of gates, the same in every picture, unless a gate of another kind goes beyond."""
    low, high = min(0.0, float(gates.min())), max(1.0, float(gates.max()))
    ax.set_ylim(low - _MARGIN, high + _MARGIN)


def _name_lines(figure: Figure | SubFigure, panels: dict[str, Axes], lines: dict[str, xr.DataArray], gates: list[str]) -> None:
    """Say once which units are drawn, and again where a panel's lines are projections: beside the panel or, if it is low, below all."""
    first: dict[str, Axes] = {}
    for name, array in lines.items():
        first.setdefault(str(array.dims[1]), panels["gates" if name in gates else name])
    legends: list[Legend | None] = []
    if any(_is_low(ax) for ax in first.values()):
        handles = [line for ax in first.values() for line in ax.lines]
        across = min(len(handles), _MOST_ACROSS)
        legends.append(figure.legend(handles=handles, loc="outside lower center", ncols=across, fontsize="small", frameon=False))
    else:
        for ax in first.values():
            name_lines(ax)
        legends += [ax.get_legend() for ax in first.values()]
    if gates and legends[0] is not None:
        legends[0].set_title(f"Unit {lines[gates[0]].coords[labelled.UNIT].values[0]}", FontProperties(size="small"))
        legends[0].set_alignment("left")


def _mark_zero(axes: list[Axes]) -> None:
    """A faint line at zero, where the axis goes beyond it."""
    for ax in axes:
        if ax.get_ylim()[0] < 0 < ax.get_ylim()[1]:
            ax.axhline(0.0, color=style.MISSING, linewidth=0.8, zorder=0)


def _shrink(panels: dict[str, Axes]) -> None:
    """Few and small ticks on low panels, and no label on the input's axis, which would touch the one below."""
    for name, ax in panels.items():
        if _is_low(ax):
            ax.tick_params(axis="y", labelsize="xx-small")
            ax.set_ylabel("" if name == "input" else ax.get_ylabel())
            if name != "input":
                ax.yaxis.set_major_locator(MaxNLocator(2, min_n_ticks=1, steps=[1, 2, 5, 10]))
