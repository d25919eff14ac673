"""Model files and what makes models: from what a person has to a model object."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqscope import zoo
from seqscope.engines.base import copy_of, load_weights, open_file
from seqscope.engines.model_files import MODEL_FILES
from seqscope.errors import ModelError, nearest, quoted

# What makes a model: "module:callable", or a function or class that is called with nothing.
Factory = str | Callable[[], Any]
AnyPath = str | os.PathLike[str]


def model_of(
    model: Any,
    *,
    weights: AnyPath | None = None,
    factory: Factory | None = None,
    trust: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """The model that `Scope` was given: an object as it is, a file opened, weights filled into a copy.

    Parameters
    ----------
    model : object, path, or None
        A path is a model file; with `factory`, a file of weights.
    weights : path, optional
        A file of weights. An object that was given stays as it is: they go into a copy of it.
    factory : str or callable, optional
        What makes the model that a file of weights is for.
    trust : bool
        Whether code from the files may run.
    custom_objects : dict, optional
        For a Keras file.

    Raises
    ------
    ModelError
        It can't be told which model is meant; it can't be opened, made or filled.

    Examples
    --------
    >>> from importlib.resources import files
    >>> weights = files("seqscope.zoo") / "japanese_vowels.safetensors"
    >>> type(model_of(weights, factory="seqscope.zoo.torch:JapaneseVowels")).__name__
    'JapaneseVowels'
    """
    is_file = isinstance(model, str | os.PathLike)
    if custom_objects and (factory is not None or not is_file):
        raise ModelError("custom_objects= are for a model file of Keras, and none was given: a model object knows its classes.")
    if factory is not None:
        return _made_and_filled(model, weights, factory, trust=trust)
    if model is None:
        raise ModelError("No model was given: give a model object, the path of a model file, or factory='module:callable' that makes one.")
    found = open_file(Path(model), trust=trust, custom_objects=custom_objects) if is_file else model
    if weights is None:
        return found
    if not is_file:
        found = copy_of(found)
    load_weights(found, Path(weights), trust=trust)
    return found


def _made_and_filled(model: Any, weights: AnyPath | None, factory: Factory, *, trust: bool) -> Any:
    """A model from its factory, with the one file of weights that there is."""
    if model is not None and not isinstance(model, str | os.PathLike):
        raise ModelError("Both a model and factory= were given, which makes one: leave one of them out.")
    if model is not None and weights is not None:
        raise ModelError(f"factory= makes the model, and two files were given to fill it with, '{model}' and '{weights}': give one.")
    made = make(factory)
    source = weights if model is None else model
    if source is not None:
        load_weights(made, Path(source), trust=trust)
    return made


def open_model(
    source: str, weights: AnyPath | None = None, *, framework: str = "torch", factory: str | None = None, trust: bool = False
) -> Any:
    """Make the model that a command was given as MODEL.

    Parameters
    ----------
    source : str
        A name of the zoo, a model file, or `module:callable`, a function or class that makes the model when called with nothing;
        modules are looked for in the current folder too.
    framework : str
        What a network of the zoo is made of.
    weights : path, optional
        A file to fill it with.
    factory : str, optional
        `module:callable`, where the source is a file of weights alone.
    trust : bool
        Whether code from the files may run.

    Raises
    ------
    ModelError
        There is no such network, file, module or callable, or it fails.

    Examples
    --------
    >>> type(open_model("japanese_vowels")).__name__
    'JapaneseVowels'
    """
    path = Path(source)
    if source in zoo.__all__:
        model = getattr(zoo, source)(framework)
    elif path.suffix.lower() in MODEL_FILES or path.exists():
        return model_of(source, weights=weights, factory=factory, trust=trust)
    elif ":" in source:
        model = make(source)
    else:
        raise ModelError(
            f"{source!r} is no network of the zoo ({nearest(source, zoo.__all__)}), no model file ({quoted(MODEL_FILES, most=6)}) and not "
            "of the form module:callable, such as my_models:make."
        )
    if factory is not None:
        raise ModelError(f"--factory makes the model that a file of weights is for, and {source!r} is no file: leave it out.")
    if weights is not None:
        load_weights(model, Path(weights), trust=trust)
    return model


def make(factory: Factory) -> Any:
    """Call what makes a model.

    Raises
    ------
    ModelError
        There is no such module or callable, or it fails.
    """
    name = factory if isinstance(factory, str) else getattr(factory, "__name__", repr(factory))
    called = _named(factory) if isinstance(factory, str) else factory
    try:
        return called()
    except Exception as error:
        raise ModelError(f"{name}() raised {type(error).__name__}: {error}") from error


def _named(factory: str) -> Any:
    module, colon, name = factory.partition(":")
    if not (module and colon and name):
        raise ModelError(f"{factory!r} names no factory: expected module:callable, such as my_models:make.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModelError(f"The module {error.name!r} of {factory} can't be found, here ({here}) or among the packages.") from error
    except AttributeError as error:
        raise ModelError(f"The module {module!r} has no {name!r}.") from error
