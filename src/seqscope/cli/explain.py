"""The command that says what a decision rests on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
import xarray as xr

from seqscope.cli import completing, tables, voice
from seqscope.cli.given import as_code, as_options
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, SampleOption, TargetOption, as_target
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import code_of, made_from, read_sequences
from seqscope.cli.voice import print_table
from seqscope.cli.writing import Made, Wanted, drawing, gives, paging
from seqscope.errors import UnsupportedError
from seqscope.labelled import SAMPLE
from seqscope.sequences import Sequences

if TYPE_CHECKING:
    from seqscope.report import Section

_STYLES = ("lanes", "overlay", "heatmap", "bars")
_BASELINES = ("zero", "mean", "blur", "noise", "swap")


@takes_model
@gives
def explain(
    model: ModelGiven,
    data: DataArgument,
    wanted: Wanted,
    method: Annotated[
        str,
        typer.Option(
            "--method", metavar="NAME", help="integrated_gradients, saliency, grad_cam, occlusion, ...", autocompletion=completing.methods
        ),
    ] = "integrated_gradients",
    target: TargetOption = None,
    sample: SampleOption = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="The layer to explain at; default: the input.", autocompletion=completing.layers),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAME",
            help="What to compare with: zero, mean, blur, noise, swap.",
            autocompletion=completing.one_of(*_BASELINES),
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="An option of the method, such as steps=20. May be repeated.")
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            "--style",
            metavar="NAME",
            help="How a picture shows it: lanes, overlay, heatmap or bars.",
            autocompletion=completing.one_of(*_STYLES),
        ),
    ] = None,
) -> None:
    """Which values of the input a decision rests on. Without --target: that for the predicted output."""
    given = as_options(option, "steps=20")
    scope = model.scope()
    sequences = read_sequences(scope, data, sample)
    found = scope.attribute(sequences, method, target=as_target(target), layer=layer, baseline=baseline, progress=wanted.progress, **given)
    arguments = {"target": as_target(target), "layer": layer, "baseline": baseline} | given
    why = _Why(model, data, sample, method, arguments, style, sequences, found)
    wanted.deliver(
        Made(
            found,
            what=f"{found.attrs['method']} ({tables.sizes_of(found)})",
            drawn=f"Sample {sample or 0}",
            show=why.show,
            picture=drawing(lambda: why.figure),
            page=paging(
                f"What {model.name} rests its decisions on",
                f"By {method.replace('_', ' ')}, for {found.attrs['target']}, in units of the {found.attrs['score']}.",
                why.sections,
                made_from(model.name, data, sequences),
            ),
        )
    )


@dataclass(frozen=True)
class _Why:
    """What was asked and found."""

    model: ModelGiven
    data: str
    sample: int | None
    method: str
    arguments: dict[str, Any]
    style: Any
    sequences: Sequences
    found: xr.DataArray | xr.Dataset

    @functools.cached_property
    def figure(self) -> Any:
        """One sample, for a picture and for a page."""
        draw_without_screen()
        from seqscope import plot

        one = self.found.isel({SAMPLE: 0}) if SAMPLE in self.found.dims else self.found
        if isinstance(one, xr.DataArray) and "layer" in one.attrs:
            raise UnsupportedError("A picture shows an attribution on the input: leave --layer out, or write a result (.nc, .csv, ...).")
        return plot.attribution(self.sequences[0], one, style=self.style).get_figure(root=True)

    @property
    def array(self) -> xr.DataArray:
        """The attribution itself."""
        return self.found if isinstance(self.found, xr.DataArray) else self.found["map"]

    def show(self) -> None:
        """Where it is greatest, in the terminal."""
        where = self.sequences.describe() if self.sample is None else f"sample {self.sample}"
        print_table(tables.strongest(self.array), f"{self.method}, {where}, target: {self._target()}")
        voice.show(tables.HOW)

    def _target(self) -> str:
        """The target, and of one sample its name."""
        said = str(self.found.attrs["target"])
        names = self.found.coords.get("target")
        return said if names is None or names.size != 1 or said == str(names.item()) else f"{said} ({names.item()})"

    def sections(self) -> list[Section]:
        """The page."""
        from seqscope.report import Picture, Section

        number = self.sample or 0
        lines = ["import seqscope as sq", "from seqscope import files", f"scope = {self.model.code}", code_of(self.data, self.sample)]
        lines.append(f"found = scope.attribute(X, {self.method!r}{as_code(self.arguments)})")
        how = "red raises it, blue lowers it" if self.found.attrs.get("signed") else "the darker, the more"
        name = "found" if self.array is self.found else 'found["map"]'
        style = "" if self.style is None else f", style={self.style!r}"
        return [
            Section(
                f"Sample {number}",
                f"The input, shaded by what it does to the score: {how}.",
                "\n".join([*lines, f"sq.plot.attribution(X[0], found.isel(sample=0){style})"]),
                picture=Picture.of(self.figure, f"The input of sample {number}, shaded by {self.method}"),
            ),
            Section(
                "Where it is greatest",
                f"Over {self.sequences.describe()}.",
                tables.code_of_strongest(self.array, name),
                table=tables.strongest(self.array),
            ),
        ]
