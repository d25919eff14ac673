"""One unit of work: some samples through the model, and what came of it into the store."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from seqscope import labelled
from seqscope.axes import OUTPUT_VALUE
from seqscope.collect import Collected, collect
from seqscope.engines.base import STATES as OF_STATES
from seqscope.errors import LayerError, SeqscopeError
from seqscope.feed import Feed
from seqscope.judged import positions_of
from seqscope.recording import faults, figures, ledger, stores
from seqscope.recording.ledger import Entry, Ledger
from seqscope.recording.plan import ACTIVATIONS, PREDICTION, PREDICTIONS, Kept, Plan
from seqscope.recording.rounding import as_written
from seqscope.sequences import Sequences
from seqscope.states import in_order


@dataclass
class Made:
    """What came of some samples.

    Attributes
    ----------
    number : int
        The unit of work.
    part : Sequences
    values : dict of arrays
        By the path of the array that they go into.
    failed : dict of str
        What the model said to samples that were set aside, by position in the data set.
    seconds : float
        How long it ran.
    """

    number: int
    part: Sequences
    values: dict[str, np.ndarray]
    failed: dict[str, str]
    seconds: float


class Shards:
    """Does units of work: `run` takes the model, `write` the store.

    Parameters
    ----------
    store : Store
    plan : Plan
    feed : Feed
        The model as the plan says.
    """

    def __init__(self, store: Store, plan: Plan, feed: Feed) -> None:
        self._plan, self._feed = plan, feed
        self._witness = stores.Witness(store)
        self._root = zarr.open_group(self._witness, mode="r+", zarr_format=3)
        self._ledger, self._arrived = Ledger(store), Ledger(store, ledger.ARRIVED)
        self._arrays: dict[str, zarr.Array[Any]] = {}

    def run(self, number: int, part: Sequences) -> Made:
        """Run the model on the samples of a unit of work.

        Raises
        ------
        ModelError
            It fails on one of them, which is named.
        """
        begun = time.monotonic()
        found, failed = self._found(part, self._plan.rows(number).start)
        values = values_of(found, self._plan)
        return Made(number, part, values, failed, time.monotonic() - begun)

    def _found(self, part: Sequences, first: int) -> tuple[dict[str, Collected], dict[str, str]]:
        try:
            return self._collected(part), {}
        except SeqscopeError as error:
            wrong = faults.failing(lambda rows: self._collected(part[np.array(rows)]), range(len(part)))
            if not wrong or not self._plan.skips:
                raise faults.named(part, first, wrong, error) from error
        good = np.setdiff1d(np.arange(len(part)), list(wrong))
        failed = {str(first + row): error.message for row, error in wrong.items()}
        return (faults.put_apart(self._collected(part[good]), good, len(part)) if len(good) else {}), failed

    def _collected(self, part: Sequences) -> dict[str, Collected]:
        plan = self._plan
        return collect(self._feed, part, plan.readings, plan.capture, batch_size=plan.batch_size, show_progress=False)

    def write_inputs(self, number: int, part: Sequences) -> None:
        """Write the inputs of a unit of work, and that they are there."""
        kept = self._plan.inputs
        if kept is not None:
            begun = time.monotonic()
            self._put(kept, number, dense(part, kept))
            self._arrived.write(self._entry(number, {}, {"write": time.monotonic() - begun}))

    def write(self, made: Made, beside: ThreadPoolExecutor | None = None) -> Entry:
        """Write what came of a unit of work, its statistics, and last that it is done. Values are given up as they are written.

        Parameters
        ----------
        beside : ThreadPoolExecutor, optional
            What takes the statistics of an array while it is written; default: one comes after the other.
        """
        begun = time.monotonic()
        plan, number = self._plan, made.number
        parts: dict[str, np.ndarray] = {}
        correct, known = _judged(made.values.get(f"{PREDICTIONS}/{PREDICTION}"), made.part.labels, plan.outputs)
        for kept in plan.arrays:
            if kept.path not in made.values:  # every sample of it failed
                continue
            values, error = as_written(made.values.pop(kept.path), kept, plan)
            counted = beside.submit(_figures, values, kept, error) if beside is not None else None
            self._put(kept, number, values)
            parts |= _figures(values, kept, error) if counted is None else counted.result()
        stores.put(self._witness, ledger.part_key(number), ledger.packed(parts))
        seconds = {"run": made.seconds, "write": time.monotonic() - begun}
        entry = self._entry(number, made.failed, seconds, correct, known)
        self._ledger.write(entry)
        return entry

    def _put(self, kept: Kept, number: int, values: np.ndarray) -> None:
        if any(size > most for size, most in zip(values.shape[1:], kept.sizes, strict=True)):
            raise LayerError(f"'{kept.path}' is to have {kept.sizes} values for each sample, and the model gave {values.shape[1:]}.")
        array = self._arrays.get(kept.path)
        if array is None:
            found = self._root[kept.path]
            array = self._arrays[kept.path] = found  # type: ignore[assignment]
        stores.delete(
            self._witness, "/".join([kept.path, "c", str(number), *["0"] * len(kept.sizes)])
        )  # a part of a damaged one is never kept
        array[(self._plan.rows(number), *(slice(size) for size in values.shape[1:]))] = values  # type: ignore[index]

    def _entry(self, number: int, failed: Mapping[str, str], seconds: Mapping[str, float], correct: int = 0, known: int = 0) -> Entry:
        rows = self._plan.rows(number)
        files, self._witness.seen = dict(sorted(self._witness.seen.items())), {}
        who = f"{socket.gethostname()}:{os.getpid()}"
        return Entry(number, (rows.start, rows.stop), files, dict(failed), correct, known, dict(seconds), who)


def values_of(found: Mapping[str, Collected], plan: Plan) -> dict[str, np.ndarray]:
    """The values of each array of the store, with its axes, out of what was collected."""
    if not found:
        return {}
    values: dict[str, np.ndarray] = {}
    of_parts: dict[str, Mapping[str, labelled.Part]] = {}
    for kept in plan.arrays:
        if kept.group == PREDICTIONS:
            values[kept.path] = labelled.output_axes(found[OUTPUT_VALUE].values, found[OUTPUT_VALUE].dims)[0]
        elif kept.group.startswith(f"{ACTIVATIONS}/"):
            values[kept.path] = found[kept.source].values
        else:
            if kept.source not in of_parts:
                here = {address: value for address, value in found.items() if address.startswith(f"{kept.source}{OF_STATES}[")}
                of_parts[kept.source] = in_order(here)
            values[kept.path] = of_parts[kept.source][kept.name][1]
    return values


def _figures(values: np.ndarray, kept: Kept, error: float) -> dict[str, np.ndarray]:
    """The statistics of an array over one unit of work, by the names that they have in its file."""
    if kept.edges is None:
        return {}
    found = figures.figures_of(columns(values, kept), kept.edges).to_arrays() | {"largest_error": np.array([error])}
    return {f"{kept.path}|{name}": array for name, array in found.items()}


def columns(values: np.ndarray, kept: Kept) -> np.ndarray:
    """Values with samples and steps in one axis and all others in another: (row, column)."""
    rows = [axis for axis, dim in enumerate(kept.dims) if dim in (labelled.SAMPLE, labelled.CALL, labelled.TIME, labelled.STEP)]
    others = [axis for axis in range(values.ndim) if axis not in rows]
    moved = values.transpose([*rows, *others])
    return moved.reshape(int(np.prod(moved.shape[: len(rows)])), -1)


def dense(part: Sequences, kept: Kept) -> np.ndarray:
    """Inputs as they are written: (sample, time, channel), NaN behind the end; tokens (sample, time), -1 there."""
    steps, longest = part.all_steps(), int(part.lengths.max())
    if part.lengths.min() == longest:
        return steps.reshape(len(part), longest, *steps.shape[1:]).astype(kept.dtype, copy=False)
    block = np.full((len(part), longest, *steps.shape[1:]), kept.fill, kept.dtype)
    block[np.arange(longest) < part.lengths[:, None]] = steps
    return block


def _judged(output: np.ndarray | None, labels: np.ndarray | None, names: Sequence[object] | None) -> tuple[int, int]:
    """Of how many samples the highest output is the one that the label names, and of how many that can be told.

    Every label is the name of an output.
    """
    if output is None or labels is None or names is None or output.ndim != 2 or output.shape[1] < 2:
        return 0, 0
    meant = positions_of(labels, list(names))
    if meant is None:
        return 0, 0
    there = ~np.isnan(output).any(axis=1)
    return int((output[there].argmax(axis=1) == meant[there]).sum()), int(there.sum())
