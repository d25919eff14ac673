"""The command that colours a text by what units do at each of its characters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr
from rich.console import Console

from seqscope import files
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import ForceOption
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.values import of_one_layer
from seqscope.cli.writing import PAGES, PICTURES, check_files, say
from seqscope.errors import DataError, LayerError, UnsupportedError, nearest, quoted
from seqscope.labelled import TIME, UNIT
from seqscope.scope import Scope
from seqscope.sequences import Sequences

_MOST = 2000
_RECURRENT = ("lstm", "gru", "rnn")


@takes_model
def text(
    model: ModelGiven,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A text file in UTF-8, or a text that is shipped (shakespeare).", show_default=False)
    ],
    unit: Annotated[
        list[int], typer.Option("--unit", metavar="N", help="A unit, counted from 0; as often as there are units to show, 16 at most.")
    ],
    layer: Annotated[str | None, typer.Option("--layer", metavar="NAME", help="Its layer; default: the only recurrent one.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="NAME", help="Of a recurrent layer: h, c or a gate; default: what it puts out.")
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write: .html, or a picture, .png, .svg or .pdf; may be repeated. Default: the terminal.",
        ),
    ] = None,
    start: Annotated[int, typer.Option("--from", metavar="N", help="The first character to show, counted from 0.")] = 0,
    length: Annotated[
        int | None, typer.Option("--length", metavar="N", help=f"Characters to show; default: to the end, but {_MOST:,} at most.")
    ] = None,
    characters: Annotated[
        str | None,
        typer.Option("--characters", metavar="TEXT", help="All characters that the model knows, in its order; default: as the model says."),
    ] = None,
    unknown: Annotated[
        str | None, typer.Option("--unknown", metavar="C", help="A known character that stands for those which the model never saw.")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="The model takes the number of each character and not one-hot ones.")] = False,
    width: Annotated[int, typer.Option("--width", metavar="N", help="The most letters on a line.")] = 80,
    force: ForceOption = False,
) -> None:
    """Colour each character of a text by what units do there. What stands before the part that is shown is read too."""
    output = output or []
    check_files(output, (*PAGES, *PICTURES), force=force)
    whole = files.read_text(file)
    stop = _stop(len(whole), start, length)
    scope = model.scope()
    sequences = Sequences.from_text(
        whole[:stop], characters=_alphabet(scope.model, characters), encoding="ids" if ids else "one_hot", unknown=unknown
    )
    values = _values(scope, sequences, _layer(scope, layer), state).isel({TIME: slice(start, stop)})
    draw_without_screen()
    from seqscope import plot
    from seqscope.plot.choice import choose

    shown = plot.text(whole[start:stop], choose(values, UNIT, unit), width=width, title=f"{file}, '{values.attrs['layer']}'")
    for path in output:
        shown.save(path)
        say(f"{stop - start:,} characters {'drawn in' if files.is_picture(path) else 'written to'} {path}")
    if not output:
        shown.print(Console())
    if length is None and stop < len(whole):
        say(f"Characters {start:,} to {stop - 1:,} of {len(whole):,} are shown: --from and --length choose others.")


def _stop(n_characters: int, start: int, length: int | None) -> int:
    """The end of the part that is shown."""
    if not 0 <= start < n_characters:
        raise DataError(f"The text has {n_characters:,} characters, at 0 to {n_characters - 1:,}: it can't be shown from {start:,} on.")
    if length is not None and length < 1:
        raise DataError(f"--length is {length}: expected the characters to show, 1 or more.")
    return min(n_characters, start + (_MOST if length is None else length))


def _alphabet(model: Any, said: str | None) -> str:
    """The characters that the model knows, in its order."""
    found = said if said is not None else getattr(model, "characters", None)
    if not isinstance(found, str | list | tuple):
        raise DataError("The model does not say which characters it knows: say --characters, all of them in its order.")
    return "".join(found)


def _layer(scope: Scope, name: str | None) -> str:
    """The layer that was named, or the only recurrent one."""
    if name is not None:
        return name
    recurrent = [layer.name for layer in scope.layers if layer.kind in _RECURRENT]
    if len(recurrent) != 1:
        found = f"has {len(recurrent)} recurrent layers, {quoted(recurrent)}" if recurrent else "has no recurrent layer"
        raise LayerError(f"The model {found}: name the layer of the units with --layer.")
    return recurrent[0]


def _values(scope: Scope, sequences: Sequences, layer: str, state: str | None) -> xr.DataArray:
    """What the layer's units do at each character."""
    found: Any
    if state is None:
        found = scope.activations(sequences[0], layer)
    else:
        found = scope.states(sequences[0], layer)
        if isinstance(found, xr.Dataset):
            if state not in found:
                raise DataError(f"'{layer}' has no state {state!r}: {nearest(state, map(str, found))}.")
            found = found[state].assign_attrs(found.attrs | found[state].attrs)
    values = of_one_layer(found, layer)
    if TIME not in values.dims:
        raise UnsupportedError(f"'{layer}' has steps of its own, fewer than the characters: name a layer with a value at each of them.")
    return values
