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

from seqscope import datasets, plot, zoo
from seqscope.errors import OutputExistsError, quoted
from seqscope.layers import HEADINGS, Layers
from seqscope.report import Picture, Section, Table, write_page
from seqscope.scope import Scope

PICTURES = ("layers.png", "observation.png", "hidden_units.png", "heatmap.png", "explained.png")
PAGE = "report.html"

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


def _drawn(ax: Axes, text: str) -> Picture:
    """The whole figure that a panel is in as a picture; the figure is closed after."""
    figure: Any = ax.get_figure(root=True)
    try:
        return Picture.of(figure, text)
    finally:
        plt.close(figure)
