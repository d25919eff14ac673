"""Data files: one verb that reads them all, and what commands are given as DATA and as text."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from seqscope import datasets, ram
from seqscope.errors import DataError, SeqscopeError, quoted
from seqscope.files.found import Found, Options
from seqscope.files.kept import nothing_half
from seqscope.sequences import Sequences
from seqscope.sniff import Kind, is_recording, kind_of


@dataclass(frozen=True)
class Format:
    """A kind of data file.

    Attributes
    ----------
    reader : str
        Module and function, imported when a file is read, since each brings a library of its own.
    options : tuple of str
        What of `Options` it takes.
    kinds : tuple of Kind
        What such a file is by its first bytes.
    """

    reader: str
    options: tuple[str, ...]
    kinds: tuple[Kind, ...]

    def read(self, path: Any, asked: Options) -> Found:
        """What a file holds."""
        module, _, function = self.reader.partition(":")
        found: Found = getattr(importlib.import_module(f"seqscope.files.{module}"), function)(path, asked)
        return found


DATA_SETS = ("japanese_vowels", "shakespeare")  # those that are read; planted data are made
_COLUMNS = ("layout", "sample", "time", "label", "keep")
_TEXT = (Kind.TEXT, Kind.UNKNOWN)  # text in another encoding is none by its bytes
FORMATS: dict[str, Format] = {
    ".npz": Format("arrays:read_npz", ("x", "y", "layout"), (Kind.NPZ, Kind.ZIP, Kind.CUT_ZIP)),
    ".npy": Format("arrays:read_npy", ("layout",), (Kind.NPY,)),
    ".csv": Format("table_files:read_csv", _COLUMNS, _TEXT),
    ".tsv": Format("table_files:read_csv", _COLUMNS, _TEXT),
    ".parquet": Format("table_files:read_parquet", _COLUMNS, (Kind.UNKNOWN,)),
    ".mat": Format("matlab:read_mat", ("x", "y", "layout"), (Kind.MATLAB, Kind.HDF5, Kind.TEXT, Kind.UNKNOWN)),
    ".ts": Format("archive:read_ts", (), _TEXT),
    ".nc": Format("labelled_files:read_netcdf", ("x", "y"), (Kind.HDF5, Kind.UNKNOWN)),
    ".zarr": Format("labelled_files:read_zarr", ("x", "y"), ()),
    ".wav": Format("audio:read_wav", (), (Kind.UNKNOWN,)),
    ".txt": Format("data:read_characters", (), _TEXT),
}
_UTF8 = "utf-8-sig"  # some editors begin a file with a mark
_LOADER = Format("loaders:read_loader", ("y", "layout", "most", "keep"), ())


def read(
    source: str | PathLike[str] | Iterable[Any],
    *,
    x: str | None = None,
    y: str | Literal[False] | None = None,
    layout: str | None = None,
    sample: str | int | None = None,
    time: str | int | None = None,
    label: str | int | Literal[False] | None = None,
    most: int | None = None,
    keep: str | PathLike[str] | None = None,
) -> Sequences:
    r"""Read a data file, or whatever yields (x, y), as Sequences.

    ==================== ==============================================================================================================
    what                 what is taken for what
    ==================== ==============================================================================================================
    `.npz`               Arrays by their names: the series (X, data, values, ...), the labels (y, labels, ...) and the lengths, of one
                         part of the data set (X_test, y_test); else the only array. With lengths, a 2-D array of floats holds the steps
                         of all sequences, one after the other.
    `.npy`               One array; it stays in the file, and may be larger than memory.
    `.csv`, `.tsv`,      Long: a row for each step; the columns `sample` (tells the sequences apart), `time` (orders their steps) and
    `.parquet`           `label`, every other one a channel. Wide: a row for each sequence of one channel, the columns named 0, 1, 2 or
                         t0, t1, t2 its steps, `sample` and `label` as before. A table without names, such as one of the UCR archive,
                         is read with layout="wide", label=0.
    `.mat`               As `.npz`, by the names XTrain, YTrain, X, Y, ...; of versions 5 to 7.3. A cell array holds a matrix for each
                         sequence, (channel, time), or (time, channel) where the columns alone are alike in number. Labels that are
                         categorical or string need the package mat-io (the extra "matlab").
    `.ts`                The archive of time series classification, as aeon and sktime have it.
    `.nc`, `.zarr`       A variable with the dims `time`, and `sample` and `channel` where there are several; coordinates are kept.
                         A large one stays in the file. Of a recording (`Scope.record`) its inputs, which stay there.
    `.wav`               One sequence: whole numbers as floats from -1 to 1, time in seconds.
    `.txt`               One sequence of characters, one-hot over those that occur (`Sequences.from_text` has the choices).
    Dataset, generator   Of torch or anything that yields (x, y) or x: one sequence each, (time, channel), or tokens (time,).
    DataLoader, tf.data, Batches (sample, time, channel); of what is not known to give batches, items with three axes are.
    PyDataset
    ==================== ==============================================================================================================

    Parameters
    ----------
    source : str, path or iterable
        A file, or a data set of seqscope ("japanese_vowels", "japanese_vowels:train", "shakespeare"), or a loader.
    x, y : str, optional
        The names of the arrays that hold the series and the labels; ``y=False`` reads without labels. One-hot labels become positions.
    layout : str, optional
        Of an array without names, the order of its axes: letters out of N (sample), T (time), C (channel), such as "NCT", "CT" or "NT".
        Default: "NTC"; of one with two axes "TC", or "NT" of whole numbers, which are tokens; a matrix in a `.mat` file needs it. Of a
        table: "long" or "wide".
    sample, time, label : str, or int in a table without names, optional
        The columns of a table that say so; ``label=False``: no label.
    most : int, optional
        How many sequences to take from a loader at most. One without an end needs it.
    keep : str or path, optional
        A new `.npy` file for the steps of a table or a loader that is larger than memory: they are written there as they come, (step,
        channel) of all sequences one after the other, and the Sequences are a view of it, so it has to stay there as long as they are
        used. At a time, one part of the table (or its longest sequence), or one item of the loader, is in memory; lengths, labels, ids
        and times that differ between sequences stay there. The rows of each `sample` of a long table have to stand together.

    Returns
    -------
    Sequences
        More is said of them by taking them in again: ``sq.Sequences(sq.read("a.npy"), channels=names, rate=100.0)``.

    Raises
    ------
    DataError
        There is no such file, it is not what its name says, is cut short or damaged, could be meant in several ways, or holds what
        Sequences refuses. No file runs code: arrays of objects, which are pickled, are refused.
    TooLargeError
        It would not fit in memory (a table and a loader do, with `keep`), or on the disk.
    OutputExistsError
        The file to keep is there already.
    MissingPackageError
        A package that reads this kind of file is not installed.

    Examples
    --------
    >>> import tempfile, pathlib, seqscope as sq
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "walks.csv")
    ...     _ = path.write_text("sample,time,label,x,y\na,0.0,slow,1,2\na,0.5,slow,3,4\nb,0.0,fast,5,6\n")
    ...     X = sq.read(path)
    >>> X, X.samples.tolist(), X.labels.tolist(), X[0].time.values.tolist()
    (Sequences: 2 sequences, 1 to 2 steps, 2 channels, ['a', 'b'], ['slow', 'fast'], [0.0, 0.5])
    """
    if isinstance(source, Sequences):
        return source
    asked = Options(x, y, layout, sample, time, label, most, None if keep is None else str(Path(keep)))
    with nothing_half(None if keep is None else Path(keep)):
        return _sequences_of(source, asked)


def _sequences_of(source: Any, asked: Options) -> Sequences:
    if isinstance(source, str) and source.partition(":")[0] in DATA_SETS:
        _check_options(asked, (), f"the data set {source!r}")
        return _data_set(source)
    if isinstance(source, str | PathLike):
        found: Sequences = _read(Path(source), asked, sequences=True)
        return found
    if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
        raise DataError(f"A {type(source).__name__} can't be read: expected a file's path, or a loader that yields (x, y).")
    _check_options(asked, _LOADER.options, "a loader")
    try:
        return _LOADER.read(source, asked).to_sequences()
    except DataError as error:
        raise DataError(_sentence(f"The {type(source).__name__}", error)) from error


def read_data(source: str) -> Any:
    """Read what a command was given as DATA: a data set's name, or a file of any kind that `read` knows.

    Parameters
    ----------
    source : str
        Of a file that holds several arrays, one is named behind a colon: "all.mat:XTest".

    Returns
    -------
    Sequences, or an array in the model's own layout

    Raises
    ------
    DataError
        There is no such data set or file, or it can't be read.

    Examples
    --------
    >>> read_data("japanese_vowels:train")
    Sequences: 270 sequences, 7 to 26 steps, 12 channels
    """
    if source.partition(":")[0] in DATA_SETS:
        return _data_set(source)
    file, _, name = source.rpartition(":")
    if name and Path(file).is_file() and not Path(source).exists():
        return _read(Path(file), Options(x=name), sequences=False)
    return _read(Path(source), Options(), sequences=False)


def read_text(source: str) -> str:
    r"""Read what a command was given as text.

    Parameters
    ----------
    source : str
        `shakespeare` (its test part; `shakespeare:train` for the other), or a text file in UTF-8.

    Raises
    ------
    DataError
        There is no such file, or it is not text.

    Examples
    --------
    >>> read_text("shakespeare:test")[:32]
    'ACT V.\n\nSCENE I. The plains of P'
    """
    name, _, part = source.partition(":")
    if name == "shakespeare":
        return datasets.shakespeare(part or "test")  # type: ignore[arg-type]
    path = Path(source)
    if not path.is_file():
        raise DataError(f"There is no file '{source}' (and no text of that name but 'shakespeare', 'shakespeare:train').")
    try:
        text = path.read_text(encoding=_UTF8)
    except UnicodeDecodeError as error:
        raise DataError(f"The file '{path}' {_not_utf8(error)}.") from error
    except OSError as error:
        raise DataError(f"The file '{path}' can't be read: {error}") from error
    if not text:
        raise DataError(f"The file '{path}' is empty.")
    return text


def read_characters(path: Path, asked: Options) -> Found:
    """A text file as one sequence of characters."""
    ram.check_fits(4 * path.stat().st_size, "the text", instead="read a part of it")
    text = path.read_text(encoding=_UTF8)
    if "\0" in text:
        raise DataError(f"it is not text: byte 0x00 at {text.index(chr(0))}")
    return Found(Sequences.from_text(text))


def _data_set(source: str) -> Sequences:
    """A data set that comes with seqscope. Shakespeare is as `zoo.char_lstm` takes it: its characters are those of the training part."""
    name, _, part = source.partition(":")
    if name == "shakespeare":
        text = datasets.shakespeare(part or "test")  # type: ignore[arg-type]
        return Sequences.from_text(text, characters=sorted(set(datasets.shakespeare())), window=1000)
    found: Sequences = getattr(datasets, name)(part or "test")[0]
    return found


def _read(path: Path, asked: Options, *, sequences: bool) -> Any:
    """A file's data; an array that is nothing else is left to the model's layout where no Sequences are wanted."""
    ending = ".zarr" if is_recording(path) else path.suffix.lower()
    form = FORMATS.get(ending)
    if form is None:
        raise DataError(f"'{path}' is neither a data set ({quoted(DATA_SETS)}) nor a file of a known kind ({quoted(FORMATS)}).")
    _check_file(path, ending, form)
    _check_options(asked, form.options, f"a {ending} file")
    try:
        found = form.read(path, asked)
        return found.to_sequences() if sequences or not found.is_plain else found.data
    except DataError as error:
        raise DataError(_sentence(f"The file '{path}'", error)) from error
    except SeqscopeError as error:
        error.message = f"The file '{path}': {error.message}"
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"The file '{path}' {_not_utf8(error)}: save it as UTF-8.") from error
    except Exception as error:  # libraries raise anything at all where a file is damaged
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(f"The file '{path}' can't be read as {ending}, it is damaged or of another kind ({why}).") from error


def _sentence(subject: str, error: DataError) -> str:
    """The short message of a reader, or a whole one of Sequences, with its subject."""
    return f"{subject}: {error.message.removesuffix('.')}."


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not text in UTF-8: byte {error.object[error.start]:#04x} at {error.start}"


def _check_file(path: Path, ending: str, form: Format) -> None:
    """Refuse what is not there, is empty, or is something else by its first bytes."""
    is_folder = not form.kinds and ending == ".zarr"
    if not path.exists():
        raise DataError(f"There is no {'folder' if is_folder else 'file'} '{path}'.")
    if path.is_dir() != is_folder:
        raise DataError(f"'{path}' is a {'folder' if path.is_dir() else 'file'}: expected a {'folder' if is_folder else 'file'}.")
    if is_folder:
        return
    try:
        kind = kind_of(path)
    except OSError as error:
        raise DataError(f"The file '{path}' can't be read: {error}") from error
    if kind is Kind.EMPTY:
        raise DataError(f"The file '{path}' is empty (0 bytes).")
    if kind not in form.kinds:
        what = "damaged, or something else than its name says: it does not begin as" if kind is Kind.UNKNOWN else f"{kind}, and not"
        raise DataError(f"The file '{path}' is {what} a {ending} file.")


def _check_options(asked: Options, taken: tuple[str, ...], what: str) -> None:
    """Refuse options that mean nothing to a kind of file."""
    for one in fields(asked):
        if getattr(asked, one.name) is not None and one.name not in taken:
            there = f"it takes {', '.join(f'{name}=' for name in taken)}" if taken else "it takes none"
            raise DataError(f"The option {one.name}={getattr(asked, one.name)!r} means nothing for {what}: {there}.")
