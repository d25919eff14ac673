"""The mean attribution of each class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from seqscope import labelled
from seqscope.plot import style
from seqscope.plot.attribution_parts import Attribution, Channels, chosen, common_colour_bar, method_of, rows_of, scale_of
from seqscope.plot.attribution_samples import By, classes_of, samples_of
from seqscope.plot.attribution_styles import borders_of, draw_heatmap

_MOST_COLUMNS = 4


def class_attribution(
    a: Attribution,
    by: By | None = None,
    *,
    channels: Channels | None = None,
    limit: float | None = None,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> dict[Any, Axes]:
    """Draw the mean attribution of each class: a panel for each, channels by time, one range of colours for all.

    Sequences begin together. Where some have ended, the mean is that of the others: the late steps rest on the longest ones. Left of the
    dashed line at least half of a class's sequences are there.

    Parameters
    ----------
    a : DataArray or Dataset
        The attributions of many sequences, (sample, time, channel), (sample, time), or those of a layer; of class activation maps, `map`.
    by : str, sequence or DataArray, optional
        The class of each sample, or the name of a coordinate that has it; default: `label`, or else `target`.
    channels : str, int, list or slice, optional
        The channels to draw, by name. Default: all.
    limit : float, optional
        The mean at the end of the colours; default: the largest.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above.

    Returns
    -------
    dict of Axes
        By class, in their order.

    Raises
    ------
    DataError
        The attribution is that of one sequence or has no time, or the classes are not known or not as many as there are samples.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import seqscope as sq
    >>> values = np.random.default_rng(0).standard_normal((6, 20, 3))
    >>> a = xr.DataArray(values, dims=("sample", "time", "channel"), attrs={"method": "gradient"})
    >>> panels = sq.plot.class_attribution(a, by=["left", "right"] * 3)
    >>> list(panels), panels["left"].get_title()
    (['left', 'right'], 'left (n = 3)')
    """
    array, time = samples_of(a)
    array = array if channels is None else chosen(array, labelled.CHANNEL, channels)
    classes, numbers = classes_of(array, by)
    members = [array.isel({labelled.SAMPLE: numbers == number}) for number in range(len(classes))]
    means = [of_class.mean(labelled.SAMPLE, keep_attrs=True) for of_class in members]  # leaves NaN out
    scale = scale_of(means, limit)
    figure, axes, n_columns = _grid(figure, means)
    shades: list[QuadMesh] = []
    marks: list[Line2D | None] = []
    for ax, mean, of_class, name in zip(axes, means, members, classes, strict=True):
        shades.append(draw_heatmap(ax, mean, scale))
        style.time_axis(ax, mean, style.clock(mean, time))
        marks.append(_mark_half(ax, of_class, time))
        style.put_title(ax, f"{name} (n = {of_class.sizes[labelled.SAMPLE]})")
    for place, ax in enumerate(axes):
        ax.label_outer()
        ax.tick_params(labelbottom=place >= len(axes) - n_columns)  # the lowest of a column may stand in the row before the last
        ax.set_xlabel(style.label_of(array, style.clock(means[0], time)) if place >= len(axes) - n_columns else "")
    common_colour_bar(figure, axes, shades[0], f"Mean {method_of(array)}", scale.extend)
    mark = next((mark for mark in marks if mark is not None), None)
    if mark is not None:
        figure.legend(handles=[mark], loc="outside lower center", fontsize="small", frameon=False)
    if title is not None:
        figure.suptitle(title)
    return dict(zip(classes, axes, strict=True))


def _grid(figure: Figure | SubFigure | None, means: list[xr.DataArray]) -> tuple[Figure | SubFigure, list[Axes], int]:
    """A panel for each class with common axes, row by row; without channels one below the other, low ones."""
    number, dim = len(means), rows_of(means[0])
    n_columns = 1 if dim is None else min(_MOST_COLUMNS, math.ceil(math.sqrt(number)))
    n_rows = -(-number // n_columns)
    height = 0.75 if dim is None else max(1.8, 0.9 + 0.11 * means[0].sizes[dim])
    figure = style.new_figure(figure, (2.0 + (6.0 if n_columns == 1 else 3.0 * n_columns), min(14.0, 0.9 + height * n_rows)))
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    axes: list[Axes] = grid.ravel().tolist()
    for ax in axes[number:]:
        ax.remove()
    return figure, axes[:number], n_columns


def _mark_half(ax: Axes, of_class: xr.DataArray, time: str) -> Line2D | None:
    """A dashed line after the last step that at least half of the sequences have."""
    known = of_class.notnull()
    there = known.any([dim for dim in known.dims if dim not in (labelled.SAMPLE, time)]).sum(labelled.SAMPLE).values
    last = int(np.flatnonzero(2 * there >= of_class.sizes[labelled.SAMPLE])[-1])
    if last == int(np.flatnonzero(there)[-1]):
        return None
    mark: Line2D = ax.axvline(float(borders_of(of_class)[last + 1]), color="black", linewidth=1.0, linestyle="--")
    mark.set_label("Right of it, less than half of the sequences are left")
    return mark
