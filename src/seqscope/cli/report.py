"""The command that writes one page on a model and its data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from seqscope import files
from seqscope.cli import completing, voice
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, ForceOption, LayerOption, SeedOption, TargetOption, as_target
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import check_sample, code_of, made_from, read_sequences
from seqscope.cli.writing import JsonOption, QuietOption

_OPENING = """import seqscope as sq
from seqscope import files
scope = {scope}
{data}
"""


@takes_model
def report(
    model: ModelGiven,
    data: DataArgument,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", metavar="FILE.html", help="Where to write. May be repeated.")
    ] = None,
    layer: LayerOption = None,
    sample: Annotated[
        list[int] | None,
        typer.Option(
            "--sample",
            metavar="N",
            min=0,
            help="A sample to show, counted from 0, as often as there are some to show; default: a typical one, the least sure one, the "
            "worst mistake.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="A method of attribution; say it twice, for the two that are compared. Default: integrated gradients and occlusion, as "
            "far as the model has derivatives.",
            autocompletion=completing.methods,
        ),
    ] = None,
    target: TargetOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    force: ForceOption = False,
) -> None:
    """One page on a model and its data: layers, samples, states, attributions, mistakes, prototypes, units. It can be sent in a mail."""
    draw_without_screen()
    from seqscope.report.subject import Asked
    from seqscope.report.verb import check
    from seqscope.report.verb import report as write

    pages = output or [Path("report.html")]
    for page in pages:
        check(page, force=force)
    scope = model.scope()
    sequences = read_sequences(scope, data)
    for position in sample or []:
        check_sample(sequences, position)
    asked = Asked(
        layer or None,
        sample or None,
        method or None,
        as_target(target),
        seed,
        _OPENING.format(scope=model.code, data=code_of(data)),
        made_from(model.name, data, sequences),
        " ".join(["seqscope", *sys.argv[1:]]),
    )
    with files.all_or_none(pages) as places:
        write(scope, sequences, places[0], asked, force=True, progress=False if quiet else None)
        for place in places[1:]:
            place.write_bytes(places[0].read_bytes())
    if json:
        voice.write_json({"files": [str(page) for page in pages]})
    for page in pages:
        voice.say(f"Report on {model.name} written to {page}", quiet=quiet)
