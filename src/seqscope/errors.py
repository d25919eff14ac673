"""Every error that seqscope raises, on one page.

    SeqscopeError
    ├── DataError            the data: shape, layout, lengths, NaN, kind of array   (also a ValueError)
    ├── SampleError          a sample that is not there                             (also an IndexError)
    ├── ModelError           the model: can't be opened, can't be run               (also a ValueError)
    ├── LayerError           a layer that does not exist or never ran               (also a LookupError)
    ├── UnsupportedError     what this engine, or this model, can't do
    ├── TooLargeError        a result that would not fit in memory
    ├── OutputExistsError    a file that would be written over                      (also a FileExistsError)
    ├── BusyError            a store that another process writes to
    └── MissingPackageError  an optional package that is not installed              (also an ImportError)

Each is a sentence: what was given, what was expected, what to do. The code deep inside raises a short one; the verb that the
person called adds its own name, the model and the data, once, with `in_call`.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType


class SeqscopeError(Exception):
    """The root of all errors that seqscope raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.call = ""

    def __str__(self) -> str:
        return f"{self.message}\n  in {self.call}" if self.call else self.message


class DataError(SeqscopeError, ValueError):
    """The data can't be used as given."""


class SampleError(SeqscopeError, IndexError):
    """A sample was asked for that is not there."""


class ModelError(SeqscopeError, ValueError):
    """The model can't be opened, understood or run."""


class LayerError(SeqscopeError, LookupError):
    """A layer was asked for that does not exist, or that never ran."""


class UnsupportedError(SeqscopeError):
    """This engine, or this model, can't do what was asked."""


class TooLargeError(SeqscopeError):
    """The result would not fit in memory."""


class OutputExistsError(SeqscopeError, FileExistsError):
    """The output file is there already."""


class BusyError(SeqscopeError):
    """The store is being written by another."""


class MissingPackageError(SeqscopeError, ImportError):
    """An optional package is not installed."""


@contextmanager
def in_call(describe: Callable[[], str]) -> Iterator[None]:
    """Add the person's own call to an error that passes through, once, innermost call first to name it."""
    try:
        yield
    except SeqscopeError as error:
        error.call = error.call or describe()
        raise


@contextmanager
def about_layer(name: str) -> Iterator[None]:
    """Put the layer's name in front of a short message ("never ran") that passes through; "" is the model's output.

    What is captured of a layer besides its value has a name with brackets behind it: "lstm (states)".
    """
    try:
        yield
    except LayerError as error:
        subject = f"The layer '{name.partition(' (')[0]}'" if name else "The model's output"
        raise LayerError(f"{subject} {error.message}.") from error


_HEARD: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def warn(message: str) -> None:
    """Warn the person at the line of their own from which seqscope was called, however deep the cause lies."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "seqscope":
        frame, depth = frame.f_back, depth + 1
    heard = _HEARD.get()
    if heard is None:
        warnings.warn(message, stacklevel=depth)
    else:
        heard.append(message)


@contextmanager
def hearing() -> Iterator[list[str]]:
    """Hand over what this thread would warn of meanwhile, for who shows it in another place.

    >>> with hearing() as heard:
    ...     warn("Mind the gap.")
    >>> heard
    ['Mind the gap.']
    """
    heard: list[str] = []
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Say which of `known` come nearest to `name`, as the end of a sentence.

    >>> nearest("lstn", ["lstm", "fc", "softmax"])
    "the nearest is 'lstm'"
    >>> nearest("conv", ["lstm", "fc"])
    "there are 'lstm', 'fc'"
    """
    names = list(dict.fromkeys(known))
    if not names:
        return "there are none"
    close = difflib.get_close_matches(name, names, n=most, cutoff=0.5)
    if close:
        return f"the nearest {'is' if len(close) == 1 else 'are'} {quoted(close)}"
    return f"there {'is' if len(names) == 1 else 'are'} {quoted(names, most=12)}"


def quoted(names: Iterable[str], *, most: int = 12) -> str:
    """Join names in quotes, the long tail counted and not listed."""
    listed = list(names)
    shown = ", ".join(f"'{name}'" for name in listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say in a sentence how to install it.

    Raises
    ------
    MissingPackageError
        The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".", maxsplit=1)[0]:
            raise  # the package is there and one of its own needs is not: its message is the better one
        raise MissingPackageError(
            f"{purpose} needs the package {module.split('.', maxsplit=1)[0]!r}, which is not installed: pip install 'seqscope[{extra}]'"
        ) from error
