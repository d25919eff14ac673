"""The ways to draw an attribution in one panel, and the outline of what a layer's step sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.attribution_parts import BEHIND_BLACK, BEHIND_COLOURS, GAP, MAP, NATIVE, Attribution, Scale, drawn_of, rows_of, summed
from seqscope.plot.series import MOST_OVERLAID, name_lines, series

INK = "#1A1A1A"
UP, DOWN = style.COLORS[1], style.COLORS[0]
_OUTLINE: dict[str, Any] = {"fill": False, "edgecolor": "black", "linewidth": 1.6}
# A step whose bar is narrower than this, in points, has no gap to the next one: gaps of less than a pixel come and go.
_NARROW = 3.0
# A lane is at least so many of its line's widths high, so that its colours are seen.
_LINES_HIGH = 15.0


@dataclass(frozen=True)
class Drawn:
    """What a style made of a panel: what its colours stand for (None: its y axis has the values), and what is named above it."""

    shades: ScalarMappable | None
    above: tuple[Any, ...] = ()


def _lanes(ax: Axes, sequence: xr.DataArray, array: xr.DataArray, scale: Scale) -> Drawn:
    """A lane for each channel, shaded by its attribution, its line over that."""
    series(sequence, ax=ax, lanes=True, legend=False)
    n_lanes = sequence.sizes[labelled.CHANNEL]
    height = style.size_of(ax)[1] / n_lanes
    for line in ax.lines[-n_lanes:]:
        line.set(color=INK, linewidth=min(0.9, height / _LINES_HIGH))
    ax.set_ylim(0.5 - n_lanes, 0.5)
    has_own = rows_of(array) == labelled.CHANNEL
    lanes = 0.5 - np.arange(n_lanes + 1) if has_own else np.array([0.5, 0.5 - n_lanes])
    mesh = draw_mesh(ax, array if has_own else summed(array), lanes, scale, BEHIND_BLACK)
    left, right = ax.get_xlim()
    ax.hlines(0.5 - np.arange(1, n_lanes), left, right, colors="white", linewidth=min(1.0, height / _LINES_HIGH), zorder=1.5)
    return Drawn(mesh)


def _overlay(ax: Axes, sequence: xr.DataArray, array: xr.DataArray, scale: Scale) -> Drawn:
    """All channels on one scale, shaded by the attribution of each step."""
    series(sequence, ax=ax, lanes=False, legend=False)
    if len(ax.lines) > MOST_OVERLAID:  # too many to be told apart by colour and line
        for line in ax.lines:
            line.set(color=INK, linestyle="-", linewidth=0.5)
    low, high = ax.get_ylim()
    mesh = draw_mesh(ax, summed(array), np.array([low, high]), scale, BEHIND_COLOURS)
    ax.set_ylim(low, high)
    return Drawn(mesh)


def _heatmap(ax: Axes, sequence: xr.DataArray, array: xr.DataArray, scale: Scale) -> Drawn:
    """Channels by time as colours, on the sequence's time."""
    mesh = draw_heatmap(ax, array, scale)
    style.time_axis(ax, sequence, labelled.TIME)
    return Drawn(mesh)


def draw_heatmap(ax: Axes, array: xr.DataArray, scale: Scale) -> QuadMesh:
    """Channels by time as colours, the first channel on top; what is missing is grey."""
    dim = rows_of(array)
    names = [str(name) for name in array.coords[dim].values] if dim is not None else [""]
    ax.set_facecolor(style.MISSING)
    mesh = draw_mesh(ax, array, np.arange(len(names) + 1) - 0.5, scale)
    ax.set_ylim(len(names) - 0.5, -0.5)
    if dim is None:
        ax.set_yticks([])
        return mesh
    style.name_rows(ax, range(len(names)), names, small=len(names) > 12)
    ax.set_ylabel(style.label_of(array, dim))
    return mesh


def _bars(ax: Axes, sequence: xr.DataArray, array: xr.DataArray, scale: Scale) -> Drawn:
    """A bar for each step: what speaks for the score upward, what speaks against it downward, and the sum of both as a line."""
    if not set(array.dims) & {labelled.TIME, labelled.STEP}:
        return _channel_bars(ax, array, scale)
    borders = borders_of(array)
    parts, named = _signed_parts(array, scale)
    is_narrow = style.size_of(ax)[0] / len(borders) < _NARROW
    widths, gap = np.diff(borders), 0.0 if is_narrow else 0.05
    for values, color in parts:
        ax.bar(borders[:-1] + gap * widths, values, width=(1 - 2 * gap) * widths, align="edge", color=color)
    if named:
        ax.stairs(summed(array).values, borders, baseline=None, color="black", linewidth=0.7 if is_narrow else 1.0)
    if scale.signed:
        ax.axhline(0.0, color="black", linewidth=0.8)
    style.time_axis(ax, sequence, labelled.TIME)
    ax.set_ylim(*(1.05 * end for end in scale.ends))
    return Drawn(None, named)


def _signed_parts(array: xr.DataArray, scale: Scale) -> tuple[list[tuple[np.ndarray, Any]], tuple[Any, ...]]:
    """The bars of each step with their colours, and their names where positive and negative ones stand at one step."""
    if not scale.signed:
        return [(summed(array).values, UP)], ()
    if rows_of(array) is None:
        return [(array.values, [UP if value > 0 else DOWN for value in array.values])], ()
    above, below = (summed(part).values for part in (array.clip(min=0.0), array.clip(max=0.0)))
    named = (
        Patch(color=UP, label="Positive"),
        Patch(color=DOWN, label="Negative"),
        Line2D([], [], color="black", linewidth=1.0, label="Sum"),
    )
    return [(above, UP), (below, DOWN)], named


def _channel_bars(ax: Axes, array: xr.DataArray, scale: Scale) -> Drawn:
    """A bar for each channel, the first on top."""
    dim = str(array.dims[0])
    names = [str(name) for name in array.coords[dim].values]
    colors = [(UP if value > 0 else DOWN) if scale.signed else UP for value in array.values]
    ax.barh(range(len(names)), array.values, height=0.8, color=colors)
    if scale.signed:
        ax.axvline(0.0, color="black", linewidth=0.8)
    style.name_rows(ax, range(len(names)), names, small=len(names) > 12)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(*(1.05 * end for end in scale.ends))
    ax.set_ylabel(style.label_of(array, dim))
    return Drawn(None)


STYLES: dict[str, Callable[[Axes, xr.DataArray, xr.DataArray, Scale], Drawn]] = {
    "lanes": _lanes,
    "overlay": _overlay,
    "heatmap": _heatmap,
    "bars": _bars,
}


def is_summed(how: str, array: xr.DataArray) -> bool:
    """Whether a style adds up the channels, or a layer's units."""
    return (
        rows_of(array) is not None
        and array.ndim > 1
        and (how in ("overlay", "bars") or (how == "lanes" and rows_of(array) == labelled.UNIT))
    )


def shown(how: str, array: xr.DataArray) -> list[xr.DataArray]:
    """The values that a style shows, those that its scale has to hold: for bars, the positive and the negative part of each step."""
    if not is_summed(how, array):
        return [array]
    if how == "bars":
        return [summed(array.clip(min=0.0)), summed(array.clip(max=0.0))]
    return [summed(array)]


def borders_of(array: xr.DataArray) -> np.ndarray:
    """Where the cells of the steps begin and end."""
    clock = next(dim for dim in (labelled.TIME, labelled.STEP) if dim in array.dims)
    return style.edges(style.positions(array.coords[style.clock(array, clock)]))


def draw_mesh(ax: Axes, array: xr.DataArray, rows: np.ndarray, scale: Scale, pale: float | None = None) -> QuadMesh:
    """The values as colours behind everything else: a row for each channel, or one for all."""
    clock = next(dim for dim in (labelled.TIME, labelled.STEP) if dim in array.dims)
    values = array.transpose(..., clock).values.reshape(len(rows) - 1, -1)
    cmap, norm = scale.colours(pale)
    shaded = ax.pcolormesh(
        borders_of(array), rows, np.ma.masked_invalid(values), cmap=cmap, norm=norm, zorder=0.5, rasterized=values.size > 5000
    )
    return shaded


def name_lines_beside(ax: Axes, bar: Axes | None) -> None:
    """Name the lines of an overlay, right of its colour bar, where they can be told apart."""
    if not 1 < len(ax.lines) <= MOST_OVERLAID:
        return
    name_lines(ax)
    legend = ax.get_legend()
    if legend is None or bar is None:
        return
    covered = (bar.get_tightbbox().x1 - ax.get_window_extent().x1) * 72 / ax.figure.dpi  # type: ignore[union-attr]
    right = ScaledTranslation((covered + GAP) / 72, 0.0, ax.figure.dpi_scale_trans)
    legend.set_bbox_to_anchor((1.0, 1.0), ax.transAxes + right)


def outline_field(ax: Axes, a: Attribution, step: int, sequence: xr.DataArray) -> Patch:
    """Outline the input steps that one step of a layer sees, and give what says so in a legend.

    Raises
    ------
    DataError
        The attribution does not say what its steps see, or there is no such step.
    """
    layer, dim = _with_fields(a)
    others = [other for other in layer.dims if other != dim]
    known = (layer.coords[labelled.TIME_START].notnull() & layer.notnull().any(others)).values
    number = int(known.sum())
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or not 0 <= step < number:
        raise DataError(f"There is no layer step {step!r}: there are {number}, 0 to {number - 1}.")
    ends = layer.isel({dim: int(step)})
    stamps = sequence.coords[labelled.TIME]
    borders = style.edges(style.positions(stamps))
    first, last = (_cell_at(borders, ends.coords[name]) for name in (labelled.TIME_START, labelled.TIME_END))
    across = blended_transform_factory(ax.transData, ax.transAxes)
    box = Rectangle((borders[first], 0.0), borders[last + 1] - borders[first], 1.0, transform=across, zorder=4, **_OUTLINE)
    box.set_path_effects([withStroke(linewidth=4.0, foreground="white")])  # to be seen on dark colours too
    box.set_clip_on(False)
    ax.add_patch(box)
    of = f" of '{layer.attrs['layer']}'" if "layer" in layer.attrs else ""
    return Patch(label=f"Step {int(step)}{of} sees {last - first + 1} input step{'s' if last > first else ''}", **_OUTLINE)


def _with_fields(a: Attribution) -> tuple[xr.DataArray, str]:
    """The array whose steps say what they see, and the dim of these steps."""
    array = a[NATIVE].assign_attrs(a.attrs | a[NATIVE].attrs) if isinstance(a, xr.Dataset) and NATIVE in a else drawn_of(a)
    starts = array.coords.get(labelled.TIME_START)
    if starts is None or labelled.TIME_END not in array.coords or starts.ndim != 1:
        raise DataError(
            "The attribution does not say what the layer's steps see ('time_start' and 'time_end' on 'step'): leave field= out. Class "
            f"activation maps do, as Datasets with '{MAP}' and '{NATIVE}'."
        )
    return array, str(starts.dims[0])


def _cell_at(borders: np.ndarray, time: xr.DataArray) -> int:
    """The input step in whose cell a time lies, so that rounding does not matter."""
    place = np.searchsorted(borders, float(style.positions(time)), side="right") - 1
    return int(np.clip(place, 0, len(borders) - 2))
