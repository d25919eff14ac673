"""The layers of a Keras model, as data and as objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from seqscope.engines import keras_cells, keras_kinds
from seqscope.engines.base import InputHint
from seqscope.layers import Layer


@dataclass(frozen=True)
class Described:
    """A model's layers, as data and as objects.

    Attributes
    ----------
    n_variables : int
        As many as the model held when it was described.
    rows : tuple of Layer
        The layers proper.
    by_name : dict of Layer
        With containers, what wrappers wrap, and cells.
    objects : dict
        The Keras layers by name.
    looped : dict of str
        What runs inside a recurrent layer's loop, and that layer's name.
    hints : tuple of InputHint
    recurrent : list
        All recurrent layers.
    states, seeds : list of variables
        The states of stateful layers, and the states of random generators.
    stepwise : bool
        Whether a layer is called once for every step, by a TimeDistributed.
    parts : dict of tuples
        The layers that have states, each with the parts that states are captured of: its stacked cells, else itself.
    unknown : dict of str
        Recurrent layers whose states can't be told, and why.
    """

    n_variables: int
    rows: tuple[Layer, ...]
    by_name: dict[str, Layer]
    objects: dict[str, Any]
    looped: dict[str, str]
    hints: tuple[InputHint, ...]
    recurrent: list[Any]
    states: list[Any]
    seeds: list[Any]
    stepwise: bool
    parts: dict[str, tuple[str, ...]]
    unknown: dict[str, str]

    def with_states(self, parts: Sequence[str]) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """The recurrent layers that these parts belong to, each with those of its parts."""
        found: dict[str, tuple[Any, tuple[str, ...]]] = {}
        for name, of_layer in self.parts.items():
            if name in self.objects and (there := tuple(part for part in of_layer if part in parts)):
                found[name] = self.objects[name], there
        return found


def describe(model: Any) -> Described:
    """Walk through a model."""
    places = list(_walk(model))
    objects = {place.name: place.layer for place in places}
    rows = _rows(places)
    by_name = {
        place.name: rows.get(place.name) or _layer(place.name, place.layer, weights_of(place.layer, recurse=True)) for place in places
    }
    recurrent = [layer for layer in objects.values() if keras_kinds.is_recurrent(layer)]
    hints = (keras_kinds.input_hint(name, objects[name]) for name in rows)
    with_cells = {
        name: objects[name] for name in rows if keras_kinds.is_recurrent(objects[name]) or keras_kinds.is_bidirectional(objects[name])
    }
    unknown = {name: reason for name, layer in with_cells.items() if (reason := keras_cells.why_unknown(layer)) is not None}
    parts: dict[str, tuple[str, ...]] = {}
    for name, layer in with_cells.items():
        if name not in unknown:
            of_layer = keras_cells.parts_of(name, layer)
            parts |= {name: of_layer} | {part: (part,) for part in of_layer}
    return Described(
        n_variables=len(model.variables),
        rows=tuple(rows.values()),
        by_name=by_name,
        objects=objects,
        looped={place.name: place.loop for place in places if place.loop is not None},
        hints=tuple(hint for hint in hints if hint is not None),
        recurrent=recurrent,
        states=[state for layer in recurrent if layer.stateful for state in keras.tree.flatten(layer.states or [])],
        seeds=[variable for variable in model.variables if variable.name == "seed_generator_state"],
        stepwise=any(keras_kinds.is_time_distributed(layer) for layer in objects.values()),
        parts=parts,
        unknown=unknown,
    )


@dataclass(frozen=True)
class _Place:
    """A layer with its dotted name, the recurrent layer in whose loop it runs, and whether it is part of a row."""

    name: str
    layer: Any
    loop: str | None = None
    inside_row: bool = False


def _walk(model: Any) -> Iterator[_Place]:
    """Every layer; the model itself where it is one, or has weights of its own."""
    taken: set[str] = set()
    is_one = not model._layers or keras_kinds.is_atomic(model)
    if is_one or weights_of(model, recurse=False):
        yield _Place(_free_name(str(model.name), taken), model)
    yield from _below(model, f"{model.name}." if is_one else "", _Place("", model, inside_row=is_one), taken)


def _below(layer: Any, prefix: str, above: _Place, taken: set[str]) -> Iterator[_Place]:
    """The layers inside a layer."""
    for child in layer._layers:
        if isinstance(child, keras.layers.InputLayer) or child is getattr(layer, "_functional", None):  # a Sequential's other form
            continue
        loop = prefix.removesuffix(".") if above.loop is None and keras_kinds.is_recurrent(layer) else above.loop
        place = _Place(_free_name(f"{prefix}{child.name}", taken), child, loop, above.inside_row)
        yield place
        inside = _Place(place.name, child, loop, above.inside_row or keras_kinds.is_atomic(child))
        yield from _below(child, f"{place.name}.", inside, taken)


def _free_name(name: str, taken: set[str]) -> str:
    """The name, numbered where another layer has it: subclassed models may hold two of one name."""
    free, number = name, 1
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free)
    return free


def _rows(places: Sequence[_Place]) -> dict[str, Layer]:
    """The layers proper, each once; a parameter that several share counts with the first."""
    rows: dict[str, Layer] = {}
    seen: set[int] = set()
    counted: set[int] = set()
    for place in places:
        if place.inside_row or place.loop is not None or id(place.layer) in seen or not _is_row(place.layer):
            continue
        seen.add(id(place.layer))
        weights = [weight for weight in weights_of(place.layer, recurse=keras_kinds.is_atomic(place.layer)) if id(weight) not in counted]
        counted.update(id(weight) for weight in weights)
        rows[place.name] = _layer(place.name, place.layer, weights)
    return rows


def _is_row(layer: Any) -> bool:
    """Whether a layer is a row: it holds no others, or is one with them, or has weights of its own besides."""
    return not layer._layers or keras_kinds.is_atomic(layer) or bool(weights_of(layer, recurse=False))


def weights_of(layer: Any, *, recurse: bool) -> list[Any]:
    """The weights of a layer, without the states of recurrent layers and random generators."""
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    if keras_kinds.is_recurrent(layer) and layer.stateful:
        states = {id(state) for state in keras.tree.flatten(layer.states or [])}
        own = [variable for variable in own if id(variable) not in states]
    if recurse:
        own += [weight for child in layer._layers for weight in weights_of(child, recurse=True)]
    return list({id(variable): variable for variable in own}.values())


def _layer(name: str, layer: Any, variables: Sequence[Any]) -> Layer:
    trainable = {id(variable) for variable in layer.trainable_variables}
    return Layer(
        name=name,
        kind=keras_kinds.kind_of(layer),
        type=type(layer).__name__,
        description=keras_kinds.description_of(layer),
        n_params=sum(int(np.prod(variable.shape)) for variable in variables),
        trainable=sum(int(np.prod(variable.shape)) for variable in variables if id(variable) in trainable),
        native_dims=keras_kinds.native_dims(layer),
        directions=keras_kinds.directions_of(layer),
        reach=keras_kinds.reach_of(layer),
    )
