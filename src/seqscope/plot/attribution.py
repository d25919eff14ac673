"""Which steps and channels of a sequence a decision rests on: one attribution, or several methods side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.plot import style as look
from seqscope.plot.attribution_parts import (
    CLOCKS,
    Attribution,
    Channels,
    Scale,
    beside,
    colour_bar,
    common_colour_bar,
    method_of,
    name_above,
    one_of,
    put_title,
    scale_of,
    sequence_of,
    title_of,
)
from seqscope.plot.attribution_styles import STYLES, Drawn, is_summed, name_lines_beside, outline_field, shown
from seqscope.plot.series import MOST_OVERLAID

Style = Literal["lanes", "overlay", "heatmap", "bars"]
# The most panels in one row, in each of several, and the most names in a row below all panels.
_MOST_ALONE, _MOST_COLUMNS, _MOST_ACROSS = 3, 4, 6


def attribution(
    x: xr.DataArray,
    a: Attribution,
    *,
    style: Style | None = None,
    field: int | None = None,
    channels: Channels | None = None,
    limit: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a sequence with what each of its steps and channels contributes to a score.

    Colours are symmetric about zero, red for positive values and blue for negative ones; those of a method without a sign begin at zero.
    A step that has no attribution has no colour (in a heatmap it is grey).

    Parameters
    ----------
    x : DataArray (time, channel)
        The sequence, as `X[0]` gives it.
    a : DataArray or Dataset
        Its attribution, as `scope.attribute(X[0], method)` gives it: (time, channel); (time), which shades all channels alike; (channel); a
        class activation map, of which `map` is drawn; or that of a layer, (time, unit) or (step, unit).
    style : {"lanes", "overlay", "heatmap", "bars"}, optional
        "lanes" (default): each channel as a line on a lane of its own, shaded by its attribution. "overlay": all lines on one scale,
        shaded by the sum over channels. "heatmap": channels by time as colours. "bars": the sum over channels at each step, positive and
        negative parts apart; (channel) is always drawn as bars, one for each channel. A layer's units are summed except in a heatmap.
    field : int, optional
        Outline what this step of the layer sees of the input, where the array says so (`time_start`, `time_end`).
    channels : str, int, list or slice, optional
        The channels to draw, by name; sums are over these. Default: all.
    limit : float, optional
        The attribution at the end of the colours or bars, for pictures that are to be compared; default: the largest drawn.
    title : str, optional
        What to write above; default: the method, the target, the prediction and the score. "": nothing.
    ax : Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    Axes
        x: time, in the data's units.

    Raises
    ------
    DataError
        The attribution is not that of this one sequence, or there is no such style, channel or step of the layer.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> saliency = abs(X[0]).assign_attrs(method="gradient", score="logit")  # scope.attribute(X[0], "gradient")
    >>> ax = sq.plot.attribution(X[0], saliency)
    >>> ax.get_xlabel(), len(ax.lines), ax.child_axes[0].get_ylabel()
    ('Time Step', 12, 'gradient of the logit')
    """
    sequence = sequence_of(x, channels)
    array = beside(sequence, a, channels)
    how = _style_for([array], style)
    scale = scale_of(shown(how, array), limit)
    ax = look.new_axes(ax, _size(how, sequence, array))
    drawn = STYLES[how](ax, sequence, array, scale)
    bar = _name_values(ax, drawn, scale, _value_name(how, array))
    above = drawn.above
    if field is not None:
        if how == "bars" and not set(array.dims) & set(CLOCKS):
            raise DataError("field= outlines steps and the attribution is that of each channel as a whole: leave field= out.")
        above = (*above, outline_field(ax, a, field, sequence))
    _name(ax, above, bar, lines=how == "overlay")
    put_title(ax, title_of(array) if title is None else title, named_above=bool(above))
    return ax


def compare_attributions(
    x: xr.DataArray,
    attributions: Mapping[str, Attribution] | Iterable[Attribution],
    *,
    style: Style | None = None,
    normalize: bool = True,
    channels: Channels | None = None,
    limit: float | None = None,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> dict[str, Axes]:
    """Draw what several methods say of one sequence side by side, one range of colours for all.

    Parameters
    ----------
    x : DataArray (time, channel)
        The sequence.
    attributions : dict of DataArray or Dataset, or a list of them
        By the name to write above each. Those of a list are named by their attribute `method`.
    style, channels
        As in `attribution`.
    normalize : bool
        Divide each by its largest value drawn, since methods count in units of their own. False: as they are.
    limit : float, optional
        The value at the end of the colours or bars; default: the largest drawn, so 1 with `normalize`.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above all; default: the target, the prediction and the score, where all have the same. "": nothing.

    Returns
    -------
    dict of Axes
        By name.

    Raises
    ------
    DataError
        As in `attribution`; or there is nothing to compare, or a list's methods have no names or the same.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> panels = sq.plot.compare_attributions(X[0], {"gradient": X[0], "gradient x input": X[0] ** 2}, style="heatmap")
    >>> list(panels)
    ['gradient', 'gradient x input']
    """
    sequence = sequence_of(x, channels)
    arrays = {name: beside(sequence, one, channels) for name, one in _named(attributions).items()}
    how = _style_for(list(arrays.values()), style)
    if normalize:
        arrays = {name: (array / _largest(how, array)).assign_attrs(array.attrs) for name, array in arrays.items()}
    scale = scale_of([part for array in arrays.values() for part in shown(how, array)], limit)
    n_columns = len(arrays) if len(arrays) <= _MOST_ALONE else min(_MOST_COLUMNS, math.ceil(math.sqrt(len(arrays))))
    figure, axes = _grid(figure, len(arrays), n_columns, _size(how, sequence, next(iter(arrays.values()))))
    drawn = [STYLES[how](ax, sequence, array, scale) for ax, array in zip(axes, arrays.values(), strict=True)]
    label = _common_name(how, list(arrays.values()), normalize=normalize)
    if drawn[0].shades is not None:
        common_colour_bar(figure, axes, drawn[0].shades, label, scale.extend)
    _label_panels(figure, axes, drawn, label, n_columns, lines=how == "overlay")
    for ax, title_here in zip(axes, _panel_titles(arrays), strict=True):
        put_title(ax, title_here, named_above=False)
    said = _common_title(list(arrays.values())) if title is None else title
    if said:
        figure.suptitle(said)
    return dict(zip(arrays, axes, strict=True))


# One panel


def _style_for(arrays: list[xr.DataArray], style: str | None) -> str:
    """The style that was asked for, or the one that suits: without time there are only bars."""
    timeless = [not set(array.dims) & set(CLOCKS) for array in arrays]
    if any(timeless) and not all(timeless):
        raise DataError("Some of the attributions are those of time steps and some of whole channels: draw them apart.")
    how = one_of("style", style or ("bars" if timeless[0] else "lanes"), STYLES)
    if timeless[0] and how != "bars":
        raise DataError(f"The attribution has dims {arrays[0].dims} and no time, which style={how!r} needs: leave style= out, for bars.")
    return how


def _size(how: str, sequence: xr.DataArray, array: xr.DataArray) -> tuple[float, float]:
    """The size of a new figure for one panel: higher for many lanes or rows."""
    rows = array if how == "heatmap" else sequence
    dim = next((str(dim) for dim in rows.dims if dim not in CLOCKS), None)
    timeless = not set(array.dims) & set(CLOCKS)
    n_rows = rows.sizes[dim] if dim is not None else 1
    if how == "lanes":
        return 8.0, min(12.0, max(3.2, 1.0 + 0.32 * n_rows))
    if how == "heatmap" or timeless:
        return 8.0, min(12.0, max(2.0 if n_rows == 1 else 3.2, 1.2 + 0.22 * n_rows))
    return (10.0 if how == "overlay" and 1 < n_rows <= MOST_OVERLAID else 8.0), 4.0


def _value_name(how: str, array: xr.DataArray) -> str:
    """What the colours or the bars stand for."""
    return method_of(array) + (_sum_name(array) if is_summed(how, array) else "")


def _sum_name(array: xr.DataArray) -> str:
    return f", sum over {'channels' if labelled.CHANNEL in array.dims else 'units'}"


def _name_values(ax: Axes, drawn: Drawn, scale: Scale, name: str) -> Axes | None:
    """Say what the colours stand for, or the bars: these on the axis along which they grow."""
    if drawn.shades is not None:
        return colour_bar(ax, drawn.shades, name, scale.extend)
    if ax.get_xlabel():
        method, _, more = name.partition(", ")
        look.put_ylabel(ax, method, more, between=", " if more else "")
    else:
        ax.set_xlabel(name)
    return None


def _name(ax: Axes, above: tuple[object, ...], bar: Axes | None, *, lines: bool) -> None:
    """Name what is marked above the panel, and lines beside it."""
    if above:
        name_above(ax, above)
    marked = ax.get_legend()
    if lines:
        name_lines_beside(ax, bar)
    if marked is not None and ax.get_legend() is not marked:
        ax.add_artist(marked)
        marked.set_clip_on(False)  # it stands outside


# Several panels


def _named(attributions: Mapping[str, Attribution] | Iterable[Attribution]) -> dict[str, Attribution]:
    """The attributions by name."""
    if isinstance(attributions, xr.DataArray | xr.Dataset):
        raise DataError(
            "One attribution was given and several are compared: expected a mapping or a list, or draw it with plot.attribution."
        )
    if isinstance(attributions, Mapping):
        named = {str(name): one for name, one in attributions.items()}
    else:
        listed = list(attributions)
        methods = [str(getattr(one, "attrs", {}).get("method", "")) for one in listed]
        twice = next((name for name in methods if methods.count(name) > 1), None)
        if twice is not None or "" in methods:
            known = f"Two of the attributions are of the method '{twice}'" if twice else "An attribution has no attribute 'method'"
            raise DataError(f"{known}, so the list does not say what to write above each: give a mapping, as in {{'mine': a, 'other': b}}.")
        named = dict(zip(methods, listed, strict=True))
    if not named:
        raise DataError("There are no attributions to compare.")
    return named


def _largest(how: str, array: xr.DataArray) -> float:
    """The largest value that a style draws."""
    return max(float(np.abs(part).max()) for part in shown(how, array)) or 1.0


def _grid(
    figure: Figure | SubFigure | None, number: int, n_columns: int, size: tuple[float, float]
) -> tuple[Figure | SubFigure, list[Axes]]:
    """Panels row by row, with common axes."""
    n_rows = math.ceil(number / n_columns)
    width = {1: 8.0, 2: 10.0, 3: 13.0}.get(n_columns, 15.0)
    figure = look.new_figure(figure, (width, min(14.0, 0.6 + size[1] * n_rows)))
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    axes: list[Axes] = grid.ravel().tolist()
    for ax in axes[number:]:
        ax.remove()
    return figure, axes[:number]


def _common_name(how: str, arrays: list[xr.DataArray], *, normalize: bool) -> str:
    """What the colours or bars of all panels stand for."""
    more = _sum_name(arrays[0]) if all(is_summed(how, array) for array in arrays) else ""
    if normalize:
        return f"Share of each method's largest value{more}"
    scores = {array.attrs.get("score") for array in arrays}
    score = scores.pop() if len(scores) == 1 else None
    return f"Attribution of the {score}{more}" if score else f"Attribution{more}"


def _label_panels(figure: Figure | SubFigure, axes: list[Axes], drawn: list[Drawn], label: str, n_columns: int, *, lines: bool) -> None:
    """Name the axes at the edges of the grid, and once what bars and lines are."""
    lowest = axes[-n_columns:]
    for place, ax in enumerate(axes):
        if drawn[place].shades is None:
            _name_values(ax, drawn[place], Scale(1.0, signed=True), label)
        if place % n_columns:
            ax.set_ylabel("")
        if ax not in lowest:
            ax.set_xlabel("")
        else:
            ax.tick_params(labelbottom=True)  # the lowest of a column may stand in the row before the last
    above = next((one.above for one in drawn if one.above), ())
    if lines and 1 < len(axes[0].lines) <= MOST_OVERLAID:
        above = tuple(axes[0].lines)
    if above:
        figure.legend(handles=list(above), loc="outside lower center", ncols=min(len(above), _MOST_ACROSS), fontsize="small", frameon=False)


def _panel_titles(arrays: dict[str, xr.DataArray]) -> list[str]:
    """The name of each, and what it explains where that differs."""
    said = [title_of(array, method=False) for array in arrays.values()]
    if len(set(said)) == 1:
        return list(arrays)
    return [f"{name} {more}".strip() for name, more in zip(arrays, said, strict=True)]


def _common_title(arrays: list[xr.DataArray]) -> str:
    said = {title_of(array, method=False) for array in arrays}
    text = said.pop() if len(said) == 1 else ""
    return text[:1].upper() + text[1:]
