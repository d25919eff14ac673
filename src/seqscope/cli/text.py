"""The command that colours a text by what units do at each of its characters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seqscope.cli import completing, voice
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import OneLayerOption, StateOption
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import name_of, read_text
from seqscope.cli.values import layer_of, values_of
from seqscope.cli.writing import Made, Wanted, gives
from seqscope.errors import DataError, UnsupportedError
from seqscope.labelled import TIME, UNIT
from seqscope.sequences import Sequences

_MOST = 2000


@takes_model
@gives
def text(
    model: ModelGiven,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A text file in UTF-8, a text that is shipped (shakespeare), or '-' for standard input.",
            show_default=False,
            autocompletion=completing.texts,
        ),
    ],
    unit: Annotated[
        list[int], typer.Option("--unit", metavar="N", help="A unit, counted from 0; as often as there are units to show, 16 at most.")
    ],
    wanted: Wanted,
    layer: OneLayerOption = None,
    state: StateOption = None,
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
) -> None:
    """Colour each character of a text by what units do there. What stands before the part that is shown is read too."""
    whole = read_text(data)
    stop = _stop(len(whole), start, length)
    scope = model.scope()
    sequences = Sequences.from_text(
        whole[:stop], characters=_alphabet(scope.model, characters), encoding="ids" if ids else "one_hot", unknown=unknown
    )
    values = values_of(scope, sequences[0], layer_of(scope, layer), state, progress=wanted.progress)
    if TIME not in values.dims:
        raise UnsupportedError(
            f"'{values.attrs['layer']}' has steps of its own, fewer than the characters: name a layer with a value at each of them."
        )
    draw_without_screen()
    from seqscope import plot
    from seqscope.plot.choice import choose

    part = choose(values.isel({TIME: slice(start, stop)}), UNIT, unit)
    part = part.assign_coords(character=(TIME, list(whole[start:stop])))
    shown = plot.text(whole[start:stop], part, width=width, title=f"{name_of(data)}, '{values.attrs['layer']}'")

    many = f"{stop - start:,} characters"
    made = Made(part, what=many, drawn=many, show=lambda: voice.show(shown), picture=shown.save, page=shown.save)
    wanted.deliver(made)
    if length is None and stop < len(whole):
        wanted.say(f"Characters {start:,} to {stop - 1:,} of {len(whole):,} are shown: --from and --length choose others.")


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
