"""One pass of a Keras model as a function of tensors alone, compiled by the backend and kept."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import keras
import numpy as np

from seqscope.engines.base import INSTANCES, STATES, WEIGHTS, StandIn
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.keras_backends import Backend, Body, Shape
from seqscope.engines.keras_holds import clamps_of, key_of, place_of, refuse_missing, tensors_of
from seqscope.engines.keras_layers import Described
from seqscope.engines.keras_logits import LogitWatch
from seqscope.engines.keras_watch import Watch, watching
from seqscope.engines.places import by_place
from seqscope.engines.score import score_by_function
from seqscope.errors import ModelError

# How a model is fed: a function of (model, batch, lengths), both native tensors, that gives what the model gives.
Call = Callable[[Any, Any, Any], Any]

# What is noted while a function is traced.
Notes = TypeVar("Notes", bound="Traced")

# Compiled passes kept, one for each choice of layers.
_MOST_COMPILED = 32


@dataclass(frozen=True)
class Job:
    """What a pass is to do.

    Attributes
    ----------
    wanted : tuple of str
        The layers to look at.
    padded : bool
        Whether rows end before the batch does, each at its own step.
    instead : dict of functions
        What to compute in place of a layer.
    careful : frozenset of str
        The recurrent layers whose states have to come from their own cells.
    logits : bool
        Whether a final softmax, log-softmax or sigmoid is looked through.
    target : function, optional
        What makes a score for each row of what the model gives.
    held : dict of Hold
        Units that are held.
    """

    wanted: tuple[str, ...]
    padded: bool = False
    instead: Mapping[str, StandIn] = field(default_factory=dict)
    careful: frozenset[str] = frozenset()
    logits: bool = False
    target: Callable[[Any], Any] | None = None
    held: Held = field(default_factory=lambda: NOTHING_HELD)


@dataclass(frozen=True)
class Found:
    """What a pass gave, as native tensors: the model's outputs, and what each wanted layer gave, by address, in the order of the calls.

    The first output is the logits where they were asked for and could be seen (`through`); `scores` is what a target made, if anything.
    """

    outputs: list[Any]
    seen: list[tuple[str, Any]]
    scores: Any | None
    drew_noise: bool
    columns: Mapping[str, Mapping[str, slice]] = field(default_factory=dict)
    through: str = ""

    def arrays(self, to_array: Callable[[Any], np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Every value by its address, those that came side by side taken apart as views."""
        for address, tensor in self.seen:
            array = to_array(tensor)
            if address in self.columns:
                yield from ((of, array[..., where]) for of, where in self.columns[address].items())
            else:
                yield address, array


class Passes:
    """Runs a model, and keeps what was compiled.

    Parameters
    ----------
    call : function of (model, batch, lengths)
    """

    def __init__(self, model: Any, call: Call, backend: Backend) -> None:
        self.model, self.call, self._backend = model, call, backend
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def run(self, job: Job, batch: Any, lengths: Any, *, described: Described, variables: Sequence[Any], free: Shape | None) -> Found:
        """Run once: compiled, or as it is where something stands in for a layer.

        Parameters
        ----------
        variables : sequence
            All that the model holds.
        free : tuple or None
            The batch's shape, None for sizes that may differ from call to call; None: each shape is traced anew.
        """
        values, more = self.values_of(variables), {"lengths": lengths, "held": tensors_of(job.held)}
        with self._backend.without_gradients():
            if job.instead:
                notes = _Notes()
                outputs, seen, scores = self._body(job, described, variables, notes)(values, batch, more)
            else:
                compiled = self._compiled(job, described, variables, free, (str(batch.dtype), len(batch.shape)))
                (outputs, seen, scores), notes = compiled(values, batch, more)
        seen = list(zip(notes.seen, seen, strict=True))
        return Found(outputs, seen, scores[0] if scores else None, notes.drew_noise, notes.columns, notes.through)

    def _compiled(self, job: Job, described: Described, variables: Sequence[Any], free: Shape | None, kind: Any) -> Compiled[_Notes]:
        def make() -> Compiled[_Notes]:
            notes = _Notes()
            return Compiled(self._backend.compiled(self._body(job, described, variables, notes), free), notes)

        # What was compiled holds the target, so that no other can come to have its id.
        said = (job.wanted, job.padded, job.careful, job.logits, id(job.target), key_of(job.held))
        key = (said, kind, free, tuple(map(id, variables)))
        compiled: Compiled[_Notes] = self.kept(key, make)
        return compiled

    def watch(self, job: Job, described: Described, lengths: Any, held: Mapping[str, Any] | None = None) -> Watch:
        """What a job looks at, as layers.

        Parameters
        ----------
        held : dict, optional
            What is held, as tensors.
        """
        names = {kind: [name.removesuffix(kind) for name in job.wanted if name.endswith(kind)] for kind in (STATES, WEIGHTS, INSTANCES)}
        looped = [place_of(name, described)[0] for name, hold in job.held.items() if hold.axis is None]
        stepped: dict[str, tuple[Any, Sequence[str]]] = {name: (described.objects[name], ()) for name in looped}
        ran: set[str] = set()
        return Watch(
            wanted={name: described.objects[name] for name in job.wanted if not name.endswith((STATES, WEIGHTS, INSTANCES))},
            states={**stepped, **described.with_states(names[STATES])},
            attention={name: described.objects[name] for name in names[WEIGHTS]},
            heads={name: described.objects[name] for name in names[INSTANCES]},
            stand_ins=[(described.objects[name], stand_in) for name, stand_in in job.instead.items()],
            lengths=lengths if job.padded else None,
            recurrent=described.recurrent,
            as_numpy=self._backend.as_numpy,
            careful=job.careful,
            clamps=clamps_of(job.held, held or {}, described, ran),
            holders={name: described.objects[name] for name, hold in job.held.items() if hold.axis is not None},
            ran=ran,
        )

    def stateless(self, described: Described, variables: Sequence[Any], values: Sequence[Any]) -> keras.StatelessScope:
        """A scope that keeps nothing: variables have these values (their own where there are none), stateful layers zero states."""
        start = list(zip(variables, values, strict=True)) if values else []
        return keras.StatelessScope(
            state_mapping=start + [(state, keras.ops.zeros(state.shape, state.dtype)) for state in described.states]
        )

    def values_of(self, variables: Sequence[Any]) -> list[Any]:
        """The variables' values, where the backend wants them as arguments."""
        return [variable.value for variable in variables] if self._backend.takes_values else []

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """Something compiled, made once."""
        if key not in self._kept:
            while len(self._kept) >= _MOST_COMPILED:
                self._kept.popitem(last=False)
            self._kept[key] = make()
        self._kept.move_to_end(key)
        return self._kept[key]

    def _body(self, job: Job, described: Described, variables: Sequence[Any], notes: _Notes) -> Body:
        """The pass as a function of tensors. What is not a tensor is noted while it is traced."""

        def body(values: list[Any], batch: Any, more: Mapping[str, Any]) -> tuple[list[Any], list[Any], list[Any]]:
            lengths = more["lengths"]
            watch = self.watch(job, described, lengths, more["held"])
            logits = LogitWatch(described.objects.values())
            with self.stateless(described, variables, values) as scope:
                before = [scope.get_current_value(seed) for seed in described.seeds]
                with logits.watching() if job.logits else contextlib.nullcontext(), watching(watch):
                    given = self.call(self.model, batch, lengths)
                if not job.instead:
                    refuse_missing(job.held, watch.ran)
                after = [scope.get_current_value(seed) for seed in described.seeds]
                outputs = tensors_in(given)
                notes.through = ""
                if job.logits and outputs:
                    outputs[0], notes.through = logits.before(outputs[0]) or (outputs[0], "")
                scores = [] if job.target is None else [scores_of(given, job.target, batch.shape[0])]
            notes.n_traces += 1
            notes.seen, notes.columns = tuple(address for address, _ in watch.seen), watch.columns
            notes.drew_noise = any(old is not new for old, new in zip(before, after, strict=True))
            return outputs, [tensor for _, tensor in watch.seen], scores

        return body


def tensors_in(given: Any) -> list[Any]:
    """All tensors of what a model gives, in their order."""
    return list(by_place(given, lambda value: value if keras.ops.is_tensor(value) else None).values())


def scores_of(given: Any, target: Callable[[Any], Any], n_rows: int | None) -> Any:
    """What a target that is a function makes of what a model gives: one score for each row.

    Raises
    ------
    ModelError
        It makes something else, or raises.
    """
    scores = score_by_function(target, given)
    if not keras.ops.is_tensor(scores) or len(scores.shape) != 1 or (n_rows is not None and scores.shape[0] not in (None, n_rows)):
        raise ModelError(f"The target gave {_in_words(scores)}: expected one score for each sample.")
    return scores


def _in_words(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if keras.ops.is_tensor(value) else f"a {type(value).__name__}"


@dataclass
class Traced:
    """What is noted of traces besides tensors."""

    n_traces: int = 0


@dataclass
class _Notes(Traced):
    """What a trace of a pass found out."""

    seen: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, slice]] = field(default_factory=dict)
    drew_noise: bool = False
    through: str = ""


class Compiled(Generic[Notes]):
    """A compiled pass. What its traces noted is kept by the batch's shape, since a layer may be called once for every step."""

    def __init__(self, run: Body, latest: Notes) -> None:
        self._run, self._latest = run, latest
        self._by_shape: dict[tuple[int, ...], Notes] = {}

    def __call__(self, values: list[Any], batch: Any, more: Any) -> tuple[Any, Notes]:
        """What the pass gives, and what was noted when it was traced."""
        n_traces = self._latest.n_traces
        found = self._run(values, batch, more)
        if self._latest.n_traces > n_traces:
            self._by_shape[tuple(batch.shape)] = replace(self._latest)
        return found, self._by_shape.get(tuple(batch.shape), self._latest)
