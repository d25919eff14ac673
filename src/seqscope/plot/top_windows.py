"""The parts of the input that drive a unit most, side by side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure

from seqscope.errors import DataError
from seqscope.labelled import CHANNEL, LABEL, SAMPLE, TIME, WINDOW
from seqscope.plot import style
from seqscope.plot.series import MOST_OVERLAID
from seqscope.plot.text_parts import shade, visible

INPUT, ACTIVATION = "input", "activation"
_MOST_COLUMNS = 3
_INK, _FILL = "#1A1A1A", style.COLORS[4]
# How high the input stands above the activation: lines or colours, and the letters of one-hot characters.
_HIGH, _LETTERS_HIGH = 2.4, 0.6


def top_windows(windows: xr.Dataset, *, figure: Figure | SubFigure | None = None, title: str | None = None) -> dict[str, Axes]:
    """Draw the windows of the input that drive a unit most, each above what the unit does there, all on the same scales.

    Channels are lines, or colours where there are over 16; one-hot characters are letters, coloured by the activation. A line marks the
    peak.

    Parameters
    ----------
    windows : Dataset
        What `units.top_windows` gives.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above; default: the unit and its layer, where they are known. "": nothing.

    Returns
    -------
    dict of Axes
        "window 0" and "activation 0" for the best, and so on.

    Raises
    ------
    DataError
        The Dataset holds no windows.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    >>> panels = sq.plot.top_windows(sq.units.top_windows(hidden, X, unit=3, k=4))
    >>> list(panels)[:2], len(panels)
    (['window 0', 'activation 0'], 8)
    """
    windows = _checked(windows)
    as_letters, n_channels = _is_one_hot(windows), windows.sizes[CHANNEL]
    figure, pairs = _grid(figure, windows.sizes[WINDOW], _LETTERS_HIGH if as_letters else _HIGH)
    times = style.positions(windows.coords[TIME])
    cmap, norm = style.color_scale(*style.limits([windows[ACTIVATION] if as_letters else windows[INPUT]]))
    colours = cmap.with_extremes(bad=(0.0, 0.0, 0.0, 0.0)), norm  # what lies outside a window is no missing value
    for place, (above, below) in enumerate(pairs):
        window = windows.isel({WINDOW: place})
        if as_letters:
            _draw_letters(above, times, window, colours)
        elif n_channels > MOST_OVERLAID:
            _draw_colours(above, times, window[INPUT], colours)
        else:
            _draw_lines(above, times, window[INPUT])
        _draw_activation(below, times, window[ACTIVATION])
        above.set_title(_said_of(window), fontsize="small")
    _name_axes(figure, pairs, windows, as_letters=as_letters)
    said = _title(windows) if title is None else title
    if said:
        figure.suptitle(said)
    return {f"{name} {place}": ax for place, pair in enumerate(pairs) for name, ax in zip(("window", ACTIVATION), pair, strict=True)}


def _checked(windows: Any) -> xr.Dataset:
    """The windows, cut to the steps that any of them has."""
    what = f"A {type(windows).__name__}"
    if isinstance(windows, xr.Dataset):
        shapes = {INPUT: {WINDOW, TIME, CHANNEL}, ACTIVATION: {WINDOW, TIME}}
        if all(name in windows and set(windows[name].dims) in (dims, dims - {WINDOW}) for name, dims in shapes.items()):
            windows = windows if WINDOW in windows.dims else windows.drop_vars(WINDOW, errors="ignore").expand_dims(WINDOW)
            for dim in (TIME, CHANNEL):
                windows = windows if dim in windows.coords else windows.assign_coords({dim: range(windows.sizes[dim])})
            known = windows[INPUT].notnull().any([WINDOW, CHANNEL])
            if known.any():
                cut: xr.Dataset = windows.isel({TIME: known.values}).transpose(WINDOW, TIME, CHANNEL, ...)
                return cut
            raise DataError("The windows are all NaN: there is nothing to draw.")
        what = "A Dataset that holds " + (", ".join(f"{name} {one.dims}" for name, one in windows.items()) or "nothing")
    raise DataError(
        f"{what} was given to draw: expected 'input' (window, time, channel) and 'activation' (window, time), as units.top_windows gives "
        "them."
    )


def _is_one_hot(windows: xr.Dataset) -> bool:
    """Whether each step is one of several characters."""
    names = [str(name) for name in windows.coords[CHANNEL].values]
    values = windows[INPUT].values
    known = ~np.isnan(values).any(axis=-1)
    is_hot = np.isin(values[known], (0.0, 1.0)).all() and (values[known].sum(axis=-1) == 1).all()
    return len(names) > 1 and bool(is_hot) and all(len(name) == 1 for name in names)


def _grid(figure: Figure | SubFigure | None, number: int, high: float) -> tuple[Figure | SubFigure, list[tuple[Axes, Axes]]]:
    """Two panels for each window, row by row, with common axes for all inputs and for all activations."""
    n_columns = min(_MOST_COLUMNS, number)
    n_rows = math.ceil(number / n_columns)
    figure = style.new_figure(figure, (max(6.4, 1.4 + 2.8 * n_columns), 1.2 + (0.6 * high + 1.1) * n_rows))
    grid = figure.add_gridspec(2 * n_rows, n_columns, height_ratios=[high, 1.0] * n_rows)
    pairs: list[tuple[Axes, Axes]] = []
    for place in range(number):
        row, column = divmod(place, n_columns)
        first = pairs[0] if pairs else (None, None)
        below = figure.add_subplot(grid[2 * row + 1, column], sharex=first[1], sharey=first[1])
        above = figure.add_subplot(grid[2 * row, column], sharex=below, sharey=first[0])
        pairs.append((above, below))
    return figure, pairs


def _draw_lines(ax: Axes, times: np.ndarray, window: xr.DataArray) -> None:
    marker = "." if int(window.notnull().any(CHANNEL).sum()) == 1 else None
    names = window.coords[CHANNEL].values
    for values, name, look in zip(window.values.T, names, style.line_styles(len(names)), strict=True):
        ax.plot(times, values, label=str(name), linewidth=1.1, marker=marker, **look)


def _draw_colours(ax: Axes, times: np.ndarray, window: xr.DataArray, colours: tuple[Colormap, Normalize]) -> None:
    """Channels by time, the first on top."""
    rows = np.arange(window.sizes[CHANNEL] + 1) - 0.5
    cmap, norm = colours
    ax.pcolormesh(style.edges(times), rows, np.ma.masked_invalid(window.values.T), cmap=cmap, norm=norm, rasterized=True)
    ax.set_ylim(rows[-1], rows[0])


def _draw_letters(ax: Axes, times: np.ndarray, window: xr.Dataset, colours: tuple[Colormap, Normalize]) -> None:
    """The character of each step on the colour of the activation."""
    values, names = window[ACTIVATION].values, window.coords[CHANNEL].values
    cmap, norm = colours
    ax.pcolormesh(style.edges(times), [0.0, 1.0], np.ma.masked_invalid(values[None]), cmap=cmap, norm=norm)
    for time, hot, value in zip(times, window[INPUT].values, values, strict=True):
        if not np.isnan(hot).any():
            ink = _INK if np.isnan(value) else shade(cmap, float(norm(value)))[1]
            letter = visible(str(names[int(hot.argmax())]))
            ax.text(time, 0.5, letter, color=ink, ha="center", va="center_baseline", family="monospace", fontsize="small", parse_math=False)


def _draw_activation(ax: Axes, times: np.ndarray, activation: xr.DataArray) -> None:
    """What the unit does, down to zero; a layer with a clock of its own has values here and there."""
    known = activation.notnull().values
    ax.fill_between(times[known], activation.values[known], color=_FILL, alpha=0.5, linewidth=0.0)
    gaps = bool(np.diff(np.flatnonzero(known)).max(initial=1) > 1)
    ax.plot(times[known], activation.values[known], color=_INK, linewidth=1.0, marker="." if gaps or known.sum() == 1 else None)


def _said_of(window: xr.Dataset) -> str:
    """Where a window lies, and how high the unit is."""
    known = {name: window[name].item() for name in (SAMPLE, LABEL, "start", "stop", "peak", "score") if name in window.variables}
    first = [f"Sample {known[SAMPLE]}"] if SAMPLE in known else []
    first += [f"labelled {str(known[LABEL])!r}"] if LABEL in known else []
    steps = f"steps {known['start']} to {known['stop'] - 1}" if {"start", "stop"} <= set(known) else ""
    peak = f"{known['score']:.3g}" + (f" at {known['peak']}" if "peak" in known else "") if "score" in known else ""
    return "\n".join(filter(None, [", ".join(first), ", ".join(filter(None, [steps, peak]))]))


def _name_axes(figure: Figure | SubFigure, pairs: list[tuple[Axes, Axes]], windows: xr.Dataset, *, as_letters: bool) -> None:
    """Scales at the left, time at the lowest of each column, the peak everywhere, the channels below all."""
    n_columns, names = min(_MOST_COLUMNS, len(pairs)), [str(name) for name in windows.coords[CHANNEL].values]
    style.time_axis(pairs[0][1], windows[ACTIVATION], TIME)
    many = len(names) > MOST_OVERLAID
    if many and not as_letters:
        style.name_rows(pairs[0][0], range(len(names)), names, small=True)
        bar = figure.colorbar(pairs[0][0].collections[0], ax=[ax for pair in pairs for ax in pair], label="Input", aspect=30, pad=0.02)
        bar.ax.tick_params(labelsize="small")
    for place, (above, below) in enumerate(pairs):
        is_left, is_lowest = place % n_columns == 0, place + n_columns >= len(pairs)
        above.tick_params(labelbottom=False, labelleft=is_left and not as_letters, left=not as_letters, labelsize="small")
        below.tick_params(labelbottom=is_lowest, labelleft=is_left, labelsize="small")
        below.set_xlabel(style.label_of(windows[ACTIVATION], TIME) if is_lowest else "")
        above.set_ylabel(
            "" if not is_left or as_letters else style.label_of(windows[INPUT], CHANNEL) if many else "Input", fontsize="small"
        )
        below.set_ylabel("Activation" if is_left else "", fontsize="small")
        for ax in (below,) if as_letters else (above, below):
            ax.axvline(0.0, color=_INK, linewidth=0.8, linestyle=":", zorder=1)
    if 1 < len(names) <= MOST_OVERLAID and not as_letters:
        style.name_below(figure, pairs[0][0].lines[: len(names)])


def _title(windows: xr.Dataset) -> str:
    """The unit and its layer."""
    unit = windows.attrs.get("unit", windows.coords["unit"].item() if "unit" in windows.coords else None)
    if unit is None:
        return ""
    layer = f" of '{windows.attrs['layer']}'" if "layer" in windows.attrs else ""
    return f"{style.unit_word(windows[ACTIVATION].assign_attrs(windows.attrs))} {unit}{layer}: what drives it most"
