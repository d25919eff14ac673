"""Results as labelled arrays: the one place that names an axis.

Everything that seqscope gives back is built here, so a dim, a coordinate or an attribute means the same wherever it turns up.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from seqscope._version import __version__
from seqscope.clock import Clock, at, padded
from seqscope.errors import DataError

if TYPE_CHECKING:
    from seqscope.receptive import Field

SAMPLE = "sample"
TIME = "time"
STEP = "step"
CHANNEL = "channel"
UNIT = "unit"
OUTPUT = "output"
OUTPUT_TIME = "output_time"
DIRECTION = "direction"
CALL = "call"
TAP = "tap"
PROJECTION = "projection"
HEAD, QUERY, KEY = "head", "query", "key"
STREAM = "stream"
RESTART, ITERATION = "restart", "iteration"
WINDOW, RANK = "window", "rank"
GATE, COMPONENT = "gate", "component"
HISTOGRAM, BIN, BIN_LOW, BIN_HIGH = "histogram", "bin", "bin_low", "bin_high"
REAL_TIME = "real_time"  # of real sequences beside a made one, whose `time` is its own

TIME_START, TIME_END = "time_start", "time_end"
TIME_CENTRE = "time_centre"  # of the steps of a layer, where `time` is the input's own
LENGTH = "length"
LABEL = "label"
TIMESTAMP = "timestamp"

ACTIVATIONS = "activations"
ATTENTION = "attention"
VALUE = "value"

# Long names are what a plot writes on its axes.
LONG_NAMES = {
    SAMPLE: "Sample",
    TIME: "Time Step",
    STEP: "Layer Step",
    CHANNEL: "Channel",
    UNIT: "Hidden Unit",
    OUTPUT: "Output",
    OUTPUT_TIME: "Output Step",
    CALL: "Call",
    TAP: "Tap",
    PROJECTION: "Projected Unit",
    DIRECTION: "Direction",
    HEAD: "Head",
    QUERY: "Query",
    KEY: "Key",
    STREAM: "Stream",
    RESTART: "Restart",
    ITERATION: "Iteration",
    WINDOW: "Window",
    RANK: "Rank",
    GATE: "Gate",
    COMPONENT: "Component",
    BIN: "Bin",
    BIN_LOW: "From",
    BIN_HIGH: "To",
    REAL_TIME: "Time Step",
}

# What the states of a recurrent layer are called in full.
STATE_NAMES = {
    "h": "Hidden state",
    "c": "Cell state",
    "i": "Input gate",
    "f": "Forget gate",
    "g": "Candidate",
    "o": "Output gate",
    "r": "Reset gate",
    "z": "Update gate",
    "n": "Candidate",
    "a": "Pre-activation",
}


def clock_coords(clock: Clock, n_steps: int, *, single: bool) -> dict[str, xr.Variable]:
    """Coordinates of `n_steps` steps: `time`, and `timestamp` (sample, time) where every sample has stamps of its own."""
    numbered = xr.Variable(TIME, np.arange(n_steps), {"long_name": LONG_NAMES[TIME]})
    attrs = {"long_name": "Time"} | ({"units": clock.units} if clock.units else {})
    if clock.is_numbered:
        return {TIME: numbered}
    if clock.own is None or single:
        return {TIME: xr.Variable(TIME, clock.of_sample(0, n_steps), attrs)}
    return {TIME: numbered, TIMESTAMP: xr.Variable((SAMPLE, TIME), clock.padded(n_steps), attrs)}


def step_coords(fields: Mapping[int, Field], n_steps: int, clock: Clock, samples: SampleAxis) -> dict[str, xr.Variable]:
    """Where the steps of a layer lie in the input's time: the middle of what each sees as `time`, its ends as `time_start`, `time_end`.

    Each is on (step); on (sample, step), NaN (NaT) after the end, where samples differ in it.

    Parameters
    ----------
    fields : dict of Field
        What the steps see, by the length of the sample.
    """
    attrs = (
        {"long_name": LONG_NAMES[TIME]} if clock.is_numbered else {"long_name": "Time"} | ({"units": clock.units} if clock.units else {})
    )
    coords = {}
    lengths, which = (samples.lengths, slice(None)) if clock.own is not None else np.unique(samples.lengths, return_inverse=True)
    for name, side, ends in ((TIME, "centre", ""), (TIME_START, "start", "First "), (TIME_END, "end", "Last ")):
        rows = [at(clock.of_sample(row, n), getattr(fields[n], side)) for row, n in enumerate(lengths.tolist())]
        longest = max(rows, key=len)
        said = attrs | {"long_name": ends + attrs["long_name"]}
        if all(row is longest or np.array_equal(row, longest[: len(row)]) for row in rows):
            coords[name] = xr.Variable(STEP, longest, said)
        else:  # samples of one length have one row, unless they have clocks of their own
            coords[name] = xr.Variable((SAMPLE, STEP), padded(rows, n_steps)[which], said)
    return coords


# One of several arrays of a layer: its dims (`sample` first, where there is one), its values, and what it is called in full.
Part = tuple[Sequence[str], np.ndarray, str]


@dataclass(frozen=True)
class SampleAxis:
    """What is known of each sample: its id, length and label. `single`: one sequence was given, so there is no such dim."""

    ids: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray | None
    single: bool

    def coords(self) -> dict[str, Any]:
        """Coordinates along `sample`, or scalars where one sequence was given."""
        columns = {SAMPLE: self.ids, LENGTH: self.lengths, LABEL: self.labels}
        known = {name: column for name, column in columns.items() if column is not None}
        if self.single:
            return {name: column[0] for name, column in known.items()}
        return {name: xr.Variable(SAMPLE, column) for name, column in known.items()}


def series(
    values: np.ndarray,
    *,
    channels: Sequence[Hashable] | None,
    clock: Clock,
    samples: SampleAxis,
    attrs: Mapping[str, Any],
) -> xr.DataArray:
    """Label one sequence: (time, channel), or (time) for tokens."""
    coords: dict[str, Any] = samples.coords() | clock_coords(clock, len(values), single=True)
    dims: tuple[str, ...] = (TIME,)
    if channels is not None:
        dims = (TIME, CHANNEL)
        coords[CHANNEL] = xr.Variable(CHANNEL, list(channels), {"long_name": LONG_NAMES[CHANNEL]})
    return xr.DataArray(values, dims=dims, coords=coords, name=VALUE, attrs=attributes(attrs))


def result(
    values: np.ndarray,
    dims: Sequence[str],
    *,
    name: str,
    samples: SampleAxis,
    clock: Clock,
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Label what came out of a model.

    Parameters
    ----------
    values : array
        `sample` first; taken away where one sequence was given.
    dims : sequence of str
        The name of each axis. `time` gets the input's clock; other dims are numbered from 0 unless `coords` says otherwise.
    """
    if samples.single:
        values, dims = values[0], list(dims)[1:]
    labels = _coords(dict(zip(dims, values.shape, strict=True)), samples, clock) | dict(coords or {})
    return xr.DataArray(values, dims=tuple(dims), coords=labels, name=name, attrs=attributes(attrs or {}))


def _coords(sizes: Mapping[str, int], samples: SampleAxis, clock: Clock) -> dict[str, Any]:
    """Coordinates of dims of these sizes: samples by id, time by the input's clock, the rest by number."""
    labels: dict[str, Any] = samples.coords()
    labels |= {
        dim: xr.Variable(dim, np.arange(size), {"long_name": LONG_NAMES.get(dim, dim)})
        for dim, size in sizes.items()
        if dim not in (SAMPLE, TIME)
    }
    return labels | (clock_coords(clock, sizes[TIME], single=samples.single) if TIME in sizes else {})


def layer_result(
    values: np.ndarray,
    dims: Sequence[str],
    *,
    name: str,
    on_input_clock: bool,
    directions: int,
    samples: SampleAxis,
    clock: Clock,
    attrs: Mapping[str, Any],
    fields: Mapping[int, Field] | None = None,
) -> xr.DataArray:
    """Label a layer's values. Their `time` is the layer's own clock: `step` where that is not the input's.

    Parameters
    ----------
    directions : int
        2: the units are those of the forward pass, then those of the backward pass.
    fields : dict of Field, optional
        What its steps see, by the length of the sample; default: not known.
    """
    named = [STEP if dim == TIME and not on_input_clock else dim for dim in dims]
    coords: dict[str, Any] = {}
    if STEP in named and fields is not None:
        coords |= step_coords(fields, values.shape[named.index(STEP)], clock, samples)
    if directions == 2 and UNIT in named:
        n_units = values.shape[named.index(UNIT)]
        coords[DIRECTION] = xr.Variable(UNIT, np.repeat(["forward", "backward"], n_units // 2))
    return result(values, named, name=name, samples=samples, clock=clock, coords=coords, attrs=attrs)


def attention_result(
    values: np.ndarray,
    dims: Sequence[str],
    *,
    on_input_clock: Mapping[str, bool],
    samples: SampleAxis,
    clock: Clock,
    attrs: Mapping[str, Any],
) -> xr.DataArray:
    """Label attention weights: queries and keys that are the input's steps have its time.

    Parameters
    ----------
    on_input_clock : dict of bool
        Of `query` and `key`, whether they are the input's steps.
    """
    coords = {}
    for dim, here in on_input_clock.items():
        n_steps = values.shape[list(dims).index(dim)]
        numbered = xr.Variable(TIME, np.arange(n_steps), {"long_name": "Step"})
        steps = clock_coords(clock, n_steps, single=samples.single)[TIME] if here else numbered
        coords[dim] = xr.Variable(dim, steps.values, steps.attrs)
    return result(values, dims, name=ATTENTION, samples=samples, clock=clock, coords=coords, attrs=attrs)


def output_result(
    values: np.ndarray,
    dims: Sequence[str],
    *,
    names: Sequence[Hashable] | None,
    names_of_data: Sequence[Hashable] | None = None,
    on_input_clock: bool,
    samples: SampleAxis,
    clock: Clock,
    attrs: Mapping[str, Any],
) -> xr.DataArray:
    """Label a model's output: units are outputs, its steps output steps; one value without an axis is one output.

    Parameters
    ----------
    names : sequence or None
        What the outputs are called.
    names_of_data : sequence or None
        What the data's classes are called: the outputs' names too, where there are as many and nothing else was said.

    Raises
    ------
    DataError
        The names do not fit in number.
    """
    values, named = output_axes(values, dims)
    coords: dict[str, Any] = {}
    if OUTPUT_TIME in named and on_input_clock:
        steps = clock_coords(clock, values.shape[named.index(OUTPUT_TIME)], single=samples.single)[TIME]
        coords[OUTPUT_TIME] = xr.Variable(OUTPUT_TIME, steps.values, steps.attrs)
    n_outputs = values.shape[named.index(OUTPUT)] if OUTPUT in named else 0
    if names is not None and len(names) != n_outputs:
        raise DataError(f"{len(names)} output names were given and the model has {n_outputs} outputs.")
    if names is None and names_of_data is not None and len(names_of_data) == n_outputs:
        names = names_of_data
    if names is not None:
        coords[OUTPUT] = xr.Variable(OUTPUT, list(names), {"long_name": LONG_NAMES[OUTPUT]})
    return result(values, named, name="output", samples=samples, clock=clock, coords=coords, attrs=attrs)


def output_axes(values: np.ndarray, dims: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """A model's output with its axes named: one value without an axis is one output."""
    named = [{UNIT: OUTPUT, TIME: OUTPUT_TIME}.get(dim, dim) for dim in dims]
    return (values[..., None], [*named, OUTPUT]) if named[-1] in (SAMPLE, OUTPUT_TIME) else (values, named)


def map_result(
    native: np.ndarray,
    on_time: np.ndarray,
    on_input_clock: bool,
    *,
    long_name: str,
    fields: Mapping[int, Field] | None,
    samples: SampleAxis,
    clock: Clock,
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Label a map along time, such as a class activation map: `map` (sample, time) on the input's clock, `native` on the layer's.

    Where that is its own, `native` has the dim `step`, and what each step sees as `time_centre`, `time_start` and `time_end`.
    """
    whole = result(on_time, (SAMPLE, TIME), name="map", samples=samples, clock=clock, coords=coords, attrs={"long_name": long_name})
    if on_input_clock:
        of_layer = whole.copy(data=native[0] if samples.single else native)
    else:
        steps = step_coords(fields, native.shape[1], clock, samples) if fields is not None else {}
        placed = {TIME_CENTRE if name == TIME else name: variable for name, variable in steps.items()}
        of_layer = result(native, (SAMPLE, STEP), name="native", samples=samples, clock=clock, coords=placed | dict(coords))
    said = {"long_name": f"{long_name}, on the layer's own clock"}
    return xr.Dataset({"map": whole, "native": of_layer.assign_attrs(said)}, attrs=attributes(attrs))


def filters_result(values: np.ndarray, *, channels: Sequence[Hashable] | None, attrs: Mapping[str, Any]) -> xr.DataArray:
    """Label a convolution's kernels: (unit, tap, channel), each numbered from 0 unless the channels have names.

    Raises
    ------
    DataError
        The names do not fit in number.
    """
    names = list(range(values.shape[2]) if channels is None else channels)
    if len(names) != values.shape[2]:
        raise DataError(f"{len(names)} channel names were given and a filter of this layer has {values.shape[2]} channels.")
    dims = {UNIT: range(values.shape[0]), TAP: range(values.shape[1]), CHANNEL: names}
    long_names = LONG_NAMES | {UNIT: "Filter"}
    coords = {dim: xr.Variable(dim, list(labels), {"long_name": long_names[dim]}) for dim, labels in dims.items()}
    return xr.DataArray(np.array(values), dims=tuple(dims), coords=coords, name="filters", attrs=attributes(attrs))  # never the model's own


def numbered(
    values: np.ndarray, dims: Sequence[str], *, name: str, attrs: Mapping[str, Any], names: Mapping[str, Sequence[Hashable] | None]
) -> xr.DataArray:
    """Label an array whose dims are numbered from 0, where they have no names."""
    sizes = zip(dims, values.shape, strict=True)
    labels = {dim: np.arange(size) if names.get(dim) is None else list(names[dim] or ()) for dim, size in sizes}
    coords = {dim: xr.Variable(dim, label, {"long_name": LONG_NAMES.get(dim, dim)}) for dim, label in labels.items()}
    return xr.DataArray(values, dims=tuple(dims), coords=coords, name=name, attrs=attributes(attrs))


def in_state_order(names: Iterable[str]) -> list[str]:
    """States in the order in which every result has them."""
    there = set(names)
    return [name for name in ("h", "c", "i", "f", "g", "o", "r", "z", "n", "a") if name in there]


def parts_result(
    parts: Mapping[str, Part],
    *,
    on_input_clock: bool,
    samples: SampleAxis,
    clock: Clock,
    attrs: Mapping[str, Any],
    fields: Mapping[int, Field] | None = None,
) -> xr.Dataset:
    """Label several arrays of one layer: its states, or the parts of a sum.

    Parameters
    ----------
    on_input_clock, fields
        As in `layer_result`.
    """
    variables: dict[str, xr.Variable] = {}
    sizes: dict[Any, int] = {}
    for name, (dims, values, long_name) in parts.items():
        named = [STEP if dim == TIME and not on_input_clock else dim for dim in dims]
        variable = xr.Variable(named, values, {"long_name": long_name})
        variables[name] = variable.isel({SAMPLE: 0}) if samples.single and SAMPLE in named else variable
        sizes |= variables[name].sizes
    coords = _coords(sizes, samples, clock)
    if DIRECTION in sizes:
        coords[DIRECTION] = xr.Variable(DIRECTION, ["forward", "backward"], {"long_name": LONG_NAMES[DIRECTION]})
    if STEP in sizes and fields is not None:
        coords |= step_coords(fields, sizes[STEP], clock, samples)
    return xr.Dataset(variables, coords=coords, attrs=attributes(attrs))


def figures_result(figures: Mapping[str, Part], *, coords: Mapping[str, Any], attrs: Mapping[str, Any]) -> xr.Dataset:
    """Label figures that were made of a layer's values, each with its dims and what it is called in full.

    Parameters
    ----------
    coords : dict
        What goes into a coordinate; dims that have none are numbered from 0.
    """
    made = {name: xr.Variable(dims, values, {"long_name": long_name}) for name, (dims, values, long_name) in figures.items()}
    sizes = {dim: size for variable in made.values() for dim, size in variable.sizes.items()}
    numbers = {dim: xr.Variable(dim, np.arange(size), {"long_name": LONG_NAMES.get(str(dim), dim)}) for dim, size in sizes.items()}
    return xr.Dataset(made, coords=numbers | dict(coords), attrs=attributes(attrs))


def tree(arrays: Mapping[str, xr.DataArray] | Mapping[str, xr.Dataset], attrs: Mapping[str, Any]) -> xr.DataTree:
    """Several layers side by side, a node each; the root holds `sample` alone, since the layers' clocks may differ."""
    first = next(iter(arrays.values()))
    root = xr.Dataset(coords={SAMPLE: first.coords[SAMPLE].variable} if SAMPLE in first.dims else {}, attrs=attributes(attrs))
    nodes = {
        node_name(name): array if isinstance(array, xr.Dataset) else array.to_dataset(promote_attrs=True) for name, array in arrays.items()
    }
    return xr.DataTree.from_dict({"/": root} | nodes)


def node_name(address: str) -> str:
    """What a layer's node is called: "/" would nest."""
    return address.replace("/", "_")


def attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what survives NetCDF and Zarr (strings, numbers, lists of one of them) and stamp it with the version."""
    stamped: dict[str, Any] = {"seqscope_version": __version__}
    return stamped | {name: _plain(value) for name, value in attrs.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        items = [_plain(item) for item in value]
        return items if all(isinstance(item, int | float) for item in items) else [str(item) for item in items]
    if isinstance(value, bool | np.bool):
        return int(value)
    return value.item() if isinstance(value, np.generic) else value
