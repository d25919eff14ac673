"""What Keras layers give while a model runs or is traced: each wanted layer's `call` is wrapped for that time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from seqscope.engines import keras_attention, keras_cells, keras_heads, keras_kinds
from seqscope.engines.base import INSTANCES, STATES, WEIGHTS, StandIn
from seqscope.engines.keras_holds import Clamps
from seqscope.engines.places import by_place, replaced


@dataclass
class Watch:
    """What to look at in one pass, and what was seen.

    Attributes
    ----------
    wanted : dict
        The layers to look at, by name.
    states : dict
        The recurrent layers whose states to look at, by name, and of each the names of the parts that are wanted.
    attention : dict
        The attention layers whose weights to look at, by name.
    heads : dict
        The heads of `seqscope.nn` whose instances to look at, by name.
    stand_ins : sequence of (layer, function)
        What to compute in place of a layer.
    lengths : tensor (sample,) or None
        Where rows are padded: the step that a recurrent layer gives as its last is each row's own.
    recurrent : sequence
        All recurrent layers of the model.
    as_numpy : function
        An array of a tensor.
    careful : collection of str
        The recurrent layers whose states have to come from their own cells.
    nudges : dict of dicts of functions
        What makes of what layers give, by name, something of the same value with respect to which is differentiated: of a recurrent
        layer what is added to its states, by place (see `keras_cells.showing`); of another one its first tensor, under "".
    clamps : dict of dicts of functions
        What holds units of what layers give, by name: of recurrent layers (which are in `states` then) at each step, by place; of other
        ones of the first tensor, under "".
    holders : dict
        Those layers that are not recurrent.
    ran : set of str
        The layers whose units were held.
    put : dict of tensors
        What layers that are not recurrent give in place of their first tensor, by name.
    unfit : list of str
        What of it they could not give, and why.
    apart : bool
        Whether the states of a layer are seen one by one; else side by side, which saves copies.
    columns : dict of dicts of slices
        What is seen side by side: which columns of it are what.
    seen : list of (address, tensor)
        In the order in which the layers ran.
    """

    wanted: Mapping[str, Any]
    states: Mapping[str, tuple[Any, Sequence[str]]]
    attention: Mapping[str, Any]
    stand_ins: Sequence[tuple[Any, StandIn]]
    lengths: Any
    recurrent: Sequence[Any]
    as_numpy: Callable[[Any], np.ndarray]
    careful: Collection[str] = ()
    heads: Mapping[str, Any] = field(default_factory=dict)
    nudges: Mapping[str, keras_cells.Nudges] = field(default_factory=dict)
    clamps: Clamps = field(default_factory=dict)
    holders: Mapping[str, Any] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    put: Mapping[str, Any] = field(default_factory=dict)
    unfit: list[str] = field(default_factory=list)
    apart: bool = False
    columns: dict[str, keras_cells.Columns] = field(default_factory=dict)
    seen: list[tuple[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Wrap the layers; put back what they were, also after an exception."""
    touched = [*watch.wanted.values(), *watch.holders.values(), *(layer for layer, _ in watch.stand_ins)]
    layers = {id(layer): layer for layer in touched}
    stand_ins = {id(layer): stand_in for layer, stand_in in watch.stand_ins}
    with contextlib.ExitStack() as undo:
        for name, (layer, parts) in watch.states.items():
            if id(layer) not in stand_ins:
                more: dict[str, Any] = {"clamps": watch.clamps.get(name, {}), "careful": name in watch.careful}
                undo.enter_context(keras_cells.showing(layer, _keep_states(name, parts, watch), watch.nudges.get(name, {}), **more))
                undo.enter_context(_unfused(layer))
        for name, layer in watch.attention.items():
            undo.enter_context(replaced(layer, "call", keras_attention.with_weights(layer, _keep(f"{name}{WEIGHTS}", watch))))
        for name, layer in watch.heads.items():
            undo.enter_context(replaced(layer, "call", keras_heads.with_instances(layer, _keep_parts(f"{name}{INSTANCES}", watch))))
        if watch.lengths is not None:
            for layer in watch.recurrent:
                undo.enter_context(_every_step(layer, [], watch.lengths))
        for key, layer in layers.items():
            names = [name for name, wanted in watch.wanted.items() if wanted is layer]
            undo.enter_context(replaced(layer, "call", _wrapped(layer, names, stand_ins.get(key), watch)))
        yield


def _keep(address: str, watch: Watch) -> Callable[[Any], None]:
    return lambda tensor: watch.seen.append((address, tensor))


def _keep_parts(name: str, watch: Watch) -> Callable[[str, Any], None]:
    return lambda part, tensor: watch.seen.append((f"{name}[{part}]", tensor))


def _keep_states(name: str, parts: Sequence[str], watch: Watch) -> keras_cells.Keep:
    """What takes a layer's states in: those of the wanted parts."""

    def address(place: str) -> str | None:
        part, bracket, rest = place.partition("[")
        return f"{name}{part}{STATES}{bracket}{rest}" if f"{name}{part}" in parts else None

    def keep(place: str, tensor: Any, columns: keras_cells.Columns) -> None:
        wanted = {of: where for at, where in columns.items() if (of := address(at)) is not None}
        if wanted and watch.apart:
            watch.seen.extend((of, tensor[..., where]) for of, where in wanted.items())
        elif wanted:
            whole = f"{name}{STATES}{place}"
            watch.columns[whole] = wanted
            watch.seen.append((whole, tensor))
        elif not columns and (alone := address(place)) is not None:
            watch.seen.append((alone, tensor))

    return keep


def _wrapped(layer: Any, names: Sequence[str], stand_in: StandIn | None, watch: Watch) -> Callable[..., Any]:
    """The layer's `call`, which keeps what it gives under these names."""
    original = layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        if stand_in is not None:
            shown, given = _stood_in(layer, stand_in, _first(args, kwargs), watch)
        elif keras_kinds.is_recurrent(layer):
            shown, given = _recurrent(layer, original, args, kwargs)
        elif keras_kinds.is_bidirectional(layer) and not layer.return_sequences:
            shown, given = _bidirectional(layer, original, args, kwargs)
        else:
            own = original(*args, **kwargs)
            for name in (name for name, holder in watch.holders.items() if holder is layer):
                own = _first_changed(own, watch.clamps[name][""])
            shown = given = _changed(own, names, watch)
        if keras_kinds.gives_main_first(layer) and isinstance(shown, list | tuple):
            shown = shown[0]
        tensors = by_place(shown, lambda value: value if ops.is_tensor(value) else None)
        watch.seen.extend((name + place, tensor) for name in names for place, tensor in tensors.items())
        return given

    return call


def _changed(value: Any, names: Sequence[str], watch: Watch) -> Any:
    """A layer's value with what is put in the place of its first tensor, or with its nudge."""
    for name in names:
        if name in watch.put:
            value = _first_changed(value, partial(_put, name, watch))
        if "" in watch.nudges.get(name, {}):
            value = _first_changed(value, watch.nudges[name][""])
    return value


def _first_changed(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple) and value:
        return [_first_changed(value[0], change), *value[1:]]
    return change(value) if ops.is_tensor(value) else value


def _put(name: str, watch: Watch, own: Any) -> Any:
    """What is put in the place of a layer's own value, with as much of its shape as is known."""
    put = watch.put[name]
    sizes = tuple(own.shape)
    if len(sizes) != len(put.shape) or any(None not in pair and pair[0] != pair[1] for pair in zip(sizes, put.shape, strict=True)):
        watch.unfit.append(f"What is to be put in the place of '{name}' has shape {tuple(put.shape)}: it gives {sizes}.")
        return own
    return ops.reshape(ops.cast(put, own.dtype), ops.shape(own))


def _recurrent(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """What a recurrent layer gives at every step of the input, and what it gives."""
    steps: list[Any] = []
    with _every_step(layer, steps):
        given = original(*args, **kwargs)
    if not steps:  # a class of the person's own, which does not run Keras' loop
        return given, given
    shown = ops.cast(steps[-1], layer.compute_dtype)
    return ops.flip(shown, axis=1) if layer.go_backwards else shown, given


def _bidirectional(layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The same for a wrapper that gives the last step of each direction, the backward one aligned to input time."""
    forward: list[Any] = []
    backward: list[Any] = []
    with _every_step(layer.forward_layer, forward), _every_step(layer.backward_layer, backward), _unfused(layer):
        given = original(*args, **kwargs)
    if not (forward and backward):
        return given, given
    one, other = (ops.cast(steps[-1], layer.compute_dtype) for steps in (forward, backward))
    other = ops.flip(other, axis=1)
    match layer.merge_mode:
        case "concat":
            return ops.concatenate([one, other], axis=-1), given
        case "sum":
            return one + other, given
        case "ave":
            return (one + other) / 2, given
        case "mul":
            return one * other, given
    return [one, other], given


@contextlib.contextmanager
def _every_step(layer: Any, kept: list[Any], lengths: Any = None) -> Iterator[None]:
    """Let a recurrent layer's loop hand over all its steps, also where the layer gives only the last.

    Parameters
    ----------
    kept : list
        Where the steps of each call go.
    lengths : tensor (sample,), optional
        The step to give as the last one is each row's own.
    """
    original = layer.inner_loop

    def inner_loop(*args: Any, **kwargs: Any) -> Any:
        with replaced(layer, "return_sequences", True):
            last, steps, states = original(*args, **kwargs)
        kept.append(steps)
        if lengths is not None:
            places = ops.reshape(lengths - 1, (-1,) + (1,) * (len(steps.shape) - 1))
            last = ops.squeeze(ops.take_along_axis(steps, places, axis=1), axis=1)
        return last, steps, states

    with replaced(layer, "inner_loop", inner_loop):
        yield


@contextlib.contextmanager
def _unfused(layer: Any) -> Iterator[None]:
    """Keep a bidirectional layer from running both directions in one kernel (cuDNN's), past its two layers."""
    with contextlib.ExitStack() as undo:
        for name in ("_can_attempt_fused_lstm", "_can_attempt_fused_gru"):
            if hasattr(layer, name):
                undo.enter_context(replaced(layer, name, lambda *args, **kwargs: False))
        yield


def _stood_in(layer: Any, stand_in: StandIn, x: Any, watch: Watch) -> tuple[Any, Any]:
    """A stand-in's value, and the same as the layer would give it: only the last step, or with states."""
    dtype = x.dtype if "float" in keras.backend.standardize_dtype(x.dtype) else layer.compute_dtype
    value = np.asarray(stand_in(watch.as_numpy(x)))
    shown = ops.convert_to_tensor(value, dtype=dtype)
    if not (keras_kinds.is_recurrent(layer) or keras_kinds.is_bidirectional(layer)):
        return shown, shown
    last = ops.convert_to_tensor(_through_all(value, watch), dtype=dtype)
    backwards = getattr(layer, "go_backwards", False)
    given = (ops.flip(shown, axis=1) if backwards else shown) if layer.return_sequences else last
    if not layer.return_state:
        return shown, given
    if keras_kinds.is_bidirectional(layer):
        half = layer.forward_layer.units
        one, other = (last[:, :half], last[:, -half:])
        n_states = len(layer.forward_layer.cell.state_size) if isinstance(layer.forward_layer.cell.state_size, list | tuple) else 1
        return shown, (given, *[one] * n_states, *[other] * n_states)
    size = layer.cell.state_size
    return shown, (given, *[last] * (len(size) if isinstance(size, list | tuple) else 1))


def _through_all(value: np.ndarray, watch: Watch) -> np.ndarray:
    """What is read off the last step or a state: the largest of all steps, since it has been through them, but for the padding."""
    if watch.lengths is None:
        return np.asarray(value.max(axis=1))
    there = np.arange(value.shape[1]) < watch.as_numpy(watch.lengths)[:, None]
    return np.asarray(np.where(there[..., None], value, -np.inf).max(axis=1))


def _first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The first argument of a call."""
    return args[0] if args else next(iter(kwargs.values()))
