"""The files that a command writes, seen to before the work begins, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as Printed

from seqscope import files
from seqscope.errors import OutputExistsError, UnsupportedError, quoted

if TYPE_CHECKING:
    from seqscope.report import Table

PICTURES, RESULTS, PAGES = (".png", ".svg", ".pdf"), (".nc", ".npz", ".csv"), (".html",)


def check_files(output: Sequence[Path], known: Sequence[str], *, force: bool) -> None:
    """Refuse files that can't be written.

    Raises
    ------
    UnsupportedError
        An ending is not one of `known`.
    OutputExistsError, DataError
    """
    for file in output:
        if file.suffix.lower() not in known:
            raise UnsupportedError(f"Nothing can be written as '{file.suffix or file.name}': expected an ending out of {quoted(known)}.")
        files.check_output(file, force=force)
    if len(set(output)) < len(output):
        raise OutputExistsError("The same file was named twice with -o.")


def say(text: str) -> None:
    """A message, on standard error."""
    Console(stderr=True).print(text, soft_wrap=True, highlight=False, markup=False)


def print_table(table: Table, title: str) -> None:
    """A table of a page in the terminal."""
    printed = Printed(title=title, caption=table.caption or None, title_justify="left", caption_justify="left")
    for place, heading in enumerate(table.headings):
        printed.add_column(heading, justify="right" if place in table.numeric else "left", overflow="fold")
    for row in table.rows:
        printed.add_row(*row)
    Console(highlight=False, markup=False).print(printed)
