"""What one unit does over the whole data set, in numbers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from seqscope import units
from seqscope.errors import SeqscopeError, UnsupportedError
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.labelled import DIRECTION, SAMPLE, UNIT
from seqscope.units import clock_of
from seqscope.units.blocks import take_in

# The windows that are shown, the steps of one where the layer does not say, and the bins of a histogram.
K, STEPS, BINS = 6, 21, 40
# What a unit follows is looked for in so many pairs of a value and an input, over all units, in the first samples.
_PAIRS = 150_000_000
# The gates of an LSTM and of a GRU, without which nothing can be said of them.
_GATES = ({"i", "f", "o"}, {"r", "z"})


@dataclass(frozen=True, eq=False)
class Found:
    """One unit over all samples.

    Attributes
    ----------
    label : Hashable
        What the unit is called.
    report : Dataset
        `units.summary` of this unit alone, with `unit` as a dim of one.
    followed : Dataset or None
        The same with the input: which channel it follows, in the first `n_followed` of `n_samples`.
    edges, counts : array (bin + 1), (bin)
        The histogram of its values.
    windows : Dataset or None
        What drives it most.
    steps : object
        What `top_windows` was told of the windows' steps.
    unknown : list of str
        What can't be said, a sentence each.
    """

    label: Hashable
    report: xr.Dataset
    followed: xr.Dataset | None
    n_followed: int
    n_samples: int
    edges: np.ndarray
    counts: np.ndarray
    windows: xr.Dataset | None
    steps: int | tuple[int, int] | None
    unknown: list[str] = field(default_factory=list)


def find_unit(source: Source, chosen: Chosen) -> Found:
    """The numbers; what is of all units is made once for all who look."""
    place = (chosen.layer, chosen.state)
    whole = source.whole(*place)
    position, label = chosen.unit, source.layer(chosen.layer).units_of(chosen.state)[chosen.unit]
    unknown: list[str] = []
    report = source.once(("report", *place), lambda: _report(source, chosen, whole)).isel({UNIT: [position]})
    if source.classes is None:
        unknown.append("Which classes it tells apart is not known: there are no labels, or they are no classes.")
    followed, n_followed, windows, steps = None, 0, None, None
    if source.X is None:
        unknown.append("What it follows and what drives it is not known: the inputs were not recorded, and the data was not given.")
    else:
        try:
            n_followed = n_first(source, whole)
            all_followed = source.once(("followed", *place), lambda: _followed(source, whole, n_followed))
            followed = all_followed.isel({UNIT: [position]})
            windows, steps = source.once(("windows", *place, position), lambda: _windows(source, chosen, whole))
        except SeqscopeError as error:
            unknown.append(f"What it follows and what drives it is not known. {error.message}")
    edges, counts = source.once(("histogram", *place, position), lambda: histogram(whole, position, report))
    return Found(label, report, followed, n_followed, len(source), edges, counts, windows, steps, unknown)


def gates_of(source: Source, chosen: Chosen) -> xr.Dataset | None:
    """The states of the layer over all samples, as `summary` takes them; None where its gates are not there."""
    names = {state.partition(".")[0] for state in source.layer(chosen.layer).states}
    if not any(gates <= names for gates in _GATES):
        return None
    states = source.whole_states(chosen.layer)
    way = chosen.state.partition(".")[2]
    return states.sel({DIRECTION: way}, drop=True) if way else states


def n_first(source: Source, whole: xr.DataArray) -> int:
    """In how many samples what a unit follows is looked for."""
    per_sample = whole.size / whole.sizes[SAMPLE] * (source.inputs().n_channels or 1)
    return int(min(len(source), max(10, _PAIRS // max(1, per_sample))))


def _report(source: Source, chosen: Chosen, whole: xr.DataArray) -> xr.Dataset:
    labels, states = source.classes, gates_of(source, chosen)
    if states is None or not _fit(whole, states):
        return units.summary(whole, labels)
    return units.summary(whole, labels, states=states)


def _fit(whole: xr.DataArray, states: xr.Dataset) -> bool:
    """Whether the gates are those of the units that are shown; not where these are projected."""
    gate = states[next(name for name in ("f", "z") if name in states)]
    return bool(gate.sizes[UNIT] * gate.sizes.get(DIRECTION, 1) == whole.sizes[UNIT])


def _followed(source: Source, whole: xr.DataArray, n: int) -> xr.Dataset:
    return units.summary(whole.isel({SAMPLE: slice(n)}), X=source.inputs()[:n], duplicate=None)


def _windows(source: Source, chosen: Chosen, whole: xr.DataArray) -> tuple[xr.Dataset, int | tuple[int, int] | None]:
    """The windows, and what had to be said of their steps."""
    label = source.layer(chosen.layer).units_of(chosen.state)[chosen.unit]
    steps = (0, STEPS - 2) if chosen.state.endswith(".backward") else None
    try:
        return units.top_windows(whole, source.inputs(), label, K, steps=steps), steps
    except UnsupportedError:  # the array does not say what its steps see
        return units.top_windows(whole, source.inputs(), label, K, steps=STEPS), STEPS


def histogram(whole: xr.DataArray, position: int, report: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """How often the unit has which values, read block by block."""
    low, high = float(report["low"][0]), float(report["high"][0])
    edges = np.histogram_bin_edges([], BINS, (low, high) if low < high else (low - 0.5, low + 0.5))
    counts = np.zeros(BINS, np.int64)
    for _, block in take_in(whole.isel({UNIT: [position]})).blocks():
        counts += np.histogram(block[np.isfinite(block)], edges)[0]
    return edges, counts


def stretch_of(source: Source, chosen: Chosen, windows: xr.Dataset, place: int) -> dict[str, int]:
    """The sample of a window, by position, and the steps of the layer in it."""
    from seqscope.explorer.figures.clock import Clock

    window = windows.isel(window=place)
    sample = int(np.flatnonzero(source.sample_ids == window[SAMPLE].values)[0])
    values, shown = source.values(chosen.layer, chosen.state, sample), source.inputs()[sample]
    borders = Clock(shown).edges
    steps = Clock(values).steps_between(float(borders[int(window["start"])]), float(borders[int(window["stop"])]))
    found = {"sample": sample, "start": steps.start, "stop": steps.stop}
    return found if steps.start < steps.stop <= values.sizes[clock_of(values)] else found | {"start": 0, "stop": 0}
