"""A report: one page on a model and its data, part by part; a part that can't be had says why, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from seqscope import files
from seqscope.errors import SeqscopeError, UnsupportedError, hearing
from seqscope.progress import tracked
from seqscope.report import Section, write_page
from seqscope.report.made import provenance, units
from seqscope.report.parts import accuracy_said, attention, hidden, layers, samples
from seqscope.report.subject import Asked, Subject
from seqscope.report.why import attributions, mistakes, prototypes
from seqscope.scope import Scope
from seqscope.sequences import Sequences

_LOG = logging.getLogger(__name__)

Part = Callable[[Subject], Iterator[Section]]

# From top to bottom: what each is called where it can't be had, and what makes it.
PARTS: dict[str, Part] = {
    "The layers": layers,
    "The data": samples,
    "What the units do": hidden,
    "Attention weights": attention,
    "What the decision rests on": attributions,
    "The mistakes": mistakes,
    "What each class asks for": prototypes,
    "What each unit does": units,
    "How this was made": provenance,
}


def report(scope: Scope, X: Sequences, path: Path, asked: Asked, *, force: bool = False, progress: bool | None = None) -> Path:
    """Write the page.

    Raises
    ------
    UnsupportedError
        The file's name does not end in .html.
    OutputExistsError, SampleError, LayerError, DataError, ModelError
    """
    check(path, force=force)
    subject = Subject(scope, X, asked)
    write_page(
        path,
        title=f"What {_named(scope)} does",
        lead=f"{scope!r}. {X.describe()}. {accuracy_said(subject)}".strip(),
        sections=list(sections(subject, progress=progress)),
        made_from=asked.made_from,
    )
    return path


def check(path: Path, *, force: bool) -> None:
    """Refuse a file that can't be written, before the work begins."""
    if path.suffix.lower() != ".html":
        raise UnsupportedError(f"A report is a page: '{path.name}' should end in .html.")
    files.check_output(path, force=force)


def sections(subject: Subject, *, progress: bool | None = None) -> Iterator[Section]:
    """All parts, from top to bottom."""
    each = ((1, item) for item in PARTS.items())
    for title, part in tracked(each, total=len(PARTS), what="Report", show=progress, unit="parts"):
        yield from had_or_told(title, part, subject)


def had_or_told(title: str, part: Part, subject: Subject) -> Iterator[Section]:
    """A part; where it can't be had, a section that says why."""
    try:
        with hearing():  # what would be warned of is what the page shows: a mistake explained is an output that is not chosen
            made = list(part(subject))
        yield from made
    except SeqscopeError as error:
        yield Section(title, f"This part is left out: {_as_clause(error.message)}", "")
    except Exception as error:
        _LOG.exception("The part '%s' of the report failed.", title)
        yield Section(title, f"This part failed ({type(error).__name__}: {error}); the others went on.", "")


def _named(scope: Scope) -> str:
    return repr(scope).removeprefix("Scope of ").partition(" (")[0]


def _as_clause(message: str) -> str:
    return message if message.endswith((".", "?", ")")) else f"{message}."
