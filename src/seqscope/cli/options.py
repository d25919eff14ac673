"""The arguments and options that commands share, those of MODEL aside (`model`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATA_HELP = (
    "A data set (japanese_vowels, japanese_vowels:train), or a file: .npz, .npy, .csv, .parquet, .mat, .ts, .nc, .zarr, .wav; of one that "
    "holds several arrays all.mat:XTest."
)

DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)]
LayerOption = Annotated[
    list[str] | None,
    typer.Option("--layer", metavar="NAME", help="A layer's name or a glob, as often as there are layers to name; default: all layers."),
]
SampleOption = Annotated[int, typer.Option("--sample", metavar="N", help="The sample to draw, counted from 0.")]
OutputOption = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write: .nc, .npz or .csv.")]
PlotOption = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Where to draw one sample: .png, .svg or .pdf.")]
FrameworkOption = Annotated[str, typer.Option("--framework", help="What a network of the zoo is made of: torch or keras.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over files that exist.")]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="What chance begins with.")]


def as_target(text: str | None) -> int | str | None:
    """The output that a person names: a whole number is a position."""
    return text if text is None or not text.removeprefix("-").isdigit() else int(text)
