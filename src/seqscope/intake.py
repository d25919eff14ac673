"""What people have, turned into flat form: arrays, lists, labelled arrays, frames, tensors, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr

from seqscope import labelled, layouts
from seqscope.clock import Clock
from seqscope.errors import DataError
from seqscope.flat import Flat, from_block, from_tokens, joined
from seqscope.frames import from_frame


@runtime_checkable
class HasFlat(Protocol):
    """What knows its own flat form: Sequences."""

    def to_flat(self) -> Flat:
        """The flat form, sharing memory."""
        ...


def take_in(data: Any, layout: str | None = None) -> Flat:
    """Turn what a person has into flat form.

    Parameters
    ----------
    layout : str, optional
        The order of the axes of an array without names; default: (sample, time, channel).

    Raises
    ------
    DataError
        The data is of no known kind, has the wrong number of axes, or can't be numbers.
    """
    if isinstance(data, HasFlat):
        return data.to_flat()
    _refuse_text(data)
    if isinstance(data, xr.Dataset | xr.DataTree):
        raise DataError(f"A {type(data).__name__} holds several arrays: give one of them, such as data['value'].")
    if isinstance(data, xr.DataArray):
        return _from_labelled(data)
    if isinstance(data, pd.Series):
        data = data.to_frame()
    if isinstance(data, pd.DataFrame):
        return from_frame(data)
    if isinstance(data, list | tuple):
        return _from_list(data)
    return _from_array(as_array(data), layout)


def _refuse_text(data: Any) -> None:
    """Name the call that takes text, whose alphabet has to be known."""
    first = data[0] if isinstance(data, list | tuple) and len(data) else data
    if isinstance(first, str):
        raise DataError(
            f"The data is text, {shorten(first, 40)!r}: give Sequences.from_text(text, characters=...), with the characters in the model's "
            "order; a file has to be read first."
        )


def as_array(data: Any) -> np.ndarray:
    """A NumPy array of an array or a tensor of any framework, without importing that framework.

    Raises
    ------
    DataError
        It can't be read as one.
    """
    try:
        if hasattr(data, "detach") and hasattr(data, "cpu"):  # a torch tensor, which NumPy can't read from a GPU or with a gradient
            data = data.detach().cpu().resolve_conj().resolve_neg()
            if "bfloat16" in str(data.dtype):  # NumPy has no such type
                data = data.float()
        if np.ma.is_masked(data):
            return np.asarray(np.ma.filled(data.astype(np.float64), np.nan))
        return np.asarray(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"The data ({type(data).__name__}) can't be read as an array: {error}") from error


def as_numbers(array: np.ndarray) -> np.ndarray:
    """Floats as the frameworks know them; whole numbers and truth values become float64; the rest is refused.

    Raises
    ------
    DataError
        The array holds something else.
    """
    if array.dtype.kind == "f":
        known = array.dtype if array.dtype.itemsize <= 8 else np.dtype(np.float64)
        return array.astype(known.newbyteorder("="), copy=False)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype == object:
        raise DataError(
            "The array has dtype object, as an array of arrays or of mixed values has: "
            "give a list of 2-D float arrays, each (time, channel), or one 3-D float array."
        )
    raise DataError(f"The array has dtype {array.dtype}: expected floats (a series) or integers (tokens).")


def _from_array(array: np.ndarray, layout: str | None) -> Flat:
    if array.dtype.kind in "iu" and array.ndim in (1, 2):
        flat = from_tokens(np.atleast_2d(array.T if layout == "TN" else array))
        flat.single = array.ndim == 1
        return flat
    array = as_numbers(array)
    if layout in layouts.TOKEN_LAYOUTS:
        raise DataError(f"The layout {layout} is one of tokens, and an array of floats of shape {array.shape} was given.")
    if array.ndim == 3:
        return from_block(layouts.from_model(array, layout or "NTC"))
    if array.ndim in (1, 2):  # one sequence is always (time, channel); one channel may come as (time,)
        flat = from_block((array if array.ndim == 2 else array[:, None])[None])
        flat.single = True
        return flat
    raise DataError(
        f"The array has {array.ndim} axes, shape {array.shape}: expected 3 (many series), 2 (one series, time by channel, "
        "or integer tokens, sample by time)."
    )


def _from_list(items: Sequence[Any]) -> Flat:
    if not len(items):
        raise DataError("The list is empty: expected at least one sequence.")
    if all(np.isscalar(item) for item in items):  # a plain list of numbers is one sequence
        return _from_array(as_array(items), None)
    return joined([one_of_list(position, item) for position, item in enumerate(items)])


def one_of_list(position: int, item: Any) -> Flat:
    """One sequence of a list. A 2-D array of whole numbers is (time, channel) here, and not tokens."""
    try:
        if not isinstance(item, HasFlat | xr.DataArray | pd.DataFrame | pd.Series):
            item = as_array(item)
            if item.ndim not in (1, 2):
                raise DataError(f"it has {item.ndim} axes, shape {item.shape}; expected 2-D arrays, each (time, channel)")
            item = as_numbers(item) if item.ndim == 2 else item
        flat = take_in(item)
        if not flat.single:
            raise DataError(f"it holds {len(flat.starts)} sequences; expected one in each item")
    except DataError as error:
        raise DataError(f"Item {position} of the list ({type(item).__name__}): {error.message}") from error
    return flat


def _from_labelled(array: xr.DataArray) -> Flat:
    dims = tuple(array.dims)
    known = (labelled.SAMPLE, labelled.TIME, labelled.CHANNEL)
    if labelled.TIME not in dims or not set(dims) <= set(known):
        raise DataError(
            f"The labelled array has dims {dims}: expected 'time', with 'sample' and 'channel' where there are several "
            "(rename yours: array.rename({'old': 'time'}))."
        )
    single = labelled.SAMPLE not in dims
    values = array.transpose(*(dim for dim in known if dim in dims)).values
    values = values[None] if single else values
    if labelled.CHANNEL in dims:
        flat = from_block(as_numbers(values))
    else:
        flat = from_tokens(values) if values.dtype.kind in "iu" else from_block(as_numbers(values)[..., None])
    flat.single = single
    take_names(flat, array)
    return flat


def take_names(flat: Flat, array: xr.DataArray) -> None:
    """Give sequences the lengths, names, labels and times that a labelled array has as coordinates."""
    coords = array.coords
    if labelled.LENGTH in coords:  # a piece of a sequence may be shorter than what its coordinate says of the whole
        flat.lengths = np.minimum(flat.lengths, np.atleast_1d(coords[labelled.LENGTH].values)).astype(np.int64)
    if labelled.CHANNEL in coords and labelled.CHANNEL in array.dims:
        flat.channels = list(coords[labelled.CHANNEL].values.tolist())
    if labelled.SAMPLE in coords:
        flat.samples = np.atleast_1d(coords[labelled.SAMPLE].values)
    if labelled.LABEL in coords:
        flat.labels = np.atleast_1d(coords[labelled.LABEL].values)
    if "outputs" in array.attrs:
        flat.outputs = np.atleast_1d(array.attrs["outputs"]).tolist()
    name = labelled.TIMESTAMP if labelled.TIMESTAMP in coords else labelled.TIME
    if name in coords:
        table = np.atleast_2d(coords[name].values)
        rows = np.broadcast_to(table, (len(flat.starts), table.shape[-1]))
        own = [row[:length] for row, length in zip(rows, flat.lengths, strict=True)]
        flat.clock = Clock.of(own if labelled.SAMPLE in coords[name].dims else [table[0]], str(coords[name].attrs.get("units", "")))
