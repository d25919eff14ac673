"""Run a torch module and leave it as it was, also after an exception or Ctrl-C.

What a pass may write is kept before it and put back after: modes, attributes and what their lists, dicts and tensors hold, buffers,
weights, gradients, random state, global flags.
"""

from __future__ import annotations

import contextlib
import operator
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from seqscope.errors import ModelError

# One lock for all models: torch's random state and its flags are the process's own, so two passes at once could not both put them back.
one_at_a_time = threading.RLock()

# The weights that a model's passes write into (`nn.Embedding(max_norm=)` does), by model; known after its first pass.
_written: weakref.WeakKeyDictionary[nn.Module, set[str]] = weakref.WeakKeyDictionary()

# Flags of the process that a module could set, each with how to read and how to set it.
_FLAGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (lambda: torch.backends.cudnn.benchmark, lambda value: setattr(torch.backends.cudnn, "benchmark", value)),
    (lambda: torch.backends.cudnn.enabled, lambda value: setattr(torch.backends.cudnn, "enabled", value)),
)


class Pass:
    """One pass under way.

    Attributes
    ----------
    memory : set of int
        The memory that will be put back: what a layer gives out of it has to be copied inside.
    """

    def __init__(self, memory: set[int], devices: set[torch.device]) -> None:
        self.memory, self._before = memory, _random_states(devices)

    def owns(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor lies in memory that will be put back."""
        return _memory_of(tensor) in self.memory

    def drew_noise(self) -> bool:
        """Whether random numbers were drawn so far."""
        now = _random_states(set(self._before))
        return any(not torch.equal(state, now[device]) for device, state in self._before.items())

    def restore_random_states(self) -> None:
        """Put torch's random state back; NumPy's and Python's are kept by the verbs."""
        for device, state in self._before.items():
            torch.set_rng_state(state) if device.type == "cpu" else torch.cuda.set_rng_state(state, device)


def _random_states(devices: set[torch.device]) -> dict[torch.device, torch.Tensor]:
    return {device: torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device) for device in devices}


@contextlib.contextmanager
def as_it_was(module: nn.Module) -> Iterator[Pass]:
    """Evaluation mode and no gradient inside; everything as before after.

    The mode is set by its flag and not by `eval()`, whose overridden forms may do more than set it (merge weights, say).
    """
    with one_at_a_time, _eager(module), _flags(), torch.no_grad():
        modules, parameters = list(module.modules()), dict(module.named_parameters())
        kept, weights = _Kept(modules), _Weights(module, parameters)
        drawn_on = {parameter.device for parameter in parameters.values() if parameter.device.type == "cuda"}
        under_way = Pass(kept.memory, {torch.device("cpu"), *drawn_on})
        try:
            for part in modules:
                part.training = False
            yield under_way
        finally:
            kept.restore()
            lost = weights.restore()
            under_way.restore_random_states()
        if lost:
            raise ModelError(f"The model wrote into its own weight '{lost[0]}' in this pass and in none before: it is changed now.")


class _Holder(Protocol):
    def restore(self) -> None: ...


class _Kept:
    """The attributes of all modules, and whatever plain containers, tensors and arrays they hold, however deep."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self._holders: list[_Holder] = []
        self._empty: list[Any] = []
        self._known: set[int] = set()
        self.memory: set[int] = set()
        for module in modules:
            self._keep(vars(module))
            if isinstance(module, torch.jit.ScriptModule):
                self._holders.append(_Program(module))

    def restore(self) -> None:
        for held in self._empty:
            if held:
                held.clear()
        for holder in self._holders:
            holder.restore()

    def _keep(self, value: Any) -> None:
        """Keep one value and what is in it. Most attributes are flags, weights or empty containers, which cost next to nothing."""
        if id(value) in self._known:
            return
        self._known.add(id(value))
        kind = _KINDS[type(value)]
        if kind is not tuple:
            self._holders.append(kind(value))
        if kind is _Tensor:
            self.memory.add(_memory_of(value))
        if kind not in (_Container, tuple):
            return
        for item in value.values() if isinstance(value, dict) else value:
            inside = _KINDS[type(item)]
            if inside is _Container and not item:
                self._empty.append(item)
            elif inside is not None:
                self._keep(item)


# Containers whose content is kept, and what keeps it.
_CONTENTS: dict[type, Callable[[Any], Any]] = {dict: dict, OrderedDict: dict, defaultdict: dict, list: list, deque: list, set: set}


class _Kinds(dict[type, Any]):
    """What keeps values of a type: None for those that a pass can't write into, and for modules and weights, which are seen to apart."""

    def __missing__(self, kind: type) -> Any:
        if issubclass(kind, nn.Module | nn.Parameter):
            found: Any = None
        elif issubclass(kind, torch.Tensor):
            found = _Tensor
        elif issubclass(kind, np.ndarray):
            found = _Array
        else:
            found = _Container if kind in _CONTENTS else tuple if issubclass(kind, tuple) else None
        self[kind] = found
        return found


_KINDS = _Kinds()


class _Container:
    """A list, dict, set or deque and what it held: the same objects, in the same order."""

    def __init__(self, held: Any) -> None:
        self.held, self.before = held, _CONTENTS[type(held)](held)

    def restore(self) -> None:
        held, before = self.held, self.before
        same = len(held) == len(before) and all(map(operator.is_, held, before))
        if same and isinstance(held, dict):
            same = all(map(operator.is_, held.values(), before.values()))
        if same:
            return
        if type(held) is dict:  # never empty for a moment, since another thread may be reading a module's attributes
            for name in [name for name in held if name not in before]:
                del held[name]
            held.update(before)
            return
        held.clear()
        held.extend(before) if isinstance(held, list | deque) else held.update(before)


class _Tensor:
    """A tensor and a copy of it, put back where the pass wrote into it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.copy, self.version = tensor, tensor.detach().clone(), version_of(tensor)

    def restore(self) -> None:
        if self.version is None or version_of(self.tensor) != self.version:
            self.tensor.detach().copy_(self.copy)


class _Array:
    """A NumPy array and a copy of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.copy = array, array.copy()

    def restore(self) -> None:
        if self.array.flags.writeable:
            self.array[...] = self.copy


class _Program:
    """What a TorchScript module keeps where Python does not see it: its attributes, states among them, and its buffers."""

    def __init__(self, module: Any) -> None:
        self._held = module._c
        of_type: Any = torch._C.ConcreteModuleType.from_jit_type(self._held._type())
        known = of_type.get_attributes()
        values = {name: self._held.getattr(name) for name, (_, is_weight) in known.items() if not is_weight}
        self._before = {name: value for name, value in values.items() if isinstance(value, _PUT_BACK)}
        parts = [part for value in self._before.values() for part in _parts(value)]
        self._tensors = [_Tensor(part) for part in parts if isinstance(part, torch.Tensor)]

    def restore(self) -> None:
        for name, value in self._before.items():
            now = self._held.getattr(name)
            if now is not value and (isinstance(value, list | dict | tuple | torch.Tensor) or now != value):
                self._held.setattr(name, value)
        for tensor in self._tensors:
            tensor.restore()


# Attributes of a program that can be put back: objects of its own classes can't.
_PUT_BACK = (torch.Tensor, bool, int, float, complex, str, list, dict, tuple, type(None))


def _parts(value: Any) -> list[Any]:
    """What is in a value: itself, or what a list, tuple or dict holds."""
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list | tuple) else [value]


class _Weights:
    """Parameters and their gradients. All are copied at a model's first pass; later only those that it turned out to write into."""

    def __init__(self, module: nn.Module, parameters: dict[str, nn.Parameter]) -> None:
        self._module, self._first = module, module not in _written
        known = _written.get(module, set())
        self._before = {
            name: (parameter, version_of(parameter), parameter.grad, None if parameter.grad is None else version_of(parameter.grad))
            for name, parameter in parameters.items()
        }
        self._copies = {
            name: (parameter.detach().clone(), None if parameter.grad is None else parameter.grad.clone())
            for name, (parameter, *_) in self._before.items()
            if self._first or name in known
        }

    def restore(self) -> list[str]:
        """Put back what was written, and name what can't be put back."""
        written = {name for name in self._before if self._was_written(name)}
        for name in written & self._copies.keys():
            parameter, _, grad, _ = self._before[name]
            weight, of_grad = self._copies[name]
            parameter.detach().copy_(weight)
            parameter.grad = grad
            if grad is not None and of_grad is not None:
                grad.copy_(of_grad)
        if self._first:
            _written[self._module] = written
        return sorted(written - self._copies.keys())

    def _was_written(self, name: str) -> bool:
        parameter, version, grad, grad_version = self._before[name]
        if parameter.grad is not grad or (grad is not None and version_of(grad) != grad_version):
            return True
        if name in self._copies:  # `.data` writes behind the counter
            return not torch.equal(parameter.detach(), self._copies[name][0])
        return version_of(parameter) != version


def version_of(tensor: torch.Tensor) -> int | None:
    """How often a tensor was written to; None where torch does not count it, under inference mode."""
    return None if tensor.is_inference() else tensor._version


def _memory_of(tensor: torch.Tensor) -> int:
    """The address of a tensor's memory, which its views share; 0 where it has none that can be told."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided and not tensor.is_nested else 0


@contextlib.contextmanager
def _flags() -> Iterator[None]:
    before = [read() for read, _ in _FLAGS]
    try:
        yield
    finally:
        for (read, write), value in zip(_FLAGS, before, strict=True):
            if read() != value:
                write(value)


@contextlib.contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Run compiled parts as the modules they were made from, since hooks inside compiled code do not fire."""
    if any("_orig_mod" in part._modules or part._compiled_call_impl is not None for part in module.modules()):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield
