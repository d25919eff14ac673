"""Options as they are typed: NAME=VALUE, and in messages."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from seqscope.errors import SeqscopeError


def as_options(texts: Iterable[str] | None, example: str, *, names: bool = True) -> dict[str, Any]:
    """What was typed as NAME=VALUE: a number, a list or a dict where it reads as one, else a text.

    Raises
    ------
    BadParameter
        One is not of that form; where `names`, its name is none in Python.
    """
    return dict(_option(text, example, names=names) for text in texts or ())


def _option(text: str, example: str, *, names: bool) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name or (names and not name.isidentifier()):
        raise typer.BadParameter(f"'{text}' is no option: expected {'NAME' if names else 'KEY'}=VALUE, such as {example}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


@contextmanager
def as_typed(names: Mapping[str, str]) -> Iterator[None]:
    """Name options in messages that pass through as they are typed, where the verb names its arguments."""
    try:
        yield
    except SeqscopeError as error:
        for name, typed in names.items():
            error.message = error.message.replace(name, typed)
        raise


def as_code(arguments: Mapping[str, Any]) -> str:
    """Arguments as they are written behind others in Python; what was not said is left out.

    >>> as_code({"target": 3, "layer": None})
    ', target=3'
    """
    return "".join(f", {name}={value!r}" for name, value in arguments.items() if value is not None)
