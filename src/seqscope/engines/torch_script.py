"""The engine for TorchScript: a program that runs as a whole, whose inside torch shows to nobody.

Its modules are there with their weights, but they call each other inside the interpreter, where no hook is asked. So a model of this
kind is predicted with and perturbed; for its inside there is one sentence.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import torch

from seqscope.cells import CellWeights
from seqscope.engines import torch_gradient, torch_kinds, torch_shipping
from seqscope.engines.base import Forward, InputHint, Packed, StandIn, Stepper
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.torch import as_numpy, as_tensor, tensors_of
from seqscope.engines.torch_remade import remade
from seqscope.engines.torch_state import as_it_was
from seqscope.errors import ModelError, SeqscopeError, UnsupportedError
from seqscope.layers import Layer
from seqscope.layouts import ORDERS
from seqscope.selection import layer_of

# How a model is fed: a function of (model, batch, lengths).
Call = Callable[[Any, torch.Tensor, torch.Tensor], Any]

# Why there is no inside, and what to do, as the end of a sentence.
_INSTEAD = "export the model to ONNX (torch.onnx.export), or load its weights into the nn.Module that it was made from, and look into that"
_CLOSED = f"it is inside a TorchScript program, which runs as a whole: {_INSTEAD}"


class ScriptEngine:
    """A TorchScript program: scripted, traced, or opened from a file.

    Parameters
    ----------
    model : torch.jit.ScriptModule
        What it keeps from call to call (a state) is put back after each.
    call : function of (model, batch, lengths), optional
        How to feed it; default: `model(batch)`.
    """

    framework = "TorchScript"
    layouts = tuple(ORDERS)
    merges_lengths = compiles_shapes = False
    recurrent_parts: Mapping[str, tuple[str, ...]] = {}
    attention_layers: tuple[str, ...] = ()

    def __init__(self, model: Any, *, call: Call | None = None) -> None:
        self.model = model
        self.model_name = str(getattr(model, "original_name", type(model).__name__))
        self.call = call
        self._call: Call = call or (lambda program, batch, lengths: program(batch))

    # What it is made of, as far as it can be known

    @cached_property
    def _parts(self) -> dict[str, tuple[str, dict[str, torch.Tensor]]]:
        """The modules that have weights, each with its class and with those that are its own."""
        parts = {}
        for name, part in self.model.named_modules():
            held = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
            weights = {key: tensor for key, tensor in held if tensor.is_floating_point()}
            if weights:
                kind = str(getattr(part, "original_name", type(part).__name__))
                parts[name or self.model_name.lower()] = kind, weights
        return parts

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The modules with weights, in the order in which the program holds them; weights of several count with the first."""
        seen: set[int] = set()
        layers = []
        for name, (kind, weights) in self._parts.items():
            fresh = [tensor for tensor in weights.values() if tensor.data_ptr() not in seen]
            seen |= {tensor.data_ptr() for tensor in fresh}
            module = remade(kind, weights)
            layers.append(
                Layer(
                    name=name,
                    kind=torch_kinds.kind_named(kind),
                    type=kind,
                    description=kind if module is None else torch_kinds.description_of(module),
                    n_params=sum(tensor.numel() for tensor in fresh),
                    trainable=sum(tensor.numel() for tensor in fresh if tensor.requires_grad),
                )
            )
        return tuple(layers)

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """The layers by name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def input_hints(self) -> tuple[InputHint, ...]:
        """What each module with weights takes, in the order in which the program holds them."""
        modules = ((name, remade(kind, weights)) for name, (kind, weights) in self._parts.items())
        hints = (torch_kinds.input_hint(name, module) for name, module in modules if module is not None)
        return tuple(hint for hint in hints if hint is not None)

    @property
    def in_training(self) -> tuple[str, ...]:
        """Batch norm and dropout in training mode."""
        kinds = ("batch_norm", "dropout")
        parts = ((name, part) for name, part in self.model.named_modules() if getattr(part, "training", False))
        return tuple(name for name, part in parts if torch_kinds.kind_named(str(getattr(part, "original_name", ""))) in kinds)

    def contents(self) -> Iterator[str | np.ndarray]:
        """The program's class, its numbers, and those that are written into it (see `engines.base.Travels`)."""
        yield self.model_name
        yield from torch_shipping.contents(self.model)
        yield from sorted(set(_written_into(self.model)))  # in what order, and how often, differs once it was saved

    def packed(self) -> Packed:
        """The program, and the function that feeds it (see `engines.base.Travels`)."""
        return torch_shipping.packed(self.model, self.call)

    # What it does

    def forward(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        capture: Sequence[str] = (),
        *,
        instead: Mapping[str, StandIn] | None = None,
        padded: bool = False,
        sample_axis: int = 0,
        logits: bool = False,
        target: Callable[[Any], Any] | None = None,
        held: Held = NOTHING_HELD,
    ) -> Forward:
        """Run the program once in evaluation mode, without gradients (see `engines.base.Engine.forward`)."""
        with as_it_was(self.model) as under_way:
            try:
                output = self._call(self.model, as_tensor(batch, self._like), torch.tensor(lengths))
            except SeqscopeError:
                raise
            except Exception as error:
                raise ModelError(f"The model raised {type(error).__name__}: {_last_line(error)}") from error
            tensors = [tensor.clone() for tensor in tensors_of(output).values()]
            if not tensors:
                raise ModelError(f"The model gave a {type(output).__name__}, which holds no tensor.")
            scores = None if target is None else as_numpy(torch_gradient.by_function(target, output, len(lengths))).copy()
            drew_noise = under_way.drew_noise()
        refused = {layer_of(name): f"can't be seen: {_CLOSED}" for name in capture}
        return Forward(as_numpy(tensors[0]), len(tensors), {}, drew_noise, refused=refused, scores=scores)

    @cached_property
    def _like(self) -> torch.Tensor | None:
        """A tensor of the type and on the device that the program computes in; of a frozen one, which has no weights, a constant."""
        held = (tensor for _, weights in self._parts.values() for tensor in weights.values())
        return next(itertools.chain(held, _constants(self.model)), None)

    # What it can't do, in one sentence

    @cached_property
    def stateless(self) -> Mapping[str, str]:
        """Its recurrent layers, and why their states can't be told."""
        kinds = ("lstm", "gru", "rnn")
        return {layer.name: _CLOSED for layer in self.layers if layer.kind.removesuffix("_cell") in kinds}

    def recurrent(self, name: str) -> tuple[CellWeights, ...]:
        """Refused."""
        self._refuse(f"The weights of '{name}' can't be told")

    def why_not_held(self, name: str) -> str:
        """Why no units of it can be held."""
        return _CLOSED

    def stepper(self, capture: Sequence[str], states: Sequence[str]) -> Stepper:
        """Refused."""
        raise UnsupportedError(f"The model can't be streamed, since a TorchScript program runs as a whole: {_INSTEAD}.")

    def kernel(self, name: str) -> np.ndarray:
        """The kernels of a convolution (see `engines.base.HasKernels`)."""
        kind, weights = self._parts[name]
        if kind != "Conv1d":
            self._refuse(f"The kernels of '{name}' can't be told")
        return as_numpy(weights["weight"]).transpose(0, 2, 1).copy()

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(f"{what}: {_CLOSED}.")


def _last_line(error: Exception) -> str:
    """What an exception says, without the traceback of the program that TorchScript puts before it."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip().removeprefix(f"{type(error).__name__}: ") if lines else ""


def _constants(program: Any) -> Iterator[torch.Tensor]:
    """The tensors of floats that are written into a program."""
    graph = getattr(program, "graph", None)
    for node in () if graph is None else graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t" and node.t("value").is_floating_point():
            yield node.t("value")


def _written_into(program: Any) -> Iterator[str]:
    """The numbers and tensors that are written into a program, in words; of a frozen one these are its weights."""
    graph = program.inlined_graph  # whose nodes are there as long as it is
    for node in graph.findAllNodes("prim::Constant"):
        kind = node.kindOf("value") if node.hasAttribute("value") else ""
        if kind in ("t", "f", "i", "ival"):
            value = getattr(node, kind)("value")
            for part in value if isinstance(value, list | tuple) else [value]:
                if isinstance(part, torch.Tensor):
                    digest = hashlib.sha256(torch_shipping.as_bytes(part).data).hexdigest()
                    yield f"{part.dtype} {tuple(part.shape)} {digest}"
                elif isinstance(part, int | float):
                    yield repr(part)
