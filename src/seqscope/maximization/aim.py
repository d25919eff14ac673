"""What is to be raised, and how it is read off the model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
        The target's own, of each restart, as the engine takes it.
    by_margin : bool
        Whether its margin is raised, and not the score itself.
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
        found = self.feed.gradient(x.astype(self.dtype), self._raised)
        slope = found.gradients[""][0]
        if not (np.isfinite(found.score).all() and np.isfinite(slope).all()):
            raise ModelError("The score, or its derivative, became NaN or infinite: look for weights that are, or set bounds=(low, high).")
        if not isinstance(self.score, Score) or not self.has_others or found.output is None:
            return Answer(found.score, slope, found.score, np.full(len(x), np.nan))
        target = self.score.of(found.output)
        return Answer(found.score, slope, target, target - self.score.best_other(found.output))

    @cached_property
    def _raised(self) -> Score | Callable[[Any], Any]:
        """What is differentiated."""
        return replace(self.score, margin=True) if isinstance(self.score, Score) and self.by_margin else self.score

    @property
    def has_others(self) -> bool:
        """Whether the target is one of several outputs, so that it has a margin."""
        return self.scoring.outputs is not None and self.scoring.outputs.size > 1

    def probability(self, x: np.ndarray) -> np.ndarray | None:
        """That of the target, (row,); None where the outputs neither are nor become probabilities."""
        outputs = self.scoring.outputs
        if outputs is None or not isinstance(self.score, Score) or not (self.competing or outputs.through):
            return None
        output = self.feed.forward(x.astype(self.dtype), logits=True).output
        if outputs.kind == "probability" or outputs.through == "sigmoid":
            own = self.score.of(output)
            return own if outputs.kind == "probability" else np.asarray(expit(own))
        return np.asarray(softmax(self.score.all_of(output), axis=1)[np.arange(len(x)), self.score.position])

    def of_real(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """The target's score of each sequence of a data set, and its margin, NaN where it has none, (sample,)."""
        score, margin = np.full(len(sequences), np.nan), np.full(len(sequences), np.nan)
        for batch in sequences.batches(_ROWS):
            rows = np.arange(len(sequences))[batch.rows]
            ids = sequences.samples[rows].tolist()
            each = self.scoring.of(self.feed, batch.values, rows * 0, ids)
            run = Run(self.feed, Place(), batch.values, each, ids, _ROWS)
            score[rows] = run.scores_at_x()
            if isinstance(each, Score) and self.has_others:
                margin[rows] = score[rows] - Score(each.position).best_other(run.reports["output"])
        return score, margin


def aim_at(
    target: Any,
    objective: str | None,
    n_restarts: int,
    specimen: Specimen,
    feed: Feed,
    real: Sequences | None,
    draft: Sequences,
    names: Sequence[Hashable] | None,
) -> Aim:
    """Read what a person calls a target.

    Parameters
    ----------
    objective : {"logit", "margin"} or None
        None: the margin where outputs compete.
    real : Sequences or None
        The data: each sequence has to have such a score too.
    draft : Sequences
        Series as they are to be made, at random.

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
    scoring = _scoring(target, specimen, feed, real, draft, names)
    if scoring.all_steps:
        raise UnsupportedError("time='all' has as many scores as steps: name one step to maximize.")
    competing = scoring.outputs is not None and scoring.outputs.size > 1 and scoring.outputs.through != "sigmoid"
    if objective == "margin" and (scoring.outputs is None or scoring.outputs.size < 2):
        raise DataError(f"The margin is that over the other outputs, and {scoring.text} has none beside it: say objective='logit'.")
    by_margin = objective == "margin" or (objective is None and competing)
    rows = np.zeros(n_restarts, int)
    score = scoring.of(feed, next(draft.batches(1)).values[rows], rows, [])
    return Aim(feed, scoring, score, by_margin, competing, draft.dtype)


def _scoring(
    target: Any, specimen: Specimen, feed: Feed, real: Sequences | None, draft: Sequences, names: Sequence[Hashable] | None
) -> Scoring:
    """The scores of the data and of what is made."""
    if real is None:
        return scoring_for(target, specimen, feed, draft, names)
    scoring_for(target, specimen, feed, real, names)
    try:
        return scoring_for(target, specimen, feed, draft, names)
    except DataError as error:  # the data have it
        n_steps = int(draft.lengths[0])
        raise DataError(f"{error.message} The series that is to be made has {n_steps} steps: say length=, or another step.") from error
