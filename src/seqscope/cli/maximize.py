"""The command that makes what a class, or a unit, asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr

from seqscope import files
from seqscope import target as targets
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DATA_HELP, ForceOption, SeedOption, as_target
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.writing import PICTURES, RESULTS, check_files, print_table, say


@takes_model
def maximize(
    model: ModelGiven,
    output: Annotated[
        list[Path],
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write: .nc or .npz (everything), .csv (the series), or a picture, .png, .svg or .pdf. May be repeated.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="K", help="An output's position, counted from 0, or its name if that is no number."),
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", metavar="NAME", help="In place of --target: the layer of a unit.")] = None,
    unit: Annotated[int | None, typer.Option("--unit", metavar="N", help="The unit of --layer, counted from 0, at the last step.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="NAME", help="Of a recurrent layer's unit: h, c or a gate; default: what it puts out.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="DATA", help=f"Real data, which the result is to be like. {DATA_HELP}"),
    ] = None,
    length: Annotated[int | None, typer.Option("--length", metavar="N", help="Steps; default: the median of --like.")] = None,
    restarts: Annotated[int, typer.Option("--restarts", metavar="N", help="Random beginnings.")] = 4,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Iterations at most.")] = 300,
    parameterisation: Annotated[
        str, typer.Option("--parameterisation", metavar="NAME", help="What is searched in: fourier, components or raw.")
    ] = "fourier",
    objective: Annotated[
        str | None,
        typer.Option("--objective", metavar="NAME", help="What is raised: logit or margin; default: the margin where outputs compete."),
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """Make the series that an output of the model, or a unit of a layer, is highest for."""
    check_files(output, (*RESULTS, *PICTURES), force=force)
    wanted = _wanted(target, layer, unit, state)
    scope = model.scope()
    found = scope.maximize(
        wanted,
        like=None if like is None else scope.sequences(files.read_data(like)),
        length=length,
        objective=objective,
        parameterisation=parameterisation,
        restarts=restarts,
        steps=steps,
        seed=seed,
    )
    figure = _drawn(found) if any(map(files.is_picture, output)) else None  # a mistake here leaves no file behind
    _show(found)
    for file in output:
        if figure is not None and files.is_picture(file):
            figure.savefig(file, dpi=150)
        else:
            files.write_result(found["input"] if file.suffix.lower() == ".csv" else found, file, force=force)
        say(f"{found['input'].attrs['long_name']} {'drawn in' if files.is_picture(file) else 'written to'} {file}")


def _wanted(target: str | None, layer: str | None, unit: int | None, state: str | None) -> Any:
    """The score that is to be high."""
    if (target is None) == (layer is None):
        raise typer.BadParameter("say what is to be high: --target K for an output, or --layer NAME with --unit N for a unit")
    if (layer is None) != (unit is None):
        raise typer.BadParameter("a unit is named by both its layer and its number: --layer NAME --unit N")
    if layer is None or unit is None:
        if state is not None:
            raise typer.BadParameter("--state is that of a unit: say --layer NAME --unit N")
        return as_target(target)
    return targets.unit(layer, unit, state=state)


def _drawn(found: xr.Dataset) -> Any:
    draw_without_screen()
    from seqscope import plot

    return plot.prototype(found, scores=True)["made"].get_figure(root=True)


def _show(found: xr.Dataset) -> None:
    """A row for each restart, what it came to in the end."""
    from seqscope.report import Table

    ends = found.isel(iteration=-1)
    columns: dict[str, Any] = {"Restart": [str(label) for label in found.coords["restart"].values]}
    for heading, name, form in _COLUMNS:
        if name in found:
            columns[heading.format(_kind(found).capitalize())] = [format(value, form) for value in ends[name].values.tolist()]
    columns["Reached"] = ["yes" if value else "no" for value in found["reached"].values]
    rows = list(zip(*columns.values(), strict=True))
    print_table(Table(list(columns), rows, _best_real(found), frozenset(range(len(columns) - 1))), found["input"].attrs["long_name"])


# Headings, variables and their forms; the score is called what it is.
_COLUMNS = (
    ("Probability", "probability", ".4f"),
    ("{}", "score", ".4g"),
    ("Margin", "margin", ".4g"),
    ("Distance", "distance", ".3g"),
    ("Diversity", "diversity", ".3g"),
)


def _kind(found: xr.Dataset) -> str:
    """What the score is called."""
    return str(found.attrs["score"]) if found.attrs["score"] in ("logit", "probability") else "score"


def _best_real(found: xr.Dataset) -> str:
    """What the best real sequence comes to, for comparison."""
    if "real_score" not in found or not found.sizes["rank"]:
        return ""
    best = found.isel(rank=0)
    margin = f", margin {best['real_margin'].item():.4g}" if "real_margin" in best else ""
    return (
        f"Best real sequence: sample {best['real_sample'].item()}, {_kind(found)} {best['real_score'].item():.4g}{margin}. "
        "A distance of 1 is that of a real sequence from the nearest other one."
    )
