"""The command that says what each unit of a layer does over a data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import xarray as xr

from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, OneLayerOption, SampleAloneOption
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import code_of, made_from, read_sequences
from seqscope.cli.values import layer_of, values_of
from seqscope.cli.voice import print_tables
from seqscope.cli.writing import Made, Wanted, drawing, gives, paging
from seqscope.sequences import Sequences

if TYPE_CHECKING:
    from seqscope.report import Section, Table

# Units listed.
_LISTED = 10

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
    from seqscope.report.units import known_beside
    from seqscope.units import summary

    scope = model.scope()
    sequences = read_sequences(scope, data, sample)
    name = layer_of(scope, layer)
    hidden = values_of(scope, sequences, name, None, progress=wanted.progress)
    given = known_beside(scope, sequences, hidden, progress=wanted.progress)
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
        from seqscope.report.units import telling_windows

        return list(parts(report, telling_windows(scope, sequences, hidden, report), opening=opening))

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


def _tables(report: xr.Dataset, layer: str, sequences: Sequences) -> Iterable[tuple[Table, str]]:
    """The layer as a whole, and the most telling units."""
    from seqscope.report.units import layer_table, notable, unit_table

    yield layer_table(report), f"'{layer}' over {sequences.describe()}"
    yield unit_table(report, notable(report, _LISTED)), "The most telling units"
