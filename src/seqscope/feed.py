"""Batches into a model in the layout that it takes, and errors about shapes in words.

The layout is found by trying: the samples of a batch do not see each other, so a layout is the right one where more samples give more
output, and changing one of them changes its own part of it and no other. That holds for every framework, whatever the layers are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqscope import layouts
from seqscope.engines.base import Engine, Forward, Gradient, HasGradients, MisfitError, StandIn
from seqscope.engines.holds import NOTHING_HELD, Held
from seqscope.engines.score import Target
from seqscope.errors import DataError, ModelError, UnsupportedError, quoted
from seqscope.randomness import state_kept

# Samples in a trial batch: an odd one out with a neighbour on each side. And in a larger one, to see which axis grows with them.
N_TRIED, N_MORE = 3, 5
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
    rows_in_order : dict of int
        The largest batch for which each value's rows were seen to be the samples in their order.
    bears_padding : dict of bool
        For each choice of values, whether they are the same for a sequence alone and padded.
    held : dict of Hold
        Units of layers that are held whenever the model runs (see `Scope.ablate`).
    """

    engine: Engine
    layout: str
    width: int | None = None
    rows_in_order: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    bears_padding: dict[tuple[str, ...], bool] = field(default_factory=dict, compare=False, repr=False)
    held: Held = field(default_factory=lambda: NOTHING_HELD, compare=False, repr=False)

    def forward(
        self,
        values: np.ndarray,
        capture: Sequence[str] = (),
        own_lengths: np.ndarray | None = None,
        *,
        instead: Mapping[str, StandIn] | None = None,
        logits: bool = False,
        target: Callable[[Any], Any] | None = None,
    ) -> Forward:
        """Run sequences, (sample, time, channel) or (sample, time), of one length unless each has its own.

        Parameters
        ----------
        logits, target
            As in `engines.base.Engine.forward`.

        Raises
        ------
        DataError
            The model takes another number of channels, or tokens where there are floats.
        ModelError
            The model could not run on the batch for another reason.
        """
        lengths = np.full(values.shape[0], values.shape[1], np.int64) if own_lengths is None else own_lengths
        more: dict[str, Any] = {"instead": instead, "padded": own_lengths is not None, "logits": logits, "target": target}
        more |= {"sample_axis": self.sample_axis} | self._holding
        with self._explaining(values):
            return self.engine.forward(layouts.to_model(values, self.layout), lengths, capture, **more)

    def gradient(self, values: np.ndarray, target: Target, layer: str | None = None, *, replace: np.ndarray | None = None) -> Gradient:
        """Derivatives for sequences of one length; those at the input as (sample, time, channel).

        Raises
        ------
        UnsupportedError
            The engine has no derivatives.
        DataError, ModelError
            As in `forward`.
        """
        if not isinstance(self.engine, HasGradients):
            raise UnsupportedError(f"Derivatives of {self.engine.framework} models can't be had.")
        lengths = np.full(values.shape[0], values.shape[1], np.int64)
        with self._explaining(values):
            batch = layouts.to_model(values, self.layout)
            found = self.engine.gradient(batch, lengths, target, layer, replace=replace, **self._holding)
        if layer is not None:
            return found
        return dataclasses.replace(found, gradients={"": [layouts.from_model(found.gradients[""][0], self.layout)]})

    @property
    def sample_axis(self) -> int:
        """The axis of a batch, as the model takes it, that is the samples'."""
        return self.layout.index("N")

    @property
    def _holding(self) -> dict[str, Any]:
        """What an engine is told of what is held: nothing where nothing is, since not every engine can."""
        return {"held": self.held} if self.held else {}

    def filled(self, n_rows: int, most: int) -> np.ndarray:
        """The places of the rows of a batch; where shapes are compiled, filled up with the last one so that there are few shapes.

        Parameters
        ----------
        most : int
            The rows of a full batch.
        """
        size = n_rows if not self.engine.compiles_shapes else min(most, 1 << (n_rows - 1).bit_length())
        return np.minimum(np.arange(max(size, n_rows)), n_rows - 1)

    @contextmanager
    def _explaining(self, values: np.ndarray) -> Iterator[None]:
        """Say what is wrong with the data where the model refuses them."""
        if values.ndim != len(self.layout):
            raise self._wrong_kind(values)
        try:
            yield
        except ModelError as error:
            raise self._explained(values, error) from (error.__cause__ or error)

    def _explained(self, values: np.ndarray, error: ModelError) -> DataError | ModelError:
        """Say what is wrong with the data where the model's own layers tell; else what the framework said, and on what."""
        # What the framework said in its own words the sizes may tell better; a sentence of ours tells more than they do.
        if error.__cause__ is not None or isinstance(error, MisfitError):
            hints = self.engine.input_hints
            if hints and (values.ndim == 2) not in {hint.is_tokens for hint in hints}:
                return self._wrong_kind(values)
            known = {self.width} if self.width else {hint.size for hint in hints}
            if known and values.ndim == 3 and values.shape[2] not in known:
                return self._wrong_width(values)
        shape = "x".join(str(size) for size in layouts.to_model(values, self.layout).shape)
        return ModelError(f"{error.message} (on a batch of shape {shape}, layout {layouts.in_words(self.layout)})")

    def _wrong_kind(self, values: np.ndarray) -> DataError:
        """Tokens where floats are meant, or floats where tokens are."""
        takes_tokens = values.ndim == 3
        hint = next((hint for hint in self.engine.input_hints if hint.is_tokens == takes_tokens and self.width in (None, hint.size)), None)
        first = f"its layer '{hint.layer}'" if hint else "it"
        width = hint.size if hint else self.width
        if values.ndim == 2:
            return DataError(
                f"Integer tokens were given, and the model takes series of floats: {first} has {width} channels. "
                "(A 2-D integer array (sample, time) is read as tokens: give a 3-D array, or a list of 2-D arrays (time, channel).)"
            )
        return DataError(
            f"Series of {values.shape[2]} channels were given, and the model takes integer tokens: {first} knows {width} of them. "
            "Give a 2-D integer array (sample, time)."
        )

    @property
    def _expected_width(self) -> int | None:
        hints = self.engine.input_hints
        return self.width or (hints[0].size if hints else None)

    def _wrong_width(self, values: np.ndarray) -> DataError:
        n_steps, n_channels = values.shape[1:]
        sizes = {"N": "samples", "T": f"{n_steps} steps", "C": f"{n_channels} channels"}
        swapped = (
            " Steps and channels look swapped: an array without names has the model's layout; say the array's own with "
            "Sequences(X, layout='NTC')."
        )
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

    def batch(self, n_samples: int = N_TRIED, *, seed: int = 0) -> np.ndarray:
        """Seeded noise of these sizes, (sample, time, channel) or (sample, time)."""
        random = np.random.default_rng(seed)
        if self.is_tokens:
            return random.integers(0, self.width, (n_samples, self.n_steps))
        return random.standard_normal((n_samples, self.n_steps, self.width))


def find_feed(engine: Engine, trials: Iterable[Trial], layout: str | None) -> tuple[Feed, Trial] | None:
    """Find the layout that a model takes, and sizes on which it runs; None where it runs on none of them.

    Raises
    ------
    ModelError
        More than one layout fits.
    """
    for trial in trials:
        known = layouts.TOKEN_LAYOUTS if trial.is_tokens else layouts.SERIES_LAYOUTS
        allowed = (layout,) if layout else engine.layouts
        feeds = [Feed(engine, name, trial.width) for name in known if name in allowed]
        fitting = [feed for feed in feeds if (_runs(feed, trial) if len(feeds) == 1 else _fits(feed, trial))]
        if len(fitting) > 1:
            names = [feed.layout for feed in fitting]
            raise ModelError(
                f"The layout of the input can't be told: the model runs alike on {quoted(names)}. "
                f"Say which it takes: Scope(model, layout={names[0]!r})."
            )
        if fitting:
            return fitting[0], trial
    return None


def _runs(feed: Feed, trial: Trial) -> bool:
    """Whether the model runs on these sizes: all that there is to ask where the layout is known."""
    try:
        feed.forward(trial.batch())
    except (ModelError, DataError):
        return False
    return True


def _fits(feed: Feed, trial: Trial) -> bool:
    """Whether the model runs in this layout, gives more for more samples, and keeps the samples apart."""
    batch = trial.batch()
    changed = batch.copy()
    changed[1] = trial.batch(seed=1)[1]
    outputs = []
    for values in (batch, trial.batch(N_MORE), changed):
        try:
            with state_kept():  # so that a model which draws noise draws the same in every run
                outputs.append(feed.forward(values).output)
        except (ModelError, DataError):
            return False
    before, more, after = outputs
    growing = [axis for axis in range(before.ndim) if follows_samples(before, more, axis)]
    return before.shape == after.shape and any(set(np.flatnonzero(moved(before, after, axis))) <= {1} for axis in growing)


def follows_samples(before: np.ndarray, more: np.ndarray, axis: int) -> bool:
    """Whether an axis grew as the number of samples did, from `N_TRIED` to `N_MORE`; no other size has that ratio by chance."""
    return before.ndim == more.ndim and before.shape[axis] > 0 and more.shape[axis] * N_TRIED == before.shape[axis] * N_MORE


def moved(before: np.ndarray, after: np.ndarray, axis: int) -> np.ndarray:
    """Which positions along an axis differ between two values of one shape, rounding aside."""
    exact = np.result_type(before, np.float64)
    before, after = before.astype(exact), after.astype(exact)
    scale = np.nanmax(np.abs(before), initial=0.0)
    with np.errstate(invalid="ignore"):  # a layer may give infinities
        differs = np.abs(after - before) > 1e-6 * (scale if np.isfinite(scale) else 1.0)
    return np.asarray(differs.any(axis=tuple(other for other in range(before.ndim) if other != axis)))


def trials_for(engine: Engine, sizes: Sequence[tuple[int, int]], is_tokens: bool) -> Iterator[Trial]:
    """Sizes worth trying: the widths that the model's layers take, at the data's lengths and common ones, then the data's own.

    Parameters
    ----------
    sizes : sequence of (steps, channels)
        What the data may be, in one layout or another.
    """
    widths = [hint.size for hint in engine.input_hints if hint.is_tokens == is_tokens]
    only = [hint.n_steps for hint in engine.input_hints if hint.n_steps is not None]
    lengths = [*only, *(n_steps for n_steps, _ in sizes), *LENGTHS_TRIED]
    pairs = [(n_steps, width) for width in dict.fromkeys(widths) for n_steps in dict.fromkeys(lengths)]
    pairs += [] if is_tokens else sizes
    # A length that is also a number of channels would hide which is which, so such a one comes last.
    apart = [(_apart(n_steps, {width, *widths}), width) for n_steps, width in pairs]
    for n_steps, width in dict.fromkeys([*apart, *pairs]):
        yield Trial(n_steps, width, is_tokens)


def _apart(n_steps: int, widths: set[int]) -> int:
    """The next number of steps that is no layer's width."""
    while n_steps in widths:
        n_steps += 1
    return n_steps
