"""The paths of a layer's states through time, on two axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from seqscope.errors import DataError
from seqscope.labelled import COMPONENT, LABEL, SAMPLE
from seqscope.plot import style
from seqscope.plot.attribution_parts import colour_bar, name_above, put_title
from seqscope.plot.attribution_samples import By, classes_of

MOST_PATHS = 200

_RATIO = "explained_variance_ratio"
_INK = "#1A1A1A"
_LINE: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.7}
_START: dict[str, Any] = {"marker": "o", "markersize": 3.5, "markerfacecolor": "white", "linestyle": "none"}
_END: dict[str, Any] = {"marker": "s", "markersize": 3.5, "linestyle": "none"}


def trajectories(
    projected: xr.DataArray,
    *,
    color: By | None = None,
    components: tuple[int, int] = (0, 1),
    most: int = MOST_PATHS,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the paths of states through time: each sequence from a circle to a square, both axes on one scale.

    Parameters
    ----------
    projected : DataArray (sample, time, component)
        What `units.project` gives; one sequence will do.
    color : "time", the name of a coordinate such as "label", or a class for each sample, optional
        What the colours say. Default: the label where it is known, else the time.
    components : (int, int)
        The components across and up, by their labels.
    most : int
        The most paths: of more, as many are drawn, spread evenly over the samples of each class, and the legend says so.
    ax : Axes, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        The array holds no paths, there is no such component, or the classes are not known.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> paths = sq.units.project(sq.Scope(sq.zoo.japanese_vowels()).activations(X[:40], "lstm"))
    >>> ax = sq.plot.trajectories(paths)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['1', '2', 'Start', 'End']
    """
    array, time = _checked(projected)
    pair = _pair(array, components)
    known = pair.notnull().all(COMPONENT).any(time)
    if not known.any():
        raise DataError("The paths are all NaN: there is nothing to draw.")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise DataError(f"most is {most!r}: expected how many paths to draw, a whole number above zero.")
    if color is None:
        color = LABEL if LABEL in array.coords and array.coords[LABEL].dims == (SAMPLE,) else "time"
    by_time = isinstance(color, str) and color == "time"
    classes, numbers = ([""], np.zeros(array.sizes[SAMPLE], int)) if by_time else _classes(array, color)
    rows = _spread(np.flatnonzero(known.values), numbers, most)
    ax = style.new_axes(ax, (8.0, 6.0))
    note = f"{len(rows)} of {int(known.sum())} sequences" if len(rows) < int(known.sum()) else ""
    if by_time:
        _draw_by_time(ax, pair.isel({SAMPLE: rows}), time, note)
    else:
        _draw_by_class(ax, pair.isel({SAMPLE: rows}), classes, numbers[rows], note)
    _name_axes(ax, pair)
    if title is not None:
        put_title(ax, title, named_above=by_time)
    return ax


def _checked(projected: Any) -> tuple[xr.DataArray, str]:
    """The paths, (sample, time, component), and the dim of their time."""
    from seqscope.units import clock_of

    if not isinstance(projected, xr.DataArray) or COMPONENT not in projected.dims:
        what = f"An array with dims {projected.dims}" if isinstance(projected, xr.DataArray) else f"A {type(projected).__name__}"
        raise DataError(f"{what} was given to draw: expected (sample, time, component), as units.project gives it.")
    time = clock_of(projected)
    more = [str(dim) for dim in projected.dims if dim not in (SAMPLE, time, COMPONENT)]
    if more:
        raise DataError(
            f"The paths have dims {projected.dims}: expected (sample, time, component); choose one, as with .isel({more[0]}=0)."
        )
    if SAMPLE not in projected.dims:
        projected = projected.expand_dims(SAMPLE)
    for dim in projected.dims:
        projected = projected if dim in projected.coords else projected.assign_coords({dim: range(projected.sizes[dim])})
    return projected.transpose(SAMPLE, time, COMPONENT), time


def _pair(array: xr.DataArray, components: Any) -> xr.DataArray:
    """The two components to draw."""
    labels = array.coords[COMPONENT].values.tolist()
    if len(labels) < 2:
        raise DataError("The states were projected to one component: two are drawn, as with units.project(activations, n_components=2).")
    if not isinstance(components, tuple | list) or len(components) != 2:
        raise DataError(f"components is {components!r}: expected two, the one across and the one up, as in (0, 1).")
    unknown = [one for one in components if one not in labels]
    if unknown:
        raise DataError(f"There is no component {unknown[0]!r}: there are {len(labels)}, {labels[0]} to {labels[-1]}.")
    return array.isel({COMPONENT: [labels.index(one) for one in components]})


def _classes(array: xr.DataArray, color: By) -> tuple[list[Any], np.ndarray]:
    """The classes in order, and the place of each sample's among them."""
    try:
        return classes_of(array, color)
    except DataError as error:
        raise DataError(error.message.replace("The attributions have", "The paths have").replace("by=", "color=")) from None


def _spread(rows: np.ndarray, numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many samples, of each class its share."""
    if len(rows) <= most:
        return rows
    in_order = rows[np.argsort(numbers[rows], kind="stable")]
    return np.sort(in_order[np.linspace(0, len(rows) - 1, most).round().astype(int)])


def _draw_by_class(ax: Axes, paths: xr.DataArray, classes: list[Any], numbers: np.ndarray, note: str) -> None:
    """A colour and a line for each class."""
    looks = style.line_styles(len(classes))
    for path, number in zip(paths.values, numbers, strict=True):
        ax.plot(*_to_its_ends(path).T, **_LINE, **looks[number])
        _mark_ends(ax, path, looks[number]["color"], looks[number]["color"])
    handles = [Line2D([], [], label=str(classes[number]), **looks[number]) for number in np.unique(numbers)]
    ax.legend(
        handles=[*handles, *_named_ends()],
        title=note or None,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        fontsize="small",
        title_fontsize="small",
        alignment="left",
        frameon=False,
    )


def _draw_by_time(ax: Axes, paths: xr.DataArray, time: str, note: str) -> None:
    """Each stretch in the colour of the step at which it begins."""
    clock = paths.coords[style.clock(paths, time)]
    times = style.positions(clock)
    cmap, norm = style.color_scale(float(times.min()), float(times.max()) if len(times) > 1 else float(times.min()) + 1.0)
    stretches = np.stack([paths.values[:, :-1], paths.values[:, 1:]], axis=2).reshape(-1, 2, 2)
    values = np.tile(times[:-1], len(paths))
    there = ~np.isnan(stretches).any(axis=(1, 2))
    lines = LineCollection(list(stretches[there]), cmap=cmap, norm=norm, **_LINE)
    lines.set_array(values[there])
    ax.add_collection(lines)
    for path in paths.values:
        _mark_ends(ax, path, _INK, _INK)
    colour_bar(ax, lines, style.label_of(paths, str(clock.name)), "neither")
    name_above(ax, [*_named_ends(), *([Line2D([], [], linestyle="none", label=note)] if note else [])])


def _to_its_ends(path: np.ndarray) -> np.ndarray:
    """A path without its padding; steps without a value in between stay, as gaps."""
    known = np.flatnonzero(~np.isnan(path).any(axis=1))
    return path[known[0] : known[-1] + 1]


def _mark_ends(ax: Axes, path: np.ndarray, start: str, end: str) -> None:
    """A circle where a path starts, a square where it ends."""
    ends = _to_its_ends(path)
    ax.plot(*ends[0], color=start, zorder=3, **_START)
    ax.plot(*ends[-1], color=end, zorder=3, **_END)


def _named_ends() -> list[Line2D]:
    return [Line2D([], [], color=_INK, label="Start", **_START), Line2D([], [], color=_INK, label="End", **_END)]


def _name_axes(ax: Axes, pair: xr.DataArray) -> None:
    """The components, with their shares of the variance where those are known."""
    shares = pair.coords[_RATIO].values if _RATIO in pair.coords else [None, None]
    named = [
        f"Component {label}" + ("" if share is None else f" ({share:.0%} of the variance)".replace("%", " %"))
        for label, share in zip(pair.coords[COMPONENT].values, shares, strict=True)
    ]
    ax.set_xlabel(named[0])
    ax.set_ylabel(named[1])
    ax.set_aspect("equal", adjustable="datalim")
