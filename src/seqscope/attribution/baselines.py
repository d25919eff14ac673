"""What an input is compared with, or what is put in place of a hidden part of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from seqscope.attribution.run import Baseline
from seqscope.errors import DataError, nearest
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
        sequence; several sequences, as Sequences or a list, of which all are used for each.
    reference : Sequences
        Where means, noise and other sequences are taken from.

    Raises
    ------
    DataError
        There is no such baseline, or it does not fit.
    """
    of = f" of {'reference' if said_reference else 'the data given'}"
    if isinstance(wanted, str):
        return _named(wanted, sequences, reference, seed, of)
    if isinstance(wanted, Sequences | list | tuple) and not np.isscalar(wanted):
        several = wanted if isinstance(wanted, Sequences) else Sequences(list(wanted))
        return _several(several, sequences)
    array = np.asarray(wanted)
    if array.dtype.kind not in "iufb":
        raise DataError(f"The baseline is a {type(wanted).__name__}: expected one of {', '.join(NAMES)}, a number, an array, or sequences.")
    return _array(array, sequences)


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
    smooth = gaussian_filter1d(x, _BLUR * x.shape[1], axis=1, mode="nearest")
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
    """Another sequence for each: one that is long enough where there is one, else its last value is held."""
    flat = reference.to_flat()

    def make(x: np.ndarray, rows: np.ndarray) -> Baseline:
        def one(row: int) -> np.ndarray:
            others = np.flatnonzero(
                (reference.samples != sequences.samples[row]) if reference is sequences else np.ones(len(reference), bool)
            )
            if not others.size:
                raise DataError("There is no other sequence to swap with: give some with reference=.")
            long_enough = others[reference.lengths[others] >= x.shape[1]]
            chosen = long_enough if long_enough.size else others[reference.lengths[others] == reference.lengths[others].max()]
            return _held(flat.part(int(_random(sequences, row, seed).choice(chosen))), x.shape[1]).astype(x.dtype)

        made = {int(row): one(int(row)) for row in np.unique(rows)}
        return lambda samples, which: np.stack([made[int(rows[sample])] for sample in samples])

    return make


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
    if array.ndim == 0:
        return Baselines(f"{array.item():g}", lambda x, rows: _constant(array, x))
    if array.ndim == 1 and not sequences.is_tokens:
        _check_width(len(array), sequences)
        return Baselines("a value for each channel", lambda x, rows: _constant(array, x))
    n_axes = 1 if sequences.is_tokens else 2
    if array.ndim not in (n_axes, n_axes + 1):
        raise DataError(f"The baseline has shape {array.shape}: expected (channel), (time, channel) or (sample, time, channel).")
    if n_axes == 2:
        _check_width(array.shape[-1], sequences)
    longest, n_steps = int(sequences.lengths.max()), array.shape[array.ndim - n_axes]
    if n_steps < longest:
        raise DataError(f"The baseline has shape {array.shape}, so {n_steps} steps, and the longest sequence has {longest}.")
    if array.ndim == n_axes:
        return Baselines(
            "an array",
            lambda x, rows: lambda samples, which: np.broadcast_to(array[: x.shape[1]].astype(x.dtype), (len(samples), *x.shape[1:])),
        )
    if len(array) != len(sequences):
        raise DataError(
            f"The baseline has shape {array.shape}, so {len(array)} sequences for {len(sequences)}: give one for each, or a list of "
            "sequences that are all used for each."
        )
    return Baselines(
        "an array for each sequence", lambda x, rows: lambda samples, which: array[rows[samples], : x.shape[1]].astype(x.dtype)
    )


def _check_width(n_channels: int | None, sequences: Sequences) -> None:
    if n_channels != sequences.n_channels:
        raise DataError(f"The baseline has {n_channels} channels and the data {sequences.n_channels}.")
