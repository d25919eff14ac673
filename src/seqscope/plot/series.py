"""One sequence as lines."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.plot import style

# The legend's longest column, and the most channels whose lines may share one axis before each gets a lane of its own.
LEGEND_ROWS = 16
MOST_OVERLAID = 16
# The height of one of its rows, in heights of the type (a panel grows a little when it is laid out); the most of the panel that its width
# may take.
LEGEND_ROW, LEGEND_SHARE = 1.2, 0.5


def series(x: xr.DataArray, *, ax: Axes | None = None, lanes: bool | None = None, title: str | None = None, legend: bool = True) -> Axes:
    """Draw one sequence: a line for each channel.

    Parameters
    ----------
    x : DataArray (time, channel)
        One sequence, as `X[0]` gives it. (time,) is drawn as one line; `step` and `unit` will do as well.
    ax : Axes, optional
        Where to draw; default: a new figure.
    lanes : bool, optional
        Whether each channel has a lane of its own, each around its own middle and all on one scale; default: over 16 channels, or
        where their names would take more room than the lines.
    title : str, optional
        What to write above.
    legend : bool
        Whether to name the lines, outside at the upper right. Lanes are named on the y axis instead.

    Returns
    -------
    Axes
        x: time, in the data's units.

    Raises
    ------
    DataError
        The array is not one sequence.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> ax = sq.plot.series(X[0], title="Test Observation 1")
    >>> ax.get_xlabel(), len(ax.lines)
    ('Time Step', 12)
    """
    array, dim, channel = as_lines(x)
    time = style.clock(array, dim)
    names = [str(name) for name in array.coords[channel].values]
    many = len(names) > MOST_OVERLAID
    ax = style.new_axes(ax, (8.0, max(4.0, 0.28 * len(names)) if many or lanes else 4.0))
    in_lanes = many or (legend and _legend_size(ax, names)[1] > LEGEND_SHARE) if lanes is None else lanes
    _draw_lanes(ax, array, time, names) if in_lanes else _draw_overlaid(ax, array, time, names)
    style.time_axis(ax, array, time)
    if legend and not in_lanes and len(names) > 1:
        name_lines(ax)
    if title is not None:
        style.put_title(ax, title)
    return ax


def name_lines(ax: Axes) -> None:
    """Name the lines outside at the upper right, in as many columns as keep the legend no higher than the panel."""
    columns, _ = _legend_size(ax, [str(line.get_label()) for line in ax.lines])
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        borderpad=0.3,
        labelspacing=0.25,
        columnspacing=1.0,
        ncols=columns,
        fontsize="small",
        frameon=False,
    )


def _legend_size(ax: Axes, names: list[str]) -> tuple[int, float]:
    """The columns that names beside a panel take, and their width as a part of the panel's."""
    width, height = style.size_of(ax)
    points = FontProperties(size="small").get_size_in_points()
    columns = -(-len(names) // max(3, min(LEGEND_ROWS, int(height / (LEGEND_ROW * points)))))
    return columns, columns * points * (style.LETTER * max(map(len, names), default=0) + 3.0) / width


def as_lines(x: xr.DataArray) -> tuple[xr.DataArray, str, str]:
    """One sequence as (time, line), its padding cut off, with the names of the two dims. Steps without a time are padding too.

    Raises
    ------
    DataError
        The array is not one sequence.
    """
    from seqscope.units import clock_of

    if not isinstance(x, xr.DataArray):
        raise DataError(f"A {type(x).__name__} was given to draw: expected a labelled array, such as X[0] or activations(X[0], 'lstm').")
    time = clock_of(x)
    if x.ndim == 1:
        x = x.expand_dims(labelled.CHANNEL, axis=1).assign_coords({labelled.CHANNEL: [x.name or "value"]})
    if x.ndim != 2:
        raise DataError(
            f"One sequence is drawn, (time, channel), and the array has dims {x.dims}: choose one, as with X[0] or .isel(sample=0)."
        )
    line = next(str(dim) for dim in x.dims if dim != time)
    x = x if line in x.coords else x.assign_coords({line: range(x.sizes[line])})
    x = x.dropna(time, how="all").transpose(time, line)
    if labelled.TIME in x.coords and x.coords[labelled.TIME].dims == (time,):
        known = x.coords[labelled.TIME].notnull().values
        x = x.isel({time: known}) if known.any() else x
    return x, time, line


def _draw_overlaid(ax: Axes, array: xr.DataArray, time: str, names: list[str]) -> None:
    """All lines on one scale."""
    times = style.positions(array.coords[time])
    marker = "." if len(times) == 1 else None
    for values, name, look in zip(array.values.T, names, style.line_styles(len(names)), strict=True):
        ax.plot(times, values, label=name, linewidth=1.2, marker=marker, **look)
    ax.set_ylabel(str(array.attrs.get("long_name", "Value")) + (f" ({array.attrs['units']})" if array.attrs.get("units") else ""))


def _draw_lanes(ax: Axes, array: xr.DataArray, time: str, names: list[str]) -> None:
    """One lane a channel, the first on top, each around its own middle and all on one scale: the widest channel fills its lane."""
    times = style.positions(array.coords[time])
    low, high = array.min(str(array.dims[0])).values, array.max(str(array.dims[0])).values
    height = float((high - low).max()) or 1.0
    for place, (values, name) in enumerate(zip(array.values.T, names, strict=True)):
        around = (values - (low[place] + high[place]) / 2) / height
        ax.plot(times, 0.95 * around - place, label=name, linewidth=0.9, color=style.COLORS[place % 2])
    style.name_rows(ax, [-place for place in range(len(names))], names, small=True)
    ax.set_ylim(-len(names) + 0.4, 0.6)
    style.put_ylabel(ax, style.label_of(array, str(array.dims[1])), f"(a lane spans {height:.3g})")
