"""The command that makes what a class, or a unit, asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
import xarray as xr

from seqscope import target as targets
from seqscope.cli import completing
from seqscope.cli.given import as_code, as_typed
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DATA_HELP, SeedOption, StateOption, TargetOption, as_target
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import code_of, name_of, read_sequences
from seqscope.cli.voice import print_tables
from seqscope.cli.writing import Made, Wanted, drawing, gives, paging

if TYPE_CHECKING:
    from seqscope.report import Section, Table

# What messages call the arguments of `Scope.maximize`, and what is typed.
_TYPED = {"like=X": "DATA", "length=": "--length"}


@takes_model
@gives
def maximize(
    model: ModelGiven,
    wanted: Wanted,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help=f"Real data, which the result is to be like. {DATA_HELP}",
            show_default=False,
            autocompletion=completing.data,
        ),
    ] = None,
    target: TargetOption = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="In place of --target: the layer of a unit.", autocompletion=completing.layers),
    ] = None,
    unit: Annotated[int | None, typer.Option("--unit", metavar="N", help="The unit of --layer, counted from 0, at the last step.")] = None,
    state: StateOption = None,
    like: Annotated[str | None, typer.Option("--like", metavar="DATA", help="The same as DATA.", autocompletion=completing.data)] = None,
    length: Annotated[int | None, typer.Option("--length", metavar="N", help="Steps; default: the median of DATA.")] = None,
    restarts: Annotated[int, typer.Option("--restarts", metavar="N", help="Random beginnings.")] = 4,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Iterations at most.")] = 300,
    parameterisation: Annotated[
        str,
        typer.Option(
            "--parameterisation",
            metavar="NAME",
            help="What is searched in: fourier, components or raw.",
            autocompletion=completing.one_of("fourier", "components", "raw"),
        ),
    ] = "fourier",
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="What is raised: logit or margin; default: the margin where outputs compete.",
            autocompletion=completing.one_of("logit", "margin"),
        ),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Make the series that an output of the model, or a unit of a layer, is highest for."""
    aim, said_aim = _aim(target, layer, unit, state)
    if data is not None and like is not None:
        raise typer.BadParameter("DATA and --like mean the same: say one of the two")
    real = like if data is None else data
    scope = model.scope()
    arguments: dict[str, Any] = {"length": length, "objective": objective, "parameterisation": parameterisation}
    arguments |= {"restarts": restarts, "steps": steps, "seed": seed}
    with as_typed(_TYPED):
        found = scope.maximize(aim, like=None if real is None else read_sequences(scope, real), progress=wanted.progress, **arguments)
    what = found["input"].attrs["long_name"]
    lines = ["import seqscope as sq", "from seqscope import files", f"scope = {model.code}", *([] if real is None else [code_of(real)])]
    code = f"found = scope.maximize({said_aim}{'' if real is None else ', like=X'}{as_code(arguments)})"

    @functools.cache  # for a picture and for a page
    def draw() -> Any:
        draw_without_screen()
        from seqscope import plot

        return plot.prototype(found, scores=True)["made"].get_figure(root=True)

    wanted.deliver(
        Made(
            found,
            what=what,
            drawn=what,
            show=lambda: print_tables(_tables(found)),
            picture=drawing(draw),
            page=paging(
                what,
                "A series that was made by gradient ascent, and how real it is.",
                lambda: _sections(found, draw, "\n".join([*lines, code])),
                f"Model: {model.name}. Data: {'none' if real is None else name_of(real)}.",
            ),
            table=found["input"],
            is_told=True,
        )
    )


def _aim(target: str | None, layer: str | None, unit: int | None, state: str | None) -> tuple[Any, str]:
    """The score that is to be high, and the same in Python."""
    if (target is None) == (layer is None):
        raise typer.BadParameter("say what is to be high: --target K for an output, or --layer NAME with --unit N for a unit")
    if (layer is None) != (unit is None):
        raise typer.BadParameter("a unit is named by both its layer and its number: --layer NAME --unit N")
    if layer is None or unit is None:
        if state is not None:
            raise typer.BadParameter("--state is that of a unit: say --layer NAME --unit N")
        return as_target(target), repr(as_target(target))
    return targets.unit(layer, unit, state=state), f"sq.target.unit({layer!r}, {unit}{as_code({'state': state})})"


def _tables(found: xr.Dataset) -> Iterable[tuple[Table, str]]:
    """A row for each restart, what it came to in the end."""
    from seqscope.report import Table

    ends = found.isel(iteration=-1)
    columns: dict[str, Any] = {"Restart": [str(label) for label in found.coords["restart"].values]}
    for heading, name, form in _COLUMNS:
        if name in found:
            columns[heading.format(_kind(found).capitalize())] = [format(value, form) for value in ends[name].values.tolist()]
    columns["Reached"] = ["yes" if value else "no" for value in found["reached"].values]
    rows = list(zip(*columns.values(), strict=True))
    yield Table(list(columns), rows, _best_real(found), frozenset(range(len(columns) - 1))), found["input"].attrs["long_name"]


def _sections(found: xr.Dataset, draw: Callable[[], Any], code: str) -> list[Section]:
    from seqscope.report import Picture, Section

    ((table, title),) = _tables(found)
    return [
        Section("How high it is", "Each restart is a beginning of its own, drawn at random.", code, table=table),
        Section(
            "What was made",
            "The best restart, beside the real sequences that score highest, as far as there are such.",
            "sq.plot.prototype(found, scores=True)",
            picture=Picture.of(draw(), f"{title}, above how its score rose"),
        ),
    ]


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
