"""The torch engine: any `nn.Module`, seen through forward hooks that live for one call."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from seqscope.cells import CellWeights
from seqscope.engines import (
    torch_attention,
    torch_captum,
    torch_cells,
    torch_gradient,
    torch_heads,
    torch_kinds,
    torch_reach,
    torch_recurrent,
    torch_shipping,
)
from seqscope.engines.base import INSTANCES, STATES, WEIGHTS, Dense, Engine, Forward, Gradient, InputHint, Packed, StandIn
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.places import by_place
from seqscope.engines.score import Score, Target, as_score
from seqscope.engines.torch_files import open_file
from seqscope.engines.torch_gradient import Replay
from seqscope.engines.torch_holds import Holding
from seqscope.engines.torch_kernels import kernel_of
from seqscope.engines.torch_logits import LogitWatch
from seqscope.engines.torch_stack import stack_layer, stack_names
from seqscope.engines.torch_state import Pass, as_it_was, one_at_a_time, version_of
from seqscope.engines.torch_stream import TorchStepper
from seqscope.engines.torch_weights import load_weights
from seqscope.errors import LayerError, ModelError, SeqscopeError, UnsupportedError, nearest
from seqscope.layers import Layer
from seqscope.layouts import ORDERS
from seqscope.nn.torch import PoolingHead

__all__ = ["ENGINE", "TorchEngine", "as_numpy", "as_tensor", "load_weights", "open_file", "tensors_of"]

# How a model is fed: a function of (model, batch, lengths), both native tensors, that gives what the model gives.
Call = Callable[[nn.Module, torch.Tensor, torch.Tensor], Any]

# Modules whose value is the first tensor that they give; the rest are states or weights, which have verbs of their own.
_MAIN_FIRST = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)

# Modules that compute something else in training mode.
_DIFFERS_IN_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)

# Modules that use their children without calling them, as any with parametrized weights does.
_ATOMIC = (nn.MultiheadAttention, nn.RNNBase, PoolingHead, torch.jit.ScriptModule)


class TorchEngine:
    """A torch module.

    Parameters
    ----------
    model : torch.nn.Module
        A compiled module is run and named as the module that it was made from.
    call : function of (model, batch, lengths), optional
        How to feed it; default: `model(batch)`.

    Raises
    ------
    ModelError
        A module with parameters that are not initialised yet.
    """

    framework = "torch"
    layouts = tuple(ORDERS)
    merges_lengths = compiles_shapes = False

    def __init__(self, model: nn.Module, *, call: Call | None = None) -> None:
        self.model = model
        self._module: nn.Module = getattr(model, "_orig_mod", model)
        self.model_name = type(self._module).__name__
        self.call = call
        self._call: Call = call or (lambda module, batch, lengths: module(batch))
        self._overwritten: set[str] = set()  # layers whose value a later layer changes in place: copied as soon as seen
        _refuse_lazy(self._module)
        with one_at_a_time:  # a pass of another scope on the same model may be under way
            self.by_name, self.input_hints = self._by_name(), self._input_hints()

    # What it is made of

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        """Every module by its name; a module with two names stands under both. What is inside TorchScript is never seen to run."""
        named = list(self._module.named_modules(remove_duplicate=False))
        scripted = tuple(f"{name}." for name, module in named if isinstance(module, torch.jit.ScriptModule))
        named = [(name, module) for name, module in named if not name.startswith(scripted)]
        return {_clean(name) or self._root_name: module for name, module in named if not hasattr(module, "_orig_mod")}

    @cached_property
    def _root_name(self) -> str:
        """A name for the model itself that none of its modules has."""
        taken, name = dict(self._module.named_modules()), self.model_name.lower()
        while name in taken:
            name += "_"
        return name

    @cached_property
    def _rows(self) -> dict[str, nn.Module]:
        """The modules that are layers: those without children, and those with parameters of their own; each once."""
        rows: dict[str, nn.Module] = {}
        for name, module in self._modules.items():
            inside = any(name.startswith(f"{above}.") and _is_atomic(rows[above]) for above in rows)
            is_container = any(True for _ in module.children()) and not any(True for _ in module.parameters(recurse=False))
            if not inside and (not is_container or _is_atomic(module)) and module not in rows.values():
                rows[name] = module
        return rows

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order in which the module holds them; those of a stack one by one."""
        seen: set[int] = set()
        layers: list[Layer] = []
        for name, module in self._rows.items():
            for part, tensors in _parts(name, module):
                fresh = [tensor for tensor in tensors if id(tensor) not in seen]
                seen.update(id(tensor) for tensor in fresh)
                layers.append(_layer(part, module, fresh))
        return tuple(layers)

    def _by_name(self) -> dict[str, Layer]:
        """Layers, containers and stacks by name; the model as a whole is a layer only where it is the only one."""
        layers = {layer.name: layer for layer in self.layers}
        for name, module in self._modules.items():
            if name not in layers and (module is not self._module or name in self._rows):
                layers[name] = _layer(name, module, [*module.parameters(), *_running_statistics(module, recurse=True)])
        return layers

    def _input_hints(self) -> tuple[InputHint, ...]:
        """What each layer takes, in the order in which the module holds them."""
        hints = (torch_kinds.input_hint(name, module) for name, module in self._rows.items())
        return tuple(hint for hint in hints if hint is not None)

    def contents(self) -> Iterator[str | np.ndarray]:
        """The module's class, and its numbers (see `engines.base.Travels`)."""
        yield self.model_name
        yield from torch_shipping.contents(self._module)

    def packed(self) -> Packed:
        """The module, and the function that feeds it (see `engines.base.Travels`)."""
        return torch_shipping.packed(self._module, self.call)

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
        """Run the module once in evaluation mode, without gradients (see `engines.base.Engine.forward`)."""
        run = functools.partial(self._run, batch, lengths, capture, instead or {}, logits=logits, target=target, held=held)
        found = run()
        late = {value.layer for values in found.seen.values() for value in values if value.was_overwritten}
        if late:  # an operation in place came after the hook: run again and copy in the hook, from now on
            self._overwritten |= late
            found = run()
        arrays = {address: [as_numpy(value.tensor) for value in values] for address, values in found.seen.items()}
        dims = {address: value.dims for address, values in found.seen.items() for value in values if value.dims is not None}
        scores = None if found.scores is None else as_numpy(found.scores)
        return Forward(
            as_numpy(found.outputs[0]), len(found.outputs), arrays, found.drew_noise, dims=dims, through=found.through, scores=scores
        )

    @cached_property
    def recurrent_parts(self) -> dict[str, tuple[str, ...]]:
        """The recurrent modules, each with its layers (see `engines.base.HasStates`)."""
        parts: dict[str, tuple[str, ...]] = {}
        for name, module in self._modules.items():
            if torch_recurrent.has_states(module):
                layers = stack_names(name, module) if isinstance(module, nn.RNNBase) and module.num_layers > 1 else (name,)
                parts |= {name: layers} | {layer: (layer,) for layer in layers}
        return parts

    stateless: Mapping[str, str] = MappingProxyType({})

    @property
    def in_training(self) -> tuple[str, ...]:
        """Batch norm and dropout modules in training mode."""
        return tuple(name for name, module in self._modules.items() if isinstance(module, _DIFFERS_IN_TRAINING) and module.training)

    @cached_property
    def attention_layers(self) -> tuple[str, ...]:
        """The modules that have attention weights."""
        return tuple(name for name, module in self._rows.items() if torch_attention.has_weights(module))

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """The modules that are heads of `seqscope.nn` (see `engines.base.HasHeads`)."""
        return tuple(name for name, module in self._rows.items() if isinstance(module, PoolingHead))

    def recurrent(self, name: str) -> tuple[CellWeights, ...]:
        """The weights of a recurrent layer, one for each direction (see `engines.base.HasStates`)."""
        if name not in self.recurrent_parts:
            raise UnsupportedError(f"'{name}' is no recurrent layer of torch's own kinds.")
        ((_, module, index),) = self._places([name])
        ways = (False, True) if getattr(module, "bidirectional", False) else (False,)
        with as_it_was(self._module):
            found = [torch_cells.weights_of(module, index or 0, backward=way) for way in ways]
            return tuple(weights.mapped(lambda tensor: as_numpy(tensor).copy()) for weights in found)

    def kernel(self, name: str) -> np.ndarray:
        """The kernels of a convolution, (unit, tap, channel) (see `engines.base.HasKernels`)."""
        module: Any = self._modules[name]
        with as_it_was(self._module):
            return as_numpy(kernel_of(module)).copy()

    def gradient(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        target: Target,
        layer: str | None = None,
        *,
        state: str = "h",
        replace: np.ndarray | None = None,
        held: Held = NOTHING_HELD,
    ) -> Gradient:
        """The derivative of each sample's score (see `engines.base.HasGradients`)."""
        wanted = target.capture if isinstance(target, Score) else ""
        for name in (layer, wanted.removesuffix(STATES)):
            if name and name not in self.by_name and name not in self.recurrent_parts:
                raise LayerError(f"No layer is named '{name}': {nearest(name, self.by_name)}.")
        run = functools.partial(self._differentiated, batch, lengths, target, layer, state, replace, wanted, held)
        # Without the weights' own derivatives, what comes before the layer keeps nothing for the way back. Where the score then has none
        # at all, it may not depend on what is asked for, and is zero: the weights tell that from one that is cut off.
        return run(frozen=True) or run(frozen=False) or torch_gradient.refuse_cut_off()

    def _differentiated(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        target: Target,
        layer: str | None,
        state: str,
        replace: np.ndarray | None,
        wanted: str,
        held: Held,
        *,
        frozen: bool,
    ) -> Gradient | None:
        """One pass there and back; None where the score has no derivative.

        Parameters
        ----------
        wanted : str
            What the score is captured under.
        frozen : bool
            Whether the weights want no derivative.
        """
        with self._with_derivatives() as (under_way, around):
            if frozen:
                around.enter_context(torch_gradient.frozen(self._module))
            x = self._to_tensor(batch)
            if layer is None and not x.is_floating_point():
                raise UnsupportedError("Tokens have no derivative: ask for the one at the layer that embeds them, with layer=.")
            nudged = None if layer is None else next(self._places([layer]))
            shown = next(self._places([wanted.removesuffix(STATES)])) if wanted.endswith(STATES) else None
            holding = around.enter_context(self._holding(held))
            replay = Replay(nudged, state, None if replace is None else self._to_tensor(replace), shown, holding)
            around.enter_context(replay.put_in())
            seen: dict[str, list[_Seen]] = {}
            around.enter_context(self._hooks([wanted] if wanted and shown is None else [], seen, under_way, holding, copied=False))
            x.requires_grad_(layer is None)
            with LogitWatch() as watch:
                output = self._output_of(x.clone(), lengths)
            found = {address: [value.tensor for value in values] for address, values in seen.items()}
            found |= {f"{wanted}{ending}": calls for ending, calls in replay.states.items()}
            score, through, logits = torch_gradient.score_of(output, target, len(lengths), watch, found)
            at = {"": [x]} if layer is None else replay.nudges
            if not at:
                raise LayerError(f"The layer '{layer}' never ran for this input.")
            if not score.requires_grad:
                return None
            gradients = torch_gradient.derivatives(score, at, as_numpy)
            values = {way: [as_numpy(value) for value in calls] for way, calls in replay.values.items()}
            return Gradient(as_numpy(score).copy(), gradients, values, through, None if logits is None else as_numpy(logits).copy())

    @contextlib.contextmanager
    def _with_derivatives(self) -> Iterator[tuple[Pass, contextlib.ExitStack]]:
        """The model as it was, with derivatives; and what is to be undone before it is put back."""
        with torch.inference_mode(mode=False), as_it_was(self._module) as under_way, torch.enable_grad(), contextlib.ExitStack() as around:
            if self.recurrent_parts:  # cuDNN's recurrent kernels have no derivative in evaluation mode; put back with the other flags
                torch.backends.cudnn.enabled = False
            yield under_way, around

    def captum(
        self,
        method: str,
        options: Mapping[str, Any],
        batch: np.ndarray,
        lengths: np.ndarray,
        target: Target,
        baseline: np.ndarray,
        *,
        held: Held = NOTHING_HELD,
    ) -> np.ndarray:
        """What a method of captum gives (see `engines.base.HasCaptum`)."""
        score = as_score(target, len(batch))

        def scores(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            here = rows.cpu().numpy()
            with LogitWatch() as watch:
                output = self._output_of(x, np.asarray(lengths)[here])
            return torch_gradient.score_of(output, score.take(here) if isinstance(score, Score) else score, len(here), watch, {})[0]

        if isinstance(score, Score) and score.address:
            raise UnsupportedError("captum explains outputs of the model here: for a unit, use a method of seqscope's own.")
        with self._with_derivatives() as (_, around):
            holding = around.enter_context(self._holding(held))
            around.enter_context(Replay(None, "h", None, None, holding).put_in())
            x, base = self._to_tensor(batch), self._to_tensor(baseline)
            return as_numpy(torch_captum.attributions(method, options, scores, self._module, x, base)).copy()

    def _output_of(self, x: torch.Tensor, lengths: np.ndarray) -> Any:
        """What the model gives."""
        try:
            return self._call(self._module, x, torch.tensor(lengths))
        except SeqscopeError:  # of ours, about a replay
            raise
        except Exception as error:
            raise ModelError(f"The model raised {type(error).__name__}: {error}") from error

    def stepper(self, capture: Sequence[str], states: Sequence[str]) -> TorchStepper:
        """A copy of the module that runs one step at a time (see `engines.base.HasStreams`)."""
        with one_at_a_time:
            return TorchStepper(self._module, self._modules, self._call, capture, _values_of, self._like)

    def dense(self, name: str) -> Dense:
        """What a fully connected module weighs (see `engines.base.HasDense`)."""
        module: Any = self._modules[name]
        with as_it_was(self._module):
            matrix = as_numpy(module.weight).T.copy()
            return Dense(matrix, np.zeros(matrix.shape[1]) if module.bias is None else as_numpy(module.bias).copy())

    def _run(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        capture: Sequence[str],
        instead: Mapping[str, StandIn],
        *,
        logits: bool,
        target: Callable[[Any], Any] | None,
        held: Held,
    ) -> _Found:
        """One pass."""
        seen: dict[str, list[_Seen]] = {}
        with contextlib.ExitStack() as around:
            under_way = around.enter_context(as_it_was(self._module))
            around.enter_context(torch_reach.replaced(self._modules, instead))
            holding = around.enter_context(self._holding(held, stand_ins=bool(instead)))
            values = [name for name in capture if not name.endswith((STATES, WEIGHTS, INSTANCES))]
            around.enter_context(self._hooks(values, seen, under_way, holding, copied=bool(instead)))
            with_states = self._with_states(capture)
            states = around.enter_context(torch_recurrent.watching(with_states, copied=self._overwritten, holding=holding))
            asked = self._with_weights(capture)
            if asked:
                _without_nested_tensors(self._module)
            weights = around.enter_context(torch_attention.watching(asked))
            heads = around.enter_context(torch_heads.watching(self._with_instances(capture)))
            watch = LogitWatch() if logits else None
            with contextlib.nullcontext() if watch is None else watch:
                output = self._output_of(self._to_tensor(batch), lengths)
            tensors = list(tensors_of(output).values())
            if not tensors:
                raise ModelError(f"The model gave a {type(output).__name__}, which holds no tensor.")
            before = None if watch is None else watch.before(tensors[0])
            scores = None if target is None else _own(torch_gradient.by_function(target, output, len(lengths)), under_way)
            outputs = [_own(tensor, under_way) for tensor in ([before[0], *tensors[1:]] if before else tensors)]
            drew_noise = under_way.drew_noise()
            for found in (states, weights, heads):
                for name, watched in found.items():
                    for address, calls in watched.by_address(name).items():
                        seen[address] = [_Seen(name, tensor, watched.dims_of(tensor), watched.overwritten) for tensor in calls]
        return _Found(outputs, seen, drew_noise, before[1] if before else "", scores)

    def _to_tensor(self, batch: np.ndarray) -> torch.Tensor:
        """Always a copy, so that a module which works in place never writes into the person's data."""
        return as_tensor(batch, self._like)

    @property
    def _like(self) -> torch.Tensor | None:
        """A tensor of the type and on the device that the module computes in."""
        held = itertools.chain(self._module.parameters(), self._module.buffers())
        return next((tensor for tensor in held if tensor.is_floating_point()), None)

    def why_not_held(self, name: str) -> str | None:
        """What stands in the way of holding a layer's units (see `engines.base.HasHolds`)."""
        ((_, module, _),) = self._places([name])
        if torch_recurrent.has_states(module) and torch_recurrent.has_own_forward(module):
            return f"it is a {type(module).__name__} with a forward of its own, whose recurrence is not known"
        return None

    @contextlib.contextmanager
    def _holding(self, held: Held, *, stand_ins: bool = False) -> Iterator[Holding]:
        """Hold units of layers for the time of one pass, in which all of these layers run, unless others stand in for some."""
        holding = Holding(held, self._places(list(held)))
        if held:
            _without_nested_tensors(self._module)
        with holding.put_in():
            yield holding
        if not stand_ins:
            holding.refuse_missing()

    @contextlib.contextmanager
    def _hooks(
        self, capture: Sequence[str], seen: dict[str, list[_Seen]], under_way: Pass, holding: Holding, *, copied: bool
    ) -> Iterator[None]:
        """Hook the wanted layers for the time of one pass."""
        handles = []
        try:
            for name, module, index in self._places(capture):
                hook = self._hook(name, index, seen, under_way, holding, copied=copied or name in self._overwritten)
                handles.append(nn.Module.register_forward_hook(module, hook, with_kwargs=True))  # TorchScript's own form of it refuses
            if handles:
                _without_nested_tensors(self._module)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _places(self, capture: Sequence[str]) -> Iterator[tuple[str, nn.Module, int | None]]:
        """Where each wanted layer is to be seen: a module, and for a layer inside a stack its position there."""
        for name in capture:
            if name in self._modules:
                yield name, self._modules[name], None
            else:
                stack, _, index = name.rpartition(".")
                yield name, self._modules[stack], int(index)

    def _with_states(self, capture: Sequence[str]) -> list[tuple[str, nn.Module, int]]:
        """Whose states are wanted."""
        names = [name.removesuffix(STATES) for name in capture if name.endswith(STATES)]
        return [(f"{name}{STATES}", module, index or 0) for name, module, index in self._places(names)]

    def _with_weights(self, capture: Sequence[str]) -> list[tuple[str, nn.MultiheadAttention]]:
        """Whose attention weights are wanted."""
        names = [name.removesuffix(WEIGHTS) for name in capture if name.endswith(WEIGHTS)]
        return [(f"{name}{WEIGHTS}", module) for name in names if isinstance(module := self._modules[name], nn.MultiheadAttention)]

    def _with_instances(self, capture: Sequence[str]) -> list[tuple[str, PoolingHead]]:
        """Of which heads each step is wanted."""
        names = [name.removesuffix(INSTANCES) for name in capture if name.endswith(INSTANCES)]
        return [(f"{name}{INSTANCES}", module) for name in names if isinstance(module := self._modules[name], PoolingHead)]

    def _hook(
        self, name: str, index: int | None, seen: dict[str, list[_Seen]], under_way: Pass, holding: Holding, *, copied: bool
    ) -> _Hook:
        run_of = functools.partial(torch_recurrent.run_of, holding=holding)

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> None:
            if index is not None:
                value = stack_layer(module, index, args, kwargs, value, run_of)
            for path, tensor in _values_of(module, value).items():
                kept = tensor.clone() if copied or tensor.is_inference() else _own(tensor, under_way)
                seen.setdefault(name + path, []).append(_Seen(name, kept))

        return hook


class _Engines:
    """The engine for each kind of object."""

    @staticmethod
    def takes(model: Any) -> bool:
        """Whether torch is the framework of an object."""
        return isinstance(model, nn.Module | torch.export.ExportedProgram)

    def __call__(self, model: Any, *, call: Any = None) -> Engine:
        """The engine for an object."""
        from seqscope.engines.torch_export import ExportEngine
        from seqscope.engines.torch_script import ScriptEngine

        if isinstance(model, torch.export.ExportedProgram):
            return ExportEngine(model, call=call)
        return ScriptEngine(model, call=call) if isinstance(model, torch.jit.ScriptModule) else TorchEngine(model, call=call)


ENGINE = _Engines()


@dataclass(frozen=True)
class _Found:
    """What a pass gave: every tensor of the model's output, what the hooks saw, and whether it drew random numbers."""

    outputs: list[torch.Tensor]
    seen: dict[str, list[_Seen]]
    drew_noise: bool
    through: str
    scores: torch.Tensor | None


class _Hook(Protocol):
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any, /) -> None: ...


class _Seen:
    """A layer's value as the hook saw it. It is not copied (the result is filled from it), so a later change is watched for."""

    def __init__(self, layer: str, tensor: torch.Tensor, dims: tuple[str, ...] | None = None, overwritten: bool = False) -> None:
        self.layer, self.tensor, self.version, self.dims, self._overwritten = layer, tensor, version_of(tensor), dims, overwritten

    @property
    def was_overwritten(self) -> bool:
        return self._overwritten or version_of(self.tensor) != self.version


def _own(tensor: torch.Tensor, under_way: Pass) -> torch.Tensor:
    """The tensor, copied where it lies in memory of the model that will be put back after the pass."""
    return tensor.clone() if under_way.owns(tensor) else tensor


def _clean(name: str) -> str:
    """The name that a module had before torch.compile wrapped parts of it."""
    return name.replace("_orig_mod.", "").removesuffix("._orig_mod").removesuffix("_orig_mod")


def _refuse_lazy(model: nn.Module) -> None:
    """Refuse what can't run yet."""
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ModelError(f"The parameter '{name}' has no shape yet: run the model on one batch first.")


def _is_atomic(module: nn.Module) -> bool:
    """Whether a module is one layer with all that is in it."""
    return isinstance(module, _ATOMIC) or is_parametrized(module)


def _parts(name: str, module: nn.Module) -> Iterator[tuple[str, list[torch.Tensor]]]:
    """The layers that a module stands for, with the tensors of each: one, or one per layer of a recurrent stack."""
    if isinstance(module, nn.RNNBase) and module.num_layers > 1:
        for index, part in enumerate(stack_names(name, module)):
            of_layer = re.compile(rf"_l{index}(?!\d)")  # weight_ih_l0, and what stands for it where it is normed
            yield part, [parameter for path, parameter in module.named_parameters() if of_layer.search(path)]
    else:
        recurse = _is_atomic(module)
        yield name, [*module.parameters(recurse=recurse), *_running_statistics(module, recurse=recurse)]


def _running_statistics(module: nn.Module, *, recurse: bool) -> list[torch.Tensor]:
    """Buffers that hold numbers, as batch norm's: weights that training does not set by gradients."""
    return [buffer for buffer in module.buffers(recurse=recurse) if buffer.is_floating_point()]


def _layer(name: str, module: nn.Module, tensors: Sequence[torch.Tensor]) -> Layer:
    return Layer(
        name=name,
        kind=torch_kinds.kind_of(module),
        type=type(module).__name__,
        description=torch_kinds.description_of(module),
        n_params=sum(tensor.numel() for tensor in tensors),
        trainable=sum(tensor.numel() for tensor in tensors if tensor.requires_grad),
        native_dims=torch_kinds.native_dims(module),
        reach=torch_reach.reach_of(module),
        directions=2 if isinstance(module, nn.RNNBase) and module.bidirectional else 1,
    )


def _without_nested_tensors(module: nn.Module) -> None:
    """Keep encoders on dense tensors: their attention can't be hooked on nested ones. Undone with the other attributes."""
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoder):
            part.use_nested_tensor = False


def _values_of(module: nn.Module, value: Any) -> dict[str, torch.Tensor]:
    """Every tensor inside what a module gave, by its place; of recurrent and attention modules the first alone."""
    if isinstance(module, _MAIN_FIRST) and isinstance(value, tuple) and not isinstance(value, PackedSequence):
        value = value[0]
    return tensors_of(value, batch_first=bool(getattr(module, "batch_first", True)))


def tensors_of(value: Any, *, batch_first: bool = True) -> dict[str, torch.Tensor]:
    """Every tensor inside what a module gave, by its place; packed sequences padded again."""

    def tensor_of(part: Any) -> torch.Tensor | None:
        if isinstance(part, PackedSequence):
            return pad_packed_sequence(part, batch_first=batch_first)[0]
        return part if isinstance(part, torch.Tensor) else None

    return by_place(value, tensor_of)


def as_tensor(batch: np.ndarray, like: torch.Tensor | None) -> torch.Tensor:
    """A tensor of a batch, always a copy: tokens as whole numbers, floats of the type of another; on its device."""
    device = None if like is None else like.device
    if batch.dtype.kind in "iu":
        return torch.tensor(batch, dtype=torch.long, device=device)
    return torch.tensor(batch, dtype=torch.float32 if like is None else like.dtype, device=device)


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A NumPy array of any tensor: a view where it can be one. Types that NumPy lacks become float32; ragged ends NaN."""
    tensor = tensor.detach()
    if tensor.is_nested:
        tensor = tensor.to_padded_tensor(float("nan"))
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.cpu().resolve_conj().resolve_neg().numpy()
