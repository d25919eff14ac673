"""What goes in above what a layer makes of it, on one time axis."""

from __future__ import annotations

from typing import Literal

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from seqscope.plot import style
from seqscope.plot.heatmap import heatmap
from seqscope.plot.series import as_lines, series


def activations(
    x: xr.DataArray,
    a: xr.DataArray,
    *,
    figure: Figure | SubFigure | None = None,
    sort: Literal["peak", "cluster"] | None = None,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
) -> dict[str, Axes]:
    """Draw a sequence above the units of a layer, one time axis for both; a layer with steps of its own has an axis of its own.

    Parameters
    ----------
    x : DataArray (time, channel)
        The sequence.
    a : DataArray (time, unit)
        What the layer puts out for it.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    sort, limits
        As in `heatmap`.
    title : str, optional
        What to write above.

    Returns
    -------
    dict of Axes
        "input" and "activations".

    Raises
    ------
    DataError
        One of the arrays is not one sequence.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X[0], "lstm")
    >>> sorted(sq.plot.activations(X[0], hidden, sort="peak"))
    ['activations', 'input']
    """
    figure = style.new_figure(figure, (8.0, 7.0))
    one_clock = as_lines(x)[1] == as_lines(a)[1]  # a layer with steps of its own gets an axis of its own
    above, below = figure.subplots(2, 1, sharex=one_clock, height_ratios=[1.0, 1.8])
    series(x, ax=above)
    heatmap(a, ax=below, sort=sort, limits=limits)
    if one_clock:
        above.set_xlabel("")
        above.set_xlim(*below.get_xlim())
    if title is not None:
        above.set_title(title)
    return {"input": above, "activations": below}
