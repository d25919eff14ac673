"""Files: data and models that commands are given, results that they write."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope import datasets, labelled, zoo
from seqscope.engines.base import MODEL_FILES, load_weights, open_file
from seqscope.errors import DataError, ModelError, OutputExistsError, SeqscopeError, UnsupportedError, nearest, quoted
from seqscope.sequences import Sequences

# What a verb of a scope gives: one array of a layer, several, or several layers.
Result = xr.DataArray | xr.Dataset | xr.DataTree

_PICTURES = (".png", ".svg", ".pdf")

# The names under which people save data, the likeliest first.
_DATA_NAMES = ("X", "x", "data", "values", "series", "steps")
_LABEL_NAMES = ("y", "labels", "label")


# Data


def read_data(source: str) -> Any:
    """Read what a command was given as DATA: a data set's name, or a file.

    Parameters
    ----------
    source : str
        `japanese_vowels` (its test set; `japanese_vowels:train` for the other), `shakespeare` (windows of 1,000 characters, one-hot), or
        a `.npz`, `.npy` or `.csv` file.

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
    name, _, part = source.partition(":")
    if name in datasets.__all__:
        return _text_data(part or "test") if name == "shakespeare" else getattr(datasets, name)(part or "test")[0]
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{source!r} is neither a data set ({quoted(datasets.__all__)}) nor a file of a known kind ({quoted(_READERS)}).")
    if not path.is_file():
        raise DataError(f"There is no file '{path}'.")
    try:
        return reader(path)
    except SeqscopeError as error:
        raise DataError(f"The file '{path}': {error.message}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, pd.errors.ParserError) as error:
        raise DataError(f"The file '{path}' can't be read as {path.suffix.lower()}: {error}") from error


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
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise DataError(f"The file '{path}' is not text in UTF-8: byte {error.object[error.start]:#04x} at {error.start}.") from error
    except OSError as error:
        raise DataError(f"The file '{path}' can't be read: {error}") from error
    if not text:
        raise DataError(f"The file '{path}' is empty.")
    return text


def _text_data(part: str) -> Sequences:
    """Shakespeare as `zoo.char_lstm` takes it: its characters are those of the training part."""
    text = datasets.shakespeare(part)  # type: ignore[arg-type]
    return Sequences.from_text(text, characters=sorted(set(datasets.shakespeare())), window=1000)


def _read_npy(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, allow_pickle=False)
    return array


def _read_npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        names = list(arrays)
        found = [name for name in _DATA_NAMES if name in names] or (names if len(names) == 1 else [])
        if not found:
            raise DataError(f"it holds {quoted(names)} and none of {quoted(_DATA_NAMES)}: name the array of the series 'X'")
        data = arrays[found[0]]
        lengths = arrays["lengths"] if "lengths" in names else None
        labels = next((arrays[name] for name in _LABEL_NAMES if name in names), None)
    if data.ndim == 2 and lengths is not None and data.dtype.kind == "f":  # the steps of all sequences, one after the other
        if lengths.sum() != len(data):
            raise DataError(f"its lengths add up to {lengths.sum()} and it holds {len(data)} steps")
        return Sequences(np.split(data, np.cumsum(lengths)[:-1]), labels=labels)
    if labels is None and lengths is None:
        return data
    return Sequences(data, lengths=lengths, labels=labels)


def _read_csv(path: Path) -> Sequences:
    """A column `sample` tells the sequences apart, `time` orders their steps, `label` is their class; the rest are channels."""
    frame = pd.read_csv(path)
    if labelled.SAMPLE not in frame.columns:
        return Sequences(frame.set_index(labelled.TIME) if labelled.TIME in frame.columns else frame)
    labels = None
    if labelled.LABEL in frame.columns:
        labels = frame.groupby(labelled.SAMPLE, sort=False)[labelled.LABEL].first().to_numpy()
        labels = labels.astype(str) if labels.dtype == object else labels
    index = [name for name in (labelled.SAMPLE, labelled.TIME) if name in frame.columns]
    return Sequences(frame.drop(columns=labelled.LABEL, errors="ignore").set_index(index), labels=labels)


_READERS: dict[str, Callable[[Path], Any]] = {".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv}


# Models


def open_model(source: str, weights: Path | None = None, *, framework: str = "torch") -> Any:
    """Make the model that a command was given as MODEL.

    Parameters
    ----------
    source : str
        A name of the zoo, a `.keras` file, or `module:callable`, a function or class that makes the model when called with nothing;
        modules are looked for in the current folder too.
    framework : str
        What a network of the zoo is made of.
    weights : Path, optional
        A file to fill it with: safetensors for torch, `.weights.h5` for Keras.

    Raises
    ------
    ModelError
        There is no such network, module or callable, or it fails.

    Examples
    --------
    >>> type(open_model("japanese_vowels")).__name__
    'JapaneseVowels'
    """
    if source in zoo.__all__:
        model = getattr(zoo, source)(framework)
    elif Path(source).suffix.lower() in MODEL_FILES:
        model = open_file(Path(source))
    elif ":" in source:
        model = _made(*source.split(":", 1))
    else:
        raise ModelError(
            f"{source!r} is no network of the zoo ({nearest(source, zoo.__all__)}), no model file ({quoted(MODEL_FILES)}) and not of the "
            "form module:callable, such as my_models:make."
        )
    if weights is not None:
        load_weights(model, weights)
    return model


def _made(module: str, name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModelError(f"The module {error.name!r} of {module}:{name} can't be found, here ({here}) or among the packages.") from error
    except AttributeError as error:
        raise ModelError(f"The module {module!r} has no {name!r}.") from error
    try:
        return made()
    except Exception as error:
        raise ModelError(f"{module}:{name}() raised {type(error).__name__}: {error}") from error


# Results


def check_picture(path: Path) -> None:
    """Make sure that pictures can be written in the form that a file's ending names.

    Raises
    ------
    UnsupportedError
        They can't.
    """
    if path.suffix.lower() not in _PICTURES:
        raise UnsupportedError(
            f"A picture can't be written as '{path.suffix or path.name}': expected an ending out of {quoted(_PICTURES)}."
        )


def is_picture(path: Path) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.suffix.lower() in _PICTURES


def check_output(path: Path, *, force: bool) -> Path:
    """Make sure that a file can be written, before the work begins.

    Raises
    ------
    OutputExistsError
        It is there already, and `force` was not said.
    DataError
        Its folder is not there.
    """
    if path.exists() and not force:
        raise OutputExistsError(f"'{path}' exists: say --force to write over it, or name another file.")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder '{path.parent}' to write '{path.name}' into.")
    return path


def write_result(result: Result, path: Path, *, force: bool = False) -> None:
    """Write a result in the form that the file's ending names: `.nc` (everything), `.npz` (arrays), `.csv` (a table).

    The file is written under another name and moved into place, so that a failure leaves no half of it.

    Raises
    ------
    OutputExistsError
        The file is there already, and `force` was not said.
    UnsupportedError
        The ending is not known, or that form can't hold several layers.
    """
    writer = writer_for(path)
    check_output(path, force=force)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".seqscope-") as folder:
        made = Path(folder) / path.name
        writer(result, made)
        made.replace(path)


def writer_for(path: Path) -> Callable[[Result, Path], None]:
    """The writer for a file's ending.

    Raises
    ------
    UnsupportedError
        The ending is not known.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UnsupportedError(f"A result can't be written as '{path.suffix or path.name}': expected an ending out of {quoted(_WRITERS)}.")
    return writer


def _write_netcdf(result: Result, path: Path) -> None:
    result.to_netcdf(path, engine="h5netcdf")


def _write_npz(result: Result, path: Path) -> None:
    """Values under the layer's name (or the array's), coordinates under theirs; a tree's as "layer/coordinate"."""
    if isinstance(result, xr.DataTree):
        nodes = {node.path.strip("/"): node.to_dataset(inherit=False) for node in result.subtree}
    else:
        nodes = {"": result.to_dataset() if isinstance(result, xr.DataArray) else result}
    arrays = {f"{place}/{name}".strip("/"): variable.values for place, data in nodes.items() for name, variable in data.variables.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _write_csv(result: Result, path: Path) -> None:
    """Without padding: one row a value; of several arrays, one row a step."""
    if isinstance(result, xr.DataTree):
        raise UnsupportedError("A .csv file holds one layer: name it with --layer, or write .nc or .npz.")
    if isinstance(result, xr.Dataset):
        _wide(result).to_csv(path, index=False)
    else:
        result.to_dataframe(name=str(result.name)).dropna(subset=str(result.name)).reset_index().to_csv(path, index=False)


def _wide(result: xr.Dataset) -> pd.DataFrame:
    """A row for each sample and step, a column for each array and unit: "c_17", "c_backward_17"; of figures by unit, a row for each."""
    rows = [dim for dim in _ROWS if dim in result.dims] or [labelled.UNIT]
    columns: dict[str, np.ndarray] = {}
    for name, array in result.data_vars.items():
        across = [dim for dim in array.dims if dim not in rows]
        labels = itertools.product(*(array.coords[dim].values.tolist() for dim in across))
        values = array.transpose(*rows, *across).values.reshape(np.prod([result.sizes[dim] for dim in rows], dtype=int), -1)
        columns |= {"_".join(map(str, (name, *label))): column for label, column in zip(labels, values.T, strict=True)}
    known = {name: coord for name, coord in result.coords.items() if set(coord.dims) <= set(rows)}
    places = xr.Dataset(coords=known).to_dataframe(dim_order=rows).reset_index()
    return pd.concat([places, pd.DataFrame(columns)], axis=1).dropna(subset=list(columns), how="all")


# What tells the rows of a table apart.
_ROWS = (labelled.SAMPLE, labelled.CALL, labelled.TIME, labelled.STEP)

_WRITERS: dict[str, Callable[[Result, Path], None]] = {
    ".nc": _write_netcdf,
    ".npz": _write_npz,
    ".csv": _write_csv,
}
