"""What yields data: torch's Dataset and DataLoader, tf.data, Keras' PyDataset, any iterable of (x, y) or of x.

What a thing is, is told by what it has, and no framework is imported: a DataLoader has a `dataset` and a `batch_size`, a tf.data set an
`element_spec`, a PyDataset gives batches by their numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from seqscope import ram
from seqscope.errors import DataError, SeqscopeError, quoted
from seqscope.files.found import Found, Options, check_layout, laid_out, with_labels
from seqscope.files.kept import Column, Kept, StepsFile
from seqscope.intake import as_array, as_numbers, one_of_list

# How many sequences are taken from what does not tell its end, unless more are asked for; and how often memory is looked at.
MOST = 100_000
_LOOK_EVERY = 64_000_000
_NOT_ALL = "say how many sequences to take, with most=, or a file that they are written to as they come, such as keep='steps.npy'"
_NO_LABELS = "its labels are not one for each sequence: say y=False to read without them"

_HAS_TABLES = (np.ndarray, xr.DataArray, xr.Dataset, pd.DataFrame, pd.Series)


def read_loader(source: Any, asked: Options) -> Found:
    """Sequences and labels of what yields them, in the order in which it does.

    Raises
    ------
    DataError
        It yields neither x nor (x, y), or has no end and `most` was not said, or what it runs raises.
    """
    if isinstance(source, _HAS_TABLES) or hasattr(source, "detach"):
        raise DataError("it is no file and no loader but data already: give it to Sequences")
    if asked.most is not None and (isinstance(asked.most, bool) or not isinstance(asked.most, int) or asked.most < 1):
        raise DataError(f"`most` is {asked.most!r}: expected a number of sequences, 1 or more")
    _check_end(source, asked.most)
    if asked.keep is not None:
        with StepsFile(Path(asked.keep)) as file:
            return _written(_taken(source, asked), Kept(file))
    series: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    held, looked = 0, 0
    for xs, ys in _taken(source, asked):
        series.extend(xs)
        labels.extend(ys)
        held += sum(x.nbytes for x in xs)
        if held - looked > _LOOK_EVERY:
            looked = held
            ram.check_fits(2 * held, "what the loader gives, with a copy,", instead=_NOT_ALL)
    return _joined(series, labels)


def _taken(source: Any, asked: Options) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The sequences and the labels of each item, as many as are wanted."""
    batched, n_taken = _is_batched(source), 0
    for number, item in enumerate(_items(source)):
        xs, ys = _both(item, number, asked, batched=batched)
        left = None if asked.most is None else asked.most - n_taken
        n_taken += len(xs)
        if asked.most is None and n_taken > MOST and not hasattr(source, "__len__"):
            raise DataError(f"it gave more than {MOST:,} sequences and does not tell how many there are: say most=, how many to take")
        yield xs[:left], ys[:left]
        if asked.most is not None and n_taken >= asked.most:
            return


def _written(items: Iterable[tuple[list[np.ndarray], list[np.ndarray]]], kept: Kept) -> Found:
    """The same with the steps in a file."""
    labels, shape = Column(), None
    for xs, ys in items:
        for x in xs:
            kept.add(one_of_list(len(kept), x))
        for label in ys:
            if shape not in (None, label.shape):
                raise DataError(_NO_LABELS)
            shape = label.shape
            labels.add(label[None])
    if not len(kept):
        raise DataError("it yields nothing")
    return Found(kept.finish(), _known(labels.values(), len(kept)))


def _check_end(source: Any, most: int | None) -> None:
    if most is not None:
        return
    cardinality = getattr(source, "cardinality", None)  # of tf.data, -1 where it repeats for ever
    if isinstance(source, itertools.cycle | itertools.count | itertools.repeat) or (callable(cardinality) and int(cardinality()) == -1):
        raise DataError("it has no end: say most=, how many sequences to take")


def _is_batched(source: Any) -> bool | None:
    """Whether items are batches; None where only the items can tell."""
    if hasattr(source, "dataset") and hasattr(source, "batch_size"):  # a DataLoader; its batch_sampler may make batches of any size
        return source.batch_size is not None or getattr(source, "batch_sampler", None) is not None
    words = {kind.__name__ for kind in type(source).__mro__}
    if "PyDataset" in words:
        return True
    return False if {"Dataset", "IterableDataset"} & words and not hasattr(source, "element_spec") else None


def _items(source: Any) -> Iterator[Any]:
    """Items one by one; what they raise is said in a sentence."""
    by_number = not hasattr(source, "__iter__") and hasattr(source, "__getitem__") and hasattr(source, "__len__")
    number = -1
    try:
        items = (source[place] for place in range(len(source))) if by_number else iter(source)
        for number, item in enumerate(items):  # noqa: B007 - the number is said below
            yield item
    except SeqscopeError:
        raise
    except Exception as error:  # the code of a loader is the person's own, and may raise anything
        raise DataError(f"it raised {type(error).__name__} behind item {number}: {error}") from error


def _both(item: Any, number: int, asked: Options, *, batched: bool | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The sequences and the labels of an item: one of each, or a batch."""
    try:
        x, y = _pair(item)
        array = as_array(x)
        many = batched if batched is not None else array.ndim == 3
        xs = _series(array, asked.layout, many=many)
        if y is None or asked.y is False:
            return xs, []
        labels = as_array(y)
        return xs, _split_labels(labels, len(xs)) if many else [labels]
    except DataError as error:
        raise DataError(f"item {number}: {error.message}") from error


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        first, *rest = map(str, item)
        again = f"({{}}['{first}'], {{}}['{(rest or ['y'])[0]}'])".replace("{}", "item")
        raise DataError(f"it is a dict of {quoted(map(str, item))}: give pairs, as sq.read({again} for item in loader)")
    if not isinstance(item, tuple | list) or (isinstance(item, list) and item and np.isscalar(item[0])):
        return item, None
    if len(item) == 1:
        return item[0], None
    if len(item) != 2:
        raise DataError(f"it has {len(item)} parts: give pairs (x, y), as sq.read((item[0], item[-1]) for item in loader)")
    return item[0], item[1]


def _series(array: np.ndarray, layout: str | None, *, many: bool) -> list[np.ndarray]:
    """Each sequence as (time, channel), or (time,) of tokens."""
    if layout is not None:
        check_layout(layout)
        array = laid_out(array, layout if many else layout.replace("N", ""))
    if not many:
        if array.ndim not in (1, 2):
            raise DataError(f"it has the shape {array.shape}: expected one sequence (time, channel), or tokens (time,)")
        return [as_numbers(array) if array.ndim == 2 else array]
    if array.ndim not in (2, 3) or not len(array):
        raise DataError(f"it has the shape {array.shape}: expected a batch (sample, time, channel), or tokens (sample, time)")
    return [as_numbers(row) if row.ndim == 2 else row for row in array]


def _split_labels(labels: np.ndarray, n_samples: int) -> list[np.ndarray]:
    if labels.ndim == 0 or len(labels) != n_samples:
        raise DataError(f"its labels have the shape {labels.shape} for {n_samples} sequences")
    return list(labels)


def _joined(series: list[np.ndarray], labels: list[np.ndarray]) -> Found:
    if not series:
        raise DataError("it yields nothing")
    if len({label.shape for label in labels}) > 1:
        raise DataError(_NO_LABELS)
    return Found(series, _known(np.stack(labels) if labels else None, len(series)))


def _known(labels: np.ndarray | None, n_samples: int) -> dict[str, Any]:
    if labels is None:
        return {}
    if labels.ndim > 2 or len(labels) != n_samples:
        raise DataError(_NO_LABELS)
    return with_labels({}, labels, "y", n_samples, said=True)
