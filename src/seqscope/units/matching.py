"""Where else the same units are on together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError
from seqscope.labelled import LABEL, RANK, UNIT, Part, figures_result
from seqscope.units.blocks import Taken, plain, positive, step_word, take_in
from seqscope.units.working import each_block, workers_of


def match(
    activations: xr.DataArray,
    sample: Any,
    start: int,
    stop: int,
    threshold: float = 0.3,
    *,
    before: int = 1,
    after: int = 1,
    k: int = 20,
    units: Any = None,
    client: Any = None,
) -> xr.Dataset:
    """The units that are on through a stretch, and every other place in the data set where they are on together.

    A unit is selected where it is at the threshold or above in every step of the stretch, and below it in the steps just before and just
    after, as far as there are such. A match is a longest run of steps in which all selected units are on. The best are those where the
    fewest other units are on throughout: the score is the share of the selected units in all that are, 1 where there is no other; of equal
    ones the run whose length is nearest to the stretch's, then the first in the data.

    Parameters
    ----------
    activations : DataArray (sample, time, unit)
        What `scope.activations(X, layer)` gives, or an array of `scope.states`; `step` in place of `time` will do.
    sample : int or str
        The sample that holds the stretch, by its id.
    start, stop : int
        The stretch: steps of the array from 0; the stop is left out.
    threshold : float
        The value from which a unit is on.
    before, after : int
        How many steps before and after the stretch a selected unit is off; 0: it may be on.
    k : int
        The matches that are kept.
    units : sequence, optional
        Units to look for, by label, in place of those that the stretch selects.
    client : distributed.Client, str or int, optional
        A Dask cluster whose workers search an array that is not in memory: a client, the address of a scheduler, or a number of workers to
        start here. The result is the same.

    Returns
    -------
    Dataset, by `rank`
        `sample`, `start`, `stop` and `length` (in steps of the array), `score`, `others` (the other units that are on throughout), `label`
        where it is known. The coordinate `unit` lists the selected units; the attribute `n_found` says how many matches there are.

    Raises
    ------
    DataError
        There is no such sample, step or unit, or no unit is selected; says which threshold would select one.
    UnsupportedError
        The cluster went away, or its workers see other data than this process.

    Notes
    -----
    Strobelt, Gehrmann, Pfister and Rush 2018, "LSTMVis: A Tool for Visual Analysis of Hidden State Dynamics in Recurrent Neural Networks".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    >>> found = sq.units.match(hidden, sample=100, start=6, stop=10)
    >>> found.unit.size, found.attrs["n_found"]
    (10, 35)
    """
    taken = take_in(activations)
    k = positive(k, "k")
    row = taken.position(sample)
    stretch = _Stretch(taken, row, *_steps_of(taken, row, start, stop), _number(threshold))
    if units is None:
        chosen = stretch.selected(positive(before, "before", least=0), positive(after, "after", least=0))
    else:
        named = units if isinstance(units, Iterable) and not isinstance(units, str) else [units]
        chosen = np.array([taken.unit(unit) for unit in (named.tolist() if hasattr(named, "tolist") else named)], int)
        if len(set(chosen.tolist())) < len(chosen):
            raise DataError("units names a unit twice: give each once.")
        if not len(chosen):
            raise DataError("units names no unit: give one or more, or leave it out for those that the stretch selects.")
    search = _Search(stretch.row, stretch.start, stretch.stop, stretch.threshold, chosen, k)
    best, n_found = _Runs.none(), 0
    with workers_of(client) as workers:
        for here, n_here in each_block(taken, search.within, workers):
            n_found += n_here
            best = search.best(best.joined(here))
    said = {
        "sample": taken.samples[row],
        "start": stretch.start,
        "stop": stretch.stop,
        "threshold": stretch.threshold,
        "before": before if units is None else None,
        "after": after if units is None else None,
        "n_found": n_found,
    }
    coords = {UNIT: [taken.unit_labels[unit] for unit in chosen]}
    return figures_result(_figures(taken, best, len(chosen)), coords=coords, attrs=taken.attrs("units.match") | said)


def _number(threshold: Any) -> float:
    threshold = plain(threshold)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise DataError(f"threshold is {threshold!r}: expected a number, the value from which a unit is on.")
    return float(threshold)


def _steps_of(taken: Taken, row: int, start: Any, stop: Any) -> tuple[int, int]:
    """A stretch, within the sample."""
    start, stop, length = plain(start), plain(stop), n_steps_of(taken, row)
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (start, stop))
    if not whole or not 0 <= start < stop <= length:
        raise DataError(
            f"The stretch from {start!r} to {stop!r} is not within sample {taken.samples[row]!s}, which has {length} {step_word(taken)}s: "
            f"expected 0 <= start < stop <= {length}."
        )
    return start, stop


def n_steps_of(taken: Taken, row: int) -> int:
    """The steps of a sample, up to its last that holds a value."""
    some = ~np.isnan(taken.values_of(row)).all(axis=1)
    return int(np.flatnonzero(some)[-1]) + 1 if some.any() else 0


class _Stretch:
    """The steps that were marked, and what is on in them."""

    def __init__(self, taken: Taken, row: int, start: int, stop: int, threshold: float) -> None:
        self.taken, self.row, self.start, self.stop, self.threshold = taken, row, start, stop, threshold
        self.values = taken.values_of(row)

    def selected(self, before: int, after: int) -> np.ndarray:
        """The units that are on through it and off around it.

        Raises
        ------
        DataError
            There are none.
        """
        around = np.concatenate([self.values[max(0, self.start - before) : self.start], self.values[self.stop : self.stop + after]])
        lowest = self.values[self.start : self.stop].min(axis=0)
        highest = np.fmax.reduce(around, axis=0, initial=-np.inf)
        chosen = np.flatnonzero((lowest >= self.threshold) & ~(highest >= self.threshold))
        if len(chosen):
            return chosen
        where = f"from step {self.start} to {self.stop - 1} of sample {self.taken.samples[self.row]!s}"
        off = " and below it just before and after" if len(around) else ""
        raise DataError(f"No unit is at {self.threshold:g} or above {where}{off}: {self._advice(lowest, highest, len(around) > 0)}.")

    def _advice(self, lowest: np.ndarray, highest: np.ndarray, is_limited: bool) -> str:
        """Which threshold would select a unit: for each, any between what it is around the stretch and its lowest value in it."""
        could = lowest > highest
        if could.any():
            away = np.maximum(highest - self.threshold, self.threshold - lowest)
            unit = int(np.argmin(np.where(could, away, np.inf)))
            return f"threshold={_between(highest[unit], lowest[unit])} would select unit {self.taken.unit_labels[unit]!r}"
        if is_limited:
            return "no threshold would select one; before=0 and after=0 let units be on around it too, and units= names them"
        return "no unit has a value in all of its steps"


def _between(low: float, high: float) -> str:
    """A number above `low` and at most `high`, in as few digits as there need to be."""
    for digits in range(1, 17):
        shown = f"{math.floor(high * 10**digits) / 10**digits:.{digits}f}"
        if low < float(shown) <= high:
            return shown
    return repr(float(high))


@dataclass(frozen=True)
class _Runs:
    """Runs of steps in which the selected units are on, each with how many others are on throughout."""

    samples: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    others: np.ndarray

    @classmethod
    def none(cls) -> _Runs:
        return cls(*(np.zeros(0, int) for _ in range(4)))

    def take(self, which: np.ndarray) -> _Runs:
        return _Runs(self.samples[which], self.starts[which], self.stops[which], self.others[which])

    def joined(self, other: _Runs) -> _Runs:
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("samples", "starts", "stops", "others"))
        return _Runs(*(np.concatenate(pair) for pair in pairs))

    def best(self, k: int, length: int, n_selected: int) -> _Runs:
        """The first `k` in order."""
        apart = np.abs(self.stops - self.starts - length)
        return self.take(np.lexsort((self.starts, self.samples, apart, self.others / n_selected))[:k])


@dataclass(frozen=True)
class _Search:
    """For runs in which the chosen units are on, elsewhere than in the stretch: of a sample, from a start to a stop; the first `k`."""

    row: int
    start: int
    stop: int
    threshold: float
    chosen: np.ndarray
    k: int

    def within(self, rows: slice, block: np.ndarray) -> tuple[_Runs, int]:
        """The best of a block (sample, time, unit), and how many there are."""
        runs = _runs(block, self.chosen, self.threshold, rows.start)
        runs = runs.take((runs.samples != self.row) | (runs.stops <= self.start) | (runs.starts >= self.stop))
        return self.best(runs), len(runs.samples)

    def best(self, runs: _Runs) -> _Runs:
        """The first in order."""
        return runs.best(self.k, self.stop - self.start, len(self.chosen))


def _runs(block: np.ndarray, chosen: np.ndarray, threshold: float, first: int) -> _Runs:
    """The runs of a block (sample, time, unit) whose first sample has this place."""
    with np.errstate(invalid="ignore"):
        together = np.ones(block.shape[:2], bool)
        for unit in chosen:
            together &= block[..., unit] >= threshold
    edges = np.diff(np.pad(together, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (samples, starts), stops = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    on = [(block[s, start:stop] >= threshold).all(axis=0).sum() for s, start, stop in zip(samples, starts, stops, strict=True)]
    return _Runs(samples + first, starts, stops, np.array(on, int) - len(set(chosen.tolist())))


def _figures(taken: Taken, runs: _Runs, n_selected: int) -> dict[str, Part]:
    labels = taken.labels
    columns = {
        "sample": (taken.samples[runs.samples], "Sample"),
        "start": (runs.starts, "First Step"),
        "stop": (runs.stops, "Step after the Last"),
        "length": (runs.stops - runs.starts, "Steps"),
        "score": (n_selected / (n_selected + runs.others), "Share of the selected units in all that are on throughout"),
        "others": (runs.others, "Other units that are on throughout"),
    } | ({} if labels is None else {LABEL: (labels[runs.samples], "Label")})
    return {name: ((RANK,), column, called) for name, (column, called) in columns.items()}
