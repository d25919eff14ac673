"""What `seqscope demo` does: open the shipped network, look at one utterance at every time step, write the pictures and the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqscope import datasets, plot, units, zoo
from seqscope.errors import OutputExistsError, quoted
from seqscope.layers import HEADINGS, Layers
from seqscope.report import Picture, Section, Table, write_page
from seqscope.report.units import class_table
from seqscope.scope import Scope
from seqscope.sequences import Sequences

PICTURES = ("layers.png", "observation.png", "hidden_units.png", "heatmap.png", "explained.png", "prototypes.png", "units.png")
PAGE = "report.html"

# A short ascent: each class is reached by it, and all nine take a few seconds.
_ASCENT: dict[str, Any] = {"restarts": 2, "steps": 80, "rate": 0.1}

_OPEN = """import seqscope as sq
scope = sq.Scope(sq.zoo.japanese_vowels({framework!r}))
X, y = sq.datasets.japanese_vowels("test")
"""


@dataclass(frozen=True)
class Demo:
    """What the demo found and where it wrote it."""

    layers: Layers
    files: tuple[Path, ...]


def run(folder: Path, *, framework: str = "torch", force: bool = False) -> Demo:
    """Make the pictures and the page.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    framework : {"torch", "keras"}
        What the network is made of.
    force : bool
        Whether to write over files of an earlier run.

    Raises
    ------
    OutputExistsError
        One of the files is there already.
    """
    files = tuple(folder / name for name in (*PICTURES, PAGE))
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        raise OutputExistsError(f"{quoted(there)} exist: say --force to write over them, or name another folder with --out.")
    scope = Scope(zoo.japanese_vowels(framework))
    folder.mkdir(parents=True, exist_ok=True)
    sections = list(_sections(scope, _OPEN.format(framework=framework)))
    pictures = [section.picture for section in sections if section.picture is not None]
    for file, picture in zip(files, pictures, strict=False):
        file.write_bytes(picture.png)
    write_page(
        files[-1],
        title="What an LSTM does with a spoken vowel",
        lead="A recurrent network with 100 hidden units tells nine speakers apart by how they utter two Japanese vowels. Here is one "
        "utterance on its way through it, at every time step.",
        sections=sections,
        made_from=f"Network: seqscope.zoo.japanese_vowels({framework!r}), weights shipped with the package. Data: Japanese Vowels, test "
        "set (Kudo, Toyama and Shimbo 1999, UCI Machine Learning Repository, CC BY 4.0).",
    )
    return Demo(scope.layers, files)


def _sections(scope: Scope, opening: str) -> Iterator[Section]:
    """The page from top to bottom; every picture is drawn once, for the page and for its own file."""
    X, y = datasets.japanese_vowels("test")
    hidden: Any = scope.activations(X[0], "lstm")
    probability = scope.predict(X)
    yield _layers_section(scope, opening)
    yield Section(
        "The input",
        f"The first test sequence: {X[0].sizes['time']} steps of 12 cepstrum coefficients, uttered by speaker {y[0]}.",
        opening + 'sq.plot.series(X[0], title="Test Observation 1")',
        picture=_drawn(plot.series(X[0], title="Test Observation 1"), "Twelve lines over time, one for each feature"),
    )
    panels = plot.activations(X[0], hidden, sort="cluster", title="Input and LSTM output, Test Observation 1")
    yield Section(
        "The LSTM's output at each time step",
        f"{hidden.sizes['unit']} hidden units at each of {hidden.sizes['time']} steps, under the input that drives them. "
        "Units are sorted so that neighbours do alike.",
        opening + 'hidden = scope.activations(X[0], "lstm")  # (time, unit)\nsq.plot.activations(X[0], hidden, sort="cluster")',
        picture=_drawn(panels["input"], "The input above a heatmap of all hidden units over time"),
    )
    first = plot.heatmap(hidden.isel(unit=slice(10)), title="LSTM Activations")
    yield Section(
        "The first ten hidden units",
        "The same numbers from nearer: a row for each unit, red above zero, blue below.",
        opening + 'hidden = scope.activations(X[0], "lstm")\nsq.plot.heatmap(hidden.isel(unit=slice(10)), title="LSTM Activations")',
        picture=_drawn(first, "A heatmap of the first ten hidden units over time"),
    )
    yield _prediction_section(probability, y, opening)
    yield _explained_section(scope, X[0], opening)
    yield _prototypes_section(scope, X, opening)
    yield _units_section(scope, X, y, opening)


def _layers_section(scope: Scope, opening: str) -> Section:
    table = scope.layers
    return Section(
        "The layers",
        "What the network is made of, in the order in which a sequence goes through it.",
        opening + "scope.layers\nsq.plot.layers(scope.layers)",
        table=Table(HEADINGS, table.rows(), table.caption, frozenset({0, HEADINGS.index("Parameters")})),
        picture=_drawn(plot.layers(table), "Parameters of each layer as bars"),
    )


def _prediction_section(probability: xr.DataArray, y: np.ndarray, opening: str) -> Section:
    right = probability.idxmax("output").values == y
    best = probability[0].sortby(probability[0], ascending=False)[:3]
    rows = [(str(name), f"{100 * float(value):.1f} %") for name, value in zip(best.output.values, best.values, strict=True)]
    return Section(
        "What it decides",
        f"Of the {len(y)} test utterances {int(right.sum())} are given to the right speaker ({100 * right.mean():.1f} %). "
        "For the utterance above, the three most probable speakers are:",
        opening + 'probability = scope.predict(X)  # (sample, output)\n(probability.idxmax("output") == y).mean()',
        table=Table(("Speaker", "Probability"), rows, numeric=frozenset({1})),
    )


def _explained_section(scope: Scope, x: xr.DataArray, opening: str) -> Section:
    """The utterance above, explained by three methods."""
    options: dict[str, dict[str, Any]] = {"integrated_gradients": {}, "occlusion": {"window": 5}, "grad_cam": {}}
    found = {method.replace("_", " "): scope.attribute(x, method, **given) for method, given in options.items()}
    panels = plot.compare_attributions(x, found)
    return Section(
        "What the decision rests on",
        "The same utterance by three methods, each of which has another question about the logit of speaker "
        f"{found['occlusion'].target.item()}. Integrated gradients add up how it answers on the way from zero to the utterance, occlusion "
        "hides five steps of one channel at a time, grad-CAM weighs what the LSTM holds at each step: it has no channels and grows while "
        "the evidence gathers. So they need not agree, and one picture alone is no proof.",
        opening + 'found = {"integrated gradients": scope.attribute(X[0], "integrated_gradients"),\n'
        '         "occlusion": scope.attribute(X[0], "occlusion", window=5),\n'
        '         "grad cam": scope.attribute(X[0], "grad_cam")}\n'
        "sq.plot.compare_attributions(X[0], found)",
        picture=_drawn(next(iter(panels.values())), "The utterance three times, its values shaded by what each method says"),
    )


def _prototypes_section(scope: Scope, X: Sequences, opening: str) -> Section:
    """What each class asks for, of two restarts the one that lies nearer to the data."""
    found = {name: scope.maximize(place, like=X, n_real=1, progress=False, **_ASCENT) for place, name in enumerate(X.outputs or ())}
    kept = {name: made.isel(restart=int(made["distance"].argmin("restart"))) for name, made in found.items()}
    least = min(made["probability"].item() for made in kept.values())
    near, far = (end(made["distance"].item() for made in kept.values()) for end in (min, max))
    figure = plt.figure(figsize=(12.0, 13.5), layout="constrained")
    for part, (name, made) in zip(figure.subfigures(3, 3, squeeze=False).flat, kept.items(), strict=True):
        panels = plot.prototype(made, reals=1, figure=part, title=f"Speaker {name}")
        panels["made"].set_title(f"Made: {_sure(made)}, distance {made['distance'].item():.1f}", fontsize="small")
        panels["real 0"].set_title(f"Real: sample {made['real_sample'].item(0)}", fontsize="small")
    said = ", ".join(f"{name}={value}" for name, value in _ASCENT.items())
    return Section(
        "What each of the nine classes asks for",
        "For each speaker an utterance that was made, by gradient ascent, so that the network is surest of that speaker, beside the real "
        f"test utterance of which it is surest. The network gives each that was made a probability of {100 * least:.1f} % or more. How far "
        "it lies from the nearest real utterance is its distance: 1 is what is usual between real ones, and these lie at "
        f"{near:.1f} to {far:.1f}. What was made is smoother than speech: changes cost, and it need hold no more than convinces the net.",
        opening + f'found = scope.maximize("1", like=X, {said})\nsq.plot.prototype(found)',
        picture=_drawn(figure, "For each of nine speakers the utterance that was made beside a real one, a lane for each feature"),
    )


def _sure(made: xr.Dataset) -> str:
    """The probability; what is less than 1 is not called so."""
    probability = 100 * made["probability"].item()
    return f"{probability:.1f} %" if probability < 99.95 else "> 99.9 %"


def _units_section(scope: Scope, X: Sequences, y: np.ndarray, opening: str) -> Section:
    """What each hidden unit does over the test set."""
    hidden: Any = scope.activations(X, "lstm")
    states: Any = scope.states(X, "lstm")
    report = units.summary(hidden, y, X, states)
    return Section(
        "What each hidden unit does",
        f"Over all {len(X)} test utterances, a row for each of the {report.sizes['unit']} units: where its values lie, how often it is "
        "near an end, how many steps pass until half of its cell is forgotten, the feature that it follows most closely, and how well it "
        "tells each speaker from all others (red: higher for that speaker, blue: lower). Below, how often its gates are shut and open. The "
        "table names the unit that tells each speaker best, by the area under the ROC curve: 1 and 0 tell without a mistake, 0.5 tells "
        "nothing.",
        opening + 'hidden = scope.activations(X, "lstm")\nreport = sq.units.summary(hidden, y, X, scope.states(X, "lstm"))\n'
        "sq.plot.units(report)",
        table=class_table(report),
        picture=_drawn(plot.units(report)["range"], "A row for each hidden unit, from its range to the speakers that it tells"),
    )


def _drawn(drawn: Axes | Figure, text: str) -> Picture:
    """A figure, or the whole one that a panel is in, as a picture; the figure is closed after."""
    figure: Any = drawn.get_figure(root=True)
    try:
        return Picture.of(figure, text)
    finally:
        plt.close(figure)
