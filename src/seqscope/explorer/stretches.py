"""Stretches and runs of samples as an address says them: which matches are looked at, what was played before."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seqscope.errors import DataError
from seqscope.explorer.selection import Chosen
from seqscope.explorer.source import Source

_N = r"(\d{1,9})"
_LIKE = re.compile(rf"{_N}\.{_N}\.{_N}-{_N}\.{_N}\.{_N}", re.ASCII)
_RUN = re.compile(rf"{_N}(\.{_N})+", re.ASCII)
# Samples that may be played one after the other with the state carried on.
MOST_CARRIED = 20


@dataclass(frozen=True)
class Stretch:
    """Steps of a layer in a sample, both by position, the stop left out; none where it is not after the start."""

    sample: int
    start: int
    stop: int

    @property
    def is_there(self) -> bool:
        """Whether it has a step."""
        return self.start < self.stop

    def __str__(self) -> str:
        return f"{self.sample}.{self.start}.{self.stop}"


def looked_at(chosen: Chosen) -> Stretch:
    """The stretch that is brushed."""
    return Stretch(chosen.sample, chosen.start, chosen.stop)


def searched(chosen: Chosen) -> Stretch:
    """The stretch that matches are looked for: the one that is brushed, or the one it is a match of.

    What is said of a match holds only as long as that match is looked at, so another sample or another brush makes a new search.
    """
    said = _LIKE.fullmatch(chosen.like)
    if said is None:
        return looked_at(chosen)
    numbers = [int(number) for number in said.groups()]
    return Stretch(*numbers[:3]) if Stretch(*numbers[3:]) == looked_at(chosen) else looked_at(chosen)


def like(query: Stretch, match: Stretch) -> str:
    """What an address says where a match is looked at.

    >>> like(Stretch(0, 6, 10), Stretch(17, 3, 8))
    '0.6.10-17.3.8'
    """
    return f"{query}-{match}"


def check_like(source: Source, text: str) -> str:
    """A text that `like` made.

    Raises
    ------
    SeqscopeError
        It is none, or there is no such sample.
    """
    if not text:
        return text
    said = _LIKE.fullmatch(text)
    if said is None:
        raise DataError(f"'{text[:40]}' says no stretch with a match of it: expected sample, start and stop of both, as in 0.6.10-17.3.8.")
    for sample in (said[1], said[4]):
        source.check(int(sample))
    return text


def check_step(value: int) -> int:
    """A step that may be there.

    Raises
    ------
    DataError
        It is negative.
    """
    if value < 0:
        raise DataError(f"A stretch can't begin or end at step {value}: steps are counted from 0.")
    return value


def check_played(source: Source, value: int, sample: int) -> int:
    """So many steps, or as many as the sample has: it may have become another, shorter one.

    Raises
    ------
    DataError
        It is negative.
    """
    if value < 0:
        raise DataError(f"{value} steps can't be played: expected 0 or more.")
    return min(value, int(source.lengths[sample]))


def before(chosen: Chosen) -> tuple[int, ...]:
    """The samples that were played before this one with the state carried on; none where another one is looked at by now."""
    if not _RUN.fullmatch(chosen.carried):
        return ()
    *played, last = (int(number) for number in chosen.carried.split("."))
    return tuple(played) if last == chosen.sample else ()


def carried(played: tuple[int, ...], sample: int) -> str:
    """What an address says where a sample is played from the state that others left.

    >>> carried((3, 4), 5)
    '3.4.5'
    """
    return ".".join(map(str, (*played, sample))) if played else ""


def check_carried(source: Source, text: str) -> str:
    """A text that `carried` made.

    Raises
    ------
    SeqscopeError
        It is none, there is no such sample, or there are too many.
    """
    if not text:
        return text
    if not _RUN.fullmatch(text):
        raise DataError(f"'{text[:40]}' says no samples that were played one after the other: expected their positions, as in 3.4.5.")
    samples = [source.check(int(number)) for number in text.split(".")]
    if len(samples) > MOST_CARRIED + 1:
        raise DataError(f"{len(samples) - 1} samples can't be played before another: expected {MOST_CARRIED} at most.")
    return text
