"""Whether a model can be streamed: it is streamed and run whole, and what differs names the layer that stands in the way."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from seqscope.axes import OUTPUT_VALUE, Reading
from seqscope.engines.base import Carried, Engine, HasStreams, Stepper
from seqscope.errors import DataError, LayerError, ModelError, UnsupportedError
from seqscope.feed import Feed
from seqscope.labelled import TIME
from seqscope.selection import layer_of, select
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen
from seqscope.stream import Plan, Stream, at_step, run_step

# Steps that are streamed and run whole at the start, at most.
_MOST_CHECKED = 100
# How far a streamed value may be from the whole run's, in parts of the largest: the order of sums differs, and steps add up.
_ROUNDING = {"float64": 1e-6, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def open_stream(
    specimen: Specimen,
    n_rows: int,
    sequences: Sequences,
    feed: Feed,
    *,
    layers: str | Sequence[str] | None,
    states: tuple[str, ...],
    outputs: Sequence[Hashable] | None,
) -> Stream:
    """A stream of a model, after a check that it gives what the whole sequence gives.

    Parameters
    ----------
    sequences : Sequences
        The first is streamed and run whole.
    layers : str, sequence of str, or None
        The layers that are shown; None: those of `states`.

    Raises
    ------
    UnsupportedError
        The model can't be streamed, and what stands in the way.
    """
    engine = specimen.engine
    if not isinstance(engine, HasStreams):
        raise UnsupportedError(f"{engine.framework} models can't be streamed yet.")
    if not isinstance(n_rows, int | np.integer) or isinstance(n_rows, bool) or n_rows < 1:
        raise DataError(f"batch_size={n_rows!r} was given: expected a whole number, 1 or more.")
    rows = [layer.name for layer in engine.layers]
    shown = _shown(engine, rows, layers, states)
    values = next(sequences.batches(1)).values[np.zeros(n_rows, int), :_MOST_CHECKED]
    readings = specimen.readings(feed, sequences, (*dict.fromkeys([*rows, *shown]), OUTPUT_VALUE))
    readable = {address: reading for address, reading in readings.items() if isinstance(reading, Reading)}
    width = None if sequences.is_tokens else values.shape[2]
    plan = Plan(n_rows, width, readable, shown, states, outputs or sequences.outputs, specimen.attrs("stream"))
    whole = {address: reading for address, reading in readable.items() if layer_of(address) in rows or address == OUTPUT_VALUE}
    capture = tuple(dict.fromkeys(layer_of(address) for address in whole if address != OUTPUT_VALUE))
    start = _check(feed, engine.stepper(capture, ()), values, whole, capture, n_rows)
    return Stream(plan, feed, engine.stepper(shown, states), start)


def _shown(engine: Engine, rows: Sequence[str], layers: str | Sequence[str] | None, states: Sequence[str]) -> tuple[str, ...]:
    """The layers whose activations are shown."""
    if layers is None:
        return tuple(name for name in states if name in rows)
    return select(layers, tuple(engine.by_name), rows).capture if layers else ()


def _check(feed: Feed, stepper: Stepper, values: np.ndarray, whole: Mapping[str, Reading], capture: Sequence[str], n_rows: int) -> Carried:
    """Stream a sequence and run it whole; what is carried, as an example of its shape."""
    n_steps = values.shape[1]
    forward = feed.forward(values, capture)
    seen = {OUTPUT_VALUE: [forward.output], **forward.captured}
    expected = {address: whole[address].apply(seen[address], n_rows) for address in (*forward.captured, OUTPUT_VALUE) if address in whole}
    carried: Carried | None = None
    for t in range(n_steps):
        try:
            stepped = run_step(stepper, feed, values[:, t : t + 1], carried, np.ones(n_rows, bool) if t == 0 else None)
        except ModelError as error:
            raise UnsupportedError(f"The model can't be streamed, since it does not run on one step. {error.message}") from error
        carried = stepped.carried
        given = {OUTPUT_VALUE: [stepped.output], **stepped.captured}
        for address, value in expected.items():
            if address in given:
                _compare(
                    address,
                    value,
                    whole[address],
                    [stepper.as_numpy(call) for call in given[address]],
                    (t, n_steps),
                    _ROUNDING[stepper.dtype],
                )
    if carried is None or n_steps < 2:
        raise DataError("A sequence of one step does not tell whether the model can be streamed: give a longer one, with check=.")
    return carried


def _compare(
    address: str, whole: np.ndarray, reading: Reading, calls: Sequence[np.ndarray], place: tuple[int, int], rounding: float
) -> None:
    """Refuse a model of which a layer gives another value at a step than in the whole sequence.

    Parameters
    ----------
    place : pair of int
        The step, and how many there are.
    rounding : float
        How far it may be, in parts of the largest value.

    Raises
    ------
    UnsupportedError
    """
    t, n_steps = place
    has_steps = TIME in reading.order
    if not has_steps and t < n_steps - 1:
        return
    axis = reading.order.index(TIME) if has_steps else 0
    subject = f"'{layer_of(address)}'" if address else "the model's output"
    if has_steps and whole.shape[axis] < n_steps:  # there are more behind a padding that is cut off again
        raise UnsupportedError(f"The model can't be streamed: {subject} has {whole.shape[axis]} steps for {n_steps} of the input.")
    expected = whole.take(t, axis=axis) if has_steps else whole
    try:
        streamed = at_step(calls, reading, len(whole))
    except LayerError:
        streamed = np.zeros(0)
    allowed = rounding * max(1.0, float(np.abs(whole).max(initial=0.0)))
    if streamed.shape != expected.shape or not np.abs(streamed - expected).max(initial=0.0) <= allowed:
        raise UnsupportedError(
            f"The model can't be streamed: {subject} gives another value at step {t} than in the whole sequence ({n_steps} steps were "
            "checked), so it depends on steps that are still to come, or on earlier ones in a way that is not carried."
        )
