"""Runs on chunks of a batch, for a program that is fixed to a number of samples, put together as if they were one run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seqscope.engines.base import Forward, Gradient, StandIn
from seqscope.errors import LayerError, ModelError


def of_rows(stand_in: StandIn, rows: np.ndarray, n_rows: int) -> StandIn:
    """What stands in for a layer in a run on some rows of a batch: it may give the value of the whole batch, whatever comes in."""

    def given(x: np.ndarray, **more: Any) -> np.ndarray:
        value = stand_in(x, **more)
        return value[rows] if len(x) == len(rows) != n_rows == len(value) else value

    return given


def joined(runs: Sequence[tuple[np.ndarray, Forward]], n_rows: int) -> Forward:
    """What the runs gave, as if it were one."""
    first, size = runs[0][1], len(runs[0][0])
    captured, refused = {}, {}
    for name, calls in first.captured.items():
        try:
            captured[name] = [rows_of([run.captured[name][place] for _, run in runs], size, n_rows) for place in range(len(calls))]
        except LayerError as error:
            refused[name] = error.message
    try:
        output = rows_of([run.output for _, run in runs], size, n_rows)
    except LayerError as error:
        raise ModelError(f"The program's output {error.message}.") from error
    scores = None if first.scores is None else np.concatenate([run.scores for _, run in runs if run.scores is not None])[:n_rows]
    return dataclasses.replace(first, output=output, captured=captured, refused=refused, scores=scores)


def joined_gradients(found: Sequence[tuple[np.ndarray, Gradient]], n_rows: int) -> Gradient:
    """The same for derivatives."""
    first, size = found[0][1], len(found[0][0])

    def each(pick: Callable[[Gradient], Mapping[str, list[np.ndarray]]]) -> dict[str, list[np.ndarray]]:
        return {
            way: [rows_of([pick(one)[way][place] for _, one in found], size, n_rows) for place in range(len(calls))]
            for way, calls in pick(first).items()
        }

    output = None if first.output is None else rows_of([one.output for _, one in found if one.output is not None], size, n_rows)
    score = np.concatenate([one.score for _, one in found])[:n_rows]
    return Gradient(score, each(lambda one: one.gradients), each(lambda one: one.values), first.through, output)


def rows_of(parts: Sequence[np.ndarray], size: int, n_rows: int) -> np.ndarray:
    """The rows of several runs of `size` samples, without those that only filled up the last.

    The samples are on the first axis of their number, else on the first axis with the steps of each behind it. Where that is not so, the
    look at which rows answer to which sample (`axes`) finds none that does.

    Raises
    ------
    LayerError
        No axis can be that of the samples.
    """
    shape = parts[0].shape
    folded = 0 if shape and shape[0] and shape[0] % size == 0 else None
    axis = next((axis for axis, own in enumerate(shape) if own == size), folded)
    if axis is None:
        raise LayerError(f"gives values of shape {shape} for the {size} samples that the program is fixed to, none of whose axes is theirs")
    whole = np.concatenate(list(parts), axis=axis)
    keep = n_rows * (shape[axis] // size)
    return whole[(slice(None),) * axis + (slice(keep),)]
