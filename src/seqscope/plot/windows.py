"""How far back and forth the first and the last step of a layer see, as brackets between the input and the layer."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, ScaledTranslation, Transform, blended_transform_factory

from seqscope.plot import style

# The coordinates on a layer's own steps that say what each of them sees of the input: the first step and the last.
START, END = "time_start", "time_end"

# Heights above the panel, in points: the stem's foot and the bar of a bracket, the tips of its arms, the next bracket.
_FOOT, _BAR, _TIP, _NEXT = 1.0, 4.0, 8.0, 8.0
_INK = "#333333"


def mark_windows(ax: Axes, layer: xr.DataArray, step: str, times: xr.DataArray) -> None:
    """Draw a bracket above the panel for the first and the last step of a layer, over the input steps that each sees.

    Parameters
    ----------
    ax : Axes
        The layer's panel, its x axis the input's time.
    layer : DataArray
        With `time`, `time_start` and `time_end` on `step`; without them nothing is drawn.
    step : str
        The dim of the layer's steps.
    times : DataArray (time,)
        The input's time steps.
    """
    if any(name not in layer.coords or layer.coords[name].dims != (step,) for name in (START, END)):
        return
    borders = style.edges(style.positions(times))
    first, last = _steps_at(borders, layer.coords[START]), _steps_at(borders, layer.coords[END])
    left, right = borders[first], borders[last + 1]
    centres = style.positions(layer.coords[style.clock(layer, step)])
    ends = [0, -1] if len(centres) > 1 and (left[0], right[0]) != (left[-1], right[-1]) else [0]
    level = 0.0
    for number, place in enumerate(ends):
        level = _NEXT if number == 1 and left[place] < right[0] else 0.0  # windows that overlap stand on two levels
        centre = np.clip(centres[place], left[place], right[place])  # at a border, the middle may lie before the first step
        _bracket(ax, left[place], float(centre), right[place], level)
    across = _points_above(ax, x_of_axes=True)
    said = _said(last - first + 1, times.size)
    ax.text(0.5, level + _TIP + 2, said, transform=across, ha="center", va="bottom", fontsize="small", color=_INK)


def _said(counts: np.ndarray, n_steps: int) -> str:
    """How much of the input a step sees, in words."""
    low, high = counts.min(), counts.max()
    if low == n_steps:
        return f"each step sees all {n_steps} input steps"
    return f"a step sees {low if low == high else f'{low} to {high}'} input step{'' if high == 1 else 's'}"


def _steps_at(borders: np.ndarray, times: xr.DataArray) -> np.ndarray:
    """The input step in whose cell each time lies, so that rounding does not matter."""
    return np.clip(np.searchsorted(borders, style.positions(times), side="right") - 1, 0, len(borders) - 2)


def _bracket(ax: Axes, left: float, centre: float, right: float, level: float) -> None:
    """A bracket that is open to the input above, its stem on the cell below."""
    corners = [(left, _TIP), (left, _BAR), (right, _BAR), (right, _TIP), (centre, _BAR), (centre, _FOOT - level)]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.MOVETO, Path.LINETO]
    path = Path([(x, y + level) for x, y in corners], codes)
    ax.add_artist(PathPatch(path, transform=_points_above(ax), fill=False, edgecolor=_INK, linewidth=1.0, clip_on=False))


def _points_above(ax: Axes, *, x_of_axes: bool = False) -> Transform:
    """The x axis's numbers (or the panel's width) across, points above the panel's top edge upward."""
    upward = Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans + ScaledTranslation(0, 1, ax.transAxes)  # type: ignore[arg-type]
    return blended_transform_factory(ax.transAxes if x_of_axes else ax.transData, upward)
