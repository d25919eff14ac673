"""What a person asked of a recording, checked where that takes nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqscope.errors import DataError, quoted

FLOATS = ("float16", "float32")
ON_ERROR = ("raise", "skip")
# The states of a layer: its name, several, all (True), or some by name {"lstm": ["h", "c"]}.
States = bool | str | Sequence[str] | Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Asked:
    """See `Scope.record`."""

    layers: str | Sequence[str] | None = None
    states: States | None = None
    inputs: bool = True
    dtype: str | None = None
    keep_bits: int | None = None
    batch_size: int | None = None
    per_shard: int | None = None
    resume: bool = False
    overwrite: bool = False
    on_error: str = "raise"
    storage_options: Mapping[str, Any] | None = None
    client: Any = None
    progress: bool | None = None
    recipe: Any = None  # how the model was opened, see `sending`

    def check(self) -> None:
        """Refuse what can't be.

        Raises
        ------
        DataError
        """
        if self.dtype is not None and self.dtype not in FLOATS:
            raise DataError(f"dtype is {self.dtype!r}: say one of {quoted(FLOATS)}, or nothing for what the model gives.")
        if self.on_error not in ON_ERROR:
            raise DataError(f"on_error is {self.on_error!r}: say one of {quoted(ON_ERROR)}.")
        if self.resume and self.overwrite:
            raise DataError("Both resume= and overwrite= were said: go on with what is there, or write over it.")
        for name, number in (("batch_size", self.batch_size), ("shard", self.per_shard)):
            _check_whole(name, number, 1, None)
        _check_whole("keep_bits", self.keep_bits, 1, 23)
        if self.keep_bits is not None and self.dtype == "float16":
            raise DataError("keep_bits rounds the mantissa of float32 values, and float16 has 10 bits already: say one of the two.")

    @property
    def wants_states(self) -> bool:
        """Whether states of recurrent layers are wanted."""
        return self.states is not None and self.states is not False

    @property
    def wants_layers(self) -> bool:
        """Whether activations are: all of them where nothing at all was said, and then none beside states."""
        if self.layers is None:
            return not self.wants_states
        return isinstance(self.layers, str) or len(self.layers) > 0

    @property
    def named_states(self) -> tuple[str | Sequence[str] | None, Mapping[str, tuple[str, ...]]]:
        """The layers whose states are wanted (None: all), and of some of them which."""
        if self.states is True or self.states is None or self.states is False:
            return None, {}
        if isinstance(self.states, Mapping):
            some = {name: (only,) if isinstance(only, str) else tuple(only) for name, only in self.states.items()}
            return list(self.states), some
        return self.states, {}


def _check_whole(name: str, number: Any, least: int, most: int | None) -> None:
    if number is None:
        return
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least or (most is not None and number > most):
        raise DataError(f"{name} is {number!r}: expected a whole number, {least} {'or more' if most is None else f'to {most}'}.")
