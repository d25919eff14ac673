"""Dask clients, as people give them: a client, the address of a scheduler, or how many workers to start here."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from seqscope.engines.shipping import THREAD_VARIABLES
from seqscope.errors import DataError, UnsupportedError, require

if TYPE_CHECKING:
    import distributed

# Seconds until a scheduler has answered.
_PATIENCE = 10.0

# What makes the libraries under the frameworks compute on one thread, where it is there before they are imported.
_ONE_THREAD = dict.fromkeys(THREAD_VARIABLES, "1")
# Dask has its workers give memory back to the system the moment it is free (MALLOC_TRIM_THRESHOLD_), and each batch then pays for its pages
# anew: two fifths on top of a forward pass. Here the C library keeps arrays of up to 32 MB, the most that it takes, and 256 MB in all.
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 28)}


@contextmanager
def client_of(given: Any) -> Iterator[distributed.Client]:
    """A client from what was given for `client=`, closed after where it was made here.

    Parameters
    ----------
    given : distributed.Client, str or int
        A client, which is left open; the address of a scheduler, such as "tcp://10.0.0.4:8786"; or a number of worker processes to start
        on this machine, each with one thread.

    Raises
    ------
    DataError
        It is none of these.
    UnsupportedError
        The client was closed, no scheduler answers at the address, or the workers can't be started.
    MissingPackageError
        Dask's distributed is not installed.
    """
    distributed = require("distributed", extra="record", purpose="Working on a cluster (client=)")
    if isinstance(given, distributed.Client):
        _check_open(given)
        yield given
        return
    with ExitStack() as made:
        if isinstance(given, str):
            _check_answers(distributed, given)
            yield made.enter_context(distributed.Client(given, timeout=_PATIENCE, set_as_default=False))
        elif isinstance(given, int | np.integer) and not isinstance(given, bool) and given >= 1:
            cluster = made.enter_context(_started(distributed, int(given)))
            yield made.enter_context(distributed.Client(cluster, set_as_default=False))
        else:
            raise DataError(
                f"client is {given!r}: expected a distributed.Client, a scheduler's address such as 'tcp://10.0.0.4:8786', or a number "
                "of workers to start on this machine, 1 or more."
            )


def _check_open(client: Any) -> None:
    if client.asynchronous:
        raise DataError("The client is asynchronous, and its answers are waited for here: give one made without asynchronous=True.")
    if client.status != "running":
        raise UnsupportedError(f"The client is {client.status}: connect again, and give the new one.")


def _check_answers(distributed: Any, address: str) -> None:
    """Refuse an address where nothing answers, before a client is made: one that never connected is long in going away.

    Raises
    ------
    DataError
        It is no address.
    UnsupportedError
        No scheduler answers there.
    """

    async def reach() -> None:
        comm = await distributed.comm.connect(address, timeout=_PATIENCE, **distributed.Security().get_connection_args("client"))
        await comm.close()

    try:
        with ThreadPoolExecutor(1, "seqscope-client") as elsewhere:  # a notebook runs an event loop of its own in this thread
            elsewhere.submit(lambda: asyncio.run(reach())).result()
    except ValueError as error:
        raise DataError(
            f"client is {address!r}, no address of a scheduler ({error}): expected one such as 'tcp://10.0.0.4:8786'."
        ) from error
    except Exception as error:  # whatever else may listen there, and answer
        raise UnsupportedError(
            f"No scheduler answers at {address!r} ({error}): start one there, or give the address of one that runs."
        ) from error


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes that are started here take no notice of Ctrl-C, which a terminal sends to them too: this one ends them."""
    if threading.current_thread() is not threading.main_thread():  # signals are for the main thread to set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _started(distributed: Any, n_workers: int) -> Any:
    """Worker processes on this machine, each of which computes on one thread and keeps some memory that is free.

    Raises
    ------
    UnsupportedError
        They do not start.
    """
    import dask

    environ = "distributed.nanny.pre-spawn-environ"
    try:
        with dask.config.set({environ: dask.config.get(environ) | _ONE_THREAD | _KEPT_MEMORY}), _deaf_children():
            quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # any port: at the usual one another cluster may be
            return distributed.LocalCluster(n_workers=n_workers, threads_per_worker=1, processes=True, scheduler_kwargs=quiet)
    except (OSError, RuntimeError, TimeoutError) as error:
        raise UnsupportedError(
            f"{n_workers} workers could not be started on this machine ({type(error).__name__}: {error}): in a script, such a call stands "
            "under if __name__ == '__main__', since each worker imports the script."
        ) from error
