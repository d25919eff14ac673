"""Derivatives of a Keras model's scores with respect to the input, or to what a layer gives.

What a layer gives is marked as it comes up; where the layer is recurrent, zeros, nudges, are added at each step inside the recurrence, so
that the derivative is the total one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from seqscope.engines import keras_kinds
from seqscope.engines.base import BACKWARD, FORWARD, STATES, WEIGHTS, Gradient
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.keras_backends import Backend, Body, Shape
from seqscope.engines.keras_holds import key_of, refuse_missing
from seqscope.engines.keras_layers import Described
from seqscope.engines.keras_logits import LogitWatch
from seqscope.engines.keras_pass import Compiled, Job, Passes, Traced, scores_of, tensors_in
from seqscope.engines.keras_watch import Watch, watching
from seqscope.engines.score import SAMPLE, TIME, Score
from seqscope.errors import LayerError, ModelError, UnsupportedError, quoted


@dataclass(frozen=True)
class Place:
    """What is differentiated with respect to.

    Attributes
    ----------
    name : str
        The layer that was asked for.
    holder : str
        The layer that it is a part of: of stacked cells the one that holds them, else itself.
    capture : str
        What to capture to see its value.
    state : str or None
        The state of a recurrent layer; None: the layer's value.
    by_key : dict of str
        Its places in `Watch.nudges`, and of each the direction, "" where there is one.
    """

    name: str
    holder: str
    capture: str
    state: str | None
    by_key: Mapping[str, str]

    def address(self, way: str) -> str:
        """What its value in a direction is captured under."""
        if self.state is None:
            return self.capture
        return f"{self.capture}[{way}][{self.state}]" if way else f"{self.capture}[{self.state}]"


def place_of(name: str, described: Described, state: str) -> Place:
    """What is differentiated with respect to, where a layer is named.

    Raises
    ------
    LayerError
        There is no such layer.
    UnsupportedError
        It has no such state.
    """
    if name in described.parts:
        part = described.parts[name][-1]  # of stacked cells the last, whose h is what the layer gives
        holder, (layer, _) = next(iter(described.with_states([part]).items()))
        is_lstm = any(kind == "LSTMCell" for kind in _kinds_of(layer, part, holder))
        if state not in (("h", "c") if is_lstm else ("h",)):
            raise UnsupportedError(f"'{name}' has no state {state!r}: {'h or c' if is_lstm else 'h'} can be asked for.")
        ways = (FORWARD, BACKWARD) if keras_kinds.is_bidirectional(layer) else ("",)
        ending = part.removeprefix(holder)
        keys = {f"{ending}[{way}][{state}]" if way else f"{ending}[{state}]": way for way in ways}
        return Place(name, holder, f"{part}{STATES}", state, keys)
    if name not in described.objects:
        raise LayerError(f"No layer is named '{name}': there are {quoted(described.objects)}.")
    if name in described.unknown:
        raise UnsupportedError(f"The derivative at '{name}' can't be had: {described.unknown[name]}.")
    if state != "h":
        raise UnsupportedError(f"'{name}' is not recurrent and has no state {state!r}.")
    return Place(name, name, name, None, {"": ""})


def refuse_unknown(score: Score, described: Described) -> None:
    """Refuse a score of what the model does not have.

    Raises
    ------
    LayerError, UnsupportedError
    """
    name = score.capture.removesuffix(STATES).removesuffix(WEIGHTS)
    if name in described.unknown and score.capture.endswith(STATES):
        raise UnsupportedError(f"The states of '{name}' can't be told: {described.unknown[name]}.")
    if name and name not in described.objects and name not in described.parts:
        raise LayerError(f"No layer is named '{name}': there are {quoted(described.objects)}.")


def _kinds_of(layer: Any, part: str, holder: str) -> list[str]:
    """The class of the cell that a part stands for, and of those above it."""
    from seqscope.engines.keras_cells import cells_of

    cell = cells_of(layer)[int(part.rpartition(".")[2]) if part != holder else 0]
    return [kind.__name__ for kind in type(cell).__mro__]


@dataclass(frozen=True)
class Fed:
    """What one batch is, as native tensors.

    Attributes
    ----------
    batch, lengths
        What the model takes.
    position, time
        Of a `Score`.
    put
        What the layer gives in place of its own value.
    held
        What is held, for each layer.
    """

    batch: Any
    lengths: Any
    position: Any = None
    time: Any = None
    put: Any = None
    held: Any = None

    @property
    def more(self) -> dict[str, Any]:
        """All but the batch, as far as there is any: tensors, so that others need no new function."""
        named = {"lengths": self.lengths, "position": self.position, "time": self.time, "put": self.put, "held": self.held}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


@dataclass
class _Notes(Traced):
    """What a trace of a derivative found out."""

    through: str = ""
    order: tuple[str, ...] = ()


class Derivative:
    """Scores and their derivatives as a function of tensors, compiled once for each choice of what is not a tensor.

    Parameters
    ----------
    variables : sequence
        All that the model holds.
    target : Score or function
        Which numbers a Score picks is no part of what is compiled.
    place : Place or None
        None: the derivative is that at the input.
    careful : frozenset of str
        The recurrent layers whose states have to come from their own cells.
    held : dict of Hold
        Units that are held.
    """

    def __init__(
        self,
        passes: Passes,
        backend: Backend,
        described: Described,
        variables: Sequence[Any],
        target: Score | Callable[[Any], Any],
        place: Place | None,
        careful: frozenset[str],
        held: Held = NOTHING_HELD,
    ) -> None:
        self._passes, self._backend, self._described, self._variables = passes, backend, described, variables
        self._target, self._place = target, place
        self._address = target.address if isinstance(target, Score) else None
        wanted = ((place.capture,) if place is not None else ()) + (
            (target.capture,) if isinstance(target, Score) and self._address else ()
        )
        nudged = set() if place is None else {place.holder}
        self._job = Job(tuple(dict.fromkeys(wanted)), careful=careful - nudged, held=held)

    def __call__(self, fed: Fed, free: Shape | None, to_array: Callable[[Any], np.ndarray]) -> Gradient:
        """Run once.

        Parameters
        ----------
        free : tuple or None
            The batch's shape, None for sizes that may differ from call to call; None: each shape is traced anew.

        Raises
        ------
        ModelError, LayerError, UnsupportedError
        """
        place = None if self._place is None else (self._place.name, self._place.state)
        kind = (tuple(sorted(fed.more)), str(fed.batch.dtype), len(fed.batch.shape))
        said = (self._kind_of_target, place, self._job.careful, key_of(self._job.held))
        key = ("gradient", said, kind, free, tuple(map(id, self._variables)))

        def make() -> Compiled[_Notes]:
            notes = _Notes()
            return Compiled(self._backend.compiled(self._body(notes), free), notes)

        compiled: Compiled[_Notes] = self._passes.kept(key, make)
        (scores, found, kept), notes = compiled(self._passes.values_of(self._variables), fed.batch, fed.more)
        self._refuse_misfit(kept, fed, to_array)
        ways = [""] if self._place is None else [self._place.by_key[key] for key in notes.order]
        return Gradient(
            to_array(scores).copy(),
            {way: [to_array(tensor)] for way, tensor in zip(ways, found, strict=True)},
            {way: [to_array(tensor)] for way, tensor in zip(ways, kept["values"], strict=False)},
            notes.through,
            *(to_array(output).copy() for output in kept["output"]),
        )

    @property
    def _kind_of_target(self) -> Any:
        """What of a target is compiled. What was compiled holds a function, so that no other can come to have its id."""
        target = self._target
        if not isinstance(target, Score):
            return id(target)
        return target.address, tuple(dim if dim in (SAMPLE, TIME) else "" for dim in target.dims), target.margin

    def _body(self, notes: _Notes) -> Body:
        def body(values: list[Any], batch: Any, more: dict[str, Any]) -> Any:
            notes.n_traces += 1
            put = more.get("put")
            tensors = [batch] if self._place is None else [] if put is None else [put]

            def score(tensors: list[Any], mark: Callable[[Any], Any]) -> tuple[Any, Any]:
                fed = tensors[0] if self._place is None else batch
                return self._scored(values, fed, more, tensors[0] if put is not None else None, mark, notes)

            return self._backend.derivatives(score, tensors, marks=self._place is not None and put is None)

        return body

    def _scored(self, values: list[Any], batch: Any, more: dict[str, Any], put: Any, mark: Any, notes: _Notes) -> tuple[Any, Any]:
        """The scores of a pass, and what else is wanted of it."""
        marked: list[str] = []
        watch = self._watch(more, put, partial(_marked, mark, marked))
        logits = LogitWatch(self._described.objects.values())
        with self._passes.stateless(self._described, self._variables, values):
            with logits.watching(), watching(watch):
                given = self._passes.call(self._passes.model, batch, more["lengths"])
            refuse_missing(self._job.held, watch.ran)
            if watch.unfit:
                raise ModelError(watch.unfit[0])
            ways, shown = self._values(watch, marked if put is None else [""])
            through, n_rows = "", batch.shape[0]
            output: list[Any] = []
            shape: tuple[Any, ...] = ()
            if not isinstance(self._target, Score):
                scores = scores_of(given, self._target, n_rows)
            else:
                value = _only(watch, self._address) if self._address else _first_of(given)
                if not self._address:
                    value, through = logits.before(value) or (value, "")
                    output = [value]
                self._target.check(tuple(value.shape), len(self._target.position) if n_rows is None else n_rows)
                pick = _margin if self._target.margin else _picked
                scores, shape = pick(value, self._target.dims, more["position"], more.get("time")), ops.shape(value)
        notes.through, notes.order = through, tuple(ways)
        return scores, {"values": shown, "shape": [ops.convert_to_tensor(size, dtype="int32") for size in shape], "output": output}

    def _watch(self, more: dict[str, Any], put: Any, marked: Callable[[str, Any], Any]) -> Watch:
        """What is looked at and what is changed in the pass."""
        watch = self._passes.watch(self._job, self._described, more["lengths"], more.get("held"))
        watch.apart = True
        if self._place is not None and put is not None:
            watch.put = {self._place.holder: put}
        elif self._place is not None:
            watch.nudges = {self._place.holder: {key: partial(marked, key) for key in self._place.by_key}}
        return watch

    def _values(self, watch: Watch, marked: Sequence[str]) -> tuple[Sequence[str], list[Any]]:
        """The values that are differentiated with respect to, in the order in which they came up, with their places.

        Raises
        ------
        LayerError
            The layer never ran.
        UnsupportedError
            It was called several times, or gives several tensors, or none with floats.
        """
        if self._place is None:
            return [], []
        name = self._place.name
        seen = [address for address, _ in watch.seen if address.partition("[")[0] == self._place.capture]
        if not seen:
            raise LayerError(f"The layer '{name}' never ran for this input.")
        if len(set(seen)) < len(seen) or (self._place.state is None and len(seen) > 1):
            raise UnsupportedError(f"'{name}' is called several times, or gives several tensors: its derivative can't be had yet.")
        if len(marked) < len(self._place.by_key):
            raise UnsupportedError(f"'{name}' gives nothing that holds floats: it has no derivative.")
        return marked, [_only(watch, self._place.address(self._place.by_key[key])) for key in marked]

    def _refuse_misfit(self, kept: dict[str, Any], fed: Fed, to_array: Callable[[Any], np.ndarray]) -> None:
        """Refuse what did not fit, where that could only be seen by running.

        Raises
        ------
        ModelError
        """
        if isinstance(self._target, Score):
            self._target.check([int(to_array(size)) for size in kept["shape"]], len(self._target.position))
        if fed.put is not None and self._place is not None:
            refuse_shape(self._place.name, tuple(fed.put.shape), [tuple(kept["values"][0].shape)])


def refuse_shape(name: str, put: Sequence[int], own: Sequence[Sequence[int]]) -> None:
    """Refuse what is put in the place of a layer's value where it is not of its shape.

    Raises
    ------
    ModelError
    """
    for shape in own:
        if tuple(shape) != tuple(put):
            raise ModelError(f"What is to be put in the place of '{name}' has shape {tuple(put)}: it gives {tuple(shape)}.")


def _marked(mark: Callable[[Any], Any], marked: list[str], key: str, tensor: Any) -> Any:
    """A tensor as one to differentiate with respect to; as it is where it holds no floats."""
    if "float" not in keras.backend.standardize_dtype(tensor.dtype):
        return tensor
    marked.append(key)
    return mark(tensor)


def _first_of(given: Any) -> Any:
    tensors = tensors_in(given)
    if not tensors:
        raise ModelError("The model gave nothing that holds a tensor.")
    return tensors[0]


def _only(watch: Watch, address: str | None) -> Any:
    """The one value that was captured under an address.

    Raises
    ------
    LayerError
        There is none.
    UnsupportedError
        There are several.
    """
    found = [tensor for seen, tensor in watch.seen if seen == address]
    if len(found) > 1:
        raise UnsupportedError(
            f"'{address}' comes up {len(found)} times in a pass, as its layer is called several times: no score can be told."
        )
    if not found:
        seen = ", ".join(dict.fromkeys(f"'{other}'" for other, _ in watch.seen))
        raise LayerError(
            f"There is no '{address}' in what the model's layers gave for this input" + (f": there is {seen}." if seen else ".")
        )
    return found[0]


def _picked(value: Any, dims: Sequence[str], position: Any, time: Any) -> Any:
    """Each row's number in a value. Places outside of it give any number: they are refused after the run, when all sizes are known."""
    first = dims.index(SAMPLE)
    others = [axis for axis in range(len(dims)) if axis != first]
    value = ops.transpose(value, (first, *others))
    sizes = ops.shape(value)
    place = ops.zeros_like(position)
    for axis, size in zip(others, sizes[1:], strict=True):
        at = time if dims[axis] == TIME else position
        at = ops.where(at < 0, at + size, at)
        place = place * size + ops.maximum(ops.minimum(at, size - 1), 0)
    rows = ops.reshape(value, (sizes[0], -1))
    return ops.squeeze(ops.take_along_axis(rows, place[:, None], axis=1), axis=1)


def _margin(value: Any, dims: Sequence[str], position: Any, time: Any) -> Any:
    """How far each row's number lies above the largest of the others at its step."""
    along = next(axis for axis, dim in enumerate(dims) if dim not in (SAMPLE, TIME))
    size = value.shape[along] or ops.shape(value)[along]
    steps = (dims.index(TIME),) if TIME in dims else ()
    others = ops.transpose(value, (dims.index(SAMPLE), *steps, along))
    if steps:
        at = ops.where(time < 0, time + ops.shape(others)[1], time)
        others = ops.squeeze(ops.take_along_axis(others, ops.repeat(at[:, None, None], size, axis=2), axis=1), axis=1)
    own = ops.cast(ops.one_hot(position, size), "bool")
    return _picked(value, dims, position, time) - ops.max(ops.where(own, ops.cast(-float("inf"), others.dtype), others), axis=1)
