"""What a shell offers when Tab is pressed. No framework is loaded for it, but where the layers of a shipped network are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import typer

from seqscope import zoo
from seqscope.engines.model_files import MODEL_FILES
from seqscope.files.data import DATA_SETS, FORMATS

Completer = Callable[[str], list[str]]


def models(incomplete: str) -> list[str]:
    """Networks of the zoo, model files, and modules that may hold a function that makes a model."""
    modules = [f"{path.stem}:" for path in sorted(Path().glob("*.py"))]
    return [*_begun((*zoo.__all__, *modules), incomplete), *_files(incomplete, MODEL_FILES)]


def data(incomplete: str) -> list[str]:
    """Data sets and data files."""
    return [*_begun(DATA_SETS, incomplete), *_files(incomplete, FORMATS)]


def texts(incomplete: str) -> list[str]:
    """The text that is shipped, and text files."""
    return [*_begun(("shakespeare",), incomplete), *_files(incomplete, (".txt", ".md"))]


def methods(incomplete: str) -> list[str]:
    """Methods of attribution."""
    from seqscope.attribution import METHODS

    return _begun(METHODS, incomplete)


def layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """The layers of a network of the zoo; other models are not opened for it."""
    model = ctx.params.get("model") or next(iter(ctx.args), None)  # where an option still lacks its value, nothing is parsed
    if model not in zoo.__all__:
        return []
    with suppress(Exception):  # whatever is wrong is said when the command runs, not on Tab
        from seqscope.scope import Scope

        return _begun(Scope(getattr(zoo, model)(ctx.params.get("framework") or "torch")).layers.names, incomplete)
    return []


def one_of(*names: str) -> Completer:
    """A few names."""
    return lambda incomplete: _begun(names, incomplete)


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _files(incomplete: str, endings: Iterable[str]) -> Iterator[str]:
    """Files with one of these endings, and folders, which end in a slash; `.zarr` is a folder that is a file of data."""
    begin, known = incomplete.rpartition(os.sep)[0:2], set(endings)
    folder = "".join(begin)
    with suppress(OSError):
        for entry in sorted(os.scandir(folder or "."), key=lambda entry: entry.name):
            name, is_known = folder + entry.name, Path(entry.name).suffix.lower() in known
            if name.startswith(incomplete) and not entry.name.startswith("."):
                if is_known:
                    yield name
                elif entry.is_dir():
                    yield f"{name}{os.sep}"
