"""The rows of a heatmap: which unit stands where, and for which values the colours are."""

from __future__ import annotations

import numpy as np
import xarray as xr

from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.labelled import LABEL, UNIT
from seqscope.plot import style
from seqscope.units import clock_of, order, summary

# More units than these are put by likeness beside the page: the tree of so many takes a while.
_MANY = 400


def ordered(source: Source, chosen: Chosen, values: xr.DataArray) -> np.ndarray:
    """The position of the unit of each row, from the top: int array (row,). Kept for all who look."""
    if chosen.order in ("peak", "cluster") and values.sizes[UNIT] > 1:
        return source.once(_order_key(chosen), lambda: _by_values(values, chosen.order))  # type: ignore[no-any-return]
    if chosen.order == "selectivity" and source.classes is not None:
        told = selectivity(source, chosen.layer, chosen.state)
        return np.argsort(-np.abs(told - 0.5).max(axis=1), kind="stable")
    return np.arange(values.sizes[UNIT])


def takes_long(source: Source, chosen: Chosen) -> bool:
    """Whether units are put in order from all samples, or so many that it takes a while; once it is done it takes no time."""
    if chosen.order == "selectivity":
        return source.classes is not None and _selectivity_key(chosen.layer, chosen.state) not in source.kept
    is_large = chosen.order == "cluster" and len(source.layer(chosen.layer).units_of(chosen.state)) > _MANY
    return is_large and _order_key(chosen) not in source.kept


def _order_key(chosen: Chosen) -> tuple[str, str, str, int, str]:
    return "order", chosen.layer, chosen.state, chosen.sample, chosen.order


def _by_values(values: xr.DataArray, by: str) -> np.ndarray:
    """By what the units do in one sample; a value that is missing in the middle counts as zero."""
    there = values.dropna(clock_of(values), how="all")
    return order(there.fillna(0.0), by) if there.size else np.arange(values.sizes[UNIT])  # type: ignore[arg-type]


def selectivity(source: Source, layer: str, state: str) -> np.ndarray:
    """How well each unit tells each class from the rest (AUROC): (unit, label). All samples are read, once for all who look.

    Raises
    ------
    DataError
        Of the classes not enough is known.
    """
    return source.once(_selectivity_key(layer, state), lambda: _selectivity(source, layer, state))  # type: ignore[no-any-return]


def _selectivity_key(layer: str, state: str) -> tuple[str, str, str]:
    return "selectivity", layer, state


def _selectivity(source: Source, layer: str, state: str) -> np.ndarray:
    found = summary(source.whole(layer, state), source.classes, duplicate=None)["selectivity"]
    return np.asarray(found.transpose(UNIT, LABEL).fillna(0.5).values)


def limits_of(source: Source, chosen: Chosen, values: xr.DataArray) -> tuple[float, float]:
    """The least and the greatest value of what is shown, symmetric where both signs are there."""
    return style.limits([values]) if bool(values.notnull().any()) else (0.0, 1.0)
