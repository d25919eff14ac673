"""The parts of a report that show what is there: the model, the samples, the layers' states, attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from seqscope import plot
from seqscope.errors import SeqscopeError, UnsupportedError
from seqscope.judged import PREDICTION, SCORE
from seqscope.labelled import CHANNEL, DIRECTION, SAMPLE, TIME, UNIT
from seqscope.layers import HEADINGS
from seqscope.report import Section, Table, drawn
from seqscope.report.subject import Subject

# Sequences with more channels than this are drawn as a heatmap.
_MOST_LINES = 60
# Rows of a table at most.
_ROWS = 12


def layers(subject: Subject) -> Iterator[Section]:
    """What the model is made of."""
    table = subject.scope.layers
    yield Section(
        "The layers",
        'What the network is made of, in the order in which a sequence goes through it. "Sees" says how much of the input one step of a '
        "layer depends on.",
        subject.opening + "scope.layers\nsq.plot.layers(scope.layers)",
        table=Table(HEADINGS, table.rows(), table.caption, frozenset({0, HEADINGS.index("Parameters")})),
        picture=drawn(plot.layers(table), "Parameters of each layer as bars"),
        name="layers",
    )


def samples(subject: Subject) -> Iterator[Section]:
    """Some samples, and what the model says to them."""
    first = subject.samples[0]
    x = subject.X[first]
    yield Section(
        "The data",
        f"{subject.X.describe()}. Below, {subject.named(first)}: {x.sizes[TIME]} steps.",
        subject.opening + f"sq.plot.series(X[{first}])",
        picture=drawn(_input_drawn(x, f"{subject.named(first).capitalize()}"), "The input of one sample over time"),
        name="observation",
    )
    yield Section(
        "What it decides",
        accuracy_said(subject) + _chosen_said(subject),
        subject.opening + "predictions = scope.predict(X)",
        table=_samples_table(subject),
    )


def accuracy_said(subject: Subject) -> str:
    """How often the model is right, in a sentence; nothing where that can't be told."""
    if not subject.is_classified:
        return ""
    right, number = len(subject.X) - len(subject.wrong), len(subject.X)
    return f"Of {number:,} sequences {right:,} are given to the right class ({100 * right / number:.1f} %). "


def _chosen_said(subject: Subject) -> str:
    if subject.asked.samples is not None:
        return "The samples that were asked for:"
    return "A typical sample, the one that the model is least sure of, and, where there is one, the mistake that it is surest of:"


def _samples_table(subject: Subject) -> Table:
    shown = subject.table.iloc[subject.samples]
    names = {SAMPLE: "Sample", "label": "Label", PREDICTION: "Predicted", SCORE: "Score", "length": "Steps", "wrong": "Right"}
    columns = [name for name in names if name in shown]
    rows = [tuple(_cell(name, value) for name, value in zip(columns, row, strict=True)) for row in shown[columns].itertuples(index=False)]
    return Table(
        [names[name] for name in columns], rows, numeric=frozenset(columns.index(name) for name in (SCORE, "length") if name in columns)
    )


def _cell(name: str, value: Any) -> str:
    if name == "wrong":
        return "no" if value else "yes"
    return f"{value:.3f}" if name == SCORE else str(value)


def _input_drawn(x: xr.DataArray, title: str) -> Axes:
    if CHANNEL in x.dims and x.sizes[CHANNEL] > _MOST_LINES:
        return plot.heatmap(x.rename({CHANNEL: UNIT}), title=title)
    return plot.series(x, title=title)


def hidden(subject: Subject) -> Iterator[Section]:
    """What the units of the layers do in one sample, and the gates of recurrent ones."""
    if not subject.layers:
        raise UnsupportedError("no layer of the model has units with a value at each step")
    row = subject.samples[0]
    for layer in subject.layers:
        yield from _layer(subject, layer, row)


def _layer(subject: Subject, layer: str, row: int) -> Iterator[Section]:
    values: Any = subject.scope.activations(subject.X[row], layer)
    if not isinstance(values, xr.DataArray) or UNIT not in values.dims or values.ndim != 2:
        raise UnsupportedError(f"'{layer}' has no units with a value at each step")
    x = subject.X[row]
    several = CHANNEL in x.dims and x.sizes[CHANNEL] <= _MOST_LINES
    code = f"sq.plot.activations(X[{row}], hidden, sort='cluster')" if several else "sq.plot.heatmap(hidden, sort='cluster')"
    panels = plot.activations(x, values, sort="cluster")["input"] if several else plot.heatmap(values, sort="cluster")
    yield Section(
        f"What '{layer}' puts out at each step",
        f"{values.sizes[UNIT]} units at each of {values.shape[0]} steps of {subject.named(row)}. Units are sorted so that neighbours do "
        "alike.",
        subject.opening + f"hidden = scope.activations(X[{row}], {layer!r})  # ({', '.join(map(str, values.dims))})\n" + code,
        picture=drawn(panels, "A heatmap of all units over time, below the input that drives them"),
        name="hidden_units" if layer == subject.layers[0] else "",
    )
    yield from _gates(subject, layer, row)


def _gates(subject: Subject, layer: str, row: int) -> Iterator[Section]:
    if subject.X[row].dims != (TIME, CHANNEL):
        return
    try:
        found: Any = subject.scope.states(subject.X[row], layer)
    except SeqscopeError:
        return  # it is not recurrent
    one = found if isinstance(found, xr.Dataset) else next(iter(found.children.values())).to_dataset()
    way = "" if DIRECTION not in one.dims else str(one.coords[DIRECTION].values[0])
    shown = one.sel({DIRECTION: way}) if way else one
    moving = int(np.nanargmax(shown["h"].std(TIME).values)) if UNIT in shown["h"].dims else 0
    unit = shown.coords[UNIT].values[moving].item() if UNIT in shown.coords else moving
    name = one.attrs.get("layer", layer)
    said = f".sel(direction={way!r})" if way else ""
    yield Section(
        f"Gates and memory of '{name}'",
        f"The unit that moves most in {subject.named(row)}, {unit}{', ' + way if way else ''}: what its gates let through and what it "
        "holds.",
        subject.opening + f"states = scope.states(X[{row}], {name!r}){said}\nsq.plot.states(X[{row}], states, unit={unit!r})",
        picture=drawn(plot.states(subject.X[row], shown, unit=unit)["input"], "Gates, cell state and hidden state of one unit over time"),
    )


def attention(subject: Subject) -> Iterator[Section]:
    """Attention weights of one sample, where the model has them."""
    row = subject.samples[0]
    try:
        found: Any = subject.scope.attention(subject.X[row])
    except SeqscopeError:
        return
    one = found if isinstance(found, xr.DataArray) else next(iter(next(iter(found.children.values())).to_dataset().data_vars.values()))
    layer = str(one.attrs.get("layer", ""))
    panels: Any = plot.attention(one)
    yield Section(
        f"Attention weights of '{layer}'",
        f"Which step attends to which in {subject.named(row)}. Weights are not importance: what they weigh is already mixed.",
        subject.opening + f"sq.plot.attention(scope.attention(X[{row}], {layer!r}))",
        picture=drawn(panels, "Attention weights, a row for each query"),
    )
