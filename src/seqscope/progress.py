"""A progress bar for long work: on a terminal, and nowhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

# Work that is done sooner shows no bar.
PATIENCE_S = 0.7


class _Sized(Protocol):
    def __len__(self) -> int: ...


_Chunk = TypeVar("_Chunk")


def tracked(chunks: Iterable[tuple[int, _Chunk]], *, total: int, what: str, show: bool | None = None) -> Iterator[_Chunk]:
    """Go through chunks of work, each with its size, behind a bar of `total` units.

    Parameters
    ----------
    show : bool, optional
        None: where standard error is a terminal.
    """
    shown = sys.stderr.isatty() if show is None else show
    bar = _Bar(what, total) if shown else None
    try:
        for size, chunk in chunks:
            yield chunk
            if bar is not None:
                bar.advance(size)
    finally:
        if bar is not None:
            bar.close()


class _Bar:
    """A bar that appears when the work has gone on for a while."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._start = what, total, 0, time.monotonic()
        self._progress = None

    def advance(self, size: int) -> None:
        self._done += size
        if self._progress is None and time.monotonic() - self._start > PATIENCE_S and self._done < self._total:
            self._open()
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(self._what, total=self._total)
        self._progress.start()

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
