"""The commands. Results go to standard output, messages to standard error; exit codes: 0 done, 1 failed, 2 usage."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import xarray as xr
from rich.console import Console

from seqscope import files, labelled
from seqscope._version import __version__
from seqscope.engines.base import KERAS_BACKENDS
from seqscope.errors import SeqscopeError, UnsupportedError, quoted
from seqscope.scope import Scope

app = typer.Typer(
    name="seqscope",
    help="Look inside trained sequence networks: every unit at every time step.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

MODEL_HELP = "A network of the zoo (japanese_vowels), a .keras file, or module:callable, a function or class that makes the model."
DATA_HELP = "A data set (japanese_vowels, japanese_vowels:train), or a .npz, .npy or .csv file."

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Weights to fill the model with: .safetensors for torch, .weights.h5 for Keras."),
]
LayoutOption = Annotated[str | None, typer.Option("--layout", help="The order of the model's input axes: NTC, NCT or TNC (NT, TN).")]
LayerOption = Annotated[
    list[str] | None,
    typer.Option("--layer", metavar="NAME", help="A layer's name or a glob, as often as there are layers to name; default: all layers."),
]
UnitOption = Annotated[
    list[int] | None,
    typer.Option("--unit", metavar="N", help="A unit to draw as a line, as often as there are units to name; default: all, as colours."),
]
FrameworkOption = Annotated[str, typer.Option("--framework", help="What a network of the zoo is made of: torch or keras.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over files that exist.")]


@app.command(epilog="Example: seqscope demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")] = Path("seqscope-demo"),
    framework: FrameworkOption = "torch",
    force: ForceOption = False,
) -> None:
    """Look at what a shipped LSTM does with a spoken vowel: pictures, and one page that holds them all."""
    _draw_without_screen()
    from seqscope.demo import run

    made = run(out, framework=framework, force=force)
    console = Console()
    console.print(made.layers)
    console.print("Written:")
    for file in made.files:
        console.print(f"  {file}", soft_wrap=True, highlight=False)


@app.command(epilog="Example: seqscope layers japanese_vowels")
def layers(
    model: ModelArgument,
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help=DATA_HELP + " Shows real lengths.", show_default=False)] = None,
    weights: WeightsOption = None,
    framework: FrameworkOption = "torch",
    layout: LayoutOption = None,
) -> None:
    """Show the layers of a model in the order in which they run."""
    scope = Scope(
        files.open_model(model, weights, framework=framework), layout=layout, example=None if data is None else files.read_data(data)
    )
    Console().print(scope.layers)


@app.command(epilog="Example: seqscope activations japanese_vowels japanese_vowels --layer lstm -o hidden.nc --plot hidden.png")
def activations(
    model: ModelArgument,
    data: DataArgument,
    layer: LayerOption = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write: .nc, .npz or .csv.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Where to draw one sample: .png, .svg or .pdf.")] = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="The sample to draw, counted from 0.")] = 0,
    unit: UnitOption = None,
    weights: WeightsOption = None,
    framework: FrameworkOption = "torch",
    layout: LayoutOption = None,
    force: ForceOption = False,
) -> None:
    """Write what layers put out at every time step. Several layers, or a glob of them, go into one .nc or .npz file."""
    if output is None and plot is None:
        raise typer.BadParameter("say where to write: -o FILE, --plot FILE, or both")
    if unit and plot is None:
        raise typer.BadParameter("--unit chooses what a picture shows: say where to draw with --plot FILE")
    if output is not None:
        files.writer_for(output)
        files.check_output(output, force=force)
    if plot is not None:
        files.check_picture(plot)
        files.check_output(plot, force=force)
    scope = Scope(files.open_model(model, weights, framework=framework), layout=layout)
    sequences = scope.sequences(files.read_data(data))
    shown = sequences[sample]
    result = scope.activations(sequences, layer[0] if layer and len(layer) == 1 else layer or None)
    figure = None if plot is None else _drawn(shown, _one_layer(result), sample, unit or None)  # a mistake here leaves no file behind
    if output is not None:
        files.write_result(result, output, force=force)
        Console(stderr=True).print(f"{_sizes(result)} written to {output}", soft_wrap=True, highlight=False)
    if plot is not None and figure is not None:
        figure.savefig(plot, dpi=150)
        Console(stderr=True).print(f"Sample {sample} drawn in {plot}", soft_wrap=True, highlight=False)


def _one_layer(result: xr.DataArray | xr.DataTree) -> xr.DataArray:
    """The layer that a picture is to show: the one that was named, or the only one that a glob fits."""
    if isinstance(result, xr.DataArray):
        return result
    if len(result.children) > 1:
        raise UnsupportedError(
            f"A picture shows one layer, and {len(result.children)} were asked for, {quoted(result.children)}: name one with --layer."
        )
    (node,) = result.children.values()
    return xr.DataArray(node[labelled.ACTIVATIONS])


def _drawn(shown: xr.DataArray, layer: xr.DataArray, sample: int, units: list[int] | None) -> Any:
    """A figure of one sample's input above one layer's units, or the chosen ones as lines."""
    _draw_without_screen()
    from seqscope import plot as plots

    chosen = layer.isel(sample=sample) if labelled.SAMPLE in layer.dims else layer
    panels = plots.activations(shown, chosen, unit=units, title=f"{layer.attrs['layer']}, sample {sample}")
    return panels["input"].get_figure(root=True)


def _sizes(result: xr.DataArray | xr.DataTree) -> str:
    if isinstance(result, xr.DataTree):
        return f"{len(result.children)} layer{'s' if len(result.children) > 1 else ''}"
    return f"{result.attrs['layer']} ({', '.join(f'{dim} {size}' for dim, size in result.sizes.items())})"


def _draw_without_screen() -> None:
    """A command draws into files, so it must not look for a screen; set for this process, which is seqscope's own."""
    import matplotlib

    matplotlib.use("agg")


def _let_keras_run() -> None:
    """Keras runs on tensorflow unless told: where that is missing, on what is there. Set for this process, which is seqscope's own."""
    if "KERAS_BACKEND" in os.environ or importlib.util.find_spec("tensorflow") is not None:
        return
    if not Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"), "keras.json").is_file():
        there = [name for name in KERAS_BACKENDS if importlib.util.find_spec(name) is not None]
        os.environ.update({"KERAS_BACKEND": there[0]} if there else {})


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"seqscope {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Look inside trained sequence networks: every unit at every time step."""
    _let_keras_run()


def main() -> NoReturn:
    """Run a command; a mistake of the person's is one sentence and no traceback."""
    try:
        app()
    except SeqscopeError as error:
        Console(stderr=True).print(f"Error: {error.message}", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
