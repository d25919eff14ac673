"""`Scope.record`: begin a store or go on with one, have the work done, and finish."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zarr
from zarr.abc.store import Store

from seqscope import files, progress
from seqscope.errors import DataError, OutputExistsError, TooLargeError, warn
from seqscope.files.data import FORMATS
from seqscope.recording import cluster, finish, ledger, local, provenance, skeleton, stores
from seqscope.recording.asked import Asked
from seqscope.recording.ledger import Entry, Ledger
from seqscope.recording.lock import held
from seqscope.recording.plan import Plan
from seqscope.recording.reading import Recording
from seqscope.recording.shards import Shards
from seqscope.recording.space import check_space
from seqscope.recording.survey import survey
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

# A table of more bytes is not read into memory.
_LARGE_TABLE = 128_000_000


def record(specimen: Specimen, X: Any, address: stores.Address, asked: Asked, names: tuple[object, ...] | None) -> Recording:
    """See `Scope.record`.

    Parameters
    ----------
    names : tuple or None
        What the outputs are called, where the person said it.
    """
    asked.check()
    store, name = stores.open_store(address, storage_options=asked.storage_options), stores.words(address)
    with _full_disk_told(name), stores.told(store), held(store, name=name) as lock, ExitStack() as kept:
        there = _what_is_there(store, name, asked)
        sequences, feed = specimen.take_in(kept.enter_context(_data(X, store)))
        sequences = sequences[[0]] if sequences.single else sequences
        specimen.show(sequences)
        found = survey(specimen, feed, sequences, asked if there is None else _as_before(asked, there), names)
        attrs = provenance.provenance(specimen, sequences, found.plan)
        crew = None
        if there is None:
            _check_elsewhere(store, name, sequences)
            check_space(store, name, feed, sequences, found.plan)
            crew = _hired(kept, asked, store, specimen)
            _clear(store)  # what is written over, or was hardly begun: only now that all else is known to be well
            skeleton.build(store, found.plan, found.templates, sequences, attrs)
            finish.keep_edges(store, found.plan)
            plan = found.plan
        else:
            provenance.check_same(there, attrs, name)
            finish.check_frame(store, name)
            plan = finish.with_edges(store, found.plan)
            stores.remove_partials(store)
        del found  # where samples have times of their own, its coordinates are as long as the data set
        work = _Work(store, name, plan, specimen, sequences, asked)
        if there is None or work.is_missing or not there.get("complete") or not finish.has_end(store):
            crew = _hired(kept, asked, store, specimen) if crew is None and work.is_missing else crew
            finish.reopen(store)
            with closing(work.entries(crew)) as entries:  # so that all its threads are done when the lock is given back
                for _ in entries:
                    lock.check()
            finish.finish(store, plan)
    return Recording(store, name)


def _hired(kept: ExitStack, asked: Asked, store: Store, specimen: Specimen) -> cluster.Crew | None:
    """The cluster that is to do it, until all is done; None where this process does."""
    if asked.client is None:
        return None
    return kept.enter_context(cluster.hired(asked.client, store, specimen.engine, asked.recipe))


@contextmanager
def _data(X: Any, store: Store) -> Iterator[Any]:
    """What was given; a file, or a loader, read. What would have to be in memory goes to a file beside the store while it is needed."""
    is_path = isinstance(X, str | PathLike)
    is_known = isinstance(X, Sequences | list | tuple) or hasattr(X, "shape") or hasattr(X, "dims")
    is_loader = not is_path and not is_known and (hasattr(X, "__iter__") or hasattr(X, "__getitem__"))
    if not is_loader and not (is_path and _is_large_table(Path(X))):
        yield files.read(X) if is_path else X
        return
    place = stores.local_path(store)
    room = next((folder for folder in place.parents if folder.is_dir()), None) if place is not None else None
    with TemporaryDirectory(prefix=".seqscope-", dir=room, ignore_cleanup_errors=True) as folder:
        yield files.read(X, keep=Path(folder, "steps.npy"))


def _is_large_table(path: Path) -> bool:
    form = FORMATS.get(path.suffix.lower())
    return form is not None and "keep" in form.options and path.is_file() and path.stat().st_size > _LARGE_TABLE


def _what_is_there(store: Store, name: str, asked: Asked) -> Mapping[str, Any] | None:
    """What is said of the store that is to be gone on with; None where one is to be begun.

    Raises
    ------
    OutputExistsError
        There is one, and nothing was said about it.
    DataError
        What is there is no recording.
    """
    if not stores.exists(store):
        return None
    root = read_root(store)
    begun = stores.get(store, ledger.BEGUN) is not None
    if root is None and not begun:
        raise DataError(f"'{name}' is there and is no recording of seqscope: nothing in it is touched. Name another store.")
    if asked.overwrite:
        return None
    if not asked.resume:
        raise OutputExistsError(f"'{name}' exists: say resume=True to go on with it, or overwrite=True to begin again.")
    if root is not None:
        skeleton.check_form(root, name)
    if not Ledger(store).numbers() and (root is None or not Ledger(store, ledger.FRAME).numbers()):
        return None  # it was killed before its first unit of work
    if root is None:
        raise DataError(
            f"'{name}' is half deleted: 'zarr.json', which says what it was made from, is missing. Begin again with overwrite=True, or "
            "name another store."
        )
    return root


def _check_elsewhere(store: Store, name: str, sequences: Sequences) -> None:
    """Refuse to write over the data set itself.

    Raises
    ------
    DataError
        Its values lie in the store.
    """
    folder = stores.local_path(store)
    if sequences.place and (
        sequences.place == name or (folder is not None and folder in (Path(sequences.place), *Path(sequences.place).parents))
    ):
        raise DataError(f"The data lies in '{name}' itself, which would be written over: name another store.")


def _clear(store: Store) -> None:
    """Delete what is there: that it is a whole recording is unsaid first, and that one was begun stays, so that it may end anywhere."""
    if stores.exists(store):
        stores.put(store, ledger.BEGUN, b"")
        stores.delete(store, "zarr.json")
        stores.clear(store, spared=(ledger.BEGUN,))


def read_root(store: Store) -> Mapping[str, Any] | None:
    """What is said of a recording as a whole; None where the store holds none."""
    try:
        attrs = dict(zarr.open_group(store, mode="r", zarr_format=3).attrs)
    except (FileNotFoundError, KeyError, ValueError, TypeError):
        return None
    return attrs if skeleton.MARK in attrs else None


def _as_before(asked: Asked, there: Mapping[str, Any]) -> Asked:
    """What was left to be chosen is as it was when the store was begun."""
    before = json.loads(there[provenance.SETTINGS])
    return replace(asked, batch_size=asked.batch_size or before["batch_size"], per_shard=asked.per_shard or before["shard"])


class _Work:
    """What is missing in a store, done here or by a cluster, behind a bar."""

    def __init__(self, store: Store, name: str, plan: Plan, specimen: Specimen, sequences: Sequences, asked: Asked) -> None:
        self._store, self._name, self._plan = store, name, plan
        self._specimen, self._sequences, self._asked = specimen, sequences, asked
        self._done, self._missing = self._looked_through(Ledger(store))
        _, self._no_inputs = self._looked_through(Ledger(store, ledger.ARRIVED)) if plan.inputs is not None else ([], [])

    def _looked_through(self, entries: Ledger) -> tuple[list[Entry], list[int]]:
        """The units of work that are done, and those that are not; one whose files are damaged is named, and done again."""
        done, missing = [], []
        there = set(entries.numbers())
        for number in range(self._plan.n_shards):
            entry = entries.read(number) if number in there else None
            wrong = entries.damage(entry, thorough=True) if entry is not None else []
            if number in there and entry is None:
                wrong = [f"the entry {number} of the ledger is damaged"]
            if wrong:
                rows = self._plan.rows(number)
                warn(f"'{self._name}': {wrong[0]}: the samples {rows.start} to {rows.stop - 1} are done again.")
            if entry is None or wrong:
                missing.append(number)
            else:
                done.append(entry)
        return done, missing

    @property
    def is_missing(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._missing or self._no_inputs)

    def entries(self, crew: cluster.Crew | None) -> Generator[Entry]:
        """Do what is missing, here or by a cluster: the entry of each unit of work, when it is done."""
        plan = self._plan
        tally = _Tally(self._done)
        n_done = sum(stop - start for start, stop in (entry.rows for entry in self._done))
        with (
            progress.counting(total=plan.n_samples, what="Recording", show=self._asked.progress, unit="sequences") as bar,
            closing(self._through(crew)) as through,
        ):
            for entry in through:
                tally.add(entry)
                n_done += entry.rows[1] - entry.rows[0]
                bar(n_done, tally.text or None)
                yield entry

    def _through(self, crew: cluster.Crew | None) -> Generator[Entry]:
        plan, sequences = self._plan, self._sequences
        shards = Shards(self._store, plan, plan.feed(self._specimen.engine))
        again = sorted({*self._missing, *self._no_inputs})  # inputs that were lost: the model runs again, to the same values
        if crew is None:
            yield from local.run_here(shards, plan, sequences, again, frozenset(self._no_inputs))
        else:
            yield from cluster.run_on(crew, self._store, shards, plan, sequences, self._missing, self._no_inputs)


class _Tally:
    """How many predictions were right so far."""

    def __init__(self, done: Sequence[Entry]) -> None:
        self._correct, self._labelled = sum(entry.correct for entry in done), sum(entry.labelled for entry in done)

    def add(self, entry: Entry) -> None:
        self._correct, self._labelled = self._correct + entry.correct, self._labelled + entry.labelled

    @property
    def text(self) -> str:
        """The accuracy in words; "" where labels do not tell."""
        return f"accuracy {self._correct / self._labelled:.3f}" if self._labelled else ""


@contextmanager
def _full_disk_told(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in stores.FULL:
            raise
        raise TooLargeError(
            f"There is no space left for '{name}': what is in the ledger stays. Make room, then call record again with resume=True."
        ) from error
