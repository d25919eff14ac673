"""What each unit does over a data set, in figures."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from seqscope.errors import DataError
from seqscope.labelled import UNIT, Part, figures_result
from seqscope.units.blocks import Taken, take_in
from seqscope.units.duplicates import EVERY, duplicates
from seqscope.units.following import Following
from seqscope.units.gates import gate_coords, gate_figures
from seqscope.units.moments import Moments, moment_figures, over_blocks
from seqscope.units.selectivity import Selectivity, labels_of
from seqscope.units.working import Reader, workers_of


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
    client: Any = None,
) -> xr.Dataset:
    """What each unit does over a data set: its range, whether it is saturated or dead, what it follows and which class it tells apart.

    The array is read block by block along the samples, and summed up in float64; of one in chunks, or in a store that was opened lazily, a
    block at a time is held. It is read once, and the units that may be duplicates twice.

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
    client : distributed.Client, str or int, optional
        A Dask cluster whose workers read and sum up an array that is not in memory: a client, the address of a scheduler, or a number of
        workers to start here. The result is the same.

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
        A layer on a clock of its own whose steps have no known place in the input, with X; states without gates; a cluster that went away,
        or whose workers see other data than this process.

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
    follow = None if X is None else Following(taken, X, lags)
    readers: list[Reader] = [reader for reader in (selectivity, follow) if reader is not None]
    with workers_of(client) as workers:
        gates = {} if states is None else gate_figures(taken, states, workers)
        found = over_blocks(taken, saturated, products=0 if duplicate is None else EVERY, readers=readers, workers=workers)
        _check_some(taken, found)
        alike = {} if duplicate is None else duplicates(taken, found, duplicate, workers)
    text, of_moments = moment_figures(found, taken.kind, saturated)
    parts: dict[str, Part] = {name: ((UNIT,), values, called) for name, (values, called) in of_moments.items()}
    parts |= alike
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


def _check_some(taken: Taken, found: Moments) -> None:
    """Refuse units without any value."""
    empty = np.flatnonzero(found.n == 0)
    if len(empty):
        which = f"Unit {taken.unit_labels[empty[0]]!r} is" if len(empty) < taken.n_units else "Every unit is"
        raise DataError(f"{which} NaN at every step of every sequence: there is nothing to summarise.")


def _check_share(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value <= 1:
        raise DataError(f"{name} is {value!r}: expected a number above 0, at most 1.")
