"""What a command shows of its result where nothing is written: tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from seqscope import files
from seqscope.labelled import ACTIVATIONS, CHANNEL, SAMPLE

if TYPE_CHECKING:
    from seqscope.report import Table

_LISTED = 10
# What a summary in the terminal ends with.
HOW = "To keep the values: -o FILE.nc; to see them: --plot FILE.png."


def sizes_of(result: xr.DataArray | xr.Dataset) -> str:
    """Sizes in words: "sample 370, time 29, unit 100"."""
    return ", ".join(f"{dim} {size}" for dim, size in result.sizes.items())


def ranges(result: files.Result) -> Table:
    """A row for each array: its sizes, and what its values are."""
    from seqscope.report import Table

    rows = [(name, sizes_of(array), *_range(array)) for name, array in _arrays(result)]
    return Table(("Name", "Sizes", "Lowest", "Mean", "Highest"), rows, numeric=frozenset({2, 3, 4}))


def _arrays(result: files.Result) -> Iterator[tuple[str, xr.DataArray]]:
    """Each array by its name: of a layer, of a state, or of both."""
    if isinstance(result, xr.DataArray):
        yield str(result.attrs.get("layer", result.name)), result
    elif isinstance(result, xr.Dataset):
        yield from ((str(name), array) for name, array in result.data_vars.items())
    else:
        for layer, node in result.children.items():
            yield from ((layer if name == ACTIVATIONS else f"{layer} {name}", array) for name, array in _arrays(node.to_dataset()))


def _range(array: xr.DataArray) -> tuple[str, str, str]:
    return f"{array.min().item():.4g}", f"{array.mean().item():.4g}", f"{array.max().item():.4g}"


def strongest(found: xr.DataArray) -> Table:
    """Where an attribution is greatest in size: of one sample the places, of several the means along them."""
    from seqscope.report import Table

    is_one = SAMPLE not in found.dims or found.sizes[SAMPLE] == 1
    if is_one:
        values = found.isel({SAMPLE: 0}) if SAMPLE in found.dims else found
    else:
        along = [CHANNEL] if CHANNEL in found.dims else [str(dim) for dim in found.dims if dim != SAMPLE]
        values = abs(found).mean([dim for dim in found.dims if dim not in along])
    flat = values.values.ravel()
    order = np.argsort(-np.abs(np.nan_to_num(flat)), kind="stable")[:_LISTED]
    places = np.unravel_index(order, values.shape)
    names = [[str(label) for label in values[dim].values[place]] for dim, place in zip(values.dims, places, strict=True)]
    rows = list(zip(*names, [f"{flat[place]:.4g}" for place in order], strict=True))
    headings = [*(str(dim).capitalize() for dim in values.dims), "Attribution" if is_one else "Mean size"]
    caption = f"The {len(rows)} greatest in size of {values.size:,}." if values.size > len(rows) else ""
    return Table(headings, rows, caption, frozenset({len(headings) - 1}))


def code_of_strongest(found: xr.DataArray, name: str) -> str:
    """The Python that makes the same of an array that has this name."""
    if SAMPLE in found.dims and found.sizes[SAMPLE] > 1:
        others = [str(dim) for dim in found.dims if dim != CHANNEL] if CHANNEL in found.dims else [SAMPLE]
        return f"abs({name}).mean({others}).to_series().nlargest({_LISTED})"
    return f"{name}.to_series().sort_values(key=abs, ascending=False).head({_LISTED})"
