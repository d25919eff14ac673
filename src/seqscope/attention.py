"""Attention weights over a data set: which layers have them, and what their axes are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqscope.axes import Reading
from seqscope.collect import Collected
from seqscope.engines.base import WEIGHTS, Engine, HasStates
from seqscope.errors import LayerError, UnsupportedError, about_layer, nearest, quoted
from seqscope.labelled import HEAD, KEY, QUERY
from seqscope.selection import Request, select


@dataclass(frozen=True)
class Wanted:
    """Which layers' weights are wanted.

    Attributes
    ----------
    layers : dict of bool
        The attention layers, and of each whether it was asked for by its own name, so that not to see it is an error.
    one : bool
        Whether a single array is, rather than a tree.
    """

    layers: Mapping[str, bool]
    one: bool

    @property
    def capture(self) -> tuple[str, ...]:
        """What the engine is to keep."""
        return tuple(f"{name}{WEIGHTS}" for name in self.layers)


def choose(layers: str | Sequence[str] | None, engine: Engine) -> Wanted:
    """Find the attention layers that are meant; the name of a container around some means those.

    Raises
    ------
    LayerError
        No layer has such a name; the nearest ones are given.
    UnsupportedError
        A layer has no attention weights; those that have are given.
    """
    if not isinstance(engine, HasStates):
        raise UnsupportedError(f"The attention weights of {engine.framework} models can't be read yet.")
    there = engine.attention_layers
    if layers is None and not there:
        raise UnsupportedError(
            f"{engine.model_name} has no attention layer, so no attention weights: `activations` gives what its layers put out."
        )
    requests = select(layers, tuple(engine.by_name), there).requests
    meant = [(name, request) for request in requests for name in _inside(request, engine)]
    by_name = {name: any(request.by_name and name == request.layer for other, request in meant if other == name) for name, _ in meant}
    named = isinstance(layers, str) and layers in engine.by_name
    return Wanted(by_name, one=named and len(by_name) == 1)


def _inside(request: Request, engine: HasStates) -> list[str]:
    """The attention layers that one request means."""
    there = engine.attention_layers
    known: Mapping[str, object] = engine.by_name  # type: ignore[attr-defined]
    if request.place is not None:
        raise LayerError(f"No layer is named '{request.place}': {nearest(request.place, [*there, *known])}.")
    if request.layer in there:
        return [request.layer]
    found = [name for name in there if name.startswith(f"{request.layer}.")]
    if not found:
        layer = engine.by_name[request.layer]  # type: ignore[attr-defined]
        those = f"ask for one of {quoted(there)}" if there else f"no layer of this model has; `activations` gives what '{layer.name}' puts out"
        raise UnsupportedError(f"'{layer.name}' ({layer.type}) is a layer of kind '{layer.kind}' and has no attention weights: {those}.")
    return found
