"""From what a person calls a target to the scores that an engine is asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqscope import cells
from seqscope.axes import OUTPUT_VALUE, Reading
from seqscope.collect import few_rows
from seqscope.engines.base import BACKWARD, FORWARD, STATES, HasStates
from seqscope.engines.score import Score
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError, nearest, quoted, warn
from seqscope.feed import Feed
from seqscope.labelled import SAMPLE, TIME
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen
from seqscope.states import kind_of_names, state_of
from seqscope.target import ALL, LAST, Output, Unit

# Sequences that are run together to see what a model predicts.
_ROWS = 64
# A probability nearer to 0 or 1 than this hardly moves any more.
_SATURATED = 0.01


@dataclass(frozen=True)
class Outputs:
    """What a model puts out.

    Attributes
    ----------
    dims : tuple of str
        The axes as the engine has them.
    size : int
        How many outputs there are.
    names : tuple or None
    through : str
        The function that is looked through.
    kind : str
        What a score of one of them is: "logit", "probability" or "output".
    """

    dims: tuple[str, ...]
    size: int
    names: tuple[Hashable, ...] | None
    through: str
    kind: str

    @property
    def has_steps(self) -> bool:
        """Whether there is an output at every step."""
        return TIME in self.dims

    def name(self, position: int) -> Hashable:
        """What an output is called."""
        return position if self.names is None else self.names[position]

    def position(self, name: Any) -> int:
        """Where an output is: an integer is a position, anything else a name.

        Raises
        ------
        DataError
            There is none.
        """
        if hasattr(name, "__index__") and not isinstance(name, bool | np.bool):
            if 0 <= int(name) < self.size:
                return int(name)
            named = f", named {quoted(map(str, self.names))}" if self.names else ""
            raise DataError(f"There is no output {int(name)}: the model has {self.size}, at positions 0 to {self.size - 1}{named}.")
        if self.names is not None and name in self.names:
            return self.names.index(name)
        if isinstance(name, float) and name.is_integer():  # R's numbers are, unless they end in L
            raise DataError(f"There is no output named {name!r}: a position is a whole number, {int(name)} (in R {int(name)}L).")
        if self.names is None:
            raise DataError(f"There is no output named {name!r}: the outputs have no names (Scope(model, outputs=[...]) gives them some).")
        raise DataError(f"There is no output named {name!r}: {nearest(str(name), map(str, self.names))}.")


@dataclass(frozen=True)
class Scoring:
    """Whose scores are explained, for a whole data set.

    Attributes
    ----------
    text : str
        The target in words.
    kind : str
        What the score is: "logit", "probability", "output", "unit", "function".
    outputs : Outputs or None
        Where it is an output's.
    positions : int array (sample,) or None
        Which output of each sequence; None: the predicted one.
    time : int or None
        The step, as it was said; `all_steps`: every one.
    fixed : Score or function or None
        Where it is no output's: what it is of each row.
    """

    text: str
    kind: str
    outputs: Outputs | None = None
    positions: np.ndarray | None = None
    time: int | None = None
    all_steps: bool = False
    fixed: Score | Callable[[Any], Any] | None = None

    def of(self, feed: Feed, x: np.ndarray, rows: np.ndarray, ids: Sequence[Any]) -> Score | Callable[[Any], Any]:
        """The scores of sequences of one length: each once, or once for every step of the output.

        Parameters
        ----------
        x : array (sample, time, ...)
        rows : int array (sample,)
            Their places in the data set.
        ids : sequence
            What they are called.
        """
        if self.outputs is None:
            if isinstance(self.fixed, Score):
                return self.fixed.take(np.zeros(len(x), int))
            return self.fixed  # type: ignore[return-value]
        steps = np.zeros(len(x), int) if self.time is None else np.full(len(x), self.time)
        here = np.arange(len(x))
        score = Score(np.zeros(len(x), int), steps if self.outputs.has_steps else None, self.outputs.dims)
        if self.positions is not None and not self.all_steps:
            return Score(self.positions[rows], score.time, score.dims)
        n_steps = 1
        if self.all_steps or self.positions is None:
            found = np.concatenate([_by_row(feed, x[start : start + _ROWS], score) for start in range(0, len(x), _ROWS)])
            finite = np.isfinite(found).reshape(len(found), -1).all(1)
            if not finite.all():
                raise ModelError(
                    f"The model's output is NaN or infinite for sequence {ids[int(np.argmin(finite))]}: look for weights that are, or for "
                    "a division or logarithm at 0."
                )
            if self.all_steps:
                n_steps = found.shape[1]
                here, steps = np.repeat(here, n_steps), np.tile(np.arange(n_steps), len(x))
            chosen = found[here, steps] if score.time is not None else found
            positions = chosen.argmax(-1) if self.positions is None else self.positions[rows][here]
            return Score(positions, steps if score.time is not None else None, score.dims)
        return score


def _by_row(feed: Feed, x: np.ndarray, score: Score) -> np.ndarray:
    """All outputs of some sequences, (sample, output), or (sample, time, output) where they have steps."""
    output = feed.forward(x[feed.filled(len(x), _ROWS)], logits=True).output
    axes = [score.dims.index(dim) for dim in (SAMPLE, *([TIME] if score.time is not None else []))]
    ordered = np.moveaxis(output, axes, range(len(axes)))[: len(x)]
    return ordered.reshape(*ordered.shape[: len(axes)], -1)


def scoring_for(target: Any, specimen: Specimen, feed: Feed, sequences: Sequences, names: Sequence[Hashable] | None) -> Scoring:
    """Read what was asked for.

    Raises
    ------
    DataError
        There is no such output, unit or step, or not one for each sequence.
    LayerError, UnsupportedError
        The unit's layer does not exist, or has no such state.
    """
    if isinstance(target, Unit):
        return _of_unit(target, specimen, feed, sequences)
    if callable(target):
        return Scoring(f"function {getattr(target, '__name__', type(target).__name__)}", "function", fixed=target)
    outputs = _outputs(specimen, feed, sequences, names)
    wanted = target if isinstance(target, Output) else Output(None)
    time = wanted.time
    if time is not None and not outputs.has_steps:
        raise DataError(f"The target asks for {wanted}, and the model has one output for each sequence, without steps: leave time out.")
    if time is None and outputs.has_steps:
        raise DataError(
            "The model has an output at every step: say which, with target=seqscope.target.output(name, time=-1), or time='all' for "
            "every one."
        )
    if isinstance(time, int | np.integer):
        _check_step(int(time), sequences, feed, outputs)
    positions, text = _positions(wanted.name if isinstance(target, Output) else target, outputs, len(sequences))
    if time is not None:
        text += " at every step" if time == ALL else f" at step {time}"
    return Scoring(text, outputs.kind, outputs, positions, None if time in (None, ALL) else int(time), time == ALL)


def _check_step(time: int, sequences: Sequences, feed: Feed, outputs: Outputs) -> None:
    """Refuse a step that the shortest sequence's output lacks."""
    shortest = sequences[[int(np.argmin(sequences.lengths))]]
    n_steps = feed.forward(next(shortest.batches(1)).values).output.shape[outputs.dims.index(TIME)]
    if not -n_steps <= time < n_steps:
        raise DataError(f"There is no output step {time} in sequence {shortest.samples[0]}, which has {n_steps}.")


def _positions(name: Any, outputs: Outputs, n_samples: int) -> tuple[np.ndarray | None, str]:
    """Which output of each sequence, and in words."""
    if name is None:
        return (None, "the predicted output") if outputs.size > 1 else (np.zeros(n_samples, int), "the output")
    n_axes = getattr(name, "ndim", 0)
    if n_axes > 1:
        raise DataError(f"The targets have shape {tuple(name.shape)}: expected one for all sequences, or (sample), one for each.")
    one_each = isinstance(name, list | tuple | range) or n_axes == 1
    if not one_each:
        position = outputs.position(name.item() if hasattr(name, "item") else name)
        return np.full(n_samples, position), str(outputs.name(position))
    listed = [
        value.item() if hasattr(value, "item") else value for value in np.asarray(name, dtype=None if hasattr(name, "dtype") else object)
    ]
    if len(listed) != n_samples:
        raise DataError(f"{len(listed)} targets were given for {n_samples} sequences: give one for all, or one for each.")
    return np.array([outputs.position(value) for value in listed]), "one for each sequence"


def _outputs(specimen: Specimen, feed: Feed, sequences: Sequences, names: Sequence[Hashable] | None) -> Outputs:
    """What the model puts out, seen on a few sequences."""
    reading = specimen.readings(feed, sequences, (OUTPUT_VALUE,))[OUTPUT_VALUE]
    if isinstance(reading, LayerError):
        raise ModelError(f"The model's output {reading.message}.")
    if reading.folded is not None or len(reading.dims) > 2 + (TIME in reading.dims) or SAMPLE not in reading.dims:
        raise UnsupportedError(
            f"The model's output has the axes {reading.dims}, in which an output can't be told: give a function as target."
        )
    others = [axis for axis, dim in enumerate(reading.dims) if dim not in (SAMPLE, TIME)]
    looked = specimen.once(("logits", feed.layout, sequences.n_channels), lambda: feed.forward(few_rows(sequences), logits=True))
    size = looked.output.shape[others[0]] if others else 1
    known = names if names is not None else sequences.outputs
    if names is not None and len(names) != size:
        raise DataError(f"{len(names)} output names were given and the model has {size} outputs.")
    kind = "logit" if looked.through else _kind(looked.output, others, size)
    return Outputs(reading.dims, size, tuple(known) if known is not None and len(known) == size else None, looked.through, kind)


def _kind(output: np.ndarray, others: Sequence[int], size: int) -> str:
    """What outputs are that came out of nothing that could be looked through."""
    inside = bool((output >= 0).all() and (output <= 1).all())
    if size > 1:
        return "probability" if inside and np.allclose(output.sum(axis=others[0]), 1, atol=1e-3) else "logit"
    return "output"


def _of_unit(target: Unit, specimen: Specimen, feed: Feed, sequences: Sequences) -> Scoring:
    """A unit of a layer, or one of its states."""
    engine, layer = feed.engine, target.layer
    recurrent = engine.recurrent_parts if isinstance(engine, HasStates) else {}
    if layer not in engine.by_name and layer not in recurrent:
        raise LayerError(f"No layer is named '{layer}': {nearest(layer, [*engine.by_name, *recurrent])}.")
    if target.state is not None and layer not in recurrent:
        raise UnsupportedError(
            f"'{layer}' ({engine.by_name[layer].type}) is not recurrent and has no state {target.state!r}: leave state= out."
        )
    of_state = _as_state(target, specimen, feed, sequences, recurrent)
    unit = target.unit if of_state is None else of_state.unit
    address, dims = (
        _value_address(target, specimen, feed, sequences)
        if of_state is None
        else _state_address(of_state, specimen, feed, sequences, recurrent)
    )
    time = None if TIME not in dims else np.array([target.time])
    score = Score(np.array([unit]), time, dims, address)
    try:  # a few sequences tell whether there is such a unit
        shortest = sequences[[int(np.argmin(sequences.lengths))]]
        few = next(shortest.batches(1)).values
        found = feed.forward(few, [score.capture]).captured
        calls = found.get(address) or []
        score.take(np.zeros(len(few), int)).of(np.stack(calls, axis=1) if len(calls) > 1 else calls[0])
    except ModelError as error:
        raise DataError(error.message) from error
    return Scoring(str(target), "unit", fixed=score)


def _as_state(target: Unit, specimen: Specimen, feed: Feed, sequences: Sequences, recurrent: Mapping[str, tuple[str, ...]]) -> Unit | None:
    """The state that a unit is; None where it is a unit of what the layer puts out.

    What a layer inside a stack and a cell that the model calls step by step put out is h, which their states have at every step; of a
    bidirectional layer one direction behind the other. So do the steps before the last of a layer that puts out its last h alone.
    """
    if target.layer not in recurrent:
        return None
    if target.state not in (None, "h") or target.direction is not None:
        return target
    if len(recurrent[target.layer]) > 1:
        return None
    if not any(len(parts) > 1 and target.layer in parts for parts in recurrent.values()):
        reading = specimen.readings(feed, sequences, (target.layer,)).get(target.layer)
        without_steps = isinstance(reading, Reading) and TIME not in reading.dims and target.time != LAST
        return target if without_steps or (isinstance(reading, Reading) and reading.several_calls) else None
    few = next(sequences[:1].batches(1)).values
    forward = feed.forward(few, [f"{target.layer}{STATES}"]).captured.get(f"{target.layer}{STATES}[forward][h]")
    if forward is None:
        return target
    way, place = divmod(target.unit, forward[0].shape[-1])
    return replace(target, unit=place, direction=FORWARD if way == 0 else BACKWARD) if way in (0, 1) else None


def _value_address(target: Unit, specimen: Specimen, feed: Feed, sequences: Sequences) -> tuple[str, tuple[str, ...]]:
    readings = specimen.readings(feed, sequences, (target.layer,))
    reading = readings.get(target.layer)
    if not isinstance(reading, Reading):
        raise reading if isinstance(reading, LayerError) else LayerError(f"The layer '{target.layer}' gives no one tensor, or never ran.")
    others = [dim for dim in reading.dims if dim not in (SAMPLE, TIME)]
    if reading.several_calls:
        raise UnsupportedError(f"'{target.layer}' is called several times in a pass, so that a unit of it has no one value.")
    if reading.folded is not None:
        raise UnsupportedError(f"'{target.layer}' has samples and steps in one axis, in which a unit at a step can't be told.")
    if len(others) > 1:
        raise UnsupportedError(f"The value of '{target.layer}' has the axes {reading.dims}, in which a unit can't be told.")
    if TIME not in reading.dims and target.time != LAST:
        raise DataError(f"The target asks for {target}, and that layer has no steps: leave time out.")
    return target.layer, reading.dims


def _state_address(target: Unit, specimen: Specimen, feed: Feed, sequences: Sequences, recurrent: Any) -> tuple[str, tuple[str, ...]]:
    (part, *more) = recurrent[target.layer]
    if more:
        raise UnsupportedError(f"'{target.layer}' is a stack: say which of its layers, {quoted((part, *more))}.")
    readings = specimen.readings(feed, sequences, (f"{part}{STATES}",))
    found = [address for address in readings if address.startswith(f"{part}{STATES}[") and state_of(address) in _known_states(readings)]
    states = sorted({state_of(address) for address in found}, key=_known_states(readings).index)
    state = target.state or "h"
    if state not in states:
        raise UnsupportedError(f"'{target.layer}' has no state {state!r}: it has {quoted(states)}.")
    matching = [
        address for address in found if state_of(address) == state and (target.direction is None or f"[{target.direction}]" in address)
    ]
    if len(matching) != 1:
        raise UnsupportedError(
            f"'{target.layer}' is bidirectional: say direction='forward' or 'backward'."
            if matching
            else f"'{target.layer}' runs in one direction: leave direction= out."
        )
    return matching[0], (SAMPLE, TIME, "unit")


def _known_states(readings: Any) -> list[str]:
    return list(cells.STATES[kind_of_names({state_of(address) for address in readings})])


def caution(scoring: Scoring, logits: np.ndarray, positions: np.ndarray) -> None:
    """Warn of targets that the model hardly believes in, and of probabilities that hardly move.

    Parameters
    ----------
    logits : array (sample, output)
    positions : int array (sample,)
    """
    outputs = scoring.outputs
    if outputs is None:
        return
    chosen = logits[np.arange(len(logits)), positions]
    if outputs.kind == "probability":
        stuck = (chosen < _SATURATED) | (chosen > 1 - _SATURATED)
        if stuck.any():
            warn(
                f"The score is a probability, and for {stuck.sum()} of {len(stuck)} sequences it is saturated, within {_SATURATED:g} of 0 "
                "or 1, where it hardly answers to anything: let the model give logits.",
            )
    if outputs.kind == "output" or outputs.through in ("sigmoid", "log_sigmoid"):
        return
    probability = chosen if outputs.kind == "probability" else _softmax(logits)[np.arange(len(logits)), positions]
    below = probability < 1 / logits.shape[1]
    if below.any():
        warn(
            f"For {below.sum()} of {len(below)} sequences the target's probability is below chance (1/{logits.shape[1]}; the lowest is "
            f"{probability.min():.2g}): what is shown is what speaks for an output that the model does not choose.",
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    away = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(away / away.sum(1, keepdims=True))
