"""What a method finds over a data set, put together group by group."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqscope.attribution.method import Explained
from seqscope.attribution.run import Run
from seqscope.attribution.scoring import caution
from seqscope.attribution.task import Task
from seqscope.collect import Collected
from seqscope.engines.score import Score
from seqscope.errors import warn
from seqscope.labelled import CHANNEL, OUTPUT_TIME, SAMPLE, TIME, UNIT

# The completeness gap that is worth a warning, as a share of the score's change.
_GAP = 0.05


class Found:
    """Attributions and figures of every sequence, filled group by group, the longest first.

    Parameters
    ----------
    n_samples : int

    Attributes
    ----------
    kept : Collected or None
        The attribution; NaN where a sequence has ended.
    figures : dict of arrays
        Of each sequence, (sample); of each step of its output, (sample, output step).
    logits : array (sample, output) or None
        What the model puts out, where the score is one of its outputs.
    said : dict
        What the method wants to be said in the attributes.
    """

    def __init__(self, n_samples: int) -> None:
        self._n_samples = n_samples
        self.kept: Collected | None = None
        self.figures: dict[str, np.ndarray] = {}
        self.logits: np.ndarray | None = None
        self.said: dict[str, Any] = {}

    def keep(self, explained: Explained, run: Run, rows: np.ndarray, times: int, task: Task) -> None:
        """Put what was found for a group into its place.

        Parameters
        ----------
        rows : int array (sample,)
            Where the group's sequences stand in the data set.
        times : int
            How often each is in the run: once, or for every step of the output.
        """
        values, dims = explained.values, self._dims(explained.values, task)
        on_clock = TIME in dims and values.shape[dims.index(TIME)] == run.x.shape[1]
        if task.scoring.all_steps:
            values, dims = values.reshape(len(rows), times, *values.shape[1:]), (SAMPLE, OUTPUT_TIME, *dims[1:])
        if self.kept is None:
            dtype = run.scores_at_x().dtype if task.asked.method.has_target else values.dtype  # the model's own
            self.kept = Collected(np.full((self._n_samples, *values.shape[1:]), np.nan, dtype), dims, on_clock)
        self.kept.on_input_clock &= on_clock
        _put(self.kept.values, rows, values)
        self.said |= explained.said
        if not task.asked.method.has_target:
            return
        self._note({"score": run.scores_at_x(), **explained.per_sample}, rows, times)
        if isinstance(run.score, Score) and not run.score.address:
            self._note({"target": run.score.position}, rows, times)
            if times == 1 and "output" in run.reports:
                if self.logits is None:
                    self.logits = np.full((self._n_samples, run.reports["output"].shape[1]), np.nan)
                self.logits[rows] = run.reports["output"]

    def _note(self, figures: dict[str, np.ndarray], rows: np.ndarray, times: int) -> None:
        for name, of_each in figures.items():
            shaped = of_each if times == 1 else of_each.reshape(len(rows), times)
            if name not in self.figures:
                self.figures[name] = np.full((self._n_samples, *shaped.shape[1:]), np.nan)
            _put(self.figures[name], rows, shaped)

    @staticmethod
    def _dims(values: np.ndarray, task: Task) -> tuple[str, ...]:
        """What the axes are, sample first: those of the input, of the layer, or of a map."""
        place = task.place
        if place.layer is None:
            return (SAMPLE, TIME, CHANNEL)[: values.ndim]
        if task.is_map:
            return (SAMPLE, TIME)
        return (SAMPLE, TIME, UNIT) if place.is_recurrent or place.reading is None else place.reading.order

    def warn(self, task: Task) -> None:
        """Say what the person should know of the figures, once."""
        gap = self.figures.get("gap")
        if gap is not None and bool((gap > _GAP).any()):
            n_wide, n_all = int((gap > _GAP).sum()), int(np.isfinite(gap).sum())
            warn(
                f"The completeness gap is over {100 * _GAP:.0f} % for {n_wide} of {n_all} scores (the "
                f"largest {100 * np.nanmax(gap):.0f} %): take more steps (steps=), or a baseline whose score differs more."
            )
        target = self.figures.get("target")
        if self.logits is not None and target is not None and target.ndim == 1:
            caution(task.scoring, self.logits, target.astype(int))


def _put(into: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    """Write values that may end early into their rows."""
    into[(rows, *(slice(size) for size in values.shape[1:]))] = values  # type: ignore[index]
