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

from seqscope import files
from seqscope._version import __version__
from seqscope.engines.base import KERAS_BACKENDS
from seqscope.errors import SeqscopeError, UnsupportedError
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
    layer: Annotated[str | None, typer.Option("--layer", metavar="NAME", help="A layer's name or a glob; default: all layers.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write: .nc, .npz or .csv.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Where to draw one sample: .png, .svg or .pdf.")] = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="The sample to draw, counted from 0.")] = 0,
    weights: WeightsOption = None,
    framework: FrameworkOption = "torch",
    layout: LayoutOption = None,
    force: ForceOption = False,
) -> None:
    """Write what layers put out at every time step."""
    if output is None and plot is None:
        raise typer.BadParameter("say where to write: -o FILE, --plot FILE, or both")
    if output is not None:
        files.writer_for(output)
        files.check_output(output, force=force)
    if plot is not None:
        files.check_picture(plot)
        files.check_output(plot, force=force)
    scope = Scope(files.open_model(model, weights, framework=framework), layout=layout)
    sequences = scope.sequences(files.read_data(data))
    shown = sequences[sample]
    result = scope.activations(sequences, layer)
    if output is not None:
        files.write_result(result, output, force=force)
        Console(stderr=True).print(f"{_sizes(result)} written to {output}", soft_wrap=True, highlight=False)
    if plot is not None:
        _plot_sample(shown, result, sample, plot)


def _plot_sample(shown: xr.DataArray, result: xr.DataArray | xr.DataTree, sample: int, file: Path) -> None:
    """Draw one sample's input above one layer's units."""
    if isinstance(result, xr.DataTree):
        raise UnsupportedError("A picture shows one layer: name it with --layer.")
    _draw_without_screen()
    from seqscope import plot as plots

    chosen = result.isel(sample=sample) if "sample" in result.dims else result
    panels = plots.activations(shown, chosen, title=f"{result.attrs['layer']}, sample {sample}")
    figure: Any = panels["input"].get_figure(root=True)
    figure.savefig(file, dpi=150)
    Console(stderr=True).print(f"Sample {sample} drawn in {file}", soft_wrap=True, highlight=False)


def _sizes(result: xr.DataArray | xr.DataTree) -> str:
    if isinstance(result, xr.DataTree):
        return f"{len(result.children)} layers"
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
