"""How often a unit's gates are shut or open, and how long it remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError, UnsupportedError
from seqscope.labelled import DIRECTION, GATE, LONG_NAMES, SAMPLE, UNIT, Part
from seqscope.units.blocks import Taken, take_in
from seqscope.units.working import each_block

if TYPE_CHECKING:
    import distributed

# Karpathy, Johnson and Fei-Fei 2015, section 4.2: a gate is left-saturated below, right-saturated above.
SHUT, OPEN = 0.1, 0.9

# The gates of each kind of layer, and the one that keeps what is there: of a GRU h is (1 - z) n + z times the h before.
_GATES = {"lstm": (("i", "f", "o"), "f"), "gru": (("r", "z"), "z")}


def gate_figures(taken: Taken, states: Any, workers: distributed.Client | None = None) -> dict[str, Part]:
    """`left_saturated` and `right_saturated` (unit, gate), and `half_life` (unit).

    Raises
    ------
    DataError
        The states are no Dataset of one layer, or do not fit the activations.
    UnsupportedError
        The layer has no gates.
    """
    if not isinstance(states, xr.Dataset):
        raise DataError(f"states is a {type(states).__name__}: expected the Dataset of one layer, scope.states(X, layer).")
    kind = next((kind for kind, (gates, _) in _GATES.items() if all(gate in states for gate in gates)), None)
    if kind is None:
        raise UnsupportedError(f"The states {', '.join(map(str, states))} have no gates: an LSTM and a GRU have.")
    gates, keeps = _GATES[kind]
    counted = {gate: _counted(_fitting(taken, states[gate], gate), workers) for gate in gates}
    halves = [np.stack([getattr(counted[gate], name) for gate in gates], axis=1) for name in ("shut", "open")]
    with np.errstate(divide="ignore"):
        half_life = np.log(0.5) / np.minimum(counted[keeps].mean_log(), -0.0)
    return {
        "left_saturated": ((UNIT, GATE), halves[0], f"Share of time that a gate is below {SHUT}"),
        "right_saturated": ((UNIT, GATE), halves[1], f"Share of time that a gate is above {OPEN}"),
        "half_life": ((UNIT,), half_life, "Half-life (steps)"),
    }


def gate_coords(states: xr.Dataset) -> dict[str, xr.Variable]:
    """The gates' names."""
    gates = next(gates for gates, _ in _GATES.values() if all(gate in states for gate in gates))
    return {GATE: xr.Variable(GATE, list(gates), {"long_name": LONG_NAMES[GATE]})}


def _fitting(taken: Taken, gate: xr.DataArray, name: str) -> list[Taken]:
    """A gate on the units of the activations: of a bidirectional layer the forward ones, and the backward ones."""
    ways = range(gate.sizes.get(DIRECTION, 0))  # not put together, which would read them
    found = [take_in(gate.isel({DIRECTION: way}, drop=True)) for way in ways] if DIRECTION in gate.dims else [take_in(gate)]
    n_samples, n_units = found[0].n_samples, sum(way.n_units for way in found)
    if (n_samples, n_units) != (taken.n_samples, taken.n_units):
        raise DataError(
            f"The gate {name} has {n_samples} samples and {n_units} units and the activations {taken.n_samples} and "
            f"{taken.n_units}: give the states of the same layer over the same data."
        )
    if SAMPLE in gate.coords and SAMPLE in taken.array.coords and not np.array_equal(found[0].samples, taken.samples):
        raise DataError("The states have other samples than the activations, or another order: give those of the same sequences.")
    return found


@dataclass
class _Counted:
    """How often a gate is shut and open, and the sum of its logarithm, (unit,).

    Of the steps at which it has a value, `n`.
    """

    n: np.ndarray
    n_shut: np.ndarray
    n_open: np.ndarray
    logs: np.ndarray

    def with_(self, other: _Counted, put: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> _Counted:
        """This and another, with each figure of the two put together."""
        return _Counted(*(put(getattr(self, name), getattr(other, name)) for name in ("n", "n_shut", "n_open", "logs")))

    @property
    def shut(self) -> np.ndarray:
        """The share of time that it is shut."""
        return self._share(self.n_shut)

    @property
    def open(self) -> np.ndarray:
        """The share of time that it is open."""
        return self._share(self.n_open)

    def mean_log(self) -> np.ndarray:
        """The mean of the gate's logarithm: gates multiply up, so their geometric mean counts."""
        return self._share(self.logs)

    def _share(self, count: np.ndarray) -> np.ndarray:
        return np.asarray(count / np.where(self.n, self.n, np.nan))


def _counted(ways: list[Taken], workers: distributed.Client | None) -> _Counted:
    """Over all blocks, one direction's units after the other's."""
    of_ways = (reduce(lambda a, b: a.with_(b, np.add), each_block(way, _count, workers)) for way in ways)
    return reduce(lambda a, b: a.with_(b, lambda *both: np.concatenate(both)), of_ways)


def _count(rows: slice, block: np.ndarray) -> _Counted:
    there = ~np.isnan(block)
    with np.errstate(divide="ignore"):
        logs = np.where(there, np.log(block), 0).sum(axis=(0, 1), dtype=np.float64)
    return _Counted(there.sum(axis=(0, 1)), (block < SHUT).sum(axis=(0, 1)), (block > OPEN).sum(axis=(0, 1)), logs)
