"""What lies under the scope: a model, as far as seqscope has come to know it.

How it is fed, what the axes of its layers are, in which order they run: each is found out once, when first needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from seqscope import labelled, layouts
from seqscope.axes import Reading, read_axes
from seqscope.collect import Collected, few_rows
from seqscope.engines.base import Engine
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.errors import LayerError, ModelError
from seqscope.feed import N_TRIED, Feed, Trial, find_feed, trials_for
from seqscope.intake import as_array
from seqscope.layers import Layer, Layers, ModelInput
from seqscope.receptive import Field, Fields, place_steps
from seqscope.selection import NEVER_RAN, layer_of
from seqscope.sequences import Sequences

_Made = TypeVar("_Made")

Readings = Mapping[str, Reading | LayerError]

_NOT_RUN = (
    "in the order in which the model holds them and without shapes, since it ran on nothing that was tried: "
    "give Scope(model, example=X[:1])"
)


class Specimen:
    """A model with what is known of it.

    Parameters
    ----------
    engine : Engine
    layout : str, optional
        The order of the axes of its input, where the person said it.

    Attributes
    ----------
    held : dict of Hold
        Units of layers that are held whenever it runs.
    free : Specimen
        The same with nothing held: what is known of its layers is found out there.
    """

    def __init__(self, engine: Engine, *, layout: str | None = None) -> None:
        self.engine = engine
        self.held: Held = NOTHING_HELD
        self.free = self
        self._layout = layout
        self._feed: Feed | None = None
        self._readings: dict[str, Reading | LayerError] = {}
        self._fields: dict[tuple[str, int | None], Fields] = {}
        self._example: np.ndarray | None = None
        self._table: Layers | None = None
        self._once: dict[Hashable, Any] = {}

    def attrs(self, method: str) -> dict[str, Any]:
        """What every result says of the model."""
        held = "; ".join(f"{name}: {hold}" for name, hold in self.held.items())
        said = {"ablated": held} if held else {}
        return {"method": method, "model": self.engine.model_name, "framework": self.engine.framework} | said

    def holding(self, held: Held) -> Specimen:
        """The same with these units held, over those that are. What is found out of it meanwhile is forgotten with it."""
        other = Specimen(self.engine, layout=self._layout)
        other.held = {**self.held, **{name: hold.over(self.held.get(name)) for name, hold in held.items()}}
        other.free = self.free
        return other

    # How it is fed

    def take_in(self, data: Any) -> tuple[Sequences, Feed]:
        """The data as sequences, and the model ready to be fed with them.

        Raises
        ------
        DataError
            The data can't be used.
        ModelError
            The layout that the model takes can't be told.
        """
        if self is not self.free:
            sequences, feed = self.free.take_in(data)
            return sequences, self._feed_holding(feed)
        if not isinstance(data, Sequences):
            data = Sequences(data, layout=self._layout_of(data))
        return data, self._feed_for([(int(data.lengths.max()), data.n_channels or 0)], data.is_tokens)

    def _feed_holding(self, feed: Feed) -> Feed:
        """A feed that holds units. What was tried with it holds for these layers, whichever of their units are held and at what."""
        tried: tuple[dict[str, int], dict[tuple[str, ...], bool]] = self.free.once(
            ("tried", feed.layout, tuple(self.held)), lambda: ({}, {})
        )
        return replace(feed, held=self.held, rows_in_order=tried[0], bears_padding=tried[1])

    def _layout_of(self, data: Any) -> str | None:
        """The layout of an array without names is the model's own; nothing else needs one."""
        if not (hasattr(data, "shape") and hasattr(data, "dtype")) or hasattr(data, "dims"):
            return None
        array = as_array(data)
        is_tokens = array.ndim == 2 and array.dtype.kind in "iu"
        if array.ndim != 3 and not is_tokens:
            return None
        first, second, last = (*array.shape, 0)[:3]
        layout = self._feed_for([(second, last), (last, second), (first, last)], is_tokens).layout
        return layout if len(layout) == array.ndim else None  # the other kind of input: running it will say so

    def _feed_for(self, sizes: Sequence[tuple[int, int]], is_tokens: bool) -> Feed:
        if self._feed is None:
            found = self._try_out(sizes, is_tokens)
            if found is None:  # it runs on nothing that was tried: running the data itself will say why
                return Feed(self.engine, self._layout or ("NT" if is_tokens else self._layout_of_a_head(sizes) or "NTC"))
            self._feed = found[0]
        return self._feed

    def _layout_of_a_head(self, sizes: Sequence[tuple[int, int]]) -> str | None:
        """The layout in which a head of `seqscope.nn` is what refuses the model's own features, with words that help."""
        trial = next(trials_for(self.engine, sizes, is_tokens=False))
        for layout in (name for name in layouts.SERIES_LAYOUTS if name in self.engine.layouts):
            try:
                Feed(self.engine, layout).forward(trial.batch())
            except ModelError as error:
                if isinstance(error.__cause__, ModelError):  # else the framework's own
                    return layout
        return None

    def _try_out(self, sizes: Sequence[tuple[int, int]], is_tokens: bool | None) -> tuple[Feed, Trial] | None:
        """Try the kind of input that the data is (or the first layer seems to take), then the other kind."""
        hints = self.engine.input_hints
        likely = is_tokens if is_tokens is not None else bool(hints and hints[0].is_tokens)
        trials = itertools.chain.from_iterable(trials_for(self.engine, sizes, kind) for kind in (likely, not likely))
        self._refuse_contradiction(sizes, likely)
        return find_feed(self.engine, trials, self._layout)

    def _refuse_contradiction(self, sizes: Sequence[tuple[int, int]], is_tokens: bool) -> None:
        """Refuse a layout that was said and is not the model's: at the sizes that its layers take, it runs in another one alone.

        Raises
        ------
        ModelError
        """
        widths = {hint.size for hint in self.engine.input_hints if hint.is_tokens == is_tokens}
        tried = trials_for(self.engine, sizes, is_tokens)
        trials = [trial for trial in tried if trial.width in widths and trial.n_steps not in widths]
        if self._layout is None or not trials or find_feed(self.engine, trials, self._layout) is not None:
            return
        found = find_feed(self.engine, trials[:1], None)
        if found is not None:
            raise ModelError(
                f"layout={self._layout!r} was said, and the model takes {layouts.in_words(found[0].layout)}: say that, or nothing. "
                f"(An array in another order goes in as Sequences(X, layout={self._layout!r}).)"
            )

    def show(self, sequences: Sequences) -> None:
        """Remember some data that the model runs on, the first that there is, for the table of layers."""
        if self is not self.free:
            self.free.show(sequences)
        elif self._example is None:
            self._example = next(sequences.batches(N_TRIED)).values.copy()
            self._table = None  # one made from noise can now show real lengths

    # What its values are

    def readings(self, feed: Feed, sequences: Sequences, wanted: Sequence[str]) -> Readings:
        """The axes of the wanted layers' values; of the model's output where `OUTPUT_VALUE` is wanted."""
        if self is not self.free:
            return self.free.readings(_free(feed), sequences, wanted)
        known = {layer_of(address) for address in self._readings}
        fresh = [name for name in wanted if name not in known]
        found = read_axes(feed, next(sequences.batches(N_TRIED)).values, fresh) if fresh else {}
        if found:  # a new dict: another thread may be going through the old one; what this data does not reach, other data may
            self._readings = {**self._readings, **{address: reading for address, reading in found.items() if not _never_ran(reading)}}
        return {address: reading for address, reading in {**self._readings, **found}.items() if layer_of(address) in wanted}

    def place_steps(
        self, feed: Feed, sequences: Sequences, readings: Mapping[str, Reading], found: Mapping[str, Collected]
    ) -> dict[str, dict[int, Field] | None]:
        """Say of values whether they are on the input's clock; and what the steps of those see that are not (see `receptive`)."""
        return place_steps(self._fields_for(feed, sequences), sequences.lengths, readings, found)

    def on_input_clock(self, feed: Feed, sequences: Sequences, readings: Mapping[str, Reading]) -> dict[str, bool]:
        """Say of values that have as many steps as the input whether those are where the input has them."""
        return self._fields_for(feed, sequences).on_input_clock(int(sequences.lengths.max()), readings)

    def _fields_for(self, feed: Feed, sequences: Sequences) -> Fields:
        """What the layers were found to see so far, on such input."""
        if self is not self.free:
            return self.free._fields_for(_free(feed), sequences)
        key = (feed.layout, sequences.n_channels)
        if key not in self._fields:
            self._fields[key] = Fields(feed, sequences.n_channels)
        return self._fields[key]

    def field_at(self, feed: Feed, sequences: Sequences, n_steps: int, name: str, reading: Reading) -> Field | None:
        """What the steps of a layer see of an input of one length; None where that can't be known."""
        return self._fields_for(feed, sequences).at(n_steps, {name: reading})[name]

    def footprint(self, feed: Feed, sequences: Sequences) -> tuple[float, float]:
        """Bytes of the largest value that a layer gives, and of all together, for each step of the input."""
        return self.once(("footprint", feed.layout, sequences.n_channels), lambda: self._weighed(feed, few_rows(sequences)))

    def _weighed(self, feed: Feed, few: np.ndarray) -> tuple[float, float]:
        seen = feed.forward(few, [layer.name for layer in self.engine.layers])
        sizes = [sum(call.nbytes for call in calls) for calls in seen.captured.values()] + [seen.output.nbytes, few.nbytes]
        n_steps = few.shape[0] * few.shape[1]
        return max(sizes) / n_steps, sum(sizes) / n_steps

    def once(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """Something about the model that does not change, found out when it is first asked for."""
        if key not in self._once:
            self._once[key] = make()
        made: _Made = self._once[key]
        return made

    # What is said of its values

    def label_output(self, feed: Feed, found: Collected, sequences: Sequences, names: Sequence[Hashable] | None) -> xr.DataArray:
        """Label what the model put out: (sample, output), (sample, output_time, output).

        Parameters
        ----------
        names : sequence or None
            What the outputs are called, where the person said it.
        """
        n_tensors = feed.forward(few_rows(sequences)).n_outputs
        said = {"tensor": f"the first of {n_tensors} that the model gives"} if n_tensors > 1 else {}
        return labelled.output_result(
            found.values,
            found.dims,
            names=names,
            names_of_data=sequences.outputs,
            on_input_clock=found.on_input_clock,
            samples=sequences.sample_axis,
            clock=sequences.clock,
            attrs=self.attrs("predict") | said,
        )

    def label_layer(self, address: str, found: Collected, sequences: Sequences, fields: Mapping[int, Field] | None) -> xr.DataArray:
        """Label what a layer put out: (sample, time, unit), or what its axes are."""
        layer = self.engine.by_name[layer_of(address)]
        return labelled.layer_result(
            found.values,
            found.dims,
            name=labelled.ACTIVATIONS,
            on_input_clock=found.on_input_clock,
            directions=layer.directions,
            samples=sequences.sample_axis,
            clock=sequences.clock,
            attrs=self.attrs("activations") | {"layer": address, "kind": layer.kind, "layer_type": layer.type},
            fields=fields,
        )

    # What it is made of

    def layers(self) -> Layers:
        """The table of layers in execution order, from real data if there was any, else from noise."""
        if self is not self.free:
            return self.free.layers()
        if self._table is None:
            self._table = self._trace()
        return self._table

    def some_data(self) -> tuple[Sequences, Feed] | None:
        """The example, else seeded noise that the model runs on; None where nothing that was tried does."""
        if self is not self.free:
            data = self.free.some_data()
            return None if data is None else (data[0], self._feed_holding(data[1]))
        if self._example is not None:
            return self.take_in(Sequences(self._example))
        found = self._try_out((), None)
        return None if found is None else (Sequences(found[1].batch()), found[0])

    def _trace(self) -> Layers:
        real = self._example is not None or any(hint.n_steps for hint in self.engine.input_hints)
        data = self.some_data()
        if data is None:
            return Layers(self.engine.layers, input=self._input(None, None), model=self.engine.model_name, note=_NOT_RUN)
        sequences, feed = data
        names = [layer.name for layer in self.engine.layers]
        readings = self.readings(feed, sequences, names)
        one = next(sequences.batches(1)).values
        captured = feed.forward(one, names).captured
        readable = {name: reading for name, reading in readings.items() if name in names and isinstance(reading, Reading)}
        fields = self._fields_for(feed, sequences).in_short(one.shape[1], readable)
        place = {name: place for place, name in enumerate(dict.fromkeys(layer_of(address) for address in captured))}
        rows = [
            _measured(layer, readings, captured, fields.get(layer.name), n_steps=one.shape[1], real=real) for layer in self.engine.layers
        ]
        rows.sort(key=lambda layer: place.get(layer.name, len(place)))
        return Layers(rows, input=self._input(feed, one if real else None), model=self.engine.model_name)

    def _input(self, feed: Feed | None, one: np.ndarray | None) -> ModelInput:
        """The first row of the table: what the model takes."""
        hints = self.engine.input_hints
        width = one.shape[2] if one is not None and one.ndim == 3 else feed.width if feed else hints[0].size if hints else None
        is_tokens = feed.layout in layouts.TOKEN_LAYOUTS if feed else bool(hints and hints[0].is_tokens)
        kind = f"tokens, {width} different ones" if is_tokens else f"sequence input with {width} dimensions"
        dims = () if one is None else (labelled.TIME, labelled.CHANNEL)[: one.ndim - 1]
        sizes = () if one is None else one.shape[1:]
        shape = " x ".join(f"{dim} {size}" for dim, size in zip(dims, sizes, strict=True))
        return ModelInput(kind if width else "sequence input", feed.layout if feed else self._layout, shape)


def _free(feed: Feed) -> Feed:
    """The feed with nothing held, to find out about layers with."""
    return replace(feed, held=NOTHING_HELD, rows_in_order={}, bears_padding={})


def _never_ran(reading: Reading | LayerError | None) -> bool:
    """Whether a layer was not seen because this data does not reach it."""
    return isinstance(reading, LayerError) and reading.message.startswith(NEVER_RAN.partition(" (")[0])


def _measured(
    layer: Layer,
    readings: Readings,
    captured: Mapping[str, list[np.ndarray]],
    field: Field | None,
    *,
    n_steps: int,
    real: bool,
) -> Layer:
    """A layer with what one sample of the example gave; the number of steps is left open where the example is noise."""
    calls = captured.get(layer.name) or next((value for key, value in captured.items() if layer_of(key) == layer.name), None)
    reading = readings.get(layer.name)
    if calls is None:  # what can't be seen for another reason may have run
        return layer if isinstance(reading, LayerError) and not _never_ran(reading) else replace(layer, calls=0)
    if not isinstance(reading, Reading):
        return replace(layer, calls=len(calls))
    value = reading.apply(calls, 1)
    sizes = dict(zip(reading.order, value.shape, strict=True))
    del sizes[labelled.SAMPLE]
    on_clock = sizes.get(labelled.TIME) == n_steps and (field is None or field.on_input_clock)
    clock = labelled.TIME if on_clock else labelled.STEP
    if field is not None:
        layer = replace(layer, field=field.seen, stride=field.stride)
    shape = tuple(None if dim == labelled.TIME and not real else size for dim, size in sizes.items())
    return replace(layer, calls=len(calls), dims=tuple(clock if dim == labelled.TIME else dim for dim in sizes), shape=shape)
