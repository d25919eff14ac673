"""Units of layers that are held at values of their own while a model runs, as an engine takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from seqscope.errors import LayerError


@dataclass(frozen=True, eq=False)
class Hold:
    """Some units of a layer, held.

    Attributes
    ----------
    mask : bool array (unit,)
        Which units are held.
    values : float array (unit,)
        At what; 0 where a unit is not held.
    axis : int or None
        The axis of what the layer gives that its units are on. None: the layer is recurrent, and its h is held at every step, as the layer
        after it and its own next step see it; of a bidirectional layer the forward units, then the backward ones.
    """

    mask: np.ndarray
    values: np.ndarray
    axis: int | None

    def over(self, other: Hold | None) -> Hold:
        """Both; this one where they hold the same unit."""
        if other is None:
            return self
        return Hold(self.mask | other.mask, np.where(self.mask, self.values, other.values), self.axis)

    def of_way(self, place: int, n_ways: int) -> Hold:
        """The part of one direction of a recurrent layer."""
        return Hold(np.split(self.mask, n_ways)[place], np.split(self.values, n_ways)[place], self.axis)

    def refuse_misfit(self, n_units: int | None) -> None:
        """Refuse a layer that has another number of units than when they were chosen; None where that is not known yet.

        Raises
        ------
        LayerError
        """
        if n_units not in (None, len(self.mask)):
            raise LayerError(f"gives {n_units} units for this input, and {len(self.mask)} when some of them were held")

    def __str__(self) -> str:
        places, values = np.flatnonzero(self.mask), self.values[self.mask]
        units = ", ".join(map(str, places[:20])) + (f" and {len(places) - 20} more" if len(places) > 20 else "")
        return f"{units} at {values[0]:g}" if (values == values[0]).all() else f"{units} at values of their own"


# What is held, by layer: of a stack and of stacked cells each layer by itself.
Held = Mapping[str, Hold]
NOTHING_HELD: Held = MappingProxyType({})


def refuse_unseen(name: str) -> None:
    """Say that a layer whose units are held did not run, or gave nothing in which they are.

    Raises
    ------
    LayerError
    """
    raise LayerError(f"The units of '{name}' can't be held: it never ran for this input, or gives no single tensor.")
