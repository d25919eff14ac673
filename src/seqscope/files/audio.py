"""`.wav`: sound as one sequence, its channels those of the recording, its time in seconds."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from seqscope import ram
from seqscope.errors import DataError
from seqscope.files.found import Found, Options

# A sound of so many steps is turned into floats at a time.
_BLOCK = 2**20


def read_wav(path: Path, asked: Options) -> Found:
    """Whole numbers become floats from -1 up to, not including, 1, by the largest that their type holds; floats stay as they are."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of the parts that hold no sound, such as titles
        try:
            rate, sound = wavfile.read(path, mmap=True)
        except ValueError as error:
            if "mmap" not in str(error):
                raise
            rate, sound = wavfile.read(path)  # samples of 24 bits, which no array can be laid over
    if not sound.size:
        raise DataError("it holds no sound")
    if rate < 1:
        raise DataError(f"it says a rate of {rate} steps a second")
    steps = sound if sound.ndim == 2 else sound[:, None]
    return Found(steps if steps.dtype.kind == "f" else _as_floats(steps), {"rate": float(rate)})


def _as_floats(steps: np.ndarray) -> np.ndarray:
    kind = np.dtype(np.float32 if steps.dtype.itemsize <= 2 else np.float64)  # in which no value is rounded up to 1
    ram.check_fits(2 * kind.itemsize * steps.size, "the sound as floats, with a copy,", instead="cut it into parts")
    zero = 128 if steps.dtype == np.uint8 else 0  # bytes are counted from 0 to 255
    full = float(2 ** (8 * steps.dtype.itemsize - 1))
    floats = np.empty(steps.shape, kind)
    for start in range(0, len(steps), _BLOCK):
        part = slice(start, start + _BLOCK)
        floats[part] = (steps[part].astype(np.float64) - zero) / full
    return floats
