"""The command that finds where else in a data set the same units are on together."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
import xarray as xr

from seqscope.cli.given import as_code, as_typed
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument, OneLayerOption, StateOption
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.reading import check_sample, code_of, made_from, read_sequences
from seqscope.cli.values import layer_of, values_of
from seqscope.cli.voice import print_tables
from seqscope.cli.writing import Made, Wanted, drawing, gives, paging
from seqscope.labelled import RANK, SAMPLE, STEP, TIME, UNIT

if TYPE_CHECKING:
    from seqscope.report import Section, Table

# Places drawn beside the stretch itself, in so many columns; steps shown around each.
_DRAWN, _COLUMNS, _AROUND = 8, 3, 4
_INK = "#1A1A1A"
# What messages call the arguments of `units.match`, and what was typed.
_TYPED = {"threshold=": "--threshold ", "before=0 and after=0": "--before 0 and --after 0", "units=": "--unit"}


@takes_model
@gives
def match(
    model: ModelGiven,
    data: DataArgument,
    wanted: Wanted,
    sample: Annotated[int, typer.Option("--sample", metavar="N", min=0, help="The sample that holds the stretch, counted from 0.")],
    start: Annotated[int, typer.Option("--from", metavar="T", help="The first step of the stretch, counted from 0.")],
    stop: Annotated[int, typer.Option("--to", metavar="T", help="The step after its last: from 6 to 10 are the steps 6, 7, 8 and 9.")],
    threshold: Annotated[float, typer.Option("--threshold", metavar="X", help="The value from which a unit is on.")] = 0.3,
    layer: OneLayerOption = None,
    state: StateOption = None,
    unit: Annotated[
        list[int] | None,
        typer.Option(
            "--unit",
            metavar="N",
            help="A unit to look for, as often as there are units to name; default: those that are on in the stretch and off around it.",
        ),
    ] = None,
    before: Annotated[int, typer.Option("--before", metavar="N", min=0, help="Steps before the stretch in which such a unit is off.")] = 1,
    after: Annotated[int, typer.Option("--after", metavar="N", min=0, help="Steps after the stretch in which such a unit is off.")] = 1,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="The places to give, the best first.")] = 20,
) -> None:
    """Which units are on throughout a stretch of a sample, and where else in the data they are on together, the best first.

    The score is the share of these units in all that are on throughout a place: 1 where no other is.
    """
    from seqscope.units import match as search

    scope = model.scope()
    sequences = read_sequences(scope, data)
    check_sample(sequences, sample)
    name = layer_of(scope, layer)
    values = values_of(scope, sequences, name, state, progress=wanted.progress)
    of_sample = values.coords[SAMPLE].values[sample].item()
    with as_typed(_TYPED):
        found = search(values, of_sample, start, stop, threshold, before=before, after=after, k=most, units=unit)
    read = f"scope.activations(X, {name!r})" if state is None else f"scope.states(X, {name!r})[{state!r}]"
    arguments = as_code({"before": before, "after": after, "k": most, "units": unit})
    code = (
        f"import seqscope as sq\nfrom seqscope import files\nscope = {model.code}\n{code_of(data)}\nvalues = {read}\n"
        f"found = sq.units.match(values, {of_sample!r}, {start}, {stop}, threshold={threshold}{arguments})"
    )
    seen = _Seen(values, found, sample)
    what = f"{found.sizes[RANK]} of {found.attrs['n_found']} places"
    wanted.deliver(
        Made(
            found,
            what=what,
            drawn=f"The stretch and the best of {found.attrs['n_found']} places",
            show=lambda: print_tables(seen.tables()),
            picture=drawing(lambda: seen.figure),
            page=paging(
                f"Where '{name}' does the same",
                f"{seen.in_words} Where else are they on together?",
                lambda: seen.sections(code),
                made_from(model.name, data, sequences),
            ),
        )
    )


@dataclass(frozen=True)
class _Seen:
    """What was looked through, and found."""

    values: xr.DataArray
    found: xr.Dataset
    sample: int

    @property
    def clock(self) -> str:
        """The layer's steps."""
        return TIME if TIME in self.values.dims else STEP

    @property
    def in_words(self) -> str:
        """The stretch and its units."""
        said, names = self.found.attrs, [str(unit) for unit in self.found.coords[UNIT].values]
        listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        steps = f"steps {said['start']} to {said['stop'] - 1}" if said["stop"] - said["start"] > 1 else f"step {said['start']}"
        is_are = "units are" if len(names) > 1 else "unit is"
        return f"Sample {self.sample}, {steps}: {len(names)} {is_are} at {said['threshold']:g} or above, {listed}."

    def tables(self) -> Iterable[tuple[Table, str]]:
        """The places, the best first."""
        from seqscope.report import Table

        names = {"sample": "Sample", "label": "Label", "start": "First step", "last": "Last step", "length": "Steps"}
        found = self.found.assign(last=self.found["stop"] - 1)
        columns = {heading: found[name].values.tolist() for name, heading in names.items() if name in found}
        columns |= {"Other units on": found["others"].values.tolist(), "Score": [f"{value:.3f}" for value in found["score"].values]}
        rows = [tuple(map(str, row)) for row in zip(*columns.values(), strict=True)]
        numeric = frozenset(place for place, heading in enumerate(columns) if heading != "Label")
        n_found = self.found.attrs["n_found"]
        caption = (
            f"The best {len(rows)} of {n_found} places." if n_found > len(rows) else f"{n_found} places." if rows else "No other place."
        )
        yield Table(list(columns), rows, caption, numeric), self.in_words

    @functools.cached_property
    def figure(self) -> Any:
        """The units that were looked for: in the stretch, and in the best places."""
        draw_without_screen()
        import matplotlib.pyplot as plt

        from seqscope import plot
        from seqscope.plot import style

        places = self._places()
        n_rows = math.ceil(len(places) / _COLUMNS)
        units = self.values.sel({UNIT: self.found.coords[UNIT].values})
        low, high = plot.limits([units])
        high_each = min(4.5, 1.3 + 0.16 * units.sizes[UNIT])
        figure, axes = plt.subplots(n_rows, _COLUMNS, figsize=(11.0, 0.6 + n_rows * high_each), layout="constrained", squeeze=False)
        for place, ax in enumerate(axes.flat):
            if place >= len(places):
                ax.set_visible(False)
                continue
            row, start, stop, title = places[place]
            near = slice(max(0, start - _AROUND), stop + _AROUND)
            one = units.isel({SAMPLE: row, self.clock: near}).dropna(self.clock, how="all")
            is_last = place in (_COLUMNS - 1, len(places) - 1) and place < _COLUMNS
            plot.heatmap(one, ax=ax, limits=(low, high), title=title, colorbar="Activation" if is_last else None)
            edges = style.edges(style.positions(one.coords[style.clock(one, self.clock)]))
            for at in (start - near.start, stop - near.start):
                ax.axvline(edges[at], color=_INK, linewidth=1.2)
        figure.suptitle(f"'{self.values.attrs['layer']}': the units that are on together", fontsize="medium")
        return figure

    def _places(self) -> list[tuple[int, int, int, str]]:
        """Row, start, stop and title of what is drawn."""
        said = self.found.attrs
        places = [(self.sample, said["start"], said["stop"], f"Sample {said['sample']}, the stretch")]
        rows = {label: row for row, label in enumerate(self.values.coords[SAMPLE].values.tolist())}
        for rank in range(min(_DRAWN, self.found.sizes[RANK])):
            one = {name: self.found[name].values[rank].item() for name in ("sample", "start", "stop", "score")}
            label = f", {self.found['label'].values[rank].item()!r}" if "label" in self.found else ""
            places.append((rows[one["sample"]], one["start"], one["stop"], f"Sample {one['sample']}{label}, score {one['score']:.2f}"))
        return places

    def sections(self, code: str) -> list[Section]:
        """The page."""
        from seqscope.report import Picture, Section

        ((table, title),) = self.tables()
        return [
            Section("The places, the best first", f"{title} The score is their share in all units that are on.", code, table=table),
            Section(
                "How it looks there",
                "The units that were looked for, between two lines where they are on together. The stretch itself comes first.",
                f"sq.plot.heatmap(values[{self.sample}].sel(unit=found.unit))",
                picture=Picture.of(self.figure, "The same units in the stretch and in the best places"),
            ),
        ]
