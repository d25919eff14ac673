"""The states of recurrent layers over a data set: hidden states, memory cells and gates, as the engine captures them."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqscope import cells
from seqscope.axes import Reading
from seqscope.collect import Collected
from seqscope.engines.base import BACKWARD, FORWARD, STATES, Engine, HasStates
from seqscope.errors import LayerError, UnsupportedError, about_layer, nearest, quoted
from seqscope.labelled import DIRECTION, PROJECTION, SAMPLE, UNIT
from seqscope.layers import Layer


@dataclass(frozen=True)
class Wanted:
    """Which layers' states are wanted.

    Attributes
    ----------
    parts : tuple of str
        The layers, those of a stack one by one.
    one : bool
        Whether a single Dataset is, rather than a tree.
    by_name : bool
        Whether they were asked for by their own names, so that not to see one is an error.
    """

    parts: tuple[str, ...]
    one: bool
    by_name: bool

    @property
    def capture(self) -> tuple[str, ...]:
        """What the engine is to capture."""
        return tuple(f"{part}{STATES}" for part in self.parts)

    def pick(self, readings: Mapping[str, Reading | LayerError], *, initial: bool = False) -> dict[str, dict[str, Reading]]:
        """The readings of the states of each layer, by address.

        Parameters
        ----------
        initial : bool
            Whether the states before the first step are wanted too.

        Raises
        ------
        LayerError
            A layer never ran, or has states that can't be labelled.
        """
        found = {part: _of_part(part, readings, initial=initial) for part in self.parts}
        missing = [part for part in self.parts if not found[part]]
        if missing and (self.by_name or len(missing) == len(found)):
            raise LayerError(f"The layer '{missing[0]}' never ran for this input.")
        if missing:
            warnings.warn(f"Left out, since they never ran for this input: {quoted(missing)}.", stacklevel=4)
        return {part: addresses for part, addresses in found.items() if addresses}


def _of_part(part: str, readings: Mapping[str, Reading | LayerError], *, initial: bool) -> dict[str, Reading]:
    chosen: dict[str, Reading] = {}
    for address, reading in readings.items():
        if not address.startswith(f"{part}{STATES}") or (not initial and state_of(address).endswith("0")):
            continue
        if isinstance(reading, LayerError):
            with about_layer(part):
                raise reading
        chosen[address] = reading
    return chosen


def choose_recurrent(layers: str | Sequence[str] | None, engine: Engine) -> Wanted:
    """Find the recurrent layers that are meant; a stack's name means all its layers.

    Raises
    ------
    LayerError
        No layer has such a name; the nearest ones are given.
    UnsupportedError
        A layer is not recurrent; those that are are given.
    """
    if not isinstance(engine, HasStates):
        raise UnsupportedError(f"The states of {engine.framework} models can't be read yet.")
    parts = engine.recurrent_parts
    if layers is None:
        if not parts:
            raise UnsupportedError(
                f"{engine.model_name} has no recurrent layer, so no states: `activations` gives what its layers put out."
            )
        return Wanted(_each_once(parts, parts), one=False, by_name=False)
    names = [layers] if isinstance(layers, str) else list(layers)
    found = [name for wanted in names for name in _named(wanted, parts, engine.by_name)]
    chosen = _each_once(found, parts)
    return Wanted(
        chosen, one=isinstance(layers, str) and layers in parts and len(chosen) == 1, by_name=all(name in parts for name in names)
    )


def _each_once(names: Sequence[str] | Mapping[str, object], parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for name in names for part in parts[name]))


def _named(wanted: str, parts: Mapping[str, tuple[str, ...]], by_name: Mapping[str, Layer]) -> list[str]:
    """The recurrent layers that a name or a glob means."""
    if not isinstance(wanted, str):
        raise LayerError(f"A layer was asked for by {wanted!r}: expected a name, a glob, or a list of them; {nearest('', parts)}.")
    if wanted in parts:
        return [wanted]
    matching = fnmatch.filter(parts, wanted)
    if matching:
        return matching
    there = f"ask for one of {quoted(parts)}" if parts else f"no layer of this model has; `activations` gives what '{wanted}' puts out"
    if wanted in by_name:
        layer = by_name[wanted]
        raise UnsupportedError(f"'{wanted}' ({layer.type}) is a layer of kind '{layer.kind}' and has no states: {there}.")
    raise LayerError(f"No layer is named '{wanted}': {nearest(wanted, [*parts, *by_name])}.")


def state_of(address: str) -> str:
    """The state that a captured value is.

    >>> state_of("lstm (states)[backward][c]")
    'c'
    """
    return address.rpartition("[")[2].rstrip("]")


def in_order(found: Mapping[str, Collected]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """The states of one layer by name, with their dims: both directions in one array, a projected h on a dim of its own.

    Parameters
    ----------
    found : dict of Collected
        By address.
    """
    names = {state_of(address) for address in found}
    kind = next(kind for kind, states in cells.STATES.items() if names >= set(states))
    made: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name in cells.STATES[kind]:
        made[name] = _both_ways({address: value for address, value in found.items() if state_of(address) == name})
    if kind == "lstm" and made["h"][1].shape != made["c"][1].shape:
        dims, h = made["h"]
        made["h"] = tuple(PROJECTION if dim == UNIT else dim for dim in dims), h
    return made


def _both_ways(found: Mapping[str, Collected]) -> tuple[tuple[str, ...], np.ndarray]:
    """One state of a layer, with a dim `direction` behind the sample where there are two."""
    first = next(iter(found.values()))
    if len(found) == 1:
        return first.dims, first.values
    by_way = {way: value.values for way in (FORWARD, BACKWARD) for address, value in found.items() if f"[{way}]" in address}
    axis = first.dims.index(SAMPLE) + 1
    return (*first.dims[:axis], DIRECTION, *first.dims[axis:]), np.stack(list(by_way.values()), axis=axis)
