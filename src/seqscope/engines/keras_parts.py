"""Batches for models that take a fixed number of rows, as stateful ones do: run part by part, and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from seqscope.engines.base import Forward, Gradient
from seqscope.errors import ModelError


def parts_of(n_samples: int, rows: int) -> Iterator[np.ndarray]:
    """The samples of each part of a batch, as many as the model takes; the last one is filled up with its first sample."""
    for start in range(0, n_samples, rows):
        places = np.arange(start, start + rows)
        places[places >= n_samples] = start
        yield places


def _join(values: Sequence[np.ndarray], n_samples: int, rows: int) -> np.ndarray:
    """The values of the parts of a batch put together, samples first as Keras has them."""
    if any(value.ndim == 0 or len(value) != rows for value in values):
        raise ModelError(f"gave a value of shape {values[0].shape} for {rows} samples, which do not come first")
    return np.concatenate(values)[:n_samples]


def joined_gradients(parts: Sequence[Gradient], n_samples: int, rows: int) -> Gradient:
    """The parts of a batch put together."""
    first = parts[0]

    def by_way(of: Callable[[Gradient], dict[str, list[np.ndarray]]]) -> dict[str, list[np.ndarray]]:
        return {way: [_join([of(part)[way][0] for part in parts], n_samples, rows)] for way in of(first)}

    outputs = [part.output for part in parts if part.output is not None]
    return Gradient(
        _join([part.score for part in parts], n_samples, rows),
        by_way(lambda part: part.gradients),
        by_way(lambda part: part.values),
        first.through,
        _join(outputs, n_samples, rows) if outputs else None,
    )


def joined(parts: Sequence[Forward], n_samples: int, rows: int) -> Forward:
    """The parts of a batch put together."""

    def join(values: Sequence[np.ndarray]) -> np.ndarray:
        return _join(values, n_samples, rows)

    first = parts[0]
    captured = {
        address: [join([part.captured[address][call] for part in parts]) for call in range(len(calls))]
        for address, calls in first.captured.items()
    }
    scores = [part.scores for part in parts if part.scores is not None]
    return replace(first, output=join([part.output for part in parts]), captured=captured, scores=join(scores) if scores else None)
