"""Text as sequences of characters: each character a channel (one-hot) or a number (id), whole texts or windows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, get_args

import numpy as np

from seqscope import ram
from seqscope.errors import DataError, nearest
from seqscope.flat import Flat
from seqscope.intake import take_in

__all__ = ["text_of"]

Encoding = Literal["one_hot", "ids"]

_CODE_POINTS = "utf-32-le"
_SHOWN = 8  # characters that a message lists


@dataclass(frozen=True)
class Text:
    """A text, or several, as data that Sequences takes in.

    Overlapping windows share their steps: a window is a place and a length, and is copied when a batch is made of it.

    Attributes
    ----------
    texts : tuple of str
    alphabet : str
        The known characters, in the order of the channels or of the ids.
    encoding : {"one_hot", "ids"}
    window, stride : int or None
        The length of the windows and from one's start to the next's; None: whole texts.
    remainder : bool
        Whether what is left behind the last window is kept, as a shorter one.
    unknown : str or None
        What stands for a character that is not in the alphabet.
    single : bool
        One text was given, and not a list.
    """

    texts: tuple[str, ...]
    alphabet: str
    encoding: Encoding
    window: int | None
    stride: int | None
    remainder: bool
    unknown: str | None
    single: bool

    def to_flat(self) -> Flat:
        """The characters of all texts, one behind the other, and where each window starts in them."""
        ids = np.concatenate([self._ids(row, text) for row, text in enumerate(self.texts)])
        ends = np.cumsum([len(text) for text in self.texts])
        starts, lengths = self._places(ends)
        one_hot = self.encoding == "one_hot"
        return Flat(
            _one_hot(ids, len(self.alphabet)) if one_hot else ids,
            starts,
            lengths,
            single=self.single and self.window is None,
            channels=list(self.alphabet) if one_hot else None,
            labels=None if self.window is None else self._following(ids, starts + lengths, ends),
            outputs=list(self.alphabet),
        )

    def _ids(self, row: int, text: str) -> np.ndarray:
        """The place in the alphabet of each character."""
        codes, known = _codes(text), _codes(self.alphabet)
        order = np.argsort(known)
        places: np.ndarray = order[np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)]
        strange = known[places] != codes
        if strange.any():
            if self.unknown is None:
                raise DataError(self._strangers(row, text, np.flatnonzero(strange)))
            places[strange] = self.alphabet.index(self.unknown)
        return places

    def _strangers(self, row: int, text: str, where: np.ndarray) -> str:
        """What to say of characters that are not in the alphabet."""
        found = list(dict.fromkeys(text[place] for place in where.tolist()))
        whose = "The text" if self.single else f"Text {row}"
        which = f"the character {found[0]!r}, which is" if len(found) == 1 else f"the characters {_listed(found)}, which are"
        return (
            f"{whose} holds {which} not among the {len(self.alphabet)} known ones (first {found[0]!r} at position {where[0]}): add to "
            "`characters` if the model knows more, replace them in the text, or give `unknown=`, a known character that stands for them."
        )

    def _places(self, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each sequence starts among the characters of all texts, and its length."""
        begins = np.concatenate([[0], ends[:-1]])
        if self.window is None:
            return begins, ends - begins
        own = [self._windows(len(text), self.window) for text in self.texts]
        starts = np.concatenate([begin + places for begin, places in zip(begins, own, strict=True)])
        if not len(starts):
            raise DataError(f"No text is as long as the window of {self.window} characters: give a shorter `window`, or `remainder=True`.")
        return starts, np.minimum(self.window, np.repeat(ends, [len(places) for places in own]) - starts)

    def _windows(self, n_characters: int, window: int) -> np.ndarray:
        """Where the windows of a text of so many characters start in it."""
        starts = np.arange(0, n_characters, self.stride or window)
        n_whole = int((starts + window <= n_characters).sum())
        reach_the_end = n_whole > 0 and starts[n_whole - 1] + window == n_characters
        return starts[: n_whole + int(self.remainder and not reach_the_end)]

    def _following(self, ids: np.ndarray, stops: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The character behind each window, "" at the end of its text."""
        characters = np.array([*self.alphabet, ""])
        return np.asarray(characters[np.where(np.isin(stops, ends), len(self.alphabet), ids[stops.clip(max=len(ids) - 1)])])


def as_text(
    text: str | Iterable[str],
    *,
    characters: str | Iterable[str] | None,
    encoding: Encoding,
    window: int | None,
    stride: int | None,
    remainder: bool,
    unknown: str | None,
) -> Text:
    """Take in what a person gave as text.

    Raises
    ------
    DataError
        It is no text, or empty, or an option makes no sense.
    TooLargeError
        Its characters would not fit in memory, one-hot.
    """
    texts = _texts(text)
    if encoding not in get_args(Encoding):
        raise DataError(f"There is no encoding {encoding!r} of characters: {nearest(str(encoding), get_args(Encoding))}.")
    for name, value in (("window", window), ("stride", stride)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise DataError(f"`{name}` is {value!r}: expected a number of characters, 1 or more.")
    if stride is not None and window is None:
        raise DataError(f"`stride` is {stride} and there are no windows: give `window`, their length in characters, too.")
    alphabet = "".join(sorted(set().union(*texts))) if characters is None else _alphabet(characters)
    if unknown is not None and (not isinstance(unknown, str) or len(unknown) != 1 or unknown not in alphabet):
        raise DataError(f"`unknown` is {unknown!r}: expected one of the known characters ({_listed(alphabet)}) to stand for all others.")
    if encoding == "one_hot":
        n_characters = sum(map(len, texts))
        ram.check_fits(
            n_characters * len(alphabet) * np.dtype(np.float32).itemsize,
            f"a text of {n_characters:,} characters, one-hot over {len(alphabet)},",
            instead="give it in parts, or as encoding='ids' if the model takes ids",
        )
    return Text(texts, alphabet, encoding, window, stride, remainder, unknown, isinstance(text, str))


def text_of(x: Any) -> str:
    """The text of one sequence of characters, as the model sees it.

    Parameters
    ----------
    x : DataArray or Sequences
        One sequence of `Sequences.from_text`, one-hot or ids, such as `X[3]`.

    Returns
    -------
    str
        A character for each step; where `unknown=` stood for another, the one that stood for it.

    Raises
    ------
    DataError
        Several sequences, or one that is not made of characters.

    Examples
    --------
    >>> from seqscope import Sequences
    >>> from seqscope.text import text_of
    >>> X = Sequences.from_text("to be, or not to be", window=5)
    >>> text_of(X[1]), [text_of(x) for x in X]
    (', or ', ['to be', ', or ', 'not t', 'o be'])
    """
    flat = take_in(x)
    if len(flat.starts) != 1:
        raise DataError(f"There are {len(flat.starts)} sequences and the text of one was asked for: choose it, as X[0].")
    steps, alphabet = flat.part(0), flat.outputs if flat.steps.ndim == 1 else flat.channels
    if alphabet is None or not all(isinstance(character, str) and len(character) <= 1 for character in alphabet):
        raise DataError("The sequence is not made of characters: expected one that `Sequences.from_text` made.")
    alphabet = [character or "\0" for character in alphabet]  # NumPy's strings drop a NUL at their end
    if steps.ndim == 2 and not (np.isin(steps, (0.0, 1.0)).all() and (steps.sum(axis=1) == 1).all()):
        raise DataError("The steps are not one-hot: expected a 1 in the channel of each step's character, and 0 in all others.")
    ids = steps if steps.ndim == 1 else steps.argmax(axis=1)
    if ids.min() < 0 or ids.max() >= len(alphabet):
        raise DataError(f"The ids go from {ids.min()} to {ids.max()} and there are {len(alphabet)} characters.")
    return "".join(alphabet[place] for place in ids.tolist())


def _texts(text: Any) -> tuple[str, ...]:
    """The texts that were given, each with something in it."""
    if isinstance(text, PathLike):
        raise DataError(f"A path was given as text: read it, as Path({str(text)!r}).read_text().")
    if isinstance(text, str):
        texts = (text,)
    elif isinstance(text, Mapping | set | frozenset) or getattr(text, "ndim", 1) != 1:
        raise DataError(f"The texts are in a {type(text).__name__}: expected str, or a list of str, in the order of the samples.")
    else:
        texts = tuple(text) if isinstance(text, Iterable) and not isinstance(text, bytes | bytearray) else (text,)
    for row, one in enumerate(texts):
        if not isinstance(one, str):
            what = "The text" if len(texts) == 1 else f"Text {row}"
            raise DataError(f"{what} is of type {type(one).__name__}: expected str, or a list of str.")
        if not one:
            raise DataError("The text is empty." if isinstance(text, str) else f"Text {row} is empty: leave it out.")
    if not texts:
        raise DataError("The list of texts is empty: expected at least one.")
    return texts


def _alphabet(characters: str | Iterable[str]) -> str:
    """The known characters, each once."""
    if isinstance(characters, Mapping):
        raise DataError("`characters` is a mapping, whose order may not be the model's: give them in it, as sorted(known, key=known.get).")
    if not isinstance(characters, Iterable) or isinstance(characters, set | frozenset):
        raise DataError(f"`characters` is {characters!r}: expected a str, or a list of characters, in the model's order.")
    listed = list(characters)
    for place, character in enumerate(listed):
        if not isinstance(character, str) or len(character) != 1:
            raise DataError(f"Item {place} of `characters` is {character!r}: expected single characters.")
    if len(set(listed)) < len(listed):
        twice = next(character for character in listed if listed.count(character) > 1)
        raise DataError(f"`characters` holds {twice!r} twice: expected each known character once.")
    if not listed:
        raise DataError("`characters` is empty: expected the characters that the model knows, in its order.")
    return "".join(listed)


def _listed(characters: Sequence[str]) -> str:
    return ", ".join(map(repr, characters[:_SHOWN])) + (f" and {len(characters) - _SHOWN} more" if len(characters) > _SHOWN else "")


def _codes(text: str) -> np.ndarray:
    """The code point of each character."""
    return np.frombuffer(text.encode(_CODE_POINTS, "surrogatepass"), np.uint32)


def _one_hot(ids: np.ndarray, n_characters: int) -> np.ndarray:
    """(step, channel): 1 in the channel of each character."""
    coded = np.zeros((len(ids), n_characters), np.float32)
    coded[np.arange(len(ids)), ids] = 1.0
    return coded
