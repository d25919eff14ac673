"""The commands. Results go to standard output, messages to standard error; exit codes: 0 done, 1 failed, 2 usage."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from seqscope._version import __version__
from seqscope.cli import doctor, explain, explore, feed, layers, look, match, maximize, record, report, show, text, units, voice
from seqscope.engines.base import KERAS_BACKENDS
from seqscope.errors import SeqscopeError

app = typer.Typer(
    name="seqscope",
    help="Look inside trained sequence networks: every unit at every time step.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

_VOWELS = "japanese_vowels japanese_vowels"

# In the order in which `seqscope --help` lists them, each with an example.
app.command(epilog=f"Example: seqscope layers {_VOWELS}")(layers.layers)
app.command(epilog=f"Example: seqscope activations {_VOWELS} --layer lstm -o hidden.nc --plot hidden.png")(look.activations)
app.command(epilog=f"Example: seqscope states {_VOWELS} --layer lstm -o gates.nc --plot gates.png")(look.states)
app.command(epilog="Example: cut -d, -f3- utterance.csv | seqscope stream japanese_vowels --layer lstm --state h")(feed.stream)
app.command(epilog=f"Example: seqscope explain {_VOWELS} --sample 0 -o why.png -o why.nc")(explain.explain)
app.command(epilog="Example: seqscope maximize japanese_vowels japanese_vowels:train --target 3 -o asked.png -o asked.nc")(
    maximize.maximize
)
app.command(epilog=f"Example: seqscope units {_VOWELS} --layer lstm -o units.html -o units.csv")(units.units)
app.command(epilog=f"Example: seqscope match {_VOWELS} --layer lstm --sample 100 --from 6 --to 10 -o places.csv")(match.match)
app.command(epilog="Example: seqscope text char_lstm shakespeare --unit 0 --unit 17 -o units.html")(text.text)
app.command(epilog=f"Example: seqscope record {_VOWELS} vowels.zarr --layer lstm --states all")(record.record)
app.command(epilog=f"Example: seqscope report {_VOWELS} -o report.html")(report.report)
app.command(epilog=f"Example: seqscope explore {_VOWELS}, or seqscope explore vowels.zarr")(explore.explore)
app.command(epilog="Example: seqscope demo --out demo")(show.demo)
app.command(epilog="Example: seqscope doctor")(doctor.doctor)


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
    voice.say(f"Warning: {message}")


def main() -> NoReturn:
    """Run a command; a mistake of the person's is one sentence and no traceback, and so is a warning."""
    warnings.showwarning = _show_warning
    with voice.quiet_end():
        try:
            app()
        except SeqscopeError as error:
            _fail(error.message)
        except BrokenPipeError:
            raise
        except OSError as error:  # a disk that is full, a file that may not be read
            _fail(f"{error.strerror or error}{'' if error.filename is None else f': {error.filename}'}")
        except MemoryError as error:
            _fail(f"There is not enough memory ({error}): take fewer layers or samples, or seqscope record.")
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            _finish()
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    voice.say(f"Error: {message}")
    sys.exit(1)


def _finish() -> None:
    """Write what is still held back, so that a reader who has gone is noticed here and not at the exit."""
    if sys.stdout is not None:
        sys.stdout.flush()
