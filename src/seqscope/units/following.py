"""Which input channel a unit follows, and how many steps behind: Pearson correlations at several lags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from seqscope.errors import DataError
from seqscope.flat import Flat
from seqscope.labelled import UNIT, Part
from seqscope.sequences import Sequences
from seqscope.units.blocks import Taken, inputs_of, pieces
from seqscope.units.places import placing

# A lag counts where it pairs up at least this share of the steps: at the longest lags a few pairs correlate by chance.
_ENOUGH = 0.1


def lags_asked(wanted: Any, *, looks_back: bool) -> np.ndarray:
    """The lags that are meant, the shortest first, so that it wins a tie.

    Parameters
    ----------
    looks_back : bool
        Whether the layer sees only what was, so that a number means no lags below 0.

    Raises
    ------
    DataError
        They are no whole numbers.
    """
    if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool) and wanted >= 0:
        wanted = range(0 if looks_back else -int(wanted), int(wanted) + 1)
    lags = np.array(list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [])
    if not lags.size or lags.ndim != 1 or lags.dtype.kind not in "iu":
        raise DataError(f"lags is {wanted!r}: expected whole numbers of steps, or one for that many.")
    return np.array(sorted(set(lags.tolist()), key=lambda lag: (abs(lag), -lag)))


class Following:
    """What a unit follows: reads blocks together with the input that they come from.

    Parameters
    ----------
    X, lags
        As in `units.summary`.
    """

    def __init__(self, taken: Taken, X: Any, lags: Any) -> None:
        self.inputs, self.lags = inputs_of(taken, X), lags_asked(lags, looks_back=taken.looks_back)
        self.place = placing(taken, self.inputs)
        self.channel_shift = self.inputs.to_flat().part(0).mean(axis=0, dtype=np.float64)
        self.pairs: Pairs | None = None

    def beside(self, rows: slice, *, is_sent: bool) -> tuple[Sequences, np.ndarray]:
        """The input of these samples, and the places in it that each step stands for."""
        part = self.inputs[rows]
        return part.loaded() if is_sent else part, self.place(rows).centre

    @property
    def read(self) -> Callable[[np.ndarray, Any], Pairs]:
        """The sums over a block."""
        return partial(_pairs_of, lags=self.lags, channel_shift=self.channel_shift)

    def take(self, rows: slice, seen: Pairs) -> None:
        """Take in the sums over a block."""
        self.pairs = seen if self.pairs is None else self.pairs.merged(seen)

    def parts(self) -> dict[str, Part]:
        """For each unit the correlation that is farthest from 0, its channel and its lag."""
        if self.pairs is None:
            return {}
        found = self.pairs.correlations()
        flat = found.reshape(-1, found.shape[-1])
        best = np.nanargmax(np.nan_to_num(np.abs(flat), nan=-1.0), axis=0)
        r = flat[best, np.arange(flat.shape[1])]
        lag, channel = np.unravel_index(best, found.shape[:2])
        none = np.isnan(r)
        return {
            "correlation": ((UNIT,), r, "Strongest correlation with a channel"),
            "channel": ((UNIT,), _named(channel, none, self.inputs), "Channel"),
            "lag": ((UNIT,), np.where(none, np.nan, self.lags[lag]), "Lag"),
        }


@dataclass
class Pairs:
    """Sums over the pairs of an input step and a layer's step, for every lag, channel and unit.

    Attributes
    ----------
    shift : array (unit,)
        A value near each unit's mean, from which it is counted.
    n : array (lag, 1, unit)
        The pairs.
    x, xx, a, aa, xa : arrays (lag, channel, unit)
        Sums of the channel, of the unit, of their squares and of their products.
    """

    shift: np.ndarray
    n: np.ndarray
    x: np.ndarray
    xx: np.ndarray
    a: np.ndarray
    aa: np.ndarray
    xa: np.ndarray

    @classmethod
    def none(cls, shift: np.ndarray, n_lags: int, n_channels: int) -> Pairs:
        """No pairs yet."""
        return cls(shift, np.zeros((n_lags, 1, len(shift))), *(np.zeros((n_lags, n_channels, len(shift))) for _ in range(5)))

    def merged(self, other: Pairs) -> Pairs:
        """The sums over both, with the units of the other counted from the shift of this."""
        apart = other.shift - self.shift
        return Pairs(
            self.shift,
            self.n + other.n,
            self.x + other.x,
            self.xx + other.xx,
            self.a + other.a + other.n * apart,
            self.aa + other.aa + 2 * apart * other.a + other.n * apart**2,
            self.xa + other.xa + other.x * apart,
        )

    def add(self, at: int, x: np.ndarray, inside: np.ndarray, a: np.ndarray, squares: np.ndarray, there: np.ndarray | None) -> None:
        """Take in the pairs at one lag; `there` says where units have values, None: all have, or none."""
        self.a[at] += inside @ a
        self.aa[at] += inside @ squares
        self.xa[at] += x.T @ a
        if there is None:
            self.n[at] += inside.sum()
            self.x[at] += x.sum(axis=0)[:, None]
            self.xx[at] += np.einsum("ij,ij->j", x, x)[:, None]
        else:
            self.n[at] += inside @ there
            self.x[at] += x.T @ there
            self.xx[at] += (x**2).T @ there

    def correlations(self) -> np.ndarray:
        """Pearson's r, (lag, channel, unit); NaN where one of the two never moves, or too few steps pair up."""
        n = np.maximum(self.n, 1)
        of_x, of_a = self.xx - self.x**2 / n, self.aa - self.a**2 / n
        moves = (of_x > 1e-12 * self.xx) & (of_a > 1e-12 * self.aa) & (self.n >= np.maximum(3, _ENOUGH * self.n.max(axis=0)))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (self.xa - self.x * self.a / n) / np.sqrt(of_x * of_a)
        return np.where(moves, np.clip(found, -1, 1), np.nan)


def _pairs_of(block: np.ndarray, beside: tuple[Sequences, np.ndarray], *, lags: np.ndarray, channel_shift: np.ndarray) -> Pairs:
    """The sums over a block (sample, time, unit), with its input and the input step of each of its steps."""
    flat, centres = beside[0].to_flat(), np.broadcast_to(beside[1], block.shape[:2])
    found = Pairs.none(_shift_of(block), len(lags), len(channel_shift))
    for part in pieces(block):
        values = block[part].reshape(-1, block.shape[-1])
        there = ~np.isnan(values)
        some = there.any(axis=1)
        moved = np.where(there, values - found.shift, 0)
        squares = moved**2
        holed = None if there[some].all() else there.astype(np.float64)
        for at, lag in enumerate(lags):
            x, inside = _channels(flat, part, centres[part] - lag, channel_shift)
            x[~some] = 0
            found.add(at, x, (inside & some).astype(np.float64), moved, squares, holed)
    return found


def _shift_of(block: np.ndarray) -> np.ndarray:
    """The mean of each unit over some of the steps."""
    here = block.reshape(-1, block.shape[-1])[:: max(1, block[..., 0].size // 256)]
    there = ~np.isnan(here)
    return np.asarray(np.where(there, here, 0).sum(axis=0, dtype=np.float64) / np.maximum(there.sum(axis=0), 1))


def _channels(flat: Flat, part: slice, at: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The input at some places, (step, channel), and whether there are such; 0 where there are not."""
    inside = (at >= 0) & (at < flat.lengths[part, None])
    places = np.where(inside, at, 0) + flat.starts[part, None]  # each row in its own sample, which may lie in a file
    found = flat.steps[places].reshape(places.size, -1) - shift
    return np.where(inside.reshape(-1, 1), found, 0), inside.reshape(-1)


def _named(positions: np.ndarray, none: np.ndarray, inputs: Sequences) -> np.ndarray:
    """Channels by name; "" (-1 where they are numbers) for a unit that has none."""
    names = list(inputs.channels or ())
    if all(isinstance(name, int | np.integer) for name in names):
        return np.where(none, -1, np.array(names)[positions])
    return np.where(none, "", np.array([str(name) for name in names])[positions])
