"""The engine for programs of `torch.export`: run node by node, seen by node and by the module that the nodes came from."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from seqscope.cells import CellWeights
from seqscope.engines import torch_cells, torch_gradient, torch_kinds, torch_reach, torch_shipping
from seqscope.engines.base import STATES, Forward, Gradient, InputHint, Packed, StandIn
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.score import Score, Target, as_score
from seqscope.engines.torch import as_numpy, as_tensor, tensors_of
from seqscope.engines.torch_chunks import joined, joined_gradients, of_rows
from seqscope.engines.torch_graph import (
    Call,
    Runner,
    Seen,
    calls_of,
    convolved_with,
    is_convolution,
    is_recurrent,
    kind_of,
    module_of,
    operation_of,
    operations,
    quiet_module,
    writes,
)
from seqscope.engines.torch_logits import LogitWatch
from seqscope.engines.torch_remade import remade
from seqscope.engines.torch_stack import stack_names
from seqscope.engines.torch_state import as_it_was
from seqscope.errors import LayerError, ModelError, SeqscopeError, UnsupportedError, nearest
from seqscope.layers import Layer
from seqscope.layouts import ORDERS
from seqscope.reach import Reach

_LOAD_INSTEAD = "load the weights into the nn.Module that it was made from, Scope(model, weights=file), and ask that"
_TAKEN_APART = f"the program has it taken apart into single operations: {_LOAD_INSTEAD}"


class ExportEngine:
    """A program of `torch.export`.

    Parameters
    ----------
    model : torch.export.ExportedProgram
    call : function of (program, batch, lengths), optional
        How to feed it, where `program` is called as the model was; default: `program(batch)`. A batch size that the program is fixed to
        is seen to: it gets chunks of that size, the last one filled up.

    Raises
    ------
    ModelError
        The program can't be made to run.
    """

    framework = "torch.export"
    layouts = tuple(ORDERS)
    merges_lengths = compiles_shapes = False
    in_training: tuple[str, ...] = ()
    attention_layers: tuple[str, ...] = ()

    def __init__(self, model: Any, *, call: Callable[[Any, torch.Tensor, torch.Tensor], Any] | None = None) -> None:
        self.model = model
        self.call = call
        self._call = call or (lambda program, batch, lengths: program(batch))
        try:
            self._module = quiet_module(model)
        except Exception as error:
            raise ModelError(f"The program can't be made to run: {type(error).__name__}: {error}") from error
        self._calls = calls_of(self._module.graph)
        self._nodes = {node.name: node for node in operations(self._module.graph)}
        root = self._calls.get("")
        self.model_name = root[0].kind if root else "ExportedProgram"
        self._copied = writes(self._module.graph)
        self._modules: dict[str, Any] = {}

    # What it is made of

    @cached_property
    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """The weights of each module that has some, by their own names; those of no module that runs under the one they are in."""
        found: dict[str, dict[str, torch.Tensor]] = {}
        running = {name for name in self._calls if name}
        for name, tensor in self._module.state_dict(keep_vars=True).items():
            owner, _, key = name.rpartition(".")
            above = owner
            while above and above not in running:
                above = above.rpartition(".")[0]
            place = above or owner or self._root_name
            if tensor.is_floating_point():
                found.setdefault(place, {})[name.removeprefix(f"{place}.") if owner else key] = tensor
        return found

    @cached_property
    def _root_name(self) -> str:
        name = self.model_name.lower()
        while name in self._calls:
            name += "_"
        return name

    @cached_property
    def _rows(self) -> dict[str, str]:
        """The modules that are layers, each with its class: those with weights of their own, and those with no module in them."""
        leaves = [name for name in self._calls if name and not any(other.startswith(f"{name}.") for other in self._calls)]
        names = [name for name in self._calls if name in leaves or name in self._weights]
        names += [name for name in self._weights if name not in names]
        return {name: self._calls[name][0].kind if name in self._calls else "Module" for name in names}

    def _remade(self, name: str) -> Any:
        """The module again, where its class, its weights and its operation tell: with the options that it runs with."""
        if name not in self._modules:
            self._modules[name] = self._remade_anew(name)
        return self._modules[name]

    def _remade_anew(self, name: str) -> Any:
        calls = self._calls.get(name, [])
        if not calls or not calls[0].is_torchs:
            return None
        node, weights = calls[0].recurrent, self._weights.get(name, {})
        if node is not None:
            return self._stack(node)
        return remade(calls[0].kind, weights, **(convolved_with(calls[0].value) if is_convolution(calls[0].value) else {}))

    def _reach(self, name: str, module: Any) -> Reach | None:
        """What each place of a module's value can see of its input, where its operations are known to be the module's alone."""
        if module is None or not all(call.is_plain or call.recurrent is not None for call in self._calls[name]):
            return None
        return torch_reach.reach_of(module)

    def _stack(self, node: torch.fx.Node) -> Any:
        """A recurrent operation as a module; None where its weights are computed."""
        tensors = self._module.state_dict(keep_vars=True)
        flat = [tensors.get(str(weight.target)) for weight in node.args[2]]  # type: ignore[union-attr]
        if any(tensor is None for tensor in flat):
            return None
        return module_of(operation_of(node), [*node.args[:2], flat, *node.args[3:]])

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The modules that the operations came from, in the order in which they run; those of a recurrent stack one by one."""
        seen: set[int] = set()
        layers = []
        for name in self._rows:
            weights, parts = self._weights.get(name, {}), self.recurrent_parts.get(name, (name,))
            for index, part in enumerate(parts):
                own = [tensor for key, tensor in weights.items() if len(parts) == 1 or f"_l{index}" in key]
                fresh = [tensor for tensor in own if tensor.data_ptr() not in seen]
                seen |= {tensor.data_ptr() for tensor in fresh}
                layers.append(self._layer(name, part, fresh))
        return tuple(layers)

    def _layer(self, name: str, part: str, tensors: Sequence[torch.Tensor]) -> Layer:
        kind, module = self._rows.get(name) or self._calls[name][0].kind, self._remade(name)
        return Layer(
            name=part,
            kind=torch_kinds.kind_named(kind),
            type=kind,
            description=kind if module is None or isinstance(module, nn.Dropout) else torch_kinds.description_of(module),
            n_params=sum(tensor.numel() for tensor in tensors),
            trainable=sum(tensor.numel() for tensor in tensors if tensor.requires_grad),
            native_dims=None if module is None else torch_kinds.native_dims(module),
            reach=self._reach(name, module),
            directions=2 if getattr(module, "bidirectional", False) else 1,
        )

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """The layers, containers and stacks, then every node: under its own name, "%relu" where a module has that."""
        found = {layer.name: layer for layer in self.layers}
        for name in self._calls:
            if name and name not in found:
                inside = [
                    tensor for place, weights in self._weights.items() for tensor in weights.values() if f"{place}.".startswith(f"{name}.")
                ]
                found[name] = self._layer(name, name, inside)
        for name, node in self._nodes.items():
            shown = f"%{name}" if name in found else name
            found[shown] = Layer(shown, kind_of(node), operation_of(node), operation_of(node), 0, 0)
        return found

    @cached_property
    def _sizes(self) -> tuple[int | None, ...]:
        """The sizes of the input that the program was exported for; None where it takes any."""
        first = next((node for node in self._module.graph.nodes if node.op == "placeholder"), None)
        value = None if first is None else first.meta.get("val")
        return tuple(map(_fixed, value.shape)) if isinstance(value, torch.Tensor) else ()

    @cached_property
    def input_hints(self) -> tuple[InputHint, ...]:
        """What the modules' weights tell, and the sizes that the program is fixed to."""
        modules = ((name, self._remade(name)) for name in self._rows)
        hints = [hint for name, module in modules if module is not None and (hint := torch_kinds.input_hint(name, module))]
        fixed = dict.fromkeys(size for size in self._sizes if size)
        if len(self._sizes) == 3:
            widths = dict.fromkeys([hint.size for hint in hints if hint.size in fixed] + [size for size in self._sizes[1:] if size])
            pairs = [(width, steps) for width in widths for steps in (*(size for size in fixed if size != width), None)]
            return (*(InputHint("the input", width, n_steps=steps) for width, steps in pairs), *hints)
        return tuple(dataclasses.replace(hint, n_steps=self._sizes[-1]) if hint.is_tokens and self._sizes else hint for hint in hints)

    @cached_property
    def recurrent_parts(self) -> dict[str, tuple[str, ...]]:
        """The recurrent modules, each with its layers (see `engines.base.HasStates`)."""
        parts: dict[str, tuple[str, ...]] = {}
        for name, calls in self._calls.items():
            node = calls[0].recurrent
            module = self._stack(node) if node is not None and _is_recurrent_class(calls[0].kind) else None
            if module is not None:
                layers = stack_names(name, module) if module.num_layers > 1 else (name,)
                parts |= {name: layers} | {layer: (layer,) for layer in layers}
        return parts

    @cached_property
    def stateless(self) -> Mapping[str, str]:
        """Recurrent modules whose states can't be told, and what stands in the way."""
        classes = {name: calls[0].kind for name, calls in self._calls.items()}
        return {name: _TAKEN_APART for name, kind in classes.items() if _is_recurrent_class(kind) and name not in self.recurrent_parts}

    def recurrent(self, name: str) -> tuple[CellWeights, ...]:
        """The weights of a recurrent layer, one for each direction (see `engines.base.HasStates`)."""
        if name not in self.recurrent_parts:
            raise UnsupportedError(f"'{name}' is no recurrent layer of torch's own kinds.")
        base, index = self._place(name)
        module = self._remade(base)
        found = [torch_cells.weights_of(module, index or 0, backward=way) for way in ((False, True) if module.bidirectional else (False,))]
        return tuple(weights.mapped(lambda tensor: as_numpy(tensor).copy()) for weights in found)

    def _place(self, name: str) -> tuple[str, int | None]:
        """A module, and the layer's index where the name is that of one in a stack."""
        if name in self._calls or name not in self.recurrent_parts:
            return name, None
        base, _, index = name.rpartition(".")
        return base, int(index)

    def contents(self) -> Iterator[str | np.ndarray]:
        """The program's class, its operations with their options, and its numbers (see `engines.base.Travels`)."""
        yield self.model_name
        for node in self._nodes.values():
            yield f"{operation_of(node)} {node.args} {node.kwargs}"
        yield from torch_shipping.contents(self._module)

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
        """Run the program once, without gradients (see `engines.base.Engine.forward`)."""
        axis, chunks = self._chunks(batch, len(lengths), sample_axis)
        runs = []
        for rows in chunks:
            here = {name: of_rows(stand_in, rows, len(lengths)) for name, stand_in in (instead or {}).items()}
            runs.append((rows, self._once(batch.take(rows, axis), lengths[rows], capture, here, logits=logits, target=target)))
        return runs[0][1] if len(chunks[0]) == len(lengths) else joined(runs, len(lengths))

    def _chunks(self, batch: np.ndarray, n_rows: int, axis: int = 0) -> tuple[int, list[np.ndarray]]:
        """The axis of a batch that is the samples', and those of each run: all, or as many as the program is fixed to."""
        axis = axis if batch.shape[axis] == n_rows else 1 - axis
        size = self._sizes[axis] if axis < len(self._sizes) else None
        if size is None or size == n_rows:
            return axis, [np.arange(n_rows)]
        return axis, [np.minimum(np.arange(start, start + size), n_rows - 1) for start in range(0, n_rows, size)]

    def _once(
        self,
        batch: np.ndarray,
        lengths: np.ndarray,
        capture: Sequence[str],
        instead: Mapping[str, StandIn],
        *,
        logits: bool,
        target: Callable[[Any], Any] | None,
    ) -> Forward:
        """One run."""
        replaced = {
            node.name: (self._remade(name) or nn.Identity(), stand_in)
            for name, stand_in in instead.items()
            for node in self._nodes_of(name)
        }
        seen, watch = self._looking(capture, instead=replaced), LogitWatch() if logits else None
        with as_it_was(self._module) as under_way, contextlib.nullcontext() if watch is None else watch:
            output = self._run(seen, as_tensor(batch, self._like), lengths)
            tensors = list(tensors_of(output).values())
            if not tensors:
                raise ModelError(f"The program gave a {type(output).__name__}, which holds no tensor.")
            before = None if watch is None else watch.before(tensors[0])
            scores = None if target is None else as_numpy(torch_gradient.by_function(target, output, len(lengths))).copy()
            captured = {name: [as_numpy(value).copy() for value in calls] for name, calls in seen.values.items()}
            dims: dict[str, tuple[str, ...]] = {}
            for name, calls in _states_of(seen).items():
                captured[name] = [as_numpy(tensor).copy() for tensor, _ in calls]
                if calls[0][1] is not None:
                    dims[name] = calls[0][1]
            first = as_numpy(before[0] if before else tensors[0]).copy()
            drew_noise = under_way.drew_noise()
        return Forward(first, len(tensors), captured, drew_noise, dims=dims, through=before[1] if before else "", scores=scores)

    def _run(self, seen: Seen, x: torch.Tensor, lengths: np.ndarray) -> Any:
        try:
            return self._call(Runner(self._module, seen), x, torch.tensor(lengths))
        except SeqscopeError:
            raise
        except Exception as error:
            raise ModelError(self._why(x, error)) from error

    def _why(self, x: torch.Tensor, error: Exception) -> str:
        """What is wrong with a batch: its sizes, where the program is fixed to others."""
        sizes = self._sizes
        if len(sizes) != x.dim() or any(size not in (None, own) for size, own in zip(sizes, x.shape, strict=True)):
            wanted = " x ".join("any" if size is None else str(size) for size in sizes)
            return f"The program was exported for an input of {wanted}: export it with dynamic_shapes= for others"
        return f"The program raised {type(error).__name__}: {' '.join(str(error).split())}"

    def _looking(self, capture: Sequence[str], **more: Any) -> Seen:
        """What to look at."""
        seen = Seen(copied=self._copied, **more)
        nodes: dict[str, list[str]] = {}
        parts: dict[str, list[tuple[str, int]]] = {}
        states: dict[str, list[tuple[str, int]]] = {}
        for name in capture:
            base, index = self._place(name.removesuffix(STATES))
            for node in self._nodes_of(base):
                if name.endswith(STATES):
                    states.setdefault(node.name, []).append((name, index or 0))
                elif index is not None:
                    parts.setdefault(node.name, []).append((name, index))
                else:
                    nodes.setdefault(node.name, []).append(name)
        return dataclasses.replace(seen, nodes=nodes, parts=parts, states=states)

    def _nodes_of(self, name: str) -> list[torch.fx.Node]:
        """The nodes whose value a name means, one a call."""
        if name in self._calls and name:
            return [_recurrent_or_value(call) for call in self._calls[name]]
        node = self._nodes.get(name.removeprefix("%"))
        return [] if node is None else [node]

    @property
    def _like(self) -> torch.Tensor | None:
        """A tensor of the type and on the device that the program computes in."""
        return next((tensor for tensor in self._module.state_dict().values() if tensor.is_floating_point()), None)

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
        """The derivative of each sample's score at the input, or at a layer that is not recurrent (see `engines.base.HasGradients`)."""
        wanted = target.capture if isinstance(target, Score) else ""
        for name in (layer, wanted.removesuffix(STATES)):
            if name and name not in self.by_name:
                raise LayerError(f"No layer is named '{name}': {nearest(name, self.by_name)}.")
        if wanted.endswith(STATES) or (layer is not None and any(is_recurrent(node) for node in self._nodes_of(layer))):
            what = wanted.removesuffix(STATES) if wanted.endswith(STATES) else layer
            raise UnsupportedError(f"Derivatives inside the recurrence of '{what}' can't be had of an exported program: {_LOAD_INSTEAD}.")
        score, found = as_score(target, len(lengths)), []
        axis, chunks = self._chunks(batch, len(lengths))
        whole = len(chunks[0]) == len(lengths)
        if not whole and replace is not None and len(replace) != len(lengths):
            raise UnsupportedError(
                f"The value of '{layer}' can't be replaced, since its first axis is not the samples' and the program is fixed to "
                f"{len(chunks[0])} of them: {_LOAD_INSTEAD}."
            )
        for rows in chunks:
            part = score.take(rows) if isinstance(score, Score) else score
            value = replace if whole or replace is None else replace[rows]
            found.append((rows, self._differentiated(batch.take(rows, axis), lengths[rows], part, layer, value, wanted)))
        return found[0][1] if whole else joined_gradients(found, len(lengths))

    def _differentiated(
        self, batch: np.ndarray, lengths: np.ndarray, target: Target, layer: str | None, replace: np.ndarray | None, wanted: str
    ) -> Gradient:
        nudged = [] if layer is None else [node.name for node in self._nodes_of(layer)]
        nudges: list[torch.Tensor] = []
        values: list[np.ndarray] = []

        def change(name: str, value: Any) -> Any:
            if name not in nudged:
                return value
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                raise UnsupportedError(f"The layer gives a {type(value).__name__}, whose derivative can't be had.")
            value = value if replace is None else as_tensor(replace, value)
            nudges.append(torch.zeros_like(value, requires_grad=True))
            values.append(as_numpy(value).copy())
            return value + nudges[-1]

        seen = self._looking([wanted] if wanted else [], change=change)
        with torch.inference_mode(mode=False), as_it_was(self._module), torch.enable_grad(), torch_gradient.frozen(self._module):
            x = as_tensor(batch, self._like)
            if layer is None and not x.is_floating_point():
                raise UnsupportedError("Tokens have no derivative: ask for the one at the layer that embeds them, with layer=.")
            x.requires_grad_(layer is None)
            with LogitWatch() as watch:
                output = self._run(seen, x.clone(), lengths)
            score, through, logits = torch_gradient.score_of(output, target, len(lengths), watch, seen.values)
            if layer is not None and not nudges:
                raise LayerError(f"The layer '{layer}' never ran for this input.")
            if not score.requires_grad:
                torch_gradient.refuse_cut_off()
            gradients = torch_gradient.derivatives(score, {"": [x] if layer is None else nudges}, as_numpy)
            own = {} if layer is None else {"": values}
            return Gradient(as_numpy(score).copy(), gradients, own, through, None if logits is None else as_numpy(logits).copy())


def _fixed(size: Any) -> int | None:
    """A size that is a number, also where it became one in the course of the export."""
    return size if isinstance(size, int) else size.node.maybe_as_int()


def _is_recurrent_class(kind: str) -> bool:
    return torch_kinds.kind_named(kind) in ("lstm", "gru", "rnn")


def _recurrent_or_value(call: Call) -> torch.fx.Node:
    """The operation that gives a module's value: of a recurrent module that one, whatever of it is used."""
    node = call.recurrent if _is_recurrent_class(call.kind) else None
    return call.value if node is None else node


def _states_of(seen: Seen) -> dict[str, list[tuple[torch.Tensor, tuple[str, ...] | None]]]:
    """The states that were watched, by address, with what their axes are."""
    found: dict[str, list[tuple[torch.Tensor, tuple[str, ...] | None]]] = {}
    for name, calls in seen.watched.items():
        for watched in calls:
            for address, tensors in watched.by_address(name).items():
                found.setdefault(address, []).extend((tensor, watched.dims_of(tensor)) for tensor in tensors)
    return found
