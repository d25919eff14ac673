"""Which places of its input each place of a layer's value depends on, from the layer's own parameters.

An engine says this of every layer whose kind it knows; `receptive` follows it through the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Same:
    """Each place depends on the same place of the input and no other: activations, dropout, batch norm on running statistics."""


@dataclass(frozen=True)
class Mixes:
    """Each place depends on every place along some axes: a dense layer, a norm, an embedding.

    Attributes
    ----------
    axes : tuple of int
        The axes, counted from the end (-1 is the last); empty for an embedding, which adds an axis.
    size : int or None
        The new size of the last axis (for an embedding, of the new one); None where the shape stays.
    """

    axes: tuple[int, ...] = (-1,)
    size: int | None = None


@dataclass(frozen=True)
class Slides:
    """Each place depends on a window of the input: convolution.

    Attributes
    ----------
    taps : int
        The steps of the kernel.
    units : int
        The filters: the new size of the unit axis.
    time_axis, unit_axis : int
        Counted from the end: torch (-1, -2), Keras (-2, -1).
    stride, dilation : int
        In steps.
    padding : tuple of int, or "same"
        Steps added before and after ("causal" is all before); "same": as many as make the value ceil(steps / stride) long, the odd one
        after.
    mode : str
        What is put there, as `numpy.pad` names it: "constant" (zeros, which depend on nothing), "reflect", "edge", "wrap".
    transposed : bool
        Whether the stride spreads the steps instead; `padding` is then cut off, and `extra` steps are added after.
    """

    taps: int
    units: int
    time_axis: int
    unit_axis: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] | str = (0, 0)
    mode: str = "constant"
    transposed: bool = False
    extra: int = 0


@dataclass(frozen=True)
class Remembers:
    """Each step depends on all steps before it (a recurrent layer), after it (backward), or both (bidirectional, attention).

    Attributes
    ----------
    before, after : bool
    size : int
        The size of the last axis of its value.
    sample_axis : int
        0, or 1 where time comes first.
    """

    before: bool
    after: bool
    size: int
    sample_axis: int = 0


Reach = Same | Mixes | Slides | Remembers
