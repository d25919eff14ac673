"""The kernels of a convolution beside what they let through."""

from __future__ import annotations

from itertools import product

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from seqscope import labelled, spectrum
from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.choice import Units, choose

# The filters of one page, those that are drawn where none were chosen, and those that stand in one column.
MOST_FILTERS, FIRST_FILTERS, ONE_COLUMN = 24, 6, 8
# The most channels whose taps are drawn as lines; those of more are colours.
MOST_LINES = 4

_DIMS = (labelled.UNIT, labelled.TAP, labelled.CHANNEL)
ALL = "All channels (root of summed squares)"
_Panels = list[tuple[Axes, Axes]]


def filters(
    filters: xr.DataArray,
    *,
    units: Units | None = None,
    rate: float | None = None,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> dict[str, Axes]:
    """Draw the kernels of a convolution, each beside its frequency response.

    A kernel's taps are lines where it has few channels, else colours. Its response is the gain at each frequency, thin for each channel
    and thick for the root of their summed squares, which is the gain for channels that are independent. Taps that a dilation spreads
    stand that far apart.

    Parameters
    ----------
    filters : DataArray (unit, tap, channel)
        As `scope.filters` gives it.
    units : int, list of int, or slice, optional
        The filters to draw, by their labels, 24 at most; a slice leaves its end out, as in Python. Default: the first 6.
    rate : float, optional
        Steps per second of what the layer takes (after a pooling, fewer than those of the data); default: frequency counts cycles per
        step.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above.

    Returns
    -------
    dict of Axes
        "filter 3" and "response 3" for filter 3.

    Raises
    ------
    DataError
        The array holds no kernels, there are no such filters or more than a page holds, or the rate is no number above zero.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> kernels = sq.Scope(torch.nn.Conv1d(9, 128, kernel_size=7)).filters("conv1d")
    >>> sorted(sq.plot.filters(kernels, units=[3, 17], rate=50.0))
    ['filter 17', 'filter 3', 'response 17', 'response 3']
    """
    chosen = _chosen(filters, units)
    gain = spectrum.response(chosen, rate)
    figure, panels = _grid(figure, chosen.sizes[labelled.UNIT])
    if title is not None:
        figure.suptitle(title)
    _draw_taps(figure, panels, chosen)
    _draw_responses(figure, panels, gain)
    labels = chosen.coords[labelled.UNIT].values
    for (left, _), label in zip(panels, labels, strict=True):
        left.set_title(f"Filter {label}", fontsize="medium")
    kernels = {f"filter {label}": left for (left, _), label in zip(panels, labels, strict=True)}
    return kernels | {f"response {label}": right for (_, right), label in zip(panels, labels, strict=True)}


def _chosen(filters: xr.DataArray, units: Units | None) -> xr.DataArray:
    """The filters to draw, (unit, tap, channel)."""
    if not isinstance(filters, xr.DataArray) or not {labelled.TAP} <= set(filters.dims) <= set(_DIMS):
        what = f"an array with dims {filters.dims}" if isinstance(filters, xr.DataArray) else f"a {type(filters).__name__}"
        raise DataError(f"{what[0].upper()}{what[1:]} was given: expected kernels, (unit, tap, channel), as scope.filters('conv1') gives.")
    for dim in _DIMS:
        filters = filters if dim in filters.dims else filters.expand_dims(dim)
        filters = filters if dim in filters.coords else filters.assign_coords({dim: range(filters.sizes[dim])})
    filters = filters.transpose(*_DIMS).assign_attrs(kind=filters.attrs.get("kind", "conv1d"))
    filters = filters.isel(unit=slice(FIRST_FILTERS)) if units is None else choose(filters, labelled.UNIT, units)
    if filters.sizes[labelled.UNIT] > MOST_FILTERS:
        raise DataError(
            f"{filters.sizes[labelled.UNIT]} filters were asked for and a page holds {MOST_FILTERS}: choose some, as with "
            f"units=slice({MOST_FILTERS}) or units=[3, 17], and draw the others on pages of their own."
        )
    return filters


def _grid(figure: Figure | SubFigure | None, number: int) -> tuple[Figure | SubFigure, _Panels]:
    """Two panels for each filter, down the page and then in a second column, with common axes for all kernels and all responses."""
    n_columns = 1 if number <= ONE_COLUMN else 2
    n_rows = -(-number // n_columns)
    figure = style.new_figure(figure, (8.0, 1.2 + (1.3 if n_columns == 1 else 0.85) * n_rows))
    grid = figure.add_gridspec(n_rows, 2 * n_columns)
    panels: _Panels = []
    for column, row in list(product(range(n_columns), range(n_rows)))[:number]:
        shared = panels[0] if panels else (None, None)
        left, right = (figure.add_subplot(grid[row, 2 * column + side], sharex=shared[side], sharey=shared[side]) for side in (0, 1))
        panels.append((left, right))
    return figure, panels


def _label(panels: _Panels, side: int, x: str, y: str) -> None:
    """Name the axes: y at each panel, x at the lowest of each column."""
    n_rows = len(panels) if len(panels) <= ONE_COLUMN else -(-len(panels) // 2)
    for place, pair in enumerate(panels):
        is_lowest = place % n_rows == n_rows - 1 or place == len(panels) - 1
        pair[side].tick_params(labelsize="small", labelbottom=is_lowest)
        pair[side].set_ylabel(y, fontsize="small")
        if is_lowest:
            style.put_xlabel(pair[side], x)


def _draw_taps(figure: Figure | SubFigure, panels: _Panels, kernels: xr.DataArray) -> None:
    """The kernels themselves, all on one scale."""
    dilation = int(kernels.attrs.get("dilation", 1))
    taps, most = style.positions(kernels.coords[labelled.TAP]), float(np.abs(kernels.values).max()) or 1.0
    names = [str(name) for name in kernels.coords[labelled.CHANNEL].values]
    as_lines = len(names) <= MOST_LINES
    axes = [left for left, _ in panels]
    if as_lines:
        for ax, kernel in zip(axes, kernels.values, strict=True):
            ax.axhline(0.0, color=style.MISSING, linewidth=0.8, zorder=0)
            for values, name, color in zip(kernel.T, names, style.COLORS, strict=False):
                ax.plot(taps, values, color=color, label=name, linewidth=1.2, marker=".")
        axes[0].set_ylim(-1.1 * most, 1.1 * most)
    else:
        cmap, norm = style.color_scale(-most, most)
        columns, rows = style.edges(taps), np.arange(len(names) + 1) - 0.5
        meshes = [
            ax.pcolormesh(columns, rows, kernel.T, cmap=cmap, norm=norm, rasterized=kernels.size > 5000)
            for ax, kernel in zip(axes, kernels.values, strict=True)
        ]
        everywhere = [ax for pair in panels for ax in pair]
        figure.colorbar(meshes[0], ax=everywhere, label="Weight", shrink=min(1.0, 3 / len(panels)), aspect=20, pad=0.02)
        style.name_rows(axes[0], range(len(names)), names, small=True)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
    axes[0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    _label(panels, 0, "Tap" if dilation == 1 else f"Tap ({dilation} steps apart)", "Weight" if as_lines else "Channel")


def _draw_responses(figure: Figure | SubFigure, panels: _Panels, gain: xr.DataArray) -> None:
    """The gain at each frequency: thin for each channel, thick for the root of the summed squares."""
    frequency, names = gain.coords["frequency"].values, [str(name) for name in gain.coords[labelled.CHANNEL].values]
    few = len(names) <= MOST_LINES
    names = [f"Channel {name}" if name.isdigit() else name for name in names]
    for (_, ax), of_filter in zip(panels, gain.values, strict=True):
        for place, values in enumerate(of_filter.T if len(names) > 1 else ()):
            ax.plot(frequency, values, color=style.COLORS[place] if few else "#8C8C8C", linewidth=0.9 if few else 0.5, label=names[place])
        ax.plot(frequency, np.sqrt((of_filter**2).sum(axis=1)), color="black", linewidth=2.0, label=ALL)
    ax = panels[0][1]
    ax.set_xlim(0.0, frequency[-1])
    ax.set_ylim(0.0, 1.05 * (float(np.sqrt((gain.values**2).sum(axis=2)).max()) or 1.0))
    _label(panels, 1, style.label_of(gain, "frequency"), "Gain")
    if len(names) > 1:
        shown = ax.lines if few else [ax.lines[0], ax.lines[-1]]
        said = [*names, ALL] if few else ["Each channel", ALL]
        figure.legend(shown, said, loc="outside lower center", ncols=len(said), fontsize="small", frameon=False)
