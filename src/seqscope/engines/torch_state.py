"""Run a torch module and leave it as it was, also after an exception or Ctrl-C."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_process = threading.RLock()  # for the few flags that torch keeps for the whole process, and for the table above


def lock_of(module: nn.Module) -> threading.RLock:
    """One lock per model, shared by every scope on it."""
    with _process:
        return _locks.setdefault(module, threading.RLock())


@contextlib.contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradient inside; modes, attributes, hooks, buffers and random state restored after.

    The mode is set by its flag and not by `eval()`, whose overridden forms may do more than set it (merge weights, say).
    """
    with lock_of(module), _eager(module), _random_state(module), torch.no_grad():
        modules = list(module.modules())
        attributes = [_Attributes(part) for part in modules]
        buffers = [_Buffer(buffer) for buffer in module.buffers()]
        try:
            for part in modules:
                part.training = False
            yield
        finally:
            for attribute in attributes:
                attribute.restore()
            for buffer in buffers:
                buffer.restore()


class _Attributes:
    """The attributes of one module, and what its lists and dicts hold: hidden states, caches, hooks, the mode."""

    def __init__(self, module: nn.Module) -> None:
        self.now = vars(module)
        self.before = dict(self.now)
        self.contents = [(held, _PLAIN[kind](held)) for held in self.before.values() if (kind := type(held)) in _PLAIN]

    def restore(self) -> None:
        if not _same(self.now, self.before):
            self.now.clear()
            self.now.update(self.before)
        for held, before in self.contents:
            if not _same(held, before):
                held.clear()
                held.extend(before) if isinstance(held, list) else held.update(before)


# What an attribute's content is kept as: plain containers, which copy fast.
_PLAIN: dict[type, Any] = {dict: dict, OrderedDict: dict, list: list, set: set}


def _same(held: Any, before: Any) -> bool:
    """Whether two containers hold the same. Python compares by identity first; what then fails to compare was replaced."""
    if not held and not before:
        return True
    try:
        return bool(held == before)
    except (RuntimeError, ValueError, TypeError):  # two tensors or arrays, which have no single truth value
        return False


class _Buffer:
    """A buffer and a copy of it, put back where the pass wrote into it."""

    def __init__(self, buffer: torch.Tensor) -> None:
        self.buffer, self.copy = buffer, buffer.clone()
        self.version = -1 if buffer.is_inference() else buffer._version

    def restore(self) -> None:
        if self.version < 0 or self.buffer._version != self.version:
            self.buffer.copy_(self.copy)


@contextlib.contextmanager
def _random_state(module: nn.Module) -> Iterator[None]:
    """Keep the random state of torch, on the model's devices too; NumPy's and Python's are kept by the verbs."""
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    on_devices = {device: torch.cuda.get_rng_state(device) for device in devices}
    on_cpu = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(on_cpu)
        for device, state in on_devices.items():
            torch.cuda.set_rng_state(state, device)


@contextlib.contextmanager
def _eager(module: nn.Module) -> Iterator[None]:
    """Run compiled parts as the modules they were made from, since hooks inside compiled code do not fire."""
    if not any("_orig_mod" in part._modules or part._compiled_call_impl is not None for part in module.modules()):
        yield
        return
    with _process, torch.compiler.set_stance("force_eager"):  # the stance is one for the whole process
        yield
