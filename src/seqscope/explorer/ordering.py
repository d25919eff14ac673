"""The rows of a heatmap: which unit stands where, and for which values the colours are."""

from __future__ import annotations

import numpy as np
import xarray as xr

from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.labelled import LABEL, UNIT
from seqscope.plot import style
from seqscope.units import order, summary


def ordered(source: Source, chosen: Chosen, values: xr.DataArray) -> np.ndarray:
    """The position of the unit of each row, from the top: int array (row,).

    Raises
    ------
    DataError
        By selectivity, where classes are not known.
    """
    if chosen.order in ("peak", "cluster") and values.sizes[UNIT] > 1:
        return order(values, chosen.order)  # type: ignore[arg-type]
    if chosen.order == "selectivity" and source.is_classified:
        told = selectivity(source, chosen.layer, chosen.state)
        return np.argsort(-np.abs(told - 0.5).max(axis=1), kind="stable")
    return np.arange(values.sizes[UNIT])


def selectivity(source: Source, layer: str, state: str) -> np.ndarray:
    """How well each unit tells each class from the rest (AUROC): (unit, label). All samples are read, once for all who look."""
    return source.once(("selectivity", layer, state), lambda: _selectivity(source, layer, state))  # type: ignore[no-any-return]


def _selectivity(source: Source, layer: str, state: str) -> np.ndarray:
    found = summary(source.whole(layer, state), source.labels, duplicate=None)["selectivity"]
    return np.asarray(found.transpose(UNIT, LABEL).fillna(0.5).values)


def limits_of(source: Source, chosen: Chosen, values: xr.DataArray) -> tuple[float, float]:
    """The least and the greatest value of what is shown, symmetric where both signs are there."""
    return style.limits([values]) if bool(values.notnull().any()) else (0.0, 1.0)
