"""Units by time as colours."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from seqscope import units
from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.series import as_lines


def heatmap(
    a: xr.DataArray,
    *,
    ax: Axes | None = None,
    sort: Literal["peak", "cluster"] | None = None,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    colorbar: str | None = "Activation",
) -> Axes:
    """Draw one sequence's values: a row for each unit, the first on top.

    Signed values get diverging colours centred on zero, others sequential ones; what is missing is grey.

    Parameters
    ----------
    a : DataArray (time, unit)
        As `activations(X[0], "lstm")` gives it; any second dim will do. A layer's own steps (step, unit) are drawn where in the
        input's time they lie, if their coordinate `time` says so, else by number.
    ax : Axes, optional
        Where to draw; default: a new figure.
    sort : {"peak", "cluster"}, optional
        Sort the units by the time of their peak, or so that neighbours do alike (`units.order`); default: as they are.
    limits : (low, high), optional
        The range of the colours, for panels that are to be compared; default: the values' own.
    title : str, optional
        What to write above.
    colorbar : str or None
        The name on the colour bar; None: no bar.

    Returns
    -------
    Axes
        x: time, in the data's units; y: units.

    Raises
    ------
    DataError
        The array is not one sequence.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X[0], "lstm")
    >>> ax = sq.plot.heatmap(hidden.isel(unit=slice(10)), title="LSTM Activations")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Time Step', 'Hidden Unit')
    """
    array, dim, unit = as_lines(a)
    time = style.clock(array, dim)
    if sort is not None:
        array = array.isel({unit: units.order(array, sort)})
    ax = style.new_axes(ax, (8.0, 4.5))
    cmap, norm = style.color_scale(*(style.limits([array]) if limits is None else checked_limits(limits)))
    times = style.edges(style.positions(array.coords[time]))
    rows = np.arange(array.sizes[unit] + 1) - 0.5
    mesh = ax.pcolormesh(times, rows, np.ma.masked_invalid(array.values.T), cmap=cmap, norm=norm, rasterized=array.size > 5000)
    style.time_axis(ax, array, time)
    _label_rows(ax, array, unit, sort)
    if colorbar is not None:
        width = max(0.025, 7.0 / style.size_of(ax)[0])
        beside = ax.inset_axes((1.02, 0.0, width, 1.0))  # close to its panel, whatever stands beside the panels above
        ax.figure.colorbar(mesh, cax=beside, label=colorbar)
    if title is not None:
        style.put_title(ax, title)
    return ax


def checked_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """The range that a person gave, or a sentence on what is wrong with it."""
    if not isinstance(limits, list | tuple) or len(limits) != 2 or not limits[0] < limits[1]:
        raise DataError(f"The limits are {limits!r}: expected (low, high), the low one first.")
    return float(limits[0]), float(limits[1])


def _label_rows(ax: Axes, array: xr.DataArray, unit: str, sort: str | None) -> None:
    """Name the rows and say how they are sorted."""
    names = [str(name) for name in array.coords[unit].values]
    style.name_rows(ax, range(len(names)), names, small=len(names) > 12)
    ax.set_ylim(len(names) - 0.5, -0.5)
    how = {"peak": "by time of peak", "cluster": "by likeness"}.get(sort or "", "")
    style.put_ylabel(ax, style.label_of(array, unit), how, between=", " if how else "")
