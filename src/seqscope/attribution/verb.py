"""The verb: from a person's call to a labelled result."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from seqscope import progress
from seqscope.attribution import METHODS
from seqscope.attribution.asked import Asked
from seqscope.attribution.baselines import Baselines, baselines_for, data_as_baselines
from seqscope.attribution.cam import ScoreCAM, spreading
from seqscope.attribution.found import Found
from seqscope.attribution.labelling import Labelling, Result
from seqscope.attribution.method import Method
from seqscope.attribution.perturbation import FeatureAblation, Occlusion, group_masks
from seqscope.attribution.place import MAPS, OF_HEAD, place_for
from seqscope.attribution.run import Run
from seqscope.attribution.scoring import scoring_for
from seqscope.attribution.task import Task
from seqscope.engines.base import Engine, HasGradients
from seqscope.engines.score import Score
from seqscope.errors import DataError, UnsupportedError, quoted, warn
from seqscope.feed import Feed
from seqscope.sequences import Batch, Sequences
from seqscope.specimen import Specimen

# What the largest value of a layer may take in one batch, and the rows in a batch at most: beyond the caches, larger batches run no faster
# (`benchmarks/attribution.py`). A pass without derivatives keeps nothing, so that twice as much goes through at once.
_LARGEST, _MOST_ROWS = 8_000_000, 256
# A pass with derivatives holds each value about so many times: itself, what is kept for the way back, its derivative.
_HELD = 4
# Units of the progress bar for each sequence.
_UNITS = 100
# Batches that a group of sequences should fill, so that the last one, which is seldom full, weighs little.
_BATCHES = 8


def attribute(specimen: Specimen, X: Any, target: Any, asked: Asked, names: Sequence[Hashable] | None, show: bool | None) -> Result:
    """Run a method over a data set and label what it finds.

    Parameters
    ----------
    names : sequence or None
        What the outputs are called.
    show : bool or None
        Whether to show a progress bar.

    Raises
    ------
    UnsupportedError, LayerError, DataError, ModelError, TooLargeError
    """
    _refuse_unable(asked.method, specimen.engine)
    task = _task(specimen, X, target, asked, names)
    if specimen.engine.in_training:
        warn(f"Found in training mode, set aside for this call: {quoted(specimen.engine.in_training, most=6)}.")
    found, done = Found(len(task.sequences)), 0
    with progress.counting(total=_UNITS * len(task.sequences), what="Explaining", show=show) as reach:
        for batch in _groups(task):
            rows = np.arange(len(task.sequences))[batch.rows]
            run, times = _run(task, batch, rows, functools.partial(_tell, reach, done, len(rows)))
            found.keep(asked.method.explain(run), run, rows, times, task)
            done += len(rows)
            reach(_UNITS * done)
    specimen.show(task.sequences)
    found.warn(task)
    return Labelling(task).result(found)


def _tell(reach: Callable[[int], None], done: int, n_samples: int, share: float) -> None:
    """Bring the bar to a share of the work on some sequences, after those that are done."""
    reach(int(_UNITS * (done + share * n_samples)))


def _task(specimen: Specimen, X: Any, target: Any, asked: Asked, names: Sequence[Hashable] | None) -> Task:
    """Everything that is the same for all groups of sequences."""
    method = asked.method
    if target is not None and not method.has_target:
        raise UnsupportedError(f"{method.name} gives the same for all outputs: leave target out.")
    sequences, feed = specimen.take_in(X)
    place = place_for(method.name, method.place, asked.layer, specimen, feed, sequences)
    _check_sizes(getattr(method, "of", method), sequences)
    scoring = scoring_for(target, specimen, feed, sequences, names)
    if place.layer is None and sequences.is_tokens and method.needs_gradient:
        raise UnsupportedError(
            f"Tokens have no derivative, which {method.name} needs: name the layer that embeds them with layer=, or use occlusion."
        )
    if scoring.all_steps and (place.layer is not None or method.place in MAPS):
        raise UnsupportedError("time='all' explains every output step at the input alone: for a layer, say one step.")
    reference = sequences if asked.reference is None else specimen.take_in(asked.reference)[0]
    baselines = _baselines(asked, sequences, reference)
    return Task(specimen, feed, sequences, asked, place, scoring, baselines, _rows_at_once(specimen, feed, sequences, asked))


def _baselines(asked: Asked, sequences: Sequences, reference: Sequences) -> Baselines:
    """What the method compares with, or fills in."""
    wanted = getattr(asked.method, "fill", asked.baseline)
    said = asked.reference is not None
    if wanted is None and asked.method.name == "expected_gradients":
        return data_as_baselines(reference, said=said)
    return baselines_for("zero" if wanted is None else wanted, sequences, reference, asked.seed, said_reference=said)


def _refuse_unable(method: Method, engine: Engine) -> None:
    if method.needs_gradient and not isinstance(engine, HasGradients):
        able = quoted(name for name, kind in METHODS.items() if kind().needs_gradient is False and kind.place != OF_HEAD)
        raise UnsupportedError(f"{method.name} needs derivatives, and {engine.framework} models have none here: use {able}.")


def _check_sizes(method: Method, sequences: Sequences) -> None:
    """Windows and stretches that sequences are too short for."""
    longest = int(sequences.lengths.max())
    if isinstance(method, Occlusion):
        if method.window > longest:
            raise DataError(f"The window is {method.window} steps long and the longest sequence {longest}: take a shorter window.")
        short = int((sequences.lengths < method.window).sum())
        if short:
            warn(
                f"The window of {method.window} steps is longer than {short} of {len(sequences)} sequences (the shortest has "
                f"{sequences.lengths.min()} steps): each of these is hidden whole.",
            )
    if isinstance(method, FeatureAblation):
        shape = (longest,) if sequences.is_tokens else (longest, sequences.n_channels or 1)
        masks = group_masks(method.groups, shape, sequences.channels)
        empty = [number for number, mask in enumerate(masks) if not mask.any()]
        if empty:
            warn(f"The stretch of group {empty[0]} lies beyond the longest sequence, of {longest} steps: no sample fills it.")


def _rows_at_once(specimen: Specimen, feed: Feed, sequences: Sequences, asked: Asked) -> int:
    """Rows that suit the memory: the largest value stays in the caches, and all together in what is allowed."""
    largest, total = specimen.footprint(feed, sequences)
    longest = int(sequences.lengths.max())
    times = 1 if asked.method.needs_gradient else 2
    allowed = min(times * _LARGEST / (largest * longest), asked.memory / (_HELD * total * longest))
    return int(np.clip(allowed, 1, times * _MOST_ROWS))


def _groups(task: Task) -> Iterator[Batch]:
    """Sequences of one length that share batches."""
    sequences = task.sequences
    variants = max(1, task.asked.method.n_variants(int(sequences.lengths.max()), sequences.n_channels or 1))
    return sequences.batches(max(1, -(-_BATCHES * task.most_rows // variants)))


def _run(task: Task, batch: Batch, rows: np.ndarray, tell: Callable[[float], None]) -> tuple[Run, int]:
    """What the method works on for one group; and how often each sequence is in it, once or for every step of the output."""
    x, place = batch.values, task.place
    score = task.scoring.of(task.feed, x, rows, task.sequences.samples[rows])
    times = len(score.position) // len(x) if task.scoring.all_steps and isinstance(score, Score) else 1
    repeated = np.repeat(rows, times)
    x = x if times == 1 else np.repeat(x, times, axis=0)
    matrix = None
    if isinstance(task.asked.method, ScoreCAM) and place.reading is not None:
        field = task.specimen.field_at(task.feed, task.sequences, x.shape[1], str(place.layer), place.reading)
        matrix = None if field is None or field.on_input_clock else spreading(field, x.shape[1])
    run = Run(
        feed=task.feed,
        place=place,
        x=x,
        score=score,
        ids=[task.sequences.samples[row] for row in repeated],
        most_rows=task.most_rows,
        seed=task.asked.seed,
        baseline=task.baselines.make(x, repeated),
        n_baselines=task.baselines.count(x.shape[1]),
        channels=task.sequences.channels,
        spreading=matrix,
        tell=tell,
    )
    return run, times
