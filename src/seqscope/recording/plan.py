"""What is recorded: everything that a unit of work needs to know, as data that can go to another process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from seqscope.axes import Reading
from seqscope.engines.base import Engine
from seqscope.engines.holds import Hold
from seqscope.feed import Feed
from seqscope.recording import grid

# Where things stand in a store.
INPUTS, PREDICTIONS, ACTIVATIONS, STATES, STATISTICS, FAILED = "inputs", "predictions", "activations", "states", "statistics", "failed"
PREDICTION = "prediction"  # what the output is called there, since `output` is a dim


@dataclass(frozen=True)
class Kept:
    """One array of a store.

    Attributes
    ----------
    group, name : str
        Where it stands: "states/lstm" and "c".
    dims : tuple of str
        `sample` first.
    sizes : tuple of int
        Of the axes behind the sample's, for the longest sequence.
    dtype : str
        What is written.
    source : str
        The value, or the layer, that it comes from.
    edges : array or None
        The bins of its histogram; None: it has no statistics.
    """

    group: str
    name: str
    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    dtype: str
    source: str = ""
    edges: np.ndarray | None = field(default=None, compare=False)

    @property
    def path(self) -> str:
        """Where it stands in the store."""
        return f"{self.group}/{self.name}"

    @property
    def bytes_per_sample(self) -> int:
        """Of the longest sequence, before compression."""
        return math.prod(self.sizes) * np.dtype(self.dtype).itemsize

    @property
    def fill(self) -> float | int:
        """What stands where nothing was written: behind the end of a sequence."""
        kind = np.dtype(self.dtype).kind
        return np.nan if kind == "f" else -1 if kind == "i" and self.group == INPUTS else 0


@dataclass(frozen=True)
class Plan:
    """What is recorded, of which samples, and how the model is run for it.

    Attributes
    ----------
    arrays : tuple of Kept
        What is written for each unit of work, the inputs aside.
    inputs : Kept or None
        The inputs, where they are written too.
    readings : dict of Reading
        The values to keep, by address, and what their axes are.
    capture : tuple of str
        The layers that hold them.
    n_samples, per_shard, batch_size : int
        Sequences: all, in a unit of work, and run together at most.
    keep_bits : int or None
        The bits of a mantissa that are written.
    skips : bool
        Whether a sequence that the model fails on is set aside.
    layout, width, held, bears_padding
        As of `Feed`.
    outputs : tuple or None
        The names of the outputs.
    """

    arrays: tuple[Kept, ...]
    inputs: Kept | None
    readings: Mapping[str, Reading]
    capture: tuple[str, ...]
    n_samples: int
    per_shard: int
    batch_size: int
    keep_bits: int | None
    skips: bool
    layout: str
    width: int | None
    held: Mapping[str, Hold]
    bears_padding: Mapping[tuple[str, ...], bool]
    outputs: tuple[object, ...] | None

    @property
    def n_shards(self) -> int:
        """The units of work."""
        return -(-self.n_samples // self.per_shard)

    @property
    def written(self) -> tuple[Kept, ...]:
        """All that is written."""
        return self.arrays if self.inputs is None else (self.inputs, *self.arrays)

    def rows(self, number: int) -> slice:
        """The samples of a unit of work."""
        return slice(number * self.per_shard, min((number + 1) * self.per_shard, self.n_samples))

    def feed(self, engine: Engine) -> Feed:
        """The model, ready to be fed as it was when the plan was made."""
        return Feed(engine, self.layout, self.width, bears_padding=dict(self.bears_padding), held=self.held)

    def cut(self, kept: Kept) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The chunks and the shards of an array."""
        return grid.cut(kept.dims[1:], kept.sizes, np.dtype(kept.dtype).itemsize, self.per_shard)
