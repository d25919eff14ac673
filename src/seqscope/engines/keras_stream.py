"""A Keras model that runs one step at a time.

One compiled function takes the step and the state and gives the output and the state: recurrent layers start from the state that is put
in, causal convolutions run over the last inputs that are put in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from seqscope.engines import keras_kinds
from seqscope.engines.base import STATES, Carried, Stepped
from seqscope.engines.keras_backends import Backend
from seqscope.engines.keras_cells import cells_of, parts_of, why_unknown
from seqscope.engines.keras_layers import Described
from seqscope.engines.keras_pass import Job, Passes
from seqscope.engines.keras_watch import watching
from seqscope.engines.places import by_place, replaced
from seqscope.errors import UnsupportedError


class KerasStepper:
    """A model, step by step (see `engines.base.Stepper`).

    Parameters
    ----------
    dtype : str
        What floats are fed as.
    lock : context manager
        Held during a step.
    """

    def __init__(
        self,
        passes: Passes,
        backend: Backend,
        described: Described,
        variables: Sequence[Any],
        job: Job,
        dtype: str,
        lock: AbstractContextManager[Any],
    ) -> None:
        self._passes, self._backend, self._described, self._variables = passes, backend, described, variables
        self._job, self.dtype, self._lock = job, dtype, lock
        self._layers = _carrying(described.objects)
        self._seen: tuple[str, ...] = ()
        self._keys: list[tuple[str, str]] = []
        self._run: Callable[..., Any] = backend.for_one_shape(self._body)
        self._nothing: list[Any] | None = None
        self._lengths: Any = None
        self._go_on: Any = None

    def step(self, batch: np.ndarray, n_rows: int, carried: Carried | None, fresh: np.ndarray | None) -> Stepped:
        """Run one step."""
        with self._lock:  # layers are wrapped while a step is traced
            return self._step(batch, n_rows, carried, fresh)

    def _step(self, batch: np.ndarray, n_rows: int, carried: Carried | None, fresh: np.ndarray | None) -> Stepped:
        x = self._backend.argument(np.ascontiguousarray(batch, "int32" if batch.dtype.kind in "iu" else self.dtype))
        if self._nothing is None:
            self._prepare(x, n_rows)
        before = self._nothing if carried is None else [carried[layer][state] for layer, state in self._keys]
        anew = self._go_on if fresh is None else self._backend.argument(fresh[:, None])
        with self._backend.without_gradients():
            values = self._passes.values_of(self._variables)
            output, seen, after = self._run(values, x, (self._lengths, before, anew))
        captured: dict[str, list[Any]] = {}
        for address, tensor in zip(self._seen, seen, strict=True):
            captured.setdefault(address, []).append(tensor)
        now: dict[str, dict[str, Any]] = {}
        for (layer, state), tensor in zip(self._keys, after, strict=True):
            now.setdefault(layer, {})[state] = tensor
        return Stepped(output, captured, lambda part: _states_of(part, captured), now)

    def as_numpy(self, tensor: Any) -> np.ndarray:
        """An array of a tensor."""
        return self._backend.as_numpy(tensor)

    def as_native(self, array: np.ndarray, like: Any) -> Any:
        """A tensor of an array."""
        return ops.cast(ops.convert_to_tensor(array), like.dtype)

    def _prepare(self, x: Any, n_rows: int) -> None:
        """Run once as it is, to see what is carried; what the model starts from is put in by the rows that start anew."""
        self._lengths = ops.ones((n_rows,), "int32")
        self._go_on = ops.zeros((n_rows, 1), "bool")
        with self._backend.without_gradients():
            whole = ops.convert_to_tensor(x)
            _, _, after = self._body(self._passes.values_of(self._variables), whole, (self._lengths, None, self._go_on))
            self._nothing = [ops.zeros_like(tensor) for tensor in after]

    def _body(self, values: list[Any], batch: Any, more: tuple[Any, list[Any] | None, Any]) -> tuple[Any, list[Any], list[Any]]:
        """A step as a function of tensors."""
        lengths, before, anew = more
        carry = _Carry(None if before is None else dict(zip(self._keys, before, strict=True)), anew)
        watch = self._passes.watch(self._job, self._described, lengths)
        watch.apart = True
        with self._passes.stateless(self._described, self._variables, values), watching(watch), carry.put_in(self._layers):
            given = self._passes.call(self._passes.model, batch, lengths)
        outputs = by_place(given, lambda value: value if ops.is_tensor(value) else None)
        self._seen, self._keys = tuple(address for address, _ in watch.seen), list(carry.after)
        return next(iter(outputs.values())), [tensor for _, tensor in watch.seen], list(carry.after.values())


def _states_of(part: str, captured: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The states of a layer at this step, (row, unit)."""
    ahead = f"{part}{STATES}["
    found = {address.removeprefix(ahead).rstrip("]"): calls[-1] for address, calls in captured.items() if address.startswith(ahead)}
    if any(len(calls) > 1 for address, calls in captured.items() if address.startswith(ahead)):
        raise UnsupportedError(f"'{part}' is called several times in a step, so its states can't be shown: `activations` can.")
    return {state: tensor[:, 0] for state, tensor in found.items() if not state.endswith("0")}


def _carrying(objects: Mapping[str, Any]) -> dict[str, Any]:
    """The layers in which steps meet, by name.

    Raises
    ------
    UnsupportedError
        One needs steps that are still to come, or has a clock of its own.
    """
    found: dict[str, Any] = {}
    for name, layer in objects.items():
        if keras_kinds.is_bidirectional(layer):
            raise UnsupportedError(f"The model can't be streamed: '{name}' is bidirectional, so it needs the steps that are still to come.")
        if keras_kinds.is_recurrent(layer):
            if layer.go_backwards:
                raise UnsupportedError(f"The model can't be streamed: '{name}' reads its input backwards, from its last step on.")
            found[name] = layer
        elif isinstance(layer, kl.MaxPooling1D | kl.AveragePooling1D | kl.Conv1DTranspose):
            raise UnsupportedError(
                f"The model can't be streamed: '{name}' ({type(layer).__name__}) needs several steps of its input at once."
            )
        elif isinstance(layer, kl.Conv1D) and layer.kernel_size[0] > 1:
            if layer.padding != "causal" or layer.strides[0] != 1:
                reason = f"strides={layer.strides[0]}" if layer.strides[0] != 1 else f"padding='{layer.padding}'"
                raise UnsupportedError(
                    f"The model can't be streamed: '{name}' is a convolution with {reason}; with padding='causal' and strides=1 it could."
                )
            found[name] = layer
    return found


def _states_in(name: str, layer: Any, n_states: int) -> list[tuple[str, str]]:
    """The part and the name of each state that a recurrent layer carries, in its order."""
    if why_unknown(layer) is not None:
        return [(name, f"state_{place}") for place in range(n_states)]
    kinds = [("h", "c") if isinstance(cell, kl.LSTMCell) else ("h",) for cell in cells_of(layer)]
    return [(part, state) for part, states in zip(parts_of(name, layer), kinds, strict=True) for state in states]


class _Carry:
    """What layers start from at one step, and what they end with.

    Attributes
    ----------
    after : dict of tensors
        By layer (and call, where there are several) and state.
    """

    def __init__(self, before: Mapping[tuple[str, str], Any] | None, anew: Any) -> None:
        self._before, self._anew = before, anew
        self.after: dict[tuple[str, str], Any] = {}

    @contextlib.contextmanager
    def put_in(self, layers: Mapping[str, Any]) -> Iterator[None]:
        """Let layers start where they ended, for the time of one step."""
        with contextlib.ExitStack() as undo:
            for name, layer in layers.items():
                if keras_kinds.is_recurrent(layer):
                    undo.enter_context(replaced(layer, "inner_loop", self._recurrent(name, layer)))
                    undo.enter_context(replaced(layer, "unroll", True))  # one step: no loop of the framework's own
                else:
                    undo.enter_context(replaced(layer, "call", self._convolution(name, layer)))
            yield

    def _key(self, name: str) -> str:
        n, key = 1, name
        while any(layer == key for layer, _ in self.after):
            n += 1
            key = f"{name} (call {n})"
        return key

    def _start(self, key: str, state: str, own: Any) -> Any:
        """What a state starts from: the model's own where a row starts anew."""
        if self._before is None or (key, state) not in self._before:
            return own
        anew = ops.reshape(self._anew, (-1,) + (1,) * (len(own.shape) - 1))
        return ops.where(anew, own, self._before[key, state])

    def _recurrent(self, name: str, layer: Any) -> Callable[..., Any]:
        original = layer.inner_loop

        def inner_loop(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            own = keras.tree.flatten(initial_state)
            places = [(self._key(part), state) for part, state in _states_in(name, layer, len(own))]
            begun = [self._start(key, state, tensor) for (key, state), tensor in zip(places, own, strict=True)]
            last, steps, states = original(sequences, keras.tree.pack_sequence_as(initial_state, begun), mask, training)
            ended = keras.tree.flatten(states)
            self.after |= {place: ops.cast(tensor, own[0].dtype) for place, tensor in zip(places, ended, strict=True)}
            return last, steps, states

        return inner_loop

    def _convolution(self, name: str, layer: Any) -> Callable[..., Any]:
        original = layer.call
        time = 1 if layer.data_format == "channels_last" else 2
        span = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            key = self._key(name)
            none = ops.zeros_like(ops.repeat(ops.take(inputs, [0], axis=time), span, axis=time))
            full = ops.concatenate([self._start(key, "inputs", none), inputs], axis=time)
            self.after[key, "inputs"] = full[:, -span:] if time == 1 else full[..., -span:]
            with replaced(layer, "padding", "valid"):
                return original(full, *args, **kwargs)

        return call
