"""The commands that show what a model is: the demo, the table of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from seqscope import files
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DATA_HELP, ForceOption, FrameworkOption
from seqscope.cli.pictures import draw_without_screen


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")] = Path("seqscope-demo"),
    framework: FrameworkOption = "torch",
    force: ForceOption = False,
) -> None:
    """Look at what a shipped LSTM does with a spoken vowel: pictures, and one page that holds them all."""
    draw_without_screen()
    from seqscope.demo import run

    made = run(out, framework=framework, force=force)
    console = Console()
    console.print(made.layers)
    console.print("Written:")
    for file in made.files:
        console.print(f"  {file}", soft_wrap=True, highlight=False)


@takes_model
def layers(
    model: ModelGiven,
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help=DATA_HELP + " Shows real lengths.", show_default=False)] = None,
) -> None:
    """Show the layers of a model in the order in which they run."""
    Console().print(model.scope(example=None if data is None else files.read_data(data)).layers)
