"""Work on activations block by block: here, or by the workers of a cluster, who read the blocks themselves.

Both ways run the same function on the same blocks and put what it gives together in the same order, so their results are the same bits.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import xarray as xr

from seqscope.clients import client_of
from seqscope.errors import SeqscopeError, UnsupportedError
from seqscope.labelled import SAMPLE
from seqscope.units.blocks import Taken, as_floats

if TYPE_CHECKING:
    import distributed

Result = TypeVar("Result")

# Blocks that are with the cluster at a time, for each of its threads: one that is worked on, and one that waits.
_AHEAD = 2


class Reader(Protocol):
    """What takes in blocks besides the moments, in the same pass."""

    def beside(self, rows: slice, *, is_sent: bool) -> Any:
        """What `read` needs to know of these samples; in memory where it is sent to a worker."""

    @property
    def read(self) -> Callable[[np.ndarray, Any], Any]:
        """A function of a block (sample, time, unit) and what is beside it, which can be pickled, and gives something small."""

    def take(self, rows: slice, seen: Any) -> None:
        """Take in what was read of these samples, block after block."""


def workers_of(client: Any) -> AbstractContextManager[distributed.Client | None]:
    """The cluster to work on, from what was given for `client=`; None: here."""
    return nullcontext() if client is None else client_of(client)


def each_block(
    taken: Taken,
    function: Callable[..., Result],
    workers: distributed.Client | None = None,
    *,
    beside: Callable[[slice], Any] | None = None,
) -> Iterator[Result]:
    """What a function makes of each block, in the order of the samples, with one block in memory at a time.

    Parameters
    ----------
    function : function of (rows, block)
        Of the samples' places, a slice, and their values (sample, time, unit). Gives something small. It can be pickled.
    workers : distributed.Client, optional
        They read and work on the blocks of an array that is not in memory; what is in memory is worked on here, for to send it costs more.
    beside : function of rows, optional
        What else the function is to know of these samples, its third argument; it goes to the worker with them.

    Raises
    ------
    UnsupportedError
        The workers see other data than this process, fail, or went away.
    """
    if workers is not None and taken.is_stored:
        yield from _on_workers(taken, function, workers, beside)
        return
    for rows in taken.rows():  # no name is held on to a block while the next is read
        yield function(rows, taken.block(rows), *(() if beside is None else (beside(rows),)))


def _on_workers(taken: Taken, function: Callable[..., Any], workers: Any, beside: Callable[[slice], Any] | None) -> Iterator[Any]:
    values, waiting = taken.array.variable, deque[tuple[slice, Any]]()
    rows = slice(0, taken.n_samples)
    try:
        _check_sees(values, workers)
        most = _AHEAD * max(1, sum(workers.nthreads().values()))
        for part in taken.rows():
            here = values.isel({SAMPLE: part})
            given = [here if here.chunks is None else workers.compute(here)]  # of an array of dask the tasks, as they are
            given += [] if beside is None else workers.scatter([beside(part)], hash=False)
            waiting.append((part, workers.submit(_work, function, part, *given, pure=False)))
            if len(waiting) == most:
                rows, future = waiting.popleft()
                yield future.result()
        while waiting:
            rows, future = waiting.popleft()
            yield future.result()
    except SeqscopeError:
        raise
    except Exception as error:  # whatever a worker, the network or the store may raise
        raise _failed(error, rows, workers) from error
    finally:
        if waiting and workers.status == "running":
            workers.cancel([future for _, future in waiting])


def _work(function: Callable[..., Any], rows: slice, values: xr.Variable, *beside: Any) -> Any:
    """One block, on a worker."""
    return function(rows, as_floats(values.values), *beside)


def _check_sees(values: xr.Variable, workers: Any) -> None:
    """Refuse workers that do not see the store: a chunk that they do not find would read as one without any value."""
    if values.chunks is not None:
        return
    first = {SAMPLE: slice(0, 1)}
    expected = _digest(values.isel(first))  # each its own: what was read once is kept, and would be sent
    others = [name for name, seen in workers.run(_digest, values.isel(first)).items() if seen != expected]
    if others:
        raise UnsupportedError(
            f"The worker {others[0]} sees other values in the array than this process: give it the same files, or put the store at an "
            "address that all can read."
        )


def _digest(values: xr.Variable) -> int:
    return zlib.crc32(np.ascontiguousarray(values.values).data)


def _failed(error: Exception, rows: slice, workers: Any) -> UnsupportedError:
    from distributed import KilledWorker
    from distributed.client import ClosedClientError, FutureCancelledError

    said = f"{type(error).__name__}: {error}".rstrip(".")
    if workers.status != "running" or isinstance(error, ClosedClientError | FutureCancelledError | OSError):
        return UnsupportedError(f"The cluster went away before all was read ({said}): connect again, or leave client= out.")
    if isinstance(error, KilledWorker):
        return UnsupportedError(
            f"Workers died again and again over the samples {rows.start} to {rows.stop - 1}: give them more memory ({said})."
        )
    return UnsupportedError(
        f"A worker failed on the samples {rows.start} to {rows.stop - 1} ({said}): the workers need the packages that are here, and the "
        "same files or addresses."
    )
