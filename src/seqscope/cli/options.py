"""The arguments and options that commands share; those of MODEL are in `model`, those of what is written in `writing`."""

from __future__ import annotations

from typing import Annotated

import typer

from seqscope.cli import completing
from seqscope.cli.writing import ForceOption

__all__ = [
    "DATA_HELP",
    "DataArgument",
    "ForceOption",
    "FrameworkOption",
    "LayerOption",
    "OneLayerOption",
    "SampleAloneOption",
    "SampleOption",
    "SeedOption",
    "StateOption",
    "TargetOption",
    "as_target",
]

DATA_HELP = (
    "A data set (japanese_vowels, japanese_vowels:train), or a file: .npz, .npy, .csv, .parquet, .mat, .ts, .nc, .zarr, .wav; of one that "
    "holds several arrays all.mat:XTest. '-' is standard input: CSV, or a file of NumPy, MATLAB or Parquet."
)

DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False, autocompletion=completing.data)]
LayerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="A layer's name or a glob, as often as there are layers to name; default: all layers.",
        autocompletion=completing.layers,
    ),
]
OneLayerOption = Annotated[
    str | None,
    typer.Option("--layer", metavar="NAME", help="A layer's name; default: the only recurrent one.", autocompletion=completing.layers),
]
SampleOption = Annotated[
    int | None,
    typer.Option("--sample", metavar="N", min=0, help="Only this sample, counted from 0; default: all. A picture shows the first of them."),
]
SampleAloneOption = Annotated[
    int | None, typer.Option("--sample", metavar="N", min=0, help="Only this sample, counted from 0; default: all.")
]
StateOption = Annotated[
    str | None,
    typer.Option("--state", metavar="NAME", help="Of a recurrent layer: h, c or a gate; default: what the layer puts out."),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", metavar="K", help="An output's position, counted from 0, or its name if that is no number."),
]
FrameworkOption = Annotated[
    str,
    typer.Option(
        "--framework", help="What a network of the zoo is made of: torch or keras.", autocompletion=completing.one_of("torch", "keras")
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="What chance begins with.")]


def as_target(text: str | None) -> int | str | None:
    """The output that a person names: a whole number is a position."""
    return text if text is None or not text.removeprefix("-").isdigit() else int(text)
