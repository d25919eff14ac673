"""The best places of a data set, kept while it is read block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Best:
    """The `k` places with the highest scores, of which no two of one sample are too near.

    Taken one after the other, the highest first; of equal ones the first in the data. Samples lie in one block each, so the best of every
    block hold the best of all.

    Attributes
    ----------
    places : list of (score, sample, step)
        The highest first.
    """

    k: int
    places: list[tuple[float, int, int]] = field(default_factory=list)

    def add(self, start: int, scores: np.ndarray, near: Callable[[int, int], np.ndarray]) -> None:
        """Take in a block.

        Parameters
        ----------
        start : int
            The place of its first sample.
        scores : array (sample, step)
            -inf where there is nothing to take. Overwritten.
        near : function of (sample of the block, step)
            Which steps of that sample are too near to be taken beside this one, (step).
        """
        tops = scores.max(axis=1)
        for _ in range(self.k):
            sample = int(tops.argmax())
            step = int(scores[sample].argmax())
            score = float(scores[sample, step])
            if score == -np.inf or (len(self.places) >= self.k and score <= self.places[self.k - 1][0]):
                break
            self.places.append((score, start + sample, step))
            scores[sample, near(sample, step)] = -np.inf
            tops[sample] = scores[sample].max()
        self.places = sorted(self.places, key=lambda place: (-place[0], place[1], place[2]))[: self.k]
