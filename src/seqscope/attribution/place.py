"""Where an attribution is made: at the input, or at a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqscope import labelled
from seqscope.axes import Reading
from seqscope.collect import few_rows
from seqscope.engines.base import FEATURES, INSTANCES, STATES, Engine, HasHeads, HasStates
from seqscope.errors import LayerError, UnsupportedError, about_layer, nearest, quoted
from seqscope.feed import Feed
from seqscope.labelled import CALL, SAMPLE, TIME, UNIT
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

# Where a method works: on the input alone, there or at a layer, at a layer alone (class activation maps), at a head of `seqscope.nn`.
INPUT, EITHER, LAYER, OF_HEAD = "input", "either", "layer", "head"
# Where what is found is a map along time.
MAPS = (LAYER, OF_HEAD)


@dataclass(frozen=True)
class Place:
    """Where an attribution is made: at the input, or at a layer.

    Attributes
    ----------
    layer : str or None
        None: the input.
    reading : Reading or None
        The axes of the layer's value.
    part : str or None
        Where the layer has states, so that derivatives at it go through the recurrence: the layer itself, of a stack the last.
    steps : str
        What is captured that has the steps: the layer itself, of a head what it reads.
    """

    layer: str | None = None
    reading: Reading | None = None
    part: str | None = None
    steps: str = ""

    @property
    def is_recurrent(self) -> bool:
        """Whether the layer has states."""
        return self.part is not None

    @property
    def capture(self) -> str:
        """What to capture to see the layer's value."""
        return str(self.layer) if self.part is None else f"{self.part}{STATES}"

    def read(self, by_way: Mapping[str, Sequence[np.ndarray]], n_rows: int) -> np.ndarray:
        """A layer's arrays, as the engine gives them by direction, in canonical order; directions one behind the other along the units."""
        with about_layer(str(self.layer)):
            parts = [self._read(calls, n_rows) for calls in by_way.values()]
            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def _read(self, calls: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        if self.is_recurrent and len(calls) > 1 and calls[0].ndim > 2:
            raise LayerError(f"is called {len(calls)} times in a pass: its derivatives have no one place")
        if self.is_recurrent:
            return np.stack(calls, axis=1) if calls[0].ndim == 2 else calls[0]
        return self.reading.apply(calls, n_rows) if self.reading is not None else calls[0]

    def undone(self, value: np.ndarray) -> np.ndarray:
        """A value in canonical order, with its axes as the layer has them.

        Raises
        ------
        UnsupportedError
            The layer is called several times, or has samples and steps in one axis.
        """
        reading = self.reading
        if reading is None or reading.several_calls or reading.folded is not None:
            raise UnsupportedError(f"The value of '{self.layer}' can't be put in: it is called several times, or its steps are rows.")
        return value.transpose([reading.order.index(dim) for dim in reading.dims])


def place_for(method: str, where: str, name: str | None, specimen: Specimen, feed: Feed, sequences: Sequences) -> Place:
    """The layer that is meant, and its axes.

    Parameters
    ----------
    method, where : str
        The method's name, and where it works.
    name : str or None
        The layer that was said.

    Raises
    ------
    UnsupportedError
        The method works elsewhere, or the layer has no steps.
    LayerError
        There is no such layer.
    """
    if name is None and where not in MAPS:
        return Place()
    if name is not None and where == INPUT:
        raise UnsupportedError(f"{method} works at the input: leave layer= out, or use a method of derivatives, such as 'gradient'.")
    if name is not None and not isinstance(name, str):
        raise LayerError(f"The layer is {name!r}: expected the name of one layer.")
    engine = feed.engine
    if where == OF_HEAD:
        head = _head(method, name, engine)
        return Place(head, Reading((SAMPLE, TIME, UNIT)), steps=f"{head}{INSTANCES}{FEATURES}")
    recurrent = engine.recurrent_parts if isinstance(engine, HasStates) else {}
    found = _by_itself(method, specimen, feed, sequences, recurrent) if name is None else name
    if found not in engine.by_name and found not in recurrent:
        raise LayerError(f"No layer is named {found!r}: {nearest(str(found), [*engine.by_name, *recurrent])}.")
    reading = specimen.readings(feed, sequences, (found,)).get(found) if found in engine.by_name else None
    known = reading if isinstance(reading, Reading) else None
    if found in recurrent:
        return Place(found, known, recurrent[found][-1], steps=found)
    if known is None:
        raise LayerError(
            f"The layer '{found}' {reading.message}."
            if isinstance(reading, LayerError)
            else f"The layer '{found}' never ran for this input, or gives several tensors."
        )
    if where == LAYER and CALL in known.order:
        raise UnsupportedError(f"{method} maps one value of a layer along time, and '{found}' is called several times: name another layer.")
    if where == LAYER and known.order[1:2] != (TIME,):
        raise UnsupportedError(
            f"{method} maps a layer along time, and '{found}' gives ({', '.join(known.order)}): name one with steps, such as a convolution."
        )
    return Place(found, known, steps=found)


def _head(method: str, name: str | None, engine: Engine) -> str:
    """The head that is meant.

    Raises
    ------
    UnsupportedError
        There is none, or several and none was named, or the layer is no head.
    LayerError
        There is no such layer.
    """
    heads = engine.heads if isinstance(engine, HasHeads) else ()
    if name is not None and name not in engine.by_name:
        raise LayerError(f"No layer is named {name!r}: {nearest(name, heads or engine.by_name)}.")
    if not heads:
        room, others = (engine.framework, "grad_cam or occlusion") if isinstance(engine, HasHeads) else ("torch", "score_cam or occlusion")
        raise UnsupportedError(
            f"{method} needs a model that ends in a head of seqscope.nn, such as seqscope.nn.{room}.ConjunctivePooling, and "
            f"{engine.model_name} has none: train it with one in place of its last layers, or use {others}."
        )
    if name is None and len(heads) > 1:
        raise UnsupportedError(f"{method} is for one head, and {engine.model_name} has {quoted(heads)}: say which, with layer=.")
    if name is not None and name not in heads:
        raise UnsupportedError(f"{method} is for a head of seqscope.nn, and '{name}' is none: {engine.model_name} has {quoted(heads)}.")
    return name or heads[0]


def _by_itself(method: str, specimen: Specimen, feed: Feed, sequences: Sequences, recurrent: Mapping[str, object]) -> str:
    """The layer of a class activation map: the last convolution, else the last recurrent layer; of `cam` the last layer with steps.

    Raises
    ------
    UnsupportedError
        There is none.
    """
    engine = feed.engine
    if method == "cam":
        specimen.show(sequences)
        for layer in reversed(specimen.layers()):
            if layer.kind != "linear" and layer.dims and layer.shape and layer.dims[0] in (TIME, labelled.STEP) and layer.shape[0] != 1:
                return layer.name
    convolutions = [layer.name for layer in engine.layers if layer.kind.startswith("conv1d")]
    for wanted in (convolutions, [name for name in recurrent if name in engine.by_name]):
        ran = _with_steps(wanted, specimen, feed, sequences)
        if ran:
            return ran[-1]
    raise UnsupportedError(f"{method} needs a layer with steps, and no convolution or recurrent layer was found: name one with layer=.")


def _with_steps(wanted: Sequence[str], specimen: Specimen, feed: Feed, sequences: Sequences) -> list[str]:
    """Those of some layers that have several steps, in the order in which they run: not what works on a mean over time."""
    if not wanted:
        return []
    return specimen.once(
        ("with steps", feed.layout, sequences.n_channels, tuple(wanted)), lambda: _seen_with_steps(wanted, specimen, feed, sequences)
    )


def _seen_with_steps(wanted: Sequence[str], specimen: Specimen, feed: Feed, sequences: Sequences) -> list[str]:
    few = few_rows(sequences)
    seen = feed.forward(few, wanted).captured
    readings = specimen.readings(feed, sequences, wanted)
    known = {name: reading for name in seen if isinstance(reading := readings.get(name), Reading) and reading.order[1:2] == (TIME,)}
    return [name for name, reading in known.items() if reading.apply(seen[name], len(few)).shape[1] > 1]
