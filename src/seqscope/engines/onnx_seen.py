"""What is made of the tensors of a run: a layer's value at each of its calls, recurrent states; put together over several runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqscope.engines.onnx_cells import KINDS as RECURRENT
from seqscope.engines.onnx_feeding import ALONE, Passes
from seqscope.engines.onnx_graph import LOOPS, Node
from seqscope.engines.onnx_layers import Place

Tensors = Mapping[str, np.ndarray]
# How what stands behind the name of a state before the first step ends.
INITIAL = "0]"
# Values at each call, by what stands behind the layer's name: "" where there is one.
Calls = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class Seen:
    """How a value is made.

    Attributes
    ----------
    tensors : tuple of str
        What it is made from.
    make : function
        Of these tensors of one run; gives nothing where the layer never ran.
    sample_axis, time_axis : int or None
        Of a call's value, where that is known. Runs for one step each are put together along the time axis; without one they are calls.
    """

    tensors: tuple[str, ...]
    make: Callable[[Tensors], Calls]
    sample_axis: int | None = None
    time_axis: int | None = None


def seen_value(place: Place, sample_axis: int | None, step_axis: int | None) -> Seen:
    """A layer's value; of a recurrent node its h at every step, (time, sample, unit) or with the sample first as the node has it."""
    node = place.node
    if node.op in RECURRENT and place.tensor == node.output(0):
        axis = 0 if node.attribute("layout", 0) else 1
        return Seen((place.tensor,), lambda found: _each(node, found[place.tensor], lambda y: side_by_side(node, y)), axis, 1 - axis)
    return Seen((place.tensor,), lambda found: _each(node, found[place.tensor], lambda value: value), sample_axis, step_axis)


def _each(node: Node, value: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> Calls:
    calls = [change(call) for call in calls_of(node, value)]
    return {"": calls} if calls else {}


def calls_of(node: Node, value: np.ndarray) -> list[np.ndarray]:
    """What a node gives, at each iteration of what is around it; none where a branch was not taken."""
    return calls_within(node.around, value)


def calls_within(around: Sequence[tuple[Node, str]], value: np.ndarray) -> list[np.ndarray]:
    """A tensor at each iteration of what is around it."""
    if any(outer.op == "If" for outer, _ in around) and value.shape == (0,):
        return []
    depth = sum(outer.op in LOOPS for outer, _ in around)
    return list(value.reshape(math.prod(value.shape[:depth]), *value.shape[depth:])) if depth else [value]


def side_by_side(node: Node, y: np.ndarray) -> np.ndarray:
    """A recurrent node's Y with the units of both directions in one axis, as every framework has them."""
    if node.attribute("layout", 0):  # (sample, time, direction, unit)
        return y.reshape(*y.shape[:2], -1)
    by_step = y.swapaxes(1, 2)  # (time, sample, direction, unit)
    return np.ascontiguousarray(by_step).reshape(*by_step.shape[:2], -1)


def as_y(node: Node, value: np.ndarray) -> np.ndarray:
    """The same the other way: the Y that a node gives, from units side by side."""
    n_directions = 2 if node.attribute("direction") == "bidirectional" else 1
    y = value.reshape(*value.shape[:2], n_directions, -1)
    return y if node.attribute("layout", 0) else np.ascontiguousarray(y.swapaxes(1, 2))


def put_together(passes: Passes, seen: Seen, way: str) -> Calls:
    """A value over all runs of a batch."""
    parts = [_along_time([seen.make(run) for run in runs], seen.time_axis) for runs in passes.parts]
    found: Calls = {}
    for behind in parts[0]:
        calls = zip(*(part[behind] for part in parts if behind in part), strict=True)
        found[behind] = [_along_samples(list(call), passes, seen.sample_axis, way) for call in calls]
    return found


def _along_time(steps: Sequence[Calls], time_axis: int | None) -> Calls:
    """The runs of one part, a step each."""
    if len(steps) == 1:
        return steps[0]
    found: Calls = {}
    for behind in next((step for step in steps if step), {}):
        calls = [call for step in steps for call in step.get(behind, [])]
        if behind.endswith(INITIAL):
            calls = calls[:1]
        found[behind] = calls if time_axis is None or len(calls) == 1 else [np.concatenate(calls, axis=time_axis)]
    return found


def _along_samples(values: Sequence[np.ndarray], passes: Passes, axis: int | None, way: str) -> np.ndarray:
    """The values of the parts, without what filled the last one up."""
    if passes.n_rows is None:
        return values[0]
    if axis is None or (way == ALONE and values[0].shape[axis] != 1):  # what such a graph has in that axis is something else
        fitting = [place for place, size in enumerate(values[0].shape) if size == passes.n_rows and way != ALONE]
        if not fitting:
            return np.stack(values) if passes.n_rows == 1 else values[0]
        axis = fitting[0]
    kept = [value.take(np.arange(size), axis) for value, size in zip(values, passes.sizes, strict=True)]
    return np.concatenate(kept, axis)
