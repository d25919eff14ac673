"""Colours, edges and labels that every plot shares. Nothing here changes matplotlib's own settings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from seqscope import labelled

# Okabe and Ito's colours, told apart with any kind of colour vision; yellow is left out, being too light for a line.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
LINES = ("-", "--", ":", "-.")
DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
MISSING = "#D9D9D9"

# Beyond this many, the rows of a heatmap are labelled here and there.
MOST_ROW_LABELS = 30


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or new ones on a figure of their own."""
    return ax if ax is not None else plt.figure(figsize=size, layout="constrained").subplots()


def new_figure(figure: Figure | SubFigure | None, size: tuple[float, float]) -> Figure | SubFigure:
    """The figure given, or a new one."""
    return figure if figure is not None else plt.figure(figsize=size, layout="constrained")


def line_styles(number: int) -> list[dict[str, Any]]:
    """A colour and a line for each of many lines: all colours solid first, then dashed, dotted and dash-dotted."""
    styles = [{"color": color, "linestyle": line} for line, color in product(LINES, COLORS)]
    return [styles[place % len(styles)] for place in range(number)]


def limits(arrays: Sequence[xr.DataArray]) -> tuple[float, float]:
    """The common range of values, from zero where they have one sign and symmetric where they have both."""
    low = min(float(array.min()) for array in arrays)
    high = max(float(array.max()) for array in arrays)
    if low < 0 < high:
        return -max(-low, high), max(-low, high)
    return (low, high) if low < high else (low, low + 1.0)


def color_scale(low: float, high: float) -> tuple[Colormap, Normalize]:
    """Diverging colours centred on zero for signed values, sequential ones for the rest."""
    signed = low < 0 < high
    cmap = plt.get_cmap(DIVERGING if signed else SEQUENTIAL).with_extremes(bad=MISSING)
    return cmap, TwoSlopeNorm(0.0, low, high) if signed else Normalize(low, high)


def positions(coordinate: xr.DataArray) -> np.ndarray:
    """A time coordinate as numbers to draw at; dates as matplotlib counts them."""
    values = coordinate.values
    numbers: Any = mdates.date2num(values) if values.dtype.kind == "M" else values  # type: ignore[no-untyped-call]
    return np.asarray(numbers, dtype=float)


def edges(centres: np.ndarray) -> np.ndarray:
    """The borders of cells with these centres: half way between neighbours, and as far beyond the ends."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def label_of(array: xr.DataArray, dim: str) -> str:
    """What to write on the axis of a dim: its long name, with its units in brackets."""
    attrs: dict[str, Any] = array.coords[dim].attrs if dim in array.coords else {}
    name = attrs.get("long_name", labelled.LONG_NAMES.get(dim, dim))
    return f"{name} ({attrs['units']})" if attrs.get("units") else str(name)


def time_axis(ax: Axes, array: xr.DataArray, dim: str) -> None:
    """Label the x axis with time and end it at the borders of the first and last step."""
    centres = positions(array.coords[dim])
    ax.set_xlabel(label_of(array, dim))
    ax.set_xlim(*edges(centres)[[0, -1]])
    if array.coords[dim].dtype.kind == "M":
        locator = mdates.AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    elif array.coords[dim].dtype.kind in "iu":
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
