"""MATLAB's `.mat` files: of version 5 through SciPy, of version 7.3 through h5py, and labels of MATLAB's own classes through mat-io.

MATLAB's networks take sequences in a cell array, each a matrix (channel, time); `trainnet` takes (time, channel) too.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqscope.errors import DataError, require, warn
from seqscope.files import matlab_hdf5, matlab_v5
from seqscope.files.found import Chosen, Found, Options, check_layout, choose, laid_out, with_labels
from seqscope.files.matlab_names import Variable

# Classes that the plain readers do not know: they are objects, and the file says only where their parts are.
_NAMED_CLASSES = ("categorical", "string")
_VALUES = ("double", "single", "cell", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def read_mat(path: Path, asked: Options) -> Found:
    """The variable that holds the series, and the one that holds the labels."""
    file: Any = matlab_hdf5 if _is_hdf5(path) else matlab_v5
    variables: dict[str, Variable] = {variable.name: variable for variable in file.variables(path)}
    chosen = choose(list(variables), asked, likely=[name for name, variable in variables.items() if variable.kind in _VALUES])
    series = variables[chosen.series]
    if series.kind not in _VALUES:
        raise DataError(f"its {series.name!r} is of MATLAB's class {series.kind}: expected a cell array of matrices, or numbers")
    plain = [name for name in (chosen.series, chosen.labels, chosen.lengths) if name and variables[name].kind not in _NAMED_CLASSES]
    values = file.read(path, [variables[name] for name in plain])
    data = _series(values[chosen.series], chosen.series, asked.layout)
    known = {} if chosen.lengths is None else {"lengths": np.asarray(values[chosen.lengths]).reshape(-1)}
    return _labelled(Found(data, known), chosen, variables, values, path, asked)


def _is_hdf5(path: Path) -> bool:
    """Whether it is of version 7.3, told by the HDF5 file behind the header: what the header says is up to who writes it."""
    import h5py

    if h5py.is_hdf5(path):
        return True
    with path.open("rb") as file:
        head = file.read(8)
    if head == b"MATLAB 7":
        raise DataError("its header is of version 7.3 and no HDF5 file follows: it is cut short, or damaged")
    if head == b"MATLAB 5":
        return False
    raise DataError("it is no MAT-file of version 5, 7 or 7.3: save it in MATLAB with save(file, 'X', 'Y', '-v7')")


# The series


def _series(values: Any, name: str, layout: str | None) -> Any:
    if isinstance(values, list):
        return _oriented([_matrix(item, name, place) for place, item in enumerate(values)], name, layout)
    array = np.asarray(values)
    if array.ndim == 2 and layout is None:
        if 1 not in array.shape:
            raise DataError(
                f"its {name!r} is a matrix of {array.shape[0]} x {array.shape[1]}: say layout='CT' where it is one sequence with a row for "
                "each channel, as MATLAB's networks take it, 'TC' where it has a column for each, 'NT' where each row is a sequence"
            )
        return array.reshape(-1, 1).astype(np.float64, copy=False)
    return laid_out(array, layout)


def _matrix(item: Any, name: str, place: int) -> np.ndarray:
    matrix = np.asarray(item)
    if isinstance(item, list) or matrix.dtype.kind not in "fiub" or matrix.ndim != 2 or not matrix.size:
        what = "a cell" if isinstance(item, list) else f"an array of type {matrix.dtype} and shape {matrix.shape}"
        raise DataError(f"the cell {name}{{{place + 1}}} holds {what}: expected a matrix of numbers, (channel, time)")
    return matrix if matrix.dtype.kind == "f" else matrix.astype(np.float64)


def _oriented(matrices: list[np.ndarray], name: str, layout: str | None) -> list[np.ndarray]:
    """Each as (time, channel). The axis of the channels is the one along which all are alike; (channel, time) where both are."""
    if not matrices:
        raise DataError(f"its {name!r} is an empty cell array")
    rows, columns = ({matrix.shape[axis] for matrix in matrices} for axis in (0, 1))
    if layout is not None:
        check_layout(layout)
        if layout not in ("CT", "TC"):
            raise DataError(f"its {name!r} is a cell array: say layout='CT' (channel, time) or 'TC' (time, channel) of its matrices")
    elif len(rows) > 1 and len(columns) > 1:
        raise DataError(
            f"the matrices in {name!r} are alike in neither axis ({min(rows)} to {max(rows)} rows, {min(columns)} to {max(columns)} "
            "columns): every sequence has the same channels"
        )
    channels_first = layout == "CT" if layout is not None else len(rows) == 1
    return [matrix.T if channels_first else matrix for matrix in matrices]


# The labels


def _labelled(found: Found, chosen: Chosen, variables: dict[str, Variable], values: dict[str, Any], path: Path, asked: Options) -> Found:
    if chosen.labels is None:
        return found
    name, said = chosen.labels, asked.y is not None
    n_samples = len(found.data) if isinstance(found.data, list) or found.data.ndim > 2 else 1
    known = dict(found.known)
    if variables[name].kind in _NAMED_CLASSES:
        labels, outputs = _through_matio(path, variables[name], said=said)
        if labels is None:
            return found
        known |= {"outputs": outputs} if outputs else {}
    else:
        labels = _words(values[name]) if isinstance(values[name], list | np.str_ | str) else _whole(np.asarray(values[name]))
    if labels is None:
        labels = np.zeros((0, 0))  # cells of something else: no labels
    return Found(found.data, with_labels(known, labels, name, n_samples, said=said))


def _words(cells: Any) -> np.ndarray | None:
    """The texts of a cell array, or the rows of a char matrix."""
    cells = [cells] if isinstance(cells, str) else cells
    return np.array([str(cell) for cell in cells]) if all(isinstance(cell, str) for cell in cells) else None


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Numbers as MATLAB has them, all of them doubles: whole ones are numbers of classes, 3 and not 3.0."""
    is_whole = numbers.dtype.kind == "f" and bool((np.abs(numbers) < 2**31).all() and (numbers == np.floor(numbers)).all())
    return numbers.astype(np.int64) if is_whole else numbers


def _through_matio(path: Path, variable: Variable, *, said: bool) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """The texts of a categorical or string array, and the names of the categories, in their order."""
    try:
        matio = require("matio", extra="matlab", purpose=f"Reading {variable.name!r}, a {variable.kind} of MATLAB,")
    except ImportError:
        if said:
            raise
        warn(
            f"The labels {variable.name!r} are a {variable.kind} of MATLAB, which needs the package mat-io: read without them "
            "(pip install 'seqscope[matlab]')."
        )
        return None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other variables, which are not asked for
        value = matio.load_from_mat(str(path), variable_names=[variable.name]).get(variable.name)
    if isinstance(value, pd.Categorical):
        places = np.asarray(value.codes).ravel(order="F")
        names = np.array([*map(str, value.categories), "<undefined>"])
        return names[places], tuple(map(str, value.categories))
    texts = np.asarray(value)
    if texts.dtype.kind not in "OUT":
        raise DataError(
            f"the parts of its {variable.kind} {variable.name!r} are not where the file says: save them as texts, with "
            f"{variable.name} = cellstr({variable.name})"
        )
    return np.array([str(text) for text in texts.ravel(order="F")]), None
