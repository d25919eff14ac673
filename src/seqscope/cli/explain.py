"""The command that says what a decision rests on."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr

from seqscope import files
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, ForceOption, as_target
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.writing import PICTURES, RESULTS, check_files, say
from seqscope.errors import UnsupportedError
from seqscope.labelled import SAMPLE


@takes_model
def explain(
    model: ModelGiven,
    data: DataArgument,
    output: Annotated[
        list[Path],
        typer.Option(
            "-o", "--output", metavar="FILE", help="Where to write: .nc, .npz or .csv, or a picture, .png, .svg or .pdf. May be repeated."
        ),
    ],
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="integrated_gradients, saliency, grad_cam, occlusion, ...")
    ] = "integrated_gradients",
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="K",
            help="An output's position, counted from 0, or its name if that is no number; default: the predicted one.",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="N", help="The only sample to explain, counted from 0; default: all, and a picture of the first."),
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", metavar="NAME", help="The layer to explain at; default: the input.")] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="NAME", help="What to compare with: zero, mean, blur, noise, swap.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of the method, such as steps=20. May be repeated.")
    ] = None,
    style: Annotated[
        str | None, typer.Option("--style", metavar="NAME", help="How a picture shows it: lanes, overlay, heatmap or bars.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Say which values of the input a decision rests on."""
    pictures = [file for file in output if files.is_picture(file)]
    check_files(output, (*RESULTS, *PICTURES), force=force)
    scope = model.scope()
    sequences = scope.sequences(files.read_data(data))
    shown: Any = sequences[sample or 0]
    given = sequences if sample is None else sequences[[sample]]
    options = dict(_option(text) for text in option or [])
    found = scope.attribute(given, method, target=as_target(target), layer=layer, baseline=baseline, **options)
    one = found.isel({SAMPLE: 0}) if SAMPLE in found.dims else found
    drawn = [_draw(shown, one, style) for _ in pictures]  # a mistake here leaves no file behind
    for file in output:
        if file in pictures:
            drawn[pictures.index(file)].savefig(file, dpi=150)
        else:
            files.write_result(found, file, force=force)
        say(_said(found, file, file in pictures, sample or 0))


def _option(text: str) -> tuple[str, Any]:
    """An option of the method: a number or a list where it reads as one, else a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(f"'{text}' is no option: expected NAME=VALUE, such as steps=20")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _draw(shown: xr.DataArray, found: xr.DataArray | xr.Dataset, style: Any) -> Any:
    draw_without_screen()
    from seqscope import plot

    if isinstance(found, xr.DataArray) and "layer" in found.attrs:
        raise UnsupportedError("A picture shows an attribution on the input: leave --layer out, or write .nc, .npz or .csv.")
    return plot.attribution(shown, found, style=style).get_figure(root=True)


def _said(found: xr.DataArray | xr.Dataset, file: Path, is_picture: bool, sample: int) -> str:
    if is_picture:
        return f"Sample {sample} drawn in {file}"
    return f"{found.attrs['method']} ({', '.join(f'{dim} {size}' for dim, size in found.sizes.items())}) written to {file}"
