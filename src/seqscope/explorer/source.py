"""What is looked at: a recording or a live model behind one interface, shared by all who look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError, LayerError, SeqscopeError
from seqscope.explorer.any_source import Source
from seqscope.explorer.shown import Shown, code_of_state, layers_of, of_unit, one_state, plain, recorded_layers
from seqscope.labelled import SAMPLE, STEP, TIME, node_name
from seqscope.scope import Scope
from seqscope.sequences import Sequences

if TYPE_CHECKING:
    from seqscope.recording.reading import Recording

__all__ = ["Live", "Recorded", "Shown", "Source", "one_state", "plain"]


class Live(Source):
    """A model that runs, and its data.

    Parameters
    ----------
    scope : Scope
    X : Sequences
        As the scope takes it.
    name, opening : str
    progress : bool, optional
        Whether predictions show a bar as they are made.

    Raises
    ------
    DataError
        There is nothing to look at: no layer has units with steps.
    """

    X: Sequences

    def __init__(self, scope: Scope, X: Sequences, *, name: str, opening: str, progress: bool | None = None) -> None:
        super().__init__()
        self.scope, self.X, self.name, self._opening = scope, X, name, opening
        self.layers = layers_of(scope, X[[0]])
        if not self.layers:
            raise DataError(f"There is nothing to look at over time: no layer of {name} has units with a value at each step.")
        self._predictions = scope.predict(X, progress=progress)

    def _activations_of(self, layer: str, sample: int) -> xr.DataArray:
        return self._alone(self._scope.activations(self.X[sample], layer), layer)  # type: ignore[no-any-return]

    def _states_of(self, layer: str, sample: int) -> xr.Dataset:
        return self._alone(self._scope.states(self.X[sample], layer), layer)  # type: ignore[no-any-return]

    def whole(self, layer: str, state: str) -> xr.DataArray:
        """As of any source."""
        if state:
            return one_state(self.whole_states(layer), state)
        return self.once(("whole", layer), lambda: plain(self._alone(self._scope.activations(self.X, layer), layer)))  # type: ignore[no-any-return]

    def whole_states(self, layer: str) -> xr.Dataset:
        """As of any source."""
        return self.once(("whole states", layer), lambda: self._alone(self._scope.states(self.X, layer), layer))  # type: ignore[no-any-return]

    @staticmethod
    def _alone(found: Any, layer: str) -> Any:
        if isinstance(found, xr.DataTree):
            raise LayerError(f"'{layer}' stands for several layers: {', '.join(map(str, found.children))}.")
        return found

    def predictions(self) -> xr.DataArray:
        """As of any source."""
        return self._predictions

    @property
    def _scope(self) -> Scope:
        if self.scope is None:
            raise LayerError("There is no live model.")
        return self.scope

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return f"{self._scope!r}; {self.X.describe()}"

    @property
    def opening(self) -> str:
        """The Python that makes it."""
        return self._opening

    def code(self, layer: str, state: str, sample: int | None) -> str:
        """The Python that gives values."""
        of = "X" if sample is None else f"X[{sample}]"
        verb = f"scope.states({of}, {layer!r})" if state else f"scope.activations({of}, {layer!r})"
        return verb + code_of_state(state)

    @property
    def sample_ids(self) -> np.ndarray:
        """The id of each sample."""
        return np.asarray(self.X.samples)

    @property
    def lengths(self) -> np.ndarray:
        """The number of input steps of each sample."""
        return self.X.lengths

    @property
    def labels(self) -> np.ndarray | None:
        """The class or value of each sample, where it is known."""
        return self.X.labels


class Recorded(Source):
    """A recording as it is when it is opened, with its model beside it where that is given.

    Parameters
    ----------
    recording : Recording
    X : Sequences or None
    scope : Scope or None
    opening : str

    Raises
    ------
    DataError
        There is nothing to look at: no layer has units with steps, or none can be read.
    """

    def __init__(self, recording: Recording, X: Sequences | None, scope: Scope | None, *, opening: str) -> None:
        super().__init__()
        self.recording, self.X, self.scope, self._opening = recording, X, scope, opening
        self.name = recording.name.rstrip("/").rpartition("/")[2] or recording.name
        self._opened: dict[tuple[str, bool], Any] = {}
        self._lock = threading.Lock()
        self._recorded = recording.recorded
        failed = recording.failed
        self._failed = dict(zip(failed["position"].values.tolist(), failed["message"].values.tolist(), strict=True))
        self.layers, self._faults = recorded_layers(recording)
        if not self.layers:
            raise DataError(" ".join([f"There is nothing to look at over time in '{recording.name}'.", *self._faults]))
        self._predictions = self._read_predictions()

    def _read_predictions(self) -> xr.DataArray | DataError:
        try:
            found: xr.DataArray = self._reading("The predictions", lambda: self.recording.predictions.load())  # noqa: PLW0108
        except DataError as error:
            self._faults.append(error.message)
            return error
        without = np.flatnonzero(self.there & found.isnull().all([dim for dim in found.dims if dim != SAMPLE]).values)
        if len(without) and any("predictions/" in lost for lost in self.recording.damage_of(int(without[0]))):
            self._faults.append(f"The predictions of {len(without):,} samples are missing.")
        return found

    def _lazy(self, layer: str, *, states: bool) -> Any:
        """What is in the store of a layer, opened once; each who asks gets one of their own, since it keeps what is read of it."""
        with self._lock:
            if (layer, states) not in self._opened:
                self._opened[layer, states] = self.recording.states(layer) if states else self.recording.activations(layer)
            return self._opened[layer, states].isel({SAMPLE: slice(None)})

    def _values(self, shown: Shown, state: str, sample: int) -> xr.DataArray:
        if not state:
            return plain(self._activations_of(shown.name, sample))
        one = self._lazy(shown.name, states=True)[[state.partition(".")[0]]]  # of all states only this one is read
        return one_state(self._of_sample(one, shown.name, sample), state)

    def _activations_of(self, layer: str, sample: int) -> xr.DataArray:
        return self._of_sample(self._lazy(layer, states=False), layer, sample)  # type: ignore[no-any-return]

    def _states_of(self, layer: str, sample: int) -> xr.Dataset:
        return self._of_sample(self._lazy(layer, states=True), layer, sample)  # type: ignore[no-any-return]

    def _of_sample(self, data: Any, layer: str, sample: int) -> Any:
        """One sample, read, without the padding behind it."""
        what = f"What '{layer}' does in sample {sample}"
        one = self._reading(what, lambda: data.isel({SAMPLE: sample}).load())
        arrays = [one] if isinstance(one, xr.DataArray) else list(one.data_vars.values())
        if any(bool(array.isnull().all()) for array in arrays):
            lost = [sentence for sentence in self.recording.damage_of(sample) if f"/{node_name(layer)}/" in sentence]
            if lost:
                raise DataError(f"{what} is not in '{self.recording.name}' any more: {'; '.join(lost)}.")
        return _cut(one, arrays[0], int(self.lengths[sample]))

    def _reading(self, what: str, read: Callable[[], Any]) -> Any:
        """What is read; of a damaged file, whatever it is that a library says to it, a sentence."""
        try:
            return read()
        except (SeqscopeError, MemoryError):
            raise
        except Exception as error:
            raise DataError(
                f"{what} can't be read, a part of '{self.recording.name}' is damaged ({type(error).__name__}: {error}): recording.verify() "
                "says which."
            ) from error

    def states_of_unit(self, layer: str, sample: int, unit: int, direction: str) -> xr.Dataset:
        """As of any source; of the store the parts with this unit are read."""
        self._check_there(sample)
        key = ("states of unit", layer, sample, unit, direction)
        return self.kept.get(key, lambda: self._of_sample(of_unit(self._lazy(layer, states=True), unit, direction), layer, sample))  # type: ignore[no-any-return]

    def whole(self, layer: str, state: str) -> xr.DataArray:
        """As of any source."""
        return one_state(self.whole_states(layer), state) if state else plain(self._lazy(layer, states=False))

    def whole_states(self, layer: str) -> xr.Dataset:
        """As of any source."""
        return self._lazy(layer, states=True)  # type: ignore[no-any-return]

    def predictions(self) -> xr.DataArray:
        """As of any source."""
        if isinstance(self._predictions, DataError):
            raise DataError(self._predictions.message)
        return self._predictions

    @property
    def there(self) -> np.ndarray:
        """Of which samples there are values."""
        there = np.ones(len(self), bool) if self.recording.is_complete else self._recorded.values.copy()
        there[list(self._failed)] = False
        return there

    def missing(self, sample: int) -> str:
        """Why there are no values of a sample."""
        if sample in self._failed:
            return f"The model failed on sample {sample} when it was recorded: {self._failed[sample]}"
        if not self.recording.is_complete and not self._recorded.values[sample]:
            return f"Sample {sample} was not recorded yet when this page was opened."
        return ""

    @cached_property
    def about(self) -> str:
        """What it is, in a line."""
        said = {"State": self.state} if self.state else {}
        said |= {what: text for what, text in self.recording.in_words().items() if what not in ("Size", "State")}
        return "; ".join(text if what in ("State", "Sequences") else f"{what.lower()} {text}" for what, text in said.items())

    @cached_property
    def state(self) -> str:
        """What is to be known before anything is believed."""
        n_recorded, number = int(self._recorded.sum()), len(self)
        sentences = []
        if not self.recording.is_complete:
            sentences.append(f"STILL BEING WRITTEN: {n_recorded:,} of {number:,} recorded when this page was opened")
        elif n_recorded < number:
            sentences.append(f"DAMAGED: the ledger knows of {n_recorded:,} of {number:,} samples, recording.verify() says what is lost")
        if self._failed:
            sentences.append(f"the model failed on {len(self._failed):,}")
        return "; ".join([*sentences, *(fault.removesuffix(".") for fault in self._faults)])

    @property
    def opening(self) -> str:
        """The Python that makes it."""
        return self._opening

    def code(self, layer: str, state: str, sample: int | None) -> str:
        """The Python that gives values."""
        verb = (f"recording.states({layer!r})" if state else f"recording.activations({layer!r})") + code_of_state(state)
        if sample is None:
            return verb
        if STEP in self._lazy(layer, states=bool(state)).dims:
            return f'{verb}.isel(sample={sample}).load().dropna("step", how="all")'
        return f"{verb}.isel(sample={sample}, time=slice({int(self.lengths[sample])})).load()"

    @property
    def sample_ids(self) -> np.ndarray:
        """The id of each sample."""
        return np.asarray(self._recorded.coords[SAMPLE].values)

    @property
    def lengths(self) -> np.ndarray:
        """The number of input steps of each sample."""
        return self.recording.lengths

    @property
    def labels(self) -> np.ndarray | None:
        """The class or value of each sample, where it is known."""
        return self.recording.labels


def _cut(one: Any, first: xr.DataArray, length: int) -> Any:
    """A sample without the padding behind it: on the input's clock behind its length, on another behind its last value."""
    if TIME in one.dims:
        return one.isel({TIME: slice(length)})
    if STEP not in one.dims:
        return one
    others = [dim for dim in first.dims if dim != STEP]
    return one.isel({STEP: slice(int(first.notnull().any(others).sum()))})
