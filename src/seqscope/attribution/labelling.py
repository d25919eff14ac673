"""From what was found to a labelled result."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seqscope import labelled
from seqscope.attribution.asked import Asked
from seqscope.attribution.cam import spreading
from seqscope.attribution.found import Found
from seqscope.attribution.task import Task
from seqscope.collect import Collected
from seqscope.errors import DataError, UnsupportedError
from seqscope.labelled import CHANNEL, OUTPUT_TIME, SAMPLE, TIME
from seqscope.receptive import Field

Result = xr.DataArray | xr.Dataset

# What the figures of each sequence are called in full.
_CALLED = {"gap": "Completeness gap, as a share of the score's change", "target": "Target", "predicted": "Predicted output"}


@dataclass(frozen=True)
class Labelling:
    """Labels what was found.

    Parameters
    ----------
    task : Task
    """

    task: Task

    def result(self, found: Found) -> Result:
        """The attribution, with what is known of each sequence."""
        task, kept = self.task, found.kept
        if kept is None:
            raise DataError("There is no sequence to explain.")
        samples, clock = task.sequences.sample_axis, task.sequences.clock
        coords, attrs = self._coords(found), self._attrs(found)
        if task.place.layer is None:
            coords |= self._channels() | self._output_steps(kept)
            return labelled.result(kept.values, kept.dims, name="attribution", samples=samples, clock=clock, coords=coords, attrs=attrs)
        fields = self._fields(kept)
        if task.is_map:
            maps = kept.values if kept.on_input_clock else self._on_input_clock(kept, fields)
            return labelled.map_result(
                kept.values,
                maps,
                kept.on_input_clock,
                long_name=task.asked.method.long_name,
                fields=fields,
                samples=samples,
                clock=clock,
                coords=coords,
                attrs=attrs,
            )
        layer = task.feed.engine.by_name.get(task.place.layer)
        made = labelled.layer_result(
            kept.values,
            kept.dims,
            name="attribution",
            on_input_clock=kept.on_input_clock,
            directions=1 if layer is None else layer.directions,
            samples=samples,
            clock=clock,
            attrs=attrs,
            fields=fields,
        )
        return made.assign_coords(coords)

    def _channels(self) -> dict[str, Any]:
        """The channels' names; tokens have none."""
        names = self.task.sequences.channels
        return {} if names is None else {CHANNEL: xr.Variable(CHANNEL, list(names), {"long_name": labelled.LONG_NAMES[CHANNEL]})}

    def _output_steps(self, kept: Collected) -> dict[str, Any]:
        """The time of the output's steps, where there are as many as the input has."""
        sequences = self.task.sequences
        longest = int(sequences.lengths.max())
        if OUTPUT_TIME not in kept.dims or kept.values.shape[kept.dims.index(OUTPUT_TIME)] != longest:
            return {}
        steps = labelled.clock_coords(sequences.clock, longest, single=sequences.single)[TIME]
        return {OUTPUT_TIME: xr.Variable(OUTPUT_TIME, steps.values, steps.attrs)}

    def _fields(self, kept: Collected) -> Mapping[int, Field] | None:
        """What the layer's steps see, where it has a clock of its own."""
        task = self.task
        name, reading = task.place.steps, task.place.reading
        if reading is None or TIME not in kept.dims:
            return None
        return task.specimen.place_steps(task.feed, task.sequences, {name: reading}, {name: kept}).get(name)

    def _on_input_clock(self, kept: Collected, fields: Mapping[int, Field] | None) -> np.ndarray:
        """Maps brought to the input's clock by what each step sees."""
        if fields is None:
            raise UnsupportedError(
                f"What the steps of '{self.task.place.layer}' see of the input can't be known, so that its map has no place there: name "
                "another layer."
            )
        lengths = self.task.sequences.lengths
        maps = np.full((len(lengths), int(lengths.max())), np.nan, kept.values.dtype)
        for length in np.unique(lengths):
            rows, field = np.flatnonzero(lengths == length), fields[int(length)]
            maps[rows, :length] = kept.values[rows, : len(field.start)] @ spreading(field, int(length))
        return maps

    def _coords(self, found: Found) -> dict[str, Any]:
        """Figures of each sequence."""
        outputs = self.task.scoring.outputs
        figures: dict[str, np.ndarray] = dict(found.figures)
        if outputs is not None and "target" in figures:
            names = np.array([outputs.name(position) for position in range(outputs.size)])
            figures["target"] = _named(figures["target"], names)
            if found.logits is not None and outputs.size > 1:
                figures["predicted"] = names[found.logits.argmax(1)]
        coords = {}
        called = _CALLED | {"score": f"Score ({self.task.scoring.kind})"}
        for name, values in figures.items():
            variable = xr.Variable((SAMPLE, OUTPUT_TIME)[: values.ndim], values, {"long_name": called.get(name, name)})
            coords[name] = variable.isel({SAMPLE: 0}) if self.task.sequences.single else variable
        return coords

    def _attrs(self, found: Found) -> dict[str, Any]:
        """What a reader needs to cite the array."""
        task, method = self.task, self.task.asked.method
        said = [f"{part.name}={_in_words(getattr(method, part.name))}" for part in dataclasses.fields(method)]  # type: ignore[arg-type]
        outputs, layer = task.scoring.outputs, task.feed.engine.by_name.get(str(task.place.layer))
        return task.specimen.attrs(method.name) | {
            "target": task.scoring.text if method.has_target else None,
            "score": task.scoring.kind if method.has_target else None,
            "looked_through": outputs.through or None if outputs is not None and method.has_target else None,
            "baseline": task.baselines.text if method.uses_baseline else None,
            "signed": bool(method.signed),
            "options": ", ".join(said) or None,
            "layer": task.place.layer,
            "kind": None if layer is None else layer.kind,
            "layer_type": None if layer is None else layer.type,
            "seed": task.asked.seed,
            **found.said,
        }


def _in_words(option: Any) -> str:
    """An option's value, shortened where it is a large one."""
    if isinstance(option, np.generic):
        option = option.item()
    shape = getattr(option, "shape", None)
    return f"an array of shape {tuple(shape)}" if shape is not None else textwrap.shorten(repr(option), 200)


def _named(positions: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Outputs by name; "" where a sequence's output has ended."""
    there = ~np.isnan(positions)
    named = names[np.where(there, positions, 0).astype(int)]
    return named if there.all() else np.where(there, named.astype(str), "")


def reduced(result: Result, asked: Asked) -> Result:
    """Sizes in place of values, and sums over channels or time; said in the attributes.

    Raises
    ------
    DataError
        There is nothing to sum over.
    """
    if not isinstance(result, xr.DataArray) or not (asked.absolute or asked.over):
        return result
    made, said = result, dict(result.attrs)
    if asked.absolute:
        made, said = abs(made), said | {"abs": 1, "signed": 0}
    if asked.over is not None:
        dims = {"channel": (CHANNEL, labelled.UNIT), "time": (TIME, labelled.STEP)}[asked.over]
        here = [dim for dim in dims if dim in made.dims]
        if not here:
            raise DataError(
                f"reduce is {asked.over!r}, and there is nothing to sum over: the attribution has {', '.join(map(str, made.dims))}."
            )
        made, said = made.sum(here[0], min_count=1), said | {"reduce": f"sum over {asked.over}"}
    return made.assign_attrs(said)
