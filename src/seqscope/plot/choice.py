"""Which units a person means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError
from seqscope.plot import style

# What a person may say: one unit, several, or a slice of them, by label.
Units = int | Iterable[int] | slice


def choose(array: xr.DataArray, dim: str, wanted: Units) -> xr.DataArray:
    """Keep some units, by label; a slice counts as Python's do, its end left out.

    Raises
    ------
    DataError
        No unit has such a label, or none was named.
    """
    labels = array.coords[dim].values.tolist()
    named = _of_slice(labels, wanted) if isinstance(wanted, slice) else _listed(wanted)
    word = style.unit_word(array).lower()
    there = f"there are {len(labels)}, {labels[0]} to {labels[-1]}" if len(labels) > 1 else f"there is only {labels[0]}"
    layer = f" in the layer '{array.attrs['layer']}'" if "layer" in array.attrs else ""
    unknown = [label for label in named if label not in labels]
    if unknown:
        raise DataError(f"There is no {word} {unknown[0]}{layer}: {there}.")
    if not named:
        raise DataError(f"{wanted!r} names no {word}{layer}: {there}.")
    return array.isel({dim: [labels.index(label) for label in named]})


def _of_slice(labels: list[Any], wanted: slice) -> list[Any]:
    """The labels within a slice, in its order; ends below zero count from the last label."""
    if not all(isinstance(label, int) for label in labels):
        return labels[wanted]
    there = set(labels)
    return [label for label in range(*wanted.indices(max(labels) + 1)) if label in there]


def _listed(wanted: Any) -> list[Any]:
    return list(np.atleast_1d(np.asarray(wanted)).tolist())
