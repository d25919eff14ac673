"""A first look: one sequence of each length is run, which tells what the arrays of the whole data set are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from seqscope import labelled
from seqscope.axes import OUTPUT_VALUE, Reading
from seqscope.batching import settle_padding
from seqscope.collect import Collected, collect, rows_for
from seqscope.engines.base import STATES, Engine
from seqscope.errors import LayerError, ModelError, SeqscopeError, nearest, warn
from seqscope.feed import Feed
from seqscope.labelled import SAMPLE
from seqscope.recording import columns, figures, plan, skeleton
from seqscope.recording.asked import Asked
from seqscope.recording.grid import samples_per_shard
from seqscope.recording.plan import Kept, Plan
from seqscope.selection import select
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen
from seqscope.states import SeenStates, Wanted, choose_recurrent, in_order, label_states, pick, state_of

# So many lengths are looked at, and as many as fit into so much memory. Of data with more, the steps of layers on a clock of their own
# are not placed in the input's time.
_MOST_LENGTHS = 512
_MOST_BYTES = 256_000_000


@dataclass(frozen=True)
class Chosen:
    """What is wanted of a model.

    Attributes
    ----------
    capture : tuple of str
    readings : dict of Reading
        By address: activations, states, the output.
    layers : tuple of str
        The addresses of the activations.
    parts : tuple of str
        The recurrent layers whose states are wanted.
    only : dict of tuples
        Of some of these, which states.
    """

    capture: tuple[str, ...]
    readings: Mapping[str, Reading]
    layers: tuple[str, ...]
    parts: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]]


def choose(specimen: Specimen, feed: Feed, sequences: Sequences, asked: Asked) -> Chosen:
    """Find the layers and states that were asked for.

    Raises
    ------
    LayerError, UnsupportedError
        As of `Scope.activations` and `Scope.states`.
    """
    engine = specimen.engine
    capture: list[str] = [OUTPUT_VALUE]
    selection, wanted, only = None, Wanted((), one=False, by_name=False), {}
    if asked.wants_layers:
        selection = select(asked.layers, tuple(engine.by_name), [layer.name for layer in engine.layers])
        capture += selection.capture
    if asked.wants_states:
        names, some = asked.named_states
        wanted = choose_recurrent(names, engine)
        only = {part: _known_states(name, states) for name, states in some.items() for part in _parts_of(engine, name)}
        capture += [f"{part}{STATES}" for part in wanted.parts]
    readings = specimen.readings(feed, sequences, capture)
    output = readings[OUTPUT_VALUE]
    if isinstance(output, LayerError):
        raise ModelError(f"The model's output {output.message}.")
    layers = selection.pick({address: reading for address, reading in readings.items() if STATES not in address}) if selection else {}
    states = pick(readings, wanted.parts, (), by_name=wanted.by_name) if wanted.parts else {}
    states = {address: reading for address, reading in states.items() if state_of(address) in labelled.STATE_NAMES}  # not the initial ones
    seen = tuple(part for part in wanted.parts if any(address.startswith(f"{part}{STATES}") for address in states))
    chosen = {OUTPUT_VALUE: output, **layers, **states}
    _check_names(tuple(layers))
    _check_names(seen)
    return Chosen(tuple(name for name in capture if name), chosen, tuple(layers), seen, only)


def _check_names(addresses: tuple[str, ...]) -> None:
    there: dict[str, str] = {}
    for address in addresses:
        node = labelled.node_name(address)
        other = there.setdefault(node, address)
        if other != address:
            raise LayerError(
                f"'{other}' and '{address}' would both be '{node}' in a store: name the layers to record, one of these at most."
            )


def _parts_of(engine: Engine, name: str) -> tuple[str, ...]:
    return choose_recurrent(name, engine).parts


def _known_states(layer: str, states: tuple[str, ...]) -> tuple[str, ...]:
    for state in states:
        if state not in labelled.STATE_NAMES:
            raise LayerError(f"The layer '{layer}' has no state {state!r}: {nearest(str(state), labelled.STATE_NAMES)}.")
    return states


@dataclass(frozen=True)
class Survey:
    """What the arrays of the whole data set are.

    Attributes
    ----------
    plan : Plan
    templates : dict of Dataset
        By group: every dim, coordinate and attribute, and for values a single NaN that is shown everywhere. Of a few samples, so that
        they do not grow with the data set; of all, where there is more to say of each than its id, length and label.
    """

    plan: Plan
    templates: Mapping[str, xr.Dataset]


def survey(specimen: Specimen, feed: Feed, sequences: Sequences, asked: Asked, names: tuple[object, ...] | None) -> Survey:
    """Look at one sequence of each length, and plan the recording.

    Parameters
    ----------
    names : tuple or None
        What the outputs are called, where the person said it.
    """
    columns.check(sequences.sample_axis.coords())
    chosen = choose(specimen, feed, sequences, asked)
    if feed.engine.merges_lengths and len(np.unique(sequences.lengths)) > 1:  # once, on the whole, so that every worker does the same
        settle_padding(feed, sequences, chosen.readings, chosen.capture)
    few, found = _look(specimen, feed, sequences, chosen, skips=asked.on_error == "skip")
    templates = _templates(specimen, feed, few, found, chosen, sequences, few, names)
    if any(SAMPLE in coord.dims for data in templates.values() for name, coord in data.coords.items() if name not in skeleton.OF_SAMPLES):
        templates = _templates(specimen, feed, few, found, chosen, sequences, sequences, names)  # each sample has times of its own
    kept = [
        _kept(group, str(name), array, str(data.attrs.get("kind", "")), asked, _few_values(found, chosen, group, str(name)))
        for group, data in templates.items()
        for name, array in data.data_vars.items()
    ]
    inputs = _inputs_template(sequences if sequences.clock.own is not None else few)
    kept_inputs = Kept(plan.INPUTS, labelled.VALUE, tuple(map(str, inputs.dims)), inputs.shape[1:], _input_dtype(sequences))
    whole = sum(one.bytes_per_sample for one in [*kept, kept_inputs])
    made = Plan(
        arrays=tuple(kept),
        inputs=kept_inputs if asked.inputs else None,
        readings=chosen.readings,
        capture=chosen.capture,
        n_samples=len(sequences),
        per_shard=asked.per_shard or samples_per_shard(whole, len(sequences)),
        batch_size=asked.batch_size or rows_for(feed, sequences, chosen.readings, chosen.capture),
        keep_bits=asked.keep_bits,
        skips=asked.on_error == "skip",
        layout=feed.layout,
        width=feed.width,
        held=dict(feed.held),
        bears_padding=dict(feed.bears_padding),
        outputs=_names_of_labels(templates[plan.PREDICTIONS], sequences),
    )
    return Survey(made, ({plan.INPUTS: inputs.to_dataset()} if asked.inputs else {}) | templates)


def _names_of_labels(predictions: xr.Dataset, sequences: Sequences) -> tuple[object, ...] | None:
    """The names of the outputs, where every label is one of them, so that it can be told whether a prediction is right."""
    if labelled.OUTPUT not in predictions.coords or sequences.labels is None:
        return None
    names = tuple(predictions.coords[labelled.OUTPUT].values.tolist())
    labels = sequences.labels if sequences.labels.dtype.kind == "O" else np.unique(sequences.labels)
    return names if set(labels.tolist()) <= set(names) else None


def _look(specimen: Specimen, feed: Feed, sequences: Sequences, chosen: Chosen, *, skips: bool) -> tuple[Sequences, dict[str, Collected]]:
    """Run one sequence of each length, the longest and the shortest in any case."""
    lengths, first = _first_of_each(sequences.lengths)
    weight = specimen.footprint(feed, sequences)[1] * int(lengths[-1])
    most = int(np.clip(_MOST_BYTES // max(1, weight), 2, _MOST_LENGTHS))
    rows = first if len(first) <= most else first[np.unique(np.linspace(0, len(first) - 1, most).astype(int))]
    few = sequences[rows]
    if skips:
        few = few[_runnable(feed, few, chosen)]
    found = collect(feed, few, chosen.readings, chosen.capture, show_progress=False)
    return few, found


def _first_of_each(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lengths that there are, ascending, and the first sequence of each: as `np.unique`, without sorted copies of millions."""
    found = np.flatnonzero(np.bincount(lengths))
    first = np.zeros(found[-1] + 1, np.int64)
    first[lengths[::-1]] = np.arange(len(lengths) - 1, -1, -1)  # of what is written to one place the last stays
    return found, first[found]


def _runnable(feed: Feed, few: Sequences, chosen: Chosen) -> np.ndarray:
    """Those sequences that the model runs on."""
    runs = []
    for row in range(len(few)):
        try:
            collect(feed, few[[row]], chosen.readings, chosen.capture, show_progress=False)
            runs.append(row)
        except SeqscopeError as error:
            last = error
    if not runs:
        raise last
    return np.array(runs)


def _templates(
    specimen: Specimen,
    feed: Feed,
    few: Sequences,
    found: Mapping[str, Collected],
    chosen: Chosen,
    whole: Sequences,
    shown: Sequences,
    names: tuple[object, ...] | None,
) -> dict[str, xr.Dataset]:
    """The labelled arrays of some of the data set, by group, as the verbs of a scope give them."""
    readings = {address: chosen.readings[address] for address in chosen.layers}
    fields = specimen.place_steps(feed, few, readings, {address: found[address] for address in chosen.layers})
    placed = {address: field if _covers(field, whole) else None for address, field in fields.items()}
    predictions = specimen.label_output(feed, _spread(found[OUTPUT_VALUE], len(shown)), shown, names)
    made = {plan.PREDICTIONS: predictions.rename(plan.PREDICTION).to_dataset(promote_attrs=True)}
    for address in chosen.layers:
        array = specimen.label_layer(address, _spread(found[address], len(shown)), shown, placed.get(address))
        made[f"{plan.ACTIVATIONS}/{labelled.node_name(address)}"] = array.to_dataset(promote_attrs=True)
    seen = SeenStates(few, feed, found)
    for part in chosen.parts:
        parts = {
            name: (dims, np.broadcast_to(np.asarray(np.nan, values.dtype), (len(shown), *values.shape[1:])), called)
            for name, (dims, values, called) in in_order(seen.of(part)).items()
            if name in chosen.only.get(part, labelled.STATE_NAMES)
        }
        made[f"{plan.STATES}/{labelled.node_name(part)}"] = label_states(specimen, part, seen, parts, "states", whole=shown)
    _warn_unplaced(fields, placed)
    return made


def _covers(fields: Mapping[int, object] | None, whole: Sequences) -> bool:
    return fields is not None and set(np.unique(whole.lengths).tolist()) <= set(fields)


def _warn_unplaced(fields: Mapping[str, object], placed: Mapping[str, object]) -> None:
    lost = [address for address, field in fields.items() if field is not None and placed[address] is None]
    if lost:
        warn(f"The steps of '{lost[0]}' are not placed in the input's time: the data has more than {_MOST_LENGTHS} different lengths.")


def _spread(found: Collected, n_samples: int) -> Collected:
    """The same of a whole data set: one NaN, shown everywhere."""
    nothing = np.zeros((), found.values.dtype)
    if nothing.dtype.kind == "f":
        nothing.fill(np.nan)
    return Collected(np.broadcast_to(nothing, (n_samples, *found.values.shape[1:])), found.dims, found.on_input_clock)


def _kept(group: str, name: str, array: xr.DataArray, kind: str, asked: Asked, few: tuple[str, np.ndarray]) -> Kept:
    source, values = few
    dtype = np.dtype(asked.dtype) if asked.dtype and array.dtype.kind == "f" and group != plan.PREDICTIONS else array.dtype
    edges = figures.edges_for(kind, name, values) if group != plan.PREDICTIONS else None
    return Kept(group, name, tuple(map(str, array.dims)), array.shape[1:], dtype.str, source, edges)


def _few_values(found: Mapping[str, Collected], chosen: Chosen, group: str, name: str) -> tuple[str, np.ndarray]:
    """Where an array's values come from, and those of a few sequences."""
    if group == plan.PREDICTIONS:
        return OUTPUT_VALUE, found[OUTPUT_VALUE].values
    for address in chosen.layers:
        if group == f"{plan.ACTIVATIONS}/{labelled.node_name(address)}":
            return address, found[address].values
    part = next(part for part in chosen.parts if group == f"{plan.STATES}/{labelled.node_name(part)}")
    return part, next(
        value.values for address, value in found.items() if address.startswith(f"{part}{STATES}") and state_of(address) == name
    )


# The inputs


def _inputs_template(sequences: Sequences) -> xr.DataArray:
    n_steps = int(sequences.lengths.max())
    tail = () if sequences.n_channels is None else (sequences.n_channels,)
    dims = (labelled.SAMPLE, labelled.TIME, *((labelled.CHANNEL,) if tail else ()))
    values = np.broadcast_to(np.zeros((), _input_dtype(sequences)), (len(sequences), n_steps, *tail))
    coords = {}
    if sequences.channels is not None:
        coords[labelled.CHANNEL] = xr.Variable(
            labelled.CHANNEL, list(sequences.channels), {"long_name": labelled.LONG_NAMES[labelled.CHANNEL]}
        )
    padding = {} if tail else {"padding": -1, "token_type": sequences.dtype.name}
    return labelled.result(
        values, dims, name=labelled.VALUE, samples=sequences.sample_axis, clock=sequences.clock, coords=coords, attrs=padding
    )


def _input_dtype(sequences: Sequences) -> str:
    """What inputs are written as: what they are; tokens with a sign, since -1 stands behind the end of a sequence."""
    dtype = sequences.dtype.newbyteorder("=")
    return np.dtype(np.int64).str if dtype.kind in "ub" else dtype.str
