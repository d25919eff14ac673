"""Units of Keras layers that are held in a pass.

Which units, and at what, goes in as tensors: what was compiled for some units of a layer runs for any others of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from seqscope.engines import keras_kinds
from seqscope.engines.base import BACKWARD, FORWARD
from seqscope.engines.holds import Held, Hold, refuse_unseen
from seqscope.engines.keras_layers import Described
from seqscope.errors import LayerError, about_layer

# What holds the units of layers: for each that holds some, functions of what it gives (under ""), or of the h of its cells at a step, by
# place ("[h]", "[backward][h]", ".1[h]" for the second of stacked cells).
Clamps = Mapping[str, Mapping[str, Callable[[Any], Any]]]


def key_of(held: Held) -> tuple[Any, ...]:
    """What of it is compiled."""
    return tuple((name, hold.axis, len(hold.mask)) for name, hold in held.items())


def tensors_of(held: Held) -> dict[str, dict[str, Any]]:
    """What of it goes in as tensors, for each layer."""
    return {
        name: {"mask": ops.convert_to_tensor(hold.mask), "values": ops.convert_to_tensor(hold.values.astype(_float_type()))}
        for name, hold in held.items()
    }


def _float_type() -> type:
    """The widest type that the backend has: values are cast to that of each layer."""
    return np.float32 if keras.backend.backend() == "jax" else np.float64


def clamps_of(held: Held, tensors: Mapping[str, Mapping[str, Any]], described: Described, ran: set[str]) -> Clamps:
    """What holds units.

    Parameters
    ----------
    tensors : dict of dicts
        As `tensors_of` gives them.
    ran : set of str
        The names of layers whose units were held go in here.
    """
    clamps: dict[str, dict[str, Callable[[Any], Any]]] = {}
    for name, hold in held.items():
        holder, places = place_of(name, described) if hold.axis is None else (name, [""])
        of_layer = clamps.setdefault(holder, {})
        size = len(hold.mask) // len(places)
        for number, place in enumerate(places):
            whole = {kind: ops.reshape(tensor, (len(hold.mask),)) for kind, tensor in tensors[name].items()}
            here = {kind: tensor[number * size : (number + 1) * size] for kind, tensor in whole.items()}
            of_layer[place] = partial(_clamped, name, hold, size, here, ran)
    return clamps


def place_of(name: str, described: Described) -> tuple[str, list[str]]:
    """The recurrent layer that a part belongs to, and the places of the part's h, the forward one first."""
    holder, (layer, _) = next(iter(described.with_states([name]).items()))
    ending = name.removeprefix(holder)
    if keras_kinds.is_bidirectional(layer):
        return holder, [f"{ending}[{way}][h]" for way in (FORWARD, BACKWARD)]
    return holder, [f"{ending}[h]"]


def _clamped(name: str, hold: Hold, size: int, here: Mapping[str, Any], ran: set[str], tensor: Any) -> Any:
    """A layer's value, or its h at a step, with units held."""
    axis = 1 if hold.axis is None else hold.axis
    with about_layer(name):
        if "float" not in keras.backend.standardize_dtype(tensor.dtype) or len(tensor.shape) <= axis:
            raise LayerError(f"gives {tensor.dtype} of shape {tuple(tensor.shape)}, in which no units can be held")
        if hold.axis is not None:
            hold.refuse_misfit(tensor.shape[axis])
    ran.add(name)
    sizes = [1] * len(tensor.shape)
    sizes[axis] = size
    return ops.where(ops.reshape(here["mask"], sizes), ops.cast(ops.reshape(here["values"], sizes), tensor.dtype), tensor)


def refuse_missing(held: Held, ran: set[str]) -> None:
    """Refuse a pass in which a layer whose units are held did not run.

    Raises
    ------
    LayerError
    """
    for name in held:
        if name not in ran:
            refuse_unseen(name)


def why_not(name: str, described: Described) -> str | None:
    """What stands in the way of holding a layer's units; None where nothing does."""
    if name in described.unknown:
        return described.unknown[name]
    if name not in described.parts:
        return None
    (layer, _), *_ = described.with_states([name]).values()
    if keras_kinds.is_bidirectional(layer) and layer.merge_mode != "concat":
        return f"its two directions are put together with merge_mode={layer.merge_mode!r}, so that a unit of it is no one hidden state"
    return None
