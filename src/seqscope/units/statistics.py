"""What each unit does over a data set, in figures."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from seqscope.errors import DataError
from seqscope.labelled import UNIT, Part, figures_result
from seqscope.units.blocks import RECURRENT, Taken, inputs_of, take_in
from seqscope.units.duplicates import EVERY, duplicates
from seqscope.units.following import Following, lags_asked
from seqscope.units.gates import gate_coords, gate_figures
from seqscope.units.moments import Moments, over_blocks
from seqscope.units.places import placing
from seqscope.units.selectivity import Selectivity, labels_of

# Kinds of layer whose values say nothing of an end to be near to, though they may lie within -1 and 1.
_UNBOUNDED = ("conv1d", "conv1d_transposed", "linear", "embedding", "batch_norm", "layer_norm", "dropout", "attention")


def summary(
    activations: xr.DataArray,
    y: Any = None,
    X: Any = None,
    states: xr.Dataset | None = None,
    *,
    lags: Any = 10,
    by: Literal["mean", "last", "max"] = "mean",
    saturated: float = 0.95,
    duplicate: float | None = 0.999,
) -> xr.Dataset:
    """What each unit does over a data set: its range, whether it is saturated or dead, what it follows and which class it tells apart.

    The array is read block by block along the samples, and summed up in float64; of one in chunks (dask) a block at a time is held. It is
    read once, and the units that may be duplicates twice.

    Parameters
    ----------
    activations : DataArray (sample, time, unit)
        What `scope.activations(X, layer)` gives; `step` in place of `time` will do, or one sequence without `sample`.
    y : array (sample,), optional
        The class of each sequence, for `selectivity`.
    X : Sequences, or anything that `Sequences` takes, optional
        The input that the activations come from, for `correlation`, `channel` and `lag`.
    states : Dataset, optional
        What `scope.states(X, layer)` gives of the same LSTM or GRU, for `left_saturated`, `right_saturated` and `half_life`.
    lags : int, or sequence of int
        The lags that are tried, in input steps; a number is from 0 to that many, and as many below 0 where the layer may see what is
        still to come: where it is not recurrent, or bidirectional.
    by : {"mean", "last", "max"}
        Which figure of a unit in a sequence is to tell its class: its mean over time, its last value, or its largest.
    saturated : float
        The size from which a unit within -1 and 1 is near its end.
    duplicate : float or None
        The size of a correlation from which two units count as one; None: duplicates are not looked for.

    Returns
    -------
    Dataset, by `unit`
        `mean`, `spread` (standard deviation), `low`, `high`. `saturated`: the share of time that a unit is near its end, |value| >= 0.95,
        in a layer within -1 and 1; in a rectified layer (whose lowest value is 0) the share of time that it is 0; NaN in others; the
        attribute `saturated` says which. `dead`: over this data the unit never moves, or in a rectified layer is never above 0; over other
        data it may. `duplicate_of`: the first earlier unit that does the same (label; -1 for none, "" where units have names), and
        `duplicate_correlation`, whose sign says whether it does the opposite.

        With X, `correlation`: the strongest Pearson correlation with an input channel, which `channel` names, `lag` input steps before:
        a positive lag says that the unit follows the channel. Layers on a clock of their own count from the middle of what a step sees.
        Lags at which less than a tenth of the steps pair up are left out; NaN (-1 or "" as channel) where nothing can be told.

        With y, `selectivity` (unit, label): the area under the ROC curve of one class against the rest; 0.5 tells nothing, below it the
        unit is lower in the class.

        With states, `left_saturated` and `right_saturated` (unit, gate): the share of time that a gate is below 0.1 and above 0.9, and
        `half_life`: the steps after which half of a cell's content is left, ln(1/2) over the mean of ln f; of a GRU, of ln z.

    Raises
    ------
    DataError
        The activations are not those of one layer, hold infinity or a unit without any value, or y, X or states do not fit them.
    UnsupportedError
        A layer on a clock of its own whose steps have no known place in the input, with X; states without gates.

    Notes
    -----
    Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance" (the merging of sums); Karpathy, Johnson and Fei-Fei
    2015, "Visualizing and Understanding Recurrent Networks" (saturated gates).

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> scope = sq.Scope(sq.zoo.japanese_vowels())
    >>> report = sq.units.summary(scope.activations(X, "lstm"), y, X, scope.states(X, "lstm"))
    >>> report.selectivity.dims, int(report.dead.sum())
    (('unit', 'label'), 0)
    """
    taken = take_in(activations)
    _check_share(saturated, "saturated")
    if duplicate is not None:
        _check_share(duplicate, "duplicate")
    selectivity = None if y is None else Selectivity(taken, labels_of(taken, y), by)
    follow = None if X is None else _Follow(taken, X, lags)
    gates = {} if states is None else gate_figures(taken, states)
    readers = [reader.add for reader in (selectivity, follow) if reader is not None]
    found = over_blocks(taken, saturated, products=0 if duplicate is None else EVERY, readers=readers)
    _check_some(taken, found)
    text, parts = _moment_figures(taken, found, saturated)
    parts |= {} if duplicate is None else duplicates(taken, found, duplicate)
    parts |= follow.parts() if follow is not None else {}
    parts |= selectivity.parts() if selectivity is not None else {}
    coords = taken.unit_coords()
    coords |= selectivity.coords() if selectivity is not None else {}
    coords |= gate_coords(states) if states is not None else {}
    said = {
        "saturated": text,
        "dead": f"judged over the {taken.n_samples} sequence{'s' if taken.n_samples > 1 else ''} given only",
        "n_steps": int(found.n.max()),
        "by": None if y is None else by,
        "duplicate": duplicate,
    }
    return figures_result(parts | gates, coords=coords, attrs=taken.attrs("units.summary") | said)


class _Follow:
    """Correlations with the input, whose shift is known once a block is read."""

    def __init__(self, taken: Taken, X: Any, lags: Any) -> None:
        self.taken, self.inputs, self.lags = taken, inputs_of(taken, X), lags_asked(lags, looks_back=taken.looks_back)
        self.place = placing(taken, self.inputs)
        self.sums: Following | None = None

    def add(self, rows: slice, block: np.ndarray) -> None:
        """Take in a block."""
        if self.sums is None:
            here = block.reshape(-1, block.shape[-1])[:: max(1, block[..., 0].size // 256)]
            there = ~np.isnan(here)
            shift = np.where(there, here, 0).sum(axis=0, dtype=np.float64) / np.maximum(there.sum(axis=0), 1)
            self.sums = Following(self.taken, self.inputs, self.place, self.lags, shift)
        self.sums.add(rows, block)

    def parts(self) -> dict[str, Part]:
        """What was found."""
        return {} if self.sums is None else self.sums.strongest()


def _moment_figures(taken: Taken, found: Moments, threshold: float) -> tuple[str, dict[str, Part]]:
    """What was summed up, by name, and what `saturated` means in this layer."""
    lowest, highest = found.low.min(), found.high.max()
    rectified = bool(lowest == 0) and taken.kind not in ("softmax", *RECURRENT)
    bounded = lowest >= -1 and highest <= 1 and taken.kind not in _UNBOUNDED
    if rectified:
        text, share = "share of time at 0 (a rectified layer)", found.at_zero / found.n
    elif bounded:
        text, share = f"share of time with |value| >= {threshold:g} (a layer within -1 and 1)", found.near_end / found.n
    else:
        text, share = "not defined: the layer's values have no end to be near to", np.full(taken.n_units, np.nan)
    still = found.high == found.low
    figures = {
        "mean": (found.mean, "Mean"),
        "spread": (np.sqrt(found.m2 / found.n), "Standard deviation"),
        "low": (found.low.astype(np.float64), "Lowest value"),
        "high": (found.high.astype(np.float64), "Highest value"),
        "saturated": (share, "Share of time saturated"),
        "dead": (still | (rectified & (found.high <= 0)), "Dead over this data"),
    }
    return text, {name: ((UNIT,), values, called) for name, (values, called) in figures.items()}


def _check_some(taken: Taken, found: Moments) -> None:
    """Refuse units without any value."""
    empty = np.flatnonzero(found.n == 0)
    if len(empty):
        which = f"Unit {taken.unit_labels[empty[0]]!r} is" if len(empty) < taken.n_units else "Every unit is"
        raise DataError(f"{which} NaN at every step of every sequence: there is nothing to summarise.")


def _check_share(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value <= 1:
        raise DataError(f"{name} is {value!r}: expected a number above 0, at most 1.")
