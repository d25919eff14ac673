"""Activations as every function here takes them, block by block along the samples."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError, quoted
from seqscope.labelled import CHANNEL, DIRECTION, LABEL, LENGTH, LONG_NAMES, SAMPLE, STEP, TIME, UNIT
from seqscope.sequences import Sequences
from seqscope.units.clocks import clock_of

# The values of a block: what lies on disk or in chunks is held this much at a time.
_BLOCK = 1 << 23
# Fewer units count as so many: what is made of a value takes its room too, and chunks of a store hold about so many, read whole.
_FEW = 16
# The values that stay in a processor's cache while several sums are taken over them.
_PIECE = 1 << 17

RECURRENT = ("lstm", "gru", "rnn", "lstm_cell", "gru_cell", "rnn_cell")


@dataclass(frozen=True)
class Taken:
    """The activations of one layer over a data set.

    Attributes
    ----------
    array : DataArray (sample, time or step, unit)
        With one sample where a single sequence was given.
    clock : str
        The dim along which time runs.
    single : bool
        Whether a sequence without `sample` was given.
    """

    array: xr.DataArray
    clock: str
    single: bool

    @property
    def n_samples(self) -> int:
        """The sequences."""
        return int(self.array.sizes[SAMPLE])

    @property
    def n_steps(self) -> int:
        """The steps of the longest sequence."""
        return int(self.array.sizes[self.clock])

    @property
    def n_units(self) -> int:
        """The units."""
        return int(self.array.sizes[UNIT])

    @property
    def kind(self) -> str:
        """The kind of the layer; "" where the array does not say."""
        return str(self.array.attrs.get("kind", ""))

    @property
    def looks_back(self) -> bool:
        """Whether its units see only what was: a recurrent layer of one direction."""
        return self.kind in RECURRENT and DIRECTION not in self.array.coords

    @property
    def unit_labels(self) -> list[Any]:
        """What the units are called."""
        return self.column(UNIT, UNIT).tolist()  # type: ignore[no-any-return]

    @property
    def samples(self) -> np.ndarray:
        """The id of each sequence."""
        return self.column(SAMPLE, SAMPLE)

    @property
    def labels(self) -> np.ndarray | None:
        """The class of each sequence, where it is known."""
        return self.column(LABEL, SAMPLE) if LABEL in self.array.coords else None

    def column(self, name: str, dim: str) -> np.ndarray:
        """A coordinate along a dim; numbers from 0 where there is none."""
        if name not in self.array.coords:
            return np.arange(self.array.sizes[dim])
        return np.asarray(self.array.coords[name].values).reshape(-1)

    def unit_coords(self) -> dict[str, xr.Variable]:
        """The coordinates of the units: their labels, and the direction in a bidirectional layer."""
        labels = {UNIT: xr.Variable(UNIT, self.unit_labels, {"long_name": LONG_NAMES[UNIT]})}
        return labels | {str(name): coord.variable for name, coord in self.array.coords.items() if coord.dims == (UNIT,) and name != UNIT}

    def attrs(self, method: str) -> dict[str, Any]:
        """What a reader needs to cite a result: the layer and its model, and what was done."""
        return dict(self.array.attrs) | {"method": method}

    def position(self, sample: Any) -> int:
        """The place of a sample, by its id.

        Raises
        ------
        DataError
            There is none with such an id.
        """
        sample = plain(sample)
        found = np.flatnonzero(self.samples == sample) if isinstance(sample, Hashable) else np.zeros(0, int)
        if len(found) == 1:
            return int(found[0])
        if len(found):
            raise DataError(f"The sample id {sample!r} stands {len(found)} times: ids must differ.")
        raise DataError(f"There is no sample {sample!r}: {_range_of('sample', self.samples.tolist())}.")

    def unit(self, unit: Any) -> int:
        """The place of a unit, by its label.

        Raises
        ------
        DataError
            There is none with such a label.
        """
        labels, unit = self.unit_labels, plain(unit)
        if isinstance(unit, bool) or not isinstance(unit, Hashable) or unit not in labels:
            raise DataError(f"There is no unit {unit!r}{self.in_layer}: {_range_of('unit', labels)}.")
        return labels.index(unit)

    @property
    def in_layer(self) -> str:
        """Where units stand, for a message."""
        return f" in the layer '{self.array.attrs['layer']}'" if "layer" in self.array.attrs else ""

    def values_of(self, row: int) -> np.ndarray:
        """One sequence, (time, unit), NaN after its end."""
        return np.asarray(self.array.isel({SAMPLE: row}).values)

    @property
    def is_stored(self) -> bool:
        """Whether its values are still to be read or computed: in a file that was opened lazily, or in chunks of dask."""
        return not self.array._in_memory

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The samples of each block, and its values (sample, time, unit): a view of an array in memory, else read."""
        return ((rows, self.block(rows)) for rows in self.rows())

    def block(self, rows: slice) -> np.ndarray:
        """The values of some samples, (sample, time, unit), as floats."""
        return as_floats(self.array.isel({SAMPLE: rows}).values)

    def rows(self) -> Iterator[slice]:
        """Blocks of samples: whole chunks of an array in chunks, since a part of one costs as much as all of it.

        A power of two, as the chunks of a recording are: so blocks are the same in memory and in a store, and with them every last digit.
        """
        most = max(1, _BLOCK // max(1, self.n_steps * max(_FEW, self.n_units)))
        most, edges, start = 1 << (most.bit_length() - 1), self._edges(), 0
        while start < self.n_samples:
            last, first = np.searchsorted(edges, [start + most, start], side="right")
            stop = int(edges[max(last - 1, first)])
            yield slice(start, stop)
            start = stop

    def _edges(self) -> np.ndarray:
        """Where chunks begin, and where the last ends."""
        chunks: Any = self.array.chunksizes.get(SAMPLE)
        if chunks is None:
            chunks = self.array.encoding.get("preferred_chunks", {}).get(SAMPLE, 1) if self.is_stored else 1
        if isinstance(chunks, tuple):
            return np.concatenate([[0], np.cumsum(chunks)])
        return np.append(np.arange(0, self.n_samples, chunks), self.n_samples)


def as_floats(values: np.ndarray) -> np.ndarray:
    """Values as float32 or float64, whichever holds them."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32 if values.dtype == np.float16 else np.float64)


def pieces(rows: np.ndarray, wide: int = 1) -> Iterator[slice]:
    """Parts of a block along its first axis, small enough to stay in a processor's cache; of `wide` values, or a multiple."""
    width = max(1, rows.size // max(1, len(rows)))
    fold = max(1, wide // width)
    size = max(1, _PIECE // width // fold) * fold
    return (slice(start, start + size) for start in range(0, len(rows), size))


def take_in(activations: Any) -> Taken:
    """Check activations, and put their dims in order.

    Raises
    ------
    DataError
        They are no array of one layer with a time axis and units, or hold nothing.
    """
    if not isinstance(activations, xr.DataArray):
        several = {
            "DataTree": "take the array of one layer, tree['lstm'].activations",
            "Dataset": "take one of its arrays, such as states.h",
        }
        advice = several.get(type(activations).__name__, "give what scope.activations(X, layer) gives")
        raise DataError(f"Activations are a DataArray (sample, time, unit), and a {type(activations).__name__} was given: {advice}.")
    clock = clock_of(activations)
    if UNIT not in activations.dims:
        raise DataError(f"The array has dims {activations.dims} and no units: expected the activations of a layer, with a dim 'unit'.")
    others = [str(dim) for dim in activations.dims if dim not in (SAMPLE, clock, UNIT)]
    if others:
        raise DataError(f"The array has a dim {others[0]!r} besides {clock!r} and 'unit': choose one, with .isel({others[0]}=0).")
    if activations.dtype.kind not in "fiu":
        raise DataError(f"Activations are numbers, and an array of {activations.dtype} was given.")
    if not activations.size:
        raise DataError(f"The array is empty: it has {', '.join(f'{size} {dim}s' for dim, size in activations.sizes.items())}.")
    single = SAMPLE not in activations.dims
    return Taken((activations.expand_dims(SAMPLE) if single else activations).transpose(SAMPLE, clock, UNIT), clock, single)


def plain(value: Any) -> Any:
    """A number or a name out of an array of one, such as a figure of a result: a Python value."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def positive(number: Any, name: str, *, least: int = 1) -> int:
    """A whole number that was given for an option.

    Raises
    ------
    DataError
        It is none, or too small.
    """
    number = plain(number)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise DataError(f"{name} is {number!r}: expected a whole number, {least} or more.")
    return number


def one_of(word: Any, known: tuple[str, ...], name: str) -> None:
    """Refuse a word that is not known.

    Raises
    ------
    DataError
        It is not.
    """
    if word not in known:
        raise DataError(f"{name} is {word!r}: say one of {quoted(known)}.")


def _range_of(word: str, labels: list[Any]) -> str:
    if len(labels) == 1:
        return f"there is only {labels[0]!r}"
    return f"there are {len(labels)} {word}s, {labels[0]!r} to {labels[-1]!r}"


def inputs_of(taken: Taken, X: Any) -> Sequences:
    """The input that activations come from.

    Raises
    ------
    DataError
        It has other samples or lengths than the activations, or no channels.
    """
    inputs = X if isinstance(X, Sequences) else Sequences(X)
    if inputs.is_tokens:
        raise DataError(f"X is tokens ({inputs.describe()}), which have no channels: give what they stand for, such as one-hot vectors.")
    if len(inputs) != taken.n_samples:
        raise DataError(f"X holds {inputs.describe()} and the activations {taken.n_samples} sequences: give those that they come from.")
    if SAMPLE in taken.array.coords and not np.array_equal(inputs.samples, taken.samples):
        first = int(np.flatnonzero(inputs.samples != taken.samples)[0])
        raise DataError(
            f"X has other samples than the activations: at place {first} the sample {inputs.samples[first]!s} and "
            f"{taken.samples[first]!s}: give those that they come from, in their order."
        )
    _check_lengths(taken, inputs)
    return inputs


def _check_lengths(taken: Taken, inputs: Sequences) -> None:
    if LENGTH in taken.array.coords:
        said = taken.column(LENGTH, SAMPLE)
        for row in np.flatnonzero(said != inputs.lengths)[:1]:
            raise DataError(
                f"X has {inputs.lengths[row]} steps in sample {taken.samples[row]!s} and the activations come from {said[row]}."
            )
    elif taken.clock == TIME and taken.n_steps != inputs.lengths.max():
        raise DataError(f"X has {inputs.describe()} and the activations {taken.n_steps} steps: give the input that they come from.")


def channel_coord(inputs: Sequences) -> xr.Variable:
    """The names of the channels."""
    return xr.Variable(CHANNEL, list(inputs.channels or ()), {"long_name": LONG_NAMES[CHANNEL]})


def step_word(taken: Taken) -> str:
    """What a place in time is called in a message."""
    return "layer step" if taken.clock == STEP else "step"
