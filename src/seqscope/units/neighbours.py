"""Which states of a data set lie nearest to one."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from seqscope.errors import DataError
from seqscope.labelled import LABEL, RANK, figures_result
from seqscope.units.best import Best
from seqscope.units.blocks import one_of, pieces, plain, positive, step_word, take_in
from seqscope.units.matching import n_steps_of

METRICS = ("euclidean", "cosine")


def nearest(
    activations: xr.DataArray,
    sample: Any,
    time: int,
    k: int = 10,
    *,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    gap: int = 5,
) -> xr.Dataset:
    """The states nearest to one, elsewhere in the data set.

    A state's neighbours in time are near it and say nothing new: of steps of one sample that lie less than `gap` apart the nearest alone
    is taken, and those around the state itself are left out.

    Parameters
    ----------
    activations : DataArray (sample, time, unit)
        What `scope.activations(X, layer)` gives, or an array of `scope.states`; `step` in place of `time` will do.
    sample : int or str
        The sample that holds the state, by its id.
    time : int
        The state's step, from 0; below 0 from the sample's end.
    k : int
        The states that are kept.
    metric : {"euclidean", "cosine"}
        The distance: Euclidean, or 1 less the cosine of the angle.
    gap : int
        The steps that lie between states of one sample at least; 1: every step counts.

    Returns
    -------
    Dataset, by `rank`
        `sample`, `time` (step of the array from 0), `distance`, `label` where it is known; the nearest first.

    Raises
    ------
    DataError
        There is no such sample or step, or the state holds NaN (or is 0 throughout, with "cosine").

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    >>> near = sq.units.nearest(hidden, sample=40, time=-1, k=5)
    >>> bool((near.label == X.labels[40]).all())
    True
    """
    taken = take_in(activations)
    k, gap = positive(k, "k"), positive(gap, "gap")
    one_of(metric, METRICS, "metric")
    row, time = taken.position(sample), plain(time)
    length = n_steps_of(taken, row)
    if isinstance(time, bool) or not isinstance(time, int) or not -length <= time < length:
        raise DataError(
            f"There is no step {time!r} in sample {taken.samples[row]!s}, which has {length} {step_word(taken)}s: "
            f"expected 0 to {length - 1}, or a number below 0 from the end."
        )
    step = time % length
    state = taken.values_of(row)[step].astype(np.float64)
    _check_state(state, metric, f"step {step} of sample {taken.samples[row]!s}")
    best = Best(k)
    for rows, block in taken.blocks():
        distances = _distances(block, state, metric)
        if rows.start <= row < rows.stop:
            distances[row - rows.start, max(0, step - gap + 1) : step + gap] = np.inf
        best.add(rows.start, -distances, lambda row, step: np.abs(np.arange(taken.n_steps) - step) < gap)
    score, samples, steps = np.array(best.places).reshape(-1, 3).T
    parts = {
        "sample": ((RANK,), taken.samples[samples.astype(int)], "Sample"),
        "time": ((RANK,), steps.astype(int), "Step"),
        "distance": ((RANK,), -score, f"{metric.capitalize()} distance"),
    }
    if taken.labels is not None:
        parts[LABEL] = ((RANK,), taken.labels[samples.astype(int)], "Label")
    said = {"sample": taken.samples[row], "time": step, "metric": metric, "gap": gap}
    return figures_result(parts, coords={}, attrs=taken.attrs("units.nearest") | said)


def _check_state(state: np.ndarray, metric: str, where: str) -> None:
    if not np.isfinite(state).all():
        raise DataError(f"The state at {where} holds NaN or infinity: it has no neighbours.")
    if metric == "cosine" and not state.any():
        raise DataError(f"The state at {where} is 0 in every unit and has no direction: take metric='euclidean'.")


def _distances(block: np.ndarray, state: np.ndarray, metric: str) -> np.ndarray:
    """How far every state of a block lies, (sample, time); infinite where there is none."""
    found = np.empty(block.shape[:2])
    for part in pieces(block):
        values = block[part].astype(np.float64)
        if metric == "euclidean":
            values -= state
            found[part] = np.sqrt(np.einsum("stu,stu->st", values, values))
        else:
            sizes = np.sqrt(np.einsum("stu,stu->st", values, values)) * np.linalg.norm(state)
            with np.errstate(divide="ignore", invalid="ignore"):
                found[part] = np.maximum(1 - values @ state / sizes, 0)
    found[np.isnan(found)] = np.inf
    return found
