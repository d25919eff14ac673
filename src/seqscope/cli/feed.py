"""The command that takes steps as they come and writes what the model makes of each."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TextIO

import numpy as np
import typer
import xarray as xr

from seqscope.cli import completing, voice
from seqscope.cli.as_json import plain
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import SampleAloneOption
from seqscope.cli.reading import STDIN, read_sequences
from seqscope.cli.writing import QuietOption
from seqscope.errors import DataError
from seqscope.scope import Scope
from seqscope.stream import Step, Stream

# A step of the input; None: the next one starts anew.
Given = np.ndarray | None


@takes_model
def stream(
    model: ModelGiven,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Lines of CSV by standard input ('-'), each a step, read as they come; or data as other commands take it, which is played "
            "step by step.",
            show_default=False,
            autocompletion=completing.data,
        ),
    ] = STDIN,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="A recurrent layer, as often as there are layers to name; default: all of them.",
            autocompletion=completing.layers,
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="NAME", help="A state to write (h, c, i, ...), as often as there are; default: all of them."),
    ] = None,
    sample: SampleAloneOption = None,
    quiet: QuietOption = False,
) -> None:
    """Take one step after the other, and write the output and the states after each as a line of JSON.

    A line of CSV holds the channels of one step. A first line of names is left out.

    An empty line lets the next step start anew, as each sample of DATA does.
    """
    if data == STDIN and sample is not None:
        raise typer.BadParameter("--sample chooses out of DATA: lines that come by standard input are taken as they come")
    scope = model.scope()
    steps = _of_lines(sys.stdin) if data == STDIN else _of_data(scope, data, sample)
    with scope.stream(layers=[] if layer is None else layer, states=layer) as running:
        for number, line in enumerate(_written(running, steps, state)):
            voice.write_json({"step": number} | plain(line))  # at once, line by line


def _of_lines(lines: TextIO) -> Iterator[tuple[str, Given]]:
    """The steps that lines of CSV hold, each with its place for messages."""
    for number, row in enumerate(csv.reader(lines), start=1):
        try:
            yield f"Line {number}", np.array([float(cell) for cell in row], np.float32) if row else None
        except ValueError as error:
            if number > 1:  # a first line holds names
                raise DataError(f"Line {number} holds {','.join(row)!r}: expected numbers with commas between them.") from error


def _of_data(scope: Scope, data: str, sample: int | None) -> Iterator[tuple[str, Given]]:
    """The steps of each sample."""
    for number, one in enumerate(read_sequences(scope, data, sample)):
        for place, values in enumerate(one.values):
            yield f"Sample {number if sample is None else sample}, step {place}", values
        yield "", None


def _written(running: Stream, steps: Iterator[tuple[str, Given]], wanted: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """What each step gives."""
    for place, values in steps:
        if values is None:
            running.reset()
            continue
        try:
            seen = running.step(values)
        except DataError as error:
            raise DataError(f"{place}: {error.message}") from error
        yield _as_data(seen, wanted)


def _as_data(seen: Step, wanted: Sequence[str] | None) -> dict[str, Any]:
    """A step as lists and numbers."""
    output = {str(name): float(value) for name, value in zip(seen.output.coords["output"].values, seen.output.values, strict=True)}
    return {"output": output, "states": {layer: _chosen(states, wanted) for layer, states in seen.states.items()}}


def _chosen(states: xr.Dataset, wanted: Sequence[str] | None) -> dict[str, list[float]]:
    missing = [name for name in wanted or () if name not in states]
    if missing:
        raise DataError(f"'{states.attrs['layer']}' has no state {missing[0]!r}: there are {', '.join(map(str, states))}.")
    return {str(name): states[name].values.astype(float).tolist() for name in wanted or states}
