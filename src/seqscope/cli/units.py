"""The command that says what each unit of a layer does over a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr

from seqscope import files
from seqscope import units as figures
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, ForceOption
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.values import of_one_layer
from seqscope.cli.writing import PAGES, PICTURES, RESULTS, check_files, print_table, say
from seqscope.errors import quoted, warn
from seqscope.labelled import TIME
from seqscope.scope import Scope
from seqscope.sequences import Sequences

# Layers with gates; the others that are recurrent; what is shown of other layers' inputs where what they see is not known.
_GATED, _RECURRENT, _WINDOW = ("lstm", "gru"), ("lstm", "gru", "rnn"), 20
# Units listed, units whose windows are drawn, and windows of each.
_LISTED, _DRAWN, _WINDOWS = 10, 3, 6

_OPENING = """import seqscope as sq
from seqscope import files
scope = {scope}
X = scope.sequences(files.read_data({data!r}))
hidden = scope.activations(X, {layer!r})
report = sq.units.summary(hidden{more})
"""


@takes_model
def units(
    model: ModelGiven,
    data: DataArgument,
    layer: Annotated[str, typer.Option("--layer", metavar="NAME", help="The layer whose units are meant.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write: .html (a page), .csv (a row for each unit), .nc, .npz, or a picture: .png, .svg, .pdf. May be repeated.",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Say what each unit of a layer does over a data set: its range, what it follows, the classes it tells apart, its gates."""
    output = output or []
    check_files(output, (*PAGES, *RESULTS, *PICTURES), force=force)
    scope = model.scope()
    sequences = scope.sequences(files.read_data(data))
    hidden = of_one_layer(scope.activations(sequences, layer), layer)
    given = _given(scope, sequences, hidden)
    report = figures.summary(hidden, **given)
    pages = [file for file in output if file.suffix.lower() in PAGES]
    windows = _windows(scope, sequences, hidden, report) if pages else []
    pictures = {file: _picture(report) for file in output if files.is_picture(file)}  # a mistake here leaves no file behind
    _show(report, layer, sequences)
    for file in output:
        if file in pages:
            opening = _OPENING.format(scope=model.code, data=data, layer=layer, more="".join(f", {_CODE[name]}" for name in given))
            _write_page(file, report, windows, opening, f"Model: {model.name}. Data: {data}, {sequences.describe()}.")
        elif file in pictures:
            pictures[file].savefig(file, dpi=150)
        else:
            files.write_result(report, file, force=force)
        say(f"{report.sizes['unit']} units of '{layer}' {'drawn in' if file in pictures else 'written to'} {file}")


_CODE = {"y": "y=X.labels", "X": "X=X", "states": "states=scope.states(X, hidden.layer)"}


def _given(scope: Scope, sequences: Sequences, hidden: xr.DataArray) -> dict[str, Any]:
    """What there is beside the activations: classes, the input, gates."""
    given: dict[str, Any] = {} if not _are_classes(sequences.labels) else {"y": sequences.labels}
    if not sequences.is_tokens:
        given["X"] = sequences
    if hidden.attrs.get("kind") in _GATED:
        states = scope.states(sequences, hidden.attrs["layer"])
        if isinstance(states, xr.Dataset):
            given["states"] = states
        else:
            warn(f"'{hidden.attrs['layer']}' is a stack: its gates are told layer by layer, {quoted(states.children)}.")
    return given


def _are_classes(labels: np.ndarray | None) -> bool:
    """Whether labels tell sequences apart, and are no measurements."""
    if labels is None or len(np.unique(labels)) < 2:
        return False
    return labels.dtype.kind != "f" or bool((labels == np.round(labels)).all())


def _windows(scope: Scope, sequences: Sequences, hidden: xr.DataArray, report: xr.Dataset) -> list[xr.Dataset]:
    """The windows of the input that drive the most telling units."""
    from seqscope.report.units import driven

    if sequences.is_tokens:
        warn("What drives a unit is shown for series only: the data is tokens.")
        return []
    steps = None
    if TIME in hidden.dims and hidden.attrs.get("kind") not in _RECURRENT:  # what its steps see is not in the array
        field = next((layer.field for layer in scope.layers if layer.name == hidden.attrs.get("layer")), None)
        steps = field if isinstance(field, int) and field <= _WINDOW else _WINDOW
    return [figures.top_windows(hidden, sequences, unit, _WINDOWS, steps=steps) for unit in driven(report, _DRAWN)]


def _picture(report: xr.Dataset) -> Any:
    draw_without_screen()
    from seqscope import plot

    return plot.units(report)["range"].get_figure(root=True)


def _show(report: xr.Dataset, layer: str, sequences: Sequences) -> None:
    """The layer as a whole, and the most telling units."""
    from seqscope.report.units import layer_table, notable, unit_table

    print_table(layer_table(report), f"'{layer}' over {sequences.describe()}")
    print_table(unit_table(report, notable(report, _LISTED)), "The most telling units")


def _write_page(file: Path, report: xr.Dataset, windows: list[xr.Dataset], opening: str, made_from: str) -> None:
    draw_without_screen()
    from seqscope.report import write_page
    from seqscope.report.units import sections

    layer = report.attrs["layer"]
    write_page(
        file,
        title=f"What the units of '{layer}' do",
        lead=f"{report.sizes['unit']} units of the layer '{layer}' of {report.attrs['model']}, over a whole data set.",
        sections=list(sections(report, windows, opening=opening)),
        made_from=made_from,
    )
