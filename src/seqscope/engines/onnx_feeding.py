"""How sequences go through a graph: all at once, one sequence at a time, or one step at a time with the state carried.

A graph whose input has a sample and a time axis takes a batch. One without a sample axis takes a sequence. One without a time axis, whose
state goes in and comes out, takes a step: it is run along the sequence. Where the file fixes the number of samples, they go through in
parts of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import helper

from seqscope.engines.onnx_graph import Graph
from seqscope.engines.onnx_inputs import Inputs, State
from seqscope.errors import ModelError, quoted
from seqscope.layouts import SERIES_LAYOUTS, TOKEN_LAYOUTS

# What runs the graph: from tensors that are known, the tensors that were asked for.
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

WHOLE, ALONE, STEPPED = "whole", "alone", "stepped"


@dataclass(frozen=True)
class Feeding:
    """How a graph is fed.

    Attributes
    ----------
    way : {"whole", "alone", "stepped"}
    inputs : Inputs
    layouts : tuple of str
        The orders of axes in which it may take a batch.
    rows : dict of int or None
        For each axis that may be the samples', the number of samples that the file fixes.
    squeezed : int or None
        An axis of the input that has one place and no meaning.
    """

    way: str
    inputs: Inputs
    layouts: tuple[str, ...]
    rows: Mapping[int, int | None]
    squeezed: int | None = None


def feeding_of(inputs: Inputs) -> Feeding:
    """Tell how a graph is fed from what its inputs are.

    Raises
    ------
    ModelError
        Its main input has too many axes for a sequence.
    """
    shape, rank = inputs.shape, len(inputs.shape)
    if inputs.is_tokens and rank in (1, 2):
        if rank == 1:
            return Feeding(ALONE, inputs, ("NT",), {0: None})
        return _whole(inputs, shape, tuple(TOKEN_LAYOUTS))
    if rank == 4 and 1 in shape[1:]:
        axis = 1 + shape[1:].index(1)
        return _whole(inputs, shape[:axis] + shape[axis + 1 :], tuple(SERIES_LAYOUTS), squeezed=axis)
    if rank not in (2, 3):
        raise ModelError(
            f"The graph's input '{inputs.main}' has {rank} axes, {list(shape)}, and seqscope reads sequences, (sample, time, channel) in "
            "any order: say how to feed it, with Scope(model, call=lambda model, batch, lengths: model(...))."
        )
    if inputs.carried and (step := _step_of(inputs)) is not None:
        return step
    return _whole(inputs, shape, tuple(SERIES_LAYOUTS)) if rank == 3 else Feeding(ALONE, inputs, ("NTC",), {0: None})


def _whole(inputs: Inputs, shape: Sequence[Any], known: tuple[str, ...], *, squeezed: int | None = None) -> Feeding:
    """Batches. Where what reads the input does not tell: if one axis alone has the size 1, it is the samples'; else trying tells."""
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    if inputs.layout in known and squeezed is None:
        known = (inputs.layout,)
    elif len(ones) == 1:
        known = tuple(layout for layout in known if layout.index("N") == ones[0])
    sizes = {axis: shape[axis] for axis in dict.fromkeys(layout.index("N") for layout in known)}
    fixed = {axis: size if isinstance(size, int) else _fixed_by_states(inputs) for axis, size in sizes.items()}
    return Feeding(WHOLE, inputs, known, fixed, squeezed)


def _fixed_by_states(inputs: Inputs) -> int | None:
    """One sample, where every axis of a state has a fixed size and one is 1."""
    return 1 if any(all(isinstance(size, int) for size in state.shape) and 1 in state.shape[:-1] for state in inputs.states) else None


def _step_of(inputs: Inputs) -> Feeding | None:
    """How a graph that carries a state takes one step: its input has no time axis, or one of a single step. None where it has more."""
    shape = inputs.shape
    open_sizes: list[Any] = [size for state in inputs.carried for size in state.shape if not isinstance(size, int)]
    for axis in (1, 0) if len(shape) == 3 else (None,):
        samples = shape[0] if axis != 0 else shape[1]
        # The samples of the input are as many as those of the state: both open, under one name if they have names, or of one size.
        fits = samples in (open_sizes or [size for state in inputs.carried for size in state.shape[:-1]])
        if fits and (axis is None or shape[axis] == 1):
            return Feeding(STEPPED, inputs, ("NTC",), {0: samples if isinstance(samples, int) else None}, axis)
    return None


def one_by_one(feeding: Feeding) -> Feeding:
    """The same, where sequences of a batch would change each other's values: each by itself, unless the file fixes their number."""
    return replace(feeding, rows={axis: size or 1 for axis, size in feeding.rows.items()})


def rows_at_once(feeding: Feeding, batch: np.ndarray, n_samples: int, sample_axis: int = 0) -> int:
    """How many samples the graph takes at once."""
    return 1 if feeding.way == ALONE else feeding.rows.get(_sample_axis(feeding, batch, n_samples, sample_axis)) or n_samples


def _sample_axis(feeding: Feeding, batch: np.ndarray, n_samples: int, said: int) -> int:
    """The axis of a batch that is the samples': as said, where a function that feeds the model has not turned it."""
    if said < batch.ndim and batch.shape[said] == n_samples:
        return said
    return next((axis for axis in feeding.rows if axis < batch.ndim and batch.shape[axis] == n_samples), 0)


@dataclass
class Passes:
    """What the runs of one pass gave: for each part of the samples, one run or one for each step.

    Attributes
    ----------
    parts : list of lists of dicts
        Tensors by name.
    sizes : list of int
        The samples of each part.
    n_rows : int or None
        The samples of each run, where the file fixes them; None where a run has those of the batch.
    """

    parts: list[list[Mapping[str, np.ndarray]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    n_rows: int | None = None

    def add(self, other: Passes) -> None:
        """Put those of another run behind."""
        self.parts += other.parts
        self.sizes += other.sizes
        self.n_rows = other.n_rows


def run_batch(
    graph: Graph, feeding: Feeding, batch: np.ndarray, lengths: np.ndarray, more: Mapping[str, Any], run: Run, *, sample_axis: int = 0
) -> Passes:
    """Run a batch, in the model's layout.

    Parameters
    ----------
    more : dict
        Further inputs by name.
    run : function
        Of the graph's inputs.

    Raises
    ------
    ModelError
        An input is left over of which nothing is known, or one was given that is not there.
    """
    known = _known(graph, feeding.inputs, more)
    n_samples = len(lengths)
    axis = _sample_axis(feeding, batch, n_samples, sample_axis)
    n_rows = rows_at_once(feeding, batch, n_samples, sample_axis)
    passes = Passes(n_rows=n_rows if feeding.way == ALONE or feeding.rows.get(axis) else None)
    for first in range(0, n_samples, n_rows):
        places = np.minimum(np.arange(first, first + n_rows), n_samples - 1)  # the last part filled up with the last sample
        part = batch.take(places, axis) if n_rows != n_samples else batch
        fed = known | _states(graph, feeding, more, n_rows)
        if feeding.inputs.lengths and feeding.inputs.lengths not in more:
            fed[feeding.inputs.lengths] = graph.as_input(feeding.inputs.lengths, np.asarray(lengths)[places])
        passes.sizes.append(min(n_rows, n_samples - first))
        through = _stepped if feeding.way == STEPPED else _at_once
        passes.parts.append(through(graph, feeding, part, fed, run))
    return passes


def _at_once(graph: Graph, feeding: Feeding, part: np.ndarray, fed: dict[str, np.ndarray], run: Run) -> list[Mapping[str, np.ndarray]]:
    if feeding.way == ALONE:
        part = part[0]
    elif feeding.squeezed is not None:
        part = np.expand_dims(part, feeding.squeezed)
    else:
        _check_steps(feeding, part)
    return [run(fed | {feeding.inputs.main: graph.as_input(feeding.inputs.main, part)})]


def _check_steps(feeding: Feeding, part: np.ndarray) -> None:
    """Refuse another number of steps than the file fixes, where it is known which axis they are on."""
    axes = {layout.index("T") for layout in feeding.layouts}
    size = feeding.inputs.shape[min(axes)] if len(axes) == 1 else None
    n_steps = part.shape[min(axes)]
    if isinstance(size, int) and n_steps not in (1, size):  # a stream's copy of the graph takes one step
        raise ModelError(
            f"The file fixes the number of steps at {size}, and a sequence has {n_steps}: give sequences of {size} steps, or export the "
            "model with an open number"
        )


def _stepped(graph: Graph, feeding: Feeding, part: np.ndarray, fed: dict[str, np.ndarray], run: Run) -> list[Mapping[str, np.ndarray]]:
    """Run a part along time, (sample, time, channel): what carries a state goes in as it came out."""
    found = []
    for step in range(part.shape[1]):
        x = part[:, step] if feeding.squeezed is None else np.expand_dims(part[:, step], feeding.squeezed)
        seen = run(fed | {feeding.inputs.main: graph.as_input(feeding.inputs.main, x)})
        fed = fed | {state.input: seen[state.output] for state in feeding.inputs.carried}
        found.append(seen)
    return found


def _known(graph: Graph, inputs: Inputs, more: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inputs that are the same in each run."""
    names = [info.name for info in graph.inputs]
    strangers = [name for name in more if name not in names]
    if strangers:
        raise ModelError(f"The graph has no input {quoted(strangers)}: it has {quoted(names)}.")
    missing = [name for name in inputs.unknown if name not in more]
    if missing:
        declared = ", ".join(f"'{name}' ({_declared(graph, name)})" for name in missing)
        example = ", ".join(f"{name}=..." if name.isidentifier() else f"**{{{name!r}: ...}}" for name in missing)
        raise ModelError(
            f"The graph has {len(names)} inputs. '{inputs.main}' takes the sequence; of {declared} nothing is known: say what goes in, "
            f"with Scope(model, call=lambda model, batch, lengths: model(batch, {example}))."
        )
    return {name: graph.as_input(name, np.asarray(value)) for name, value in more.items()}


def _declared(graph: Graph, name: str) -> str:
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(graph.types[name])).name if name in graph.types else "of no known kind"
    shape = graph.shapes.get(name)
    return kind if shape is None else f"{kind}, {'one number' if not shape else f'axes {list(shape)}'}"


def _states(graph: Graph, feeding: Feeding, more: Mapping[str, Any], n_rows: int) -> dict[str, np.ndarray]:
    """The states at the beginning: zeros, where none were given."""
    return {state.input: _zeros(graph, state, n_rows) for state in feeding.inputs.states if state.input not in more}


def _zeros(graph: Graph, state: State, n_rows: int) -> np.ndarray:
    """A state of nothing. The axis whose size the file leaves open is the samples'; where it leaves several open, their names tell."""
    sizes = [size if isinstance(size, int) else n_rows for size in state.shape]
    return graph.as_input(state.input, np.zeros(sizes))
