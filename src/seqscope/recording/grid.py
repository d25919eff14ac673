"""How the arrays of a store are cut: which samples are one unit of work, and what is read at once.

A shard is one file (or object): a range of samples with all their steps and units. It is written whole, by one worker, so its size is a
matter of memory and of how many files there are. A chunk is what is compressed and read at once, inside a shard. Two questions are asked
of a store, all units of one sequence and one unit of all sequences, and a chunk of a few units and many sequences serves both: the first
reads one chunk for every `CHUNK_UNITS` units, the second that share of the array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqscope.labelled import OUTPUT_TIME, PROJECTION, STEP, TIME, UNIT

# The values of one unit of work, over all its arrays: a few of them are in memory at a time.
SHARD_BYTES = 128_000_000
MOST_SAMPLES = 8_192
# What is compressed and read at once: large enough that a request is worth it, small enough that little is read in vain.
CHUNK_BYTES = 1_000_000
CHUNK_UNITS = 16
CHUNK_STEPS = 256


def samples_per_shard(bytes_per_sample: float, n_samples: int) -> int:
    """How many samples make a shard: a power of two, so that chunks fit into it.

    Parameters
    ----------
    bytes_per_sample : float
        Of all arrays together, for the longest sequence.

    Examples
    --------
    >>> samples_per_shard(100_000, 20_000), samples_per_shard(1_000, 370), samples_per_shard(1e9, 20_000)
    (1024, 512, 1)
    """
    most = min(SHARD_BYTES / max(bytes_per_sample, 1), MOST_SAMPLES)
    rows = 1 << max(0, int(math.log2(max(most, 1))))
    return min(rows, 1 << (n_samples - 1).bit_length())


def cut(dims: Sequence[str], sizes: Sequence[int], itemsize: int, n_samples: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The chunks and the shards of an array.

    Parameters
    ----------
    dims, sizes : sequences
        Of the axes behind the sample's.
    n_samples : int
        Samples in a shard.

    Returns
    -------
    chunk, shard : tuples of int
        The sample first. A shard holds whole chunks, so it may be larger than the array.

    Examples
    --------
    >>> cut(("time", "unit"), (200, 128), 4, 1024)
    ((64, 200, 16), (1024, 200, 128))
    >>> cut(("time", "unit"), (1000, 100), 4, 128)
    ((64, 256, 15), (128, 1024, 105))
    """
    inner = [_extent(dim, size) for dim, size in zip(dims, sizes, strict=True)]
    rows = 1 << max(0, int(math.log2(max(1, CHUNK_BYTES / (itemsize * max(1, math.prod(inner)))))))
    whole = [extent * -(-max(size, 1) // extent) for extent, size in zip(inner, sizes, strict=True)]
    return (min(rows, n_samples), *inner), (n_samples, *whole)


def _extent(dim: str, size: int) -> int:
    """How much of an axis a chunk holds."""
    most = {TIME: CHUNK_STEPS, STEP: CHUNK_STEPS, OUTPUT_TIME: CHUNK_STEPS, UNIT: CHUNK_UNITS, PROJECTION: CHUNK_UNITS}.get(dim, size)
    if dim in (UNIT, PROJECTION):  # groups of equal size
        most = -(-size // max(1, -(-size // most)))
    return max(1, min(most, size))
