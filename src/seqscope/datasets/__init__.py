"""Data sets that come with the package."""

from __future__ import annotations

from importlib import resources
from typing import Literal

import numpy as np

from seqscope.datasets.planted import planted
from seqscope.errors import DataError, nearest
from seqscope.sequences import Sequences

__all__ = ["japanese_vowels", "planted"]

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
    if part not in ("train", "test"):
        raise DataError(f"Japanese Vowels has no part {part!r}: {nearest(str(part), ('train', 'test'))}.")
    with resources.files(__name__).joinpath("japanese_vowels.npz").open("rb") as file, np.load(file) as arrays:
        steps, lengths, speaker = (arrays[f"{part}_{name}"] for name in ("steps", "lengths", "speaker"))
    labels = speaker.astype(str)
    utterances = np.split(steps, np.cumsum(lengths)[:-1])
    channels = [f"Feature {place}" for place in range(1, 13)]
    return Sequences(utterances, channels=channels, labels=labels, outputs=_SPEAKERS), labels
