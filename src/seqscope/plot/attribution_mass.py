"""Where along time the attributions of many sequences lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from seqscope import labelled
from seqscope.errors import DataError
from seqscope.plot import style
from seqscope.plot.attribution_parts import Attribution, Channels, chosen, name_above, put_title, summed
from seqscope.plot.attribution_samples import By, classes_of, samples_of
from seqscope.plot.attribution_styles import borders_of
from seqscope.plot.series import name_lines

# The most classes whose quartiles are drawn: the bands of more would hide one another.
_MOST_BANDS = 3


def attribution_mass(
    a: Attribution,
    by: By | None = None,
    *,
    relative: bool = False,
    channels: Channels | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw where along time attributions lie: the mean share of each step, with a band from the lower to the upper quartile of samples.

    A step's share is its sum over channels of absolute values, as a part of the whole sequence's. The mean at a step is that of the
    sequences that last as long. A sequence whose attribution is zero everywhere has no shares and is left out.

    Parameters
    ----------
    a : DataArray or Dataset
        The attributions of many sequences, as in `class_attribution`.
    by : str, sequence or DataArray, optional
        Draw a line for each class: the class of each sample, or the name of a coordinate that has it, such as "label". Default: one line
        for all. Bands are drawn for up to 3 classes.
    relative : bool
        Stretch each sequence from 0 at its beginning to 1 at its end, and draw how dense the mass is: 1 where it is spread evenly.
    channels : str, int, list or slice, optional
        The channels to count, by name. Default: all.
    title : str, optional
        What to write above.
    ax : Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    Axes
        x: time, in the data's units, or relative time.

    Raises
    ------
    DataError
        The attribution has no time or is zero everywhere, or the classes are not known or not as many as there are samples.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import seqscope as sq
    >>> values = np.random.default_rng(0).standard_normal((6, 20, 3))
    >>> ax = sq.plot.attribution_mass(xr.DataArray(values, dims=("sample", "time", "channel")))
    >>> ax.get_ylabel()
    'Share of the attribution'
    """
    array, time = samples_of(a, one_will_do=True)
    array = array if channels is None else chosen(array, labelled.CHANNEL, channels)
    classes, numbers = (["Mean"], np.zeros(array.sizes[labelled.SAMPLE], dtype=int)) if by is None else classes_of(array, by)
    shares = _shares(array, time)
    borders = borders_of(array)
    if relative:
        shares, borders = _stretched(shares)
    ax = style.new_axes(ax, (8.0, 4.0))
    bands = len(classes) <= _MOST_BANDS
    for number, look in enumerate(style.line_styles(len(classes))):
        of_class = shares[numbers == number]
        of_class = of_class[~np.isnan(of_class).all(axis=1)]
        if len(of_class):
            _draw_shares(ax, of_class, borders, f"{classes[number]} (n = {len(of_class)})", look, band=bands)
    _label_axes(ax, array, time, relative=relative)
    if bands:
        name_above(ax, [*ax.lines, Patch(color="0.8", label="Lower to upper quartile")])
    else:
        name_lines(ax)
    if relative:
        ax.axhline(1.0, color=style.MISSING, linewidth=0.8, zorder=0)
    put_title(ax, title or "", named_above=bands)
    return ax


def _shares(array: xr.DataArray, time: str) -> np.ndarray:
    """The share of each step, (sample, time), NaN after the end and in samples without any."""
    mass = summed(abs(array)).transpose(labelled.SAMPLE, time)
    total = mass.sum(time)
    if not bool((total > 0).any()):
        raise DataError("The attributions are zero everywhere: there are no shares to draw.")
    return np.asarray((mass / total.where(total > 0)).values, dtype=float)


def _stretched(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The density over relative time of each sample, in as many bins as the median sample has steps, and their borders."""
    ends = [int(np.flatnonzero(~np.isnan(row)).max(initial=-1)) + 1 for row in shares]
    borders = np.linspace(0.0, 1.0, max(1, int(np.median([end for end in ends if end]))) + 1)
    density = np.full((len(shares), len(borders) - 1), np.nan)
    for place, end in enumerate(ends):
        if end:  # how much lies before each border, as a straight line within each step
            before = np.concatenate([[0.0], np.nancumsum(shares[place, :end])])
            density[place] = np.diff(np.interp(borders, np.linspace(0.0, 1.0, end + 1), before)) / np.diff(borders)
    return density, borders


def _draw_shares(ax: Axes, shares: np.ndarray, borders: np.ndarray, name: str, look: dict[str, Any], *, band: bool) -> None:
    """The mean of each step as a line, with a band between the quartiles."""
    known = ~np.isnan(shares).all(axis=0)
    centres = ((borders[1:] + borders[:-1]) / 2)[known]
    marker = "." if len(centres) == 1 else None
    ax.plot(centres, np.nanmean(shares[:, known], axis=0), label=name, linewidth=1.4, marker=marker, **look)
    if band and len(shares) > 1:
        low, high = np.nanquantile(shares[:, known], [0.25, 0.75], axis=0)
        ax.fill_between(centres, low, high, color=look["color"], alpha=0.2, linewidth=0.0)


def _label_axes(ax: Axes, array: xr.DataArray, time: str, *, relative: bool) -> None:
    """Name both axes; shares begin at zero."""
    if relative:
        ax.set_xlim(0.0, 1.0)
        ax.set_xlabel("Relative time (0: first step, 1: end)")
        ax.set_ylabel("Density of the attribution (1: even)")
    else:
        style.time_axis(ax, array, style.clock(array, time))
        ax.set_ylabel("Share of the attribution")
    ax.set_ylim(bottom=0.0)
