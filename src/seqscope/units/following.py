"""Which input channel a unit follows, and how many steps behind: Pearson correlations at several lags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from seqscope.errors import DataError
from seqscope.labelled import UNIT, Part
from seqscope.sequences import Sequences
from seqscope.units.blocks import Taken, pieces
from seqscope.units.places import Places

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
    """Sums over the pairs of an input step and a layer's step, for every lag, channel and unit.

    Parameters
    ----------
    lags : int array (lag,)
        Input steps by which a unit comes after the channel.
    shift : array (unit,)
        A value near each unit's mean, from which it is counted.
    """

    def __init__(self, taken: Taken, inputs: Sequences, place: Callable[[slice], Places], lags: np.ndarray, shift: np.ndarray) -> None:
        self.inputs, self.place, self.lags, self.shift = inputs, place, lags, shift
        flat = inputs.to_flat()
        self.steps, self.starts, self.lengths = flat.steps, flat.starts, flat.lengths
        self.channel_shift = flat.part(0).mean(axis=0, dtype=np.float64)
        n_lags, n_channels = len(lags), self.steps.shape[1]
        self.n = np.zeros((n_lags, 1, taken.n_units))
        self.x, self.xx, self.a, self.aa, self.xa = (np.zeros((n_lags, n_channels, taken.n_units)) for _ in range(5))

    def add(self, rows: slice, block: np.ndarray) -> None:
        """Take in a block (sample, time, unit)."""
        for part in pieces(block):
            here = slice(rows.start + part.start, min(rows.start + part.stop, rows.stop))
            values = block[part].reshape(-1, block.shape[-1])
            there = ~np.isnan(values)
            some = there.any(axis=1)
            moved = np.where(there, values - self.shift, 0)
            squares = moved**2
            pairs = None if there[some].all() else there.astype(np.float64)
            centre = self.place(here).centre
            for at, lag in enumerate(self.lags):
                x, inside = self._channels(here, centre - lag)
                x[~some] = 0
                self._add_pairs(at, x, (inside & some).astype(np.float64), moved, squares, pairs)

    def _channels(self, rows: slice, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The input at some places, (step, channel), and whether there are such; 0 where there are not."""
        inside = (at >= 0) & (at < self.lengths[rows, None])
        places = np.where(inside, at, 0) + self.starts[rows, None]  # each row in its own sample, which may lie in a file
        found = self.steps[places].reshape(places.size, -1) - self.channel_shift
        return np.where(inside.reshape(-1, 1), found, 0), inside.reshape(-1)

    def _add_pairs(self, at: int, x: np.ndarray, inside: np.ndarray, a: np.ndarray, squares: np.ndarray, pairs: np.ndarray | None) -> None:
        """Take in the pairs at one lag; `pairs` says where units have values, None: all have, or none."""
        self.a[at] += inside @ a
        self.aa[at] += inside @ squares
        self.xa[at] += x.T @ a
        if pairs is None:
            self.n[at] += inside.sum()
            self.x[at] += x.sum(axis=0)[:, None]
            self.xx[at] += np.einsum("ij,ij->j", x, x)[:, None]
        else:
            self.n[at] += inside @ pairs
            self.x[at] += x.T @ pairs
            self.xx[at] += (x**2).T @ pairs

    def correlations(self) -> np.ndarray:
        """Pearson's r, (lag, channel, unit); NaN where one of the two never moves, or too few steps pair up."""
        n = np.maximum(self.n, 1)
        of_x, of_a = self.xx - self.x**2 / n, self.aa - self.a**2 / n
        moves = (of_x > 1e-12 * self.xx) & (of_a > 1e-12 * self.aa) & (self.n >= np.maximum(3, _ENOUGH * self.n.max(axis=0)))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (self.xa - self.x * self.a / n) / np.sqrt(of_x * of_a)
        return np.where(moves, np.clip(found, -1, 1), np.nan)

    def strongest(self) -> dict[str, Part]:
        """For each unit the correlation that is farthest from 0, its channel and its lag."""
        found = self.correlations()
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


def _named(positions: np.ndarray, none: np.ndarray, inputs: Sequences) -> np.ndarray:
    """Channels by name; "" (-1 where they are numbers) for a unit that has none."""
    names = list(inputs.channels or ())
    if all(isinstance(name, int | np.integer) for name in names):
        return np.where(none, -1, np.array(names)[positions])
    return np.where(none, "", np.array([str(name) for name in names])[positions])
