"""Where else in the data set the units of a stretch are on together, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope import units
from seqscope.errors import SeqscopeError
from seqscope.explorer import words
from seqscope.explorer.figures.clock import Clock
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source
from seqscope.explorer.stretches import Stretch, searched
from seqscope.explorer.views.sample.channels import is_text, texts_of
from seqscope.judged import PREDICTION
from seqscope.labelled import CHANNEL, LABEL, RANK, SAMPLE, TIME, UNIT, WINDOW

# The places that are listed, those that are drawn, the steps of the input around each, and the most steps of one.
K, DRAWN, AROUND, LONGEST = 20, 6, 4, 300


@dataclass(frozen=True, eq=False)
class Places:
    """The input of the stretch that is looked for and of the best places, aligned where the units go on.

    Attributes
    ----------
    windows : Dataset
        `input` (window, time, channel), `activation` (window, time): the mean of the units; NaN where there is none. `time` counts from
        the first step of each place.
    lengths : int array (window,)
        The steps of each place, in the input's.
    titles : list of str
    texts : list of lists of str, or None
        Of each window what stands at the steps that are there; None where the input is no text.
    """

    windows: xr.Dataset
    lengths: np.ndarray
    titles: list[str]
    texts: list[list[str]] | None

    @property
    def nbytes(self) -> int:
        """What it takes of the memory."""
        return int(self.windows.nbytes)


@dataclass(frozen=True, eq=False)
class Found:
    """What was looked for and found.

    Attributes
    ----------
    values : DataArray
        Of the sample that is looked at.
    query : Stretch
    result : Dataset or None
        What `units.match` gives; None where it can't say.
    unknown : str
        Why it can't.
    units : int array (unit,)
        The positions of the units that are looked for.
    table : DataFrame
        A row for each place.
    stretches : list of Stretch
        Of the rows.
    places : Places or None
    """

    input: xr.DataArray | None
    values: xr.DataArray
    query: Stretch
    result: xr.Dataset | None
    unknown: str
    units: np.ndarray
    table: pd.DataFrame
    stretches: list[Stretch]
    places: Places | None


def key_of(chosen: Chosen) -> tuple[Any, ...]:
    """What a search is kept under."""
    return "match", chosen.layer, chosen.state, str(searched(chosen)), chosen.threshold


def find_matches(source: Source, chosen: Chosen) -> Found:
    """Search the whole data set, once for all who look; why that can't be is part of what is found."""
    values, shown, query = source.values(chosen.layer, chosen.state, chosen.sample), source.input(chosen.sample), searched(chosen)
    nothing = Found(shown, values, query, None, "", np.zeros(0, int), pd.DataFrame(columns=columns(source)), [], None)
    if not query.is_there:
        return nothing
    try:
        result = source.once(key_of(chosen), lambda: _search(source, chosen, query))
    except SeqscopeError as error:
        return replace(nothing, unknown=error.message)
    labels = list(source.layer(chosen.layer).units_of(chosen.state))
    selected = np.array([labels.index(unit) for unit in result.coords[UNIT].values.tolist()], int)
    rows = {name: row for row, name in enumerate(source.sample_ids.tolist())}
    told = zip(*(result[name].values.tolist() for name in (SAMPLE, "start", "stop")), strict=True)
    stretches = [Stretch(rows[name], start, stop) for name, start, stop in told]
    places = source.once((*key_of(chosen), "places"), lambda: _places(source, chosen, query, stretches, selected, result))
    return Found(shown, values, query, result, "", selected, _table(source, result, stretches), stretches, places)


def _search(source: Source, chosen: Chosen, query: Stretch) -> xr.Dataset:
    name = source.sample_ids[query.sample]
    return units.match(source.whole(chosen.layer, chosen.state), name, query.start, query.stop, chosen.threshold, k=K)


def columns(source: Source) -> list[str]:
    """What is told of each place."""
    told = [name for name in (LABEL, PREDICTION) if name in source.samples]
    return [RANK, SAMPLE, *told, "start", "stop", "length", "score", "others"]


def _table(source: Source, result: xr.Dataset, stretches: list[Stretch]) -> pd.DataFrame:
    samples = source.samples.iloc[[stretch.sample for stretch in stretches]]
    found = {name: result[name].values for name in ("start", "stop", "length", "score", "others")}
    known = {name: samples[name].to_numpy() for name in (SAMPLE, LABEL, PREDICTION) if name in samples}
    return pd.DataFrame({RANK: np.arange(1, len(stretches) + 1)} | known | found)[columns(source)]


# What is drawn of the best places


def _places(
    source: Source, chosen: Chosen, query: Stretch, stretches: list[Stretch], selected: np.ndarray, result: xr.Dataset
) -> Places | None:
    """The stretch itself and the best places; None where one of them can't be read."""
    drawn = [query, *stretches[:DRAWN]]
    try:
        cut = [_cut(source, chosen, stretch, selected) for stretch in drawn]
    except SeqscopeError:
        return None
    texts = [texts_of(source, stretch.sample) for stretch in drawn] if source.X is not None and is_text(source) else None
    longest = min(LONGEST, max(stop - start for _, _, start, stop in cut))
    offsets = np.arange(-AROUND, longest + AROUND)
    channels = cut[0][0].shape[1]
    inputs, means = np.full((len(cut), len(offsets), channels), np.nan), np.full((len(cut), len(offsets)), np.nan)
    letters: list[list[str]] = []
    for place, (values, mean, start, _) in enumerate(cut):
        steps = start + offsets
        there = (steps >= 0) & (steps < len(values))
        inputs[place, there], means[place, there] = values[steps[there]], mean[steps[there]]
        letters.append([] if texts is None else [texts[place][step] for step in steps[there]])
    windows = xr.Dataset(
        {"input": ((WINDOW, TIME, CHANNEL), inputs), "activation": ((WINDOW, TIME), means)},
        {TIME: offsets, CHANNEL: _names(source, query.sample, channels)},
    )
    lengths = np.array([min(longest, stop - start) for _, _, start, stop in cut])
    return Places(windows, lengths, _titles(source, query, stretches, result), None if texts is None else letters)


def _names(source: Source, sample: int, number: int) -> list[str]:
    """Of the channels that are drawn: of a text none is."""
    shown = source.input(sample)
    named = [] if shown is None or CHANNEL not in shown.dims else [str(name) for name in shown.coords[CHANNEL].values]
    return named if len(named) == number else [""] * number


def _cut(source: Source, chosen: Chosen, stretch: Stretch, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The input of a sample (step, channel), the mean of the units at each of its steps, and where the stretch lies among these.

    Where there is no input, or it has no channels, the mean stands for it.
    """
    values, shown = source.values(chosen.layer, chosen.state, stretch.sample), source.input(stretch.sample)
    mean, own = np.asarray(values.isel({UNIT: selected}).mean(UNIT).values, float), Clock(values)
    if shown is None:
        return mean[:, None], mean, stretch.start, stretch.stop
    clock = Clock(shown)
    along = mean[np.clip(np.searchsorted(own.edges, clock.at, side="right") - 1, 0, len(mean) - 1)]
    inside = clock.steps_between(own.edges[stretch.start], own.edges[min(stretch.stop, len(own.at))])
    start, stop = inside.start, max(inside.stop, inside.start + 1)
    is_drawn = CHANNEL in shown.dims and not is_text(source)
    return (np.asarray(shown.transpose(TIME, CHANNEL).values, float) if is_drawn else along[:, None]), along, start, stop


def _titles(source: Source, query: Stretch, stretches: list[Stretch], result: xr.Dataset) -> list[str]:
    def said(stretch: Stretch) -> str:
        row = source.samples.iloc[stretch.sample]
        label = f" ({words.said(row[LABEL])})" if LABEL in row else ""
        last = stretch.stop - 1
        return (
            words.short(f"sample {row[SAMPLE]}{label}", words.TITLE)
            + "\n"
            + (f"step {last}" if last == stretch.start else f"{stretch.start} to {last}")
        )

    scores = result["score"].values.tolist()
    best = [f"{rank}: {said(stretch)}, {scores[rank - 1]:.2f}" for rank, stretch in enumerate(stretches[:DRAWN], 1)]
    return [said(query) + ", brushed", *best]
