"""How a model gets to workers: as bytes, or, where it can't be made bytes of, opened there as it was opened here."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqscope.engines import shipping
from seqscope.engines.base import Engine, engine_for
from seqscope.errors import ModelError, require
from seqscope.files.models import model_of


@dataclass(frozen=True)
class Recipe:
    """What `Scope` was given in place of a model object, see there."""

    model: str | None
    weights: str | None
    factory: str | Callable[[], Any] | None
    trust: bool
    custom_objects: Mapping[str, Any] | None

    @classmethod
    def of(cls, model: Any, weights: Any, factory: Any, trust: bool, custom_objects: Any) -> Recipe | None:
        """What a worker could do the same with; None where a model object was given."""
        is_file = isinstance(model, str | os.PathLike)
        if not is_file and (model is not None or factory is None):
            return None
        place = [None if path is None else str(Path(path).absolute()) for path in (model, weights)]
        return cls(place[0], place[1], factory, trust, custom_objects)

    def open(self) -> Any:
        """The model."""
        return model_of(self.model, weights=self.weights, factory=self.factory, trust=self.trust, custom_objects=self.custom_objects)


def sent(engine: Engine, recipe: Recipe | None) -> bytes:
    """A model as workers get it.

    Raises
    ------
    ModelError
        It can't be made bytes of, and was not opened from a file or by a factory.
    """
    try:
        return shipping.packed(engine)
    except ModelError:
        if recipe is None:
            raise
    cloudpickle = require("cloudpickle", extra="record", purpose="Recording on a cluster")
    return bytes(cloudpickle.dumps((recipe, getattr(engine, "call", None), shipping.fingerprint(engine))))


def arrived(data: bytes) -> Engine:
    """The engine that `sent` made bytes of.

    Raises
    ------
    ModelError
        It can't be opened here, or is another one here.
    """
    there = pickle.loads(data)
    if not isinstance(there[0], Recipe):
        return shipping.unpacked(data)
    recipe, call, fingerprint = there
    engine = engine_for(recipe.open(), call=call)
    if shipping.fingerprint(engine) != fingerprint:
        source = recipe.factory if recipe.model is None else recipe.model
        raise ModelError(f"{source!r} gives another model on a worker than where the recording was started: the same is needed everywhere.")
    return engine
