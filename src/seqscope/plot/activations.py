"""What goes in above what a layer makes of it, on one time axis."""

from __future__ import annotations

from typing import Literal

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.choice import Units, choose
from seqscope.plot.heatmap import checked_limits, heatmap
from seqscope.plot.series import as_lines, name_lines, series
from seqscope.plot.windows import mark_windows


def activations(
    x: xr.DataArray,
    a: xr.DataArray,
    *,
    unit: Units | None = None,
    figure: Figure | SubFigure | None = None,
    sort: Literal["peak", "cluster"] | None = None,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
) -> dict[str, Axes]:
    """Draw a sequence above what a layer makes of it, one time axis for both.

    A layer with steps of its own (convolution without padding, pooling) is drawn where in the input's time its steps lie: each cell
    over the middle of what its step sees, and a bracket above the panel for how far the first and the last step see. Where the array
    does not say (it has no coordinate `time` on `step`), the layer has an axis of its own.

    Parameters
    ----------
    x : DataArray (time, channel)
        The sequence.
    a : DataArray (time, unit) or (step, unit)
        What the layer puts out for it.
    unit : int, list of int, or slice, optional
        Draw these units (filters) as lines, by their labels; a slice leaves its end out, as in Python. Default: all, as a heatmap.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    sort, limits
        As in `heatmap`. With `unit`, limits are those of the y axis, and there is nothing to sort.
    title : str, optional
        What to write above.

    Returns
    -------
    dict of Axes
        "input" and "activations".

    Raises
    ------
    DataError
        One of the arrays is not one sequence, or the layer has no such unit.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X[0], "lstm")
    >>> sorted(sq.plot.activations(X[0], hidden, sort="peak"))
    ['activations', 'input']
    """
    if unit is not None and sort is not None:
        raise DataError("sort= orders the rows of a heatmap and unit= draws lines: leave one of them out.")
    sequence, time, _ = as_lines(x)
    layer, steps, units = as_lines(a)
    layer = layer if unit is None else choose(layer, units, unit)
    one_clock = have_one_clock(sequence.coords[style.clock(sequence, time)], layer.coords[style.clock(layer, steps)])
    figure = style.new_figure(figure, (8.0, 7.0))
    above, below = figure.subplots(2, 1, sharex=one_clock, height_ratios=[1.0, 1.8])
    series(sequence, ax=above)
    lasting = above.get_xlim()
    if unit is None:
        heatmap(layer, ax=below, sort=sort, limits=limits)
    else:
        _lines(layer, units, below, limits)
    if one_clock:
        above.set_xlabel("")
        below.set_xlim(*lasting)
        if steps != time:
            mark_windows(below, layer, steps, sequence.coords[style.clock(sequence, time)])
    if title is not None:
        style.put_title(above, title)
    return {"input": above, "activations": below}


def have_one_clock(of_input: xr.DataArray, of_layer: xr.DataArray) -> bool:
    """Whether both count the same time, and both in dates, in spans of time or in numbers."""
    one_kind = all((of_input.dtype.kind == kind) == (of_layer.dtype.kind == kind) for kind in "mM")
    return of_input.name == of_layer.name and one_kind


def _lines(layer: xr.DataArray, units: str, ax: Axes, limits: tuple[float, float] | None) -> None:
    """A line for each unit, named in the legend or, where there are many, on the axis."""
    word = style.unit_word(layer)
    named = layer.assign_coords({units: (units, [f"{word} {label}" for label in layer.coords[units].values])})
    series(named.assign_attrs(long_name="Activation"), ax=ax)
    if named.sizes[units] == 1:
        name_lines(ax)  # a line of its own in `series` needs no name; one unit of many does
    if limits is not None:
        ax.set_ylim(*checked_limits(limits))
