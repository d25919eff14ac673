"""What of a model's layers can be looked at: those whose units have a value at each step; their arrays in one shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xarray as xr

from seqscope.errors import DataError
from seqscope.labelled import DIRECTION, PROJECTION, SAMPLE, STATE_NAMES, STEP, TIME, UNIT
from seqscope.scope import Scope
from seqscope.sequences import Sequences
from seqscope.states import recurrent_parts

if TYPE_CHECKING:
    from seqscope.recording.reading import Recording

Labels = tuple[Hashable, ...]


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
    others : dict of tuples
        Of those states that have others: what both directions put out is twice as many, what is projected are fewer.
    """

    name: str
    kind: str
    states: tuple[str, ...]
    units: Labels
    others: Mapping[str, Labels] = field(default_factory=dict)

    @property
    def is_recurrent(self) -> bool:
        """Whether it has states besides what it puts out."""
        return any(self.states)

    def units_of(self, state: str) -> Labels:
        """The labels of the units that a state has."""
        return self.others.get(state, self.units)


def layers_of(scope: Scope, first: Sequences) -> dict[str, Shown]:
    """The layers of a model, seen on a data set of one sample.

    Parameters
    ----------
    first : Sequences
        One sample.
    """
    arrays, states = by_layer(scope.activations(first[0])), _states_of(scope, first)
    kinds = {layer.name: layer.kind for layer in scope.layers}
    names = dict.fromkeys([*arrays, *states])
    found = {name: shown(name, kinds.get(name, ""), arrays.get(name), states.get(name)) for name in names}
    return {name: layer for name, layer in found.items() if layer is not None}


def _states_of(scope: Scope, first: Sequences) -> dict[str, Any]:
    return by_layer(scope.states(first[0])) if recurrent_parts(None, scope._engine) else {}


def by_layer(found: Any) -> dict[str, Any]:
    """The arrays, or the Datasets of states, of what a verb gave, by the names of their layers."""
    if not isinstance(found, xr.DataTree):
        return {found.attrs["layer"]: found}
    datasets = [node.to_dataset() for node in found.children.values()]
    values = [data.get("activations", data) for data in datasets]
    return {str(value.attrs["layer"]): value for value in values}


def recorded_layers(recording: Recording) -> tuple[dict[str, Shown], list[str]]:
    """The layers of a recording, and a sentence for each that can't be read."""
    layers: dict[str, Shown] = {}
    faults: list[str] = []
    for name in dict.fromkeys([*recording.layers, *recording.recurrent]):
        array = _tried(recording.activations, name, faults) if name in recording.layers else None
        states = _tried(recording.states, name, faults) if name in recording.recurrent else None
        of = states if array is None else array
        layer = None if of is None else shown(name, str(of.attrs.get("kind", "")), array, states)
        if layer is not None:
            layers[name] = layer
    return layers, faults


def _tried(read: Callable[[str], Any], layer: str, faults: list[str]) -> Any:
    try:
        return read(layer)
    except DataError as error:
        faults.append(error.message)
        return None


def shown(name: str, kind: str, array: Any, states: Any) -> Shown | None:
    """What can be looked at of a layer; None where its units have no steps.

    Parameters
    ----------
    array : DataArray, optional
        What it puts out.
    states : Dataset, optional
    """
    labels: dict[str, Labels] = {}
    if array is not None and _is_plain(plain(array)):
        labels[""] = _labels_of(plain(array))
    if states is not None:
        labels |= {state: _labels_of(one_state(states, state)) for state in state_names(states)}
    if not labels:
        return None
    units = next(iter(labels.values()))
    return Shown(name, kind, tuple(labels), units, {state: other for state, other in labels.items() if other != units})


def _is_plain(array: xr.DataArray) -> bool:
    """Whether an array is a value for each step and unit, of one sample or of all."""
    return set(array.dims) - {SAMPLE} in ({TIME, UNIT}, {STEP, UNIT})


def _labels_of(array: xr.DataArray) -> Labels:
    return tuple(array.coords[UNIT].values.tolist()) if UNIT in array.coords else tuple(range(array.sizes[UNIT]))


def state_names(states: xr.Dataset) -> list[str]:
    """The states of a layer: "h", "c", ...; of both directions "h.forward", ..., "h.backward"."""
    ways = states.coords[DIRECTION].values.tolist() if DIRECTION in states.dims else [""]
    return [f"{name}.{way}" if way else str(name) for way in ways for name in states.data_vars]


def one_state(states: xr.Dataset, state: str) -> xr.DataArray:
    """One state of one direction, with the attributes of the layer: "c", "h.backward"."""
    name, _, way = state.partition(".")
    array = states[name] if not way else states[name].sel({DIRECTION: way}, drop=True)
    called = STATE_NAMES.get(name, name) + (f", {way}" if way else "")
    return plain(array.assign_attrs(states.attrs | array.attrs | {"state": name, "long_name": called}))


def of_unit(states: xr.Dataset, unit: int, direction: str) -> xr.Dataset:
    """The states of one unit, by its position, in one direction ("" where there is one alone); those that are projected left out."""
    one = states.sel({DIRECTION: direction}, drop=True) if direction else states
    return one[[name for name, array in one.data_vars.items() if UNIT in array.dims]].isel({UNIT: unit})


def plain(array: Any) -> xr.DataArray:
    """An array whose last dim is `unit`, whatever its own name."""
    renamed: xr.DataArray = array.rename({PROJECTION: UNIT}) if PROJECTION in array.dims else array
    clock = STEP if STEP in renamed.dims else TIME
    return renamed.transpose(..., clock, UNIT) if {clock, UNIT} <= set(renamed.dims) else renamed


def code_of_state(state: str) -> str:
    """What stands behind a Dataset of states in Python to get one of them."""
    name, _, way = state.partition(".")
    return (f'["{name}"]' if name else "") + (f'.sel(direction="{way}")' if way else "")
