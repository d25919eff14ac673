"""The command that opens the page."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from seqscope.cli import completing, voice
from seqscope.cli.model import MODEL_HELP, ModelGiven, takes_model_or
from seqscope.cli.options import DATA_HELP
from seqscope.cli.reading import STDIN, code_of, read_data
from seqscope.cli.writing import JsonOption, QuietOption
from seqscope.errors import require

if TYPE_CHECKING:
    from seqscope.explorer.source import Source

_GIVEN_HELP = (
    "A recording: a folder (vowels.zarr) or an address that seqscope record wrote to. Or a model: " + MODEL_HELP[0].lower() + MODEL_HELP[1:]
)


@takes_model_or("STORE|MODEL", _GIVEN_HELP)
def explore(
    model: ModelGiven,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help=DATA_HELP + " What a model is to run on; of a recording only where it was made without its inputs.",
            show_default=False,
            autocompletion=completing.data,
        ),
    ] = None,
    made_from: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="The model that a recording was made from, for explanations. --weights and so on say how it is opened.",
            autocompletion=completing.models,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="The address to listen on. With another than 127.0.0.1 other machines can open the page."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Where it is in use the next free one is taken; 0: any.")
    ] = 5006,
    show: Annotated[bool, typer.Option("--show/--no-show", help="Open the browser.")] = True,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look at a recording, or at a model as it runs, on a local page in the browser. Ctrl-C ends it.

    The page comes from this machine alone, and the address, which stands on standard output, leads to it from this machine alone.
    """
    require("panel", extra="explore", purpose="The page")
    from seqscope.explorer.server import serve

    served = serve(_source(model, data, made_from, quiet=quiet), host=host, port=port)
    if served.is_open:
        voice.say(f"Warning: {served.notes[-1]}")
    for note in served.notes[: -1 if served.is_open else None]:
        voice.say(note, quiet=quiet)
    if json:
        voice.write_json({"url": served.url, "host": host, "port": served.port})
    else:
        voice.write_text(f"{served.url}\n")
    voice.say("Ctrl-C ends it.", quiet=quiet)
    if show:
        served.show()
    served.wait()


def _source(model: ModelGiven, data: str | None, made_from: str | None, *, quiet: bool) -> Source:
    """What is to be looked at."""
    from seqscope.explorer.opening import is_store, source_of

    if is_store(model.name):
        made = None if made_from is None else dataclasses.replace(model, name=made_from)
        code = ({} if made is None else {"scope": f"scope = {made.code}"}) | ({} if data is None else {"X": _code_of(data, made)})
        given = None if data is None else read_data(data)
        return source_of(model.name, given, scope=None if made is None else made.scope(), code=code)
    if made_from is not None:
        raise typer.BadParameter("--model is the model of a recording: a model that runs stands alone, as in seqscope explore MODEL DATA")
    if data is None:
        model.scope()  # what is no model is said first
        raise typer.BadParameter("a model needs data to run on: seqscope explore MODEL DATA")
    code = {"scope": f"scope = {model.code}", "X": code_of(data)}
    return source_of(model.scope(), read_data(data), code=code, progress=False if quiet else None)


def _code_of(data: str, made: ModelGiven | None) -> str:
    """The Python that makes the inputs of a recording that has none."""
    return code_of(data) if made is not None or data == STDIN else f"X = sq.Sequences(files.read_data({data!r}))"
