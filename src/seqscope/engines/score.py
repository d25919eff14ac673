"""Which score is explained, as an engine takes it: one number of each row of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqscope.errors import ModelError

# The names of the axes that a score is picked along, as everywhere.
SAMPLE, TIME = "sample", "time"


@dataclass(frozen=True, eq=False)
class Score:
    """One number of each row: of the model's output, of a layer's value, or of a recurrent layer's states.

    Attributes
    ----------
    position : int array (row,)
        Which output, or which unit.
    time : int array (row,) or None
        Which step of it, counted from 0; None where it has no steps.
    dims : tuple of str
        The axes of the value in the order in which the engine has them: `sample`, `time` (its own clock), and at most one more.
    address : str
        "" for the model's output, else what `Engine.forward` captures it under: "conv", "branch[0]", "lstm (states)[c]".
    margin : bool
        Whether it is how far the number lies above the largest of the others that it was picked out of.
    """

    position: np.ndarray
    time: np.ndarray | None = None
    dims: tuple[str, ...] = (SAMPLE, "unit")
    address: str = ""
    margin: bool = False

    @property
    def capture(self) -> str:
        """What to capture to see it: `Engine.forward` takes names without places."""
        return self.address.partition("[")[0]

    def take(self, rows: np.ndarray) -> Score:
        """The scores of some rows, in this order."""
        return replace(self, position=self.position[rows], time=None if self.time is None else self.time[rows])

    def of(self, value: np.ndarray) -> np.ndarray:
        """The scores in a value, (row,)."""
        self.check(value.shape, len(self.position))
        picked = np.asarray(value[self.places(np.arange(len(self.position)), self.position, self.time)])
        return picked - self.best_other(value) if self.margin else picked

    def best_other(self, value: np.ndarray) -> np.ndarray:
        """The largest of the others that each row's number was picked out of, (row,); minus infinity where there is none."""
        others = self.all_of(value).copy()
        others[np.arange(len(others)), self.position] = -np.inf
        return np.asarray(others.max(1))

    @property
    def in_order(self) -> tuple[int, ...]:
        """The axes of the value in the order `sample`, `time`, what the number is picked along."""
        first = [dim for dim in (SAMPLE, TIME) if dim in self.dims]
        return tuple(self.dims.index(dim) for dim in (*first, *(dim for dim in self.dims if dim not in first)))

    def all_of(self, value: np.ndarray) -> np.ndarray:
        """What each row's number was picked out of at its step, (row, output)."""
        by_row = value.transpose(self.in_order)
        if self.time is not None and TIME in self.dims:
            by_row = by_row[np.arange(len(by_row)), self.time]
        return by_row.reshape(len(by_row), -1)

    def places(self, rows: Any, position: Any, time: Any) -> tuple[Any, ...]:
        """The index of each row's number along every axis of the value, from the rows' own."""
        return tuple(rows if dim == SAMPLE else time if dim == TIME else position for dim in self.dims)

    def check(self, shape: Sequence[int | None], n_rows: int) -> None:
        """Refuse a value that has no such number.

        Parameters
        ----------
        shape : sequence of int or None
            The value's shape; None for sizes that are not known.

        Raises
        ------
        ModelError
        """
        sizes = dict(zip(self.dims, shape, strict=False))
        axes = ", ".join(self.dims if self.address else ("output" if dim == "unit" else dim for dim in self.dims))
        given = f"a tensor of shape {tuple(shape)}: expected ({axes})"
        where = f"in what '{self.address}' gives" if self.address else "in what the model gives"
        what = "unit" if self.address else "output"
        if len(shape) != len(self.dims) or sizes[SAMPLE] not in (None, n_rows):
            raise ModelError(f"There is no {what} {self.position[0]} {where}, {given}.")
        for dim, size in sizes.items():
            wanted = {SAMPLE: None, TIME: self.time}.get(dim, self.position)
            if wanted is not None and size is not None and not (-size <= wanted.min() and wanted.max() < size):
                outside = wanted[(wanted < -size) | (wanted >= size)][0]
                raise ModelError(f"There is no {what if dim != TIME else 'step'} {outside} {where}, {given}.")


# Which score is explained: the position of an output of all rows, data that says where each row's is, or a function of what the model
# gives, as native tensors, that gives one score for each row.
Target = int | Score | Callable[[Any], Any]


def as_score(target: Target, n_rows: int) -> Score | Callable[[Any], Any]:
    """A target as data, where it is no function.

    Raises
    ------
    ModelError
        It is neither.
    """
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        return Score(np.full(n_rows, int(target)))
    if isinstance(target, Score) or callable(target):
        return target
    raise ModelError(f"The target is {target!r}: expected the position of an output, or a function of what the model gives.")


def score_by_function(target: Callable[[Any], Any], output: Any) -> Any:
    """What a target that is a function makes of what a model gives.

    Raises
    ------
    ModelError
        It raised.
    """
    try:
        return target(output)
    except Exception as error:
        raise ModelError(f"The target raised {type(error).__name__}: {error}") from error
