"""The order of the axes that a model takes: N samples, T steps, C channels; tokens have no C."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqscope.errors import DataError, quoted

# For each layout: which axis of an (N, T, C) array stands at each place.
SERIES_LAYOUTS: dict[str, tuple[int, ...]] = {"NTC": (0, 1, 2), "NCT": (0, 2, 1), "TNC": (1, 0, 2)}
TOKEN_LAYOUTS: dict[str, tuple[int, ...]] = {"NT": (0, 1), "TN": (1, 0)}
ORDERS = SERIES_LAYOUTS | TOKEN_LAYOUTS

_WORDS = {"N": "sample", "T": "time", "C": "channel"}


def check(layout: Any) -> str:
    """Give the layout back if there is one of that name.

    Raises
    ------
    DataError
        There is none.
    """
    if not isinstance(layout, str) or layout not in ORDERS:
        raise DataError(f"The layout {layout!r} is not known: say one of {quoted(ORDERS)} (N sample, T time, C channel).")
    return layout


def in_words(layout: str) -> str:
    """Spell a layout out.

    >>> in_words("NCT")
    'NCT (sample, channel, time)'
    """
    return f"{layout} ({', '.join(_WORDS[letter] for letter in layout)})"


def to_model(values: np.ndarray, layout: str) -> np.ndarray:
    """Bring (sample, time, channel) or (sample, time) into the model's layout, contiguous.

    >>> to_model(np.zeros((2, 30, 9)), "NCT").shape
    (2, 9, 30)
    """
    return np.ascontiguousarray(values.transpose(ORDERS[layout]))


def from_model(array: np.ndarray, layout: str) -> np.ndarray:
    """Bring an array in the model's layout into (sample, time, channel): a view.

    >>> from_model(np.zeros((2, 9, 30)), "NCT").shape
    (2, 30, 9)
    """
    return array.transpose(np.argsort(ORDERS[layout]))
