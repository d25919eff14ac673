"""What went into a final softmax, log-softmax or sigmoid of a Keras model.

While the model runs, or is traced, every such function remembers what it was given: Keras' own, which its layers and activations go
through on each backend, and the backend's, which a model may call itself. The model's output is then looked up by identity.
"""

from __future__ import annotations

import contextlib
import importlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras.src import backend as keras_backend

from seqscope.engines import keras_kinds
from seqscope.engines.places import replaced

FUNCTIONS = ("softmax", "log_softmax", "sigmoid")

# What leaves every number as it is: looked through as well.
_MOVES = ("reshape", "squeeze", "expand_dims")

# Where the backends have these functions.
_NATIVE = {
    "tensorflow": ("tensorflow", "tensorflow.nn", "tensorflow.math"),
    "jax": ("jax.nn",),
    "torch": ("torch", "torch.nn.functional"),
}


@dataclass(frozen=True)
class _Entry:
    """How a tensor came to be.

    Attributes
    ----------
    result : function
        The tensor, as long as somebody holds it.
    version : int
        How often it had been written over (in torch).
    made_from : tensor
    logits : function of a tensor
        Makes the logits of those of `made_from`, or of `made_from` itself where it was given to one of `FUNCTIONS`.
    name : str
        Which of them; "" where the numbers were only moved.
    """

    result: Callable[[], Any]
    version: int
    made_from: Any
    logits: Callable[[Any], Any]
    name: str = ""


class LogitWatch:
    """Remembers what went into every softmax, log-softmax and sigmoid.

    Parameters
    ----------
    layers : iterable of layers
        Those of the model: what runs at each step by itself (TimeDistributed) is put together from many calls, and has to be run again.
    """

    def __init__(self, layers: Iterable[Any] = ()) -> None:
        self._stepwise = [layer for layer in layers if _ends_in(layer)]
        self._known: dict[int, _Entry] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Wrap the functions; put back what they were, also after an exception."""
        with contextlib.ExitStack() as undo:
            for module in map(_module, _NATIVE[keras.backend.backend()]):
                for name in FUNCTIONS:
                    if hasattr(module, name):
                        undo.enter_context(replaced(module, name, self._bending(name, getattr(module, name))))
            for name in FUNCTIONS:
                undo.enter_context(replaced(keras_backend.nn, name, self._bending(name, getattr(keras_backend.nn, name))))
            for name in _MOVES:
                undo.enter_context(replaced(keras_backend.numpy, name, self._moving(getattr(keras_backend.numpy, name))))
            for layer in self._stepwise:
                undo.enter_context(replaced(layer, "call", self._at_each_step(layer)))
            yield

    def before(self, tensor: Any) -> tuple[Any, str] | None:
        """The logits that a tensor was made of, and by which function; None where it was made by none, or that can't be seen."""
        redo: list[Callable[[Any], Any]] = []
        while (entry := self._known.get(id(tensor))) is not None:
            if entry.result() is not tensor or entry.version != _version(tensor):
                return None
            redo.append(entry.logits)
            tensor = entry.made_from
            if entry.name:
                for again in reversed(redo):
                    tensor = again(tensor)
                return tensor, entry.name
        return None

    def _bending(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            x = args[0] if args else next(iter(kwargs.values()), None)
            if x is not None and keras.ops.is_tensor(x) and (name == "sigmoid" or _is_over_last(args, kwargs, len(x.shape))):
                self._remember(result, x, lambda logits: logits, name)
            return result

        return function

    def _moving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(x: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(x, *args, **kwargs)
            if id(x) in self._known and result is not x:
                self._remember(result, x, lambda logits: original(logits, *args, **kwargs))
            return result

        return function

    def _at_each_step(self, layer: Any) -> Callable[..., Any]:
        """The call of a TimeDistributed, which is run once more, without the function, where its logits are asked for."""
        original, inner = layer.call, layer.layer

        def call(*args: Any, **kwargs: Any) -> Any:
            def again(_: Any) -> Any:
                with replaced(inner, "activation", None if isinstance(inner, keras.layers.Dense) else keras.activations.linear):
                    return original(*args, **kwargs)

            result = original(*args, **kwargs)
            self._remember(result, args[0] if args else None, again, _ends_in(layer))
            return result

        return call

    def _remember(self, result: Any, made_from: Any, logits: Callable[[Any], Any], name: str = "") -> None:
        """Keep an entry as long as its tensor lives: a recurrent layer's gates go through a sigmoid at every step."""
        key = id(result)
        try:
            held: Callable[[], Any] = weakref.ref(result, lambda _: self._known.pop(key, None))
        except TypeError:
            held = lambda: result  # noqa: E731
        self._known[key] = _Entry(held, _version(result), made_from, logits, name)


def _module(name: str) -> Any:
    """A module, or what a package shows as one."""
    package, _, rest = name.partition(".")
    found = importlib.import_module(package)
    for part in rest.split(".") if rest else ():
        found = getattr(found, part)
    return found


def _is_over_last(args: Any, kwargs: Any, n_axes: int) -> bool:
    """Whether a softmax is over the last axis, which is where Keras has a model's outputs, and not that of the samples."""
    axis = args[1] if len(args) > 1 else kwargs.get("axis", kwargs.get("dim", -1))
    return n_axes > 1 and axis in (-1, n_axes - 1)


def _ends_in(layer: Any) -> str:
    """The function that a TimeDistributed layer ends in at each step; "" where it ends in none, or is no such layer."""
    inner = layer.layer if keras_kinds.is_time_distributed(layer) else None
    if not isinstance(inner, keras.layers.Dense | keras.layers.Activation):
        return ""
    return next((name for name in FUNCTIONS if inner.activation is getattr(keras.activations, name)), "")


def _version(tensor: Any) -> int:
    """How often a tensor was written over."""
    version = getattr(tensor, "_version", 0)
    return version if isinstance(version, int) else 0
