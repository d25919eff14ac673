"""What an input is compared with, or what is put in place of a hidden part of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from seqscope.attribution.run import Baseline
from seqscope.errors import DataError, nearest
from seqscope.intake import as_array
from seqscope.labelled import CHANNEL, SAMPLE, TIME
from seqscope.sequences import Sequences

# A blurred series keeps nothing faster than about a tenth of its length.
_BLUR = 0.1

NAMES = ("zero", "mean", "blur", "noise", "swap")


@dataclass(frozen=True)
class Baselines:
    """Baselines for any group of sequences.

    Attributes
    ----------
    text : str
        What the attributes say.
    make : function of (x, rows)
        For sequences of one length, and their places in the data set, what gives their baselines.
    count : function of a number of steps
        How many there are for each sequence so long.
    """

    text: str
    make: Callable[[np.ndarray, np.ndarray], Baseline]
    count: Callable[[int], int] = lambda n_steps: 1


def baselines_for(wanted: Any, sequences: Sequences, reference: Sequences, seed: int, *, said_reference: bool) -> Baselines:
    """Read what was asked for.

    Parameters
    ----------
    wanted : str, number, array, DataArray, Sequences or list
        A name; a value; (channel) one value for each channel; (time, channel) a sequence for all; (sample, time, channel) one for each
        sequence; several sequences, as Sequences or a list, of which all are used for each. A DataArray goes by its dims, and by the
        names of its channels and samples where it has those of the data.
    reference : Sequences
        Where means, noise and other sequences are taken from.

    Raises
    ------
    DataError
        There is no such baseline, or it does not fit.
    """
    of = f" of {'reference' if said_reference else 'the data given'}"
    if said_reference:
        _check_width(reference.n_channels, sequences, "The reference")
    if isinstance(wanted, str):
        return _named(wanted, sequences, reference, seed, of)
    if isinstance(wanted, Sequences):
        return _several(wanted, sequences)
    if isinstance(wanted, list | tuple) and not (len(wanted) and all(isinstance(value, int | float | np.number) for value in wanted)):
        try:
            several = Sequences(list(wanted))
        except DataError as error:
            raise DataError(f"A list is taken for several baselines, each a sequence, and this one can't be: {error.message}") from error
        return _several(several, sequences)
    array = as_array(_aligned(wanted, sequences) if isinstance(wanted, xr.DataArray) else wanted)
    if array.dtype.kind not in ("iu" if sequences.is_tokens else "iuf"):
        given = type(wanted).__name__ + (f" of {array.dtype}" if array.ndim else "")
        number = "the number of a token, an array of them" if sequences.is_tokens else "a number, an array"
        raise DataError(f"The baseline is a {given}: expected one of {', '.join(NAMES)}, {number}, or sequences.")
    return _array(array, sequences)


def _aligned(array: xr.DataArray, sequences: Sequences) -> xr.DataArray:
    """In canonical order; channels and samples in the order of the data, where they have the same names."""
    dims = (TIME,) if sequences.is_tokens else (TIME, CHANNEL)
    allowed = [dims, (SAMPLE, *dims), *([] if sequences.is_tokens else [(CHANNEL,)]), ()]
    order = next((order for order in allowed if set(order) == set(array.dims)), None)
    if order is None:
        expected = " or ".join(f"({', '.join(order)})" for order in allowed if order)
        raise DataError(f"The baseline has the dims {tuple(map(str, array.dims))}: expected {expected}.")
    for dim, names in ((CHANNEL, sequences.channels), (SAMPLE, sequences.samples)):
        index = array.indexes.get(dim)
        if index is not None and names is not None and index.is_unique and set(names) <= set(index):
            array = array.sel({dim: list(names)})
    return array.transpose(*order)


def _named(name: str, sequences: Sequences, reference: Sequences, seed: int, of: str) -> Baselines:
    if name not in NAMES:
        raise DataError(f"There is no baseline {name!r}: {nearest(name, NAMES)}. (An array or a sequence can be one too.)")
    if sequences.is_tokens and name in ("mean", "blur"):
        raise DataError(f"Tokens have no {name}: say 'zero', 'noise' or 'swap', or the number of a token.")
    match name:
        case "zero":
            text = "token 0" if sequences.is_tokens else "zero (the mean of a standardised series)"
            return Baselines(text, lambda x, rows: lambda samples, which: np.zeros((len(samples), *x.shape[1:]), x.dtype))
        case "mean":
            means = reference.all_steps().mean(0, dtype=np.float64)
            return Baselines(f"mean of each channel{of}", lambda x, rows: _constant(means, x))
        case "blur":
            return Baselines(f"blur (Gaussian, {_BLUR:g} of the length)", _blurred)
        case "noise":
            return Baselines(f"noise (values of each channel drawn from those{of}, seed {seed})", _noise(sequences, reference, seed))
    return Baselines(f"swap (another sequence{of}, seed {seed})", _swapped(sequences, reference, seed))


def _constant(values: np.ndarray, x: np.ndarray) -> Baseline:
    return lambda samples, which: np.broadcast_to(values.astype(x.dtype), (len(samples), *x.shape[1:]))


def _blurred(x: np.ndarray, rows: np.ndarray) -> Baseline:
    smooth = gaussian_filter1d(x.astype(np.float64), _BLUR * x.shape[1], axis=1, mode="nearest").astype(x.dtype)
    return lambda samples, which: smooth[samples]


def _noise(sequences: Sequences, reference: Sequences, seed: int) -> Callable[[np.ndarray, np.ndarray], Baseline]:
    """Steps of each channel drawn from all steps of the reference."""
    pool = reference.all_steps()

    def make(x: np.ndarray, rows: np.ndarray) -> Baseline:
        def drawn(samples: np.ndarray, which: np.ndarray) -> np.ndarray:
            return np.stack([one(rows[sample]) for sample in samples])

        def one(row: int) -> np.ndarray:
            places = _random(sequences, row, seed).integers(len(pool), size=x.shape[1:])
            return np.asarray(pool[places] if x.ndim == 2 else np.take_along_axis(pool, places, axis=0), x.dtype)

        return drawn

    return make


def _swapped(sequences: Sequences, reference: Sequences, seed: int) -> Callable[[np.ndarray, np.ndarray], Baseline]:
    """Another sequence for each: one that is long enough where there is one, else its last value is held.

    Itself is known by its values: the reference may hold it under another id.
    """
    flat = reference.to_flat()
    contents = np.array([_content(flat.part(row), sequences) for row in range(len(reference))])

    def make(x: np.ndarray, rows: np.ndarray) -> Baseline:
        def one(row: int, own: np.ndarray) -> np.ndarray:
            others = np.flatnonzero((contents != _content(own, sequences)) | (reference.lengths != len(own)))
            if not others.size:
                raise DataError("There is no other sequence to swap with: give some with reference=.")
            long_enough = others[reference.lengths[others] >= x.shape[1]]
            chosen = long_enough if long_enough.size else others[reference.lengths[others] == reference.lengths[others].max()]
            return _held(flat.part(int(_random(sequences, row, seed).choice(chosen))), x.shape[1]).astype(x.dtype)

        made = {int(row): one(int(row), x[place]) for row, place in zip(*np.unique(rows, return_index=True), strict=True)}
        return lambda samples, which: np.stack([made[int(rows[sample])] for sample in samples])

    return make


def _content(values: np.ndarray, sequences: Sequences) -> int:
    return hash(values.astype(sequences.dtype).tobytes())


def _random(sequences: Sequences, row: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(str(sequences.samples[row]).encode()), 1])


def _several(several: Sequences, sequences: Sequences) -> Baselines:
    """Every one of them, for each sequence."""
    _check_width(several.n_channels, sequences)
    longest = int(sequences.lengths.max())
    if int(several.lengths.min()) < longest:
        raise DataError(
            f"The baselines have {several.describe()} and the longest sequence has {longest} steps: each baseline needs as many."
        )
    return _pool(several, f"{len(several)} sequences" if len(several) > 1 else "a sequence")


def data_as_baselines(reference: Sequences, *, said: bool) -> Baselines:
    """Every sequence of the data that is long enough, for each sequence; the longest, their last values held, where none is."""
    return _pool(reference, f"the sequences of {'reference' if said else 'the data given'} that are long enough")


def _pool(several: Sequences, text: str) -> Baselines:
    flat = several.to_flat()

    def fitting(n_steps: int) -> np.ndarray:
        return np.flatnonzero(several.lengths >= min(n_steps, int(several.lengths.max())))

    def make(x: np.ndarray, rows: np.ndarray) -> Baseline:
        n_channels = None if x.ndim == 2 else x.shape[2]
        if several.n_channels != n_channels:
            raise DataError(f"The reference has {_width(several.n_channels)} and the data {_width(n_channels)}.")
        chosen = fitting(x.shape[1])
        return lambda samples, which: np.stack([_held(flat.part(chosen[one]), x.shape[1]) for one in which]).astype(x.dtype)

    return Baselines(text, make, lambda n_steps: len(fitting(n_steps)))


def _held(values: np.ndarray, n_steps: int) -> np.ndarray:
    """A sequence cut to a length, or its last value held to it."""
    if len(values) >= n_steps:
        return values[:n_steps]
    return np.pad(values, [(0, n_steps - len(values))] + [(0, 0)] * (values.ndim - 1), mode="edge")


def _array(array: np.ndarray, sequences: Sequences) -> Baselines:
    """A number, one for each channel, a sequence for all, or one for each."""
    array = _in_type_of(sequences, array)
    if array.ndim == 0:
        _check_finite(array)
        return Baselines(f"{array.item():g}", lambda x, rows: _constant(array, x))
    if array.ndim == 1 and not sequences.is_tokens:
        _check_width(len(array), sequences)
        _check_finite(array)
        return Baselines("a value for each channel", lambda x, rows: _constant(array, x))
    n_axes = 1 if sequences.is_tokens else 2
    if array.ndim not in (n_axes, n_axes + 1):
        expected = "(time) or (sample, time)" if sequences.is_tokens else "(channel), (time, channel) or (sample, time, channel)"
        raise DataError(f"The baseline has shape {array.shape}: expected {expected}.")
    if n_axes == 2:
        _check_width(array.shape[-1], sequences)
    longest, n_steps = int(sequences.lengths.max()), array.shape[array.ndim - n_axes]
    if n_steps < longest:
        raise DataError(f"The baseline has shape {array.shape}, so {n_steps} steps, and the longest sequence has {longest}.")
    if array.ndim == n_axes:
        _check_finite(array[:longest])
        return Baselines(
            "an array",
            lambda x, rows: lambda samples, which: np.broadcast_to(array[: x.shape[1]], (len(samples), *x.shape[1:])),
        )
    if len(array) != len(sequences):
        raise DataError(
            f"The baseline has shape {array.shape}, for {len(sequences)} sequences: give one for each, or a list of sequences that "
            "are all used for each."
        )
    _check_finite(array[np.arange(n_steps) < sequences.lengths[:, None]])
    return Baselines("an array for each sequence", lambda x, rows: lambda samples, which: array[rows[samples], : x.shape[1]])


def _in_type_of(sequences: Sequences, array: np.ndarray) -> np.ndarray:
    """In the type of the data; what is too large for a float is infinite there."""
    with np.errstate(over="ignore"):
        cast = array.astype(sequences.dtype)
    if sequences.is_tokens and (cast != array).any():
        raise DataError(f"The baseline has tokens that the data's type, {sequences.dtype}, can't hold.")
    return cast


def _check_finite(used: np.ndarray) -> None:
    """Refuse NaN in what is used; beyond the end of a sequence it is padding."""
    if not np.isfinite(used).all():
        raise DataError(f"The baseline is NaN or infinite within the length of a sequence: expected finite values, of {used.dtype}.")


def _check_width(n_channels: int | None, sequences: Sequences, what: str = "The baseline") -> None:
    if n_channels != sequences.n_channels:
        raise DataError(f"{what} has {_width(n_channels)} and the data {_width(sequences.n_channels)}.")


def _width(n_channels: int | None) -> str:
    return "tokens" if n_channels is None else f"{n_channels} channel{'s' if n_channels != 1 else ''}"
