"""The command that writes what layers do over a whole data set to a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Printed

from seqscope import files
from seqscope.cli import completing, voice
from seqscope.cli.as_json import plain
from seqscope.cli.given import as_options, as_typed
from seqscope.cli.model import ModelGiven, takes_model
from seqscope.cli.options import DataArgument
from seqscope.cli.reading import STDIN
from seqscope.cli.writing import JsonOption, QuietOption, say
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
        str | None,
        typer.Argument(
            metavar="STORE", help="Where to write: a folder (vowels.zarr), or an address (s3://bucket/vowels.zarr).", show_default=False
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="STORE", help="The same as STORE.", rich_help_panel="Output")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="A layer's name or a glob, as often as there are layers to name; default: all, or none where --states is said.",
            autocompletion=completing.layers,
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
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write what layers do over a whole data set to disk. What was interrupted goes on with --resume."""
    if workers is not None and client is not None:
        raise typer.BadParameter("--workers starts processes here and --client names a cluster that runs: say one of the two")
    store = _store(store, output)
    if data == STDIN:
        raise typer.BadParameter("a recording is made of data that can be read again (--resume): give a file, and no standard input")
    if Path(store).exists() and Path(store).resolve() == Path(data).resolve():  # to write over it would delete what is read
        raise typer.BadParameter("DATA and STORE are the same: name another store")
    options = as_options(storage_option, "anon=True", names=False)
    with as_typed(_TYPED), _told_of_interruption():
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
    if json:
        voice.write_json(_as_json(recording, store))
    else:
        _show(recording, store, has_options=bool(options))


def _store(store: str | None, output: str | None) -> str:
    """Where to write, said in one of the two ways."""
    if (store is None) == (output is None):
        raise typer.BadParameter("Missing argument 'STORE'" if store is None else "STORE and -o mean the same: say one of the two")
    return str(store if output is None else output)


def _given(data: str) -> Any:
    """What to record. Tables go by their path: large ones are not read into memory."""
    form = FORMATS.get(Path(data).suffix.lower())
    return Path(data) if form is not None and "keep" in form.options else files.read_data(data)


@contextmanager
def _told_of_interruption() -> Iterator[None]:
    """Say what becomes of work that is interrupted."""
    try:
        yield
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
    voice.show(table)


def _as_json(recording: Recording, store: str) -> dict[str, Any]:
    """The same for machines."""
    failed = recording.failed["position"].values.tolist()
    told = {"store": store, "layers": recording.layers, "recurrent": recording.recurrent, "n_samples": int(recording.recorded.size)}
    told |= {"complete": recording.is_complete, "accuracy": recording.accuracy, "size": recording.size, "failed": failed}
    return {name: plain(value) for name, value in (told | {"settings": dict(recording.settings)}).items()}
