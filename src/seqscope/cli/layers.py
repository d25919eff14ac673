"""The command that shows the layers of a model."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer
import xarray as xr

from seqscope.cli import completing, voice
from seqscope.cli.as_json import plain
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DATA_HELP
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import code_of, read_data
from seqscope.cli.writing import Made, Wanted, drawing, gives, paging
from seqscope.layers import HEADINGS, Layers

if TYPE_CHECKING:
    from seqscope.report import Section


@takes_model
@gives
def layers(
    model: ModelGiven,
    wanted: Wanted,
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help=DATA_HELP + " Shows real lengths.", show_default=False, autocompletion=completing.data),
    ] = None,
) -> None:
    """The layers of a model in the order in which they run, and what each step of them sees of the input."""
    scope = model.scope(example=None if data is None else read_data(data))
    table = scope.layers
    lines = ["import seqscope as sq", "from seqscope import files", f"scope = {model.code}"]
    lines += [] if data is None else [code_of(data), "scope.predict(X[:1])  # shows what the data looks like on its way"]

    @functools.cache  # for a picture and for a page
    def draw() -> Any:
        draw_without_screen()
        from seqscope import plot

        return plot.layers(table).get_figure(root=True)

    def sections() -> list[Section]:
        from seqscope.report import Picture, Section, Table

        shown = Table(HEADINGS, table.rows(), table.caption, frozenset({0, HEADINGS.index("Parameters")}))
        picture = Picture.of(draw(), "Parameters of each layer as bars")
        code = "\n".join([*lines, "scope.layers", "sq.plot.layers(scope.layers)"])
        return [Section("The layers", "In the order in which a sequence goes through them.", code, table=shown, picture=picture)]

    many = f"{len(table)} layer{'s' if len(table) != 1 else ''}"
    wanted.deliver(
        Made(
            _as_dataset(table),
            what=many,
            drawn=many,
            show=lambda: voice.show(table),
            picture=drawing(draw),
            page=paging(
                f"The layers of {table.model}",
                f"{table.input.description.capitalize()}. {table.caption}.",
                sections,
                f"Model: {model.name}.",
            ),
            json=lambda: json_of(table),
        )
    )


def json_of(table: Layers) -> dict[str, Any]:
    """The table for machines."""
    rows = table.to_dataframe().assign(output=[layer.output for layer in table], sees=[layer.sees for layer in table])
    return {
        "model": table.model,
        "input": dataclasses.asdict(table.input),
        "n_params": table.n_params,
        "note": table.note,
        "layers": plain(rows.to_dict("records")),
    }


def _as_dataset(table: Layers) -> xr.Dataset:
    """The table as arrays by layer, with what is not known as no text and as NaN."""
    frame = table.to_dataframe().set_index("name").rename_axis("layer")
    text = ["kind", "type", "description", "output"]
    frame = frame.assign(sees=[layer.sees for layer in table], **{name: frame[name].fillna("").astype(str) for name in text})
    frame = frame.drop(columns="field").astype(dict.fromkeys(("calls", "stride"), float))
    return frame.to_xarray().assign_attrs(model=table.model, layout=table.input.layout or "", input=table.input.description)
