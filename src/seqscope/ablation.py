"""Units of a layer that are switched off or clamped: which they are, and at what they are held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope.axes import Reading
from seqscope.collect import collect, few_rows
from seqscope.engines.base import STATES, HasHolds, HasStates
from seqscope.engines.holds import Held, Hold
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError, about_layer, nearest
from seqscope.feed import Feed
from seqscope.labelled import CALL, UNIT
from seqscope.selection import Request
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen
from seqscope.states import pick, state_of


@dataclass(frozen=True)
class Units:
    """The units of a layer that can be held.

    Attributes
    ----------
    layer : str
        The layer, as it was asked for.
    name : str
        What holds them: of a stack its last layer, else the layer itself.
    count : int
    axis : int or None
        As in `Hold`: None where h is held at every step.
    capture : str
        What to capture to see their values.
    readings : dict of Reading
        Those values: one for each direction of a recurrent layer, the forward units first.
    """

    layer: str
    name: str
    count: int
    axis: int | None
    capture: str
    readings: Mapping[str, Reading]

    def positions(self, units: Any) -> np.ndarray:
        """The units that are meant, as positions.

        Parameters
        ----------
        units : int, sequence of int, slice, or bool array (unit,)

        Raises
        ------
        DataError
            There is no such unit, none was given, or one twice.
        """
        chosen = np.arange(self.count)[units] if isinstance(units, slice) else self._listed(units)
        if not len(chosen):
            raise DataError(f"No unit of '{self.layer}' was given: it has {self.count}, 0 to {self.count - 1}.")
        wrong = chosen[(chosen < 0) | (chosen >= self.count)]
        if len(wrong):
            raise DataError(f"There is no unit {wrong[0]} in '{self.layer}', which has {self.count}: 0 to {self.count - 1}.")
        twice = [unit for place, unit in enumerate(chosen) if unit in chosen[:place]]
        if twice:
            raise DataError(f"Unit {twice[0]} of '{self.layer}' was given twice.")
        return chosen

    def _listed(self, units: Any) -> np.ndarray:
        array = np.atleast_1d(np.asarray(units if hasattr(units, "__len__") or np.ndim(units) == 0 else list(units)))
        if array.dtype == bool and array.shape == (self.count,):
            return np.flatnonzero(array)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            kind = f"a mask of shape {array.shape}" if array.dtype == bool else repr(units)
            raise DataError(
                f"The units of '{self.layer}' were given as {kind}: expected positions from 0 to {self.count - 1}, a slice, or a bool mask "
                f"of length {self.count}."
            )
        return array.astype(np.int64)

    def values(self, positions: np.ndarray, value: Any, specimen: Specimen, reference: Any) -> np.ndarray:
        """At what some of the units are held, (unit given,).

        Raises
        ------
        DataError
            The value is of no known kind, does not fit in number, or is not finite.
        """
        if reference is not None and not (isinstance(value, str) and value == "mean"):
            raise DataError("reference= is the data over which means are taken: give it with value='mean', or leave it out.")
        if isinstance(value, str):
            return self._named(positions, value, specimen, reference)
        if isinstance(value, xr.DataArray):
            value = self._of_units(positions, value)
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise DataError(f"Units can't be held at {value!r}: expected 'zero', 'mean', a number, or one for each unit.") from None
        if array.ndim and array.shape != positions.shape:
            raise DataError(f"The value has shape {array.shape}, and {len(positions)} units were given: give a number, or one for each.")
        if not np.isfinite(array).all():
            raise DataError("Units can't be held at NaN or infinity: give finite values.")
        return np.broadcast_to(array, positions.shape).copy()

    def _named(self, positions: np.ndarray, value: str, specimen: Specimen, reference: Any) -> np.ndarray:
        if value == "zero":
            return np.zeros(len(positions))
        if value != "mean":
            raise DataError(f"Units can't be held at {value!r}: expected 'zero', 'mean', a number, or one for each unit.")
        if reference is None:
            raise DataError("value='mean' holds units at their mean over some data: say which, with reference=X.")
        return np.asarray(self.means(specimen, reference)[positions])

    def _of_units(self, positions: np.ndarray, value: xr.DataArray) -> np.ndarray:
        """The values of an array with names: by its `unit` coordinate where it has one."""
        if value.dims not in ((), (UNIT,)):
            raise DataError(f"The value has the dims {value.dims}: expected one value for each unit, ('{UNIT}',).")
        if UNIT not in value.coords:
            return np.asarray(value.values)
        missing = [unit for unit in positions if unit not in value[UNIT].values]
        if missing:
            raise DataError(f"The value has no unit {missing[0]}, which is to be held.")
        return np.asarray(value.sel({UNIT: positions}).values)

    def means(self, specimen: Specimen, reference: Any) -> np.ndarray:
        """The mean of every unit over all steps of some data, (unit), with nothing held."""
        sequences, feed = specimen.free.take_in(reference)
        found = collect(feed, sequences, self.readings, (self.capture,))
        parts = []
        for value in found.values():
            axis = value.dims.index(UNIT)
            others = tuple(other for other in range(value.values.ndim) if other != axis)
            parts.append(np.nanmean(value.values.astype(np.float64), axis=others))
        return np.concatenate(parts)

    def hold(self, positions: np.ndarray, values: np.ndarray) -> Held:
        """Some of them, held."""
        mask, at = np.zeros(self.count, bool), np.zeros(self.count)
        mask[positions], at[positions] = True, values
        return {self.name: Hold(mask, at, self.axis)}


def held_units(specimen: Specimen, layer: Any, units: Any, value: Any, reference: Any) -> Held:
    """What is to be held, from what a person said.

    Raises
    ------
    UnsupportedError, LayerError, DataError, ModelError
    """
    of_layer = units_of(specimen, layer)
    positions = of_layer.positions(units)
    return of_layer.hold(positions, of_layer.values(positions, value, specimen, reference))


def units_of(specimen: Specimen, layer: Any) -> Units:
    """The units of a layer, found out once by running the model as it is.

    Raises
    ------
    UnsupportedError
        The engine, or the layer, can't hold units.
    LayerError
        There is no such layer, or it gives nothing that has units.
    """
    engine = specimen.engine
    if not isinstance(engine, HasHolds):
        raise UnsupportedError(f"Units of {engine.framework} models can't be held yet.")
    recurrent = engine.recurrent_parts if isinstance(engine, HasStates) else {}
    if not isinstance(layer, str) or (layer not in engine.by_name and layer not in recurrent):
        known = [*engine.by_name, *recurrent]
        raise LayerError(f"No layer is named {layer!r}: {nearest(str(layer), known)}.")
    name = recurrent[layer][-1] if layer in recurrent else layer
    reason = engine.why_not_held(name)
    if reason is not None:
        raise UnsupportedError(f"The units of '{layer}' can't be held: {reason}.")
    return specimen.free.once(("units", layer), lambda: _found(specimen.free, layer, name, is_recurrent=layer in recurrent))


def _found(specimen: Specimen, layer: str, name: str, *, is_recurrent: bool) -> Units:
    """The units of a layer, seen on a few rows; the states of a recurrent one are compared with what it gives."""
    data = specimen.some_data()
    if data is None:
        raise ModelError("The model ran on nothing that was tried: show it some data, with Scope(model, example=X[:1]).")
    sequences, feed = data
    capture = f"{name}{STATES}" if is_recurrent else name
    seen = specimen.readings(feed, sequences, (capture,))
    if is_recurrent:
        readings = {address: reading for address, reading in pick(seen, (name,), (), by_name=True).items() if state_of(address) == "h"}
    else:
        readings = Request(name).pick(seen)
    with about_layer(name):
        axis = _unit_axis(next(iter(readings.values())))
        count = _count(feed, sequences, capture, readings)
    return Units(layer, name, count, None if is_recurrent else axis, capture, readings)


def _unit_axis(reading: Reading) -> int:
    """The axis of a value, as the layer gives it, that its units are on."""
    if UNIT not in reading.dims:
        raise LayerError(f"gives ({', '.join(reading.dims)}), in which its units can't be told")
    axis = reading.dims.index(UNIT)
    behind_fold = reading.folded is not None and axis > reading.folded
    return axis - behind_fold - (CALL in reading.dims)


def _count(feed: Feed, sequences: Sequences, capture: str, readings: Mapping[str, Reading]) -> int:
    few = few_rows(sequences)
    captured = feed.forward(few, (capture,)).captured
    values = [(reading, reading.apply(captured[address], len(few))) for address, reading in readings.items()]
    return sum(int(value.shape[reading.order.index(UNIT)]) for reading, value in values)


# Verbs that held units get in the way of


def refuse_stream(specimen: Specimen) -> None:
    """Refuse to run step by step while units are held.

    Raises
    ------
    UnsupportedError
    """
    if specimen.held:
        raise UnsupportedError("A model can't be streamed while units of it are held: open the stream outside of `ablate`.")


def refuse_sum(specimen: Specimen, part: str, kind: str) -> None:
    """Refuse to take the state of a GRU apart whose units are held: what they hold was written by no step.

    Raises
    ------
    UnsupportedError
    """
    if part in specimen.held and kind == "gru":
        raise UnsupportedError(f"Units of '{part}' are held, so that its h is no sum of what its steps wrote: ask outside of `ablate`.")


def refuse_share(specimen: Specimen, part: str) -> None:
    """Refuse to share a logit out over an LSTM whose units are held: what is read off these is no step's.

    Raises
    ------
    UnsupportedError
    """
    if part in specimen.held:
        raise UnsupportedError(f"Units of '{part}' are held, so that a logit is no sum over its steps: ask outside of `ablate`.")
