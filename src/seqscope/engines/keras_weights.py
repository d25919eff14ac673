"""Keras models and weights from files: nothing in a file can run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras

from seqscope.errors import ModelError

_WEIGHTS = (".h5", ".keras")


def load_weights(model: Any, path: Path) -> None:
    """Fill a Keras model with the weights of a `.weights.h5` or `.keras` file.

    Raises
    ------
    ModelError
        The file is not there, is of another kind, or does not fit the model.
    """
    if path.suffix.lower() not in _WEIGHTS:
        raise ModelError(f"The weights of a Keras model are read from a .weights.h5 file, and '{path}' is none.")
    if not path.is_file():
        raise ModelError(f"There is no file '{path}'.")
    try:
        model.load_weights(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The weights '{path}' do not fit {model.name}: {' '.join(str(error).split())}") from error


def open_file(path: Path) -> Any:
    """Load a `.keras` file in Keras' safe mode, which runs no code from the file.

    Raises
    ------
    ModelError
        It is no such file, or holds what can't be loaded without running code (a Lambda layer) or without a class of the person's own.
    """
    try:
        return keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:
        text = " ".join(str(error).split())
        if "Lambda" in text or "unsafe" in text.lower():
            raise ModelError(
                f"'{path}' holds a Lambda layer, which is code that loading would run: if you trust the file, load it with "
                "keras.models.load_model(path, safe_mode=False) and give Scope the model."
            ) from error
        unknown = re.search(r"Could not locate (?:class|function) '(\w+)'", text)
        if unknown is not None:
            raise ModelError(
                f"'{path}' holds {unknown[1]!r}, which Keras does not know: load it with "
                f"keras.models.load_model(path, custom_objects={{{unknown[1]!r}: ...}}) and give Scope the model."
            ) from error
        raise ModelError(f"'{path}' can't be loaded as a Keras model: {text.split(' Full object config')[0]}") from error
