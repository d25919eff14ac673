"""Which character stands at each step, where the data is text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from seqscope.errors import DataError, SeqscopeError
from seqscope.explorer.source import Source
from seqscope.labelled import CHANNEL
from seqscope.text import text_of

NO_TEXT = "The data is not text: its steps are no characters, as Sequences.from_text makes them."
_OF_DATA = "text_of(X[{}])"
_OF_MODEL = '"".join(scope.model.characters[place] for place in X[{}]{}.values)'


def why_no_text(source: Source) -> str:
    """Why there are no characters to show, in a sentence; "" where there are: seen on the first sample."""
    if source.X is None:
        return "The inputs were not recorded, so there is no text."
    return source.once(("why no text",), lambda: _why_not(source))  # type: ignore[no-any-return]


def _why_not(source: Source) -> str:
    try:
        characters(source, 0)
    except SeqscopeError as error:
        return error.message
    return ""


def characters(source: Source, sample: int) -> str:
    """The text of a sample, a character for each step.

    Raises
    ------
    DataError
        It is no text.
    """
    return source.once(("text", sample), lambda: _read(source, sample)[0])  # type: ignore[no-any-return]


def code_of(source: Source, sample: int) -> str:
    """The Python that gives it, `text_of` being imported."""
    return _read(source, sample)[1]


def _read(source: Source, sample: int) -> tuple[str, str]:
    x = source.inputs()[sample]
    try:
        return text_of(x), _OF_DATA.format(sample)
    except DataError:
        alphabet = None if source.scope is None else getattr(source.scope.model, "characters", None)
        if not isinstance(alphabet, str | list | tuple):
            raise DataError(NO_TEXT) from None
        places = _places(x, alphabet)
        return "".join(alphabet[place] for place in places), _OF_MODEL.format(sample, '.argmax("channel")' if CHANNEL in x.dims else "")


def _places(x: xr.DataArray, alphabet: Sequence[Any]) -> np.ndarray:
    """Where in the model's alphabet each step's character stands.

    Raises
    ------
    DataError
        The steps are neither numbers of characters nor one-hot.
    """
    values = x.values
    if CHANNEL in x.dims:
        if values.shape[1] != len(alphabet) or not (np.isin(values, (0.0, 1.0)).all() and (values.sum(axis=1) == 1).all()):
            raise DataError(NO_TEXT)
        return np.asarray(values.argmax(axis=1))
    if values.min() < 0 or values.max() >= len(alphabet):
        raise DataError(NO_TEXT)
    return np.asarray(values)
