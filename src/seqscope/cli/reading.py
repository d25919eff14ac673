"""What a command reads: DATA, where `-` is standard input, and the sample that is meant."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from seqscope import files
from seqscope.errors import DataError, SampleError, SeqscopeError
from seqscope.scope import Scope
from seqscope.sequences import Sequences
from seqscope.sniff import Kind, kind_of

STDIN = "-"

# What comes by standard input has no name: its form is what its first bytes say, and CSV where they say nothing.
_ENDINGS = {Kind.NPY: ".npy", Kind.NPZ: ".npz", Kind.ZIP: ".npz", Kind.MATLAB: ".mat", Kind.HDF5: ".nc"}
_PARQUET, _WAV = b"PAR1", b"RIFF"


def read_data(source: str) -> Any:
    """What a command was given as DATA, as `files.read_data` gives it.

    Raises
    ------
    SeqscopeError
        It can't be read.
    """
    if source != STDIN:
        return files.read_data(source)
    path = _kept()
    try:
        return files.read_data(str(path))
    except SeqscopeError as error:
        error.message = error.message.replace(f"The file '{path}'", "Standard input").replace(str(path), "standard input")
        raise


def read_text(source: str) -> str:
    """What a command was given as a text.

    Raises
    ------
    DataError
        It can't be read.
    """
    if source != STDIN:
        return files.read_text(source)
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Standard input is not text in UTF-8: byte {error.object[error.start]:#04x} at {error.start}.") from error
    if not text:
        raise DataError("Standard input is empty.")
    return text


def read_sequences(scope: Scope, source: str, sample: int | None = None) -> Sequences:
    """The data as the model takes it, or one sample of it.

    Raises
    ------
    SampleError
        There is no such sample.
    SeqscopeError
    """
    sequences = scope.sequences(read_data(source))
    if sample is None:
        return sequences
    check_sample(sequences, sample)
    return sequences[[sample]]


def check_sample(sequences: Sequences, sample: int) -> None:
    """Refuse a position that is none.

    Raises
    ------
    SampleError
    """
    if not 0 <= sample < len(sequences):
        there = f"{len(sequences)} samples, at 0 to {len(sequences) - 1}" if len(sequences) > 1 else "one sample, at 0"
        raise SampleError(f"There is no sample {sample}: the data has {there}.")


def code_of(source: str, sample: int | None = None) -> str:
    """The same in Python, as a line that makes X of a scope: "X = scope.sequences(files.read_data('x.npz'))[[3]]"."""
    read = "..." if source == STDIN else f"files.read_data({source!r})"
    chosen = "" if sample is None else f"[[{sample}]]"
    return f"X = scope.sequences({read}){chosen}{'  # ...: what came by standard input' if source == STDIN else ''}"


def made_from(model: str, source: str, sequences: Sequences) -> str:
    """The last line of a page."""
    return f"Model: {model}. Data: {name_of(source)}, {sequences.describe()}."


def name_of(source: str) -> str:
    """What is called DATA in a sentence."""
    return "standard input" if source == STDIN else source


def _kept() -> Path:
    """Standard input as a file, until the process ends: arrays may stay in it."""
    folder = tempfile.mkdtemp(prefix="seqscope-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise DataError("Standard input is empty: expected data, as CSV or a file of NumPy, MATLAB or Parquet.")
    return path.rename(path.with_suffix(_ending(path)))


def _ending(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    return {_PARQUET: ".parquet", _WAV: ".wav"}.get(head) or _ENDINGS.get(kind_of(path), ".csv")
