"""What real series are like: their ranges, and how far a made one lies from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqscope.maximization.ascent import Range
from seqscope.sequences import Sequences

# Real series that made ones are compared with, and their values together, at most: of more, some are drawn.
_MOST, _MOST_VALUES = 2000, 40_000_000


def range_of(sequences: Sequences) -> Range:
    """Mean, standard deviation and extremes of each channel, over all steps."""
    steps = sequences.all_steps()
    spread = steps.std(0, dtype=np.float64)
    return Range(steps.mean(0, dtype=np.float64), np.where(spread > 0, spread, 1.0), steps.min(0), steps.max(0))


@dataclass(frozen=True)
class Likeness:
    """Real series, all brought to one length, and how far apart they lie.

    Attributes
    ----------
    series : array (sample, time, channel)
        Standardised.
    rows : int array (sample,)
        Their places in the data set.
    own : float
        How far a real series lies from the nearest other one: the median of those that differ. NaN where there is no other.
    """

    series: np.ndarray
    rows: np.ndarray
    own: float

    @classmethod
    def of(cls, sequences: Sequences, span: Range, n_steps: int, seed: int) -> Likeness:
        """The data set, or a sample of it, stretched to `n_steps` by interpolation in time."""
        rows = np.arange(len(sequences))
        most = min(_MOST, max(2, _MOST_VALUES // (n_steps * len(span.mean))))
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
        flat = sequences.to_flat()
        series = np.stack([_stretched(span.standardised(flat.part(row)), n_steps) for row in rows.tolist()])
        return cls(series, rows, _apart(series))

    @property
    def unit(self) -> float:
        """What distances are counted in: `own`, where there is none a standard deviation."""
        return self.own if np.isfinite(self.own) else 1.0

    def nearest(self, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far made series lie from the nearest real one, in units of `unit`, and which that is: a place in the data set.

        Parameters
        ----------
        series : array (restart, time, channel)
            Standardised.
        """
        from sklearn.neighbors import NearestNeighbors

        found = NearestNeighbors(n_neighbors=1).fit(_flat(self.series))
        distance, place = found.kneighbors(_flat(series))
        return distance[:, 0] / self.unit, self.rows[place[:, 0]]


def diversity(series: np.ndarray, unit: float) -> np.ndarray:
    """How far each series lies from the others on average, in some unit, (restart,); NaN where it is alone."""
    flat = _flat(series)
    apart = np.sqrt(((flat[:, None] - flat[None]) ** 2).sum(-1))
    return np.asarray(apart.sum(1) / (len(flat) - 1) / unit) if len(flat) > 1 else np.full(1, np.nan)


def _flat(series: np.ndarray) -> np.ndarray:
    """Rows whose Euclidean distance is the root mean square difference, in standard deviations."""
    flat = series.reshape(len(series), -1)
    return np.asarray(flat / np.sqrt(flat.shape[1]))


def _apart(series: np.ndarray) -> float:
    from sklearn.neighbors import NearestNeighbors

    if len(series) < 2:
        return float("nan")
    nearest = NearestNeighbors(n_neighbors=1).fit(_flat(series)).kneighbors()[0][:, 0]  # but itself
    different = nearest[nearest > 0]
    return float(np.median(different)) if len(different) else float("nan")


def _stretched(series: np.ndarray, n_steps: int) -> np.ndarray:
    """A series (time, channel) on another number of steps."""
    if len(series) == n_steps:
        return series
    old, new = np.linspace(0, 1, len(series)), np.linspace(0, 1, n_steps)
    return np.stack([np.interp(new, old, channel) for channel in series.T], axis=1)
