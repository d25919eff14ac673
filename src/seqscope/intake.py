"""What people have, turned into one flat form: arrays, lists, frames, labelled arrays, tensors, tokens.

The flat form (`Intake`) holds the steps of all sequences one after the other, with the place where each sequence starts and its
length. A padded (sample, time, channel) array fits it without a copy, and so does any selection of samples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope import labelled, layouts
from seqscope.errors import DataError, quoted


@dataclass
class Intake:
    """Sequences in flat form, with the names that came along.

    Attributes
    ----------
    steps : array (step, channel) of floats, or (step,) of integer tokens
    starts, lengths : int arrays (sample,)
    single : bool
        One sequence was given, without a sample axis.
    """

    steps: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    single: bool = False
    channels: list[Hashable] | None = None
    samples: np.ndarray | None = None
    labels: np.ndarray | None = None
    outputs: list[Hashable] | None = None
    clock: labelled.Clock = field(default_factory=labelled.Clock)


def take_in(data: Any, layout: str | None) -> Intake:
    """Turn what a person has into flat form.

    Raises
    ------
    DataError
        The data is of no known kind, has the wrong number of axes, or can't be numbers.
    """
    if isinstance(data, xr.Dataset | xr.DataTree):
        raise DataError(f"A {type(data).__name__} holds several arrays: give one of them, such as data['value'].")
    if isinstance(data, xr.DataArray):
        return _from_labelled(data)
    if isinstance(data, pd.Series):
        data = data.to_frame()
    if isinstance(data, pd.DataFrame):
        return _from_frame(data)
    if isinstance(data, list | tuple):
        return _from_list(data)
    return _from_array(as_array(data), layout)


def as_array(data: Any) -> np.ndarray:
    """A NumPy array of an array or a tensor of any framework, without importing that framework."""
    if hasattr(data, "detach") and hasattr(data, "cpu"):  # a torch tensor, which NumPy can't read from a GPU or with a gradient
        data = data.detach().cpu()
        if "bfloat16" in str(data.dtype):  # NumPy has no such type
            data = data.float()
    try:
        array = np.asarray(data)
    except (TypeError, ValueError) as error:
        raise DataError(f"The data ({type(data).__name__}) can't be read as an array: {error}") from error
    return array


def as_numbers(array: np.ndarray) -> np.ndarray:
    """Floats stay as they are, whole numbers and truth values become float64; the rest is refused."""
    if array.dtype.kind == "f":
        return array
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    if array.dtype == object:
        raise DataError(
            "The array has dtype object, as an array of arrays or of mixed values has: "
            "give a list of 2-D float arrays, each (time, channel), or one 3-D float array."
        )
    raise DataError(f"The array has dtype {array.dtype}: expected floats (a series) or integers (tokens).")


def _from_array(array: np.ndarray, layout: str | None) -> Intake:
    integers = array.dtype.kind in "iu"
    if integers and array.ndim in (1, 2):
        return _from_tokens(array, layout)
    array = as_numbers(array)
    if array.ndim == 3:
        return _from_block(layouts.from_model(array, layout if layout in layouts.SERIES_LAYOUTS else "NTC"))
    if array.ndim in (1, 2):  # one sequence is always (time, channel); one channel may come as (time,)
        intake = _from_block((array if array.ndim == 2 else array[:, None])[None])
        intake.single = True
        return intake
    raise DataError(
        f"The array has {array.ndim} axes, shape {array.shape}: expected 3 (many series), 2 (one series, time by channel, "
        "or integer tokens, sample by time)."
    )


def _from_tokens(array: np.ndarray, layout: str | None) -> Intake:
    if array.ndim == 2 and layout == "TN":
        array = array.T
    single = array.ndim == 1
    intake = _from_block(np.atleast_2d(array)[:, :, None])
    intake.steps = intake.steps[:, 0]
    intake.single = single
    return intake


def _from_block(block: np.ndarray) -> Intake:
    """(sample, time, channel) without names; a step that is NaN in every channel at the end of a sample is padding."""
    n_samples, n_steps, n_channels = block.shape
    lengths = np.full(n_samples, n_steps, np.int64)
    steps = np.ascontiguousarray(block).reshape(n_samples * n_steps, n_channels)
    if block.size and not _all_finite(block):
        there = ~np.isnan(block).all(axis=2)
        lengths = np.where(there.any(axis=1), n_steps - there[:, ::-1].argmax(axis=1), 0).astype(np.int64)
    return Intake(steps, np.arange(n_samples, dtype=np.int64) * n_steps, lengths)


def _all_finite(block: np.ndarray) -> bool:
    return bool(np.isfinite(block).all())


def _from_list(items: Sequence[Any]) -> Intake:
    if not len(items):
        raise DataError("The list is empty: expected at least one sequence.")
    if all(isinstance(item, xr.DataArray) for item in items):
        return _joined([_from_labelled(item) for item in items])
    arrays = [as_array(item) for item in items]
    if all(array.ndim == 0 for array in arrays):  # a plain list of numbers is one sequence
        return _from_array(np.asarray(items), None)
    return _joined([_one_of_list(position, array) for position, array in enumerate(arrays)])


def _one_of_list(position: int, array: np.ndarray) -> Intake:
    if array.ndim not in (1, 2):
        raise DataError(
            f"Item {position} of the list has {array.ndim} axes, shape {array.shape}: expected 2-D arrays, each (time, channel)."
        )
    if array.ndim == 2 and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    try:
        return _from_array(array, None)
    except DataError as error:
        raise DataError(f"Item {position} of the list: {error.message}") from error


def _joined(parts: list[Intake]) -> Intake:
    widths = [part.steps.shape[1] if part.steps.ndim == 2 else None for part in parts]
    for position, width in enumerate(widths):
        if width != widths[0]:
            raise DataError(
                f"Item {position} of the list has {_width(width)} and item 0 has {_width(widths[0])}: every item is (time, channel) "
                "with the same channels."
            )
    lengths = np.array([part.lengths[0] for part in parts], np.int64)
    steps = np.concatenate([part.steps[: part.lengths[0]] for part in parts])
    first = parts[0]
    return Intake(
        steps,
        np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64),
        lengths,
        channels=first.channels,
        samples=_stacked([part.samples for part in parts]),
        labels=_stacked([part.labels for part in parts]),
        outputs=first.outputs,
        clock=_joined_clock([part.clock for part in parts]),
    )


def _width(width: int | None) -> str:
    return "tokens" if width is None else f"{width} channels"


def _stacked(columns: list[np.ndarray | None]) -> np.ndarray | None:
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if len(known) == len(columns) else None


def _joined_clock(clocks: list[labelled.Clock]) -> labelled.Clock:
    own = [clock.stamps if clock.own is None else clock.own[0] for clock in clocks]
    known = [stamps for stamps in own if stamps is not None]
    return shared_clock(known, clocks[0].units) if len(known) == len(own) else labelled.Clock()


def shared_clock(own: Sequence[np.ndarray], units: str) -> labelled.Clock:
    """One clock for all samples where their stamps agree as far as they go, else a clock for each."""
    longest = max(own, key=len)
    if not all(np.array_equal(stamps, longest[: len(stamps)]) for stamps in own):
        return labelled.Clock(None, tuple(own), units)
    numbered = not units and np.array_equal(longest, np.arange(len(longest)))
    return labelled.Clock() if numbered else labelled.Clock(longest, None, units)


def _from_labelled(array: xr.DataArray) -> Intake:
    dims = tuple(array.dims)
    allowed = {labelled.SAMPLE, labelled.TIME, labelled.CHANNEL}
    if labelled.TIME not in dims or not set(dims) <= allowed:
        raise DataError(
            f"The labelled array has dims {dims}: expected 'time', with 'sample' and 'channel' where there are several "
            "(rename yours: array.rename({'old': 'time'}))."
        )
    single = labelled.SAMPLE not in dims
    order = [dim for dim in (labelled.SAMPLE, labelled.TIME, labelled.CHANNEL) if dim in dims]
    values = array.transpose(*order).values
    values = values[None] if single else values
    if labelled.CHANNEL in dims or values.dtype.kind not in "iu":
        values = values if labelled.CHANNEL in dims else values[..., None]
        intake = _from_block(as_numbers(values))
    else:
        intake = _from_tokens(values, None)
    if labelled.LENGTH in array.coords:
        intake.lengths = np.atleast_1d(array.coords[labelled.LENGTH].values).astype(np.int64)
    intake.single = single
    _take_names(intake, array)
    return intake


def _take_names(intake: Intake, array: xr.DataArray) -> None:
    if labelled.CHANNEL in array.coords and labelled.CHANNEL in array.dims:
        intake.channels = list(array.coords[labelled.CHANNEL].values.tolist())
    if labelled.SAMPLE in array.coords:
        intake.samples = np.atleast_1d(array.coords[labelled.SAMPLE].values)
    if labelled.LABEL in array.coords:
        intake.labels = np.atleast_1d(array.coords[labelled.LABEL].values)
    if "outputs" in array.attrs:
        intake.outputs = list(np.atleast_1d(array.attrs["outputs"]).tolist())
    if labelled.TIMESTAMP in array.coords:
        stamps = np.atleast_2d(array.coords[labelled.TIMESTAMP].values)
        units = str(array.coords[labelled.TIMESTAMP].attrs.get("units", ""))
        intake.clock = shared_clock([row[:n] for row, n in zip(stamps, intake.lengths, strict=True)], units)
    elif labelled.TIME in array.coords:
        coordinate = array.coords[labelled.TIME]
        units = str(coordinate.attrs.get("units", ""))
        intake.clock = shared_clock([coordinate.values], units)


def _from_frame(frame: pd.DataFrame) -> Intake:
    """Rows are steps, columns channels; the index says which sample a row belongs to and, on a second level, when."""
    if frame.empty:
        raise DataError(f"The frame is empty ({len(frame)} rows, {len(frame.columns)} columns).")
    words = [str(name) for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    if words:
        raise DataError(f"The columns {quoted(words)} of the frame are not numbers: every column is a channel.")
    values = as_numbers(frame.to_numpy())
    index = frame.index
    several = index.nlevels > 1 or index.name == labelled.SAMPLE or not index.is_unique
    if not several:
        intake = _from_block(values[None])
        intake.single = True
        rows = [np.arange(len(frame))]
    else:
        codes, ids = pd.factorize(index.get_level_values(0))
        order = np.argsort(codes, kind="stable")
        lengths = np.bincount(codes).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        intake = Intake(values[order], starts, lengths, samples=np.asarray(ids))
        rows = np.split(order, starts[1:])
    intake.channels = list(frame.columns)
    stamps = index.get_level_values(1) if index.nlevels > 1 else None if several else index
    if stamps is not None and not (len(rows) == 1 and isinstance(stamps, pd.RangeIndex)):
        intake.clock = shared_clock([np.asarray(stamps)[row] for row in rows], "")
    return intake
