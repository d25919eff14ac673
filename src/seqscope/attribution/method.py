"""What a method of attribution is, and where its work is put together.

A method is a small frozen dataclass: its fields are its options, `explain` is the method, in NumPy, on a `Run`. A new one is one
dataclass and one line in `attribution.METHODS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from seqscope.attribution.place import EITHER, INPUT, LAYER, OF_HEAD
from seqscope.attribution.run import Run

__all__ = ["EITHER", "INPUT", "LAYER", "OF_HEAD", "Explained", "Method"]


@dataclass(frozen=True)
class Explained:
    """What a method found for some sequences of one length.

    Attributes
    ----------
    values : array (sample, time, channel), (sample, time) for tokens
        At a layer (sample, ...) as its value has them in canonical order; of a class activation map (sample, time) on the layer's clock.
    per_sample : dict of arrays (sample,)
        Figures about them, such as the completeness gap.
    said : dict
        What the attributes are to say.
    """

    values: np.ndarray
    per_sample: Mapping[str, np.ndarray] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A method of attribution: subclasses are frozen dataclasses that say what differs from what stands here.

    Attributes
    ----------
    name : str
        What it is asked for by.
    place : {"input", "either", "layer", "head"}
        Where it works.
    has_target : bool
        Whether what it gives is for a score.
    long_name : str
        What a map along time that it gives is called in full.
    """

    name: ClassVar[str]
    place: ClassVar[str] = EITHER
    has_target: ClassVar[bool] = True
    long_name: ClassVar[str] = "Class activation map"

    @property
    def needs_gradient(self) -> bool:
        """Whether the engine has to differentiate."""
        return True

    @property
    def signed(self) -> bool:
        """Whether what it gives has a sign."""
        return True

    @property
    def uses_baseline(self) -> bool:
        """Whether it compares with a baseline."""
        return False

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """About how many rows it runs for each sequence: so that a group of sequences fills its batches."""
        return 1

    @abstractmethod
    def explain(self, run: Run) -> Explained:
        """Explain the scores of some sequences of one length."""
