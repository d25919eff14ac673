"""Run a data set through a model and keep what was asked for: batch by batch, into arrays that are there from the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

from seqscope import progress, ram
from seqscope.axes import OUTPUT_VALUE, Reading
from seqscope.batching import batches_for
from seqscope.engines.base import STATES, WEIGHTS, Forward
from seqscope.errors import DataError, LayerError, about_layer
from seqscope.feed import N_TRIED, Feed
from seqscope.labelled import TIME
from seqscope.randomness import state_kept
from seqscope.selection import layer_of
from seqscope.sequences import Batch, Sequences

# A batch of this many rows keeps the cores busy; more of them only takes memory.
MOST_ROWS = 64
# What one batch may put out, in bytes: beyond the caches, larger batches run no faster and cost fresh memory.
BATCH_BYTES = 32_000_000


@dataclass
class Collected:
    """The values of one layer (or of the output) over a data set.

    Attributes
    ----------
    values : array (sample, ...)
        In canonical order; NaN where a sequence has ended.
    dims : tuple of str
    on_input_clock : bool
        Whether its time axis has as many steps as the input, for every length.
    """

    values: np.ndarray
    dims: tuple[str, ...]
    on_input_clock: bool


def collect(
    feed: Feed,
    sequences: Sequences,
    readings: Mapping[str, Reading],
    capture: Sequence[str],
    *,
    batch_size: int | None = None,
    show_progress: bool | None = None,
) -> dict[str, Collected]:
    """Run every sequence and keep the values named in `readings`.

    Parameters
    ----------
    readings : dict of Reading
        The values to keep, by address (`OUTPUT_VALUE` for the model's output), and what their axes are.
    capture : sequence of str
        The layers that hold them.
    batch_size : int, optional
        Rows at a time; by default as many as `BATCH_BYTES` of values allow, at most `MOST_ROWS`.

    Raises
    ------
    TooLargeError
        The result would not fit in memory.
    LayerError
        A value was not seen, or not for every batch, or has no axis that follows the samples.
    """
    if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
        raise DataError(f"The batch size is {batch_size!r}: expected a whole number, 1 or more.")
    size = batch_size or rows_for(feed, sequences, readings, capture)
    if len(sequences) <= size and sequences.lengths.min() == sequences.lengths.max() and all(_is_fresh(address) for address in readings):
        return _taken(feed, next(sequences.batches(size)), readings, capture)
    kept: dict[str, Collected] = {}
    batches = progress.tracked(
        _sized(batches_for(feed, sequences, readings, capture, size)),
        total=len(sequences),
        what="Running",
        show=show_progress,
        unit="sequences",
    )
    with _Writer() as writer:
        for batch in batches:
            values = _without_filling(_checked_values(feed, batch, readings, capture), readings, batch)
            if not kept:
                kept = _allocated(values, readings, sequences)
            writer.write(kept, values, batch)
    return kept


def _is_fresh(address: str) -> bool:
    """Whether a value is in memory that the engine made for it: states and attention weights are, a layer's value may be anything."""
    return STATES in address or WEIGHTS in address


def _taken(feed: Feed, batch: Batch, readings: Mapping[str, Reading], capture: Sequence[str]) -> dict[str, Collected]:
    """The values of the only batch, as they are: to copy them would take about as long as to compute them."""
    values = _checked_values(feed, batch, readings, capture)
    n_steps = int(batch.lengths.max())
    own = {address: value if value.flags.writeable else value.copy() for address, value in values.items()}
    return {
        address: Collected(value, readings[address].order, _follows(value, readings[address], n_steps)) for address, value in own.items()
    }


def _follows(value: np.ndarray, reading: Reading, n_steps: int) -> bool:
    """Whether a value has as many steps as the input."""
    return TIME in reading.dims and value.shape[reading.order.index(TIME)] == n_steps


class _Writer:
    """Writes one batch into the result while the model runs on the next: first touching the result's memory costs more than copying.

    One batch is in its hands at most, so that two are held at any time.
    """

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seqscope-writer")
        self._writing: Future[None] | None = None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self._wait()

    def write(self, kept: Mapping[str, Collected], values: dict[str, np.ndarray], batch: Batch) -> None:
        """Hand a batch over, once the one before is written."""
        self._wait()
        self._writing = self._thread.submit(_place_all, kept, values, batch)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()


def _place_all(kept: Mapping[str, Collected], values: dict[str, np.ndarray], batch: Batch) -> None:
    """Write the values of a batch, giving up each as it is written."""
    for address in list(values):
        with about_layer(layer_of(address)):
            _place(kept[address], values.pop(address), batch)


def _values(feed: Feed, batch: Batch, readings: Mapping[str, Reading], capture: Sequence[str]) -> dict[str, np.ndarray]:
    """The wanted values of one batch; nothing else of the pass outlives this call."""
    return _read(feed.forward(batch.values, capture, batch.own), readings, len(batch.values))


def _read(forward: Forward, readings: Mapping[str, Reading], n_samples: int) -> dict[str, np.ndarray]:
    """What a pass gave, in canonical order."""
    seen = {OUTPUT_VALUE: [forward.output], **forward.captured}
    values: dict[str, np.ndarray] = {}
    for address, reading in readings.items():
        with about_layer(layer_of(address)):
            values[address] = _value(seen.get(address), reading, n_samples)
    return values


def _without_filling(values: dict[str, np.ndarray], readings: Mapping[str, Reading], batch: Batch) -> dict[str, np.ndarray]:
    """The values without the rows and steps that only fill up a batch."""
    kept = {address: value[: batch.n_sequences] for address, value in values.items()}
    if batch.own is None:
        return kept
    longest = int(batch.lengths.max())
    for address, value in kept.items():
        if TIME in readings[address].order:
            time = readings[address].order.index(TIME)
            kept[address] = value[(slice(None),) * time + (slice(longest),)]
    return kept


def _sized(batches: Iterator[Batch]) -> Iterator[tuple[int, Batch]]:
    return ((batch.n_sequences, batch) for batch in batches)


def rows_for(feed: Feed, sequences: Sequences, readings: Mapping[str, Reading], capture: Sequence[str]) -> int:
    """How many rows make a batch: a few of the longest tell how much each puts out (as many as were run before, for the axes)."""
    if len(sequences) == 1:
        return 1
    few = few_rows(sequences)
    forward = feed.forward(few, capture)
    put_out = sum(call.nbytes for calls in forward.captured.values() for call in calls) + forward.output.nbytes + few.nbytes
    return int(np.clip(BATCH_BYTES * len(few) // max(1, put_out), 1, MOST_ROWS))


def few_rows(sequences: Sequences) -> np.ndarray:
    """As many of the longest sequences as the axes are found with, so that an engine that compiles has seen the shape."""
    few = next(sequences.batches(N_TRIED)).values
    return few[np.arange(N_TRIED) % len(few)]


def _checked_values(feed: Feed, batch: Batch, readings: Mapping[str, Reading], capture: Sequence[str]) -> dict[str, np.ndarray]:
    """The wanted values of one batch, whose rows are the samples in their order: a model may sort its batch by length.

    Sequences of equal length come out of a sort in any order, once there are many. So the first batch that is larger than those
    before is run again with its samples moved on by one, and every row must have moved on with them.

    Raises
    ------
    LayerError
        They have not.
    """
    n_rows = len(batch.values)
    if n_rows <= min(feed.rows_in_order.get(address, 1) for address in readings):
        return _values(feed, batch, readings, capture)
    with state_kept():  # so that a model which draws noise draws the same in both runs
        values = _values(feed, batch, readings, capture)
    with state_kept():
        lengths = None if batch.own is None else np.roll(batch.own, 1)
        rolled = feed.forward(np.roll(batch.values, 1, axis=0), capture, lengths)
    if rolled.drew_noise:  # noise belongs to a place in the batch and does not move on
        return values
    moved_on = _read(rolled, readings, n_rows)
    for address, value in values.items():
        with about_layer(layer_of(address)):
            if not all(_same_sample(moved_on[address][row], value[row - 1], value[row]) for row in range(n_rows)):
                raise LayerError("gives the samples of a batch in another order than they came in: take one at a time, with batch_size=1")
        feed.rows_in_order[address] = n_rows
    return values


def _same_sample(found: np.ndarray, expected: np.ndarray, other: np.ndarray) -> bool:
    """Whether a row is what another run gave for the sample: far nearer to it than to another sample, rounding aside."""
    exact = np.result_type(found, np.float64)
    found, expected, other = found.astype(exact), expected.astype(exact), other.astype(exact)
    with np.errstate(invalid="ignore"):  # a layer may give infinities
        error, spread = (np.nan_to_num(np.abs(value - expected), posinf=0.0).sum() for value in (found, other))
    rounding = 5e-3 * np.nan_to_num(np.abs(expected), posinf=0.0).sum()  # what bfloat16 leaves
    return bool(error <= max(0.25 * spread, rounding))


def _value(calls: list[np.ndarray] | None, reading: Reading, n_samples: int) -> np.ndarray:
    """One value of a batch in canonical order, its sample axis checked."""
    if calls is None:
        raise LayerError("ran for some sequences and not for others")
    value = reading.apply(calls, n_samples)
    if value.shape[0] != n_samples:
        raise LayerError(f"gave {value.shape[0]} rows for {n_samples} sequences")
    return value


def _allocated(values: Mapping[str, np.ndarray], readings: Mapping[str, Reading], sequences: Sequences) -> dict[str, Collected]:
    """Arrays for the whole data set, sized by its longest sequences, which come first."""
    ragged = sequences.lengths.min() < sequences.lengths.max()
    shapes = {address: (len(sequences), *value.shape[1:]) for address, value in values.items()}
    dtypes = {address: _result_type(value.dtype, ragged=ragged) for address, value in values.items()}
    needed = sum(int(np.prod(shape)) * dtypes[address].itemsize for address, shape in shapes.items())
    ram.check_fits(needed, "the result")
    return {
        address: Collected(np.empty(shapes[address], dtypes[address]), reading.order, on_input_clock=TIME in reading.dims)
        for address, reading in readings.items()
    }


def _result_type(dtype: np.dtype, *, ragged: bool) -> np.dtype:
    """Whole numbers become floats where sequences end early, since NaN marks what lies beyond."""
    return np.dtype(np.float64) if ragged and dtype.kind in "iub" else dtype


def _place(kept: Collected, value: np.ndarray, batch: Batch) -> None:
    """Write the values of a batch into their rows, NaN behind those that end early."""
    room = kept.values.shape[1:]
    if TIME in kept.dims:
        kept.on_input_clock &= value.shape[kept.dims.index(TIME)] == batch.lengths.max()
    if batch.own is not None and TIME in kept.dims:
        _place_each(kept, value, np.arange(len(kept.values))[batch.rows], batch.own)
        return
    if value.shape[1:] == room:
        kept.values[batch.rows] = value
        return
    if value.ndim != kept.values.ndim or any(size > most for size, most in zip(value.shape[1:], room, strict=True)):
        raise LayerError(f"gave values of shape {value.shape[1:]} for a shorter sequence and {room} for the longest one")
    kept.values[batch.rows] = np.nan
    kept.values[(batch.rows, *(slice(size) for size in value.shape[1:]))] = value


def _place_each(kept: Collected, value: np.ndarray, rows: np.ndarray, lengths: np.ndarray) -> None:
    """Write the values of padded sequences, each as far as it goes."""
    kept.values[rows] = np.nan
    before_time = (slice(None),) * (kept.dims.index(TIME) - 1)
    for row, one, length in zip(rows, value, lengths[: len(rows)], strict=True):
        kept.values[row][*before_time, :length] = one[*before_time, :length]
