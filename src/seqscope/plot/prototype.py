"""What a class or a unit asks for, beside the real sequences that come nearest to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from seqscope.errors import DataError
from seqscope.labelled import CHANNEL, ITERATION, RANK, REAL_TIME, RESTART, TIME
from seqscope.plot import style
from seqscope.plot.attribution_parts import one_of
from seqscope.plot.series import MOST_OVERLAID

Layout = Literal["lanes", "overlay"]

INPUT, REAL, SCORE, MARGIN = "input", "real_input", "score", "margin"
_INK, _FAINT = "#1A1A1A", "#9A9A9A"
# Widths of the made input's panel and of a real sequence's, in inches.
_MADE, _REAL = 3.6, 2.2
# A lane's lines leave a little of it free.
_FILLED = 0.95


@dataclass(frozen=True)
class _Shown:
    """What is drawn: the restarts, the place of the one that stands out (None: all do), the real sequences, and the range of each channel.

    The ranges are those of all that is drawn, so that every panel has the same lanes.
    """

    made: xr.DataArray
    best: int | None
    reals: list[xr.DataArray]
    low: np.ndarray
    high: np.ndarray

    @property
    def names(self) -> list[str]:
        """The channels."""
        return [str(name) for name in self.made.coords[CHANNEL].values]

    @property
    def lane(self) -> float:
        """What a lane spans."""
        return float((self.high - self.low).max()) or 1.0


def prototype(
    found: xr.Dataset,
    *,
    layout: Layout = "lanes",
    restart: int | Literal["all"] | None = None,
    reals: int = 3,
    scores: bool = False,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> dict[str, Axes]:
    r"""Draw the input that a class or a unit asks for, beside the real sequences that score highest.

    All panels have the same scales, so that what was made can be held against what is there. Above each stand its scores and, of what was
    made, how far it lies from the nearest real sequence, counted in what is usual between real ones.

    Parameters
    ----------
    found : Dataset
        What `scope.maximize` gives. Real sequences are drawn where it was given `like=`.
    layout : {"lanes", "overlay"}
        "lanes": each channel on a lane of its own. "overlay": all on one scale.
    restart : int or "all", optional
        Draw this restart alone, or all of them alike; default: the one that ends highest, the others faint behind it.
    reals : int
        The most real sequences to draw.
    scores : bool
        Draw the score along the iterations below, with that of the best real sequence.
    figure : Figure or SubFigure, optional
        Where to draw; default: a new figure.
    title : str, optional
        What to write above; default: what was asked for. "": nothing.

    Returns
    -------
    dict of Axes
        "made", "real 0", "real 1", ... and "scores".

    Raises
    ------
    DataError
        The Dataset holds no made input, or there is no such layout or restart.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import seqscope as sq
    >>> made = np.random.default_rng(0).standard_normal((4, 20, 3))  # scope.maximize(3, like=X) makes the Dataset
    >>> found = xr.Dataset({"input": (("restart", "time", "channel"), made)}, attrs={"score": "logit"})
    >>> panels = sq.plot.prototype(found.assign(score=(("restart", "iteration"), np.eye(4))), scores=True)
    >>> panels["made"].get_title()
    'Made: restart 3\nlogit 1'
    """
    layout = one_of("layout", layout, ("lanes", "overlay"))  # type: ignore[assignment]
    found = _checked(found)
    shown = _shown(found, restart, _counted(reals))
    figure, panels = _panels(figure, shown, scores=scores)
    looks = _looks(shown, layout)
    _draw_made(panels["made"], shown, looks, layout)
    for rank, real in enumerate(shown.reals):
        _draw_real(panels[f"real {rank}"], real, shown, looks, layout)
    _name_axes(panels, shown, layout)
    _put_titles(panels, found, shown)
    if scores:
        _draw_scores(panels["scores"], found, shown)
    _name_lines(figure, shown, looks, layout)
    said = str(found[INPUT].attrs.get("long_name", "")) if title is None else title
    if said:
        figure.suptitle(said)
    return panels


# What is drawn


def _checked(found: Any) -> xr.Dataset:
    """The Dataset, with a dim for restarts."""
    what = f"A {type(found).__name__}"
    if isinstance(found, xr.Dataset):
        if INPUT in found and {TIME, CHANNEL} <= set(found[INPUT].dims) <= {RESTART, TIME, CHANNEL}:
            return found if RESTART in found[INPUT].dims else _with_restart(found)
        held = ", ".join(f"{name} {one.dims}" for name, one in found.items()) or "nothing"
        what = f"A Dataset that holds {held}"
    raise DataError(f"{what} was given to draw: expected 'input' (restart, time, channel), as scope.maximize(3, like=X) gives it.")


def _with_restart(found: xr.Dataset) -> xr.Dataset:
    """One restart as the only one."""
    own = [str(name) for name, one in found.items() if name in (INPUT, "probability", "distance") or ITERATION in one.dims]
    number = found.coords[RESTART].item() if RESTART in found.coords else 0
    bare = found.drop_vars(RESTART, errors="ignore")
    return bare.assign({name: bare[name].expand_dims({RESTART: [number]}) for name in own})


def _counted(reals: Any) -> int:
    if isinstance(reals, bool) or not isinstance(reals, int) or reals < 0:
        raise DataError(f"reals is {reals!r}: expected the most real sequences to draw, a whole number from 0.")
    return reals


def _shown(found: xr.Dataset, restart: Any, n_reals: int) -> _Shown:
    made = found[INPUT].transpose(RESTART, TIME, CHANNEL)
    for dim in made.dims:
        made = made if dim in made.coords else made.assign_coords({dim: range(made.sizes[dim])})
    labels = made.coords[RESTART].values.tolist()
    best: int | None = int(np.nan_to_num(_ends(found), nan=-np.inf).argmax()) if SCORE in found else 0
    if restart == "all":
        best = None
    elif restart is not None:
        if restart not in labels:
            raise DataError(f"There is no restart {restart!r}: there are {len(labels)}, {labels[0]} to {labels[-1]}, and 'all'.")
        made, best = made.isel({RESTART: [labels.index(restart)]}), 0
    reals = _reals(found, n_reals)
    stacked = np.concatenate([made.values.reshape(-1, made.sizes[CHANNEL]), *(real.values for real in reals)])
    return _Shown(made, best, reals, np.nanmin(stacked, axis=0), np.nanmax(stacked, axis=0))


def _raised(found: xr.Dataset) -> str:
    """What was raised: the margin where outputs compete, else the score."""
    return MARGIN if found.attrs.get("objective") == MARGIN and MARGIN in found else SCORE


def _ends(found: xr.Dataset) -> np.ndarray:
    """What each restart ends at, (restart,)."""
    return _last(found[_raised(found)])


def _last(along: xr.DataArray) -> np.ndarray:
    """The last figure of each restart that is there, (restart,)."""
    values = along.transpose(RESTART, ITERATION).values
    last = values.shape[1] - 1 - (~np.isnan(values))[:, ::-1].argmax(axis=1)
    return np.asarray(values[np.arange(len(values)), last])


def _reals(found: xr.Dataset, number: int) -> list[xr.DataArray]:
    """The real sequences, (real_time, channel), each to its end."""
    if REAL not in found:
        return []
    real = found[REAL].transpose(RANK, REAL_TIME, CHANNEL).isel({RANK: slice(number)})
    real = real if REAL_TIME in real.coords else real.assign_coords({REAL_TIME: range(real.sizes[REAL_TIME])})
    return [one.dropna(REAL_TIME, how="all") for one in real]


# Panels


def _panels(figure: Figure | SubFigure | None, shown: _Shown, *, scores: bool) -> tuple[Figure | SubFigure, dict[str, Axes]]:
    """The made input on the left, the real ones on its right, the scores below all."""
    n_reals, n_lanes = len(shown.reals), len(shown.names)
    high = min(12.0, max(3.4, 1.0 + 0.3 * n_lanes))
    wide = (_MADE if n_reals else 6.4) + _REAL * n_reals + 1.0
    figure = style.new_figure(figure, (wide, high + 1.2 + 1.7 * scores))
    widths = [_MADE / _REAL, *([1.0] * n_reals)]
    grid = figure.add_gridspec(1 + scores, 1 + n_reals, width_ratios=widths, height_ratios=[high, 1.7] if scores else [1.0])
    made = figure.add_subplot(grid[0, 0])
    panels = {"made": made}
    for rank in range(n_reals):
        panels[f"real {rank}"] = figure.add_subplot(grid[0, 1 + rank], sharex=made, sharey=made)
        panels[f"real {rank}"].tick_params(labelleft=False)
    return figure, panels | ({"scores": figure.add_subplot(grid[1, :])} if scores else {})


def _looks(shown: _Shown, layout: str) -> list[dict[str, Any]]:
    """How each restart's lines look on lanes, and each channel's overlaid."""
    n_restarts, n_channels = shown.made.sizes[RESTART], len(shown.names)
    if layout == "overlay":
        many = n_channels > MOST_OVERLAID  # too many to be told apart by colour and line
        return [{"color": _INK, "linewidth": 0.5}] * n_channels if many else style.line_styles(n_channels)
    if shown.best is None:
        return [look | {"linewidth": 0.9} for look in style.line_styles(n_restarts)]
    faint, strong = {"color": _FAINT, "linewidth": 0.6, "alpha": 0.7}, {"color": style.COLORS[0], "linewidth": 1.4}
    return [strong if place == shown.best else faint for place in range(n_restarts)]


def _draw_made(ax: Axes, shown: _Shown, looks: list[dict[str, Any]], layout: str) -> None:
    """The restarts, the best one over the others; overlaid, the others would hide it and are left out."""
    times = style.positions(shown.made.coords[TIME])
    for place, values in enumerate(shown.made.values):
        if layout == "lanes":
            _draw_lanes(ax, times, values, shown, looks[place], zorder=3 if place == shown.best else 2)
        elif shown.best in (place, None):
            _draw_overlaid(ax, times, values, looks, {} if shown.best is not None else {"linewidth": 0.6})


def _draw_real(ax: Axes, real: xr.DataArray, shown: _Shown, looks: list[dict[str, Any]], layout: str) -> None:
    times = style.positions(real.coords[REAL_TIME])
    if layout == "lanes":
        _draw_lanes(ax, times, real.values, shown, {"color": _INK, "linewidth": 1.0}, zorder=2)
    else:
        _draw_overlaid(ax, times, real.values, looks, {})


def _draw_lanes(ax: Axes, times: np.ndarray, values: np.ndarray, shown: _Shown, look: dict[str, Any], *, zorder: int) -> None:
    """One lane a channel, the first on top, each around its own middle and all on one scale."""
    around = (values - (shown.low + shown.high) / 2) / shown.lane
    marker = "." if len(times) == 1 else None
    ax.plot(times, _FILLED * around - np.arange(len(shown.names)), marker=marker, zorder=zorder, **look)


def _draw_overlaid(ax: Axes, times: np.ndarray, values: np.ndarray, looks: list[dict[str, Any]], more: dict[str, Any]) -> None:
    """All channels on one scale."""
    marker = "." if len(times) == 1 else None
    for of_channel, look in zip(values.T, looks, strict=True):
        ax.plot(times, of_channel, marker=marker, **({"linewidth": 1.1} | look | more))


# Words


def _name_axes(panels: dict[str, Axes], shown: _Shown, layout: str) -> None:
    """Time below each panel, as long as the longest sequence; channels or values at the left."""
    made = panels["made"]
    style.time_axis(made, shown.made, TIME)
    for rank, real in enumerate(shown.reals):
        before = made.get_xlim()
        style.time_axis(panels[f"real {rank}"], real, REAL_TIME)
        after = made.get_xlim()
        made.set_xlim(min(before[0], after[0]), max(before[1], after[1]))
    if layout == "overlay":
        made.set_ylabel("Value")
        return
    style.name_rows(made, [-place for place in range(len(shown.names))], shown.names, small=True)
    made.set_ylim(-len(shown.names) + 0.4, 0.6)
    style.put_ylabel(made, style.label_of(shown.made, CHANNEL), f"(a lane spans {shown.lane:.3g})")
    for panel in [ax for name, ax in panels.items() if name.startswith("real")]:
        panel.tick_params(axis="y", length=0)


def _put_titles(panels: dict[str, Axes], found: xr.Dataset, shown: _Shown) -> None:
    """The scores, above each panel."""
    panels["made"].set_title(_said_of_made(found, shown), fontsize="small")
    score = str(found.attrs.get("score", SCORE))
    for rank in range(len(shown.reals)):
        said = {name: found[f"real_{name}"].values[rank] for name in ("sample", "label", SCORE, MARGIN) if f"real_{name}" in found}
        first = f"Real: sample {said['sample']}" if "sample" in said else f"Real: rank {rank}"
        first += f", labelled {str(said['label'])!r}" if "label" in said else ""
        scores = [f"{word} {said[name]:.3g}" for word, name in ((score, SCORE), (MARGIN, MARGIN)) if name in said]
        panels[f"real {rank}"].set_title("\n".join(filter(None, [first, ", ".join(scores)])), fontsize="small")


def _said_of_made(found: xr.Dataset, shown: _Shown) -> str:
    """Which restart it is and how it scores; of all, from where to where they score."""
    labels = shown.made.coords[RESTART].values
    places = [_place(found, label) for label in (labels if shown.best is None else labels[[shown.best]])]
    name = f"Made: {len(labels)} restarts" if shown.best is None else f"Made: restart {labels[shown.best]}"
    words = {SCORE: str(found.attrs.get("score", SCORE)), MARGIN: MARGIN}
    scores = [f"{word} {_span(_last(found[key])[places])}" for key, word in words.items() if key in found]
    name += f", probability {_span(found['probability'].values[places])}" if "probability" in found else ""
    far = f"distance {_span(found['distance'].values[places])} times the data's own" if "distance" in found else ""
    return "\n".join(filter(None, [name, ", ".join(scores), far]))


def _span(values: np.ndarray) -> str:
    """A number, or from which to which; what rounds to 1 and is less says so."""
    low, high = (f"{end:.3g}" if not 0.9995 <= end < 1 else "> 0.999" for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _name_lines(figure: Figure | SubFigure, shown: _Shown, looks: list[dict[str, Any]], layout: str) -> None:
    """What the lines are, below all panels."""
    labels = shown.made.coords[RESTART].values
    if layout == "overlay":
        named = dict(zip(shown.names, looks, strict=True)) if 1 < len(shown.names) <= MOST_OVERLAID else {}
    elif shown.best is None:
        named = {f"Restart {label}": look for label, look in zip(labels, looks, strict=True)}
    elif len(labels) > 1:
        named = {f"Restart {labels[shown.best]}": looks[shown.best], "Other restarts": looks[shown.best - 1]}
    else:
        named = {}
    handles = [Line2D([], [], label=name, **look) for name, look in named.items()]
    if handles:
        style.name_below(figure, handles)


# Scores


def _draw_scores(ax: Axes, found: xr.Dataset, shown: _Shown) -> None:
    """What was raised along the iterations, and the best real sequence's."""
    if SCORE not in found:
        raise DataError("The Dataset holds no 'score' (restart, iteration): leave scores= out.")
    raised = _raised(found)
    array = found[raised].transpose(RESTART, ITERATION)
    array = array.isel({RESTART: [_place(found, label) for label in shown.made.coords[RESTART].values]})
    iterations = array.coords[ITERATION].values if ITERATION in array.coords else np.arange(array.sizes[ITERATION])
    for place, (values, look) in enumerate(zip(array.values, _looks(shown, "lanes"), strict=True)):
        ax.plot(iterations, values, zorder=3 if place == shown.best else 2, **look)
    best_real = found.get(f"real_{raised}")
    if best_real is not None:
        ax.axhline(float(best_real.max()), color=style.COLORS[1], linestyle="--", linewidth=1.0, label="Best real sequence")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.0, fontsize="small", frameon=False)
    ax.set_xlabel("Iteration")
    ax.set_ylabel(raised.capitalize() if raised == MARGIN else str(found.attrs.get("score", SCORE)).capitalize())
    ax.margins(x=0.01)


def _place(found: xr.Dataset, label: Any) -> int:
    """Where a restart stands in the Dataset."""
    known = found[INPUT].coords.get(RESTART)
    return int(label) if known is None else known.values.tolist().index(label)
