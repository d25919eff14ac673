"""What a method works on: some sequences of one length, their scores, and a model to ask.

A method asks for rows: pairs of a sequence and a variant of it (a step of a path, a noise copy, a window to hide). Rows of many
sequences share batches, whose size suits the memory, so what a method finds depends neither on the batches nor on who shares them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seqscope.attribution.place import Place
from seqscope.engines.base import STATES, Forward
from seqscope.engines.score import Score
from seqscope.errors import LayerError, ModelError, about_layer
from seqscope.feed import Feed

# A baseline: the values of some sequences, from their places in the run, and which of several.
Baseline = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rows:
    """Rows of one batch.

    Attributes
    ----------
    sample, variant : int array (row,)
        Of each row the place of its sequence in the run, in rising order, and the number of its variant.
    """

    sample: np.ndarray
    variant: np.ndarray

    def add(self, total: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Add each row's values, times its weight, to those of its sequence.

        Parameters
        ----------
        total : array (sample, ...)
        values : array (row, ...)
        weights : array (row,), optional
        """
        edges = np.flatnonzero(np.diff(self.sample)) + 1
        for part in np.split(np.arange(len(self.sample)), edges):
            of_one = slice(part[0], part[-1] + 1)
            summed = values[of_one].sum(0) if weights is None else np.tensordot(weights[of_one].astype(values.dtype), values[of_one], 1)
            total[self.sample[part[0]]] += summed


@dataclass(frozen=True)
class Slope:
    """What the model answered at some rows.

    Attributes
    ----------
    gradient, value : array (row, ...)
        The derivative at the place of the attribution, and what it is with respect to.
    score : array (row,)
    """

    gradient: np.ndarray
    value: np.ndarray
    score: np.ndarray


@dataclass
class Run:
    """Some sequences of one length, and the model to ask about them.

    Attributes
    ----------
    feed : Feed
    place : Place
        Where derivatives are taken.
    x : array (sample, time, channel) or (sample, time) of tokens
    score : Score or function
        A score for each sequence.
    ids : sequence
        The sequences' ids: noise is keyed by them.
    most_rows : int
        Rows in a batch.
    seed : int
    baseline : function of (samples, which)
    n_baselines : int
    channels : sequence or None
        The channels' names.
    spreading : array (layer step, input step) or None
        How much each input step takes of each step of the layer; None: the layer is on the input's clock.
    tell : function of a share
        Told how far the work on these sequences is, from 0 to 1, as rows are asked for.
    reports : dict of arrays
        What the model gave for the sequences themselves: "output" (sample, output), "score" (sample).
    """

    feed: Feed
    place: Place
    x: np.ndarray
    score: Score | Callable[[Any], Any]
    ids: Sequence[Any]
    most_rows: int
    seed: int = 0
    baseline: Baseline = field(default=lambda samples, which: np.zeros(0))
    n_baselines: int = 1
    channels: Sequence[Any] | None = None
    spreading: np.ndarray | None = None
    tell: Callable[[float], None] = field(default=lambda share: None)
    reports: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    # Rows

    def rows(self, n_variants: int = 1) -> Iterator[Rows]:
        """Every pair of a sequence and a variant, in batches."""
        total = len(self) * n_variants
        size = self.most_rows
        if not self.feed.engine.compiles_shapes:  # batches of one size, so that the last one is no small rest
            size = -(-total // -(-total // size))
        for start in range(0, total, size):
            places = np.arange(start, min(start + size, total))
            yield Rows(*np.divmod(places, n_variants))
            if n_variants > 1:
                self.tell((places[-1] + 1) / total)

    def random(self, sample: int, *more: int) -> np.random.Generator:
        """Random numbers of one sequence, the same in whatever company it comes."""
        return np.random.default_rng([self.seed, zlib.crc32(str(self.ids[sample]).encode()), *more])

    def at(self, x: np.ndarray, samples: np.ndarray) -> Run:
        """Other values of some of the sequences, with their scores, baselines and random numbers."""
        here, baseline = np.asarray(samples), self.baseline
        score = self.score.take(here) if isinstance(self.score, Score) else self.score
        ids = [self.ids[sample] for sample in here]
        return replace(
            self, tell=lambda share: None, x=x, score=score, ids=ids, baseline=lambda rows, which: baseline(here[rows], which), reports={}
        )

    def spread(self, maps: np.ndarray) -> np.ndarray:
        """Maps on the layer's clock, (row, layer step), on the input's, (row, time)."""
        return maps if self.spreading is None else maps @ self.spreading

    # What the model answers

    def at_x(self) -> Iterator[tuple[Rows, Slope]]:
        """The derivatives at the sequences themselves."""
        for rows in self.rows():
            yield rows, self.gradient(self.x[rows.sample], rows, is_x=True)

    def gradient(self, x: np.ndarray, rows: Rows, *, value: np.ndarray | None = None, is_x: bool = False) -> Slope:
        """The derivative of each row's score at the place of the attribution.

        Parameters
        ----------
        x : array (row, time, channel)
        value : array (row, ...), optional
            What the layer gives in this pass.
        is_x : bool
            Whether these are the sequences themselves.

        Raises
        ------
        ModelError
            A score or a derivative is not a number.
        """
        n, filled = len(x), self.feed.filled(len(rows.sample), self.most_rows)
        score = self.score.take(rows.sample[filled]) if isinstance(self.score, Score) else self.score
        native = None if value is None else self.place.undone(value[filled])
        found = self.feed.gradient(x[filled], score, self.place.layer, replace=native)
        if self.place.layer is None:
            gradient, own = found.gradients[""][0], x
        else:
            gradient, own = (self.place.read(arrays, len(filled))[:n] for arrays in (found.gradients, found.values))
        self._refuse_nan(found.score[:n], rows, "score")
        self._refuse_nan(gradient[:n].reshape(n, -1), rows, "derivative")
        if is_x:
            self._report("score", found.score[:n], rows)
            if found.output is not None and isinstance(score, Score) and not score.address:
                self._report("output", score.all_of(found.output)[:n], rows)
        return Slope(gradient[:n], own, found.score[:n])

    def scores(self, x: np.ndarray, rows: Rows, *, value: np.ndarray | None = None, is_x: bool = False) -> np.ndarray:
        """Each row's score, (row,), without derivatives.

        Parameters
        ----------
        value : array (row, ...), optional
            What the layer gives in this pass.
        """
        n, filled = len(x), self.feed.filled(len(rows.sample), self.most_rows)
        native = None if value is None else self.place.undone(value[filled])
        instead = None if native is None else {str(self.place.layer): lambda *_, **__: native}
        if isinstance(self.score, Score):
            score = self.score.take(rows.sample[filled])
            forward = self.feed.forward(x[filled], [score.capture] if score.address else [], instead=instead, logits=not score.address)
            found: np.ndarray | None = score.of(seen(forward, score.address) if score.address else forward.output)
            if is_x and not score.address:
                self._report("output", score.all_of(forward.output)[:n], rows)
        else:
            found = self.feed.forward(x[filled], instead=instead, target=self.score).scores
        if found is None:
            raise ModelError("The target gave no score.")
        self._refuse_nan(found[:n], rows, "score")
        if is_x:
            self._report("score", found[:n], rows)
        return found[:n]

    def scores_at_x(self) -> np.ndarray:
        """The score of each sequence itself, (sample,)."""
        if "score" not in self.reports:
            for rows in self.rows():
                self.scores(self.x[rows.sample], rows, is_x=True)
        return self.reports["score"]

    def values(self, x: np.ndarray, rows: Rows) -> np.ndarray:
        """What the layer gives for these rows, in canonical order."""
        n, filled = len(x), self.feed.filled(len(rows.sample), self.most_rows)
        forward = self.feed.forward(x[filled], [self.place.capture])
        ending = "[h]" if self.place.is_recurrent else ""
        calls = {address: calls for address, calls in forward.captured.items() if address.endswith(ending)}
        if not calls:
            raise LayerError(f"The layer '{self.place.layer}' never ran for this input.")
        return self.place.read(calls, len(filled))[:n]

    # Its own

    def _report(self, name: str, values: np.ndarray, rows: Rows) -> None:
        if name not in self.reports:
            self.reports[name] = np.full((len(self), *values.shape[1:]), np.nan, np.result_type(values, np.float32))
        self.reports[name][rows.sample] = values

    def _refuse_nan(self, values: np.ndarray, rows: Rows, what: str) -> None:
        """Say which sequence's score is not a number."""
        finite = np.isfinite(values).reshape(len(values), -1).all(1)
        if not finite.all():
            sample = self.ids[rows.sample[int(np.argmin(finite))]]
            raise ModelError(
                f"The {what} is NaN or infinite for sequence {sample}: look for weights that are, or for a division or logarithm at 0."
            )


def seen(forward: Forward, address: str) -> np.ndarray:
    """A captured value; the calls of a cell that the model loops over are its steps.

    Raises
    ------
    LayerError
        It was not seen, or several times.
    """
    with about_layer(address.partition("[")[0]):
        calls = forward.captured.get(address)
        if not calls:
            raise LayerError("never ran for this input")
        if len(calls) == 1:
            return calls[0]
        if STATES in address:
            return np.stack(calls, axis=1)
        raise LayerError(f"is called {len(calls)} times in a pass, so that its value is not one number of a unit")
