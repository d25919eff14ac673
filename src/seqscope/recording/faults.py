"""Samples that a model fails on: which they are, and how the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from seqscope.collect import Collected
from seqscope.errors import ModelError, SeqscopeError
from seqscope.sequences import Sequences

# Runs some of the sequences, by position.
Run = Callable[[Sequence[int]], dict[str, Collected]]


def failing(run: Run, rows: Sequence[int]) -> dict[int, SeqscopeError]:
    """The samples that fail when they are run, found by halves: each with what was said of it; none where they fail together alone."""
    try:
        run(rows)
    except SeqscopeError as error:
        if len(rows) == 1:
            return {rows[0]: error}
        middle = len(rows) // 2
        return failing(run, rows[:middle]) | failing(run, rows[middle:])
    return {}


def named(part: Sequences, first: int, found: dict[int, SeqscopeError], error: SeqscopeError) -> ModelError:
    """The error of a run that names the sample, and says how to go on without it."""
    if not found:
        last = first + len(part) - 1
        return ModelError(f"The model failed on the samples at {first} to {last} together, and on none of them alone: {error.message}")
    row, cause = next(iter(found.items()))
    said = cause.message.rstrip(".")
    others = f" (and {len(found) - 1} more of this part)" if len(found) > 1 else ""
    return ModelError(
        f"The model failed on sample {part.samples[row]!s} (at {first + row}, {part.lengths[row]} steps){others}: {said}. "
        "Say on_error='skip' to set such samples aside, or leave them out; resume=True goes on."
    )


def put_apart(found: dict[str, Collected], rows: np.ndarray, n_samples: int) -> dict[str, Collected]:
    """Values of some rows among all: NaN (0 of whole numbers) in the others."""
    whole: dict[str, Collected] = {}
    for address, value in found.items():
        values = np.full((n_samples, *value.values.shape[1:]), np.nan if value.values.dtype.kind == "f" else 0, value.values.dtype)
        values[rows] = value.values
        whole[address] = Collected(values, value.dims, value.on_input_clock)
    return whole
