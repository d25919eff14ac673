"""The graph of an exported program: its nodes, and the modules that they came from.

`torch.export` writes with each operation the modules that it was inside of when the model ran (`nn_module_stack`). So a module's value is
known again: it is that of the last of its operations which something outside of it takes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from seqscope.engines import torch_reach, torch_recurrent
from seqscope.engines.base import StandIn
from seqscope.engines.torch_holds import Holding
from seqscope.engines.torch_recurrent import Watched
from seqscope.engines.torch_remade import remade
from seqscope.engines.torch_stack import stack_layer

# The operations that are a recurrent layer or a stack of them: the class that each is of, and what else that takes.
_RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "aten.lstm.input": ("LSTM", {}),
    "aten.gru.input": ("GRU", {}),
    "aten.rnn_tanh.input": ("RNN", {"nonlinearity": "tanh"}),
    "aten.rnn_relu.input": ("RNN", {"nonlinearity": "relu"}),
}
# What the operations of layers are called in the words of all frameworks.
_KINDS = {"conv1d": "conv1d", "linear": "linear", "embedding": "embedding", "softmax": "softmax", "layer_norm": "layer_norm"}

_NOTHING_HELD = Holding({}, ())


@dataclass
class Call:
    """One call of a module.

    Attributes
    ----------
    kind : str
        The name of the module's class.
    is_torchs : bool
        Whether that is a class of torch's own.
    nodes : list of Node
        Its operations, in the order in which they run.
    """

    kind: str
    is_torchs: bool = False
    nodes: list[fx.Node] = field(default_factory=list)

    @property
    def value(self) -> fx.Node:
        """The operation that gives its value; of a recurrent module the one that gives h of all steps, first of several tensors."""
        inside = set(self.nodes)
        given = [node for node in self.nodes if any(user not in inside for user in node.users)] or self.nodes
        last = given[-1]
        source = last.args[0] if last.op == "call_function" and last.name.startswith("getitem") and last.args else None
        return source if isinstance(source, fx.Node) and source in inside and is_recurrent(source) else last

    @property
    def is_plain(self) -> bool:
        """Whether one operation is all that it is, but for what makes and unpacks tensors; or the one that gives the value convolves."""
        working = [node for node in self.nodes if not _only_makes(node)]
        return working == [self.value] or is_convolution(self.value)

    @property
    def recurrent(self) -> fx.Node | None:
        """The operation that is a whole recurrent layer, where there is one."""
        found = [node for node in self.nodes if is_recurrent(node)]
        return found[0] if len(found) == 1 else None


def operations(graph: fx.Graph) -> Iterator[fx.Node]:
    """The nodes that compute something."""
    return (node for node in graph.nodes if node.op == "call_function")


def calls_of(graph: fx.Graph) -> dict[str, list[Call]]:
    """The calls of every module by its name, "" for the model as a whole, in the order in which they begin."""
    calls: dict[str, dict[str, Call]] = {}
    for node in operations(graph):
        for key, (name, kind) in node.meta.get("nn_module_stack", {}).items():
            if key.startswith("_empty"):
                continue
            of_class = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            call = Call(of_class.rpartition(".")[2], of_class.startswith("torch.nn."))
            calls.setdefault(re.sub(r"@\d+", "", name), {}).setdefault(key, call).nodes.append(node)
    return {name: list(by_key.values()) for name, by_key in calls.items()}


def operation_of(node: fx.Node) -> str:
    """The name of a node's operation: "aten.lstm.input"."""
    return str(node.target)


def kind_of(node: fx.Node) -> str:
    """What an operation is: `lstm`, `conv1d`, ... or `other`."""
    if is_recurrent(node):
        return _RECURRENT[operation_of(node)][0].lower()
    parts = operation_of(node).split(".")
    return _KINDS.get(parts[1], "other") if len(parts) == 3 else "other"


def is_recurrent(node: fx.Node) -> bool:
    """Whether an operation is a recurrent layer, or a stack of them."""
    return operation_of(node) in _RECURRENT


def is_convolution(node: fx.Node) -> bool:
    """Whether an operation is a convolution along time."""
    return operation_of(node).startswith("aten.conv1d.")


def convolved_with(node: fx.Node) -> dict[str, Any]:
    """With which options an operation convolves, as `nn.Conv1d` names them."""
    names = ("stride", "padding", "dilation", "groups")
    given = dict(zip(names, node.args[3:], strict=False)) | {name: node.kwargs[name] for name in names if name in node.kwargs}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _only_makes(node: fx.Node) -> bool:
    """Whether an operation only makes a tensor out of nothing, or takes one out of several."""
    return node.name.startswith("getitem") or operation_of(node).startswith(("aten.zeros.", "aten.empty.", "aten.sym_size."))


def writes(graph: fx.Graph) -> bool:
    """Whether an operation writes over what it is given."""
    schemas = (getattr(node.target, "_schema", None) for node in operations(graph))
    return any(schema is not None and schema.is_mutable for schema in schemas)


def module_of(operation: str, args: Sequence[Any]) -> nn.RNNBase:
    """A recurrent operation with these arguments as a module that shares the weights."""
    kind, options = _RECURRENT[operation]
    _, _, flat, has_biases, n_layers, _, _, both_ways, batch_first = args
    ends = [f"_l{layer}{way}" for layer in range(n_layers) for way in (("", "_reverse") if both_ways else ("",))]
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if has_biases else [])]
    if len(flat) > len(ends) * len(names):
        names.append("weight_hr")
    weights = dict(zip((f"{name}{end}" for end in ends for name in names), flat, strict=True))
    module = remade(kind, weights, batch_first=batch_first, **options)
    if not isinstance(module, nn.RNNBase):
        raise TypeError(f"{operation} has weights of shapes that no {kind} has")
    return module


@dataclass
class Seen:
    """What is looked at while a program runs.

    Attributes
    ----------
    nodes : dict of lists of str
        The names under which each node's value is wanted.
    parts : dict of lists of (name, layer)
        For recurrent operations, the layers of the stack whose values are wanted.
    states : dict of lists of (name, layer)
        The same for their states.
    instead : dict of (module, function)
        What stands in for nodes, and the module that each is the whole of.
    change : function of (node, value), optional
        What takes the place of a value.
    copied : bool
        Whether values are copied, since the program writes over some.
    values, watched : dict
        What was seen, by name, call after call.
    """

    nodes: Mapping[str, list[str]] = field(default_factory=dict)
    parts: Mapping[str, list[tuple[str, int]]] = field(default_factory=dict)
    states: Mapping[str, list[tuple[str, int]]] = field(default_factory=dict)
    instead: Mapping[str, tuple[nn.Module, StandIn]] = field(default_factory=dict)
    change: Callable[[str, Any], Any] | None = None
    copied: bool = False
    values: dict[str, list[Any]] = field(default_factory=dict)
    watched: dict[str, list[Watched]] = field(default_factory=dict)

    def keep(self, name: str, value: Any) -> None:
        """Keep a value, the first tensor where there are several (the rest are states)."""
        first = value[0] if isinstance(value, tuple | list) else value
        if isinstance(first, Tensor):
            self.values.setdefault(name, []).append(first.clone() if self.copied else first)


class Runner(fx.Interpreter):
    """Runs a program node by node and looks at what is wanted."""

    def __init__(self, module: fx.GraphModule, seen: Seen) -> None:
        super().__init__(module)
        self._seen = seen
        self.extra_traceback = False  # an error is told in a sentence

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it as the module would."""
        return self.run(*pytree.tree_leaves((args, kwargs)))

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        wanted = self._seen.states.get(n.name), self._seen.parts.get(n.name)
        if n.name in self._seen.instead:
            value = self._stood_in(n, *self._seen.instead[n.name])
        else:
            value = self._recurrent(n, *wanted) if any(wanted) else super().run_node(n)
        if n.op != "call_function":
            return value
        if self._seen.change is not None:
            value = self._seen.change(n.name, value)
        for name in self._seen.nodes.get(n.name, ()):
            self._seen.keep(name, value)
        return value

    def _stood_in(self, n: fx.Node, module: nn.Module, stand_in: StandIn) -> Any:
        """What a stand-in gives in place of a node. A state that nothing but zeros goes into has seen no step."""
        args, _ = self.fetch_args_kwargs_from_env(n)
        if not is_recurrent(n):
            source = next(node for node in n.all_input_nodes if node.op != "get_attr")  # what is no weight
            return torch_reach.stand_in_of(module, stand_in)(self.env[source])
        states = args[1] if isinstance(args[1], list | tuple) else [args[1]]
        hx = tuple(states) if any(bool(state.any()) for state in states) else None
        value, final = torch_reach.stand_in_of(module, stand_in)(args[0], hx if hx is None or len(hx) > 1 else hx[0])
        return (value, *(final if isinstance(final, tuple) else (final,)))

    def _recurrent(self, n: fx.Node, states: Any, parts: Any) -> Any:
        """A recurrent operation as a module, whose states and layers can be seen."""
        args, _ = self.fetch_args_kwargs_from_env(n)
        module = module_of(operation_of(n), args)
        hx = tuple(args[1]) if isinstance(args[1], list | tuple) else args[1]
        wanted = [(name, module, layer) for name, layer in states or ()]
        with torch_recurrent.watching(wanted, copied=[name for name, _ in states or ()], holding=_NOTHING_HELD) as found:
            value, final = module(args[0], hx)
        for name, watched in found.items():
            self._seen.watched.setdefault(name, []).append(watched)
        run_of = functools.partial(torch_recurrent.run_of, holding=_NOTHING_HELD)
        for name, layer in parts or ():
            self._seen.keep(name, stack_layer(module, layer, (args[0], hx), {}, (value, final), run_of)[0])
        return (value, *(final if isinstance(final, tuple) else (final,)))


def quiet_module(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The program as a module that runs; its weights are the program's own."""
    module = program.module()
    if not isinstance(module, fx.GraphModule):
        raise TypeError(f"the program gives a {type(module).__name__}")
    return module
