"""Where the steps of an array lie in time, and what they see."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from seqscope.labelled import STEP, TIME, TIME_END, TIME_START
from seqscope.plot import style

# Places are compared as far as a screen can tell them apart.
_NEAR = 1e-6


class Clock:
    """Where the steps of an array lie on the x axis, and what the axis is called.

    Parameters
    ----------
    array : DataArray with `time` or `step`

    Attributes
    ----------
    at, edges : array (step), (step + 1)
        The middle of each step and the borders between them, in the axis' numbers (milliseconds where time is given in dates).
    label : str
    is_dated : bool
    """

    def __init__(self, array: xr.DataArray) -> None:
        dim = STEP if STEP in array.dims else TIME
        name = style.clock(array, dim)
        coordinate = array.coords[name] if name in array.coords else xr.DataArray(np.arange(array.sizes[dim]), dims=dim)
        self.is_dated = coordinate.dtype.kind == "M"
        self.at = _numbers(coordinate.values)
        self.edges = style.edges(self.at)
        self.label = style.label_of(array, name)
        self._values = coordinate.values
        self._has_ends = TIME_START in array.coords and TIME_END in array.coords
        self._ends = [array.coords[end].values if end in array.coords else coordinate.values for end in (TIME_START, TIME_END)]

    @cached_property
    def words(self) -> list[str]:
        """The time of each step."""
        return [_said(value) for value in self._values]

    @cached_property
    def first(self) -> list[str]:
        """The first input step that each step sees; of the input's own clock the step itself."""
        return [_said(value) for value in self._ends[0]]

    @cached_property
    def last(self) -> list[str]:
        """The last input step that each step sees; of the input's own clock the step itself."""
        return [_said(value) for value in self._ends[1]]

    @cached_property
    def is_even(self) -> bool:
        """Whether all steps are equally wide."""
        widths = np.diff(self.edges)
        return bool(np.abs(widths - widths.mean()).max() <= _NEAR * abs(widths.mean()))

    def said(self, start: int, stop: int) -> str:
        """When the steps from start on are, the stop left out."""
        return _stretch(_said(self._values[start]), _said(self._values[stop - 1]))

    def seen(self, start: int, stop: int, field: int | str | None = None) -> str:
        """What the steps from start on see of the input, the stop left out; "" where it is not known.

        Parameters
        ----------
        field : int, str or None
            What a step of the layer sees, as `Scope.layers` says it, where its steps are the input's own.
        """
        if self._has_ends:
            return _stretch(_said(self._ends[0][start]), _said(self._ends[1][stop - 1]))
        if field is None or (isinstance(field, int) and field != 1):
            return "" if field is None else f"{field} steps"
        return self.said(0 if field in ("all", "all before") else start, len(self.at) if field in ("all", "all after") else stop)

    def step_at(self, x: float) -> int:
        """The step at a place of the axis; the nearest one beyond the ends."""
        return int(np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, len(self.at) - 1))

    def steps_between(self, start: float, end: float) -> slice:
        """The steps whose middles lie in a stretch of the axis; none where there is none."""
        low, high = sorted((start, end))
        return slice(int(np.searchsorted(self.at, low, side="left")), int(np.searchsorted(self.at, high, side="right")))

    def in_sight(self, start: Any, end: Any) -> slice:
        """The steps of which a part lies between two places, and half as many on both sides of them; all where there is none."""
        n = len(self.at)
        if start is None or end is None or not self.edges[0] < end or not start < self.edges[-1]:
            return slice(0, n)
        more = (end - start) / 2
        low = int(np.searchsorted(self.edges, start - more, side="right")) - 1
        return slice(max(0, low), min(n, int(np.searchsorted(self.edges, end + more, side="left"))))


def _numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]").astype(np.int64) / 1000.0
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "s")
    return values.astype(float)


def _said(value: Any) -> str:
    """A moment in words: a step by its number, a date, seconds."""
    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[us]").item())
    if isinstance(value, np.timedelta64):
        return f"{value / np.timedelta64(1, 's'):g} s"
    return f"{value:.7g}" if isinstance(value, float | np.floating) else str(value)


def _stretch(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"
