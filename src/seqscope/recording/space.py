"""Whether there is room for a recording, estimated before it begins."""

from __future__ import annotations

import numpy as np
from numcodecs import Blosc
from zarr.abc.store import Store

from seqscope import ram
from seqscope.collect import collect
from seqscope.errors import TooLargeError
from seqscope.feed import Feed
from seqscope.recording import stores
from seqscope.recording.plan import Kept, Plan
from seqscope.recording.rounding import as_written
from seqscope.recording.shards import dense, values_of
from seqscope.sequences import Sequences

_N_TRIED = 8


def check_space(store: Store, name: str, feed: Feed, sequences: Sequences, plan: Plan) -> None:
    """Refuse to begin what would not fit.

    Raises
    ------
    TooLargeError
        The store would take more than is free, judged by a few sequences and how far they are compressed.
    """
    free = stores.free_space(store)
    if free is None:
        return
    needed = estimate(feed, sequences, plan)
    if needed > free:
        raise TooLargeError(
            f"'{name}' would take about {ram.in_words(needed)}, and {ram.in_words(free)} are free there: name another place, record fewer "
            "layers or states, or say dtype='float16' or keep_bits=."
        )


def estimate(feed: Feed, sequences: Sequences, plan: Plan) -> float:
    """Bytes that a recording will take, from sequences of all lengths."""
    by_length = np.argsort(sequences.lengths, kind="stable")
    some = sequences[np.sort(by_length[np.unique(np.linspace(0, len(sequences) - 1, _N_TRIED).astype(int))])]
    try:
        values = values_of(collect(feed, some, plan.readings, plan.capture, batch_size=plan.batch_size, show_progress=False), plan)
    except Exception:  # a sample that fails is told when its turn comes
        return 0.0
    size = sum(_compressed(as_written(values[kept.path], kept, plan)[0], kept) for kept in plan.arrays)
    size += 0 if plan.inputs is None else _compressed(dense(some, plan.inputs), plan.inputs)
    return size / int(some.lengths.sum()) * int(sequences.lengths.sum())


def _compressed(values: np.ndarray, kept: Kept) -> int:
    codec = Blosc(cname="lz4", shuffle=Blosc.BITSHUFFLE)
    return len(codec.encode(np.ascontiguousarray(values, kept.dtype)))
