"""The attention weights of Keras' attention layers, also where the model does not ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers as kl


def has_weights(layer: Any) -> bool:
    """Whether a layer is an attention layer that can give its weights."""
    return isinstance(layer, kl.MultiHeadAttention | kl.GroupQueryAttention | kl.Attention)  # additive attention is of the last kind


def with_weights(layer: Any, keep: Callable[[Any], None]) -> Callable[..., Any]:
    """The layer's `call`, which also hands over its weights, (sample, head, query, key).

    The value is computed as the model asks for it, and the weights by a call of their own: with weights a layer may compute its value
    another way, which rounds otherwise.
    """
    original = layer.call

    def call(query: Any, *args: Any, **kwargs: Any) -> Any:
        mask = getattr(query, "_keras_mask", None)  # a call takes it away
        weights = original(query, *args, **kwargs | {"return_attention_scores": True})[1]
        if mask is not None:
            query._keras_mask = mask
        keep(weights if len(weights.shape) == 4 else weights[:, None])
        return original(query, *args, **kwargs)

    return call
