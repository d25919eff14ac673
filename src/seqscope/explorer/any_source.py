"""What is looked at, whatever it is: values, samples and layers, shared by all who look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope.errors import DataError, LayerError, SampleError, nearest
from seqscope.explorer.kept import Kept
from seqscope.explorer.shown import Shown, of_unit, one_state, plain
from seqscope.judged import WRONG, table_of
from seqscope.labelled import OUTPUT
from seqscope.scope import Scope
from seqscope.sequences import Sequences


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
        """The input of a sample: (time, channel), (time) of tokens; None where it is not known.

        Raises
        ------
        SampleError
            There is no such sample, or it is not recorded.
        """
        if self.X is None:
            return None
        self._check_there(sample)
        return self.kept.get(("input", sample), lambda: self.inputs()[sample])  # type: ignore[no-any-return]

    def input_or_none(self, sample: int) -> xr.DataArray | None:
        """The input of a sample; None where it is not known, and where a damaged store has lost it: the rest is still looked at.

        Raises
        ------
        SampleError
            As of `input`.
        """
        try:
            return self.input(sample)
        except DataError:
            return None

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
        SampleError
            There is no such sample, or it is not recorded.
        DataError
            A part of the store is missing or damaged.
        """
        shown = self.layer(layer)
        if state not in shown.states:
            raise LayerError(f"'{layer}' has no state '{state}': {nearest(state, map(repr, shown.states))}.")
        self._check_there(sample)
        return self.kept.get(("values", layer, state, sample), lambda: self._values(shown, state, sample))  # type: ignore[no-any-return]

    def _values(self, shown: Shown, state: str, sample: int) -> xr.DataArray:
        if not state:
            return plain(self._activations_of(shown.name, sample))
        return one_state(self.states(shown.name, sample), state)

    def states(self, layer: str, sample: int) -> xr.Dataset:
        """All states of a recurrent layer in a sample, as `Scope.states` gives them for one sequence.

        Raises
        ------
        SampleError, DataError
            As of `values`.
        """
        self._check_there(sample)
        return self.kept.get(("states", layer, sample), lambda: self._states_of(layer, sample))  # type: ignore[no-any-return]

    def states_of_unit(self, layer: str, sample: int, unit: int, direction: str) -> xr.Dataset:
        """The states of one unit in a sample, each (time); "" where a layer has one direction. A projected state is left out."""
        return of_unit(self.states(layer, sample), unit, direction)

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
        """What the model puts out: (sample, output), or (sample, output_time, output).

        Raises
        ------
        DataError
            That part of a store is missing or damaged.
        """

    # What there is

    @property
    @abstractmethod
    def about(self) -> str:
        """What it is, in a line."""

    @property
    def state(self) -> str:
        """What is to be known before anything is believed: that it is still being written, or damaged; "" where all is well."""
        return ""

    @property
    @abstractmethod
    def opening(self) -> str:
        """The Python that makes `scope` or `recording`, and `X`."""

    @abstractmethod
    def code(self, layer: str, state: str, sample: int | None) -> str:
        """The Python that gives `values` of a sample; of all (`whole`) where it is None."""

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row for each sample: `sample` (its id), `label`, `prediction`, `score`, `length`, `wrong`; what is not known is left out."""
        return table_of(self._known_predictions(), self.sample_ids, self.lengths, self.labels)

    def _known_predictions(self) -> xr.DataArray | None:
        try:
            return self.predictions()
        except DataError:
            return None

    @property
    def there(self) -> np.ndarray:
        """Of which samples there are values: (sample,) of bool. Of a live model of all."""
        return np.ones(len(self), bool)

    def missing(self, sample: int) -> str:
        """Why there are no values of a sample, in a sentence; "" where there are."""
        return ""

    def _check_there(self, sample: int) -> None:
        missing = self.missing(self.check(sample))
        if missing:
            raise SampleError(missing)

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
        """The names of the model's outputs; none where they can't be told."""
        found = self._known_predictions()
        return [] if found is None else [str(name) for name in found.coords[OUTPUT].values]

    @cached_property
    def classes(self) -> np.ndarray | None:
        """The class of each sample, whatever the outputs are called; None where labels are values, are not all known or are one."""
        labels = self.labels
        if labels is None or bool(pd.isna(labels).any()) or len(np.unique(labels)) < 2:
            return None
        return None if labels.dtype.kind == "f" and (labels != np.round(labels)).any() else labels

    @property
    def is_classified(self) -> bool:
        """Whether samples have classes, so that a prediction can be wrong."""
        return WRONG in self.samples

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
