"""A recording that is read: labelled arrays that stay in the store until they are looked at."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store

from seqscope import labelled, ram
from seqscope.errors import DataError, LayerError, in_call, nearest
from seqscope.labelled import LABEL, LENGTH, SAMPLE
from seqscope.recording import columns, finish, ledger, provenance, skeleton, stores
from seqscope.recording.inputs import sequences_of
from seqscope.recording.ledger import Entry, Ledger
from seqscope.recording.plan import ACTIVATIONS, INPUTS, PREDICTION, PREDICTIONS, STATES, STATISTICS
from seqscope.recording.running import statistics_of
from seqscope.sequences import Sequences

# Seconds to wait before one that is not finished is opened again, where that failed.
_PAUSES = (0.1, 0.5)


def open_recording(address: stores.Address, *, storage_options: Mapping[str, Any] | None = None) -> Recording:
    """Open what `Scope.record` wrote, finished or not.

    Parameters
    ----------
    address : path, address or zarr Store
        A folder, an address such as "s3://bucket/vowels.zarr", or a store object of Zarr.
    storage_options : dict, optional
        What the file system of an address is told.

    Returns
    -------
    Recording

    Raises
    ------
    DataError
        There is no such store, or it is no recording.
    MissingPackageError
        A package that reads such addresses is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = sq.Scope(sq.zoo.japanese_vowels()).record(X, f"{folder}/vowels.zarr", "lstm")
    ...     hidden = sq.open(f"{folder}/vowels.zarr").activations("lstm").load()
    >>> hidden.sizes
    Frozen({'sample': 370, 'time': 29, 'unit': 100})
    """
    with in_call(lambda: f"open({stores.words(address)!r})"):
        name = stores.words(address)
        store = stores.open_store(address, storage_options=storage_options, read_only=True)
        if not stores.exists(store):
            raise DataError(f"There is no store '{name}'.")
        return Recording(store, name)


class Recording:
    """A data set's activations and states, on disk. See `seqscope.open`.

    Opening reads what is said of the arrays and their coordinates; values are read where they are looked at, and no file is held open. Of
    a recording that goes on, `recorded`, `accuracy`, `failed`, `statistics` and values are as they are at that moment (NaN where nothing
    is written yet). It can be pickled: the address goes along, and no values.

    Parameters
    ----------
    store : Store
    name : str
        What messages call it.

    Attributes
    ----------
    name : str
    attrs : dict
        What was said of the whole when it was opened: model, framework, `model_digest`, `data_digest`, settings, versions, `n_samples`,
        `n_steps`, and `complete`, `accuracy` and `n_failed` where it was finished.
    tree : DataTree
        Everything, as `xarray.open_datatree` gives it: `inputs`, `predictions`, `activations/<layer>`, `states/<layer>`, `statistics/...`.

    Examples
    --------
    >>> import tempfile
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recording = sq.Scope(sq.zoo.japanese_vowels()).record(X[:20], f"{folder}/vowels.zarr", "fc")
    ...     one = recording.activations("fc").isel(sample=3, unit=0).load()  # reads what holds it
    ...     mean, wrong = recording.statistics("fc")["mean"], recording.verify()
    >>> recording.layers, len(recording), recording.is_complete, wrong
    (('fc',), 20, True, [])
    >>> recording.inputs, mean.sizes
    (Sequences: 20 sequences, 13 to 29 steps, 12 channels, Frozen({'unit': 9}))
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self.name = store, name
        self.attrs = self._said()
        self.tree: xr.DataTree = self._tree()
        self._samples = columns.as_given(self.tree.to_dataset()).load()

    def _said(self) -> dict[str, Any]:
        """What is said of the whole."""
        with _damage_told(self.name):
            try:
                attrs = dict(zarr.open_group(self._store, mode="r", zarr_format=3).attrs)
            except FileNotFoundError:
                attrs = {}
            skeleton.check_form(attrs, self.name)
        attrs.pop("coordinates", None)  # xarray's own
        return attrs

    def _tree(self) -> xr.DataTree:
        options: dict[str, Any] = {"engine": "zarr", "chunks": None, "decode_times": False, "zarr_format": 3}
        for pause in _PAUSES:
            try:
                with _damage_told(self.name):
                    return xr.open_datatree(self._store, consolidated=self.is_complete, **options)  # type: ignore[arg-type]
            except DataError:
                if self.is_complete:
                    raise
                time.sleep(pause)  # files come and go under one that is just being finished
        with _damage_told(self.name):
            return xr.open_datatree(self._store, consolidated=False, **options)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        return Recording, (self._store, self.name)

    @property
    def is_complete(self) -> bool:
        """Whether it was finished."""
        return bool(self.attrs.get("complete"))

    @property
    def model_digest(self) -> str:
        """The SHA-256 of the model that it was made from."""
        return str(self.attrs[provenance.MODEL])

    @property
    def versions(self) -> dict[str, str]:
        """With which packages it was begun."""
        return dict(json.loads(self.attrs[provenance.VERSIONS]))

    @property
    def settings(self) -> dict[str, Any]:
        """What was said when it was begun, and what was chosen."""
        return dict(json.loads(self.attrs[provenance.SETTINGS]))

    def __len__(self) -> int:
        return int(self._samples.sizes[SAMPLE])

    def __repr__(self) -> str:
        layers = [f"activations of {', '.join(self.layers)}"] if self.layers else []
        layers += [f"states of {', '.join(self.recurrent)}"] if self.recurrent else []
        accuracy = f", accuracy {self.accuracy:.3f}" if self.accuracy is not None else ""
        return f"Recording '{self.name}': {self._sizes()}; {'; '.join(layers)}; {self._state()}{accuracy}"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(what)}</th><td>{escape(text)}</td></tr>" for what, text in self.in_words().items())
        return f"<table><caption>Recording '{escape(self.name)}'</caption>{rows}</table>"

    def in_words(self) -> dict[str, str]:
        """What is there, by what it is called: model, layers, number of sequences, size on disk, accuracy."""
        said = {
            "Model": str(self.attrs["model"]),
            "Activations": ", ".join(self.layers),
            "States": ", ".join(self.recurrent),
            "Sequences": self._sizes(),
            "Size": self.size,
            "State": self._state(),
            "Accuracy": "" if self.accuracy is None else f"{self.accuracy:.3f}",
        }
        return {what: text for what, text in said.items() if text}

    def _sizes(self) -> str:
        low, high = int(self.lengths.min()), int(self.lengths.max())
        steps = f"{low} steps" if low == high else f"{low} to {high} steps"
        return f"{len(self):,} sequence{'s' * (len(self) != 1)}, {steps}"

    def _state(self) -> str:
        return "complete" if self.is_complete else f"{int(self.recorded.sum()):,} recorded so far"

    # What was recorded

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose activations are there."""
        return tuple(self.attrs["layers"])

    @property
    def recurrent(self) -> tuple[str, ...]:
        """The layers whose states are there."""
        return tuple(self.attrs["recurrent"])

    def activations(self, layer: str | None = None) -> xr.DataArray | xr.DataTree:
        """What layers put out, as `Scope.activations` gives it, read where it is looked at.

        Parameters
        ----------
        layer : str, optional
            Its name gives its array; nothing a tree of all.

        Returns
        -------
        DataArray (sample, time, unit), or a DataTree with one node a layer
            Lazy: what is asked for with `.isel`, `.sel` and then `.values` or `.load()` is read.

        Raises
        ------
        LayerError
            It was not recorded.
        """
        if layer is None:
            return labelled.tree({name: self._array(self._dataset(ACTIVATIONS, name), ACTIVATIONS) for name in self.layers}, self.attrs)
        return self._array(self._dataset(ACTIVATIONS, layer), ACTIVATIONS)

    def states(self, layer: str | None = None) -> xr.Dataset | xr.DataTree:
        """States of recurrent layers, as `Scope.states` gives them, read where they are looked at.

        Parameters
        ----------
        layer : str, optional
            Its name gives its Dataset; nothing a tree of all.

        Raises
        ------
        LayerError
            They were not recorded.
        """
        if layer is None:
            return labelled.tree({name: self._dataset(STATES, name) for name in self.recurrent}, self.attrs)
        return self._dataset(STATES, layer)

    @property
    def predictions(self) -> xr.DataArray:
        """What the model put out, as `Scope.predict` gives it: (sample, output), or (sample, output_time, output)."""
        return self._array(self._from_group(PREDICTIONS), PREDICTION).rename(labelled.OUTPUT)

    @property
    def inputs(self) -> Sequences:
        """The data set that was recorded, whose values stay in the store until they are looked at; tokens are read.

        Raises
        ------
        DataError
            They were not recorded, or (where they are looked at) are not there yet.
        """
        if INPUTS not in self.tree.children:
            raise DataError(f"'{self.name}' was recorded with inputs=False: give the data itself.")
        array = self._array(self._from_group(INPUTS), labelled.VALUE)
        place = stores.local_path(self._store)
        return sequences_of(array, lengths=self.lengths, labels=self.labels, said=self.attrs, name=self.name, place=str(place or self.name))

    def _dataset(self, group: str, layer: str) -> xr.Dataset:
        there = self.layers if group == ACTIVATIONS else self.recurrent
        if layer not in there:
            raise LayerError(f"'{self.name}' holds no {group} of '{layer}': {nearest(str(layer), there)}.")
        data = self._from_group(f"{group}/{labelled.node_name(layer)}")
        return data[labelled.in_state_order(map(str, data.data_vars))] if group == STATES else data

    def _array(self, data: xr.Dataset, name: str) -> xr.DataArray:
        if name not in data:
            raise DataError(f"'{self.name}' has lost the array '{name}': recording.verify() says what is missing.")
        array: xr.DataArray = data[name]
        return array

    def _from_group(self, path: str) -> xr.Dataset:
        with _damage_told(self.name):
            data = self.tree[path].to_dataset()
            known = {name: self._samples[name].variable for name in (LENGTH, LABEL) if name in data.coords}  # read already
            # As it is now: each array keeps what is read of it, and none is handed out twice.
            data = columns.as_given(data.drop_vars(list(known)).isel({dim: slice(None) for dim in data.dims})).assign_coords(known)
        return data if any(SAMPLE in array.dims for array in data.data_vars.values()) else data.drop_vars(SAMPLE, errors="ignore")

    # What is known of the samples

    @property
    def lengths(self) -> np.ndarray:
        """The number of steps of each sequence."""
        return np.asarray(self._samples[LENGTH].values)

    @property
    def labels(self) -> np.ndarray | None:
        """The class of each sequence, where it is known."""
        return np.asarray(self._samples[LABEL].values) if LABEL in self._samples.coords else None

    @property
    def accuracy(self) -> float | None:
        """The share of the sequences recorded so far whose highest output is what the label says; None where that can't be told."""
        if self.is_complete:
            return float(self.attrs["accuracy"]) if "accuracy" in self.attrs else None
        entries = self._entries()
        known = sum(entry.labelled for entry in entries)
        return sum(entry.correct for entry in entries) / known if known else None

    @property
    def recorded(self) -> xr.DataArray:
        """Which sequences are recorded: (sample) of bool."""
        there = np.zeros(len(self), bool)
        for entry in self._entries():
            there[slice(*entry.rows)] = True
        return xr.DataArray(there, dims=(SAMPLE,), coords={SAMPLE: self._samples[SAMPLE]}, name="recorded")

    @property
    def failed(self) -> xr.Dataset:
        """The samples that the model failed on and that were set aside: `position` and `message` (failure)."""
        return finish.failures(self._entries())

    def statistics(self, layer: str, state: str | None = None) -> xr.Dataset:
        """Figures of each unit over all that is recorded: mean, standard deviation, extremes, saturation, histogram.

        Parameters
        ----------
        layer : str
        state : str, optional
            Of its states in place of its activations: "c".

        Returns
        -------
        Dataset of arrays (unit), and `histogram` (unit, bin)
            Of the values as they are written. Of a recording that goes on, of those units of work that are done.

        Raises
        ------
        LayerError
            It was not recorded.
        DataError
            Nothing is recorded yet.
        """
        data = self._dataset(ACTIVATIONS if state is None else STATES, layer)
        name = ACTIVATIONS if state is None else state
        if name not in data:
            raise LayerError(f"'{self.name}' holds no state {name!r} of '{layer}': {nearest(name, map(str, data.data_vars))}.")
        path = f"{ACTIVATIONS if state is None else STATES}/{labelled.node_name(layer)}/{name}"
        if self.is_complete:
            return self._from_group(f"{STATISTICS}/{path}")
        with _damage_told(self.name):
            found = statistics_of(self._store, path)
        if not found:
            raise DataError(f"Nothing of '{self.name}' is recorded yet.")
        return found[path]

    # Whether it is whole

    def verify(self) -> list[str]:
        """Read every file, and say which is missing or damaged: a sentence each; nothing where all is as it was written."""
        wrong = self._lost_entries()
        for kind in (ledger.FRAME, ledger.ENTRIES, ledger.ARRIVED, *((ledger.END,) if self.is_complete else ())):
            book = Ledger(self._store, kind)
            for number in book.numbers():
                entry = book.read(number)
                wrong += (
                    [f"The entry {number} of the ledger is damaged."]
                    if entry is None
                    else [f"{what} (samples {entry.rows[0]} to {entry.rows[1] - 1})" for what in book.damage(entry, thorough=True)]
                )
        return wrong

    def damage_of(self, sample: int) -> list[str]:
        """What is missing, or has another size, of the files that hold a sample; nothing is read for it, as `verify` does."""
        there = [entry for entry in self._entries() if entry.rows[0] <= sample < entry.rows[1]]
        return [what for entry in there for what in Ledger(self._store).damage(entry, thorough=False)]

    def _lost_entries(self) -> list[str]:
        """The units of work of a finished recording that the ledger does not know of any more."""
        expected = range(-(-len(self) // self.settings["shard"])) if self.is_complete else range(0)
        lost = sorted({*expected} - {*Ledger(self._store).numbers()})
        return [f"The entry {number} of the ledger is missing." for number in lost]

    @property
    def size(self) -> str:
        """How much was written, in words."""
        arrived = [Ledger(self._store, ledger.ARRIVED).read(number) for number in Ledger(self._store, ledger.ARRIVED).numbers()]
        return ram.in_words(sum(entry.size for entry in [*self._entries(), *arrived] if entry is not None))

    def _entries(self) -> list[Entry]:
        book = Ledger(self._store)
        return [entry for number in book.numbers() if (entry := book.read(number)) is not None]


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    """Say of a store that is half there that it is."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component")  # what is being written, or lost
            yield
    except (FileNotFoundError, KeyError, ValueError, TypeError, zarr.errors.BaseZarrError) as error:
        if isinstance(error, DataError | LayerError):
            raise
        raise DataError(f"'{name}' can't be read, a part of it is missing or damaged ({type(error).__name__}: {error}).") from error
