"""What `seqscope demo` does: the report on the shipped network, its pictures as files too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqscope import datasets, plot, zoo
from seqscope.errors import OutputExistsError, quoted
from seqscope.labelled import TIME, UNIT
from seqscope.layers import Layers
from seqscope.report import Section, drawn, write_page
from seqscope.report.parts import hidden
from seqscope.report.subject import Asked, Subject
from seqscope.report.verb import PARTS, had_or_told
from seqscope.scope import Scope

PICTURES = ("layers.png", "observation.png", "hidden_units.png", "heatmap.png", "explained.png", "prototypes.png", "units.png")
PAGE = "report.html"

_OPEN = """import seqscope as sq
scope = sq.Scope(sq.zoo.japanese_vowels({framework!r}))
X, y = sq.datasets.japanese_vowels("test")
"""
_METHODS = ("integrated_gradients", "occlusion", "grad_cam")


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
    X, _ = datasets.japanese_vowels("test")
    made_from = (
        f"Network: seqscope.zoo.japanese_vowels({framework!r}), weights shipped with the package. Data: Japanese Vowels, test set (Kudo, "
        "Toyama and Shimbo 1999, UCI Machine Learning Repository, CC BY 4.0)."
    )
    asked = Asked(["lstm"], [0], _METHODS, opening=_OPEN.format(framework=framework), made_from=made_from)
    subject = Subject(scope, X, asked)
    folder.mkdir(parents=True, exist_ok=True)
    sections = list(_sections(subject))
    for section in sections:
        if section.name and section.picture is not None:
            (folder / f"{section.name}.png").write_bytes(section.picture.png)
    write_page(
        files[-1],
        title="What an LSTM does with a spoken vowel",
        lead="A recurrent network with 100 hidden units tells nine speakers apart by how they utter two Japanese vowels. Here is one "
        "utterance on its way through it, at every time step.",
        sections=sections,
        made_from=made_from,
    )
    return Demo(scope.layers, files)


def _sections(subject: Subject) -> Iterator[Section]:
    """The report from top to bottom, with a closer look at the first units in it."""
    for title, part in PARTS.items():
        yield from had_or_told(title, part, subject)
        if part is hidden:
            yield _first_units(subject)


def _first_units(subject: Subject) -> Section:
    found: Any = subject.scope.activations(subject.X[0], "lstm")
    return Section(
        "The first ten hidden units",
        f"The same numbers from nearer: a row for each unit at {found.sizes[TIME]} steps, red above zero, blue below.",
        subject.opening
        + 'hidden = scope.activations(X[0], "lstm")\nsq.plot.heatmap(hidden.isel(unit=slice(10)), title="LSTM Activations")',
        picture=drawn(
            plot.heatmap(found.isel({UNIT: slice(10)}), title="LSTM Activations"), "A heatmap of the first ten hidden units over time"
        ),
        name="heatmap",
    )
