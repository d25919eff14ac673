"""The attention weights of Keras' attention layers, also where the model does not ask for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from keras import layers as kl

from seqscope.engines.places import replaced


def has_weights(layer: Any) -> bool:
    """Whether a layer is an attention layer that can be asked for its weights; one with a `call` of its own may not know the word."""
    if not isinstance(layer, kl.MultiHeadAttention | kl.GroupQueryAttention | kl.Attention):  # additive attention is of the last kind
        return False
    taken = inspect.signature(type(layer).call).parameters.values()
    return any(one.name == "return_attention_scores" or one.kind is inspect.Parameter.VAR_KEYWORD for one in taken)


def with_weights(layer: Any, keep: Callable[[Any], None]) -> Callable[..., Any]:
    """The layer's `call`, which also hands over its weights, (sample, head, query, key).

    The value is computed as the model asks for it, and the weights by a call of their own: with weights a layer may compute its value
    another way, which rounds otherwise. Flash attention, which never has the weights, is off in the call for them.
    """
    original = layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        query = args[0] if args else kwargs.get("query")  # the other kind of layer takes a list, and its masks apart
        mask = getattr(query, "_keras_mask", None)  # a call takes it away
        with replaced(layer, "_flash_attention", False):
            weights = original(*args, **kwargs | {"return_attention_scores": True})[1]
        if mask is not None and query is not None:
            query._keras_mask = mask
        keep(weights if len(weights.shape) > 3 else weights[:, None])
        return original(*args, **kwargs)

    return call
