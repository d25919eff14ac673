"""What a person asks of a maximization, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqscope.errors import DataError, nearest
from seqscope.intake import as_array
from seqscope.maximization.ascent import Effort, Range

OBJECTIVES = ("logit", "margin")
PARAMETERISATIONS = ("fourier", "components", "raw")


@dataclass(frozen=True)
class Asked:
    """What a person asked for, but for the target and the data.

    Attributes
    ----------
    length : int or None
    objective : str or None
        One of `OBJECTIVES`; None: as suits the target.
    parameterisation : str
        One of `PARAMETERISATIONS`.
    bounds : as given
    restarts, seed : int
    reach : float
        The probability that every restart is to have, where there are probabilities; 0: nothing is asked of them.
    n_real : int
        Real sequences that are shown.
    effort : Effort
    """

    length: int | None
    objective: str | None
    parameterisation: str
    bounds: Any
    restarts: int
    seed: int
    reach: float
    n_real: int
    effort: Effort

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises
        ------
        DataError
        """
        if self.objective is not None:
            _check_known("objective", self.objective, OBJECTIVES)
        _check_known("parameterisation", self.parameterisation, PARAMETERISATIONS)
        effort = self.effort
        whole = {"restarts": (self.restarts, 1), "steps": (effort.steps, 1), "jitter": (effort.jitter, 0)}
        whole |= {"n_real": (self.n_real, 0), "seed": (self.seed, 0)}
        if self.length is not None:
            whole["length"] = (self.length, 1)
        for name, (value, least) in whole.items():
            if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
                raise DataError(f"{name} is {value!r}: expected a whole number, {least} or more.")
        for name, amount in {"total_variation": effort.total_variation, "norm": effort.norm}.items():
            _check_number(name, amount, 0, np.inf)
        _check_number("rate", effort.rate, 1e-9, np.inf)
        _check_number("scale", effort.scale, 0, 0.9)
        _check_number("reach", self.reach, 0, 1)

    def bounded(self, span: Range) -> Range:
        """The range with the bounds that were said.

        Raises
        ------
        DataError
            They are no pair, or the lower is not below the upper; or none were said, and the data never change.
        """
        if self.bounds is None:
            if (span.low == span.high).all():
                raise DataError("The data never change, so that nothing else lies within their extremes: say bounds=(low, high).")
            return span
        if not isinstance(self.bounds, tuple | list | np.ndarray) or len(self.bounds) != 2:
            raise DataError("bounds is expected to be a pair, (low, high), each a number or an array with one for each channel.")
        low, high = (_end(end, len(span.mean)) for end in self.bounds)
        if not (low < high).all():
            raise DataError(f"The lower bound {self.bounds[0]} does not lie below the upper one {self.bounds[1]}.")
        return Range(np.clip(span.mean, low, high), span.spread, low, high)


def _end(end: Any, n_channels: int) -> np.ndarray:
    """A bound of each channel."""
    array = as_array(end)
    if array.dtype.kind not in "iuf" or array.shape not in ((), (n_channels,)):
        given = f"has shape {array.shape}" if array.shape else f"is {end!r}"
        raise DataError(f"A bound {given}: expected a number (numpy.inf for none), or one for each of the {n_channels} channels.")
    return np.broadcast_to(array, n_channels).astype(float)


def _check_known(what: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DataError(f"There is no {what} {value!r}: {nearest(str(value), known)}.")


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not low <= value <= high or np.isinf(value):
        most = "" if high == np.inf else f", {high:g} at most"
        raise DataError(f"{name} is {value!r}: expected a number, {low:g} or more{most}.")
