"""Where a layer's steps lie in the input's time, as positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seqscope.errors import DataError, UnsupportedError
from seqscope.labelled import SAMPLE, STEP, TIME, TIME_END, TIME_START
from seqscope.sequences import Sequences
from seqscope.units.blocks import Taken


@dataclass(frozen=True)
class Places:
    """Where the steps of some sequences lie in the input.

    Attributes
    ----------
    centre : int array (sample, step)
        With one row where all samples share it. The input step in the middle of what a layer's step sees; of two, the earlier.
    start, stop : int arrays (sample, step)
        The first input step that it sees, and the one after the last.
    """

    centre: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def placing(taken: Taken, inputs: Sequences) -> Callable[[slice], Places]:
    """A function that gives the places of some sequences' steps.

    Raises
    ------
    UnsupportedError
        The layer has a clock of its own and the array does not say where its steps lie.
    DataError
        The input's times do not rise, or the activations are cut in time.
    """
    if taken.clock == TIME:
        longest = int(inputs.lengths.max())
        if taken.n_steps < longest:
            raise DataError(f"The activations have {taken.n_steps} steps and the longest input {longest}: give those of whole sequences.")
        here = np.arange(taken.n_steps)[None]
        return lambda _: Places(here, here, here + 1)
    missing = [name for name in (TIME, TIME_START, TIME_END) if name not in taken.array.coords]
    if taken.clock != STEP or missing:
        raise UnsupportedError(
            f"Where the steps of the array ({', '.join(map(str, taken.array.dims))}) lie in the input is not known: expected the "
            f"coordinates 'time', 'time_start' and 'time_end' that scope.activations gives a layer with a clock of its own."
        )
    return lambda rows: _from_coords(taken, inputs, rows)


def _from_coords(taken: Taken, inputs: Sequences, rows: slice) -> Places:
    shape = (rows.stop - rows.start, taken.n_steps)
    columns = {name: _table(taken, name, rows) for name in (TIME, TIME_START, TIME_END)}
    found = {name: np.zeros(shape, int) for name in columns}
    for row in range(shape[0]):
        length = int(inputs.lengths[rows.start + row])
        stamps = _numbers(inputs.clock.of_sample(rows.start + row, length))
        if (np.diff(stamps) <= 0).any():
            raise DataError(f"The times of sample {taken.samples[rows.start + row]!s} do not rise: a layer's steps can't be found in them.")
        for name, table in columns.items():
            found[name][row] = _positions(stamps, table[row if len(table) > 1 else 0])
    return Places(found[TIME], found[TIME_START], found[TIME_END] + 1)


def _table(taken: Taken, name: str, rows: slice) -> np.ndarray:
    """A coordinate as numbers, (sample, step), with one row where all samples share it."""
    coord = taken.array.coords[name]
    if SAMPLE in coord.dims:
        return _numbers(coord.transpose(SAMPLE, STEP).isel({SAMPLE: rows}).values)
    return _numbers(coord.values)[None]


def _numbers(stamps: np.ndarray) -> np.ndarray:
    """Stamps as floats; dates count from 1970, NaT is NaN."""
    if stamps.dtype.kind not in "mM":
        return stamps.astype(np.float64)
    in_ns = stamps.astype(f"{stamps.dtype.kind}8[ns]")
    return np.where(np.isnat(in_ns), np.nan, in_ns.astype(np.int64).astype(np.float64))


def _positions(stamps: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The step at each time, or the one before it; 0 where a sequence has ended."""
    slack = 1e-6 * (stamps[-1] - stamps[0]) / max(1, len(stamps) - 1)
    found = np.searchsorted(stamps, np.nan_to_num(times) + slack, side="right") - 1
    return np.where(np.isnan(times), 0, np.clip(found, 0, len(stamps) - 1))
