"""Which layer's kernels a person asked for, and how its taps lie."""

from __future__ import annotations

from collections.abc import Mapping

from seqscope.errors import LayerError, UnsupportedError, nearest, quoted
from seqscope.layers import Layer
from seqscope.reach import Slides


def convolution(name: str, by_name: Mapping[str, Layer]) -> Layer:
    """Find a convolution along time by its name.

    Raises
    ------
    LayerError
        No layer has that name.
    UnsupportedError
        It is no convolution.
    """
    there = [known for known, layer in by_name.items() if is_convolution(layer)]
    if name not in by_name:
        raise LayerError(f"No layer is named {name!r}: {nearest(str(name), by_name)}.")
    if name not in there:
        which = f"ask for one of {quoted(there)}" if there else "there is none in this model"
        raise UnsupportedError(f"'{name}' ({by_name[name].type}) is no convolution along time: {which}.")
    return by_name[name]


def is_convolution(layer: Layer) -> bool:
    """Whether a layer slides kernels along time."""
    return layer.kind.startswith("conv1d")


def spacing(layer: Layer) -> dict[str, int]:
    """How far apart the places and the taps of its kernels are, where that is known."""
    return {"stride": layer.reach.stride, "dilation": layer.reach.dilation} if isinstance(layer.reach, Slides) else {}
