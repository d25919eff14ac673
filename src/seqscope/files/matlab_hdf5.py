"""MAT-files of version 7.3: HDF5 files in which MATLAB says the class of each variable, and cells are references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqscope import ram
from seqscope.errors import DataError
from seqscope.files.matlab_names import Variable
from seqscope.inflation import objection_to_hdf5

if TYPE_CHECKING:
    import h5py


def variables(path: Path) -> list[Variable]:
    """All variables of a file.

    Raises
    ------
    DataError
        It takes data from other files, or would fill the memory.
    """
    import h5py

    objection = objection_to_hdf5(path, path.stat().st_size)
    if objection is not None:
        raise DataError(f"it {objection}")
    with h5py.File(path) as file:
        return [Variable(name, _class_of(item)) for name, item in file.items() if not name.startswith("#")]


def read(path: Path, wanted: list[Variable]) -> dict[str, Any]:
    """The values of variables: arrays as MATLAB shows them, lists for cells, strings for rows of characters."""
    import h5py

    with h5py.File(path) as file:
        return {variable.name: _value(file, file[variable.name], variable.name) for variable in wanted}


def _class_of(item: Any) -> str:
    import h5py

    if not isinstance(item, h5py.Dataset):
        return "struct"
    said = item.attrs.get("MATLAB_class")
    if said is None:
        return "double" if item.dtype.kind in "fiu" else "unknown"
    return said.decode("latin-1") if isinstance(said, bytes) else str(said)


def _value(file: h5py.File, item: Any, name: str, *, in_cell: bool = False) -> Any:
    """One variable, or what a cell refers to. HDF5 has MATLAB's axes in the opposite order, since MATLAB's memory goes by columns."""
    kind = _class_of(item)
    if kind == "struct":
        raise DataError(f"its {name!r} holds a struct: save the field that is wanted as a variable of its own")
    if item.attrs.get("MATLAB_empty"):
        return "" if kind == "char" else [] if kind == "cell" else np.zeros(tuple(int(size) for size in item[()].reshape(-1)))
    if kind == "cell":
        if in_cell:
            raise DataError(f"its {name} is a cell within a cell: expected a matrix or a text in each")
        return _cells(file, item, name)
    if item.dtype.kind not in "fiub":
        raise DataError(f"its {name!r} holds values of type {item.dtype} (class {kind}): expected numbers or texts")
    ram.check_fits(2 * item.nbytes, f"its {name!r}, with a copy,", instead="save it as .npy")
    array = np.asarray(item[()]).T
    if kind != "char":
        return array
    texts = ["".join(map(chr, row.tolist())).rstrip() for row in np.atleast_2d(array)]
    return texts[0] if len(texts) == 1 else texts


def _cells(file: h5py.File, item: h5py.Dataset, name: str) -> list[Any]:
    import h5py

    if h5py.check_ref_dtype(item.dtype) is not h5py.Reference:
        raise DataError(f"its cell array {name!r} holds {item.dtype} in place of references: the file was changed, or cut short")
    references = np.asarray(item[()]).T.ravel(order="F")
    found = [_referred(file, reference, f"{name}{{{place}}}") for place, reference in enumerate(references, start=1)]
    ram.check_fits(2 * sum(getattr(one, "nbytes", 0) for one in found), f"its {name!r}, with a copy,", instead="save it as .npy")
    return [_value(file, one, f"{name}{{{place}}}", in_cell=True) for place, one in enumerate(found, start=1)]


def _referred(file: h5py.File, reference: Any, name: str) -> Any:
    try:
        return file[reference]
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise DataError(f"the cell {name} refers to nothing: the file was changed, or cut short") from error
