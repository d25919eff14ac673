"""The page on the units of a layer: what each does over a data set, as tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import quoted, warn
from seqscope.labelled import GATE, LABEL, STATE_NAMES, TIME, UNIT
from seqscope.report import Section, Table, drawn
from seqscope.scope import Scope
from seqscope.sequences import Sequences

__all__ = ["class_table", "driven", "known_beside", "layer_table", "notable", "sections", "telling_windows", "unit_table"]

# Layers with gates; the others that are recurrent; what is shown of other layers' inputs where what they see is not known.
_GATED, _RECURRENT, _WINDOW = ("lstm", "gru"), ("lstm", "gru", "rnn"), 20
# Units whose windows are drawn, and windows of each.
_DRAWN, _WINDOWS = 3, 6

# Rows of a table at most.
_MOST = 12


def sections(report: xr.Dataset, windows: list[xr.Dataset], *, opening: str) -> Iterator[Section]:
    """The page from top to bottom.

    Parameters
    ----------
    report : Dataset
        What `units.summary` gives.
    windows : list of Dataset
        What `units.top_windows` gives, of the units that are shown.
    opening : str
        The Python that makes `scope`, `X`, `hidden`, `report`: the other sections go on from there.
    """
    from seqscope import plot

    yield Section(
        "The layer as a whole",
        f"What the {report.sizes[UNIT]} units of '{report.attrs['layer']}' do over this data, and whether any does nothing of its own.",
        opening,
        table=layer_table(report),
    )
    yield Section(
        "Every unit",
        "A row for each unit: where its values lie, and, as far as it is known, how long it keeps what it holds, which channel it follows "
        "and which class it tells from the rest (red: higher in the class, blue: lower).",
        "sq.plot.units(report)",
        picture=drawn(plot.units(report), "A row for each unit with its range, correlations and classes"),
    )
    yield Section(
        "The most telling units", _said_of_notable(report), _code_of_table(report), table=unit_table(report, notable(report, _MOST))
    )
    if "selectivity" in report:
        yield Section(
            "The unit that tells each class best", _AUROC, 'abs(report.selectivity - 0.5).idxmax("unit")', table=class_table(report)
        )
    if _without_own(report).any():
        yield Section(
            "Units that do nothing of their own",
            f"Dead is {report.attrs.get('dead', 'judged over this data only')}; the same as another is a correlation of "
            f"{report.attrs.get('duplicate', 1)} or more in size.",
            "report.dead, report.duplicate_of",
            table=_idle_table(report),
        )
    if GATE in report.dims:
        yield Section(
            "Gates",
            "How often gates are shut (below 0.1) and open (above 0.9), on average, and the unit in which that is so most often.",
            "report.left_saturated, report.right_saturated",
            table=_gate_table(report),
        )
    for found in windows:
        unit = found.attrs["unit"]
        yield Section(
            f"What drives unit {unit} most",
            f"The {found.sizes['window']} places of the data where unit {unit} is highest, none of them overlapping: the input above, the "
            "unit's own value below.",
            f"sq.plot.top_windows(sq.units.top_windows(hidden, X, unit={unit!r}, k={found.sizes['window']}))",
            picture=drawn(plot.top_windows(found), f"The stretches of the input in which unit {unit} is highest"),
        )


_AUROC = (
    "By the area under the ROC curve (AUROC) of one class against the rest: 1 or 0 tells the class without a mistake, 0.5 tells nothing; "
    "below 0.5 the unit is lower in the class."
)


# What goes in


def known_beside(scope: Scope, X: Sequences, hidden: xr.DataArray, *, progress: bool | None = None) -> dict[str, Any]:
    """What `units.summary` can take beside the activations: classes `y`, the input `X`, `states` with gates."""
    given: dict[str, Any] = {} if not _are_classes(X.labels) else {"y": X.labels}
    if not X.is_tokens:
        given["X"] = X
    if hidden.attrs.get("kind") in _GATED:
        states = scope.states(X, hidden.attrs["layer"], progress=progress)
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


def telling_windows(scope: Scope, X: Sequences, hidden: xr.DataArray, report: xr.Dataset, *, most: int = _DRAWN) -> list[xr.Dataset]:
    """The windows of the input that drive the most telling units."""
    from seqscope.units import top_windows

    if X.is_tokens:
        warn("What drives a unit is shown for series only: the data is tokens.")
        return []
    steps = None
    if TIME in hidden.dims and hidden.attrs.get("kind") not in _RECURRENT:  # what its steps see is not in the array
        field = next((layer.field for layer in scope.layers if layer.name == hidden.attrs.get("layer")), None)
        steps = field if isinstance(field, int) and field <= _WINDOW else _WINDOW
    return [top_windows(hidden, X, unit, _WINDOWS, steps=steps) for unit in driven(report, most)]


# Which units


def notable(report: xr.Dataset, number: int) -> list[Any]:
    """The units that tell a class best; where classes are not known, those that follow a channel most, else those that vary most."""
    if "selectivity" in report:
        strength = np.abs(report["selectivity"].transpose(UNIT, LABEL).fillna(0.5).values - 0.5).max(axis=1)
    elif "correlation" in report:
        strength = np.abs(report["correlation"].fillna(0.0).values)
    else:
        strength = report["spread"].values
    order = np.argsort(-strength, kind="stable")[:number]
    return report.coords[UNIT].values[order].tolist()  # type: ignore[no-any-return]


def driven(report: xr.Dataset, number: int) -> list[Any]:
    """Units whose highest values are worth a look: those that are highest in one class, each of another class; else the notable ones."""
    if "selectivity" not in report:
        return notable(report, number)
    told = report["selectivity"].transpose(LABEL, UNIT).fillna(0.5).values
    best = told.argmax(axis=1)
    places = best[np.argsort(-told.max(axis=1), kind="stable")].tolist()
    return report.coords[UNIT].values[list(dict.fromkeys(places))[:number]].tolist()  # type: ignore[no-any-return]


def _said_of_notable(report: xr.Dataset) -> str:
    if "selectivity" in report:
        return "Those that tell a class best from the rest. " + _AUROC
    return "Those that follow an input channel most." if "correlation" in report else "Those that vary most."


def _code_of_table(report: xr.Dataset) -> str:
    """The figures that a unit has one of, as a table."""
    wide = [dim for dim in (LABEL, GATE) if dim in report.dims]
    return f"report.drop_dims({wide}).to_dataframe()" if wide else "report.to_dataframe()"


def _without_own(report: xr.Dataset) -> np.ndarray:
    """Which units are dead or do the same as another, (unit,)."""
    same = report["duplicate_correlation"].notnull().values if "duplicate_correlation" in report else False
    return np.asarray(report["dead"].values | same)


# Tables


def layer_table(report: xr.Dataset) -> Table:
    """What can be said of all units together."""
    rows = [("Units", f"{report.sizes[UNIT]:,}"), ("Steps over all sequences", f"{report.attrs['n_steps']:,}")]
    rows += [("Values", f"{report['low'].min().item():.3g} to {report['high'].max().item():.3g}")]
    rows += [("Dead over this data", str(int(report["dead"].sum())))]
    if "duplicate_correlation" in report:
        rows += [("The same as another", str(int(report["duplicate_correlation"].notnull().sum())))]
    if report["saturated"].notnull().any():
        rows += [("Saturated, on average", f"{100 * report['saturated'].mean().item():.1f} % of the time")]
    if "half_life" in report:
        life = report["half_life"]
        rows += [("Half-life, median and longest", f"{life.median().item():.3g} and {life.max().item():.3g} steps")]
    return Table(
        ("Figure", "Value"), rows, f"Saturated: {report.attrs['saturated']}." if "saturated" in report.attrs else "", frozenset({1})
    )


def unit_table(report: xr.Dataset, units: list[Any]) -> Table:
    """A row for each of these units, with the figures that are known."""
    chosen = report.sel({UNIT: units})
    columns = {"Unit": [str(unit) for unit in units]}
    columns["Spread"] = _numbers(chosen["spread"])
    if "selectivity" in chosen:
        told = chosen["selectivity"].transpose(UNIT, LABEL).fillna(0.5).values
        best = np.abs(told - 0.5).argmax(axis=1)
        columns["Class"] = [str(label) for label in chosen.coords[LABEL].values[best]]
        columns["AUROC"] = [f"{value:.3f}" for value in told[np.arange(len(told)), best]]
    if "correlation" in chosen:
        known = chosen["correlation"].notnull().values
        columns["Channel"] = [str(name) if there else "" for name, there in zip(chosen["channel"].values, known, strict=True)]
        columns |= {"Correlation": _numbers(chosen["correlation"]), "Lag": _numbers(chosen["lag"])}
    if "half_life" in chosen:
        columns["Half-life"] = _numbers(chosen["half_life"])
    numeric = frozenset(place for place, name in enumerate(columns) if name not in ("Class", "Channel"))
    return Table(list(columns), list(zip(*columns.values(), strict=True)), numeric=numeric)


def class_table(report: xr.Dataset, *, most: int = _MOST) -> Table:
    """For each class the unit that tells it best; of many classes, those that are told best."""
    rows = []
    units = report.coords[UNIT].values
    for label, told in zip(report.coords[LABEL].values, report["selectivity"].transpose(LABEL, UNIT).fillna(0.5).values, strict=True):
        place = np.abs(told - 0.5).argmax()
        value = told[place]
        rows.append((abs(value - 0.5), (str(label), str(units[place]), "higher" if value > 0.5 else "lower", f"{value:.3f}")))
    caption = ""
    if len(rows) > most:
        caption = f"The {most} of {len(rows)} classes that are told best."
        rows = sorted(rows, key=lambda row: -row[0])[:most]
    return Table(("Class", "Unit", "In the class it is", "AUROC"), [row for _, row in rows], caption, frozenset({1, 3}))


def _idle_table(report: xr.Dataset) -> Table:
    """The units that are dead or do the same as another."""
    which = np.flatnonzero(_without_own(report))
    rows = []
    for place in which[:_MOST]:
        unit = report.isel({UNIT: place})
        same = "duplicate_correlation" in unit and bool(unit["duplicate_correlation"].notnull())
        what = f"the same as unit {unit['duplicate_of'].item()}" if same else "dead"
        rows.append((str(unit.coords[UNIT].item()), what, f"{unit['duplicate_correlation'].item():.4f}" if same else ""))
    caption = f"The first {_MOST} of {len(which)}." if len(which) > _MOST else ""
    return Table(("Unit", "What it is", "Correlation"), rows, caption, frozenset({0, 2}))


def _gate_table(report: xr.Dataset) -> Table:
    """How often each gate is shut and open."""
    rows = []
    units = report.coords[UNIT].values
    for gate in report.coords[GATE].values.tolist():
        row = [f"{STATE_NAMES.get(gate, 'Gate')} {gate}"]
        for name in ("left_saturated", "right_saturated"):
            share = report[name].sel({GATE: gate}).values
            row += [f"{100 * share.mean():.1f} %", f"{units[share.argmax()]} ({100 * share.max():.0f} %)"]
        rows.append(tuple(row))
    return Table(("Gate", "Shut", "Most often in unit", "Open", "Most often in unit"), rows, numeric=frozenset({1, 2, 3, 4}))


def _numbers(array: xr.DataArray) -> list[str]:
    """Three figures each; nothing where there is none."""
    return ["" if np.isnan(value) else f"{value:.3g}" for value in array.values.tolist()]
