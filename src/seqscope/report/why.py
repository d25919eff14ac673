"""The parts of a report that say why: two attributions side by side, what a class asks for, the mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from seqscope import plot
from seqscope.attribution.agreement import agreement
from seqscope.errors import UnsupportedError
from seqscope.judged import PREDICTION
from seqscope.labelled import CHANNEL, OUTPUT, OUTPUT_TIME, TIME
from seqscope.report import Section, Table
from seqscope.report.parts import drawn
from seqscope.report.subject import Subject

# Samples over which two methods are compared; classes whose prototypes are made; mistakes that are explained.
_COMPARED, _CLASSES, _MISTAKES = 12, 9, 2
# A short ascent: classes are reached by it, and nine take a few seconds.
ASCENT: dict[str, Any] = {"restarts": 2, "steps": 80, "rate": 0.1}


def attributions(subject: Subject) -> Iterator[Section]:
    """One decision by two methods, and how far they agree over several."""
    row = subject.samples[0]
    first, second = _two(subject)
    found = {method: subject.attributed(row, method) for method in (first, second)}
    agreed = agreement(*found.values())
    yield Section(
        "What the decision rests on",
        f"{subject.named(row).capitalize()} ({subject.said(row)}) by two methods that ask in different ways: {_asks(first)}; {_asks(second)}. "
        "Each is shown in shares of its own largest value. "
        + ("Their ranks can't be compared here." if agreed is None else f"Rank correlation (Spearman): {agreed}.")
        + " Where they disagree, neither picture alone is a proof.",
        subject.opening + _compared_code(subject, row, first, second),
        picture=drawn(_side_by_side(subject.X[row], found), "The sequence twice, shaded by what each method says"),
        name="explained",
    )
    yield _agreement_table(subject, first, second)


def _two(subject: Subject) -> tuple[str, str]:
    if len(subject.methods) < 2:
        raise UnsupportedError(f"two methods are compared, and this model can do {len(subject.methods)} of those that suit")
    return subject.methods[0], subject.methods[1]


_ASKS = {
    "integrated_gradients": "integrated gradients add up how the score answers on the way from the baseline to the sequence",
    "occlusion": "occlusion hides a few steps of one channel at a time and looks how far the score falls",
    "feature_ablation": "feature ablation replaces one part of the input at a time",
}


def _asks(method: str) -> str:
    return _ASKS.get(method, method.replace("_", " "))


def _compared_code(subject: Subject, row: int, first: str, second: str) -> str:
    target = "" if subject.asked.target is None else f", target={subject.asked.target!r}"
    return (
        f"found = {{name: scope.attribute(X[{row}], name{target}, seed={subject.asked.seed}) for name in ({first!r}, {second!r})}}\n"
        f"sq.plot.compare_attributions(X[{row}], found)"
    )


def _side_by_side(x: xr.DataArray, found: dict[str, Any]) -> Any:
    titled = {name.replace("_", " "): one for name, one in found.items()}
    style = "heatmap" if CHANNEL in x.dims and x.sizes[CHANNEL] > 24 else None
    return next(iter(plot.compare_attributions(x, titled, style=style).values()))


def _agreement_table(subject: Subject, first: str, second: str) -> Section:
    """How far the two agree over samples spread over the data."""
    rows = np.unique(np.linspace(0, len(subject.X) - 1, min(_COMPARED, len(subject.X))).round().astype(int)).tolist()
    agreed = {row: agreement(subject.attributed(row, first), subject.attributed(row, second)) for row in rows}
    values = [one.value for one in agreed.values() if one is not None]
    said = "no pair could be compared" if not values else f"the median is {np.median(values):.2f}, from {min(values):.2f} to {max(values):.2f}"
    return Section(
        "How far the two methods agree",
        f"The rank correlation of {first.replace('_', ' ')} and {second.replace('_', ' ')} in {len(rows)} samples spread over the data: {said}. "
        "1: the same order of what counts; 0: none in common.",
        subject.opening + "from seqscope.attribution.agreement import agreement\n"
        f"agreement(scope.attribute(X[0], {first!r}), scope.attribute(X[0], {second!r}))",
        table=Table(
            ("Sample", "What the model says", "Rank correlation"),
            [(str(subject.table["sample"].iloc[row]), subject.said(row), "" if one is None else f"{one.value:.2f}") for row, one in agreed.items()],
            numeric=frozenset({2}),
        ),
    )


def prototypes(subject: Subject) -> Iterator[Section]:
    """What each class asks for: a made sequence beside the real one that comes nearest to it."""
    if OUTPUT_TIME in subject.predictions.dims:
        raise UnsupportedError("outputs have steps, so there is no one score to raise for each")
    names = subject.predictions.coords[OUTPUT].values.tolist()
    shown = list(enumerate(names))[:_CLASSES]
    made = {name: _nearest(subject.scope.maximize(place, like=subject.part, n_real=1, seed=subject.asked.seed, progress=False, **ASCENT)) for place, name in shown}
    said = ", ".join(f"{name}={value}" for name, value in ASCENT.items())
    least = [one["probability"].item() for one in made.values() if "probability" in one]
    near, far = (end(one["distance"].item() for one in made.values()) for end in (min, max))
    yield Section(
        "What each class asks for" if len(names) > 1 else "What raises the score",
        "For each output a sequence that was made, by gradient ascent, so that the score is high, beside the real one that scores highest. "
        + (f"The network gives those that were made a probability of {100 * min(least):.1f} % or more. " if least else "")
        + f"Their distance from the nearest real sequence is {near:.1f} to {far:.1f} times what is usual between real ones. What was made need "
        "hold no more than convinces the network."
        + (f" The first {_CLASSES} of {len(names)} outputs." if len(names) > _CLASSES else ""),
        subject.opening + f"found = scope.maximize(0, like=X, {said})\nsq.plot.prototype(found)",
        picture=drawn(_grid(made), "For each class the sequence that was made beside a real one, a lane for each channel"),
        name="prototypes",
    )


def _nearest(found: xr.Dataset) -> xr.Dataset:
    """Of the restarts the one that lies nearest to the data."""
    return found.isel(restart=int(found["distance"].argmin("restart")))


def _grid(made: dict[Any, xr.Dataset]) -> Any:
    columns = min(3, len(made))
    rows = -(-len(made) // columns)
    figure = plt.figure(figsize=(4.0 * columns, 4.5 * rows), layout="constrained")
    for part, (name, one) in zip(figure.subfigures(rows, columns, squeeze=False).flat, made.items(), strict=False):
        panels = plot.prototype(one, reals=1, figure=part, title=f"{name}")
        panels["made"].set_title(f"Made: {_sure(one)}distance {one['distance'].item():.1f}", fontsize="small")
        if "real 0" in panels:
            panels["real 0"].set_title(f"Real: sample {one['real_sample'].item(0)}", fontsize="small")
    return figure


def _sure(made: xr.Dataset) -> str:
    """The probability; what is less than 1 is not called so."""
    if "probability" not in made:
        return ""
    probability = 100 * made["probability"].item()
    return f"{probability:.1f} %, " if probability < 99.95 else "> 99.9 %, "


def mistakes(subject: Subject) -> Iterator[Section]:
    """What the model gets wrong, and what these decisions rest on."""
    if not subject.is_classified:
        raise UnsupportedError("which sequences it is wrong about can't be told, since the data has no labels that name outputs")
    if not subject.wrong:
        yield Section("The mistakes", f"There are none among {len(subject.X):,} sequences.", "")
        return
    yield Section(
        "The mistakes",
        f"{len(subject.wrong):,} of {len(subject.X):,} sequences are given to a wrong class; a row for each pair of classes, the most frequent first.",
        subject.opening + 'predicted = scope.predict(X).idxmax("output")\nwrong = predicted != X.labels',
        table=_confused(subject),
    )
    for row in subject.wrong[:_MISTAKES]:
        yield _mistake(subject, row)


def _confused(subject: Subject) -> Table:
    wrong = subject.table.iloc[subject.wrong]
    counts = wrong.groupby(["label", PREDICTION], sort=True).size().sort_values(ascending=False, kind="stable")
    rows = [(str(label), str(predicted), f"{number:,}") for (label, predicted), number in list(counts.items())[:12]]
    return Table(("It is", "The model says", "Sequences"), rows, "The first 12 pairs." if len(counts) > 12 else "", frozenset({2}))


def _mistake(subject: Subject, row: int) -> Section:
    """A mistake explained: what speaks for what it said, and what for what it is."""
    method = subject.methods[0]
    names = [str(name) for name in subject.predictions.coords[OUTPUT].values]
    said, is_ = str(subject.table[PREDICTION].iloc[row]), str(subject.table["label"].iloc[row])
    places = {f"for {said} (what it said)": names.index(said), f"for {is_} (what it is)": names.index(is_)}
    found = {name: subject.attributed(row, method, target=place) for name, place in places.items()}
    return Section(
        f"A mistake: {subject.named(row)}, taken for {said} and labelled {is_}",
        f"By {method.replace('_', ' ')}: what speaks for the answer that the model gave (score {subject.table['score'].iloc[row]:.3g}), and what "
        "for the right one, on one scale.",
        subject.opening + f"found = {{name: scope.attribute(X[{row}], {method!r}, target=name, seed={subject.asked.seed}) "
        f"for name in {tuple(places.values())}}}\nsq.plot.compare_attributions(X[{row}], found, normalize=False)",
        picture=drawn(
            next(iter(plot.compare_attributions(subject.X[row], found, normalize=False, title="").values())),
            "The sequence twice, shaded by what speaks for the wrong class and for the right one",
        ),
    )


def has_time(x: xr.DataArray) -> bool:
    """Whether it is a series of numbers."""
    return x.dims == (TIME, CHANNEL)
