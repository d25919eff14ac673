"""The verb: from a person's call to a labelled result."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope import labelled, progress, ram
from seqscope.attribution import METHODS
from seqscope.attribution.baselines import Baselines, baselines_for, data_as_baselines
from seqscope.attribution.cam import spreading
from seqscope.attribution.method import INPUT, LAYER, Explained, Method
from seqscope.attribution.perturbation import FeatureAblation, Occlusion, group_masks
from seqscope.attribution.run import Place, Run
from seqscope.attribution.scoring import Scoring, caution, scoring_for
from seqscope.attribution.temporal import TemporalSaliencyRescaling
from seqscope.axes import Reading
from seqscope.collect import Collected, few_rows
from seqscope.engines.base import Engine, HasGradients, HasStates
from seqscope.engines.score import Score
from seqscope.errors import DataError, LayerError, UnsupportedError, nearest, quoted
from seqscope.feed import Feed
from seqscope.labelled import CHANNEL, OUTPUT_TIME, SAMPLE, TIME
from seqscope.receptive import Field
from seqscope.sequences import Batch, Sequences
from seqscope.specimen import Specimen

# What the largest value of a layer may take in one batch: beyond the caches, larger batches run no faster (`benchmarks/attribution.py`).
_LARGEST = 8_000_000
# Rows in a batch at most.
_MOST_ROWS = 256
# A pass with derivatives holds each value about so many times: itself, what is kept for the way back, its derivative.
_HELD = 4
# Batches that a group of sequences should fill, so that the last one, which is seldom full, weighs little.
_BATCHES = 8
# The completeness gap that is worth a warning, as a share of the score's change.
_GAP = 0.05


@dataclass(frozen=True)
class Asked:
    """What a person asked for, but for the data.

    Attributes
    ----------
    method : Method
    layer : str or None
    baseline, reference : as given
    seed : int
    memory : int
        Bytes that a batch may take.
    """

    method: Method
    layer: str | None
    baseline: Any
    reference: Any
    seed: int
    memory: int


@dataclass
class Found:
    """What was found over a data set.

    Attributes
    ----------
    kept : Collected or None
        The attribution.
    per_sample : dict of arrays
        Figures of each sequence, (sample), or (sample, output step).
    """

    kept: Collected | None = None
    per_sample: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    logits: np.ndarray | None = None
    said: dict[str, Any] = dataclasses.field(default_factory=dict)


def asked_for(method: Any, options: Mapping[str, Any], *, layer: Any, baseline: Any, reference: Any, seed: Any, memory: Any) -> Asked:
    """Check what was asked for.

    Raises
    ------
    DataError, UnsupportedError
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise DataError(f"The seed is {seed!r}: expected a whole number, 0 or more.")
    made = method_of(method, options)
    if baseline is not None and "fill" in {part.name for part in dataclasses.fields(made)}:  # type: ignore[arg-type]
        made, baseline = dataclasses.replace(made, fill=baseline), None  # type: ignore[type-var]
    if baseline is not None and not made.uses_baseline:
        raise UnsupportedError(f"{made.name} compares with nothing, so it takes no baseline.")
    return Asked(made, layer, baseline, reference, int(seed), _bytes(memory))


def method_of(method: Any, options: Mapping[str, Any]) -> Method:
    """A method by its name and options, or as it was given.

    Raises
    ------
    UnsupportedError
        There is no such method.
    DataError
        It has no such option.
    """
    if not isinstance(method, str):
        if not all(hasattr(method, name) for name in ("explain", "place", "needs_gradient")) or isinstance(method, type):
            raise UnsupportedError(f"The method is {method!r}: expected a name, {quoted(METHODS)}, or one of seqscope.attribution.")
        return dataclasses.replace(method, **_known(options, type(method))) if options else method  # type: ignore[no-any-return]
    if method not in METHODS:
        raise UnsupportedError(f"There is no method {method!r}: {nearest(method, METHODS)}.")
    kind = METHODS[method]
    if kind is not TemporalSaliencyRescaling:
        return kind(**_known(options, kind))  # type: ignore[no-any-return]
    own = {part.name for part in dataclasses.fields(kind)}
    inner = {name: value for name, value in options.items() if name not in own}
    around = {name: value for name, value in options.items() if name in own}
    of = method_of(around.pop("method", "gradient"), inner)
    if of.place == LAYER or isinstance(of, TemporalSaliencyRescaling):
        raise UnsupportedError(f"temporal_saliency_rescaling goes around a method at the input, and {of.name} is none.")
    return kind(method=of, **around)


def _known(options: Mapping[str, Any], kind: Any) -> Mapping[str, Any]:
    """The options, if the method has all of them."""
    fields = [part.name for part in dataclasses.fields(kind)]
    for name in options:
        if name not in fields:
            there = f"it has {quoted(fields)}" if fields else "it has none"
            raise DataError(f"{kind.name} has no option {name!r}: {there}.")
    return options


def _bytes(memory: Any) -> int:
    """A number of bytes, from a number or a text such as "1GB"; a quarter of what is free where nothing is said."""
    if memory is None:
        return max(64_000_000, (ram.available() or 4_000_000_000) // 4)
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kMGT]?)i?B?\s*", str(memory), re.IGNORECASE)
    if found is None or not float(found[1].strip(".") or 0):
        raise DataError(f"memory is {memory!r}: expected a number of bytes, or a text such as '500MB' or '1GB'.")
    return int(float(found[1]) * 1000 ** " kmgt".index(found[2].lower() or " "))


def attribute(specimen: Specimen, X: Any, target: Any, asked: Asked, names: Sequence[Hashable] | None, show: bool | None) -> Result:
    """Run a method over a data set and label what it finds.

    Raises
    ------
    UnsupportedError, LayerError, DataError, ModelError, TooLargeError
    """
    method = asked.method
    _refuse_unable(method, specimen.engine)
    sequences, feed = specimen.take_in(X)
    place = _place(asked, specimen, feed, sequences)
    if place.layer is None and sequences.is_tokens and method.needs_gradient:
        raise UnsupportedError(
            f"Tokens have no derivative, which {method.name} needs: name the layer that embeds them with layer=, or use occlusion."
        )
    _check_sizes(method, sequences)
    scoring = scoring_for(target, specimen, feed, sequences, names)
    if scoring.all_steps and (place.layer is not None or method.place == LAYER):
        raise UnsupportedError("time='all' explains every output step at the input alone: for a layer, say one step.")
    if specimen.engine.in_training:
        warnings.warn(f"Found in training mode, set aside for this call: {quoted(specimen.engine.in_training, most=6)}.", stacklevel=4)
    reference = sequences if asked.reference is None else specimen.take_in(asked.reference)[0]
    baselines = _baselines(asked, sequences, reference)
    most_rows = _rows_at_once(specimen, feed, sequences, asked)
    found = Found()
    groups = list(_groups(sequences, method, most_rows))
    for batch in progress.tracked(((batch.n_sequences, batch) for batch in groups), total=len(sequences), what="Explaining", show=show):
        rows = np.arange(len(sequences))[batch.rows]
        run, n_output_steps = _run_for(batch, rows, asked, scoring, baselines, specimen, feed, sequences, place, most_rows)
        _keep(found, method.explain(run), run, rows, n_output_steps, sequences, scoring, place)
    specimen.show(sequences)
    _warn(found, scoring, method)
    return Labelling(specimen, feed, sequences, asked, place, scoring, baselines.text if method.uses_baseline else None).result(found)


def _baselines(asked: Asked, sequences: Sequences, reference: Sequences) -> Baselines:
    """What the method compares with, or fills in."""
    wanted = getattr(asked.method, "fill", asked.baseline)
    said = asked.reference is not None
    if wanted is None and asked.method.name == "expected_gradients":
        return data_as_baselines(reference, said=said)
    return baselines_for("zero" if wanted is None else wanted, sequences, reference, asked.seed, said_reference=said)


def _refuse_unable(method: Method, engine: Engine) -> None:
    if method.needs_gradient and not isinstance(engine, HasGradients):
        able = quoted(name for name, kind in METHODS.items() if kind().needs_gradient is False)
        raise UnsupportedError(f"{method.name} needs derivatives, and {engine.framework} models have none here: use {able}.")


def _check_sizes(method: Method, sequences: Sequences) -> None:
    """Windows and stretches that sequences are too short for."""
    longest = int(sequences.lengths.max())
    if isinstance(method, Occlusion):
        if method.window > longest:
            raise DataError(f"The window is {method.window} steps long and the longest sequence {longest}: take a shorter window.")
        short = int((sequences.lengths < method.window).sum())
        if short:
            warnings.warn(
                f"The window of {method.window} steps is longer than {short} of {len(sequences)} sequences (the shortest has "
                f"{sequences.lengths.min()} steps): each of these is hidden whole.",
                stacklevel=4,
            )
    if isinstance(method, FeatureAblation):
        shape = (longest,) if sequences.is_tokens else (longest, sequences.n_channels or 1)
        masks = group_masks(method.groups, shape, sequences.channels)
        empty = [number for number, mask in enumerate(masks) if not mask.any()]
        if empty:
            warnings.warn(
                f"The stretch of group {empty[0]} lies beyond the longest sequence, of {longest} steps: no sample fills it.", stacklevel=4
            )


# Where, and how many at a time


def _place(asked: Asked, specimen: Specimen, feed: Feed, sequences: Sequences) -> Place:
    """The layer that is meant, and its axes.

    Raises
    ------
    UnsupportedError
        The method works elsewhere, or the layer has no steps.
    LayerError
        There is no such layer.
    """
    method, name, engine = asked.method, asked.layer, feed.engine
    if name is None and method.place != LAYER:
        return Place()
    if name is not None and method.place == INPUT:
        raise UnsupportedError(f"{method.name} works at the input: leave layer= out, or use a method of derivatives, such as 'gradient'.")
    recurrent = engine.recurrent_parts if isinstance(engine, HasStates) else {}
    if name is None:
        name = _layer_by_itself(method, specimen, feed, sequences)
    if name not in engine.by_name and name not in recurrent:
        raise LayerError(f"No layer is named {name!r}: {nearest(str(name), [*engine.by_name, *recurrent])}.")
    is_recurrent = name in recurrent
    if len(recurrent.get(name, ())) > 1:
        is_recurrent = True  # a stack is explained at its last layer, whose h is what it gives
    reading = specimen.readings(feed, sequences, (name,)).get(name) if name in engine.by_name else None
    if isinstance(reading, LayerError) and not is_recurrent:
        raise LayerError(f"The layer '{name}' {reading.message}.")
    if not isinstance(reading, Reading):
        if not is_recurrent:
            raise LayerError(f"The layer '{name}' never ran for this input, or gives several tensors.")
        reading = None
    if method.place == LAYER and not is_recurrent and reading is not None and reading.order[1:2] != (TIME,):
        raise UnsupportedError(
            f"{method.name} maps a layer along time, and '{name}' gives {reading.order}: name one with steps, such as a convolution."
        )
    return Place(name, reading, is_recurrent)


def _layer_by_itself(method: Method, specimen: Specimen, feed: Feed, sequences: Sequences) -> str:
    """The layer of a class activation map: the last convolution, else the last recurrent layer; of `cam` the last layer with steps."""
    engine = feed.engine
    if method.name == "cam":
        specimen.show(sequences)
        with_steps = [
            layer.name
            for layer in specimen.layers()
            if layer.kind != "linear" and layer.dims and layer.shape and layer.dims[0] in (TIME, labelled.STEP) and layer.shape[0] != 1
        ]
        if with_steps:
            return with_steps[-1]
    recurrent = engine.recurrent_parts if isinstance(engine, HasStates) else {}
    for wanted in (
        [layer.name for layer in engine.layers if layer.kind.startswith("conv1d")],
        [n for n in recurrent if n in engine.by_name],
    ):
        ran = [name for name in feed.forward(few_rows(sequences), wanted).captured if name in wanted] if wanted else []
        if ran:
            return ran[-1]
    raise UnsupportedError(
        f"{method.name} needs a layer with steps, and no convolution or recurrent layer was found: name one with layer=."
    )


def _rows_at_once(specimen: Specimen, feed: Feed, sequences: Sequences, asked: Asked) -> int:
    """Rows that suit the memory: the largest value stays in the caches, and all together in what is allowed."""
    largest, total = specimen.footprint(feed, sequences)
    longest = int(sequences.lengths.max())
    return int(np.clip(min(_LARGEST / (largest * longest), asked.memory / (_HELD * total * longest)), 1, _MOST_ROWS))


def _groups(sequences: Sequences, method: Method, most_rows: int) -> Iterator[Batch]:
    """Sequences of one length that share batches."""
    variants = max(1, method.n_variants(int(sequences.lengths.max()), sequences.n_channels or 1))
    return sequences.batches(max(1, -(-_BATCHES * most_rows // variants)))


def _run_for(
    batch: Batch,
    rows: np.ndarray,
    asked: Asked,
    scoring: Scoring,
    baselines: Baselines,
    specimen: Specimen,
    feed: Feed,
    sequences: Sequences,
    place: Place,
    most_rows: int,
) -> tuple[Run, int]:
    """What the method works on for one group; and how often each sequence is in it, once or for every step of the output."""
    x = batch.values
    score = scoring.of(feed, x, rows)
    times = len(score.position) // len(x) if scoring.all_steps and isinstance(score, Score) else 1
    repeated = np.repeat(rows, times)
    x = x if times == 1 else np.repeat(x, times, axis=0)
    matrix = None
    if asked.method.name == "score_cam" and place.reading is not None:
        matrix = _matrix(specimen.field_at(feed, sequences, x.shape[1], str(place.layer), place.reading), x.shape[1])
    run = Run(
        feed=feed,
        place=place,
        x=x,
        score=score,
        ids=[sequences.samples[row] for row in repeated],
        most_rows=most_rows,
        seed=asked.seed,
        baseline=baselines.make(x, repeated),
        n_baselines=baselines.count(x.shape[1]),
        channels=sequences.channels,
        spreading=matrix,
    )
    return run, times


def _matrix(field: Field | None, n_steps: int) -> np.ndarray | None:
    return None if field is None or field.on_input_clock else spreading(field, len(field.start), n_steps)


# What was found


def _keep(
    found: Found, explained: Explained, run: Run, rows: np.ndarray, times: int, sequences: Sequences, scoring: Scoring, place: Place
) -> None:
    """Put what was found for a group into its place."""
    values = explained.values.astype(_result_type(sequences), copy=False)
    n_steps = run.x.shape[1]
    on_clock = place.layer is None or (values.ndim > 1 and values.shape[1] == n_steps)
    dims = _dims(values.ndim, place, asked_map=place.layer is not None and values.ndim == 2)
    if scoring.all_steps:
        values, dims = values.reshape(len(rows), times, *values.shape[1:]), (SAMPLE, OUTPUT_TIME, *dims[1:])
    if found.kept is None:
        found.kept = Collected(np.full((len(sequences), *values.shape[1:]), np.nan, values.dtype), dims, on_clock)
    found.kept.on_input_clock &= on_clock
    _put(found.kept.values, rows, values)
    figures = {"score": run.scores_at_x(), **explained.per_sample}
    if isinstance(run.score, Score) and not run.score.address:
        figures["target"] = run.score.position
        if "output" in run.reports:
            found.logits = (
                np.full((len(sequences) * times, run.reports["output"].shape[1]), np.nan) if found.logits is None else found.logits
            )
            if times == 1:
                found.logits[rows] = run.reports["output"]
    for name, of_each in figures.items():
        shaped = of_each if times == 1 else of_each.reshape(len(rows), times)
        if name not in found.per_sample:
            found.per_sample[name] = np.full((len(sequences), *shaped.shape[1:]), np.nan)
        _put(found.per_sample[name], rows, shaped)
    found.said |= explained.said


def _put(into: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """Write values that may end early into their rows."""
    into[(rows, *(slice(size) for size in values.shape[1:]))] = values  # type: ignore[index]


def _result_type(sequences: Sequences) -> np.dtype[Any]:
    return np.dtype(np.float64 if sequences.dtype == np.float64 else np.float32)


def _dims(n_axes: int, place: Place, *, asked_map: bool) -> tuple[str, ...]:
    """What the axes are, sample first."""
    if place.layer is None:
        return (SAMPLE, TIME, CHANNEL)[:n_axes]
    if asked_map and (place.is_recurrent or (place.reading is not None and len(place.reading.order) != n_axes)):
        return (SAMPLE, TIME)
    return (SAMPLE, TIME, labelled.UNIT) if place.is_recurrent or place.reading is None else place.reading.order


def _warn(found: Found, scoring: Scoring, method: Method) -> None:
    """What the person should know of the figures, once."""
    gap = found.per_sample.get("gap")
    if gap is not None and bool((gap > _GAP).any()):
        warnings.warn(
            f"The completeness gap is over {100 * _GAP:.0f} % for {int((gap > _GAP).sum())} of {gap.size} scores (the largest "
            f"{100 * np.nanmax(gap):.0f} %): take more steps (steps=), or a baseline whose score differs more.",
            stacklevel=4,
        )
    if found.logits is not None and "target" in found.per_sample and found.per_sample["target"].ndim == 1:
        caution(scoring, found.logits, found.per_sample["target"].astype(int))


Result = xr.DataArray | xr.Dataset


@dataclass(frozen=True)
class Labelling:
    """From arrays to a labelled result."""

    specimen: Specimen
    feed: Feed
    sequences: Sequences
    asked: Asked
    place: Place
    scoring: Scoring
    baseline: str | None

    def result(self, found: Found) -> Result:
        """The attribution, with what is known of each sequence."""
        if found.kept is None:
            raise DataError("There is no sequence to explain.")
        samples, clock = self.sequences.sample_axis, self.sequences.clock
        coords, attrs = self._coords(found), self._attrs(found)
        method = self.asked.method
        if self.place.layer is None:
            names = (
                {}
                if self.sequences.channels is None
                else {CHANNEL: xr.Variable(CHANNEL, list(self.sequences.channels), {"long_name": "Channel"})}
            )
            return labelled.result(
                found.kept.values, found.kept.dims, name="attribution", samples=samples, clock=clock, coords=names | coords, attrs=attrs
            )
        fields = self._fields(found.kept)
        if method.place == LAYER:
            return labelled.map_result(
                found.kept.values, self._on_input_clock(found.kept, fields), found.kept.on_input_clock, fields=fields, samples=samples,
                clock=clock, coords=coords, attrs=attrs,
            )  # fmt: skip
        made = labelled.layer_result(
            found.kept.values,
            found.kept.dims,
            name="attribution",
            on_input_clock=found.kept.on_input_clock,
            directions=self._directions(),
            samples=samples,
            clock=clock,
            attrs=attrs,
            fields=fields,
        )
        return made.assign_coords(coords)

    def _directions(self) -> int:
        layer = self.feed.engine.by_name.get(str(self.place.layer))
        return 1 if layer is None else layer.directions

    def _fields(self, kept: Collected) -> Mapping[int, Field] | None:
        """What the layer's steps see, where it has a clock of its own."""
        name, reading = str(self.place.layer), self.place.reading
        if reading is None or TIME not in kept.dims:
            return None
        return self.specimen.place_steps(self.feed, self.sequences, {name: reading}, {name: kept}).get(name)

    def _on_input_clock(self, kept: Collected, fields: Mapping[int, Field] | None) -> np.ndarray:
        """Maps brought to the input's clock by what each step sees."""
        if kept.on_input_clock:
            return kept.values
        lengths = self.sequences.lengths
        maps = np.full((len(lengths), int(lengths.max())), np.nan, kept.values.dtype)
        if fields is None:
            raise UnsupportedError(
                f"What the steps of '{self.place.layer}' see of the input can't be known, so that its map has no place there: name "
                "another layer."
            )
        for length in np.unique(lengths):
            rows, field = np.flatnonzero(lengths == length), fields[int(length)]
            matrix = spreading(field, len(field.start), int(length))
            if matrix is not None:
                maps[rows, :length] = kept.values[rows, : len(field.start)] @ matrix
        return maps

    def _coords(self, found: Found) -> dict[str, Any]:
        """Figures of each sequence."""
        outputs = self.scoring.outputs
        figures: dict[str, np.ndarray] = dict(found.per_sample)
        if outputs is not None:
            known = ~np.isnan(figures["target"])
            positions = np.where(known, figures["target"], 0).astype(int)
            names = np.array([outputs.name(position) for position in range(outputs.size)])
            figures["target"] = names[positions] if known.all() else np.where(known, names.astype(object)[positions], "").astype(str)
            if found.logits is not None and outputs.size > 1 and not np.isnan(found.logits).any():
                figures["predicted"] = names[found.logits.argmax(1)]
        described = {"score": f"Score ({self.scoring.kind})", "gap": "Completeness gap, as a share of the score's change"}
        coords = {}
        for name, values in figures.items():
            dims = (SAMPLE, OUTPUT_TIME)[: values.ndim]
            variable = xr.Variable(dims, values, {"long_name": described.get(name, name.capitalize())})
            coords[name] = variable.isel({SAMPLE: 0}) if self.sequences.single else variable
        return coords

    def _attrs(self, found: Found) -> dict[str, Any]:
        """What a reader needs to cite the array."""
        method, engine = self.asked.method, self.feed.engine
        options = {part.name: getattr(method, part.name) for part in dataclasses.fields(method)}  # type: ignore[arg-type]
        plain = {name: value for name, value in options.items() if isinstance(value, str | int | float)}
        attrs: dict[str, Any] = self.specimen.attrs(method.name) | {"target": self.scoring.text, "score": self.scoring.kind}
        outputs = self.scoring.outputs
        layer = engine.by_name.get(str(self.place.layer))
        return (
            attrs
            | {
                "looked_through": outputs.through or None if outputs is not None else None,
                "baseline": self.baseline,
                "signed": bool(method.signed),
                "options": ", ".join(f"{name}={value!r}" for name, value in plain.items()) or None,
                "layer": self.place.layer,
                "kind": None if layer is None else layer.kind,
                "layer_type": None if layer is None else layer.type,
                "seed": self.asked.seed,
            }
            | found.said
        )


def reduced(result: Result, *, absolute: bool, over: str | None) -> Result:
    """Sizes in place of values, and sums over channels or time; said in the attributes.

    Raises
    ------
    DataError
        There is nothing to sum over.
    """
    if not absolute and over is None:
        return result
    if isinstance(result, xr.Dataset):
        raise DataError("abs and reduce are for attributions by value: a class activation map has one value for each step already.")
    made = abs(result) if absolute else result
    if over is not None:
        dims = {"channel": (CHANNEL, labelled.UNIT), "time": (TIME, labelled.STEP)}.get(over, ())
        here = [dim for dim in dims if dim in made.dims]
        if not here:
            raise DataError(
                f"reduce is {over!r}: expected 'channel' or 'time', and the attribution has the dims {tuple(map(str, made.dims))}."
            )
        made = made.sum(here[0], min_count=1)
    return made.assign_attrs(
        result.attrs | ({"abs": 1, "signed": 0} if absolute else {}) | ({"reduce": f"sum over {over}"} if over else {})
    )
