"""The command that takes steps as they come and writes what the model makes of each."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TextIO

import numpy as np
import typer
import xarray as xr

from seqscope.cli.model import ModelGiven, takes_model
from seqscope.errors import DataError
from seqscope.stream import Step, Stream


@takes_model
def stream(
    model: ModelGiven,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME", help="A recurrent layer, as often as there are layers to name; default: all of them."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="NAME", help="A state to write (h, c, i, ...), as often as there are; default: all of them."),
    ] = None,
) -> None:
    """Read steps as CSV lines from standard input, and write the output and the states after each as a line of JSON.

    A line holds the channels of one step. A first line of names is left out; an empty line lets the next step start anew.
    """
    scope = model.scope()
    with scope.stream(layers=[] if layer is None else layer, states=layer) as running:
        for number, line in enumerate(_written(running, sys.stdin, state)):
            typer.echo(json.dumps({"step": number} | line))  # written at once, line by line


def _written(running: Stream, lines: TextIO, wanted: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """What each line gives."""
    for number, row in enumerate(csv.reader(lines), start=1):
        if not row:
            running.reset()
            continue
        try:
            values = np.array([float(cell) for cell in row], np.float32)
        except ValueError as error:
            if number == 1:  # names
                continue
            raise DataError(f"Line {number} holds {','.join(row)!r}: expected numbers with commas between them.") from error
        try:
            seen = running.step(values)
        except DataError as error:
            raise DataError(f"Line {number}: {error.message}") from error
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
