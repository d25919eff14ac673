"""seqscope looks inside trained sequence networks: labelled arrays and pictures of every unit at every time step."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seqscope import datasets, errors, target, zoo
from seqscope._version import __version__
from seqscope.files import read
from seqscope.layers import Layer, Layers
from seqscope.scope import Scope
from seqscope.sequences import Sequences

if TYPE_CHECKING:
    from seqscope import attribution, nn, plot, units
    from seqscope.explorer import explore
    from seqscope.recording.reading import open_recording as open  # noqa: A004, RUF100

__all__ = [
    "Layer",
    "Layers",
    "Scope",
    "Sequences",
    "__version__",
    "attribution",
    "datasets",
    "errors",
    "explore",
    "nn",
    "open",
    "plot",
    "read",
    "target",
    "units",
    "zoo",
]

_LATE = ("attribution", "nn", "plot", "units")  # they load matplotlib and scipy, which looking at numbers does not need


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return importlib.import_module(f"seqscope.{name}")
    if name == "open":
        errors.require("zarr", extra="record", purpose="Opening a recording")
        return importlib.import_module("seqscope.recording.reading").open_recording
    if name == "explore":
        errors.require("panel", extra="explore", purpose="The page")
        return importlib.import_module("seqscope.explorer").explore
    raise AttributeError(f"module 'seqscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
