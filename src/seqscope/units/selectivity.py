"""How well a unit tells one class from the rest: the area under its ROC curve."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope.errors import DataError
from seqscope.intake import as_array
from seqscope.labelled import LABEL, LONG_NAMES, SAMPLE, UNIT, Part
from seqscope.units.blocks import Taken, one_of, pieces

BY = ("mean", "last", "max")


def labels_of(taken: Taken, y: Any) -> np.ndarray:
    """The class of each sequence.

    Raises
    ------
    DataError
        There are not as many as sequences, they belong to others, or they are no classes.
    """
    if isinstance(y, xr.DataArray) and SAMPLE in y.coords and SAMPLE in taken.array.coords:
        other = np.asarray(y.coords[SAMPLE].values).reshape(-1)
        if len(other) == taken.n_samples and not np.array_equal(other, taken.samples):
            raise DataError("y has other samples than the activations, or another order: give those of the same sequences.")
    given = y.values if isinstance(y, xr.DataArray) else y
    if isinstance(given, list | tuple):  # as they are: NumPy would make the text "nan" of a NaN among texts
        given = pd.Series(list(given), dtype=object).to_numpy()
    labels = np.atleast_1d(as_array(given))
    if labels.shape != (taken.n_samples,):
        raise DataError(f"y has shape {labels.shape} and the activations {taken.n_samples} sequences: expected one class for each.")
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise DataError(f"y has no class for sample {taken.samples[missing[0]]!s}: give one for each, or leave such sequences out.")
    if labels.dtype == object:
        labels = np.array(labels.tolist())  # of mixed kinds: as text
    n_classes = len(np.unique(labels))
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise DataError(f"y holds {n_classes} different numbers such as {labels[0]:g}: expected classes.")
    if n_classes < 2:
        raise DataError(f"y holds one class, {labels[0]!s}: to tell one from the rest takes two or more.")
    return labels


class Selectivity:
    """One figure for each sequence and unit, and the ranks of those of a class among all."""

    def __init__(self, taken: Taken, labels: np.ndarray, by: str) -> None:
        one_of(by, BY, "by")
        self.labels, self.by = labels, by
        self.figures = np.empty((taken.n_samples, taken.n_units))

    def beside(self, rows: slice, *, is_sent: bool) -> None:
        """Nothing: the classes come in at the end."""

    @property
    def read(self) -> Callable[[np.ndarray, None], np.ndarray]:
        """One figure for each sequence and unit of a block."""
        return partial(_read, by=self.by)

    def take(self, rows: slice, seen: np.ndarray) -> None:
        """Take in the figures of these samples."""
        self.figures[rows] = seen

    def parts(self) -> dict[str, Part]:
        """`selectivity` (unit, label)."""
        from scipy.stats import rankdata  # slow to load, and most of `units` does without

        ranks = rankdata(self.figures, axis=0, nan_policy="omit")
        there = ~np.isnan(self.figures)
        classes = np.unique(self.labels)
        found = np.empty((self.figures.shape[1], len(classes)))
        for column, label in enumerate(classes):
            inside = self.labels == label
            n, others = there[inside].sum(axis=0), there[~inside].sum(axis=0)
            above = np.nansum(ranks[inside], axis=0) - n * (n + 1) / 2
            found[:, column] = np.where((n > 0) & (others > 0), above / np.maximum(n * others, 1), np.nan)
        return {"selectivity": ((UNIT, LABEL), found, "Selectivity (AUROC)")}

    def coords(self) -> dict[str, xr.Variable]:
        """The classes."""
        return {LABEL: xr.Variable(LABEL, np.unique(self.labels), {"long_name": LONG_NAMES.get(LABEL, "Class")})}


def _read(block: np.ndarray, beside: None, *, by: str) -> np.ndarray:
    return np.concatenate([_figures(block[part], by) for part in pieces(block)])


def _figures(values: np.ndarray, by: str) -> np.ndarray:
    """One figure for each sequence, (sample, unit); NaN where a unit has no value."""
    there = ~np.isnan(values)
    if by == "mean" and there.all():
        return np.asarray(values.mean(axis=1, dtype=np.float64))
    some = there.any(axis=1)
    if by == "max":
        found = np.where(there, values, -np.inf).max(axis=1)
    elif by == "last":
        last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
        found = np.take_along_axis(values, last[:, None], axis=1)[:, 0]
    else:
        found = np.where(there, values, 0).sum(axis=1, dtype=np.float64) / np.maximum(there.sum(axis=1), 1)
    return np.where(some, found, np.nan)
