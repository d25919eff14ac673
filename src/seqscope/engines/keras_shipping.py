"""Keras models for another process: their weights, and their `.keras` archive with the classes and functions that it only names."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from seqscope.engines.base import Packed
from seqscope.engines.keras_layers import Described, weights_of
from seqscope.engines.shipping import dumped
from seqscope.errors import ModelError
from seqscope.randomness import state_kept

_FILE = "model.keras"
# The file of an archive that says what the model is.
_CONFIG = "config.json"
# What a lambda is called in an archive, where it is carried beside it.
_LAMBDA = "seqscope lambda"


def contents(model: Any, described: Described) -> Iterator[str | np.ndarray]:
    """A model's class and weights, each weight behind its layer's name, those of several layers once; states and seeds left out."""
    yield type(model).__name__
    seen = {id(state) for state in described.states}
    for name, layer in described.objects.items():
        yield from _unseen(name, weights_of(layer, recurse=False), seen)
    yield from _unseen("", model.weights, seen)  # that no layer owns


def _unseen(name: str, variables: list[Any], seen: set[int]) -> Iterator[str | np.ndarray]:
    for index, variable in enumerate(variables):
        if id(variable) not in seen:
            seen.add(id(variable))
            yield f"{name}/{index} {variable.dtype} {tuple(variable.shape)}"
            yield np.asarray(keras.ops.convert_to_numpy(variable))


def packed(model: Any, call: Any) -> Packed:
    """A model and the function that feeds it. The other process has to run Keras on the same backend, and is set so where it can be."""
    return Packed("keras_shipping", dumped((model, call), _reduced), {"keras": {"KERAS_BACKEND": keras.backend.backend()}})


def opened(data: bytes) -> tuple[Any, Any]:
    """The same again."""
    model, call = pickle.loads(data)
    return model, call


def _reduced(value: Any) -> Any:
    """How Keras' layers and models are written."""
    if not isinstance(value, keras.Layer):
        return NotImplemented
    if not value.built:
        raise ModelError(f"{value.name} has no weights yet, and each process would draw its own: run the model on one batch first.")
    named = _named(value)
    lambdas = [layer for layer in value._flatten_layers() if isinstance(layer, keras.layers.Lambda)]
    carried = {f"{_LAMBDA} {place}": layer for place, layer in enumerate(lambdas)}
    data = _with_names(_archive(value), {_written(layer): name for name, layer in carried.items()})
    named |= {name: layer.function for name, layer in carried.items()}
    parts = data, named, [layer.name for layer in value._flatten_layers()], keras.backend.backend()
    if any(isinstance(kind, type) and issubclass(kind, keras.Layer) for kind in named.values()):
        with state_kept():
            _opened(*parts)  # a class may be saved and not be made again: that is to be known here, and not in the other process
    return _opened, parts


def _opened(data: bytes, named: Mapping[str, Any], names: list[str], backend: str) -> Any:
    """The model of an archive, its layers named as they were: Keras numbers those anew that a class makes by itself."""
    if keras.backend.backend() != backend:
        raise ModelError(
            f"A model of Keras on {backend} was sent to a process where Keras runs on {keras.backend.backend()}: set the environment "
            f"variable KERAS_BACKEND to {backend} there, before the process starts."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(data)
        model = keras.saving.load_model(path, custom_objects=dict(named), compile=False, safe_mode=False)
    for layer, name in zip(model._flatten_layers(), names, strict=True):
        if layer.name != name:
            layer.name = name
    return model


def _archive(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        keras.saving.save_model(model, path)
        return path.read_bytes()


def _named(model: Any) -> dict[str, Any]:
    """The classes and functions of a model that are not Keras' own, by the names that an archive has for them.

    Those of its layers, and those that layers keep: cells, activations, initializers, regularizers.
    """
    found: dict[str, Any] = {}
    for layer in model._flatten_layers():
        for value in (layer, *vars(layer).values()):
            kind = value if isinstance(value, types.FunctionType) else type(value)
            is_own = kind.__module__.partition(".")[0] not in ("builtins", "keras", "tensorflow", "jax", "jaxlib", "torch", "numpy")
            if is_own and (kind is value or hasattr(kind, "get_config")):
                found |= {kind.__name__: kind, keras.saving.get_registered_name(kind): kind}
    return found


def _written(layer: Any) -> str:
    """How an archive has the function of a Lambda layer: by its code and what is around it, which leaves out the names that it uses."""
    return json.dumps(layer.get_config()["function"], sort_keys=True)


def _with_names(archive: bytes, lambdas: Mapping[str, str]) -> bytes:
    """An archive whose lambdas are named, so that each is taken from those that are carried beside it."""
    if not lambdas:
        return archive
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(written, "w") as after:
        for part in before.infolist():
            data = before.read(part)
            after.writestr(part, json.dumps(_renamed(json.loads(data), lambdas)) if part.filename == _CONFIG else data)
    return written.getvalue()


def _renamed(config: Any, lambdas: Mapping[str, str]) -> Any:
    """A description of a model with the functions of Lambda layers by name."""
    if isinstance(config, list):
        return [_renamed(part, lambdas) for part in config]
    if not isinstance(config, dict):
        return config
    name = lambdas.get(json.dumps(config, sort_keys=True)) if "class_name" in config else None
    if name is None:
        return {key: _renamed(part, lambdas) for key, part in config.items()}
    return {"class_name": "function", "config": name, "registered_name": name, "module": "builtins"}
