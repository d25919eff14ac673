"""What a picture of an attribution is made of: the values beside their sequence, one scale of colours, and the words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties

from seqscope import labelled
from seqscope.errors import DataError, nearest
from seqscope.plot import style
from seqscope.plot.choice import choose
from seqscope.plot.series import as_lines

# What a person may say: one channel, several, or a slice of them, by label.
Channels = str | int | Iterable[str | int] | slice
Attribution = xr.DataArray | xr.Dataset

CLOCKS, ROWS = (labelled.TIME, labelled.STEP), (labelled.CHANNEL, labelled.UNIT)
# The variables of a class activation map, on the input's clock and on the layer's own; and the name of an attribution in a Dataset.
MAP, NATIVE, ATTRIBUTION = "map", "native", "attribution"
TARGET, PREDICTED, SCORE = "target", "predicted", "score"

# How far below zero, as a part of the largest value, rounding may take a method that has no sign.
_ROUNDING = 1e-6
# The colours behind lines: of one sign, from near white; and how much of each side of a scale, counted from near white, leaves black lines
# readable on it, and how much coloured ones.
_ONE_SIGN = "Oranges"
BEHIND_BLACK, BEHIND_COLOURS = 0.66, 0.42
# A common colour bar's width, and how much lower than its figure it is, in points.
_BAR_WIDTH, _BAR_SHORTER = 12.0, 60.0
# Between a panel and its title, and between a colour bar and a legend beside it, in points.
GAP = 6.0


@dataclass(frozen=True)
class Scale:
    """The range of an attribution: symmetric about zero where it has a sign, else from zero.

    Parameters
    ----------
    limit : float
        The value at the end.
    signed : bool
        Whether there are negative values.
    clipped : bool
        Whether values lie beyond the limit.
    range : (low, high), optional
        The values' own range and zero; default: a limit was given, and an axis goes as far as that.
    """

    limit: float
    signed: bool
    clipped: bool = False
    range: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """The lower end."""
        return -self.limit if self.signed else 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """Where an axis of the values ends: at the limit that was given, else at the values."""
        return self.range or (self.low, self.limit)

    def colours(self, pale: float | None = None) -> tuple[Colormap, Normalize]:
        """Diverging or sequential colours. Pale ones lie behind lines: so much of each side of the scale; what is missing is left out."""
        if pale is None:
            return style.color_scale(self.low, self.limit)
        name, part = (style.DIVERGING, (0.5 - pale / 2, 0.5 + pale / 2)) if self.signed else (_ONE_SIGN, (0.0, pale))
        shades = plt.get_cmap(name)(np.linspace(*part, 256))
        cmap = LinearSegmentedColormap.from_list(f"pale {name}", shades.tolist())
        return cmap.with_extremes(bad=(0.0, 0.0, 0.0, 0.0)), Normalize(self.low, self.limit)

    @property
    def extend(self) -> str:
        """At which ends of the colour bar values lie beyond it."""
        return ("both" if self.signed else "max") if self.clipped else "neither"


def scale_of(arrays: Sequence[xr.DataArray], limit: float | None) -> Scale:
    """The common scale of the arrays: to their largest value, or to the limit given.

    Raises
    ------
    DataError
        The limit is no number above zero.
    """
    lowest, highest = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    most = max(-lowest, highest)
    signed = lowest < -_ROUNDING * most
    if limit is None:
        return Scale(most or 1.0, signed, range=(min(0.0, lowest) if signed else 0.0, max(0.0, highest)) if most else None)
    if isinstance(limit, bool) or not isinstance(limit, int | float | np.number) or not 0 < limit < math.inf:
        raise DataError(f"The limit is {limit!r}: expected a number above zero, the largest attribution that has a colour of its own.")
    return Scale(float(limit), signed, clipped=most > float(limit))


def drawn_of(a: Attribution) -> xr.DataArray:
    """The array to draw, with the attributes of the Dataset that it comes from: the map on the input's clock, where there is one.

    Raises
    ------
    DataError
        It is no attribution.
    """
    if isinstance(a, xr.Dataset):
        name = next((name for name in (MAP, ATTRIBUTION, NATIVE) if name in a), None)
        if name is None:
            held = ", ".join(map(repr, a)) or "nothing"
            raise DataError(f"The Dataset holds {held}: expected 'map', as scope.attribute(X, 'grad_cam', layer=...) gives it.")
        a = a[name].assign_attrs(a.attrs | a[name].attrs)
    if not isinstance(a, xr.DataArray):
        raise DataError(f"A {type(a).__name__} was given to draw: expected an attribution, as scope.attribute(X[0], 'gradient') gives it.")
    more = [str(dim) for dim in a.dims if dim not in (labelled.SAMPLE, *CLOCKS, *ROWS)]
    if more or a.ndim == 0:
        raise DataError(
            f"The attribution has dims {a.dims}: expected (time, channel), (time) or (channel)"
            + (f"; choose one, as with .isel({more[0]}=0)." if more else ".")
        )
    return a


def sequence_of(x: xr.DataArray, channels: Channels | None) -> xr.DataArray:
    """The sequence to draw, (time, channel).

    Raises
    ------
    DataError
        It is not one sequence, or has no such channels.
    """
    sequence, time, channel = as_lines(x)
    if time != labelled.TIME:
        raise DataError(f"The sequence has dims {x.dims}: expected (time, channel), as X[0] gives it.")
    sequence = sequence if channel == labelled.CHANNEL else sequence.rename({channel: labelled.CHANNEL})
    return sequence if channels is None else chosen(sequence, labelled.CHANNEL, channels)


def chosen(array: xr.DataArray, dim: str, wanted: Channels) -> xr.DataArray:
    """Some channels, by label; a slice counts as Python's do."""
    names: Any = wanted
    try:
        return choose(array, dim, names)
    except DataError as error:
        raise DataError(error.message.replace("no unit", "no channel", 1)) from None


def beside(sequence: xr.DataArray, a: Attribution, channels: Channels | None) -> xr.DataArray:
    """The attribution of this sequence, its padding cut off: (time, channel), (time), (channel), or on a layer's own steps and units.

    Raises
    ------
    DataError
        It is that of several sequences, or does not fit the sequence.
    """
    array = drawn_of(a)
    if labelled.SAMPLE in array.dims:
        raise DataError(
            f"Attributions of {array.sizes[labelled.SAMPLE]} sequences were given and one is drawn: choose it, as with a.isel(sample=0)."
        )
    ids = [one.coords[labelled.SAMPLE].item() if labelled.SAMPLE in one.coords else None for one in (sequence, array)]
    if None not in ids and ids[0] != ids[1]:
        raise DataError(f"The sequence is sample {ids[0]!r} and the attribution that of sample {ids[1]!r}: they have to be of one.")
    array = _of_channels(array, sequence, channels)
    clock = next((dim for dim in CLOCKS if dim in array.dims), None)
    array = array if clock is None else _timed(array, clock, sequence)
    if not bool(array.notnull().any()):
        raise DataError("The attribution is all NaN: there is nothing to draw.")
    return array


def _of_channels(array: xr.DataArray, sequence: xr.DataArray, channels: Channels | None) -> xr.DataArray:
    """The attribution of the channels that are drawn, in their order: by name, or by position where it has no names."""
    dim = labelled.CHANNEL
    if dim not in array.dims:
        return array
    if dim not in array.coords:
        array = array.assign_coords({dim: range(array.sizes[dim])})
    array = array if channels is None else chosen(array, dim, channels)
    there, here = sequence.coords[dim].values.tolist(), array.coords[dim].values.tolist()
    if set(there) == set(here) and len(there) == len(here):
        return array.isel({dim: [here.index(name) for name in there]})
    other = next((name for name in here if name not in there), here[0])
    raise DataError(
        f"The sequence has {len(there)} channels, {there[0]} to {there[-1]}, and the attribution {len(here)}, {here[0]} to {here[-1]}"
        + (f" ({other} is not among the sequence's)" if other not in there else "")
        + ": they have to be the same; choose some of both with channels=."
    )


def _timed(array: xr.DataArray, clock: str, sequence: xr.DataArray) -> xr.DataArray:
    """The attribution up to the end of the sequence; on the input's clock, at the sequence's own times."""
    array = _without_padding(array, clock)
    stamps = sequence.coords[labelled.TIME]
    if clock == labelled.STEP:
        if style.clock(array, clock) == labelled.STEP:
            raise DataError(
                "The layer's steps have no place in the input's time (no coordinate 'time' on 'step'): draw the attribution alone, with "
                "plot.heatmap."
            )
        return array
    if labelled.TIMESTAMP in array.coords and array.coords[labelled.TIMESTAMP].dims == (clock,):
        array = array.assign_coords({clock: array.coords[labelled.TIMESTAMP].values})
    if array.sizes[clock] != stamps.size:
        raise DataError(
            f"The sequence has {stamps.size} time steps and the attribution {array.sizes[clock]}: they have to be of one sequence."
        )
    if clock in array.coords:
        times, own = style.positions(stamps), style.positions(array.coords[clock])
        if not np.allclose(times, own, rtol=1e-9, atol=1e-6 * (float(np.ptp(times)) or 1.0)):
            here, there = (f"{one.values[0]} to {one.values[-1]}" for one in (stamps, array.coords[clock]))
            raise DataError(
                f"The sequence lasts from {here} and the attribution from {there}: they have to be of one sequence, on one clock."
            )
    return array.assign_coords({clock: stamps})


def _without_padding(array: xr.DataArray, clock: str) -> xr.DataArray:
    """Cut off the end that holds nothing; steps without a value in between stay, so that the others keep their places."""
    known = array.notnull()
    known = known.any([dim for dim in array.dims if dim != clock]) if array.ndim > 1 else known
    if labelled.LENGTH in array.coords and array.coords[labelled.LENGTH].ndim == 0 and clock == labelled.TIME:
        last = int(array.coords[labelled.LENGTH])
    else:
        last = int(np.flatnonzero(known.values).max(initial=-1)) + 1
    return array.isel({clock: slice(last or None)})


def rows_of(array: xr.DataArray) -> str | None:
    """The dim of its channels or units, if it has one."""
    return next((dim for dim in ROWS if dim in array.dims), None)


def summed(array: xr.DataArray) -> xr.DataArray:
    """The attribution of each step: the sum over channels (or units), missing where all are."""
    dim = rows_of(array)
    return array if dim is None else array.sum(dim, min_count=1, keep_attrs=True)


# Words


def method_of(array: xr.DataArray) -> str:
    """What the colours are called: the method, and of which score; what is of none by its own name."""
    method, score = str(array.attrs.get("method", "Attribution")), array.attrs.get(SCORE)
    return f"{method} of the {score}" if score else str(array.attrs.get("long_name", method))


def title_of(array: xr.DataArray, *, method: bool = True) -> str:
    """The method, what it explains, what was predicted and the score, as far as they are known."""
    target, predicted, label, score = (_said_of(array, name) for name in (TARGET, PREDICTED, labelled.LABEL, SCORE))
    target = repr(target) if target is not None else array.attrs.get(TARGET)
    known = [f"predicted {predicted!r}"] if predicted is not None else []
    if label is not None and label != predicted:
        known.append(f"labelled {label!r}")
    parts = [str(array.attrs.get("method", "Attribution"))] if method else []
    parts += [f"for {target}"] if target else []
    parts += [f"({', '.join(known)})"] if known else []
    said = " ".join(parts)
    if not isinstance(score, int | float) or not math.isfinite(score):
        return said
    return f"{said}{', ' if said else ''}{array.attrs.get(SCORE, 'score')} {score:.3g}"


def _said_of(array: xr.DataArray, name: str) -> Any:
    """The value of a coordinate that one sequence has."""
    if name not in array.coords or array.coords[name].ndim:
        return None
    return array.coords[name].item()


def one_of(name: str, wanted: Any, known: Iterable[str]) -> str:
    """The word that a person chose.

    Raises
    ------
    DataError
        There is no such word.
    """
    listed = list(known)
    if wanted in listed:
        return str(wanted)
    near = nearest(wanted, listed) if isinstance(wanted, str) else ""
    there = ", ".join(f"'{one}'" for one in listed)
    raise DataError(f"There is no {name} {wanted!r}: there are {there}" + (f"; {near}." if near.startswith("the nearest") else "."))


# Beside and above a panel


def colour_bar(ax: Axes, shades: ScalarMappable, label: str, extend: str) -> Axes:
    """A colour bar close to its panel, its name on two lines where the panel is too low for one."""
    width, height = style.size_of(ax)
    beside = ax.inset_axes((1.02, 0.0, max(0.025, 7.0 / width), 1.0))
    ax.figure.colorbar(shades, cax=beside, label=_on_lines(label, height), extend=extend)
    return beside


def common_colour_bar(figure: Figure | SubFigure, axes: list[Axes], shades: ScalarMappable, label: str, extend: str) -> Colorbar:
    """A colour bar at the right of all panels."""
    height = max(72.0, figure.bbox.height * 72 / figure.dpi - _BAR_SHORTER)
    return figure.colorbar(shades, ax=axes, label=_on_lines(label, height), extend=extend, aspect=height / _BAR_WIDTH, pad=0.02)


def _on_lines(text: str, points: float) -> str:
    """The text on as many lines as it takes in this length, broken at a comma if that does."""
    room = max(12, int(points / (style.LETTER * FontProperties(size="medium").get_size_in_points())))
    first, comma, rest = text.partition(", ")
    if comma and max(len(first) + 1, len(rest)) <= room < len(text):
        return f"{first},\n{rest}"
    return textwrap.fill(text, room, break_long_words=False)


def name_above(ax: Axes, handles: Sequence[Any]) -> None:
    """Say above the upper left of a panel what is drawn in it. A title goes above that, with `put_title`."""
    points = FontProperties(size="small").get_size_in_points()
    ax.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.0,
        borderpad=0.3,
        ncols=len(handles),
        fontsize=points,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.2,
    )


def put_title(ax: Axes, title: str, *, named_above: bool) -> None:
    """Write above a panel and above what is named there, on two lines, broken at a bracket, where the panel is too narrow for one."""
    points = FontProperties(size="small").get_size_in_points()
    pad = 2.2 * points if named_above else GAP
    room = style.size_of(ax)[0] / (style.LETTER * FontProperties(size="large").get_size_in_points())
    first, bracket, rest = title.partition(" (")
    if bracket and max(len(first), len(rest) + 1) <= room < len(title):
        ax.set_title(f"{first}\n({rest}", pad=pad)
    else:
        style.put_title(ax, title, pad=pad)
