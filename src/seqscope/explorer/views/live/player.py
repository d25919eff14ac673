"""A sample played step by step through a stream, kept for one page: what it gave so far, and where it stands."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqscope.errors import UnsupportedError
from seqscope.explorer.source import Source
from seqscope.stream import Step, Stream

NO_MODEL = (
    "There is no live model here, so nothing can be played step by step: give the model and its data, as in explore(scope, X) or "
    "seqscope explore MODEL DATA."
)
NO_DATA = "The inputs are not known, so nothing can be played: give the data too, as in explore(store, X) or seqscope explore STORE DATA."


@dataclass(frozen=True)
class Course:
    """What is played and what is seen of it.

    Attributes
    ----------
    layer, state : str
        The state "" is what the layer puts out.
    before : tuple of int
        The samples that are played first, whole, the state carried on.
    sample : int
    """

    layer: str
    state: str
    before: tuple[int, ...]
    sample: int

    @property
    def seen(self) -> tuple[str, str]:
        """What of the model the stream shows."""
        return self.layer, self.state


@dataclass(frozen=True, eq=False)
class Played:
    """What the stream gave so far.

    Attributes
    ----------
    course : Course
    values : array (step, unit)
    outputs : array (step, output)
    names : list of str
        Of the outputs; none before the first step.
    """

    course: Course
    values: np.ndarray
    outputs: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.values)


class Player:
    """Holds one stream and what it gave of one sample. Several threads may ask, one at a time is served."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stream: Stream | None = None
        self._seen = ("", "")
        self._course: Course | None = None
        self._values: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []
        self._names: list[str] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def ahead(self, course: Course, n_steps: int) -> int | None:
        """How many steps are to be run until so many are played; None where a stream is to be opened first."""
        if self._stream is None or self._seen != course.seen:
            return None
        if course == self._course:
            return max(0, n_steps - len(self._values))
        return n_steps + int(self._source.lengths[list(course.before)].sum())

    def to(self, course: Course, n_steps: int) -> Played:
        """Play so many steps of a sample, or as many as it has.

        The stream goes on from where it stands; it starts anew for another sample, unless this one follows with the state carried on,
        and where no step is asked for.

        Raises
        ------
        SeqscopeError
            The model can't be streamed, and why.
        """
        with self._lock:
            self._put(course, n_steps)
            rows = self._rows(course.sample)
            n_steps = min(n_steps, len(rows))
            for row in rows[len(self._values) : n_steps]:
                self._run(row, course)
            return Played(course, _stacked(self._values[:n_steps]), _stacked(self._outputs[:n_steps]), self._names)

    def close(self) -> None:
        """Give up the stream; what is playing in another thread ends with its next step."""
        self._is_closed = True
        with self._lock:
            if self._stream is not None:
                self._stream.close()
            self._stream = None
            self._values, self._outputs = [], []

    def _put(self, course: Course, n_steps: int) -> None:
        """Bring the stream to the beginning of a course, where it is not on it."""
        if course == self._course and self._stream is not None and (n_steps or not self._values):
            return
        now, self._course = self._course, None
        if self._stream is None or self._seen != course.seen:
            self._open(course)
            now = None
        if now is not None and course.before == (*now.before, now.sample):
            left: list[np.ndarray] = list(self._rows(now.sample)[len(self._values) :])
        else:
            self._opened.reset()
            left = [row for sample in course.before for row in self._rows(sample)]
        for row in left:
            self._step(row)
        self._values, self._outputs = [], []
        self._course = course

    def _open(self, course: Course) -> None:
        """Another stream.

        Raises
        ------
        SeqscopeError
            The model can't be streamed.
        """
        source = self._source
        if source.scope is None:
            raise UnsupportedError(NO_MODEL)
        if source.X is None:
            raise UnsupportedError(NO_DATA)
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        longest = int(np.argmax(np.minimum(source.lengths, 2)))  # a sample of one step tells nothing
        at = course.sample if source.lengths[course.sample] > 1 else longest
        layers: Any = [] if course.state else course.layer
        self._stream = source.scope.stream(check=source.X[[at]], layers=layers, states=course.layer if course.state else None)
        self._seen = course.seen

    @property
    def _opened(self) -> Stream:
        if self._stream is None or self._is_closed:
            raise UnsupportedError("The page was closed.")
        return self._stream

    def _rows(self, sample: int) -> np.ndarray:
        return np.asarray(self._source.inputs()[sample].values)

    def _step(self, row: np.ndarray) -> Step:
        return self._opened.step(row)

    def _run(self, row: np.ndarray, course: Course) -> None:
        seen = self._step(row)
        name = course.state.partition(".")[0]
        value = seen.states[course.layer][name] if name else seen.activations[course.layer]
        self._values.append(np.asarray(value.values, np.float64 if value.dtype == np.float64 else np.float32).reshape(-1))
        output = seen.output
        self._outputs.append(np.asarray(output.values).reshape(-1))
        if not self._names or len(self._names) != output.size:
            is_named = output.ndim == 1 and str(output.dims[0]) in output.coords
            self._names = [str(one) for one in (output.coords[output.dims[0]].values if is_named else range(output.size))]


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
