"""Colours, edges and labels that every plot shares. Nothing here changes matplotlib's own settings."""

from __future__ import annotations

import textwrap
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
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator

from seqscope import labelled

# Okabe and Ito's colours, told apart with any kind of colour vision; yellow is left out, being too light for a line.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
LINES = ("-", "--", ":", "-.")
DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
MISSING = "#D9D9D9"

# How wide a letter is, as a part of the height of the type.
LETTER = 0.55

# Beyond this many, or where the axes are too short for them, rows are labelled here and there.
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
    """A time coordinate as numbers to draw at; dates as matplotlib counts them, spans of time in seconds."""
    values = coordinate.values
    if values.dtype.kind == "m":
        return np.asarray(values / np.timedelta64(1, "s"), dtype=float)
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
    if dim == labelled.UNIT and name == labelled.LONG_NAMES[dim] and "kind" in array.attrs:
        recurrent = str(array.attrs["kind"]).startswith(("lstm", "gru", "rnn"))
        name = name if recurrent else unit_word(array)
    in_seconds = dim in array.coords and array.coords[dim].dtype.kind == "m"
    units = attrs.get("units") or ("s" if in_seconds else "")
    return f"{name} ({units})" if units else str(name)


def unit_word(array: xr.DataArray) -> str:
    """What one unit of a layer is called: "Filter" where the layer is a convolution, else "Unit"."""
    return "Filter" if str(array.attrs.get("kind", "")).startswith("conv1d") else "Unit"


def clock(array: xr.DataArray, dim: str) -> str:
    """The coordinate that a time dim is drawn along: the input's time where a layer's own steps have it and it runs forward."""
    if dim != labelled.STEP or labelled.TIME not in array.coords or array.coords[labelled.TIME].dims != (dim,):
        return dim
    return labelled.TIME if bool((np.diff(positions(array.coords[labelled.TIME])) > 0).all()) else dim


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


def size_of(ax: Axes) -> tuple[float, float]:
    """Width and height of a panel in points. Before the figure is laid out, about."""
    box, dpi = ax.get_window_extent(), ax.figure.dpi
    return box.width * 72 / dpi, box.height * 72 / dpi


def name_below(figure: Figure | SubFigure, handles: Sequence[Any]) -> None:
    """Say below all panels what is drawn in them, as many names in a row as the figure has room for, six at most."""
    points = FontProperties(size="small").get_size_in_points()
    longest = max(len(str(handle.get_label())) for handle in handles)
    room = figure.bbox.width * 72 / figure.dpi / (points * (LETTER * longest + 5.0))
    across = max(1, min(len(handles), 6, int(room)))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=across, fontsize="small", frameon=False)


def put_title(ax: Axes, title: str, **look: Any) -> None:
    """Write above a panel, on several lines of about one length where it is too narrow for one."""
    points = FontProperties(size="large").get_size_in_points()
    ax.set_title(_wrapped(title, size_of(ax)[0] / (LETTER * points)), **look)


def put_xlabel(ax: Axes, name: str) -> None:
    """Write below a panel, what is in brackets on a line of its own where the panel is too narrow for both."""
    room = size_of(ax)[0] / (LETTER * FontProperties(size="medium").get_size_in_points())
    ax.set_xlabel(name if len(name) <= room else name.replace(" (", "\n("))


def _wrapped(text: str, room: float) -> str:
    """The text on as many lines as it takes in this many letters, all of about one length."""
    width = max(12, int(room))
    n_lines = len(textwrap.wrap(text, width))
    while width > 12 and len(textwrap.wrap(text, width - 1)) == n_lines > 1:
        width -= 1
    return textwrap.fill(text, width) if n_lines > 1 else text


def put_ylabel(ax: Axes, name: str, more: str, *, between: str = " ") -> None:
    """Write beside a panel: on one line, on two, or the name alone, whichever there is room for."""
    room = size_of(ax)[1] / (LETTER * FontProperties(size="medium").get_size_in_points())
    if len(name + between + more) > room:
        between = between.rstrip() + "\n"
    ax.set_ylabel(name + between + more if max(len(name), len(more)) <= room else name)


def name_rows(ax: Axes, places: Sequence[float], names: Sequence[str], *, small: bool, together: int = 1) -> None:
    """Name the rows at these places of the y axis, all of them or, where they would touch, some: of so many `together` all or none."""
    size = "small" if small else "medium"
    rows = _Rows(places, names, FontProperties(size=size).get_size_in_points(), together)
    ax.yaxis.set_major_locator(rows)
    ax.yaxis.set_major_formatter(FuncFormatter(rows.name_at))
    ax.tick_params(axis="y", labelsize=size)


class _Rows(Locator):
    """Ticks at rows, as many as there is room for: found at each drawing, since only then is the height of the axes known."""

    def __init__(self, places: Sequence[float], names: Sequence[str], points: float, together: int) -> None:
        self.places, self.names, self.points, self.together = list(places), list(names), points, together

    def __call__(self) -> list[float]:
        """Where the ticks are, by round steps, so that the rows between can be counted."""
        axis: Any = self.axis
        most = max(1, min(MOST_ROW_LABELS, int(size_of(axis.axes)[1] / (1.25 * self.points))))
        needed = -(-len(self.places) // most)
        steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, len(self.places))
        step = next((step for step in steps if step >= needed), needed)
        return [place for row, place in enumerate(self.places) if row // self.together % step == 0]

    def name_at(self, place: float, _: int | None = None) -> str:
        """The name of a row."""
        return dict(zip(self.places, self.names, strict=True)).get(place, "")
