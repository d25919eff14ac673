"""Where a command writes and how it says so, the same for all: the options, what is seen to before the work, what is done in the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqscope import files
from seqscope.cli import voice
from seqscope.cli.expand import stand_for
from seqscope.cli.voice import print_table, say
from seqscope.errors import OutputExistsError, UnsupportedError, quoted

if TYPE_CHECKING:
    from seqscope.report import Section

__all__ = ["PAGES", "PICTURES", "RESULTS", "Made", "Wanted", "check_files", "drawing", "gives", "paging", "print_table", "say"]

PICTURES, RESULTS, PAGES = files.PICTURES, files.RESULTS, (".html",)

# Standard output in place of a file.
_STDOUT = Path("-")
_PANEL = "Output"
_DPI = 150

# What a file is written with.
Save = Callable[[Path], object]

OUTPUT_HELP = (
    "Where to write, in the form that the ending says: .nc, .zarr, .npz, .mat (everything), .csv, .parquet (a table), .png, .svg, .pdf (a "
    "picture), .html (a page); '-' for CSV on standard output. May be repeated. Default: a summary on standard output."
)
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="No progress and no messages, but for warnings and errors.", rich_help_panel=_PANEL)
]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.", rich_help_panel=_PANEL)]
_BigJsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="The result as JSON on standard output, as xarray's from_dict takes it; of over 100,000 values their sizes and extremes.",
        rich_help_panel=_PANEL,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over files that exist.", rich_help_panel=_PANEL)]


@dataclass(frozen=True)
class Made:
    """What a command found, in each form that it may be asked for.

    Attributes
    ----------
    result : DataArray, Dataset or DataTree
    what : str
        What messages call it: "lstm (sample 370, time 29, unit 100)".
    drawn : str
        What messages call what a picture shows: "Sample 2".
    show : callable
        Shows it in the terminal.
    picture, page : callable
        Writes a file with a picture, with a page.
    table : DataArray or Dataset, optional
        What goes into a table, where that is a part of the result.
    json : callable, optional
        What is shown as JSON, where that is not the result.
    is_told : bool
        Whether it is shown beside what is written to files too.
    """

    result: files.Result
    what: str
    drawn: str
    show: Callable[[], None]
    picture: Save
    page: Save
    table: files.Result | None = None
    json: Callable[[], dict[str, Any]] | None = None
    is_told: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a person typed to say where to write, and how."""

    output: tuple[Path, ...]
    plot: tuple[Path, ...]
    force: bool
    quiet: bool
    json: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is written, standard output aside."""
        return (*(file for file in self.output if file != _STDOUT), *self.plot)

    @property
    def is_drawn(self) -> bool:
        """Whether a picture is wanted, in a file of its own or on a page."""
        return any(files.is_picture(file) or _is_page(file) for file in self.files)

    @property
    def is_tabled(self) -> bool:
        """Whether a table is wanted, which holds one layer."""
        return _STDOUT in self.output or any(map(files.is_table, self.files))

    @property
    def progress(self) -> bool | None:
        """What verbs take: whether to show a bar."""
        return False if self.quiet else None

    def check(self) -> None:
        """Refuse what can't be done, before the work begins.

        Raises
        ------
        UnsupportedError, OutputExistsError, DataError, MissingPackageError
        """
        for file in self.plot:
            files.check_picture(file)
        check_files(self.files, (*RESULTS, *PICTURES, *PAGES), force=self.force)
        if self.json and _STDOUT in self.output:
            raise typer.BadParameter("-o - and --json both write to standard output: say one of the two")

    def deliver(self, made: Made) -> None:
        """Write all files, or none if one fails; then show what there is to show."""
        with files.all_or_none(self.files) as places:
            for place in places:
                _save(made, place)
        self._show(made)
        for file in self.files:
            self.say(f"{made.drawn} drawn in {file}" if files.is_picture(file) else f"{made.what} written to {file}")

    def say(self, text: str) -> None:
        """A message, unless there are to be none."""
        say(text, quiet=self.quiet)

    def _show(self, made: Made) -> None:
        if _STDOUT in self.output:
            with voice.quiet_end():
                from seqscope.files.result_tables import write_csv

                write_csv(_as_table(made), sys.stdout)
        elif self.json:
            shown = made.json() if made.json is not None else _json_of(made.result)
            voice.write_json(shown | {"files": [str(file) for file in self.files]})
        elif made.is_told or not self.files:
            made.show()


def gives(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take the options that say where to write; its parameter `wanted` gets them, looked through, as a `Wanted`."""
    return stand_for("wanted", _typed, command)


def _typed(
    output: Annotated[list[Path] | None, typer.Option("-o", "--output", metavar="FILE", help=OUTPUT_HELP, rich_help_panel=_PANEL)] = None,
    plot: Annotated[
        list[Path] | None,
        typer.Option("--plot", metavar="FILE", help="Where to draw: .png, .svg or .pdf. May be repeated.", rich_help_panel=_PANEL),
    ] = None,
    json: _BigJsonOption = False,
    quiet: QuietOption = False,
    force: ForceOption = False,
) -> Wanted:
    wanted = Wanted(tuple(output or ()), tuple(plot or ()), force, quiet, json)
    wanted.check()
    return wanted


def check_files(output: Sequence[Path], known: Sequence[str], *, force: bool) -> None:
    """Refuse files that can't be written.

    Raises
    ------
    UnsupportedError
        An ending is not one of `known`.
    OutputExistsError, DataError, MissingPackageError
    """
    for file in output:
        if file.suffix.lower() not in known:
            raise UnsupportedError(f"Nothing can be written as '{file.suffix or file.name}': expected an ending out of {quoted(known)}.")
        if file.suffix.lower() in RESULTS:
            files.writer_for(file)
        files.check_output(file, force=force)
    if len({file.resolve() for file in output}) < len(output):
        raise OutputExistsError("The same file was named twice: name each once.")


def drawing(figure: Callable[[], Any]) -> Save:
    """Writes a picture, drawn when the first file asks for it."""
    return lambda path: figure().savefig(path, dpi=_DPI)


def paging(title: str, lead: str, sections: Callable[[], Sequence[Section]], made_from: str) -> Save:
    """Writes a page, made when it is asked for."""

    def save(path: Path) -> None:
        from seqscope.report import write_page

        write_page(path, title=title, lead=lead, sections=sections(), made_from=made_from)

    return save


def _save(made: Made, place: Path) -> None:
    if files.is_picture(place):
        made.picture(place)
    elif _is_page(place):
        made.page(place)
    else:
        files.writer_for(place)(_as_table(made) if files.is_table(place) else made.result, place)


def _as_table(made: Made) -> files.Result:
    return made.result if made.table is None else made.table


def _is_page(file: Path) -> bool:
    return file.suffix.lower() in PAGES


def _json_of(result: files.Result) -> dict[str, Any]:
    from seqscope.cli.as_json import as_json

    return as_json(result)
