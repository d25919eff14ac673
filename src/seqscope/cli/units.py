"""The command that says what each unit of a layer does over a data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, OneLayerOption, SampleAloneOption
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import code_of, made_from, read_sequences
from seqscope.cli.values import layer_of, values_of
from seqscope.cli.voice import print_tables
from seqscope.cli.writing import Made, Wanted, drawing, gives, paging
from seqscope.errors import quoted, warn
from seqscope.labelled import TIME
from seqscope.scope import Scope
from seqscope.sequences import Sequences

if TYPE_CHECKING:
    from seqscope.report import Section, Table

# Layers with gates; the others that are recurrent; what is shown of other layers' inputs where what they see is not known.
_GATED, _RECURRENT, _WINDOW = ("lstm", "gru"), ("lstm", "gru", "rnn"), 20
# Units listed, units whose windows are drawn, and windows of each.
_LISTED, _DRAWN, _WINDOWS = 10, 3, 6

_OPENING = """import seqscope as sq
from seqscope import files
scope = {scope}
{data}
hidden = scope.activations(X, {layer!r})
report = sq.units.summary(hidden{more})
"""
_CODE = {"y": "y=X.labels", "X": "X=X", "states": "states=scope.states(X, hidden.layer)"}


@takes_model
@gives
def units(
    model: ModelGiven,
    data: DataArgument,
    wanted: Wanted,
    layer: OneLayerOption = None,
    sample: SampleAloneOption = None,
) -> None:
    """What each unit of a layer does over a data set: its range, what it follows, the classes it tells apart, its gates."""
    from seqscope.units import summary

    scope = model.scope()
    sequences = read_sequences(scope, data, sample)
    name = layer_of(scope, layer)
    hidden = values_of(scope, sequences, name, None, progress=wanted.progress)
    given = _given(scope, sequences, hidden, progress=wanted.progress)
    report = summary(hidden, **given)
    opening = _OPENING.format(
        scope=model.code, data=code_of(data, sample), layer=name, more="".join(f", {_CODE[argument]}" for argument in given)
    )

    def draw() -> Any:
        draw_without_screen()
        from seqscope import plot

        return plot.units(report)["range"].get_figure(root=True)

    def sections() -> list[Section]:
        draw_without_screen()
        from seqscope.report.units import sections as parts

        return list(parts(report, _windows(scope, sequences, hidden, report), opening=opening))

    what = f"{report.sizes['unit']} units of '{name}'"
    wanted.deliver(
        Made(
            report,
            what=what,
            drawn=what,
            show=lambda: print_tables(_tables(report, name, sequences)),
            picture=drawing(draw),
            page=paging(
                f"What the units of '{report.attrs['layer']}' do",
                f"{report.sizes['unit']} units of the layer '{report.attrs['layer']}' of {report.attrs['model']}, over a whole data set.",
                sections,
                made_from(model.name, data, sequences),
            ),
            is_told=True,
        )
    )


def _given(scope: Scope, sequences: Sequences, hidden: xr.DataArray, *, progress: bool | None) -> dict[str, Any]:
    """What there is beside the activations: classes, the input, gates."""
    given: dict[str, Any] = {} if not _are_classes(sequences.labels) else {"y": sequences.labels}
    if not sequences.is_tokens:
        given["X"] = sequences
    if hidden.attrs.get("kind") in _GATED:
        states = scope.states(sequences, hidden.attrs["layer"], progress=progress)
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
    from seqscope.units import top_windows

    if sequences.is_tokens:
        warn("What drives a unit is shown for series only: the data is tokens.")
        return []
    steps = None
    if TIME in hidden.dims and hidden.attrs.get("kind") not in _RECURRENT:  # what its steps see is not in the array
        field = next((layer.field for layer in scope.layers if layer.name == hidden.attrs.get("layer")), None)
        steps = field if isinstance(field, int) and field <= _WINDOW else _WINDOW
    return [top_windows(hidden, sequences, unit, _WINDOWS, steps=steps) for unit in driven(report, _DRAWN)]


def _tables(report: xr.Dataset, layer: str, sequences: Sequences) -> Iterable[tuple[Table, str]]:
    """The layer as a whole, and the most telling units."""
    from seqscope.report.units import layer_table, notable, unit_table

    yield layer_table(report), f"'{layer}' over {sequences.describe()}"
    yield unit_table(report, notable(report, _LISTED)), "The most telling units"
