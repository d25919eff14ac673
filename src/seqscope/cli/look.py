"""The commands that say what a model does over a data set: activations, states."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
import xarray as xr

from seqscope import files
from seqscope.cli import tables, voice
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, LayerOption, SampleOption
from seqscope.cli.pictures import drawn, one_layer
from seqscope.cli.reading import code_of, made_from, read_sequences
from seqscope.cli.writing import Made, Wanted, drawing, gives, paging, print_table
from seqscope.files.result_tables import check_is_one
from seqscope.sequences import Sequences

if TYPE_CHECKING:
    from seqscope.report import Section, Table


@takes_model
@gives
def activations(
    model: ModelGiven,
    data: DataArgument,
    wanted: Wanted,
    layer: LayerOption = None,
    sample: SampleOption = None,
    unit: Annotated[
        list[int] | None,
        typer.Option(
            "--unit", metavar="N", help="A unit to draw as a line, as often as there are units to name; default: all, as colours."
        ),
    ] = None,
) -> None:
    """What layers put out at every time step.

    Several layers, or a glob of them, go into one .nc, .zarr, .npz or .mat file; a table and a picture hold one.
    """
    _look(_Asked("activations", model, data, layer, sample, unit, wanted))


@takes_model
@gives
def states(
    model: ModelGiven,
    data: DataArgument,
    wanted: Wanted,
    layer: LayerOption = None,
    sample: SampleOption = None,
    unit: Annotated[
        list[int] | None,
        typer.Option("--unit", metavar="N", help="A unit to draw, as often as there are units to name; default: the first 3."),
    ] = None,
) -> None:
    """The hidden states, memory cells and gates of recurrent layers at every time step.

    A table has a row for each sample and time and a column for each state and unit, such as c_17.

    Several layers, a glob of them, or a stack go into one .nc, .zarr, .npz or .mat file; a table and a picture hold one.

    Without --layer: all recurrent layers.
    """
    _look(_Asked("states", model, data, layer, sample, unit, wanted))


@dataclass(frozen=True)
class _Asked:
    """What was typed, for either command: the verb of the scope, which has the same name as what draws it, and what it is given."""

    verb: str
    model: ModelGiven
    data: str
    layers: list[str] | None
    sample: int | None
    units: list[int] | None
    wanted: Wanted

    @property
    def layer(self) -> str | list[str] | None:
        """What the verb takes: one name as it is."""
        return self.layers[0] if self.layers and len(self.layers) == 1 else self.layers or None

    @property
    def shown(self) -> int:
        """The sample that a picture shows."""
        return self.sample or 0

    @property
    def code(self) -> str:
        """The Python that makes the result."""
        layer = "" if self.layer is None else f", {self.layer!r}"
        lines = ["import seqscope as sq", "from seqscope import files", f"scope = {self.model.code}", code_of(self.data, self.sample)]
        return "\n".join([*lines, f"found = scope.{self.verb}(X{layer})"])

    def code_of_picture(self, result: files.Result) -> str:
        """The Python that draws it."""
        node = f"[{next(iter(result.children))!r}]" if isinstance(result, xr.DataTree) else ""
        node += ".activations" if node and self.verb == "activations" else ""
        units = f", unit={self.units}" if self.units else ""
        return f"sq.plot.{self.verb}(X[0], found{node}.isel(sample=0){units})"


def _look(asked: _Asked) -> None:
    """Run the verb, and give what it finds."""
    if asked.units and not asked.wanted.is_drawn:
        raise typer.BadParameter("--unit chooses what a picture shows: say where to draw with --plot FILE")
    scope = asked.model.scope()
    sequences = read_sequences(scope, asked.data, asked.sample)
    verb: Callable[..., files.Result] = getattr(scope, asked.verb)
    if len(sequences) > 1 and (asked.wanted.is_drawn or asked.wanted.is_tabled):
        _check_is_one(verb(sequences[[0]], asked.layer, progress=False), asked.wanted)
    result = verb(sequences, asked.layer, progress=asked.wanted.progress)

    @functools.cache  # for a picture and for a page
    def draw() -> Any:
        return drawn(sequences[0], result, asked.shown, asked.units)

    asked.wanted.deliver(
        Made(
            result,
            what=_sizes(result),
            drawn=f"Sample {asked.shown}",
            show=lambda: _show(tables.ranges(result), f"{asked.verb.capitalize()} over {sequences.describe()}"),
            picture=drawing(draw),
            page=paging(
                f"{asked.verb.capitalize()} of {asked.model.name}",
                f"What {_names(result)} of {asked.model.name} did at every step of {sequences.describe()}.",
                lambda: _sections(asked, result, draw, sequences),
                made_from(asked.model.name, asked.data, sequences),
            ),
        )
    )


def _check_is_one(of_first: files.Result, wanted: Wanted) -> None:
    """Refuse several layers before the work, where one is shown: what is seen of the first sequence tells how many there are."""
    if wanted.is_drawn:
        one_layer(of_first)
    if wanted.is_tabled:
        check_is_one(of_first)


def _show(table: Table, title: str) -> None:
    print_table(table, title)
    voice.show(tables.HOW)


def _sections(asked: _Asked, result: files.Result, draw: Callable[[], Any], sequences: Sequences) -> list[Section]:
    from seqscope.report import Picture, Section

    name = one_layer(result).attrs["layer"]
    figure = draw()
    return [
        Section("All of it", f"Over {sequences.describe()}, padding left out.", asked.code, table=tables.ranges(result)),
        Section(
            f"Sample {asked.shown}",
            f"The input above, what the layer '{name}' does below, on one time axis.",
            asked.code_of_picture(result),
            picture=Picture.of(figure, f"The input of sample {asked.shown} above the {asked.verb} of the layer '{name}'"),
        ),
    ]


def _names(result: files.Result) -> str:
    return f"{len(result.children)} layers" if isinstance(result, xr.DataTree) else f"the layer '{result.attrs['layer']}'"


def _sizes(result: files.Result) -> str:
    if isinstance(result, xr.DataTree):
        return f"{len(result.children)} layer{'s' if len(result.children) > 1 else ''}"
    return f"{result.attrs['layer']} ({tables.sizes_of(result)})"
