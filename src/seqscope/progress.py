"""A progress bar for long work: on a terminal and in a notebook, and nowhere else."""

from __future__ import annotations

import importlib
import io
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Work that is done sooner shows no bar.
PATIENCE_S = 0.7
# What the rate is taken over: pieces of work may take a minute each.
_RATE_S = 300.0
# How often a notebook's page is told, and how many characters a line has there.
_NOTEBOOK_S, _NOTEBOOK_WIDTH = 0.3, 100


_Chunk = TypeVar("_Chunk")


class Reach(Protocol):
    """Says how many units are done by now, and what the bar is to say besides, until something else is said."""

    def __call__(self, done: int, text: str | None = None) -> None:
        """Say it."""


def tracked(chunks: Iterable[tuple[int, _Chunk]], *, total: int, what: str, show: bool | None = None, unit: str = "") -> Iterator[_Chunk]:
    """Go through chunks of work, each with its size, behind a bar of `total` units.

    Parameters
    ----------
    show : bool, optional
        None: where standard error is a terminal, and in a notebook.
    unit : str
        What is counted ("sequences"): then the bar says how many a second.
    """
    bar = _Bar(what, total, unit) if _is_shown(show) else None
    try:
        for size, chunk in chunks:
            yield chunk
            if bar is not None:
                bar.advance(size)
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def counting(*, total: int, what: str, show: bool | None = None, unit: str = "") -> Iterator[Reach]:
    """A bar for work whose pieces turn up deep inside: a function that takes how many units are done by now, and what else to say.

    Parameters
    ----------
    show, unit
        As in `tracked`.
    """
    bar = _Bar(what, total, unit) if _is_shown(show) else None
    try:
        yield _unseen if bar is None else bar.reach
    finally:
        if bar is not None:
            bar.close()


def _unseen(done: int, text: str | None = None) -> None:
    """Where there is no bar."""


def _is_shown(show: bool | None) -> bool:
    if show is not None:
        return show
    return (sys.stderr is not None and sys.stderr.isatty()) or _notebook() is not None


def _notebook() -> Any:
    """IPython's `display`, where a notebook's kernel runs this; a notebook that does has imported IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    return importlib.import_module("IPython.display").display


class _Bar:
    """A bar that appears when the work has gone on for a while."""

    def __init__(self, what: str, total: int, unit: str = "") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._text, self._start = 0, "", time.monotonic()
        self._opened: tuple[Progress, TaskID] | None = None
        self._page: _Page | None = None

    def advance(self, size: int) -> None:
        self.reach(self._done + size)

    def reach(self, done: int, text: str | None = None) -> None:
        self._done, self._text = done, self._text if text is None else text
        if self._opened is None and time.monotonic() - self._start > PATIENCE_S and self._done < self._total:
            self._opened = self._open()
        if self._opened is not None:
            progress, task = self._opened
            progress.update(task, completed=self._done, text=self._text)
            speed = progress.tasks[0].speed if self._unit else None
            progress.update(task, rate="" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f}/s")
            if self._page is not None:
                self._page.show(progress)

    def _open(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        said = ("{task.completed:,.0f}/{task.total:,.0f}{task.fields[unit]}", "{task.fields[rate]}")
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            *(TextColumn(text, markup=False) for text in said),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        display = _notebook()
        console = Console(stderr=True) if display is None else Console(file=io.StringIO(), width=_NOTEBOOK_WIDTH, force_jupyter=False)
        progress = Progress(*columns, console=console, transient=True, expand=True, speed_estimate_period=_RATE_S, get_time=time.monotonic)
        task = progress.add_task(self._what, total=self._total, unit=self._unit and f" {self._unit}", rate="", text="")
        if display is None:
            progress.start()
        else:
            self._page = _Page(display)
        return progress, task

    def close(self) -> None:
        if self._page is not None:
            self._page.clear()
        elif self._opened is not None:
            self._opened[0].stop()


class _Page:
    """A line in a notebook that is written over: rich's own needs ipywidgets there."""

    def __init__(self, display: Any) -> None:
        self._handle = display(_as_text(""), raw=True, display_id=True)
        self._at = float("-inf")

    def show(self, progress: Progress) -> None:
        if time.monotonic() - self._at >= _NOTEBOOK_S:
            with progress.console.capture() as capture:
                progress.console.print(progress.get_renderable())
            self._handle.update(_as_text(capture.get().rstrip()), raw=True)
            self._at = time.monotonic()

    def clear(self) -> None:
        self._handle.update(_as_text(""), raw=True)


def _as_text(text: str) -> dict[str, str]:
    return {"text/plain": text}
