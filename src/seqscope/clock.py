"""The input's clock: step numbers, or the person's own times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from seqscope.errors import DataError


@dataclass(frozen=True)
class Clock:
    """The time of every step, where the person gave one.

    Attributes
    ----------
    stamps : array (time,) or None
        The time of each step, the same for every sample; None: steps are numbered from 0.
    own : tuple of arrays (time,), one per sample, or None
        The time of each step where samples differ.
    units : str
        What the stamps count in; empty for step numbers and for dates.
    """

    stamps: np.ndarray | None = None
    own: tuple[np.ndarray, ...] | None = None
    units: str = ""

    @classmethod
    def of(cls, own: Sequence[np.ndarray], units: str = "") -> Clock:
        """One clock for all samples where their stamps agree as far as they go, else a clock for each.

        Raises
        ------
        DataError
            The stamps are neither numbers nor dates, or numbers for some samples and dates for others.
        """
        checked = [_checked(stamps) for stamps in own]
        kinds = {stamps.dtype.kind in "mM" for stamps in checked}
        if len(kinds) > 1:
            raise DataError("The time stamps are numbers for some sequences and dates for others: give one kind.")
        units = "" if True in kinds else units
        longest = max(checked, key=len)
        if not all(np.array_equal(stamps, longest[: len(stamps)]) for stamps in checked):
            return cls(None, tuple(checked), units)
        numbered = not units and np.array_equal(longest, np.arange(len(longest)))
        return cls() if numbered else cls(longest, None, units)

    @property
    def is_numbered(self) -> bool:
        """Whether there are no stamps, so that steps are numbered from 0."""
        return self.stamps is None and self.own is None

    @property
    def is_dates(self) -> bool:
        """Whether the stamps are dates, which have no unit."""
        return self.of_sample(0, 1).dtype.kind in "mM"

    def of_sample(self, row: int, n_steps: int) -> np.ndarray:
        """The stamps of one sample; its step numbers where there are none."""
        stamps = self.own[row] if self.own is not None else self.stamps
        return np.arange(n_steps) if stamps is None else stamps[:n_steps]

    def take(self, rows: slice | np.ndarray) -> Clock:
        """The clock of some samples."""
        if self.own is None:
            return self
        return replace(self, own=self.own[rows] if isinstance(rows, slice) else tuple(self.own[row] for row in rows))

    def padded(self, n_steps: int) -> np.ndarray:
        """Every sample's own stamps, (sample, time), NaN (NaT for dates) after its end."""
        return padded([stamps[:n_steps] for stamps in self.own or ()], n_steps)


def padded(rows: Sequence[np.ndarray], n_steps: int) -> np.ndarray:
    """Stamps of different number as one array, NaN (NaT for dates) behind them."""
    dtype = np.result_type(*rows)
    dates = dtype.kind in "mM"
    table = np.full((len(rows), n_steps), "NaT" if dates else np.nan, dtype if dates else np.float64)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


def at(stamps: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The stamps at positions; those between two steps, or beyond the ends, on the line through the nearest two."""
    if positions.dtype.kind in "iu":
        return np.asarray(stamps[positions])
    if len(stamps) == 1 or not len(positions):
        return np.asarray(stamps[np.zeros(len(positions), int)])
    low = np.clip(np.floor(positions).astype(int), 0, len(stamps) - 2)
    if stamps.dtype.kind not in "mM":
        return np.asarray(stamps[low] + (positions - low) * (stamps[low + 1] - stamps[low]))
    kind = stamps.dtype.kind  # the middle of two days is no day
    stamps = stamps if np.datetime_data(stamps.dtype)[0] == "ns" else stamps.astype(f"{kind}8[us]")
    gaps = stamps[low + 1] - stamps[low]
    return np.asarray(stamps[low] + np.rint((positions - low) * gaps.astype(np.int64)).astype(np.int64).astype(gaps.dtype))


def _checked(stamps: np.ndarray) -> np.ndarray:
    if any(getattr(stamp, "tzinfo", None) is not None for stamp in stamps.flat[:1]):
        raise DataError("The time stamps are dates with time zones: give them in one zone and without it, such as .tz_convert(None).")
    if stamps.dtype == object and stamps.size and isinstance(stamps.flat[0], date):
        stamps = stamps.astype("datetime64[us]")
    if stamps.ndim != 1 or stamps.dtype.kind not in "iufmM":
        raise DataError(
            f"The time stamps of a sequence have shape {stamps.shape} and type {stamps.dtype}: expected numbers or dates, (time,)."
        )
    gaps = np.flatnonzero(np.isnat(stamps) if stamps.dtype.kind in "mM" else ~np.isfinite(stamps))
    if gaps.size:
        raise DataError(f"The time stamps have a gap at step {gaps[0]} ({stamps[gaps[0]]}): every step needs a time.")
    return stamps
