"""The work done by a Dask cluster: each worker opens the model once, reads its samples, and writes its part of the store itself.

Only entries of the ledger come back. Inputs go through the store: those of a unit of work are written into it just before it is handed
out, and the worker reads them there, wherever it is; where they are not to be written, all go to the workers once, as bytes (those in a
file as the file's name).
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import uuid
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from seqscope.engines import shipping
from seqscope.engines.base import Engine
from seqscope.errors import ModelError, SeqscopeError, UnsupportedError, require
from seqscope.recording import local, stores
from seqscope.recording.ledger import Entry
from seqscope.recording.plan import Plan
from seqscope.recording.sending import Recipe, arrived, sent
from seqscope.recording.shards import Shards
from seqscope.sequences import Sequences

# Units of work that are with the scheduler at a time, for each worker: one that runs and those that wait.
_AHEAD = 3


@dataclass(frozen=True)
class Job:
    """What a worker needs to know, once.

    Attributes
    ----------
    run : str
        The call that it belongs to, unlike any other: the same model and plan may be for another store, or other data.
    engine : bytes
        The model, packed.
    plan : bytes
        The plan, pickled.
    store : Store
    sequences : bytes or None
        The data set, pickled, where it is not in the store.
    home : tuple
        The host and the process that it comes from, whose own settings workers in that process leave alone.
    """

    run: str
    engine: bytes
    plan: bytes
    store: Store
    sequences: bytes | None
    home: tuple[str, int]


@dataclass(frozen=True)
class Task:
    """One unit of work, and what is known of its samples."""

    number: int
    lengths: np.ndarray
    samples: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True)
class Crew:
    """A cluster that is there, and the model as it gets it."""

    client: Any
    engine: bytes


@contextmanager
def hired(given: Any, store: Store, engine: Engine, recipe: Recipe | None) -> Iterator[Crew]:
    """What can do the work: asked for before anything is written, so that what stands in the way leaves no store behind.

    Parameters
    ----------
    given : distributed.Client, str or int
        See `clients.client_of`.
    recipe : Recipe or None
        How the model was opened.

    Raises
    ------
    ModelError
        The model can't be sent.
    UnsupportedError
        The store is in this process' memory, or there is no cluster.
    """
    from seqscope.clients import client_of

    require("distributed", extra="record", purpose="Recording on a cluster")
    if not stores.is_shared(store):
        raise UnsupportedError(
            "This store is in the memory of one process, so workers can't write to it: give a folder, or an address such as s3://bucket/x."
        )
    packed = sent(engine, recipe)
    with client_of(given) as client:
        yield Crew(client, packed)


def run_on(
    crew: Crew, store: Store, shards: Shards, plan: Plan, sequences: Sequences, numbers: Sequence[int], lost_inputs: Sequence[int]
) -> Iterator[Entry]:
    """Have units of work done by a cluster, and give the entry of each as it comes.

    Parameters
    ----------
    shards : Shards
        What writes the inputs here.
    lost_inputs : sequence of int
        The units of work whose inputs are not in the store, in their order; others than `numbers` may be among them.

    Raises
    ------
    ModelError
        The model fails on a sample, or can't be opened on a worker.
    UnsupportedError
        The client went away, or workers died over a unit of work again and again.
    """
    distributed = require("distributed", extra="record", purpose="Recording on a cluster")
    inputs = None if plan.inputs is not None else pickle.dumps(sequences if sequences.lies_in_file else sequences.loaded())
    job = Job(uuid.uuid4().hex, crew.engine, pickle.dumps(plan), store, inputs, _here())
    try:
        with _told(distributed, plan), closing(_tasks(shards, plan, sequences, frozenset(numbers), lost_inputs)) as tasks:
            yield from _through(crew.client, distributed, job, tasks)
    except _OwnError as failed:
        raise failed.error from failed.error.__cause__


class _OwnError(Exception):
    """Wraps what went wrong in this process, where the same error of a client would mean its cluster."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _tasks(shards: Shards, plan: Plan, sequences: Sequences, numbers: frozenset[int], lost_inputs: Sequence[int]) -> Generator[Task]:
    """Units of work in their order, each when its inputs are in the store: while some are written, the next are read."""
    lost = frozenset(lost_inputs)
    with ThreadPoolExecutor(1, "seqscope-reader") as reader:
        parts = local.read_ahead(reader, plan, sequences, lost_inputs)
        for number in sorted(numbers | lost):
            try:
                if number in lost:
                    shards.write_inputs(number, next(parts))
            except SeqscopeError:
                raise
            except Exception as error:
                raise _OwnError(error) from error
            if number in numbers:
                part = sequences[plan.rows(number)]
                yield Task(number, part.lengths, part.samples, part.labels)


def _through(client: Any, distributed: Any, job: Job, tasks: Iterator[Task]) -> Iterator[Entry]:
    """Keep the workers busy with few units of work at a time, so that the scheduler never holds more than it needs."""
    n_workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        kept = client.submit(_kept, job, key=f"seqscope-{job.run}", pure=False)  # a task, so that it is there again where its worker died
    waited: dict[str, Any] = {}

    def submit(task: Task) -> Any:
        key = f"seqscope-{job.run}-{task.number}"
        waited[key] = client.submit(work, kept, task, key=key, pure=False)
        return waited[key]

    try:
        running = distributed.as_completed([submit(task) for task in itertools.islice(tasks, _AHEAD * n_workers)], loop=client.loop)
        for future in running:
            entry = future.result()
            del waited[future.key]
            if (task := next(tasks, None)) is not None:
                running.add(submit(task))
            yield entry
    finally:
        if waited:
            _call_off(client, list(waited.values()), job.run)


def _call_off(client: Any, futures: Sequence[Any], run: str) -> None:
    """See to it that nothing more of a run is written when this returns, since the store is free for others then."""
    with suppress(Exception):  # the client is gone, and the workers with it or not
        client.cancel(futures)
        client.run(give_up, run, on_error="ignore")


@contextmanager
def _told(distributed: Any, plan: Plan) -> Iterator[None]:
    """Say in a sentence what happens to clusters; a full disk passes as it is."""
    try:
        yield
    except SeqscopeError:
        raise
    except distributed.KilledWorker as error:
        raise UnsupportedError(_of_the_dead(error, plan)) from error
    except MemoryError as error:
        raise UnsupportedError(f"A worker ran out of memory: {_smaller(plan)}.") from error
    except (OSError, RuntimeError, TimeoutError, distributed.client.FutureCancelledError, distributed.client.ClosedClientError) as error:
        if getattr(error, "errno", None) in stores.FULL:
            raise
        words = " ".join(str(error).split())[:200].rstrip(".")
        is_named = not isinstance(error, distributed.client.FutureCancelledError)  # which says the key of a task alone
        said = f" ({': '.join(filter(None, (type(error).__name__, words)))})" if is_named else ""
        raise UnsupportedError(
            f"The client or its cluster went away before all was done{said}: what is in the ledger stays; connect again, then call record "
            "with resume=True."
        ) from error


def _of_the_dead(error: Any, plan: Plan) -> str:
    number = str(error.task).split("-")[2:]
    rows = plan.rows(int(number[0])) if number else None
    over = "the model" if rows is None else f"the samples {rows.start} to {rows.stop - 1}"
    return f"Workers died again and again over {over}, which is mostly for want of memory: {_smaller(plan)}."


def _smaller(plan: Plan) -> str:
    return (
        "give them more, then call record again with resume=True; or make a new store with a smaller shard= "
        f"(now {plan.per_shard} samples) or batch_size= (now {plan.batch_size})"
    )


# What runs on a worker


# What is witnessed belongs to one unit of work, so of several threads of a worker one writes at a time.
_writing = Lock()
_given_up: set[str] = set()


def work(job: Job, task: Task) -> Entry:
    """Do one unit of work on a worker."""
    with stores.told(job.store):
        shards, sequences, plan = _opened(_Once(job))
        part = _part(job.store, plan, task) if sequences is None else sequences[plan.rows(task.number)]
        made = shards.run(task.number, part)
        with _writing:
            if job.run in _given_up:
                raise UnsupportedError("The recording was stopped.")
            return shards.write(made)


def give_up(run: str) -> None:
    """Write nothing more of a run, now that no one waits for it: what is being written is waited for."""
    _given_up.add(run)
    with _writing:
        pass


def _kept(job: Job) -> Job:
    return job


class _Once:
    """A job by what it is, so that a worker opens a model once however often the job turns up."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __hash__(self) -> int:
        return hash(self.job.run)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and self.job.run == other.job.run


@lru_cache(maxsize=1)
def _opened(once: _Once) -> tuple[Shards, Sequences | None, Plan]:
    job = once.job
    if job.home != _here():
        shipping.use_threads(1)  # before a framework is imported: workers are processes of one thread each, and do not fight for cores
    try:
        engine = arrived(job.engine)
    except SeqscopeError:
        raise
    except Exception as error:
        raise ModelError(
            f"The model could not be opened on a worker ({type(error).__name__}: {error}): workers need the same packages, and the module "
            "that defines it."
        ) from error
    plan: Plan = pickle.loads(job.plan)
    sequences = None if job.sequences is None else pickle.loads(job.sequences)
    return Shards(job.store, plan, plan.feed(engine)), sequences, plan


def _here() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _part(store: Store, plan: Plan, task: Task) -> Sequences:
    """The samples of a unit of work, from the store."""
    if plan.inputs is None:
        raise ModelError("The inputs are not in the store.")
    longest = int(task.lengths.max())
    array = zarr.open_group(store, mode="r", zarr_format=3)[plan.inputs.path]
    block = np.asarray(array[plan.rows(task.number), :longest])  # type: ignore[index]
    return Sequences(block, lengths=task.lengths, samples=task.samples, labels=task.labels)
