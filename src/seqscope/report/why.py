"""The parts of a report that say why: two attributions side by side, what a class asks for, the mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from seqscope import plot
from seqscope.attribution.agreement import Agreement, agreement
from seqscope.errors import SeqscopeError, UnsupportedError
from seqscope.judged import PREDICTION
from seqscope.labelled import CHANNEL, OUTPUT, OUTPUT_TIME
from seqscope.report import Section, Table, drawn
from seqscope.report.subject import MOST_LANES, Subject

# Samples over which two methods are compared; classes whose prototypes are made; mistakes that are explained.
_COMPARED, _CLASSES, _MISTAKES = 12, 9, 2
# Pairs of classes that are listed.
_PAIRS = 12
# A short ascent: classes are reached by it, and nine take a few seconds.
ASCENT: dict[str, Any] = {"restarts": 2, "steps": 80, "rate": 0.1}


def attributions(subject: Subject) -> Iterator[Section]:
    """One decision by two methods or more, and how far they agree over several."""
    if len(subject.methods) < 2:
        raise UnsupportedError(f"two methods are compared, and this model can do {len(subject.methods)} of those that suit")
    row = subject.samples[0]
    found, failed = _by_each(subject, row)
    methods = tuple(found)
    yield Section(
        "What the decision rests on",
        f"{subject.named(row).capitalize()} ({subject.said(row)}) by methods that ask in different ways: {'; '.join(map(_asks, methods))}. "
        f"Each is shown in shares of its own largest value. {_agreed(found)}Where they disagree, no "
        "picture alone is a proof." + "".join(f" {_words(name).capitalize()} is left out: {why}" for name, why in failed.items()),
        subject.opening + _compared_code(subject, row, methods),
        picture=drawn(_side_by_side(subject.X[row], found), "The sequence several times, shaded by what each method says"),
        name="explained",
    )
    if len(methods) > 1:
        yield _agreement_table(subject, methods)


def _by_each(subject: Subject, row: int) -> tuple[dict[str, Any], dict[str, str]]:
    """A sample by each method, and why those fail that do; where all do, the first reason is the part's.

    Raises
    ------
    SeqscopeError
    """
    found, failed = {}, {}
    for method in subject.methods:
        try:
            found[method] = subject.attributed(row, method)
        except SeqscopeError as error:
            if method == subject.methods[-1] and not found:
                raise
            failed[method] = error.message
    return found, failed


_ASKS = {
    "integrated_gradients": "integrated gradients add up how the score answers on the way from the baseline to the sequence",
    "occlusion": "occlusion hides a few steps of one channel at a time and looks how far the score falls",
    "feature_ablation": "feature ablation replaces one part of the input at a time",
    "grad_cam": "grad-CAM weighs what a layer holds at each step, and has no channels",
}


def _asks(method: str) -> str:
    return _ASKS.get(method, _words(method))


def _words(method: str) -> str:
    return method.replace("_", " ")


def _pair(first: str, second: str) -> str:
    return f"{_words(first)} and {_words(second)}"


def _agreed(found: dict[str, Any]) -> str:
    """Each pair of methods, and how far they agree, in words."""
    pairs = {_pair(*names): agreement(*(found[name] for name in names)) for names in combinations(found, 2)}
    said = "; of ".join(f"{names}: {'not to be told' if one is None else one}" for names, one in pairs.items())
    return f"Rank correlation (Spearman) of {said}. " if said else ""


def _compared_code(subject: Subject, row: int, methods: tuple[str, ...]) -> str:
    asked = "".join(f"    {name!r}: {_call(subject, row, name)},\n" for name in methods)
    return f"found = {{\n{asked}}}\nsq.plot.compare_attributions(X[{row}], found)"


def _call(subject: Subject, row: int, method: str) -> str:
    """The Python that attributes a sample by one method."""
    target = "" if subject.target(row)[0] is None else f", target={subject.target(row)[1]}"
    options = "".join(f", {name}={value!r}" for name, value in subject.options(method).items())
    return f"scope.attribute(X[{row}], {method!r}{target}, seed={subject.asked.seed}{options})"


def _side_by_side(x: xr.DataArray, found: dict[str, Any]) -> Any:
    titled = {_words(name): one for name, one in found.items()}
    style: Any = "heatmap" if CHANNEL in x.dims and x.sizes[CHANNEL] > MOST_LANES else None
    return next(iter(plot.compare_attributions(x, titled, style=style).values()))


def _agreement_table(subject: Subject, methods: tuple[str, ...]) -> Section:
    """How far the methods agree over samples spread over the data."""
    rows = np.unique(np.linspace(0, len(subject.X) - 1, min(_COMPARED, len(subject.X))).round().astype(int)).tolist()
    found = {row: {method: subject.attributed(row, method) for method in methods} for row in rows}
    pairs = list(combinations(methods, 2))
    agreed = {row: [agreement(found[row][first], found[row][second]) for first, second in pairs] for row in rows}
    said = "; of ".join(f"{_pair(*pair)} {_spread([agreed[row][place] for row in rows])}" for place, pair in enumerate(pairs))
    first, second = pairs[0]
    return Section(
        "How far the methods agree",
        f"Their rank correlation in {len(rows)} samples spread over the data: of {said}. 1: the same order of what counts; 0: none in "
        "common.",
        subject.opening + "from seqscope.attribution.agreement import agreement\n"
        f"agreement({_call(subject, 0, first)}, {_call(subject, 0, second)})",
        table=Table(
            ("Sample", "What the model says", *(_pair(*pair).capitalize() for pair in pairs)),
            [(str(subject.table["sample"].iloc[row]), subject.said(row), *map(_two_figures, agreed[row])) for row in rows],
            numeric=frozenset(range(2, 2 + len(pairs))),
        ),
    )


def _two_figures(agreed: Agreement | None) -> str:
    return "" if agreed is None else f"{agreed.value:.2f}"


def _spread(agreed: list[Agreement | None]) -> str:
    values = [one.value for one in agreed if one is not None]
    return f"{np.median(values):.2f} in the median, from {min(values):.2f} to {max(values):.2f}" if values else "not to be told"


def prototypes(subject: Subject) -> Iterator[Section]:
    """What each class asks for: a made sequence beside the real one that comes nearest to it."""
    if OUTPUT_TIME in subject.predictions.dims:
        raise UnsupportedError("outputs have steps, so there is no one score to raise for each")
    if (subject.X.n_channels or 0) > MOST_LANES:
        raise UnsupportedError(f"a picture of {subject.X.n_channels} channels would not be read: scope.maximize makes such sequences")
    names = subject.predictions.coords[OUTPUT].values.tolist()
    shown = list(enumerate(names))[:_CLASSES]
    made = {
        name: _nearest(subject.scope.maximize(place, like=subject.part, n_real=1, seed=subject.asked.seed, progress=False, **ASCENT))
        for place, name in shown
    }
    said = ", ".join(f"{name}={value}" for name, value in ASCENT.items())
    least = [one["probability"].item() for one in made.values() if "probability" in one]
    near, far = (end(one["distance"].item() for one in made.values()) for end in (min, max))
    yield Section(
        "What each class asks for" if len(names) > 1 else "What raises the score",
        "For each output a sequence that was made, by gradient ascent, so that the score is high, beside the real one that scores highest. "
        + (f"The network gives those that were made a probability of {100 * min(least):.1f} % or more. " if least else "")
        + f"Their distance from the nearest real sequence is {near:.1f} to {far:.1f} times what is usual between real ones. What was made "
        "need hold no more than convinces the network."
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
        f"{len(subject.wrong):,} of {len(subject.X):,} sequences are given to a wrong class; a row for each pair of classes, the most "
        "frequent first.",
        subject.opening + 'predicted = scope.predict(X).idxmax("output")\nwrong = predicted != X.labels',
        table=_confused(subject),
    )
    for row in subject.wrong[:_MISTAKES]:
        yield _mistake(subject, row)


def _confused(subject: Subject) -> Table:
    wrong = subject.table.iloc[subject.wrong]
    counts = Counter(zip(wrong["label"].astype(str), wrong[PREDICTION].astype(str), strict=True))
    rows = [(label, predicted, f"{number:,}") for (label, predicted), number in counts.most_common(_PAIRS)]
    caption = f"The first {_PAIRS} of {len(counts)} pairs." if len(counts) > _PAIRS else ""
    return Table(("It is", "The model says", "Sequences"), rows, caption, frozenset({2}))


def _mistake(subject: Subject, row: int) -> Section:
    """A mistake explained: what speaks for what it said, and what for what it is."""
    method = subject.methods[0]
    names = [str(name) for name in subject.predictions.coords[OUTPUT].values]
    said, is_ = str(subject.table[PREDICTION].iloc[row]), str(subject.table["label"].iloc[row])
    places = {"what it said": names.index(said), "what it is": names.index(is_)}
    found = {name: subject.attributed(row, method, target=place) for name, place in places.items()}
    return Section(
        f"A mistake: {subject.named(row)}, taken for {said} and labelled {is_}",
        f"By {_words(method)}: what speaks for the answer that the model gave (score {subject.table['score'].iloc[row]:.3g}), and what for "
        "the right one, on one scale.",
        subject.opening + f"found = {{name: scope.attribute(X[{row}], {method!r}, target=place, seed={subject.asked.seed}) "
        f"for name, place in {places}.items()}}\nsq.plot.compare_attributions(X[{row}], found, normalize=False)",
        picture=drawn(
            next(iter(plot.compare_attributions(subject.X[row], found, normalize=False, title="").values())),
            "The sequence twice, shaded by what speaks for the wrong class and for the right one",
        ),
    )
