"""Where results go: looked at before the work begins, filled all at once in the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from seqscope.errors import DataError, OutputExistsError
from seqscope.sniff import is_recording

ZARR = ".zarr"


def check_output(path: Path, *, force: bool) -> Path:
    """Make sure that a file can be written, before the work begins.

    Raises
    ------
    OutputExistsError
        It is there already, and `force` was not said; or it is a folder that is no result.
    DataError
        Its folder is not there, or nothing may be written into it.
    """
    if path.is_dir() and not _is_result(path):
        what = "a recording" if is_recording(path) else "a folder"
        raise OutputExistsError(f"'{path}' is {what}, which no result is written over: name another file.")
    if path.exists() and not force:
        raise OutputExistsError(f"'{path}' exists: say --force to write over it, or name another file.")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder '{path.parent}' to write '{path.name}' into.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"Nothing may be written into the folder '{path.parent}': name a file in another.")
    return path


def _is_result(folder: Path) -> bool:
    """Whether a folder is a Zarr store that may be written over."""
    return folder.suffix.lower() == ZARR and (folder / "zarr.json").is_file() and not is_recording(folder)


@contextmanager
def all_or_none(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a place to write for each file; all are moved to where they belong once the block is done, and none if it fails.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with all_or_none([Path(folder, "a.txt")]) as (made,):
    ...         _ = made.write_text("whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    with ExitStack() as stack:
        parents = list(dict.fromkeys(path.parent for path in paths))
        folders = {parent: Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent, prefix=".seqscope-"))) for parent in parents}
        made = [folders[path.parent] / path.name for path in paths]
        yield made
        for file, path in zip(made, paths, strict=True):
            if path.is_dir() or file.is_dir():  # a folder takes no other's place
                _put_away(path, folders[path.parent] / f"old-{path.name}")
            file.replace(path)


def _put_away(path: Path, place: Path) -> None:
    if path.exists():
        path.replace(place)
