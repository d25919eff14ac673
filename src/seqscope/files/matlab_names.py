"""What a MAT-file says of a variable before it is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """A variable of a MAT-file.

    Attributes
    ----------
    name : str
    kind : str
        Its class in MATLAB's words: "double", "cell", "categorical".
    """

    name: str
    kind: str
