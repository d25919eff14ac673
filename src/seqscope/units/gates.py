"""How often a unit's gates are shut or open, and how long it remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError, UnsupportedError
from seqscope.labelled import DIRECTION, GATE, LONG_NAMES, SAMPLE, UNIT, Part
from seqscope.units.blocks import Taken, take_in

# Karpathy, Johnson and Fei-Fei 2015, section 4.2: a gate is left-saturated below, right-saturated above.
SHUT, OPEN = 0.1, 0.9

# The gates of each kind of layer, and the one that keeps what is there: of a GRU h is (1 - z) n + z times the h before.
_GATES = {"lstm": (("i", "f", "o"), "f"), "gru": (("r", "z"), "z")}


def gate_figures(taken: Taken, states: Any) -> dict[str, Part]:
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
    counted = {gate: _Counted(_fitting(taken, states[gate], gate)) for gate in gates}
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


def _fitting(taken: Taken, gate: xr.DataArray, name: str) -> Taken:
    """A gate on the units of the activations: of a bidirectional layer the forward ones, then the backward ones."""
    if DIRECTION in gate.dims:
        ways = [gate.isel({DIRECTION: way}, drop=True) for way in range(gate.sizes[DIRECTION])]
        gate = xr.concat(ways, UNIT, coords="minimal", compat="override", join="override")
    found = take_in(gate)
    if (found.n_samples, found.n_units) != (taken.n_samples, taken.n_units):
        raise DataError(
            f"The gate {name} has {found.n_samples} samples and {found.n_units} units and the activations {taken.n_samples} and "
            f"{taken.n_units}: give the states of the same layer over the same data."
        )
    if SAMPLE in gate.coords and SAMPLE in taken.array.coords and not np.array_equal(found.samples, taken.samples):
        raise DataError("The states have other samples than the activations, or another order: give those of the same sequences.")
    return found


class _Counted:
    """How often a gate is shut and open, and the sum of its logarithm, block by block."""

    def __init__(self, gate: Taken) -> None:
        n, shut, opened = (np.zeros(gate.n_units, np.int64) for _ in range(3))
        self.logs = np.zeros(gate.n_units)
        for _, block in gate.blocks():
            there = ~np.isnan(block)
            n += there.sum(axis=(0, 1))
            shut += (block < SHUT).sum(axis=(0, 1))
            opened += (block > OPEN).sum(axis=(0, 1))
            with np.errstate(divide="ignore"):
                self.logs += np.where(there, np.log(block), 0).sum(axis=(0, 1), dtype=np.float64)
        self.n = np.where(n, n, np.nan)
        self.shut, self.open = shut / self.n, opened / self.n

    def mean_log(self) -> np.ndarray:
        """The mean of the gate's logarithm: gates multiply up, so their geometric mean counts."""
        return np.asarray(self.logs / self.n)
