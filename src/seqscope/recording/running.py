"""The statistics of a store: those of its units of work, merged in their order, so that it does not matter when which was done."""

from __future__ import annotations

import numpy as np
import xarray as xr
from zarr.abc.store import Store

from seqscope.labelled import CALL, SAMPLE, STEP, TIME
from seqscope.recording import ledger, stores
from seqscope.recording.figures import Figures, summary
from seqscope.recording.ledger import Ledger

_SAID = ("layer", "kind", "layer_type", "model", "framework", "rounding")


def statistics_of(store: Store, only: str | None = None) -> dict[str, xr.Dataset]:
    """The figures of each array, by its path, over the units of work that are done; nothing where none is.

    Parameters
    ----------
    only : str, optional
        One path: "states/lstm/c".
    """
    return {path: _labelled(store, path, *found) for path, found in _merged(store, only).items()}


def _labelled(store: Store, path: str, found: Figures, worst: float) -> xr.Dataset:
    group, _, name = path.rpartition("/")
    data = xr.open_zarr(store, group=group, consolidated=False, chunks=None, decode_times=False)
    array = data[name]
    dims = tuple(str(dim) for dim in array.dims if dim not in (SAMPLE, CALL, TIME, STEP))
    coords = {str(name): coord.variable for name, coord in array.coords.items() if coord.dims and set(coord.dims) <= set(dims)}
    said = {key: value for key, value in (data.attrs | array.attrs).items() if key in _SAID}
    said |= {"largest_rounding_error": worst} if "rounding" in said else {}
    return summary(found, dims=dims, sizes=tuple(array.sizes[dim] for dim in dims), coords=coords, attrs=said | {"method": "record"})


def _merged(store: Store, only: str | None) -> dict[str, tuple[Figures, float]]:
    """The parts of all arrays, each file read once, in the order of the units of work."""
    found: dict[str, tuple[Figures, float]] = {}
    for number in Ledger(store).numbers():
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, values in ledger.unpacked(stores.get(store, ledger.part_key(number)) or ledger.packed({})).items():
            path, _, name = key.partition("|")
            parts.setdefault(path, {})[name] = values
        for path, arrays in parts.items():
            if only in (None, path):
                worst = float(arrays.pop("largest_error")[0])
                here = Figures.from_arrays(arrays)
                before = found.get(path)
                found[path] = (here, worst) if before is None else (before[0].merged(here), max(before[1], worst))
    return found
