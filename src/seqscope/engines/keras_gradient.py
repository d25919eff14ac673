"""Derivatives of a Keras model's scores with respect to the input, or to what a layer gives.

Zeros, nudges, are added to what the layer gives: at each step inside the recurrence where it is recurrent, so that the derivative is the
total one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from seqscope.engines.base import BACKWARD, FORWARD, STATES, Gradient
from seqscope.engines.score import Target, score_by_function
from seqscope.engines.keras_backends import Backend
from seqscope.engines.keras_layers import Described
from seqscope.engines.keras_pass import Job, Passes
from seqscope.engines.keras_watch import watching
from seqscope.errors import LayerError, ModelError, UnsupportedError, quoted


@dataclass(frozen=True)
class Place:
    """Where nudges are added.

    Attributes
    ----------
    layer : str
        The layer.
    capture : str
        What to capture to see how large they are.
    state : str or None
        The state of a recurrent layer; None: the layer's value.
    """

    layer: str
    capture: str
    state: str | None

    def by_way(self, captured: Mapping[str, list[np.ndarray]]) -> dict[str, tuple[str, np.ndarray]]:
        """For each direction ("" where there is one) the nudge's place in the layer, and an array as large as it.

        Raises
        ------
        UnsupportedError
            The layer is called several times, or gives several tensors.
        LayerError
            It never ran.
        """
        ending = "" if self.state is None else f"[{self.state}]"
        found = {address: calls for address, calls in captured.items() if address.startswith(self.capture) and address.endswith(ending)}
        if not found:
            raise LayerError(f"The layer '{self.layer}' never ran for this input.")
        if any(len(calls) > 1 for calls in found.values()) or (self.state is None and len(found) > 1):
            raise UnsupportedError(f"'{self.layer}' is called several times, or gives several tensors: its derivative can't be had yet.")
        part = self.capture.removesuffix(STATES).removeprefix(self.layer)
        way_of = {address: next((way for way in (FORWARD, BACKWARD) if f"[{way}]" in address), "") for address in found}
        return {
            way: ("" if self.state is None else part + address.removeprefix(self.capture), found[address][0])
            for address, way in way_of.items()
        }


def place_of(name: str, described: Described, state: str) -> Place:
    """Where the nudges of a layer are added.

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
        return Place(holder, f"{part}{STATES}", state)
    if name not in described.objects:
        raise LayerError(f"No layer is named '{name}': there are {quoted(described.objects)}.")
    if state != "h":
        raise UnsupportedError(f"'{name}' is not recurrent and has no state {state!r}.")
    return Place(name, name, None)


def _kinds_of(layer: Any, part: str, holder: str) -> list[str]:
    """The class of the cell that a part stands for, and of those above it."""
    from seqscope.engines.keras_cells import cells_of

    cell = cells_of(layer)[int(part.rpartition(".")[2]) if part != holder else 0]
    return [kind.__name__ for kind in type(cell).__mro__]


def gradient(
    passes: Passes,
    backend: Backend,
    described: Described,
    variables: Sequence[Any],
    native: tuple[Any, Any],
    target: Target,
    place: Place | None,
    captured: Mapping[str, list[np.ndarray]] | None,
) -> Gradient:
    """Scores and derivatives of one batch, compiled once for each choice of target, layer and shape.

    Parameters
    ----------
    native : pair of tensors
        The batch and its lengths.
    place, captured
        Where nudges are added, and what was captured there; None: the derivative is that at the input.
    """
    by_way = {"": ("", None)} if place is None or captured is None else place.by_way(captured)
    keys = [key for key, _ in by_way.values()]
    batch, lengths = native
    tensors = [batch if like is None else keras.ops.zeros(like.shape, str(like.dtype)) for _, like in by_way.values()]

    def body(values: list[Any], batch: Any, more: tuple[Any, list[Any]]) -> Any:
        lengths, nudges = more

        def score(at: list[Any]) -> Any:
            watch = passes.watch(Job(() if place is None else (place.capture,)), described, lengths)
            fed = at[0] if place is None else batch
            if place is not None:
                watch.nudges = {place.layer: dict(zip(keys, at, strict=True))}
            with passes.stateless(described, variables, values), watching(watch):
                return _score_of(passes.call(passes.model, fed, lengths), target, batch.shape[0])

        return backend.derivatives(score, nudges)

    key = ("gradient", target, place, tuple(keys), str(batch.dtype), tuple(map(id, variables)))
    run = passes.kept(key, lambda: backend.compiled(body, None))
    scores, found = run(passes.values_of(variables), batch, (lengths, tensors))
    arrays = {way: [np.asarray(backend.as_numpy(tensor))] for way, tensor in zip(by_way, found, strict=True)}
    return Gradient(np.asarray(backend.as_numpy(scores)), arrays)


def _score_of(output: Any, target: Target, n_samples: int | None) -> Any:
    """One score for each sample.

    Raises
    ------
    ModelError
        There is none.
    """
    if not isinstance(target, int | np.integer):
        score = score_by_function(target, output)
        if not keras.ops.is_tensor(score) or len(score.shape) != 1 or (n_samples is not None and score.shape[0] not in (None, n_samples)):
            raise ModelError(f"The target gave {_in_words(score)}: expected one score for each sample.")
        return score
    first = output[0] if isinstance(output, tuple | list) else output
    if not keras.ops.is_tensor(first) or len(first.shape) != 2 or not -first.shape[1] <= target < first.shape[1]:
        raise ModelError(f"There is no output {target} in what the model gives, {_in_words(first)}: expected (sample, output).")
    return first[:, target]


def _in_words(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if keras.ops.is_tensor(value) else f"a {type(value).__name__}"
