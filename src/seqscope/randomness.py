"""The random state of the process: a verb leaves it as it found it, whatever a model draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def state_kept() -> Iterator[None]:
    """Put NumPy's and Python's global random state back after; frameworks' own are their engines' task."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
