"""The parts of the input that drive a unit most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from seqscope.errors import DataError, UnsupportedError, warn
from seqscope.labelled import CHANNEL, DIRECTION, LABEL, LONG_NAMES, SAMPLE, TIME, UNIT, WINDOW, figures_result
from seqscope.sequences import Sequences
from seqscope.units.best import Best
from seqscope.units.blocks import RECURRENT, Taken, channel_coord, inputs_of, one_of, positive, take_in
from seqscope.units.places import Places, placing
from seqscope.units.working import each_block, workers_of

if TYPE_CHECKING:
    import distributed

SIGNS = ("positive", "negative", "both")

# The steps before, of a unit that sees everything that was.
_STEPS = 20


def top_windows(
    activations: xr.DataArray,
    X: Any,
    unit: Any,
    k: int = 9,
    *,
    steps: int | tuple[int, int] | None = None,
    sign: Literal["positive", "negative", "both"] = "positive",
    client: Any = None,
) -> xr.Dataset:
    """The windows of the input that drive a unit most: what it looks for, in examples.

    Of a convolution the window is the receptive field of the step at which the unit is highest; of a recurrent unit the steps before.
    Windows of one sample do not overlap; the best is taken first. The array is read once, block by block along the samples; of one in
    chunks, or in a store that was opened lazily, those chunks that hold the unit.

    Parameters
    ----------
    activations : DataArray (sample, time, unit)
        What `scope.activations(X, layer)` gives; `step` in place of `time` will do, or one sequence without `sample`.
    X : Sequences, or anything that `Sequences` takes
        The input that the activations come from.
    unit : int or str
        The unit, by its label.
    k : int
        The windows, or fewer where the data has no more.
    steps : int, or (int, int), optional
        The window: so many steps that end with the peak (that begin with it, for a backward unit; around it, for other layers than
        recurrent ones), or how many before and after the peak. Default: the receptive field where the array holds it (`time_start`,
        `time_end`), 20 steps for recurrent layers.
    sign : {"positive", "negative", "both"}
        Whether the highest values count, the lowest, or the largest in size.
    client : distributed.Client, str or int, optional
        A Dask cluster whose workers read an array that is not in memory: a client, the address of a scheduler, or a number of workers to
        start here. The result is the same.

    Returns
    -------
    Dataset, by `window`, the best first
        `input` (window, time, channel): the input, with steps from the peak as `time`; NaN outside the window and the sequence.
        `activation` (window, time): the unit's value there; where the layer has a clock of its own, at the middle of what each of its
        steps sees, NaN between. Coordinates of each window: `sample`, `start` and `stop` (input steps from 0; the stop is left out),
        `peak` (the input step of the peak), `score` (the unit's value at the peak), and `label` where it is known.

    Raises
    ------
    DataError
        There is no such unit, it has no value, X does not fit the activations, or k, steps or sign can't be used.
    UnsupportedError
        The window can't be known and `steps` does not say it; a cluster that went away, or whose workers see other data than this process.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    >>> windows = sq.units.top_windows(hidden, X, unit=3, k=4, steps=6)
    >>> windows.input.sizes, windows.time.values.tolist()
    (Frozen({'window': 4, 'time': 6, 'channel': 12}), [-5, -4, -3, -2, -1, 0])
    """
    taken = take_in(activations)
    position, k = taken.unit(unit), positive(k, "k")
    one_of(sign, SIGNS, "sign")
    inputs = inputs_of(taken, X)
    extent = _extent(taken, position, steps)
    with workers_of(client) as workers:
        best = _best(taken, position, _Search(k, sign, extent), inputs, workers)
    found = _Found(taken, inputs, position, extent)
    return found.labelled(best, taken.unit_labels[position], sign)


def _extent(taken: Taken, position: int, steps: Any) -> tuple[int, int] | None:
    """The steps before and after the peak; None: the receptive field of its step."""
    recurrent = taken.kind in RECURRENT or not taken.kind
    backward = DIRECTION in taken.array.coords and taken.column(DIRECTION, UNIT)[position] == "backward"
    if isinstance(steps, tuple | list) and len(steps) == 2:
        return positive(steps[0], "steps[0]", least=0), positive(steps[1], "steps[1]", least=0)
    if steps is None and taken.clock != TIME and not recurrent:
        return None
    if steps is None and not recurrent:
        raise UnsupportedError(
            f"What a step of this layer ({taken.kind}) sees of the input is not in the array, since its steps are the input's own: say it "
            "with steps=, a number of steps around it, or (before, after)."
        )
    n_steps = _STEPS if steps is None else positive(steps, "steps")
    if not recurrent:
        return (n_steps - 1) // 2, n_steps // 2
    return (0, n_steps - 1) if backward else (n_steps - 1, 0)


@dataclass(frozen=True)
class _Peaks:
    """The best places: sample and layer step of each, and its window (start, stop, peak) in input steps."""

    samples: np.ndarray
    steps: np.ndarray
    windows: list[tuple[int, int, int]]


@dataclass(frozen=True)
class _Search:
    """For the best places of a unit: how many, by which size, and how many steps before and after belong to each (`_extent`)."""

    k: int
    sign: str
    extent: tuple[int, int] | None

    def within(self, rows: slice, block: np.ndarray, beside: tuple[Places, np.ndarray]) -> _Seen:
        """The best of a block (sample, time, one unit), whose steps have these places in inputs of these lengths."""
        values = block[..., 0]
        windows, there = self._windows(*beside, values.shape), np.isfinite(values)
        size = {"positive": values, "negative": -values, "both": np.abs(values)}[self.sign]
        best = Best(self.k)
        best.add(rows.start, np.where(there, size, -np.inf), partial(_overlaps, windows))
        at = [(sample - rows.start, step) for _, sample, step in best.places]
        found = [(int(windows.start[place]), int(windows.stop[place]), int(windows.centre[place])) for place in at]
        low, high = (float(ends) for ends in (values[there].min(initial=np.inf), values[there].max(initial=-np.inf)))
        return _Seen(low, high, list(zip(best.places, found, strict=True)))

    def _windows(self, places: Places, lengths: np.ndarray, shape: tuple[int, ...]) -> Places:
        """The window of every step, within the sequence."""
        if self.extent is None:
            start, stop = places.start, places.stop
        else:
            start = np.maximum(places.centre - self.extent[0], 0)
            stop = np.minimum(places.centre + self.extent[1] + 1, lengths[:, None])
        return Places(*(np.broadcast_to(part, shape) for part in (places.centre, start, stop)))


@dataclass(frozen=True)
class _Seen:
    """The range of a unit, and its best places, (score, sample, step), each with its window (start, stop, peak)."""

    low: float
    high: float
    places: list[tuple[tuple[float, int, int], tuple[int, int, int]]]

    def with_(self, other: _Seen, k: int) -> _Seen:
        """The same of this and another; of equal scores the first in the data comes first."""
        both = sorted(self.places + other.places, key=lambda place: (-place[0][0], *place[0][1:]))
        return _Seen(min(self.low, other.low), max(self.high, other.high), both[:k])


def _best(taken: Taken, position: int, search: _Search, inputs: Sequences, workers: distributed.Client | None) -> _Peaks:
    place = placing(taken, inputs)
    alone = replace(taken, array=taken.array.isel({UNIT: [position]}))  # of a store, the chunks of this unit and no others
    seen = _Seen(np.inf, -np.inf, [])
    for here in each_block(alone, search.within, workers, beside=lambda rows: (place(rows), inputs.lengths[rows])):
        seen = seen.with_(here, search.k)
    if not seen.places:
        raise DataError(f"Unit {taken.unit_labels[position]!r}{taken.in_layer} is NaN at every step of every sequence.")
    if seen.low == seen.high:
        warn(f"Unit {taken.unit_labels[position]!r}{taken.in_layer} is {seen.low:g} at every step: no window drives it more than another.")
    best, windows = zip(*seen.places, strict=True)
    _, samples, steps = (np.array(column) for column in zip(*best, strict=True))
    return _Peaks(samples, steps, list(windows))


def _overlaps(places: Places, row: int, step: int) -> np.ndarray:
    """Which windows of a sample overlap with that of a step, or see nothing else."""
    overlap = (places.start[row] < places.stop[row, step]) & (places.stop[row] > places.start[row, step])
    overlap[step] = True
    return np.asarray(overlap)


class _Found:
    """Cuts the windows out of the input."""

    def __init__(self, taken: Taken, inputs: Sequences, position: int, extent: tuple[int, int] | None) -> None:
        self.taken, self.inputs, self.position, self.extent = taken, inputs, position, extent
        self.place = placing(taken, inputs)

    def labelled(self, peaks: _Peaks, unit: Any, sign: str) -> xr.Dataset:
        """The windows side by side, with their peaks below each other."""
        before = max(peak - start for start, _, peak in peaks.windows)
        after = max(stop - 1 - peak for _, stop, peak in peaks.windows)
        if self.extent is not None:
            before, after = self.extent
        flat, n_channels = self.inputs.to_flat(), self.inputs.n_channels or 0
        values = self._values(peaks.samples)
        cut = np.full((len(values), before + 1 + after, n_channels), np.nan, np.result_type(flat.steps, np.float32))
        along = np.full(cut.shape[:2], np.nan)
        for row, (sample, (start, stop, peak)) in enumerate(zip(peaks.samples.tolist(), peaks.windows, strict=True)):
            inside = slice(before + start - peak, before + stop - peak)
            cut[row, inside] = flat.part(sample)[start:stop]
            along[row, inside] = self._on_input_clock(sample, values[row])[start:stop]
        parts = {
            "input": ((WINDOW, TIME, CHANNEL), cut, "Input"),
            "activation": ((WINDOW, TIME), along, f"Activation of unit {unit}"),
        }
        coords = self._coords(peaks, values[np.arange(len(values)), peaks.steps]) | {
            TIME: xr.Variable(TIME, np.arange(-before, after + 1), {"long_name": "Steps from the Peak"}),
            CHANNEL: channel_coord(self.inputs),
        }
        said = {"unit": unit, "sign": sign, "steps": before + 1 + after}
        return figures_result(parts, coords=coords, attrs=self.taken.attrs("units.top_windows") | said)

    def _values(self, samples: np.ndarray) -> np.ndarray:
        """The unit in the sample of each window, (window, step), in one read."""
        which, places = np.unique(samples, return_inverse=True)
        return np.asarray(self.taken.array.isel({SAMPLE: which, UNIT: self.position}).values)[places]

    def _on_input_clock(self, sample: int, values: np.ndarray) -> np.ndarray:
        """The unit's values at the input's steps, (time); NaN between those of a layer's own clock."""
        if self.taken.clock == TIME:
            return values
        there = np.isfinite(values)
        found = np.full(int(self.inputs.lengths[sample]), np.nan)
        found[self.place(slice(sample, sample + 1)).centre[0, there]] = values[there]
        return found

    def _coords(self, peaks: _Peaks, scores: np.ndarray) -> dict[str, xr.Variable]:
        """Where each window lies."""
        labels = self.inputs.labels if self.taken.labels is None else self.taken.labels
        start, stop, peak = (np.array(column) for column in zip(*peaks.windows, strict=True))
        columns = {
            SAMPLE: (self.taken.samples[peaks.samples], LONG_NAMES[SAMPLE]),
            "start": (start, "First Step"),
            "stop": (stop, "Step after the Last"),
            "peak": (peak, "Step of the Peak"),
            "score": (scores.astype(np.float64), "Activation at the Peak"),
        } | ({} if labels is None else {LABEL: (labels[peaks.samples], "Label")})
        return {name: xr.Variable(WINDOW, column, {"long_name": called}) for name, (column, called) in columns.items()}
