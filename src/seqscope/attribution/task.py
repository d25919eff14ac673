"""What is the same for all groups of sequences of one call."""

from __future__ import annotations

from dataclasses import dataclass

from seqscope.attribution.asked import Asked
from seqscope.attribution.baselines import Baselines
from seqscope.attribution.place import MAPS, Place
from seqscope.attribution.scoring import Scoring
from seqscope.feed import Feed
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen


@dataclass(frozen=True)
class Task:
    """A call, read.

    Attributes
    ----------
    specimen : Specimen
    feed : Feed
    sequences : Sequences
    asked : Asked
    place : Place
        Where derivatives are taken.
    scoring : Scoring
        Which scores are explained.
    baselines : Baselines
        What the method compares with, or fills in.
    most_rows : int
        Rows in a batch.
    """

    specimen: Specimen
    feed: Feed
    sequences: Sequences
    asked: Asked
    place: Place
    scoring: Scoring
    baselines: Baselines
    most_rows: int

    @property
    def is_map(self) -> bool:
        """Whether the result is a map along time: a class activation map, or what a head says of itself."""
        return self.asked.method.place in MAPS
