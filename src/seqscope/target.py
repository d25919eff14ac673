"""Which score is explained: an output of the model, or a unit of a layer, as data.

Wherever a verb takes `target=`, an integer is the 0-based position of an output, a string an output's name, None the predicted output;
one for all sequences or a list with one for each. What these can't say, the functions here do. A function of what the model gives (native
tensors) that returns one score for each sample is a target too.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from seqscope.errors import DataError

__all__ = ["Output", "Unit", "output", "unit"]

# Every step of the output, each a score of its own.
ALL = "all"
# The step of a unit where none is said.
LAST = -1


@dataclass(frozen=True)
class Output:
    """An output of the model: see `output`."""

    name: Hashable | None = None
    time: int | str | None = None

    def __str__(self) -> str:
        name = "the predicted output" if self.name is None else f"output {self.name!r}"
        return name if self.time is None else f"{name} at {'every step' if self.time == ALL else f'step {self.time}'}"


@dataclass(frozen=True)
class Unit:
    """A unit of a layer: see `unit`."""

    layer: str
    unit: int
    state: str | None = None
    time: int = LAST
    direction: str | None = None

    def __str__(self) -> str:
        way = f", {self.direction}" if self.direction else ""
        state = f" ({self.state}{way})" if self.state else ""
        return f"unit {self.unit} of '{self.layer}'{state} at step {self.time}"


def output(name: Hashable | None = None, *, time: int | str | None = None) -> Output:
    """An output of the model, at one of its steps.

    Parameters
    ----------
    name : str or int, optional
        The output's name or 0-based position; default: the predicted one.
    time : int or "all", optional
        The step, for models with an output per step; negative from the end. "all": every one, which gives results a dim `output_time`.

    Returns
    -------
    Output

    Raises
    ------
    DataError
        The step is neither a whole number nor "all".

    Examples
    --------
    >>> import seqscope as sq
    >>> print(sq.target.output("walking", time=-1))
    output 'walking' at step -1
    """
    if time is not None and time != ALL:
        _check_whole("time", time, "or 'all' for every step")
    return Output(name, time)


def unit(layer: str, unit: int, *, state: str | None = None, time: int = LAST, direction: str | None = None) -> Unit:
    """A unit of a layer: a hidden unit, gate or cell of a recurrent layer, a filter of a convolution.

    Parameters
    ----------
    layer : str
        Its name.
    unit : int
        Its 0-based position.
    state : str, optional
        Of a recurrent layer: h, c, or a gate (i, f, g, o; r, z, n; a); default: what the layer puts out.
    time : int
        The step on the layer's own clock; negative from the end, the default the last. For a layer without steps, leave it out.
    direction : {"forward", "backward"}, optional
        Of a bidirectional layer's state.

    Returns
    -------
    Unit

    Raises
    ------
    DataError
        The unit or the step is no whole number, or the unit's position is below 0.

    Examples
    --------
    >>> import seqscope as sq
    >>> print(sq.target.unit("lstm", 17, state="c"))
    unit 17 of 'lstm' (c) at step -1
    """
    _check_whole("unit", unit, "0 for the first")
    if int(unit) < 0:
        raise DataError(f"The unit of a target is {int(unit)}: positions count from 0.")
    _check_whole("time", time, "-1 for the last")
    if not isinstance(layer, str):
        raise DataError(f"The layer of a target is {layer!r}: expected its name.")
    if direction not in (None, "forward", "backward"):
        raise DataError(f"The direction of a target is {direction!r}: expected 'forward' or 'backward'.")
    return Unit(layer, int(unit), state, int(time), direction)


def _check_whole(what: str, value: Any, more: str) -> None:
    """Refuse what is no whole number."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DataError(f"The {what} of a target is {value!r}: expected a whole number, {more}.")
