"""What each step left in the memory at the end, below what goes in."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.choice import Units, choose
from seqscope.plot.heatmap import checked_limits, heatmap
from seqscope.plot.series import as_lines, series
from seqscope.plot.states import checked, on_one_time

WRITTEN, SHARE, INITIAL = "written", "share", "initial"

# The side panel of the initial state, in points: its width, the gap beside it, and how far below it its name stands, clear of the ticks of
# the panel beside it.
_WIDTH, _GAP, _DROP = 14.0, 6.0, 20.0
_UP, _DOWN = style.COLORS[1], style.COLORS[0]


def memory(
    x: xr.DataArray,
    memory: xr.Dataset,
    *,
    unit: Units | None = None,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
) -> dict[str, Axes]:
    """Draw what goes in above what each step left in the memory at the end, on one time axis.

    What was written is a heatmap of units by time. What is left of the initial state stands on its left, unless that is nothing. Shares in
    a logit are bars. A layer with steps of its own is drawn as in `activations`.

    Parameters
    ----------
    x : DataArray (time, channel)
        The sequence.
    memory : Dataset
        For one sequence and one layer: `written` (time, unit), what each step wrote into the cell state at the end, and `initial` (unit),
        what is left there of the initial state. Or `share` (time,), each step's share in a logit, and `initial` ().
    unit : int, list of int, or slice, optional
        The units to draw, by their labels; a slice leaves its end out, as in Python. Default: all.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above.
    limits : (low, high), optional
        The range of the colours, or of the bars, for pictures that are to be compared; default: the values' own, zero in the middle of the
        colours.

    Returns
    -------
    dict of Axes
        "input", "written" or "share", and "initial" where something is left of the initial state.

    Raises
    ------
    DataError
        The memory is not that of one sequence and one direction, or there are no such units.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> memory = sq.Scope(sq.zoo.japanese_vowels()).memory(X[0], "lstm")
    >>> list(sq.plot.memory(X[0], memory, unit=slice(10)))
    ['input', 'written']
    """
    sequence, time, _ = as_lines(x)
    layer, initial = _parts(checked(memory, "memory"), unit)
    limits = None if limits is None else checked_limits(limits)
    figure = style.new_figure(figure, (8.0, 7.0))
    above, below = figure.subplots(2, 1, height_ratios=[1.0, 1.8])
    series(sequence, ax=above)
    name = str(layer.name)
    shown = [layer] if initial is None else [layer, initial]
    if name == WRITTEN:
        limits = limits or _around_zero(shown)
        heatmap(layer, ax=below, limits=limits, colorbar="Share of the cell state")
    else:
        limits = limits or _from_zero(shown)
        _draw_shares(layer, below, limits)
    panels = {"input": above, name: below}
    if initial is not None:
        panels[INITIAL] = _draw_initial(initial, below, limits, as_colours=name == WRITTEN)
    on_one_time([above, below], sequence, time, layer)
    if title is not None:
        style.put_title(above, title)
    return panels


def _parts(memory: xr.Dataset, unit: Units | None) -> tuple[xr.DataArray, xr.DataArray | None]:
    """What was written, (time, unit), or the shares, (time, channel), and what is left of the initial state unless that is nothing."""
    name = next((name for name in (WRITTEN, SHARE) if name in memory), None)
    if name is None:
        raise DataError(
            f"The Dataset holds {', '.join(map(repr, memory)) or 'nothing'}: expected 'written' and 'initial', as "
            "scope.memory(X[0], 'lstm') gives them, or 'share' and 'initial'."
        )
    if name == SHARE and unit is not None:
        raise DataError("A share in the logit is that of all units: leave unit= out.")
    layer, _, dim = as_lines(memory[name].assign_attrs(memory.attrs | memory[name].attrs))
    initial = memory.get(INITIAL)
    if initial is not None and dim in initial.dims and dim not in initial.coords:
        initial = initial.assign_coords({dim: layer.coords[dim]})
    if unit is not None:
        layer = choose(layer, dim, unit)
        initial = None if initial is None else choose(initial, dim, unit)
    return layer, initial if initial is not None and bool(initial.fillna(0.0).any()) else None


def _around_zero(arrays: list[xr.DataArray]) -> tuple[float, float]:
    """The range of colours with zero in the middle."""
    most = max(float(abs(array).max()) for array in arrays) or 1.0
    return -most, most


def _from_zero(arrays: list[xr.DataArray]) -> tuple[float, float]:
    """The range of bars, with a little room beyond the longest."""
    low, high = min(0.0, *(float(array.min()) for array in arrays)), max(0.0, *(float(array.max()) for array in arrays))
    room = 0.05 * (high - low) or 1.0
    return low - room * (low < 0 or high == 0), high + room * (high > 0 or low == 0)


def _draw_shares(share: xr.DataArray, ax: Axes, limits: tuple[float, float]) -> None:
    """A bar for each step, as wide as the step."""
    time = style.clock(share, str(share.dims[0]))
    borders = style.edges(style.positions(share.coords[time]))
    values, widths = share.values[:, 0], np.diff(borders)
    ax.bar(borders[:-1] + 0.05 * widths, values, width=0.9 * widths, align="edge", color=_colors(values))
    ax.axhline(0.0, color="black", linewidth=0.8)
    style.time_axis(ax, share, time)
    ax.set_ylim(*limits)
    style.put_ylabel(ax, "Share", "in the logit")


def _draw_initial(initial: xr.DataArray, beside: Axes, limits: tuple[float, float], *, as_colours: bool) -> Axes:
    """What is left of the initial state, left of a panel and on its y axis, which moves there."""
    width = style.size_of(beside)[0]
    ax = beside.inset_axes((-(_WIDTH + _GAP) / width, 0.0, _WIDTH / width, 1.0), sharey=beside)
    values = np.atleast_1d(initial.values)
    if as_colours:
        cmap, norm = style.color_scale(*limits)
        ax.pcolormesh([0.0, 1.0], np.arange(len(values) + 1) - 0.5, np.ma.masked_invalid(values[:, None]), cmap=cmap, norm=norm)
    else:
        ax.bar([0.5], values, width=0.9, color=_colors(values))
        ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set_xlim(0.0, 1.0)
    ax.set_ylim(*beside.get_ylim())
    ax.set_xticks([])
    ax.set_xlabel("Initial state", fontsize="small", x=1.0, ha="right", labelpad=_DROP)
    ax.set_ylabel(beside.get_ylabel())
    ax.tick_params(axis="y", labelsize="small")
    beside.set_ylabel("")
    beside.tick_params(axis="y", labelleft=False, left=False)
    return ax


def _colors(values: np.ndarray) -> list[str]:
    """A colour for what speaks for the class, and one for what speaks against it."""
    return [_UP if value > 0 else _DOWN for value in values]
