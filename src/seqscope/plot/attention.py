"""Attention weights: a panel for each head."""

from __future__ import annotations

import math

import matplotlib.dates as mdates
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.labelled import HEAD, KEY, QUERY
from seqscope.plot import style
from seqscope.plot.choice import Units, choose

_MOST_COLUMNS = 4


def attention(
    weights: xr.DataArray,
    *,
    head: Units | None = None,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> dict[int, Axes]:
    """Draw attention weights: a panel for each head, keys across and queries down, the first on top, one range of colours for all.

    Parameters
    ----------
    weights : DataArray (head, query, key) or (query, key)
        Those of one sequence, as `scope.attention(X[0], "encoder.attn")` gives them.
    head : int, list of int, or slice, optional
        The heads to draw, by their labels; a slice leaves its end out, as in Python. Default: all.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above.

    Returns
    -------
    dict of Axes
        By head; without a dim `head`, the one panel is 0.

    Raises
    ------
    DataError
        The array holds no attention weights of one sequence, or there is no such head.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> layer = torch.nn.TransformerEncoderLayer(12, nhead=2, dim_feedforward=16, batch_first=True)
    >>> panels = sq.plot.attention(sq.Scope(layer).attention(X[0], "self_attn"))
    >>> list(panels), panels[0].get_xlabel()
    ([0, 1], 'Key (Time Step)')
    """
    weights = _chosen(weights, head)
    heads = weights.coords[HEAD].values.tolist()
    n_columns = min(_MOST_COLUMNS, math.ceil(math.sqrt(len(heads))))
    n_rows = -(-len(heads) // n_columns)
    figure = style.new_figure(figure, (1.6 + 2.6 * n_columns, 1.0 + 2.4 * n_rows) if len(heads) > 1 else (6.4, 5.2))
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    axes: list[Axes] = grid.ravel().tolist()
    for ax in axes[len(heads) :]:
        ax.remove()
    axes = axes[: len(heads)]
    norm = Normalize(0.0, float(weights.max()) or 1.0)
    for ax, of_head, label in zip(axes, weights, heads, strict=True):
        _draw_head(ax, of_head, norm)
        if len(heads) > 1 or head is not None:
            ax.set_title(f"Head {label}", fontsize="medium")
    _label(grid[:, 0].tolist(), axes[-n_columns:], weights)
    figure.colorbar(axes[0].collections[0], ax=axes, label="Attention weight", aspect=20 * n_rows, pad=0.02)
    if title is not None:
        figure.suptitle(title)
    return dict(zip(heads, axes, strict=True))


def _chosen(weights: xr.DataArray, head: Units | None) -> xr.DataArray:
    """The weights to draw, (head, query, key), without padding."""
    if not isinstance(weights, xr.DataArray) or not {QUERY, KEY} <= set(weights.dims):
        what = f"An array with dims {weights.dims}" if isinstance(weights, xr.DataArray) else f"A {type(weights).__name__}"
        raise DataError(f"{what} was given: expected attention weights, (head, query, key), as scope.attention(X[0], 'attn') gives them.")
    more = [str(dim) for dim in weights.dims if dim not in (HEAD, QUERY, KEY)]
    if more:
        raise DataError(
            f"The attention weights of one sequence are drawn, (head, query, key), and the array has dims {weights.dims}: choose one, as "
            f"with .isel({more[0]}=0)."
        )
    weights = weights if HEAD in weights.dims else weights.expand_dims(HEAD)
    for dim in (HEAD, QUERY, KEY):
        weights = weights if dim in weights.coords else weights.assign_coords({dim: range(weights.sizes[dim])})
    weights = weights if head is None else _of_heads(weights, head)
    return _without_padding(weights.transpose(HEAD, QUERY, KEY))


def _of_heads(weights: xr.DataArray, head: Units) -> xr.DataArray:
    try:
        return choose(weights, HEAD, head)
    except DataError as error:
        raise DataError(error.message.replace("no unit", "no head", 1)) from None


def _without_padding(weights: xr.DataArray) -> xr.DataArray:
    """Cut off the queries and keys at the end that hold nothing; those between stay, so that the steps keep their places."""
    known = weights.notnull()
    if not bool(known.any()):
        raise DataError("The attention weights are all NaN: there is nothing to draw.")
    lengths = {
        dim: int(np.flatnonzero(known.any([other for other in weights.dims if other != dim]).values)[-1]) + 1 for dim in (QUERY, KEY)
    }
    return weights.isel({dim: slice(length) for dim, length in lengths.items()})


def _draw_head(ax: Axes, weights: xr.DataArray, norm: Normalize) -> None:
    """One head's weights as colours."""
    columns, rows = (style.edges(style.positions(weights.coords[dim])) for dim in (KEY, QUERY))
    cmap = style.color_scale(0.0, 1.0)[0]
    ax.pcolormesh(columns, rows, np.ma.masked_invalid(weights.values), cmap=cmap, norm=norm, rasterized=weights.size > 5000)
    ax.set_ylim(rows[-1], rows[0])


def _label(left: list[Axes], lowest: list[Axes], weights: xr.DataArray) -> None:
    """Name the axes at the edges of the grid. The lowest panel of a column may stand in the row before the last."""
    style.time_axis(lowest[0], weights, KEY)
    _time_down(lowest[0], weights.coords[QUERY])
    for ax in left:
        style.put_ylabel(ax, "Query", f"({_counted_in(weights, QUERY)})")
    for ax in lowest:
        ax.tick_params(labelbottom=True)
        style.put_xlabel(ax, f"Key ({_counted_in(weights, KEY)})")


def _time_down(ax: Axes, coordinate: xr.DataArray) -> None:
    """Ticks of the y axis, as `style.time_axis` sets those of the x axis."""
    if coordinate.dtype.kind == "M":
        locator = mdates.AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        ax.yaxis.set_major_locator(locator)
        ax.yaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    elif coordinate.dtype.kind in "iu":
        ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _counted_in(weights: xr.DataArray, dim: str) -> str:
    """What queries or keys count: time steps, unless they say otherwise."""
    name = style.label_of(weights, dim)
    return labelled.LONG_NAMES[labelled.TIME] if name.lower() == dim else name.replace(" (", ", ").replace(")", "")
