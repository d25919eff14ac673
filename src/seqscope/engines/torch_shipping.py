"""Modules and programs of torch for another process: all their numbers, and bytes that hold them with the function that feeds them."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from seqscope.engines.base import Packed
from seqscope.engines.shipping import pickler
from seqscope.engines.torch_files import device, quiet
from seqscope.engines.torch_state import one_at_a_time


def contents(module: nn.Module) -> Iterator[str | np.ndarray]:
    """A module's weights and buffers, and the tensors that its parts keep besides, each with its name before it, as bytes."""
    with one_at_a_time:  # a pass that is under way has its hooks in
        named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        seen = {id(tensor) for _, tensor in named}
        for name, tensor in itertools.chain(named, _kept_besides(module, seen)):
            yield f"{name.replace('_orig_mod.', '')} {tensor.dtype} {tuple(tensor.shape)}"
            yield as_bytes(tensor)


def as_bytes(tensor: torch.Tensor) -> np.ndarray:
    """What a tensor holds, byte by byte, in main memory."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    flat = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()


def _kept_besides(module: nn.Module, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that are no weights and no buffers: constants that a part keeps as an attribute, packed weights of quantized layers."""
    for place, part in module.named_modules():
        weights = dict(part.named_parameters(recurse=False))
        for key, value in vars(part).items():
            is_computed = any(name.startswith(f"{key}_") for name in weights)  # "weight" from "weight_g" and "weight_v", at every pass
            if isinstance(value, torch.Tensor) and id(value) not in seen and not is_computed:
                yield f"{place}.{key}", value
    for name, value in module.state_dict(keep_vars=True).items():
        for index, tensor in enumerate(value if isinstance(value, tuple | list) else [value]):
            if isinstance(tensor, torch.Tensor) and id(tensor) not in seen:
                yield f"{name}.{index}", tensor


def packed(model: Any, call: Any) -> Packed:
    """A module or a program and the function that feeds it; memory that several tensors share is written once."""
    written, pickling = io.BytesIO(), SimpleNamespace(__name__="cloudpickle", Pickler=pickler(_reduced))
    with one_at_a_time, quiet():
        torch.save((model, call), written, pickle_module=pickling, pickle_protocol=5)
    return Packed("torch_shipping", written.getvalue())


def opened(data: bytes) -> tuple[Any, Any]:
    """The same again, on the CPU where there is no GPU."""
    model, call = torch.load(io.BytesIO(data), map_location=device(), weights_only=False)
    return model, call


def _reduced(value: Any) -> Any:
    """How objects are written that torch does not pickle."""
    if isinstance(value, torch.jit.ScriptModule):
        return _script, (_saved(torch.jit.save, value),)
    if isinstance(value, torch.export.ExportedProgram):
        return _program, (_saved(torch.export.save, value),)
    if isinstance(value, nn.Module) and parametrize.is_parametrized(value):
        own: Any = type(value).__mro__[1]  # the class that it had before its weights were parametrized
        return own.__new__, (own,), own.__getstate__(value), None, None, _parametrized
    return NotImplemented


def _saved(save: Callable[[Any, Any], Any], program: Any) -> bytes:
    written = io.BytesIO()
    save(program, written)
    return written.getvalue()


def _script(data: bytes) -> Any:
    with quiet():
        load: Any = torch.jit.load
        return load(io.BytesIO(data), map_location=device())


def _program(data: bytes) -> Any:
    log = logging.getLogger("torch.export")
    was = log.disabled
    try:
        log.disabled = True
        return torch.export.load(io.BytesIO(data))
    finally:
        log.disabled = was


def _parametrized(module: Any, state: dict[str, Any]) -> None:
    """Make a bare module one with parametrized weights, as `torch.nn.utils.parametrize` does: torch itself gives only their numbers out."""
    own = type(module)
    module.__dict__.update(state)
    parametrize._inject_new_class(module)
    for name in module.parametrizations:
        parametrize._inject_property(module, name)
    own.__setstate__(module, state)
