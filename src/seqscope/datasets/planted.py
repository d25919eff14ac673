"""Series whose class is decided by a pattern that was planted in noise, with the places where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from seqscope import labelled
from seqscope.errors import DataError, nearest, quoted
from seqscope.sequences import Sequences

# Over the phase, 0 to 1. None becomes another by a shift: "sine" and "bump" come nearest, with a correlation of 0.76.
_SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sine": lambda phase: np.sin(2 * np.pi * phase),
    "ramp": lambda phase: phase,
    "bump": lambda phase: np.exp(-(((phase - 0.5) / 0.15) ** 2) / 2),
    "peaks": lambda phase: np.exp(-(((phase - 0.25) / 0.07) ** 2) / 2) + np.exp(-(((phase - 0.75) / 0.07) ** 2) / 2),
    "chirp": lambda phase: np.sin(2 * np.pi * (phase + 1.5 * phase**2)),
}
_WIDTH, _LEAST_WIDTH = 20, 8  # the chirp ends at 4 periods a width: fewer steps could not show it


def planted(
    n: int = 600,
    *,
    length: int | tuple[int, int] = 100,
    n_channels: int = 3,
    pattern: Sequence[str] | npt.ArrayLike = ("sine", "peaks"),
    width: int | None = None,
    channel: int | Sequence[int] = 0,
    place: int | Sequence[int] | np.ndarray | Literal["random"] = "random",
    noise: float = 0.2,
    autocorrelation: float = 0.0,
    seed: int = 0,
) -> tuple[Sequences, np.ndarray, xr.DataArray]:
    """Noise with a short pattern in it that decides the class, and where it is: data of which the right explanation is known.

    Every series is noise on all its channels. In `channel`, from `place` on, the pattern of its class is added to it. Nothing else
    tells the classes apart: there are equally many series of each (or one more), and the patterns that have names have the same mean
    (0) and the same root mean square (1), so that their shape decides and neither their level nor their energy.

    Each of classes, lengths, places and noise is drawn from a stream of its own. With the same seed, `noise=0` gives the planted
    patterns alone, at the same places; for a test set take another seed.

    Parameters
    ----------
    n : int
        The number of series.
    length : int or (int, int)
        The number of steps of each series, or the shortest and the longest: each length from one to the other is equally likely.
    n_channels : int
        The number of channels.
    pattern : sequence of str, or array (class, step) or (class, step, channel)
        The pattern of each class, two or more: names among "sine" (one period), "ramp", "bump", "peaks" (two) and "chirp", which are
        the names of the classes too; or values, and the classes are "0", "1", ... Values are planted as they are, in every one of
        `channel` the same or each its own. Where a class has nothing but zeros in a channel, nothing was planted there.
    width : int, optional
        The number of steps of a pattern given by name, 8 or more; default: 20. An array has its own.
    channel : int or sequence of int
        The positions of the channels in which the pattern is planted; the others hold noise alone.
    place : int, "random", or array (sample,) of int
        The first step of the pattern: the same in all series, equally likely wherever it fits, or one for each series.
    noise : float
        The standard deviation of the noise, in the unit of the patterns.
    autocorrelation : float
        The correlation of the noise with itself one step before, between -1 and 1: 0 is white, 0.9 is red. It is a stationary
        autoregressive process of first order, whose standard deviation is `noise` at every step.
    seed : int
        Where the drawing starts: the same seed gives the same data.

    Returns
    -------
    X : Sequences
        Each (time, channel); its labels are `y` and its output names the classes, in the order of `pattern`.
    y : array (sample,) of str
        The class of each series.
    truth : DataArray (sample, time, channel) of bool
        True where the pattern was planted, over its whole width. It has the coordinates `place` (sample), the first of these steps,
        and `length` and `label` (sample). After the end of a series it is False like everywhere outside the pattern, which is right
        beside an attribution, as that is NaN there; to count steps, take those inside: `truth.where(truth.time < truth.length)`.

    Raises
    ------
    DataError
        There is no such pattern, fewer than two, or two that are equal; it is longer than the shortest series; a place or a channel
        lies outside (a place has to fit in the shortest series, as the lengths are drawn); or a number is out of its range.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y, truth = sq.datasets.planted(200, length=(60, 100), n_channels=9, channel=4)
    >>> X, X.outputs
    (Sequences: 200 sequences, 60 to 100 steps, 9 channels, ('sine', 'peaks'))
    >>> where = truth[0].sel(channel=4)
    >>> int(where.sum()), int(where.argmax("time")) == int(truth.place[0])
    (20, True)
    """
    n, n_channels = _whole(n, 1, "`n`, the number of series,"), _whole(n_channels, 1, "`n_channels`")
    channels = _channels(channel, n_channels)
    names, shapes = _patterns(pattern, width, len(channels))
    shortest, longest = _ends(length, shapes.shape[1])
    for_class, for_length, for_place, for_noise = np.random.default_rng(_whole(seed, 0, "`seed`")).spawn(4)

    classes = for_class.permutation(np.arange(n) % len(names))
    lengths = for_length.integers(shortest, longest, size=n, endpoint=True)
    places = _places(place, lengths - shapes.shape[1], shortest - shapes.shape[1], for_place)
    values = _noise(for_noise, (n, int(lengths.max()), n_channels), noise, autocorrelation)
    truth = np.zeros(values.shape, bool)
    cells = (np.arange(n)[:, None, None], places[:, None, None] + np.arange(shapes.shape[1])[:, None], channels)
    values[cells] += shapes[classes]
    truth[cells] = (shapes != 0).any(axis=1, keepdims=True)[classes]

    y = np.array(names)[classes]
    X = Sequences(values, lengths=lengths, labels=y, outputs=names)
    said = {"data": "planted", "patterns": names, "noise": float(noise), "autocorrelation": float(autocorrelation), "seed": int(seed)}
    mask = labelled.result(
        truth, (labelled.SAMPLE, labelled.TIME, labelled.CHANNEL), name="truth", samples=X.sample_axis, clock=X.clock, attrs=said
    )
    return X, y, mask.assign_coords(place=(labelled.SAMPLE, places, {"long_name": "First Step of the Pattern"}))


def _noise(rng: np.random.Generator, shape: tuple[int, int, int], noise: float, autocorrelation: float) -> np.ndarray:
    """x_t = a x_(t-1) + sqrt(1 - a^2) e_t, from x_0 = e_0 on, so that the variance is the same at every step."""
    if not _is_number(noise) or not 0 <= noise < np.inf:
        raise DataError(f"The noise is {noise!r}: expected a standard deviation, a number from 0 up.")
    if not _is_number(autocorrelation) or not -1 < autocorrelation < 1:
        raise DataError(f"The autocorrelation of the noise is {autocorrelation!r}: expected a number between -1 and 1, both left out.")
    values = rng.standard_normal(shape)
    if autocorrelation:
        values[:, 1:] *= np.sqrt(1 - autocorrelation**2)
        for step in range(1, shape[1]):
            values[:, step] += autocorrelation * values[:, step - 1]
    values *= noise
    return values


def _patterns(pattern: Any, width: int | None, n_planted: int) -> tuple[list[str], np.ndarray]:
    """The names of the classes and their patterns (class, step, channel), where `channel` are those in which it is planted."""
    if isinstance(pattern, str):
        raise DataError(f"The pattern is {pattern!r}: expected a list, one pattern for each class.")
    named = isinstance(pattern, Sequence | np.ndarray) and len(pattern) and all(isinstance(one, str) for one in pattern)
    shapes = _by_name(pattern, width) if named else _by_value(pattern, width, n_planted)
    names = [str(name) for name in (pattern if named else range(len(shapes)))]
    if len(shapes) < 2:
        raise DataError("There is one pattern: expected two or more, one for each class.")
    for later in range(1, len(shapes)):
        for earlier in range(later):
            if np.array_equal(shapes[earlier], shapes[later]):
                alike = quoted([names[earlier], names[later]])
                raise DataError(f"The classes {alike} have the same pattern: nothing would tell them apart.")
    return names, np.broadcast_to(shapes, (*shapes.shape[:2], n_planted))


def _by_name(pattern: Sequence[str], width: int | None) -> np.ndarray:
    n_steps = _whole(_WIDTH if width is None else width, _LEAST_WIDTH, "`width`, the number of steps of a pattern given by name,")
    phase = (np.arange(n_steps) + 0.5) / n_steps
    shapes = []
    for name in pattern:
        if name not in _SHAPES:
            raise DataError(f"There is no pattern {str(name)!r}: {nearest(name, _SHAPES)}.")
        centred = _SHAPES[name](phase) - _SHAPES[name](phase).mean()
        shapes.append(centred / centred.std())
    return np.stack(shapes)[..., None]


def _by_value(pattern: Any, width: int | None, n_planted: int) -> np.ndarray:
    try:
        shapes = np.asarray(pattern, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"The pattern is no array of numbers and no list of names: {error}.") from error
    if shapes.ndim not in (2, 3) or not shapes.size:
        raise DataError(f"The pattern has shape {shapes.shape}: expected (class, step) or (class, step, channel).")
    if shapes.ndim == 3 and shapes.shape[2] != n_planted:
        raise DataError(f"The pattern has shape {shapes.shape}, (class, step, channel), and `channel` names {n_planted} to plant it in.")
    if not np.isfinite(shapes).all():
        raise DataError("The pattern holds NaN or infinity: expected numbers at every step.")
    if width is not None and width != shapes.shape[1]:
        raise DataError(f"`width` is {width!r} and the pattern was given with {shapes.shape[1]} steps: leave `width` out.")
    return shapes if shapes.ndim == 3 else shapes[..., None]


def _ends(length: Any, width: int) -> tuple[int, int]:
    """The shortest and the longest length."""
    try:
        shortest, longest = (length, length) if _is_whole(length) else length
    except (TypeError, ValueError) as error:
        raise DataError(f"The length is {length!r}: expected a number of steps, or the shortest and the longest.") from error
    shortest, longest = (_whole(end, 1, "The length of a series") for end in (shortest, longest))
    if shortest > longest:
        raise DataError(f"The lengths go from {shortest} to {longest}: expected the shortest first.")
    if width > shortest:
        raise DataError(f"The pattern has {width} steps and the shortest series {shortest}: expected it to fit in every series.")
    return shortest, longest


def _channels(channel: Any, n_channels: int) -> np.ndarray:
    """The positions of the channels in which the pattern is planted."""
    chosen = np.atleast_1d(_integers(channel, "channel", "a position, or a list of them"))
    if chosen.ndim != 1 or not chosen.size:
        raise DataError(f"The channel is {channel!r}: expected a position, or a list of them.")
    for position in chosen[(chosen < 0) | (chosen >= n_channels)]:
        raise DataError(f"There is no channel {position} to plant in: the positions go from 0 to {n_channels - 1}.")
    if len(np.unique(chosen)) < len(chosen):
        raise DataError(f"The channels are {channel!r}: expected each of them once.")
    return chosen


def _places(place: Any, rooms: np.ndarray, least_room: int, rng: np.random.Generator) -> np.ndarray:
    """The first step of each pattern; the rooms are the last such steps at which it fits, in each series and in any that can be drawn."""
    if isinstance(place, str):
        if place != "random":
            raise DataError(f"There is no place {place!r}: {nearest(place, ['random'])}, or give the first step.")
        return rng.integers(0, rooms, endpoint=True)
    places = _integers(place, "place", "the first step of the pattern, one for each series, or 'random'")
    if places.ndim and places.shape != rooms.shape:
        raise DataError(f"The places have shape {places.shape}: expected one step, or one for each of the {len(rooms)} series.")
    for sample in np.flatnonzero((places < 0) | (places > least_room))[:1]:
        whose = f" of sample {sample}" if places.ndim else ""
        raise DataError(
            f"The place{whose} is {places.flat[sample]}, outside: the pattern fits in the shortest series from step 0 to {least_room}."
        )
    return np.array(np.broadcast_to(places, rooms.shape))


def _integers(value: Any, what: str, expected: str) -> np.ndarray:
    """Whole numbers as an array; anything else is refused."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "iu":
        raise DataError(f"The {what} is {value!r}: expected {expected}.")
    return array.astype(np.int64)


def _whole(value: Any, least: int, what: str) -> int:
    if not _is_whole(value) or value < least:
        raise DataError(f"{what} is {value!r}: expected a whole number, {least} or more.")
    return int(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float | np.floating)
