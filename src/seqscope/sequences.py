"""Sequences: the data as a model takes it, with lengths and names, in batches of equal length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, overload

import numpy as np
import xarray as xr

from seqscope import labelled, layouts
from seqscope.clock import Clock
from seqscope.errors import DataError, SampleError
from seqscope.flat import Flat, packed
from seqscope.intake import as_array, take_in
from seqscope.stored import BLOCK_BYTES, Stored, is_mapped, pieces, place_of, with_values, without_values
from seqscope.text import Encoding, as_text


@dataclass(frozen=True)
class Batch:
    """Sequences to be run together: of one length, or padded with zeros.

    Attributes
    ----------
    rows : slice or int array (sample,)
        Where these sequences stand in the data set. `values` may hold more rows, put there to fill up a batch.
    values : array (sample, time, channel) of floats or (sample, time) of tokens
    own : int array (sample,) or None
        The number of steps of each sequence, where it is padded.
    """

    rows: slice | np.ndarray
    values: np.ndarray
    own: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        """The number of steps of each sequence."""
        return np.full(self.values.shape[0], self.values.shape[1], np.int64) if self.own is None else self.own

    @property
    def n_sequences(self) -> int:
        """How many of the rows are sequences of the data set."""
        return self.rows.stop - self.rows.start if isinstance(self.rows, slice) else len(self.rows)


class Sequences:
    """Multivariate series, or token sequences, of one data set: their values, lengths and names.

    Parameters
    ----------
    data
        A 3-D array (in `layout`), a list of 2-D arrays of different lengths, each (time, channel), one 2-D array (time, channel),
        a DataArray with dims among `sample`, `time`, `channel`, a pandas frame whose index tells the samples apart (and, on a
        second level, the time), or integer tokens (sample, time), or a list of them. A step at the end of a sequence that is NaN in
        every channel is padding. Text is taken by `Sequences.from_text`.
    lengths : array (sample,), optional
        The number of steps of each sequence; what lies beyond is padding whatever its value.
    channels : sequence of str, optional
        The names of the channels; default: 0, 1, ...
    samples : array (sample,), optional
        An id for each sequence; default: 0, 1, ...
    labels : array (sample,), optional
        The true class or value of each sequence.
    outputs : sequence of str, optional
        The names of the outputs (classes) of the models that this data is for.
    time : array (time,), or a list of arrays, one per sample, optional
        The time of each step: numbers (in `time_units`) or dates.
    rate : float, optional
        Steps per time unit, in place of `time`.
    time_units : str, optional
        The unit of `time`, or of `1 / rate`; default with `rate`: seconds, "s".
    layout : {"NTC", "NCT", "TNC", "NT", "TN"}, optional
        The order of the axes of an array without names: N samples, T time, C channels. Default: "NTC", or "NT" for tokens.

    Raises
    ------
    DataError
        Empty data, a sequence of length 0, NaN inside or infinity (with sample, step and channel), object arrays, or names that
        do not fit in number.

    Examples
    --------
    >>> import numpy as np
    >>> X = Sequences([np.zeros((7, 2)), np.ones((5, 2))], channels=["x", "y"], rate=100.0)
    >>> X
    Sequences: 2 sequences, 5 to 7 steps, 2 channels
    >>> X[1].sizes["time"], float(X[1].time[1])
    (5, 0.01)
    """

    def __init__(
        self,
        data: Any,
        *,
        lengths: Any = None,
        channels: Iterable[Hashable] | None = None,
        samples: Any = None,
        labels: Any = None,
        outputs: Iterable[Hashable] | None = None,
        time: Any = None,
        rate: float | None = None,
        time_units: str | None = None,
        layout: str | None = None,
    ) -> None:
        flat = take_in(data, layouts.check(layout) if layout is not None else None)
        self._steps = flat.steps
        self._starts = flat.starts
        self.single = flat.single
        if not len(flat.starts):
            raise DataError("The data holds no sequence: expected at least one.")
        self.lengths = flat.lengths if lengths is None else _whole(_column(lengths, len(self), "lengths"))
        self._check_lengths(flat)
        self.channels = self._channel_names(channels if channels is not None else flat.channels)
        self.samples = _ids(samples if samples is not None else flat.samples, len(self))
        known_labels = labels if labels is not None else flat.labels
        self.labels = None if known_labels is None else _column(known_labels, len(self), "labels")
        if isinstance(outputs, str):
            raise DataError(f"The output names are {outputs!r}: expected a list of names, one for each output.")
        known_outputs = outputs if outputs is not None else flat.outputs
        self.outputs: tuple[Hashable, ...] | None = None if known_outputs is None else tuple(known_outputs)
        self.clock = self._make_clock(flat.clock, time, rate, time_units)
        self._check_values(flat)

    @classmethod
    def from_text(
        cls,
        text: str | Iterable[str],
        *,
        characters: str | Iterable[str] | None = None,
        encoding: Encoding = "one_hot",
        window: int | None = None,
        stride: int | None = None,
        remainder: bool = True,
        unknown: str | None = None,
        samples: Any = None,
        labels: Any = None,
        outputs: Iterable[Hashable] | None = None,
    ) -> Self:
        """Text by characters: whole, or in windows.

        Parameters
        ----------
        text : str or list of str
            A list is one sequence for each text, of different lengths.
        characters : str or sequence of str, optional
            The characters that the model knows, in its order; default: those of the text, sorted.
        encoding : {"one_hot", "ids"}
            (time, channel) of float32, 1 in the channel of each character, channels named by the characters; or whole numbers (time),
            each a place in `characters`.
        window : int, optional
            Cut each text into windows of so many characters; default: whole texts.
        stride : int, optional
            The characters from the start of a window to that of the next; default: `window`. So window `i` of one text starts at character
            `i * stride`. Windows that overlap share their memory.
        remainder : bool
            Whether what is left behind the last whole window of a text is kept, as a shorter sequence.
        unknown : str, optional
            One of `characters` that stands for any other; default: others are refused.
        samples, labels, outputs
            As of Sequences. By default the label of a window is the character that follows it ("" at the end of its text), and the outputs
            are the characters: what a model that continues the text is asked for.

        Returns
        -------
        Sequences
            `seqscope.text.text_of` gives the text of one of them back.

        Raises
        ------
        DataError
            No text or an empty one, or a character that is not known (with its place).
        TooLargeError
            The text would not fit in memory, one-hot.

        Examples
        --------
        >>> Sequences.from_text("to be, or not to be")
        Sequences: one sequence, 19 steps, 8 channels
        >>> X = Sequences.from_text("to be, or not to be", window=5, stride=1)
        >>> X, X[0].channel.values.tolist(), X.labels[:3].tolist()
        (Sequences: 15 sequences, 5 steps, 8 channels, [' ', ',', 'b', 'e', 'n', 'o', 'r', 't'], [',', ' ', 'o'])
        """
        data = as_text(text, characters=characters, encoding=encoding, window=window, stride=stride, remainder=remainder, unknown=unknown)
        return cls(data, samples=samples, labels=labels, outputs=outputs)

    def to_flat(self) -> Flat:
        """The same in flat form, sharing memory: what data is made of when it is made from Sequences."""
        channels = None if self.channels is None else list(self.channels)
        outputs = None if self.outputs is None else list(self.outputs)
        flat = Flat(self._steps, self._starts, self.lengths, self.single, channels, self.samples, self.labels, outputs, self.clock)
        flat.is_finite = self.lies_in_file  # a file is not read through a second time
        return flat

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: of values that lie in a file, where they lie."""
        return self.__dict__ | {"_steps": without_values(self._steps)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_steps": with_values(state["_steps"])})

    # What it holds

    @property
    def is_tokens(self) -> bool:
        """Whether the steps are integers that stand for symbols, without channels."""
        return self._steps.ndim == 1

    @property
    def n_channels(self) -> int | None:
        """The number of channels; None for tokens."""
        return None if self.is_tokens else int(self._steps.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values as given."""
        return self._steps.dtype

    @property
    def lies_in_file(self) -> bool:
        """Whether the values stay in a file until they are asked for."""
        return isinstance(self._steps, Stored) or is_mapped(self._steps)

    @property
    def place(self) -> str:
        """The file or store that the values stay in, where that is known; "" where they are in memory."""
        return self._steps.place if isinstance(self._steps, Stored) else place_of(self._steps)

    @property
    def sample_axis(self) -> labelled.SampleAxis:
        """Ids, lengths and labels, for the results."""
        return labelled.SampleAxis(self.samples, self.lengths, self.labels, self.single)

    def __len__(self) -> int:
        return len(self._starts)

    def __repr__(self) -> str:
        return f"Sequences: {self.describe()}"

    def describe(self) -> str:
        """Number, lengths and channels in words, for messages."""
        low, high = int(self.lengths.min()), int(self.lengths.max())
        steps = f"{low} steps" if low == high else f"{low} to {high} steps"
        number = "one sequence" if self.single else f"{len(self)} sequence{'s' if len(self) > 1 else ''}"
        width = "tokens" if self.is_tokens else f"{self.n_channels} channel{'s' if self.n_channels != 1 else ''}"
        return f"{number}, {steps}, {width}"

    def all_steps(self) -> np.ndarray:
        """The steps of all sequences, one after the other, without padding: (step, channel), (step) for tokens."""
        return packed(*self._block(), self.lengths)

    def loaded(self) -> Self:
        """The same with its own steps in memory, and of a larger data set those alone: what lies in a file is read now."""
        part = self._take(slice(None))
        steps = self.all_steps()
        part._steps = np.array(steps) if is_mapped(steps) else steps
        part._starts = np.cumsum(self.lengths) - self.lengths
        part.single = self.single
        return part

    def _block(self) -> tuple[np.ndarray, np.ndarray]:
        """The steps from the first that belongs to these sequences to the last, in one read, and where each sequence starts in them."""
        first, last = int(self._starts.min()), int((self._starts + self.lengths).max())
        if last - first <= 2 * int(self.lengths.sum()) + BLOCK_BYTES // self.dtype.itemsize or not isinstance(self._steps, Stored):
            return np.asarray(self._steps[first:last]), self._starts - first
        parts = [self._steps[start : start + n] for start, n in zip(self._starts, self.lengths, strict=True)]
        return np.concatenate(parts), np.cumsum(self.lengths) - self.lengths

    # Some of it

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> xr.DataArray: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | np.ndarray) -> Self: ...
    def __getitem__(self, key: Any) -> Any:
        """Give one sequence as a DataArray (time, channel), or several as Sequences."""
        if isinstance(key, int | np.integer) or (getattr(key, "ndim", None) == 0 and "int" in str(key.dtype)):
            return self._one(int(key))
        try:
            rows = key if isinstance(key, slice) else np.arange(len(self))[_positions(key)]
            n_rows = len(range(len(self))[rows]) if isinstance(rows, slice) else len(rows)
        except (IndexError, TypeError, ValueError) as error:
            raise SampleError(f"The selection {key!r} does not fit: {error} ({self.describe()}).") from error
        if not n_rows:
            raise DataError(f"The selection {key!r} holds no sequence (there are {len(self)}).")
        return self._take(rows)

    def __iter__(self) -> Iterator[xr.DataArray]:
        return (self._one(row) for row in range(len(self)))

    def _one(self, row: int) -> xr.DataArray:
        if not -len(self) <= row < len(self):
            raise SampleError(f"There is no sample {row}: the positions go from 0 to {len(self) - 1}.")
        rows = np.array([row % len(self)])
        part = self._take(rows)
        part.single = True
        return labelled.series(
            self._gather(rows)[0],
            channels=self.channels,
            clock=part.clock,
            samples=part.sample_axis,
            attrs={"outputs": self.outputs},
        )

    def _take(self, rows: slice | np.ndarray) -> Self:
        """Share the steps, keep the places: no value is copied."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part._starts, part.lengths, part.samples = self._starts[rows], self.lengths[rows], self.samples[rows]
        part.labels = None if self.labels is None else self.labels[rows]
        part.clock = self.clock.take(rows)
        part.single = False
        return part

    def batches(self, size: int) -> Iterator[Batch]:
        """Batches of at most `size` sequences of equal length, the longest first.

        Equal lengths, because padding changes what a convolution, a bidirectional or an attention layer computes. The longest
        first, so that the first batch tells how large the result will be.
        """
        if not isinstance(size, int | np.integer) or size < 1:
            raise DataError(f"The batch size is {size!r}: expected a whole number, 1 or more.")
        for length in np.unique(self.lengths)[::-1]:
            rows = np.flatnonzero(self.lengths == length)
            for start in range(0, len(rows), size):
                chosen = rows[start : start + size]
                together = len(chosen) == chosen[-1] - chosen[0] + 1
                yield Batch(slice(int(chosen[0]), int(chosen[-1]) + 1) if together else chosen, self._gather(chosen))

    def padded_batches(self, size: int) -> Iterator[Batch]:
        """Batches of at most `size` sequences of like length, the longest first, the shorter ones padded with zeros."""
        by_length = np.argsort(-self.lengths, kind="stable")
        for start in range(0, len(by_length), size):
            chosen = by_length[start : start + size]
            lengths = self.lengths[chosen]
            values = np.zeros((len(chosen), lengths[0], *self._steps.shape[1:]), self._steps.dtype)
            for row, (first, length) in enumerate(zip(self._starts[chosen], lengths, strict=True)):
                values[row, :length] = self._steps[first : first + length]
            yield Batch(chosen, values, lengths)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Sequences of one length as (sample, time, ...): a view where they lie one behind the other, else a copy."""
        length, starts = int(self.lengths[rows[0]]), self._starts[rows]
        if np.array_equal(starts, starts[0] + np.arange(len(rows)) * length):
            block = self._steps[starts[0] : starts[0] + len(rows) * length]
            return block.reshape(len(rows), length, *self._steps.shape[1:])
        places: np.ndarray = starts[:, None] + np.arange(length)
        return np.asarray(self._steps[places])

    # What is checked

    def _check_lengths(self, flat: Flat) -> None:
        room = flat.lengths if flat.room is None else flat.room
        for row in np.flatnonzero((self.lengths < 1) | (self.lengths > room))[:1]:
            if self.lengths[row] > room[row]:
                raise DataError(f"Sequence {row} is said to have {self.lengths[row]} steps and holds {room[row]}.")
            raise DataError(f"Sequence {row} has no steps (length {self.lengths[row]}): leave it out, or give at least one step.")
        if self._steps.ndim == 2 and not self._steps.shape[1]:
            raise DataError("The data has no channels: expected at least one.")

    def _channel_names(self, channels: Iterable[Hashable] | None) -> tuple[Hashable, ...] | None:
        if self.is_tokens:
            if channels is not None:
                raise DataError("Tokens have no channels, and names of channels were given.")
            return None
        if channels is None:
            return tuple(range(self._steps.shape[1]))
        if isinstance(channels, str):
            raise DataError(f"The channel names are {channels!r}: expected a list of names, one for each channel.")
        names = tuple("/".join(map(str, name)) if isinstance(name, tuple) else name for name in channels)
        if len(names) != self._steps.shape[1]:
            raise DataError(f"{len(names)} channel names were given for {self._steps.shape[1]} channels.")
        return names

    def _make_clock(self, known: Clock, time: Any, rate: Any, units: str | None) -> Clock:
        """The clock that was said, or the one that came with the data, in the units that were said."""
        if time is not None and rate is not None:
            raise DataError("Both `time` and `rate` were given: say one of them.")
        longest = int(self.lengths.max())
        if rate is not None:
            if not isinstance(rate, int | float | np.number) or not 0 < rate < np.inf:
                raise DataError(f"The rate is {rate!r}: expected steps per time unit, a number above 0.")
            return Clock(np.arange(longest) / rate, None, units or "s")
        if time is not None:
            return Clock.of(self._stamps(time, longest), units or "")
        if units is not None and known.is_numbered:
            raise DataError(f"`time_units` is {units!r} and there are no times: give `time` or `rate` too.")
        return known if units is None or known.is_dates else replace(known, units=units)

    def _stamps(self, time: Any, longest: int) -> list[np.ndarray]:
        """The stamps that were given: of all samples, or one array a sample."""
        if not (isinstance(time, list | tuple) and len(time) and any(np.ndim(stamps) for stamps in time)):
            stamps = as_array(time)
            if stamps.ndim != 1 or len(stamps) < longest:
                raise DataError(f"The time stamps have shape {stamps.shape}: expected one for each of the {longest} steps.")
            return [stamps]
        own = [as_array(stamps) for stamps in time]
        if len(own) != len(self):
            raise DataError(f"{len(own)} arrays of time stamps were given for {len(self)} sequences.")
        for row, stamps in enumerate(own):
            if stamps.ndim != 1 or len(stamps) < self.lengths[row]:
                raise DataError(f"Sequence {row} has {self.lengths[row]} steps and {stamps.size} time stamps.")
        return [stamps[:length] for stamps, length in zip(own, self.lengths, strict=True)]

    def _check_values(self, flat: Flat) -> None:
        """Find the first NaN or infinity, unless everything is finite (one fast pass)."""
        if self.is_tokens or flat.is_finite or all(np.isfinite(piece).all() for piece in pieces(self._steps)):
            return
        longest = int((self.lengths if flat.room is None else flat.room).max())
        n_rows = max(1, BLOCK_BYTES // max(1, longest * self._steps.shape[1] * self.dtype.itemsize))
        for first in range(0, len(self), n_rows):
            part = self._take(slice(first, first + n_rows))
            steps = part.all_steps()
            for place, channel in np.argwhere(~np.isfinite(steps))[:1] if not np.isfinite(steps).all() else ():
                row = int(np.searchsorted(np.cumsum(part.lengths), place, side="right"))
                step = place - int(part.lengths[:row].sum())
                what = "NaN" if np.isnan(steps[place, channel]) else "Infinity"
                name = self.channels[channel] if self.channels else channel
                raise DataError(
                    f"{what} in sample {part.samples[row]!s}, step {step}, channel {name!s}: expected finite values "
                    "(only steps at the end that are NaN in every channel count as padding). Fill the gap or cut the sequence."
                )


def as_sequences(data: Any, layout: str | None = None) -> Sequences:
    """Sequences as they are; anything else is taken in, arrays in the layout given."""
    return data if isinstance(data, Sequences) else Sequences(data, layout=layout)


def _column(values: Any, n_samples: int, what: str) -> np.ndarray:
    column = as_array(values)
    if column.shape != (n_samples,):
        raise DataError(f"The {what} have shape {column.shape}: expected one for each of the {n_samples} sequences.")
    return column


def _whole(lengths: np.ndarray) -> np.ndarray:
    """Lengths as whole numbers; anything else is refused."""
    if lengths.dtype.kind in "iu":
        return lengths.astype(np.int64)
    for row, length in enumerate(lengths.tolist()):
        if not isinstance(length, int | float) or length != length // 1:
            raise DataError(f"The length of sequence {row} is {length!r}: expected a whole number of steps.")
    return lengths.astype(np.int64)


def _positions(key: Any) -> np.ndarray:
    """Positions or a mask; an empty list is no position."""
    rows = np.asarray(key)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iub"):
        raise IndexError("positions are integers, or one boolean for each sample")
    return rows if rows.size else rows.astype(np.int64)


def _ids(samples: Any, n_samples: int) -> np.ndarray:
    if samples is None:
        return np.arange(n_samples)
    column = _column(samples, n_samples, "sample ids")
    try:
        ordered = np.sort(column)
        again = ordered[1:][ordered[1:] == ordered[:-1]]  # all but the first of each, and of most data sets none
        counts = Counter(again.tolist())
    except TypeError:  # ids of several kinds, which have no order
        counts = Counter(column.tolist()) - Counter(set(column.tolist()))
    for name, more in counts.most_common(1):
        raise DataError(f"The sample id {name!s} stands {more + 1} times: ids must differ.")
    return column
