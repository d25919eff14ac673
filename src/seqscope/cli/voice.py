"""What commands say: results on standard output, messages on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.table import Table as Printed

if TYPE_CHECKING:
    from seqscope.report import Table

# How a process ends whose reader has gone, as a shell tells it: 128 and the number of SIGPIPE.
_READER_GONE = 141


def say(text: str, *, quiet: bool = False) -> None:
    """A message, on standard error."""
    if not quiet:
        Console(stderr=True).print(text, soft_wrap=True, highlight=False, markup=False)


class _Shown(Console):
    """Standard output."""

    def on_broken_pipe(self) -> None:
        _end_quietly()


def show(what: Any, *, plain: bool = False) -> None:
    """A result for people: a table, or text. Plain text is neither broken into lines nor coloured."""
    _Shown(markup=False, highlight=False).print(what, soft_wrap=plain)


def print_tables(tables: Iterable[tuple[Table, str]]) -> None:
    """Tables of a page in the terminal, each with its title."""
    for table, title in tables:
        print_table(table, title)


def print_table(table: Table, title: str) -> None:
    """A table of a page in the terminal."""
    printed = Printed()
    for place, heading in enumerate(table.headings):
        printed.add_column(heading, justify="right" if place in table.numeric else "left", overflow="fold")
    for row in table.rows:
        printed.add_row(*row)
    show(title)  # by itself: above a narrow table a long title would be folded
    show(printed)
    if table.caption:
        show(table.caption)


def write_json(data: Any) -> None:
    """A result for machines: JSON in one line."""
    write_text(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(text: str) -> None:
    """A result for machines, at once and as it is."""
    with quiet_end():
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def quiet_end() -> Iterator[None]:
    """End without a word where the reader of standard output has gone, as `head` does."""
    try:
        yield
    except BrokenPipeError:
        _end_quietly()


def _end_quietly() -> NoReturn:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # so that nothing is tried again at the exit
    sys.exit(_READER_GONE)
