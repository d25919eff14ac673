"""Sequences in flat form: the steps of all, one after the other, with the place where each starts and its length.

A padded (sample, time, channel) array fits it without a copy, and so does any selection of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqscope.clock import Clock
from seqscope.errors import DataError
from seqscope.stored import SamplesOf, Stored, is_mapped, pieces


@dataclass
class Flat:
    """Sequences with the names that came along.

    Attributes
    ----------
    steps : array (step, channel) of floats, or (step,) of integer tokens
        Or floats that stay in their file.
    starts, lengths : int arrays (sample,)
    single : bool
        One sequence was given, without a sample axis.
    room : int array (sample,) or None
        How many steps are there for each sequence, padding included; None: as many as it is long.
    is_finite : bool
        Whether the steps were looked at, and are finite.
    """

    steps: np.ndarray | Stored
    starts: np.ndarray
    lengths: np.ndarray
    single: bool = False
    channels: list[Any] | None = None
    samples: np.ndarray | None = None
    labels: np.ndarray | None = None
    outputs: list[Any] | None = None
    clock: Clock = field(default_factory=Clock)
    room: np.ndarray | None = None
    is_finite: bool = False

    def part(self, row: int) -> np.ndarray:
        """The steps of one sequence: a view."""
        return self.steps[self.starts[row] : self.starts[row] + self.lengths[row]]

    def packed(self) -> np.ndarray:
        """The steps of all sequences, one after the other, without padding."""
        return packed(np.asarray(self.steps), self.starts, self.lengths)


def packed(steps: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sequences one after the other, without padding: a view where they lie so already."""
    ends: np.ndarray = np.cumsum(lengths)
    if np.array_equal(starts, ends - lengths):
        return np.asarray(steps[: int(ends[-1])])
    places: np.ndarray = np.arange(int(ends[-1])) + np.repeat(starts - (ends - lengths), lengths)
    return np.asarray(steps[places])


def from_block(block: np.ndarray) -> Flat:
    """(sample, time, channel) without names; a step at the end of a sample that is NaN in every channel is padding.

    A view of a file that lies in another order than this is left there.
    """
    n_samples, n_steps, n_channels = block.shape
    if is_mapped(block) and not block.flags.c_contiguous:
        return from_stored(Stored(SamplesOf(block), block.shape, block.dtype))
    return _padded(np.ascontiguousarray(block).reshape(n_samples * n_steps, n_channels), block.shape)


def from_stored(stored: Stored) -> Flat:
    """(sample, time, channel) that stays in its file; it is read through once, for NaN at the ends and elsewhere."""
    return _padded(stored, stored.block)


def _padded(steps: np.ndarray | Stored, shape: tuple[int, ...]) -> Flat:
    """Samples of equal room, with the number of steps of each that are not padding."""
    n_samples, n_steps, n_channels = shape
    lengths = np.full(n_samples, n_steps, np.int64)
    is_finite, done = True, 0
    for piece in pieces(steps, n_steps) if n_steps * n_channels else ():
        block = piece.reshape(-1, n_steps, n_channels)
        if not np.isfinite(block).all():
            is_finite = False
            there = ~np.isnan(block).all(axis=2)
            lengths[done : done + len(block)] = np.where(there.any(axis=1), n_steps - there[:, ::-1].argmax(axis=1), 0)
        done += len(block)
    starts = np.arange(n_samples, dtype=np.int64) * n_steps
    return Flat(steps, starts, lengths, room=np.broadcast_to(np.int64(n_steps), n_samples), is_finite=is_finite)


def from_tokens(ids: np.ndarray) -> Flat:
    """(sample, time) of whole numbers."""
    n_samples, n_steps = ids.shape
    ids = ids.astype(ids.dtype.newbyteorder("="), copy=False)
    lengths = np.full(n_samples, n_steps, np.int64)
    return Flat(np.ascontiguousarray(ids).reshape(-1), np.arange(n_samples, dtype=np.int64) * n_steps, lengths)


def joined(parts: Sequence[Flat]) -> Flat:
    """Several sets of sequences as one: the items of a list.

    Raises
    ------
    DataError
        The items have other channels than the first.
    """
    first = parts[0]
    for position, part in enumerate(parts):
        check_alike(part, first, position)
    outputs = _common([part.outputs for part in parts], "outputs")
    units = _common([part.clock.units or None for part in parts], "time units")
    lengths = np.concatenate([part.lengths for part in parts])
    steps = np.concatenate([part.part(row) for part in parts for row in range(len(part.starts))])
    return Flat(
        steps,
        (np.cumsum(lengths) - lengths).astype(np.int64),
        lengths,
        channels=next((part.channels for part in parts if part.channels is not None), None),
        samples=_stacked([part.samples for part in parts]),
        labels=_stacked([part.labels for part in parts]),
        outputs=outputs,
        clock=_joined_clock(parts, units or ""),
    )


def check_alike(part: Flat, first: Flat, position: int) -> None:
    """Refuse an item of a list that has other channels than the first.

    Raises
    ------
    DataError
        It has.
    """
    if _width(part) != _width(first):
        raise DataError(
            f"Item {position} of the list has {_width(part)} and item 0 has {_width(first)}: every item is (time, channel) with the "
            "same channels."
        )
    if part.channels is not None and first.channels is not None and part.channels != first.channels:
        raise DataError(
            f"Item {position} of the list has the channels {part.channels} and item 0 has {first.channels}: the same are expected."
        )


def _width(part: Flat) -> str:
    return "tokens" if part.steps.ndim == 1 else f"{part.steps.shape[1]} channels"


def _stacked(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if len(known) == len(columns) else None


def _common(said: Sequence[Any], what: str) -> Any:
    """What the items of a list say alike, as far as they say it."""
    known = [value for value in said if value is not None]
    differing = next((value for value in known if value != known[0]), None)
    if differing is not None:
        raise DataError(f"The items of the list have different {what}, {known[0]!r} and {differing!r}: the same are expected.")
    return known[0] if known else None


def _joined_clock(parts: Sequence[Flat], units: str) -> Clock:
    if all(part.clock.is_numbered for part in parts):
        return Clock()
    own = [part.clock.of_sample(row, int(length)) for part in parts for row, length in enumerate(part.lengths)]
    return Clock.of(own, units)
