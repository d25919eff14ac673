"""A progress bar for long work: on a terminal, and nowhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Work that is done sooner shows no bar.
PATIENCE_S = 0.7


_Chunk = TypeVar("_Chunk")


def tracked(chunks: Iterable[tuple[int, _Chunk]], *, total: int, what: str, show: bool | None = None) -> Iterator[_Chunk]:
    """Go through chunks of work, each with its size, behind a bar of `total` units.

    Parameters
    ----------
    show : bool, optional
        None: where standard error is a terminal.
    """
    shown = (sys.stderr is not None and sys.stderr.isatty()) if show is None else show
    bar = _Bar(what, total) if shown else None
    try:
        for size, chunk in chunks:
            yield chunk
            if bar is not None:
                bar.advance(size)
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def counting(*, total: int, what: str, show: bool | None = None) -> Iterator[Callable[[int], None]]:
    """A bar for work whose pieces turn up deep inside: a function that takes how many units are done by now.

    Parameters
    ----------
    show : bool, optional
        None: where standard error is a terminal.
    """
    shown = (sys.stderr is not None and sys.stderr.isatty()) if show is None else show
    bar = _Bar(what, total) if shown else None
    try:
        yield (lambda done: None) if bar is None else bar.reach
    finally:
        if bar is not None:
            bar.close()


class _Bar:
    """A bar that appears when the work has gone on for a while."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._start = what, total, 0, time.monotonic()
        self._opened: tuple[Progress, TaskID] | None = None

    def advance(self, size: int) -> None:
        self.reach(self._done + size)

    def reach(self, done: int) -> None:
        self._done = done
        if self._opened is None and time.monotonic() - self._start > PATIENCE_S and self._done < self._total:
            self._opened = self._open()
        if self._opened is not None:
            progress, task = self._opened
            progress.update(task, completed=self._done)

    def _open(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        task = progress.add_task(self._what, total=self._total)
        progress.start()
        return progress, task

    def close(self) -> None:
        if self._opened is not None:
            self._opened[0].stop()
