"""The command that writes what layers do over a whole data set to a store."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Printed

from seqscope import files
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument
from seqscope.cli.writing import say
from seqscope.errors import SeqscopeError
from seqscope.files.data import FORMATS

if TYPE_CHECKING:
    from seqscope.recording.reading import Recording

_ALL = "all"
# Samples that were set aside are listed up to so many.
_MOST_FAILED = 12
# What messages call the arguments of `Scope.record`, and what was typed.
_TYPED = {
    "resume=True": "--resume",
    "overwrite=True": "--overwrite",
    "resume=": "--resume",
    "overwrite=": "--overwrite",
    "dtype='float16'": "--dtype float16",
    "keep_bits=": "--keep-bits",
    "batch_size=": "--batch-size",
    "shard=": "--shard",
    "inputs=False": "--no-inputs",
    "storage_options=": "--storage-option",
    "factory=": "--factory",
    "call record again": "type the same again",
}


@takes_model
def record(
    model: ModelGiven,
    data: DataArgument,
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="Where to write: a folder (vowels.zarr), or an address (s3://bucket/vowels.zarr).", show_default=False
        ),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="A layer's name or a glob, as often as there are layers to name; default: all, or none where --states is said.",
        ),
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--states", metavar="NAME", help="A recurrent layer whose states and gates are written; 'all': of all. May be repeated."
        ),
    ] = None,
    inputs: Annotated[bool, typer.Option("--inputs/--no-inputs", help="Write the inputs too. --workers and --client read from there.")] = (
        True
    ),
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="TYPE", help="What values are written as: float16 or float32; default: as they are.")
    ] = None,
    keep_bits: Annotated[
        int | None, typer.Option("--keep-bits", metavar="N", help="Bits of the mantissa to keep, of 23: a smaller store.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", metavar="N", help="Sequences to run together.")] = None,
    shard: Annotated[int | None, typer.Option("--shard", metavar="N", help="Sequences in a unit of work, which is one file.")] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Processes to start here for it, with Dask; default: this one does it."),
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", metavar="ADDRESS", help="The scheduler of a Dask cluster, such as tcp://10.0.0.4:8786.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the store where there is one.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over the store where there is one.")] = False,
    skip_errors: Annotated[bool, typer.Option("--skip-errors", help="Set aside samples that the model fails on, and list them.")] = False,
    storage_option: Annotated[
        list[str] | None,
        typer.Option("--storage-option", metavar="KEY=VALUE", help="What the file system of an address is told. May be repeated."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no bar.")] = False,
) -> None:
    """Write what layers do over a whole data set to disk. What was interrupted goes on with --resume."""
    if workers is not None and client is not None:
        raise typer.BadParameter("--workers starts processes here and --client names a cluster that runs: say one of the two")
    if Path(store).exists() and Path(store).resolve() == Path(data).resolve():  # to write over it would delete what is read
        raise typer.BadParameter("DATA and STORE are the same: name another store")
    options = dict(_option(text) for text in storage_option or [])
    with _as_typed():
        recording = model.scope().record(
            _given(data),
            store,
            layer,
            states=True if states and _ALL in states else states or None,
            inputs=inputs,
            dtype=dtype,
            keep_bits=keep_bits,
            batch_size=batch_size,
            shard=shard,
            client=client if workers is None else workers,
            resume=resume,
            overwrite=overwrite,
            on_error="skip" if skip_errors else "raise",
            storage_options=options or None,
            progress=False if quiet else None,
        )
    _show(recording, store, has_options=bool(options))


def _given(data: str) -> Any:
    """What to record. Tables go by their path: large ones are not read into memory."""
    form = FORMATS.get(Path(data).suffix.lower())
    return Path(data) if form is not None and "keep" in form.options else files.read_data(data)


def _option(text: str) -> tuple[str, Any]:
    """An option of a file system: a number, a list or a dict where it reads as one, else a text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"'{text}' is no option: expected KEY=VALUE, such as anon=True")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


@contextmanager
def _as_typed() -> Iterator[None]:
    """Name options in messages as they are typed; say what becomes of work that is interrupted."""
    try:
        yield
    except SeqscopeError as error:
        for name, typed in _TYPED.items():
            error.message = error.message.replace(name, typed)
        raise
    except KeyboardInterrupt:
        say("Interrupted: what is recorded stays. Type the same with --resume to go on.")
        raise


def _show(recording: Recording, store: str, *, has_options: bool) -> None:
    """What is there now, and how to open it."""
    rows = recording.in_words()
    failed = recording.failed["position"].values.tolist()
    if failed:
        listed = ", ".join(map(str, failed[:_MOST_FAILED])) + (", ..." if len(failed) > _MOST_FAILED else "")
        rows["Set aside"] = f"{len(failed)} that the model failed on, at {listed}: recording.failed says why"
    rows["To open it"] = f"sq.open({store!r}{', storage_options=...' if has_options else ''})"
    table = Printed(title=f"Recorded in '{recording.name}'", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for what, text in rows.items():
        table.add_row(what, text)
    Console(highlight=False, markup=False).print(table)
