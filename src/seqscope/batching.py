"""Which sequences run together.

By default sequences of one length, so that padding never matters. An engine that runs few large batches much faster than many small
ones gets sequences of like length, padded, where a probe shows that padding is harmless: a sequence alone gives the same values as
padded, with zeros and with noise, and nothing that is wanted can see the padding (see `stand_ins`). An engine that compiles for each
shape gets few shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seqscope.axes import OUTPUT_VALUE, Reading
from seqscope.engines.base import Forward
from seqscope.errors import DataError, LayerError, ModelError
from seqscope.feed import Feed
from seqscope.labelled import TIME
from seqscope.randomness import state_kept
from seqscope.sequences import Batch, Sequences
from seqscope.stand_ins import StandIns

# Padding has to save this much of the batches to be worth the probe.
_WORTH = 0.7
# Where shapes are compiled, padded lengths are rounded up to powers of this: at most a third of a batch is padding then.
_GROWTH = 1.5


def batches_for(feed: Feed, sequences: Sequences, readings: Mapping[str, Reading], capture: Sequence[str], size: int) -> Iterator[Batch]:
    """The data set in batches of at most `size` sequences, the longest first.

    Parameters
    ----------
    readings : dict of Reading
        The values that are wanted: padding has to be harmless to each of them.
    """
    padded = _fewer_when_padded(feed, sequences, size) and settle_padding(feed, sequences, readings, capture)
    batches = sequences.padded_batches(size) if padded else sequences.batches(size)
    return (_reshaped(batch, size) for batch in batches) if feed.engine.compiles_shapes else batches


def _fewer_when_padded(feed: Feed, sequences: Sequences, size: int) -> bool:
    """Whether padding would save many batches."""
    if not feed.engine.merges_lengths:
        return False
    _, counts = np.unique(sequences.lengths, return_counts=True)
    alike = int(np.ceil(counts / size).sum())
    return -(-len(sequences) // size) <= _WORTH * alike


def settle_padding(feed: Feed, sequences: Sequences, readings: Mapping[str, Reading], capture: Sequence[str]) -> bool:
    """Whether the wanted values of a sequence are the same alone and padded; found out once for each choice of values."""
    key = tuple(readings)
    if key not in feed.bears_padding:
        feed.bears_padding[key] = _is_harmless(feed, sequences, readings, capture)
    return feed.bears_padding[key]


def _is_harmless(feed: Feed, sequences: Sequences, readings: Mapping[str, Reading], capture: Sequence[str]) -> bool:
    """Try it on the longest sequence and one of middling length."""
    by_length = np.argsort(-sequences.lengths, kind="stable")
    pair = by_length[[0, len(by_length) // 2]]
    if sequences.lengths[pair[0]] == sequences.lengths[pair[1]]:
        pair = by_length[[0, -1]]
    batch = next(sequences[pair].padded_batches(2))
    short = int(batch.lengths[1])
    noisy = batch.values.copy()
    rest = noisy[1, short:]
    rest[:] = noisy[0, : len(rest)] * (-3 if noisy.dtype.kind == "f" else 1)  # tokens: other ones of the data
    stand_ins = StandIns(feed.engine.by_name, memory=True)
    try:
        with state_kept():
            alone = feed.forward(batch.values[1:, :short], capture)
            padded = [feed.forward(values, capture, batch.lengths) for values in (batch.values, noisy)]
            # What of the padding could reach a value, whatever the data and the weights are: a maximum may hide it from a trial.
            plain = feed.forward(batch.values, capture, batch.lengths, instead=stand_ins.begin(is_plain=True))
            moved = feed.forward(noisy, capture, batch.lengths, instead=stand_ins.begin(is_plain=False))
    except (ModelError, DataError, LayerError):
        return False
    if any(run.drew_noise for run in padded):
        return False
    return all(_agree(alone, run, readings, short, 1) for run in padded) and _agree(plain, moved, readings, short, 2)


def _agree(first: Forward, padded_run: Forward, readings: Mapping[str, Reading], n_steps: int, n_rows: int) -> bool:
    """Whether the last sequence of two batches has the same values as far as it goes, step by step on the input's clock.

    Parameters
    ----------
    n_steps : int
        Its length.
    n_rows : int
        The rows of the first batch: 1 where the sequence is alone in it, without padding.
    """
    for address, reading in readings.items():
        calls, padded_calls = ({OUTPUT_VALUE: [run.output], **run.captured}.get(address) for run in (first, padded_run))
        if calls is None or padded_calls is None:
            return False
        value, padded = reading.apply(calls, n_rows)[-1], reading.apply(padded_calls, 2)[-1]
        if TIME in reading.order:
            clock = reading.order.index(TIME) - 1  # the sample axis is gone
            if (n_rows == 1 and value.shape[clock] != n_steps) or min(value.shape[clock], padded.shape[clock]) < n_steps:
                return False
            value, padded = (part.take(np.arange(n_steps), axis=clock) for part in (value, padded))
        if value.shape != padded.shape or not _same(value, padded):
            return False
    return True


def _same(value: np.ndarray, other: np.ndarray) -> bool:
    """Whether two values differ by rounding alone."""
    scale = float(np.abs(value).max(initial=0.0)) or 1.0
    rounding = np.finfo(value.dtype).eps if value.dtype.kind == "f" else 0.0
    return bool(np.abs(value - other).max(initial=0.0) <= 100 * rounding * scale)


def _reshaped(batch: Batch, size: int) -> Batch:
    """The batch in one of few shapes: rows filled up to a power of two by repeating the last, padded lengths rounded up."""
    n_rows, n_steps = batch.values.shape[:2]
    more_rows = min(size, 1 << (n_rows - 1).bit_length()) - n_rows
    more_steps = 0 if batch.own is None else _rounded_up(n_steps) - n_steps
    if not more_rows and not more_steps:
        return batch
    values = np.pad(batch.values, [(0, more_rows), (0, 0)] + [(0, 0)] * (batch.values.ndim - 2), mode="edge")
    values = np.pad(values, [(0, 0), (0, more_steps)] + [(0, 0)] * (values.ndim - 2))
    own = None if batch.own is None else np.pad(batch.own, (0, more_rows), mode="edge")
    return Batch(batch.rows, values, own)


def _rounded_up(n_steps: int) -> int:
    """The next of the lengths that are compiled for."""
    return int(np.ceil(_GROWTH ** np.ceil(np.log(n_steps) / np.log(_GROWTH) - 1e-9)))
