"""The states of recurrent layers over a data set: hidden states, memory cells and gates, as the engine captures them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope import cells
from seqscope.axes import Reading
from seqscope.collect import Collected, collect
from seqscope.engines.base import BACKWARD, FORWARD, STATES, Engine, HasStates
from seqscope.errors import LayerError, UnsupportedError, about_layer, nearest, quoted, warn
from seqscope.feed import Feed
from seqscope.labelled import DIRECTION, PROJECTION, SAMPLE, STATE_NAMES, UNIT, Part, parts_result
from seqscope.layers import Layer
from seqscope.selection import NEVER_RAN
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen


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


@dataclass(frozen=True)
class SeenStates:
    """What was seen of a data set's states.

    Attributes
    ----------
    found : dict of Collected
        By address: states, initial states ("c0"), and values of other layers.
    """

    sequences: Sequences
    feed: Feed
    found: Mapping[str, Collected]

    @property
    def parts(self) -> tuple[str, ...]:
        """The layers whose states were seen."""
        return tuple(dict.fromkeys(address.partition(STATES)[0] for address in self.found if STATES in address))

    def of(self, part: str) -> dict[str, Collected]:
        """The states of one layer, by address."""
        return {address: value for address, value in self.found.items() if address.startswith(f"{part}{STATES}[")}

    def hidden(self, part: str) -> Collected:
        """The hidden states of one layer, for their clock."""
        return next(value for address, value in self.of(part).items() if state_of(address) == "h")

    def kind(self, part: str) -> str:
        """Which equations the layer follows."""
        return kind_of(self.of(part))

    def by_way(self, part: str) -> dict[str, dict[str, np.ndarray]]:
        """The states of one layer by direction ("" where there is one) and name."""
        ways: dict[str, dict[str, np.ndarray]] = {}
        for address, value in self.of(part).items():
            way = next((way for way in (FORWARD, BACKWARD) if f"[{way}]" in address), "")
            ways.setdefault(way, {})[state_of(address)] = value.values
        return ways


def pick(readings: Mapping[str, Reading | LayerError], parts: Sequence[str], also: Sequence[str], *, by_name: bool) -> dict[str, Reading]:
    """The readings of the states of these layers, and of the values of others where they can be read.

    Raises
    ------
    LayerError
        A layer never ran, or has states that can't be labelled.
    """
    chosen: dict[str, Reading] = {}
    missing: dict[str, LayerError] = {}
    for part in parts:
        found = {address: reading for address, reading in readings.items() if address.startswith(f"{part}{STATES}")}
        for address, reading in found.items():
            if isinstance(reading, LayerError) and (by_name or address != f"{part}{STATES}"):  # else it has none, for that reason
                with about_layer(part):
                    raise reading
        chosen |= {address: reading for address, reading in found.items() if isinstance(reading, Reading)}
        if not any(isinstance(reading, Reading) for reading in found.values()):
            why = found.get(f"{part}{STATES}")
            missing[part] = why if isinstance(why, LayerError) else LayerError(NEVER_RAN)
    if missing and (by_name or len(missing) == len(parts)):
        part, why = next(iter(missing.items()))
        with about_layer(part):
            raise why
    if missing:
        warn(f"Left out, since they never ran for this input: {quoted(list(missing))}.")
    others = {name: readings.get(name) for name in also}
    return chosen | {name: reading for name, reading in others.items() if isinstance(reading, Reading)}


def recurrent_parts(layers: str | Sequence[str] | None, engine: Engine) -> tuple[str, ...]:
    """The recurrent layers that are meant; none of a model that has none, where nothing is named."""
    if layers is None:
        return choose_recurrent(None, engine).parts if isinstance(engine, HasStates) and engine.recurrent_parts else ()
    return choose_recurrent(layers, engine).parts if layers else ()


def one_recurrent(layer: str | None, engine: Engine) -> str:
    """The one recurrent layer that is meant; the only one where none is named.

    Raises
    ------
    UnsupportedError
        There are several.
    """
    wanted = choose_recurrent(layer, engine)
    if len(wanted.parts) > 1:
        raise UnsupportedError(f"One recurrent layer is taken at a time, and there are {quoted(wanted.parts)}: name one.")
    return wanted.parts[0]


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
        untold = " ".join(f"The states of '{name}' can't be told: {reason}." for name, reason in engine.stateless.items())
        if not parts:
            none = f"{engine.model_name} has no recurrent layer, so no states: `activations` gives what its layers put out."
            raise UnsupportedError(untold or none)
        if untold:
            warn(f"Left out: {untold}")
        return Wanted(_each_once([layer.name for layer in engine.layers if layer.name in parts], parts), one=False, by_name=False)
    names = [layers] if isinstance(layers, str) or not isinstance(layers, Iterable) else list(layers)
    if not names:
        raise LayerError("No layer was asked for: give a name, a glob, or nothing for all of them.")
    for name in names:
        if isinstance(name, str) and name in engine.stateless:
            raise UnsupportedError(f"The states of '{name}' ({engine.by_name[name].type}) can't be told: {engine.stateless[name]}.")
    found = [name for wanted in names for name in _named(wanted, parts, engine.by_name)]
    chosen = _each_once(found, parts)
    return Wanted(
        chosen, one=isinstance(layers, str) and layers in parts and len(chosen) == 1, by_name=all(name in parts for name in names)
    )


def _each_once(names: Sequence[str], parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
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


def kind_of(found: Mapping[str, Collected]) -> str:
    """Which equations states follow, told by their names."""
    return kind_of_names({state_of(address) for address in found})


def kind_of_names(names: Set[str]) -> str:
    """Which equations states of these names follow."""
    return next(kind for kind, states in cells.STATES.items() if names >= set(states))


def in_order(found: Mapping[str, Collected]) -> dict[str, Part]:
    """The states of one layer by name: both directions in one array, a projected h on a dim of its own.

    Parameters
    ----------
    found : dict of Collected
        By address.
    """
    made: dict[str, Part] = {}
    for name in cells.STATES[kind_of(found)]:
        axes, values = _both_ways({address: value for address, value in found.items() if state_of(address) == name})
        made[name] = axes, values, f"{STATE_NAMES[name]} {name}"
    if "c" in made and made["h"][1].shape != made["c"][1].shape:
        dims, h, called = made["h"]
        made["h"] = tuple(PROJECTION if dim == UNIT else dim for dim in dims), h, called
    return made


def _both_ways(found: Mapping[str, Collected]) -> tuple[tuple[str, ...], np.ndarray]:
    """One state of a layer, with a dim `direction` behind the sample where there are two."""
    first = next(iter(found.values()))
    if len(found) == 1:
        return first.dims, first.values
    by_way = {way: value.values for way in (FORWARD, BACKWARD) for address, value in found.items() if f"[{way}]" in address}
    axis = first.dims.index(SAMPLE) + 1
    return (*first.dims[:axis], DIRECTION, *first.dims[axis:]), np.stack(list(by_way.values()), axis=axis)


# What the verbs of the scope do with them


def see_states(
    specimen: Specimen,
    X: Any,
    parts: Sequence[str],
    *,
    also: Sequence[str] = (),
    by_name: bool = True,
    batch_size: int | None = None,
    show_progress: bool | None = None,
) -> SeenStates:
    """The states of recurrent layers over a data set, the initial ones among them, and the values of other layers.

    Parameters
    ----------
    by_name : bool
        Whether the layers were asked for by their names, so that not to see one is an error.
    """
    sequences, feed = specimen.take_in(X)
    capture = [f"{part}{STATES}" for part in parts] + list(also)
    picked = pick(specimen.readings(feed, sequences, capture), parts, also, by_name=by_name)
    found = collect(feed, sequences, picked, capture, batch_size=batch_size, show_progress=show_progress)
    specimen.show(sequences)
    return SeenStates(sequences, feed, found)


def label_states(
    specimen: Specimen, part: str, seen: SeenStates, parts: Mapping[str, Part], method: str, *, whole: Sequences | None = None
) -> xr.Dataset:
    """Label what was made of a layer's states.

    Parameters
    ----------
    whole : Sequences, optional
        The data set that the parts are of, where `seen` has but one sequence of each length.
    """
    by_name, sequences = specimen.engine.by_name, whole or seen.sequences
    layer = by_name.get(part) or by_name[part.rpartition(".")[0]]  # one of several cells
    h = seen.hidden(part)
    reading = specimen.readings(seen.feed, seen.sequences, (part,)).get(part) if part in by_name else None
    fields = specimen.place_steps(seen.feed, seen.sequences, {part: reading}, {part: h}) if isinstance(reading, Reading) else {}
    return parts_result(
        parts,
        on_input_clock=h.on_input_clock,
        samples=sequences.sample_axis,
        clock=sequences.clock,
        attrs=specimen.attrs(method) | {"layer": part, "kind": seen.kind(part), "layer_type": layer.type},
        fields=fields.get(part),
    )
