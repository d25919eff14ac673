"""What is looked at: a recording or a live model behind one interface, shared by all who look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope.errors import DataError, LayerError, SampleError, nearest
from seqscope.explorer.kept import Kept
from seqscope.labelled import DIRECTION, LABEL, LENGTH, OUTPUT, OUTPUT_TIME, PROJECTION, SAMPLE, STATE_NAMES, STEP, TIME, UNIT
from seqscope.scope import Scope
from seqscope.sequences import Sequences

if TYPE_CHECKING:
    from seqscope.recording.reading import Recording


@dataclass(frozen=True)
class Shown:
    """A layer whose units have a value at each step.

    Attributes
    ----------
    name, kind : str
    states : tuple of str
        What can be looked at: "" what it puts out, "h", "c", ...; of both directions "h.forward", "h.backward".
    units : tuple
        The labels of its units.
    """

    name: str
    kind: str
    states: tuple[str, ...]
    units: tuple[Hashable, ...]

    @property
    def is_recurrent(self) -> bool:
        """Whether it has states besides what it puts out."""
        return any(self.states)


class Source(ABC):
    """A data set and what a model makes of it.

    Attributes
    ----------
    name : str
        What the page calls it.
    X : Sequences or None
        The input; None where a recording was made without it.
    scope : Scope or None
        The live model, which explanations need.
    layers : dict of Shown
        By name, in execution order.
    """

    name: str
    X: Sequences | None
    scope: Scope | None
    layers: dict[str, Shown]

    def __init__(self) -> None:
        self.kept = Kept()

    # Values. Every array is in memory; those of one sample have no padding.

    def input(self, sample: int) -> xr.DataArray | None:
        """The input of a sample: (time, channel), (time) of tokens; None where it is not known."""
        return None if self.X is None else self.kept.get(("input", sample), lambda: self.inputs()[sample])  # type: ignore[no-any-return]

    def inputs(self) -> Sequences:
        """All inputs.

        Raises
        ------
        DataError
            The recording holds none.
        """
        if self.X is None:
            raise DataError("The inputs were not recorded: give the data too, as in explore(store, X) or seqscope explore STORE DATA.")
        return self.X

    def values(self, layer: str, state: str, sample: int) -> xr.DataArray:
        """What a layer's units do in a sample: (time, unit), or (step, unit) on a clock of its own.

        Raises
        ------
        LayerError
            There is no such layer or state.
        """
        shown = self.layer(layer)
        if state not in shown.states:
            raise LayerError(f"'{layer}' has no state '{state}': {nearest(state, map(repr, shown.states))}.")
        return self.kept.get(("values", layer, state, sample), lambda: self._values(shown, state, sample))  # type: ignore[no-any-return]

    def _values(self, shown: Shown, state: str, sample: int) -> xr.DataArray:
        if not state:
            return plain(self._activations_of(shown.name, sample))
        return one_state(self.states(shown.name, sample), state)

    def states(self, layer: str, sample: int) -> xr.Dataset:
        """All states of a recurrent layer in a sample, as `Scope.states` gives them for one sequence."""
        return self.kept.get(("states", layer, sample), lambda: self._states_of(layer, sample))  # type: ignore[no-any-return]

    @abstractmethod
    def _activations_of(self, layer: str, sample: int) -> xr.DataArray: ...

    @abstractmethod
    def _states_of(self, layer: str, sample: int) -> xr.Dataset: ...

    @abstractmethod
    def whole(self, layer: str, state: str) -> xr.DataArray:
        """What a layer's units do in all samples: (sample, time, unit), in the store until it is looked at where there is one.

        Raises
        ------
        TooLargeError
            A live model would have to fill more than there is of memory.
        """

    @abstractmethod
    def whole_states(self, layer: str) -> xr.Dataset:
        """All states of a recurrent layer in all samples, as `whole`."""

    @abstractmethod
    def predictions(self) -> xr.DataArray:
        """What the model puts out: (sample, output), or (sample, output_time, output)."""

    # What there is

    @property
    @abstractmethod
    def about(self) -> str:
        """What it is, in a line."""

    @property
    @abstractmethod
    def opening(self) -> str:
        """The Python that makes `scope` or `recording`, and `X`."""

    @abstractmethod
    def code(self, layer: str, state: str, sample: int | None) -> str:
        """The Python that gives `values` of a sample; of all (`whole`) where it is None."""

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row for each sample: `sample` (its id), `label`, `prediction`, `score`, `length`, `wrong`; what is not known is left out."""
        return table_of(self.predictions(), self.sample_ids, self.lengths, self.labels)

    @property
    @abstractmethod
    def sample_ids(self) -> np.ndarray:
        """The id of each sample."""

    @property
    @abstractmethod
    def lengths(self) -> np.ndarray:
        """The number of input steps of each sample."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray | None:
        """The class or value of each sample, where it is known."""

    @property
    def outputs(self) -> list[str]:
        """The names of the model's outputs."""
        return [str(name) for name in self.predictions().coords[OUTPUT].values]

    @property
    def is_classified(self) -> bool:
        """Whether samples have classes, so that a prediction can be wrong."""
        return "wrong" in self.samples

    def layer(self, name: str) -> Shown:
        """A layer by its name.

        Raises
        ------
        LayerError
        """
        if name not in self.layers:
            raise LayerError(f"There is no layer '{name}' to look at here: {nearest(name, self.layers)}.")
        return self.layers[name]

    def check(self, sample: int) -> int:
        """A position that there is.

        Raises
        ------
        SampleError
        """
        if not 0 <= sample < len(self):
            raise SampleError(f"There is no sample {sample}: the positions go from 0 to {len(self) - 1}.")
        return sample

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is made once for all who look."""
        return self.kept.get(key, make)


class Live(Source):
    """A model that runs, and its data."""

    def __init__(self, scope: Scope, X: Any, *, name: str, opening: str) -> None:
        super().__init__()
        self.scope, self.name, self._opening = scope, name, opening
        self.X: Sequences = scope.sequences(X)
        self.X.single = False
        self._predictions = scope.predict(self.X)
        self.layers = _layers_of(scope, self.X)

    def _activations_of(self, layer: str, sample: int) -> xr.DataArray:
        found = self._scope.activations(self.X[sample], layer)
        return found if isinstance(found, xr.DataArray) else _alone(found, layer)

    def _states_of(self, layer: str, sample: int) -> xr.Dataset:
        found = self._scope.states(self.X[sample], layer)
        return found if isinstance(found, xr.Dataset) else _alone(found, layer)

    def whole(self, layer: str, state: str) -> xr.DataArray:
        if state:
            return one_state(self.whole_states(layer), state)
        return self.once(("whole", layer), lambda: plain(self._scope.activations(self.X, layer)))  # type: ignore[no-any-return]

    def whole_states(self, layer: str) -> xr.Dataset:
        return self.once(("whole states", layer), lambda: self._scope.states(self.X, layer))  # type: ignore[no-any-return]

    def predictions(self) -> xr.DataArray:
        return self._predictions

    @property
    def _scope(self) -> Scope:
        if self.scope is None:
            raise LayerError("There is no live model.")
        return self.scope

    @property
    def about(self) -> str:
        return f"{self._scope!r}; {self.X.describe()}"

    @property
    def opening(self) -> str:
        return self._opening

    def code(self, layer: str, state: str, sample: int | None) -> str:
        of = "X" if sample is None else f"X[{sample}]"
        verb = f"scope.states({of}, {layer!r})" if state else f"scope.activations({of}, {layer!r})"
        return verb + _of_state(state)

    @property
    def sample_ids(self) -> np.ndarray:
        return np.asarray(self.X.samples)

    @property
    def lengths(self) -> np.ndarray:
        return self.X.lengths

    @property
    def labels(self) -> np.ndarray | None:
        return self.X.labels


class Recorded(Source):
    """A recording, with its model beside it where that is given."""

    def __init__(self, recording: Recording, X: Sequences | None, scope: Scope | None, *, opening: str) -> None:
        super().__init__()
        self.recording, self.scope, self.name, self._opening = recording, scope, recording.name, opening
        self.X = X
        self._predictions = recording.predictions.load()
        self.layers = _recorded_layers(recording)

    def _activations_of(self, layer: str, sample: int) -> xr.DataArray:
        return _of_sample(self.recording.activations(layer), sample, int(self.lengths[sample]))  # type: ignore[no-any-return]

    def _states_of(self, layer: str, sample: int) -> xr.Dataset:
        return _of_sample(self.recording.states(layer), sample, int(self.lengths[sample]))  # type: ignore[no-any-return]

    def whole(self, layer: str, state: str) -> xr.DataArray:
        if state:
            return one_state(self.whole_states(layer), state)
        return plain(self.recording.activations(layer))

    def whole_states(self, layer: str) -> xr.Dataset:
        found: Any = self.recording.states(layer)
        return found

    def predictions(self) -> xr.DataArray:
        return self._predictions

    @property
    def about(self) -> str:
        return "; ".join(f"{what.lower()} {text}" for what, text in self.recording.in_words().items() if what != "Size")

    @property
    def opening(self) -> str:
        return self._opening

    def code(self, layer: str, state: str, sample: int | None) -> str:
        verb = f"recording.states({layer!r})" if state else f"recording.activations({layer!r})"
        one = "" if sample is None else f".isel(sample={sample}).load()"
        return verb + _of_state(state) + one

    @property
    def sample_ids(self) -> np.ndarray:
        return np.asarray(self._predictions.coords[SAMPLE].values)

    @property
    def lengths(self) -> np.ndarray:
        return self.recording.lengths

    @property
    def labels(self) -> np.ndarray | None:
        return self.recording.labels


# Which layers


def _layers_of(scope: Scope, X: Sequences) -> dict[str, Shown]:
    """The layers whose units have a value at each step, seen on the first sample."""
    found = scope.activations(X[0])
    kinds = {layer.name: layer.kind for layer in scope.layers}
    states = {name: data for name, data in _states_on(scope, X)}
    arrays = {node.to_dataset()["activations"].attrs["layer"]: node.to_dataset()["activations"] for node in found.children.values()}
    shown = {}
    for name in dict.fromkeys([*arrays, *states]):
        of_states = states.get(name)
        known = [""] if name in arrays and _is_plain(arrays[name]) else []
        known += [] if of_states is None else _state_names(of_states)
        if known:
            units = plain(arrays[name]) if "" in known else one_state(of_states, known[0])
            shown[name] = Shown(name, kinds.get(name, ""), tuple(known), _labels_of(units))
    return shown


def _states_on(scope: Scope, X: Sequences) -> list[tuple[str, xr.Dataset]]:
    from seqscope.states import recurrent_parts

    parts = recurrent_parts(None, scope._engine)
    if not parts:
        return []
    found: Any = scope.states(X[0])
    if isinstance(found, xr.Dataset):
        return [(found.attrs["layer"], found)]
    return [(node.to_dataset().attrs["layer"], node.to_dataset()) for node in found.children.values()]


def _recorded_layers(recording: Recording) -> dict[str, Shown]:
    shown = {}
    for name in dict.fromkeys([*recording.layers, *recording.recurrent]):
        array: Any = recording.activations(name) if name in recording.layers else None
        states: Any = recording.states(name) if name in recording.recurrent else None
        known = [""] if array is not None and _is_plain(array.isel(sample=0)) else []
        known += [] if states is None else _state_names(states)
        if known:
            units = plain(array) if "" in known else one_state(states, known[0])
            kind = (array if array is not None else states).attrs.get("kind", "")
            shown[name] = Shown(name, str(kind), tuple(known), _labels_of(units))
    return shown


def _is_plain(array: xr.DataArray) -> bool:
    """Whether an array of one sample is a value for each step and unit."""
    return set(array.dims) in ({TIME, UNIT}, {STEP, UNIT})


def _labels_of(array: xr.DataArray) -> tuple[Hashable, ...]:
    return tuple(array.coords[UNIT].values.tolist()) if UNIT in array.coords else tuple(range(array.sizes[UNIT]))


def _state_names(states: xr.Dataset) -> list[str]:
    ways = states.coords[DIRECTION].values.tolist() if DIRECTION in states.dims else [""]
    return [f"{name}.{way}" if way else str(name) for way in ways for name in states.data_vars]


# Arrays in one shape


def one_state(states: xr.Dataset, state: str) -> xr.DataArray:
    """One state of one direction, with the attributes of the layer: "c", "h.backward"."""
    name, _, way = state.partition(".")
    array = states[name] if not way else states[name].sel({DIRECTION: way}, drop=True)
    called = STATE_NAMES.get(name, name) + (f", {way}" if way else "")
    return plain(array.assign_attrs(states.attrs | array.attrs | {"state": name, "long_name": called}))


def plain(array: Any) -> xr.DataArray:
    """An array whose last dim is `unit`, whatever its own name."""
    renamed: xr.DataArray = array.rename({PROJECTION: UNIT}) if PROJECTION in array.dims else array
    clock = STEP if STEP in renamed.dims else TIME
    return renamed.transpose(..., clock, UNIT)


def _of_state(state: str) -> str:
    name, _, way = state.partition(".")
    return (f'["{name}"]' if name else "") + (f'.sel(direction="{way}")' if way else "")


def _of_sample(data: Any, sample: int, length: int) -> Any:
    """One sample, read, without the padding behind it."""
    one = data.isel({SAMPLE: sample}).load()
    if TIME in one.dims:
        return one.isel({TIME: slice(length)})
    first = one if isinstance(one, xr.DataArray) else one[next(iter(one.data_vars))]
    others = [dim for dim in first.dims if dim != STEP]
    there = int(first.notnull().any(others).sum()) if STEP in first.dims else 0
    return one.isel({STEP: slice(there)}) if STEP in one.dims else one


def _alone(tree: xr.DataTree, layer: str) -> Any:
    raise LayerError(f"'{layer}' stands for several layers: {', '.join(map(str, tree.children))}.")


# Samples


def table_of(predictions: xr.DataArray, ids: np.ndarray, lengths: np.ndarray, labels: np.ndarray | None) -> pd.DataFrame:
    """The table of samples. Of outputs with steps, the last step with a value is taken."""
    last = _last(predictions)
    values, names = last.values, [str(name) for name in last.coords[OUTPUT].values]
    columns: dict[str, Any] = {SAMPLE: ids}
    if labels is not None:
        columns[LABEL] = labels
    classes = len(names) > 1
    missing = np.isnan(values).all(axis=1)
    best = np.where(missing, 0, np.nan_to_num(values, nan=-np.inf).argmax(axis=1))
    if classes:
        predicted = np.array(names, dtype=object)[best]
        columns["prediction"] = np.where(missing, "", predicted)
    columns["score"] = np.where(missing, np.nan, values[np.arange(len(values)), best])
    columns[LENGTH] = lengths
    if classes and labels is not None and not (labels.dtype.kind == "f" and (labels != np.round(labels)).any()):
        columns["wrong"] = ~missing & (np.array([str(label) for label in labels.tolist()]) != predicted.astype(str))
    return pd.DataFrame(columns)


def _last(predictions: xr.DataArray) -> xr.DataArray:
    if OUTPUT_TIME not in predictions.dims:
        return predictions.transpose(SAMPLE, OUTPUT)
    filled = predictions.ffill(OUTPUT_TIME) if bool(predictions.isnull().any()) else predictions
    return filled.isel({OUTPUT_TIME: -1}).transpose(SAMPLE, OUTPUT)
