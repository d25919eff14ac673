"""The parts of a report that say what each unit does, and how the report was made."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import xarray as xr

from seqscope._version import __version__
from seqscope.errors import SeqscopeError, UnsupportedError, hearing
from seqscope.labelled import UNIT
from seqscope.report import Section, Table
from seqscope.report.subject import Subject
from seqscope.report.units import known_beside, sections, telling_windows
from seqscope.units import summary

_PACKAGES = ("numpy", "xarray", "scipy", "matplotlib", "torch", "keras", "tensorflow", "jax", "onnxruntime")
# Units whose windows are drawn.
_DRAWN = 2


def units(subject: Subject) -> Iterator[Section]:
    """What each unit of the first layer does over the data set."""
    if not subject.layers:
        raise UnsupportedError("no layer of the model has units with a value at each step")
    layer, X = subject.layers[0], subject.part
    hidden: Any = subject.scope.activations(X, layer, progress=False)
    if not isinstance(hidden, xr.DataArray) or UNIT not in hidden.dims:
        raise UnsupportedError(f"'{layer}' has no units with a value at each step")
    with hearing():  # what is left out is not on the page
        given = known_beside(subject.scope, X, hidden, progress=False)
        windows = []
        report = summary(hidden, **given)
        if not X.is_tokens:
            windows = telling_windows(subject.scope, X, hidden, report, most=_DRAWN)
    said = {"y": "y=X.labels", "X": "X=X", "states": "states=scope.states(X, hidden.layer)"}
    more = "".join(f", {said[name]}" for name in given)
    few = "" if len(X) == len(subject.X) else f"X = X[:{len(X)}]\n"
    opening = subject.opening + few + f"hidden = scope.activations(X, {layer!r})\nreport = sq.units.summary(hidden{more})\n"
    for section in sections(report, windows, opening=opening):
        yield replace(section, name="units") if section.code == "sq.plot.units(report)" else section


def provenance(subject: Subject) -> Iterator[Section]:
    """How the report was made."""
    scope, asked = subject.scope, subject.asked
    rows = [("Model", repr(scope)), ("Digest of the model", _digest(subject)), ("Data", subject.X.describe())]
    rows += [("Where they come from", asked.made_from)] if asked.made_from else []
    rows += [("Command", asked.command)] if asked.command else []
    rows += [
        ("Layers looked at", ", ".join(subject.layers) or "none"),
        ("Samples shown", ", ".join(map(str, subject.samples))),
        ("Methods", ", ".join(subject.methods) or "none"),
        ("What is explained", "what is predicted" if asked.target is None else str(asked.target)),
        ("Seed", str(asked.seed)),
        ("Units judged over", f"{len(subject.part):,} sequences"),
        ("seqscope", __version__),
        ("Python", f"{platform.python_version()} on {platform.system()}"),
    ]
    rows += [(name, version) for name in _PACKAGES if (version := _version(name))]
    yield Section(
        "How this was made",
        "Each section says the Python that makes it; all begin with the same lines.",
        subject.opening,
        table=Table(("What", "Which"), rows),
    )


def _digest(subject: Subject) -> str:
    try:
        return subject.scope.digest
    except SeqscopeError:
        return "not known"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
