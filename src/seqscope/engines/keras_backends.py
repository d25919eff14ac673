"""How each of Keras' backends runs a function of tensors: compiled where that pays, eagerly where it must be.

Measured on an LSTM of 100 units, 64 x 100 steps: an eager pass takes 15 times a compiled one on jax and tensorflow, and on jax a length
that was never seen takes as long eagerly as it does to compile. So tensorflow compiles once for every batch size and length, and jax
for each shape (`Engine.compiles_shapes`: whoever feeds it pads to few shapes).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import keras
import numpy as np

from seqscope.errors import SeqscopeError, UnsupportedError

# Runs on (variables' values, batch, lengths, or a nest of tensors that has them), all native, and gives a nest of tensors.
Body = Callable[[list[Any], Any, Any], Any]
Shape = tuple[int | None, ...]
# What is differentiated: a function of (tensors, mark) that gives scores, and what else is wanted of the pass.
Scored = Callable[[list[Any], Callable[[Any], Any]], tuple[Any, Any]]


class Backend(Protocol):
    """What the engine needs of a backend.

    Attributes
    ----------
    name : str
    compiles_shapes : bool
        Whether each new shape of a batch is compiled anew.
    takes_values : bool
        Whether the variables' values go in as arguments; else the function reads the variables themselves.
    """

    name: str
    compiles_shapes: bool
    takes_values: bool

    def compiled(self, body: Body, free: Shape | None) -> Body:
        """A fast form of a function.

        Parameters
        ----------
        free : tuple or None
            The batch's shape, None where a size may differ from call to call; None for all of it: trace for each shape anew.
        """
        ...

    def for_one_shape(self, body: Body) -> Body:
        """The fastest form of a function that is always called with tensors of the same shapes."""
        ...

    def argument(self, array: np.ndarray) -> Any:
        """An array in the form in which a compiled function takes it soonest."""
        ...

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Inside, no gradient is kept."""
        ...

    def derivatives(self, score: Scored, tensors: list[Any], *, marks: bool) -> tuple[Any, list[Any], Any]:
        """A score for each sample, and its derivatives with respect to some tensors, on which the scores of other samples do not depend.

        Zeros where a score does not depend on a tensor.

        Parameters
        ----------
        score : function of (tensors, mark)
            Gives the scores, and a nest of tensors that are handed through. What `mark` makes of a tensor that comes up on the way has
            the same value, and is one more tensor to differentiate with respect to.
        marks : bool
            Whether it marks any.
        """
        ...

    def as_numpy(self, tensor: Any) -> np.ndarray:
        """An array of a tensor: a view where it can be one."""
        ...


class Tensorflow:
    """One graph for all batch sizes and lengths; a graph a shape where a model can't be traced without knowing them."""

    name, compiles_shapes, takes_values = "tensorflow", False, False

    def compiled(self, body: Body, free: Shape | None) -> Body:
        """One graph where it can be, a graph a shape else."""
        import tensorflow as tf

        by_shape = tf.function(lambda batch, more: body([], batch, more), autograph=False)
        for_all: list[Any] = [by_shape] if free is None else []

        def run(values: list[Any], batch: Any, more: Any) -> Any:
            if free is not None and not for_all:
                of_any_size = tf.nest.map_structure(lambda tensor: tf.TensorSpec((None,) * len(tensor.shape), tensor.dtype), more)
                try:
                    for_all.append(by_shape.get_concrete_function(tf.TensorSpec(free, batch.dtype), of_any_size))
                except SeqscopeError:
                    raise
                except Exception:
                    for_all.append(by_shape)  # a loop over the steps in Python, say: the number of steps has to be known
            return for_all[0](batch, more)

        return run

    def for_one_shape(self, body: Body) -> Body:
        """One graph, called past the search for a graph that fits."""
        import tensorflow as tf

        graph: list[Any] = []

        def run(values: list[Any], batch: Any, more: Any) -> Any:
            if not graph:
                graph.append(tf.function(lambda batch, more: body([], batch, more), autograph=False).get_concrete_function(batch, more))
            return graph[0](batch, more)

        return run

    def argument(self, array: np.ndarray) -> Any:
        """A tensor."""
        return keras.ops.convert_to_tensor(array)

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Nothing to do: gradients are kept on a tape alone."""
        return nullcontext()

    def derivatives(self, score: Scored, tensors: list[Any], *, marks: bool) -> tuple[Any, list[Any], Any]:
        """By a tape."""
        import tensorflow as tf

        wanted = list(tensors)

        def mark(tensor: Any) -> Any:
            wanted.append(tf.identity(tensor))
            tape.watch(wanted[-1])
            return wanted[-1]

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            scores, more = score(tensors, mark)
        if not scores.dtype.is_floating:
            raise UnsupportedError("The score has no derivative: it holds whole numbers.")
        return scores, tape.gradient(scores, wanted, unconnected_gradients=tf.UnconnectedGradients.ZERO), more

    def as_numpy(self, tensor: Any) -> np.ndarray:
        """A view where the tensor is in main memory and of a type that both have."""
        if "CPU" in tensor.device and tensor.dtype.name in _SHARED_TYPES:
            return np.asarray(memoryview(tensor))
        return np.asarray(tensor.numpy())


class Jax:
    """Compiled for each shape. Variables go in as arguments: `predict` and `fit` give up the arrays that variables held before."""

    name, compiles_shapes, takes_values = "jax", True, True

    def compiled(self, body: Body, free: Shape | None) -> Body:
        """Compiled at the first call of each shape."""
        import jax

        compiled: Body = jax.jit(body)
        return compiled

    def for_one_shape(self, body: Body) -> Body:
        """The same."""
        return self.compiled(body, None)

    def argument(self, array: np.ndarray) -> Any:
        """The array itself, which a compiled function takes sooner than a tensor can be made of it."""
        return array

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Nothing to do: gradients are functions of their own."""
        return nullcontext()

    def derivatives(self, score: Scored, tensors: list[Any], *, marks: bool) -> tuple[Any, list[Any], Any]:
        """By transforming the function. How large what is marked is has to be known before: it is traced for that alone, not run."""
        import jax

        kinds: list[tuple[Any, Any]] = []

        def measure(tensor: Any) -> Any:
            kinds.append((tensor.shape, tensor.dtype))
            return tensor

        def summed(tensors: list[Any], zeros: list[Any]) -> tuple[Any, Any]:
            left = iter(zeros)
            scores, more = score(tensors, lambda tensor: tensor + next(left))
            return scores.sum(), (scores, more)

        if marks:
            jax.eval_shape(lambda tensors: score(tensors, measure)[0], tensors)
        zeros = [jax.numpy.zeros(*kind) for kind in kinds]
        (of_tensors, of_marked), (scores, more) = jax.grad(summed, argnums=(0, 1), has_aux=True)(tensors, zeros)
        return scores, [*of_tensors, *of_marked], more

    def as_numpy(self, tensor: Any) -> np.ndarray:
        """A view where the tensor is in main memory."""
        return np.asarray(tensor)


class Torch:
    """Run as it is: nothing to compile."""

    name, compiles_shapes, takes_values = "torch", False, False

    def compiled(self, body: Body, free: Shape | None) -> Body:
        """The function itself."""
        return body

    def for_one_shape(self, body: Body) -> Body:
        """The function itself."""
        return body

    def argument(self, array: np.ndarray) -> Any:
        """A tensor with memory of its own."""
        import torch

        return torch.from_numpy(array.copy())

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Not inference mode: a tensor that a layer keeps from it could not be used in a later backward pass."""
        import torch

        return torch.no_grad()

    def derivatives(self, score: Scored, tensors: list[Any], *, marks: bool) -> tuple[Any, list[Any], Any]:
        """By torch's own graph."""
        import torch

        wanted = [tensor.detach().requires_grad_() for tensor in tensors]

        def mark(tensor: Any) -> Any:
            wanted.append(tensor.clone() if tensor.requires_grad else tensor.detach().requires_grad_())
            return wanted[-1]

        with torch.enable_grad():
            scores, more = score(list(wanted), mark)
            if not scores.requires_grad:
                raise UnsupportedError("The score has no derivative: the target, or the model, cuts it off (argmax, detach, no_grad).")
            found = torch.autograd.grad(scores.sum(), wanted, allow_unused=True, materialize_grads=True)
        return scores.detach(), list(found), more

    def as_numpy(self, tensor: Any) -> np.ndarray:
        """A view where the tensor is in main memory."""
        from seqscope.engines.torch import as_numpy

        return as_numpy(tensor)


# Types that tensorflow shares with NumPy without a copy.
_SHARED_TYPES = ("float16", "float32", "float64", "int32", "int64", "bool")

_BACKENDS: dict[str, type[Backend]] = {"tensorflow": Tensorflow, "jax": Jax, "torch": Torch}


def current() -> Backend | None:
    """The backend that Keras runs on in this process; None for one that is not known."""
    kind = _BACKENDS.get(keras.backend.backend())
    return None if kind is None else kind()
