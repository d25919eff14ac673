"""The commands. Results go to standard output, messages to standard error; exit codes: 0 done, 1 failed, 2 usage."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from seqscope._version import __version__
from seqscope.cli import explain, feed, look, maximize, record, show, text, units
from seqscope.engines.base import KERAS_BACKENDS
from seqscope.errors import SeqscopeError

app = typer.Typer(
    name="seqscope",
    help="Look inside trained sequence networks: every unit at every time step.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


app.command(epilog="Example: seqscope demo --out demo")(show.demo)
app.command(epilog="Example: seqscope layers japanese_vowels")(show.layers)
app.command(epilog="Example: seqscope activations japanese_vowels japanese_vowels --layer lstm -o hidden.nc --plot hidden.png")(
    look.activations
)
app.command(epilog="Example: seqscope states japanese_vowels japanese_vowels --layer lstm -o gates.nc --plot gates.png")(look.states)
app.command(epilog="Example: seqscope explain japanese_vowels japanese_vowels --sample 0 -o why.png -o why.nc")(explain.explain)
app.command(epilog="Example: seqscope maximize japanese_vowels --target 3 --like japanese_vowels:train -o asked.png -o asked.nc")(
    maximize.maximize
)
app.command(epilog="Example: seqscope units japanese_vowels japanese_vowels --layer lstm -o units.html -o units.csv")(units.units)
app.command(epilog="Example: seqscope text char_lstm shakespeare --unit 0 --unit 17 -o units.html")(text.text)
app.command(epilog="Example: seqscope record japanese_vowels japanese_vowels vowels.zarr --layer lstm --states all")(record.record)
app.command(epilog="Example: cut -d, -f3- utterance.csv | seqscope stream japanese_vowels --layer lstm --state h")(feed.stream)


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


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as the sentence that it is, without the place in the code."""
    Console(stderr=True).print(f"Warning: {message}", soft_wrap=True, highlight=False, markup=False)


def main() -> NoReturn:
    """Run a command; a mistake of the person's is one sentence and no traceback, and so is a warning."""
    warnings.showwarning = _show_warning
    try:
        app()
    except SeqscopeError as error:
        Console(stderr=True).print(f"Error: {error.message}", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
