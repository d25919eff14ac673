"""Units that do the same.

Correlations of all pairs cost more than everything else, and hardly any pair is alike. So products are summed over a part of the steps,
which rules out nearly all units: two with |r| >= t over all N steps have standard scores whose squared differences sum up to at most
2 N (1 - t), so to no more over a part. Those that are left are correlated over all steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from seqscope.labelled import UNIT, Part
from seqscope.units.blocks import Taken
from seqscope.units.moments import Moments, over_blocks

if TYPE_CHECKING:
    import distributed

# The part: every so many pieces.
EVERY = 8


def duplicates(taken: Taken, found: Moments, threshold: float, workers: distributed.Client | None = None) -> dict[str, Part]:
    """For each unit the first one before it that does the same, or the opposite.

    Parameters
    ----------
    found : Moments
        Of all blocks, with products over every `EVERY` pieces.
    threshold : float
        The size of a correlation from which two units are alike.
    workers : distributed.Client, optional
        Who reads the units that are left once more.
    """
    r = np.zeros((taken.n_units, taken.n_units))
    may = _may_be_alike(found, threshold)
    if may.any() and found.co_n < found.complete:
        some = replace(taken, array=taken.array.isel({UNIT: np.flatnonzero(may)}))
        found = over_blocks(some, 1.0, products=1, workers=workers)
        r[np.ix_(may, may)] = _correlations(found)
    elif may.any():
        r = _correlations(found)
    alike = np.tril(np.abs(r) >= threshold, -1)
    first, has = alike.argmax(axis=1), alike.any(axis=1)
    labels = np.array(taken.unit_labels)
    none = "" if labels.dtype.kind == "U" else -1
    return {
        "duplicate_of": ((UNIT,), np.where(has, labels[first], none), "Does the same as unit"),
        "duplicate_correlation": ((UNIT,), np.where(has, r[np.arange(len(r)), first], np.nan), "Correlation with that unit"),
    }


def _may_be_alike(found: Moments, threshold: float) -> np.ndarray:
    """The units that may have a like, (unit); those that never move have none."""
    moves = found.high > found.low
    if found.co is None or found.co_n == found.complete or (found.n != found.complete).any():
        return moves
    size = np.where(moves, np.sqrt(found.m2 / found.n), np.inf)
    away = found.co_mean - found.mean
    scores = (found.co + found.co_n * np.outer(away, away)) / np.outer(size, size)
    own = np.diag(scores)
    apart = own[:, None] + own - 2 * np.abs(scores)
    near = apart <= 2 * found.complete * (1 - threshold) + 1e-3 * found.co_n  # and what float32 sums may be off by
    near &= ~np.eye(len(near), dtype=bool) & moves & moves[:, None]
    return np.asarray(near.any(axis=1))


def _correlations(found: Moments) -> np.ndarray:
    """Pearson's r of all pairs over the complete steps; 0 where one of the two never moves there, or there are too few."""
    if found.co is None or found.co_n < 3:
        return np.zeros((len(found.n), len(found.n)))
    squares = np.diag(found.co)
    moves = (found.high > found.low) & (squares > 1e-6 * found.m2)
    size = np.sqrt(np.where(moves, squares, np.inf))
    return np.asarray(found.co / np.outer(size, size))
