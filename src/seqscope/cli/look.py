"""The commands that write what a model does over a data set: activations, states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import xarray as xr
from rich.console import Console

from seqscope import files
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import (
    DataArgument,
    ForceOption,
    LayerOption,
    OutputOption,
    PlotOption,
    SampleOption,
)
from seqscope.cli.pictures import drawn
from seqscope.sequences import Sequences

# What a verb of the scope gives for a data set and the layers that were named.
Verb = Callable[[Sequences, str | list[str] | None], files.Result]


@dataclass(frozen=True)
class Asked:
    """What to write where."""

    output: Path | None
    plot: Path | None
    sample: int
    units: list[int] | None
    force: bool

    def check(self) -> None:
        """Refuse what can't be done, before the work begins."""
        if self.output is None and self.plot is None:
            raise typer.BadParameter("say where to write: -o FILE, --plot FILE, or both")
        if self.units and self.plot is None:
            raise typer.BadParameter("--unit chooses what a picture shows: say where to draw with --plot FILE")
        if self.output is not None:
            files.writer_for(self.output)
            files.check_output(self.output, force=self.force)
        if self.plot is not None:
            files.check_picture(self.plot)
            files.check_output(self.plot, force=self.force)


@takes_model
def activations(
    model: ModelGiven,
    data: DataArgument,
    layer: LayerOption = None,
    output: OutputOption = None,
    plot: PlotOption = None,
    sample: SampleOption = 0,
    unit: Annotated[
        list[int] | None,
        typer.Option(
            "--unit", metavar="N", help="A unit to draw as a line, as often as there are units to name; default: all, as colours."
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write what layers put out at every time step. Several layers, or a glob of them, go into one .nc or .npz file."""
    asked = Asked(output, plot, sample, unit, force)
    asked.check()
    scope = model.scope()
    _look(scope.activations, scope.sequences(files.read_data(data)), layer, asked)


@takes_model
def states(
    model: ModelGiven,
    data: DataArgument,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="A recurrent layer's name or a glob, as often as there are layers to name; default: all recurrent layers.",
        ),
    ] = None,
    output: OutputOption = None,
    plot: PlotOption = None,
    sample: SampleOption = 0,
    unit: Annotated[
        list[int] | None,
        typer.Option("--unit", metavar="N", help="A unit to draw, as often as there are units to name; default: the first 3."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the hidden states, memory cells and gates of recurrent layers at every time step.

    A .csv file has a row for each sample and time and a column for each state and unit, such as c_17. Several layers, a glob of them, or
    a stack go into one .nc or .npz file.
    """
    asked = Asked(output, plot, sample, unit, force)
    asked.check()
    scope = model.scope()
    _look(scope.states, scope.sequences(files.read_data(data)), layer, asked)


def _look(verb: Verb, sequences: Sequences, layers: list[str] | None, asked: Asked) -> None:
    """Run a verb, then draw and write what it gives."""
    shown = sequences[asked.sample]
    result = verb(sequences, layers[0] if layers and len(layers) == 1 else layers or None)
    figure = None if asked.plot is None else drawn(shown, result, asked.sample, asked.units or None)  # a mistake here leaves no file behind
    if asked.output is not None:
        files.write_result(result, asked.output, force=asked.force)
        Console(stderr=True).print(f"{_sizes(result)} written to {asked.output}", soft_wrap=True, highlight=False)
    if asked.plot is not None and figure is not None:
        figure.savefig(asked.plot, dpi=150)
        Console(stderr=True).print(f"Sample {asked.sample} drawn in {asked.plot}", soft_wrap=True, highlight=False)


def _sizes(result: files.Result) -> str:
    if isinstance(result, xr.DataTree):
        return f"{len(result.children)} layer{'s' if len(result.children) > 1 else ''}"
    return f"{result.attrs['layer']} ({', '.join(f'{dim} {size}' for dim, size in result.sizes.items())})"
