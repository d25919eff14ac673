"""Attention weights over a data set: which layers have them, and what their axes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from seqscope import labelled
from seqscope.axes import Reading
from seqscope.collect import Collected
from seqscope.engines.base import WEIGHTS, Engine, HasStates
from seqscope.errors import LayerError, UnsupportedError, about_layer, nearest, quoted, warn
from seqscope.feed import Feed
from seqscope.labelled import HEAD, KEY, QUERY, SAMPLE
from seqscope.layers import Layer
from seqscope.selection import NEVER_RAN, Request, select
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

AXES = (SAMPLE, HEAD, QUERY, KEY)


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
    meant: dict[str, bool] = {}
    for request in requests:
        for name in _inside(request, there, engine.by_name):
            meant[name] = meant.get(name, False) or (request.by_name and name == request.layer)
    return Wanted(meant, one=isinstance(layers, str) and layers in engine.by_name and len(meant) == 1)


def _inside(request: Request, there: Sequence[str], by_name: Mapping[str, Layer]) -> list[str]:
    """The attention layers that one request means."""
    if request.place is not None:
        raise LayerError(f"No layer is named '{request.place}': {nearest(request.place, [*there, *by_name])}.")
    found = [name for name in there if name == request.layer or name.startswith(f"{request.layer}.")]
    if not found:
        layer = by_name[request.layer]
        others = f"ask for one of {quoted(there)}" if there else "no layer of this model has"
        if layer.kind == "attention":
            raise UnsupportedError(
                f"'{layer.name}' ({layer.type}) computes its attention in a way of its own, so its weights can't be told."
            )
        if layer.kind == "pooling_head":
            raise UnsupportedError(
                f"'{layer.name}' ({layer.type}) pools over time and has no queries: attribute(X, 'attention_pooling') gives its weights."
            )
        raise UnsupportedError(f"'{layer.name}' ({layer.type}) is a layer of kind '{layer.kind}' and has no attention weights: {others}.")
    return found


def pick(readings: Mapping[str, Reading | LayerError], wanted: Wanted) -> dict[str, Reading]:
    """The readings of the wanted layers' weights. What came with a glob or with all and never ran is left out with a warning.

    Raises
    ------
    LayerError
        A layer never ran, or has weights that can't be labelled.
    """
    chosen: dict[str, Reading] = {}
    missing = []
    for (name, by_name), address in zip(wanted.layers.items(), wanted.capture, strict=True):
        with about_layer(name):
            if address in readings:
                chosen[address] = _readable(readings[address])
            elif by_name:
                raise LayerError(NEVER_RAN)
            else:
                missing.append(name)
    if not chosen:
        with about_layer(missing[0]):
            raise LayerError(NEVER_RAN)
    if missing:
        warn(f"Left out, since they never ran for this input: {quoted(missing)}.")
    return chosen


def _readable(reading: Reading | LayerError) -> Reading:
    if isinstance(reading, LayerError):
        raise reading
    if not set(AXES) <= set(reading.order):
        raise LayerError(f"has attention weights with axes {reading.order}: expected (sample, head, query, key), attention over time alone")
    return reading


def as_many_as_input(found: Collected, lengths: np.ndarray) -> dict[str, bool]:
    """Whether there are as many queries, and as many keys, as the input has steps, whatever its length: what comes behind them is NaN."""
    rows = {int(length): row for row, length in enumerate(lengths)}
    known = {length: ~np.isnan(found.values[row]) for length, row in rows.items()}
    axes = {dim: found.dims.index(dim) - 1 for dim in (QUERY, KEY)}  # the sample axis is gone
    return {dim: all(_extent(there, axis) == length for length, there in known.items()) for dim, axis in axes.items()}


def _extent(there: np.ndarray, axis: int) -> int:
    """How far along an axis there are values."""
    return int(np.flatnonzero(there.any(axis=tuple(other for other in range(there.ndim) if other != axis))).max(initial=-1)) + 1


def label(specimen: Specimen, name: str, found: Collected, feed: Feed, sequences: Sequences) -> xr.DataArray:
    """Label a layer's weights: queries and keys by the input's time, where they are its steps."""
    layer = specimen.engine.by_name[name]
    reading = specimen.readings(feed, sequences, (name,)).get(name)
    as_many = as_many_as_input(found, sequences.lengths)
    with_steps = {name: reading} if isinstance(reading, Reading) and as_many[labelled.QUERY] else {}
    in_place = all(specimen.on_input_clock(feed, sequences, with_steps).values())
    return labelled.attention_result(
        found.values,
        found.dims,
        on_input_clock={dim: same and in_place for dim, same in as_many.items()},
        samples=sequences.sample_axis,
        clock=sequences.clock,
        attrs=specimen.attrs("attention") | {"layer": name, "kind": layer.kind, "layer_type": layer.type},
    )
