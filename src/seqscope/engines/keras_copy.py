"""A copy of a Keras model, to be filled with other weights."""

from __future__ import annotations

import copy
from typing import Any

import keras


def copy_of(model: Any) -> Any:
    """A model with the same layers and weights.

    A functional model is built anew from its layers' own classes, registered or not. Others go the way of a `.keras` file in memory, in
    which the classes of what is at hand are known.

    Raises
    ------
    Exception
        Whatever Keras, or a layer's `get_config`, raises.
    """
    try:
        copied = keras.models.clone_model(model)
        copied.set_weights(model.get_weights())
    except Exception:  # of Keras' many reasons, not one matters: the other way may work
        classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
        with keras.saving.custom_object_scope(classes):
            return copy.deepcopy(model)
    return copied
