"""What is to be raised, and how it is read off the model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from seqscope.attribution.place import Place
from seqscope.attribution.run import Run
from seqscope.attribution.scoring import Scoring, scoring_for
from seqscope.engines.score import Score
from seqscope.errors import DataError, ModelError, UnsupportedError
from seqscope.feed import Feed
from seqscope.maximization.ascent import Answer
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen
from seqscope.target import Output

# Real sequences that are scored together.
_ROWS = 256


@dataclass(frozen=True)
class Aim:
    """What is to be raised, and how it is read off the model.

    Attributes
    ----------
    feed : Feed
    scoring : Scoring
    score : Score or function
        Of each restart, as the engine takes it.
    by_margin : bool
        Whether the margin is raised, and not the score itself.
    competing : bool
        Whether the target is one of several outputs that compete.
    dtype : dtype
        What the model is fed.
    """

    feed: Feed
    scoring: Scoring
    score: Score | Callable[[Any], Any]
    by_margin: bool
    competing: bool
    dtype: np.dtype[Any]

    def ask(self, x: np.ndarray) -> Answer:
        """The score of some series and its derivative.

        Raises
        ------
        ModelError
            One of them is not a number.
        """
        found = self.feed.gradient(x.astype(self.dtype), self.score)
        slope = found.gradients[""][0]
        if not (np.isfinite(found.score).all() and np.isfinite(slope).all()):
            raise ModelError("The score, or its derivative, became NaN or infinite: look for weights that are, or set bounds=(low, high).")
        target, margin = found.score, np.full(len(x), np.nan)
        if isinstance(self.score, Score) and found.output is not None:
            target, margin = target_and_margin(found.output, self.score)
        return Answer(found.score, slope, target, margin)

    def probability(self, x: np.ndarray) -> np.ndarray | None:
        """That of the target, (row,); None where the outputs neither are nor become probabilities."""
        outputs = self.scoring.outputs
        if outputs is None or not isinstance(self.score, Score) or not (self.competing or outputs.through):
            return None
        output = self.feed.forward(x.astype(self.dtype), logits=True).output
        own, _ = target_and_margin(output, self.score)
        if outputs.kind == "probability":
            return own
        if outputs.through == "sigmoid":
            return np.asarray(expit(own))
        return np.asarray(softmax(self.score.all_of(output), axis=1)[np.arange(len(x)), self.score.position])

    def of_real(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """The target's score of each sequence of a data set, and its margin, (sample,)."""
        score, margin = np.full(len(sequences), np.nan), np.full(len(sequences), np.nan)
        for batch in sequences.batches(_ROWS):
            rows = np.arange(len(sequences))[batch.rows]
            ids = sequences.samples[rows].tolist()
            each = self.scoring.of(self.feed, batch.values, rows * 0, ids)
            run = Run(self.feed, Place(), batch.values, each, ids, _ROWS)
            score[rows] = run.scores_at_x()
            if self.by_margin:
                logits, here = run.reports["output"].copy(), np.arange(len(rows))
                own = each.position  # type: ignore[union-attr]
                logits[here, own] = -np.inf
                margin[rows] = run.reports["output"][here, own] - logits.max(1)
        return score, margin


def target_and_margin(output: np.ndarray, score: Score) -> tuple[np.ndarray, np.ndarray]:
    """The target's own score and how far it lies above the best other output, NaN where there is none."""
    target = replace(score, margin=False).of(output)
    if score.all_of(output).shape[1] < 2:
        return target, np.full(len(target), np.nan)
    return target, replace(score, margin=True).of(output)


def aim_at(
    target: Any,
    objective: str | None,
    n_restarts: int,
    n_steps: int,
    specimen: Specimen,
    feed: Feed,
    sequences: Sequences,
    names: Sequence[Hashable] | None,
) -> Aim:
    """Read what a person calls a target.

    Parameters
    ----------
    objective : {"logit", "margin"} or None
        None: the margin where outputs compete.

    Raises
    ------
    DataError
        There is no such output or unit, not one for all restarts, or no other output to leave behind.
    LayerError, UnsupportedError
        The unit's layer does not exist, or has no such state.
    """
    if target is None or (isinstance(target, Output) and target.name is None):
        raise DataError("A target is needed: the position or name of an output, or one of seqscope.target.")
    if isinstance(target, list | tuple | range) or getattr(target, "ndim", 0) > 0:
        raise DataError("Several targets were given: one is maximized at a time.")
    scoring = scoring_for(target, specimen, feed, sequences[[0]], names)
    if scoring.all_steps:
        raise UnsupportedError("time='all' has as many scores as steps: name one step to maximize.")
    competing = scoring.outputs is not None and scoring.outputs.size > 1 and scoring.outputs.through != "sigmoid"
    if objective == "margin" and (scoring.outputs is None or scoring.outputs.size < 2):
        raise DataError(f"The margin is that over the other outputs, and {scoring.text} has none beside it: say objective='logit'.")
    by_margin = objective == "margin" or (objective is None and competing)
    blank = np.zeros((n_restarts, n_steps, sequences.n_channels or 1), sequences.dtype)
    score = scoring.of(feed, blank, np.zeros(n_restarts, int), [])
    if isinstance(score, Score):
        score = replace(score, margin=by_margin)
    return Aim(feed, scoring, score, by_margin, competing, sequences.dtype)
