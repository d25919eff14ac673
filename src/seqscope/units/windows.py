"""The parts of the input that drive a unit most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from seqscope.errors import DataError, UnsupportedError, warn
from seqscope.labelled import CHANNEL, DIRECTION, LABEL, LONG_NAMES, SAMPLE, TIME, UNIT, WINDOW, figures_result
from seqscope.sequences import Sequences
from seqscope.units.best import Best
from seqscope.units.blocks import RECURRENT, Taken, channel_coord, inputs_of, one_of, positive, take_in
from seqscope.units.places import Places, placing

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
) -> xr.Dataset:
    """The windows of the input that drive a unit most: what it looks for, in examples.

    Of a convolution the window is the receptive field of the step at which the unit is highest; of a recurrent unit the steps before.
    Windows of one sample do not overlap; the best is taken first. The array is read once, block by block along the samples.

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
        The window can't be known and `steps` does not say it.

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
    best = _best(taken, position, k, sign, _windows_of(placing(taken, inputs), inputs, extent))
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


def _windows_of(place: Callable[[slice], Places], inputs: Sequences, extent: tuple[int, int] | None) -> Callable[[slice], Places]:
    """A function that gives the window of every step of some sequences, within the sequence."""
    if extent is None:
        return place

    def windows(rows: slice) -> Places:
        centre = place(rows).centre
        lengths = inputs.lengths[rows, None]
        return Places(centre, np.maximum(centre - extent[0], 0), np.minimum(centre + extent[1] + 1, lengths))

    return windows


@dataclass(frozen=True)
class _Peaks:
    """The best places: sample and layer step of each, and its window (start, stop, peak) in input steps."""

    samples: np.ndarray
    steps: np.ndarray
    windows: list[tuple[int, int, int]]


def _best(taken: Taken, position: int, k: int, sign: str, windows_of: Callable[[slice], Places]) -> _Peaks:
    best, low, high = Best(k), np.inf, -np.inf
    windows: dict[tuple[int, int], tuple[int, int, int]] = {}
    for rows, block in taken.blocks():
        values = block[..., position]
        there = np.isfinite(values)
        size = {"positive": values, "negative": -values, "both": np.abs(values)}[sign]
        low, high = min(low, values[there].min(initial=np.inf)), max(high, values[there].max(initial=-np.inf))
        places = windows_of(rows)
        best.add(rows.start, np.where(there, size, -np.inf), partial(_overlaps, places))
        for _, sample, step in best.places:
            if rows.start <= sample < rows.stop:
                at = sample - rows.start, step
                windows[sample, step] = int(places.start[at]), int(places.stop[at]), int(places.centre[at])
    if not best.places:
        raise DataError(f"Unit {taken.unit_labels[position]!r}{taken.in_layer} is NaN at every step of every sequence.")
    if low == high:
        warn(f"Unit {taken.unit_labels[position]!r}{taken.in_layer} is {low:g} at every step: no window drives it more than another.")
    _, samples, steps = (np.array(column) for column in zip(*best.places, strict=True))
    return _Peaks(samples, steps, [windows[sample, step] for _, sample, step in best.places])


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
