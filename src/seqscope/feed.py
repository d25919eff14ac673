"""Batches into a model in the layout that it takes, and errors about shapes in words.

The layout is found by trying: the samples of a batch do not see each other, so a layout is the right one where changing one sample
changes that sample's output and no other. That holds for every framework and needs no knowledge of the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seqscope import layouts
from seqscope.engines.base import Engine, Forward
from seqscope.errors import DataError, ModelError, quoted

# Samples in a trial batch: an odd one out with a neighbour on each side.
N_TRIED = 3
# Lengths tried where no data tells one: recurrent nets run on the first, deep valid convolutions need more.
LENGTHS_TRIED = (17, 131, 1031)


@dataclass(frozen=True)
class Feed:
    """A model with the layout that it takes.

    Attributes
    ----------
    layout : str
        The order of the axes of its input, see `layouts`.
    width : int or None
        Its channels (for tokens: how many there are), where known.
    """

    engine: Engine
    layout: str
    width: int | None = None

    def forward(self, values: np.ndarray, capture: Sequence[str] = ()) -> Forward:
        """Run sequences of one length, (sample, time, channel) or (sample, time).

        Raises
        ------
        DataError
            The model takes another number of channels, or tokens where there are floats.
        ModelError
            The model could not run on the batch for another reason.
        """
        if values.ndim != len(self.layout):
            raise self._wrong_kind(values)
        lengths = np.full(values.shape[0], values.shape[1], np.int64)
        try:
            return self.engine.forward(layouts.to_model(values, self.layout), lengths, capture)
        except ModelError as error:
            raise self._explained(values, error) from (error.__cause__ or error)

    def _explained(self, values: np.ndarray, error: ModelError) -> DataError | ModelError:
        """Say what is wrong with the data where the model's own layers tell; else what the framework said, and on what."""
        hints = self.engine.input_hints
        if hints and (values.ndim == 2) not in {hint.is_tokens for hint in hints}:
            return self._wrong_kind(values)
        if hints and values.ndim == 3 and values.shape[2] not in {hint.size for hint in hints}:
            return self._wrong_width(values)
        shape = "x".join(str(size) for size in layouts.to_model(values, self.layout).shape)
        return ModelError(f"{error.message} (on a batch of shape {shape}, layout {layouts.in_words(self.layout)})")

    def _wrong_kind(self, values: np.ndarray) -> DataError:
        """Tokens where floats are meant, or floats where tokens are."""
        first = f"its layer '{self.engine.input_hints[0].layer}'" if self.engine.input_hints else "it"
        if values.ndim == 2:
            return DataError(
                f"Integer tokens were given, and the model takes series of floats: {first} has {self._expected_width} channels. "
                "(A 2-D integer array (sample, time) is read as tokens: give a 3-D array, or a list of 2-D arrays (time, channel).)"
            )
        return DataError(
            f"Series of {values.shape[2]} channels were given, and the model takes integer tokens: {first} knows "
            f"{self._expected_width} of them. Give a 2-D integer array (sample, time)."
        )

    @property
    def _expected_width(self) -> int | None:
        hints = self.engine.input_hints
        return self.width or (hints[0].size if hints else None)

    def _wrong_width(self, values: np.ndarray) -> DataError:
        n_steps, n_channels = values.shape[1:]
        sizes = {"N": "samples", "T": f"{n_steps} steps", "C": f"{n_channels} channels"}
        swapped = " Steps and channels look swapped: transpose the array, or say `layout=`."
        return DataError(
            f"The data has {n_channels} channels and the model takes {self._expected_width}: it was fed "
            f"{' x '.join(sizes[letter] for letter in self.layout)}, layout {layouts.in_words(self.layout)}."
            f"{swapped if n_steps == self._expected_width else ''}"
        )


@dataclass(frozen=True)
class Trial:
    """Sizes to try a model on: tokens have a `width` too, the number of different ones."""

    n_steps: int
    width: int
    is_tokens: bool

    def batch(self, seed: int = 0) -> np.ndarray:
        """Seeded noise of these sizes, (sample, time, channel) or (sample, time)."""
        random = np.random.default_rng(seed)
        if self.is_tokens:
            return random.integers(0, self.width, (N_TRIED, self.n_steps))
        return random.standard_normal((N_TRIED, self.n_steps, self.width))


def find_feed(engine: Engine, trials: Iterable[Trial], layout: str | None) -> tuple[Feed, Trial] | None:
    """Find the layout that a model takes, and sizes on which it runs; None where it runs on none of them.

    Raises
    ------
    ModelError
        More than one layout fits.
    """
    for trial in trials:
        known = layouts.TOKEN_LAYOUTS if trial.is_tokens else layouts.SERIES_LAYOUTS
        candidates = [name for name in known if layout in (None, name)]
        fitting = [name for name in candidates if _fits(Feed(engine, name), trial, alone=len(candidates) == 1)]
        if len(fitting) > 1:
            raise ModelError(
                f"The layout of the input can't be told: the model runs alike on {quoted(fitting)}. "
                f"Say which it takes: Scope(model, layout={fitting[0]!r})."
            )
        if fitting:
            return Feed(engine, fitting[0], trial.width), trial
    return None


def _fits(feed: Feed, trial: Trial, *, alone: bool) -> bool:
    """Whether the model runs in this layout and keeps the samples apart; a layout that was said need only run."""
    batch = trial.batch()
    try:
        before = feed.forward(batch).output
        if alone:
            return True
        changed = batch.copy()
        changed[1] = trial.batch(seed=1)[1]
        after = feed.forward(changed).output
    except (ModelError, DataError):
        return False
    return any(np.array_equal(moved(before, after, axis), [False, True, False]) for axis in range(before.ndim))


def moved(before: np.ndarray, after: np.ndarray, axis: int) -> np.ndarray:
    """Which positions along an axis differ between two values of one shape, rounding aside."""
    before, after = before.astype(np.float64), after.astype(np.float64)
    scale = np.nanmax(np.abs(before), initial=0.0)
    differs = np.abs(after - before) > 1e-6 * (scale if np.isfinite(scale) else 1.0)
    return np.asarray(differs.any(axis=tuple(other for other in range(before.ndim) if other != axis)))


def trials_for(engine: Engine, sizes: Sequence[tuple[int, int]], is_tokens: bool | None) -> Iterator[Trial]:
    """Sizes worth trying: the widths that the model's layers take, at the data's lengths and common ones, then the data's own.

    Parameters
    ----------
    sizes : sequence of (steps, channels)
        What the data may be, in one layout or another.
    is_tokens : bool or None
        What the data is; None where there is none yet: what the model seems to take.
    """
    hints = engine.input_hints
    tokens = is_tokens if is_tokens is not None else bool(hints and hints[0].is_tokens)
    widths = [hint.size for hint in hints if hint.is_tokens == tokens]
    lengths = [*(n_steps for n_steps, _ in sizes), *LENGTHS_TRIED]
    pairs = [(n_steps, width) for width in dict.fromkeys(widths) for n_steps in dict.fromkeys(lengths)]
    pairs += [] if tokens else sizes
    apart = [(n_steps + 1, width) if n_steps == width else (n_steps, width) for n_steps, width in pairs]
    for n_steps, width in dict.fromkeys([*apart, *pairs]):  # steps and channels of one number would hide which is which
        yield Trial(n_steps, width, tokens)
