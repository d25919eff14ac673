"""The verb: from a person's call to the series that a score asks for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from seqscope import progress
from seqscope.engines.base import HasGradients
from seqscope.errors import DataError, ModelError, UnsupportedError, quoted, warn
from seqscope.feed import Feed
from seqscope.maximization.aim import Aim, aim_at
from seqscope.maximization.ascent import Ascent, Range
from seqscope.maximization.asked import Asked
from seqscope.maximization.labelling import Made, Real, label
from seqscope.maximization.likeness import Likeness, diversity, range_of
from seqscope.maximization.parameters import Components, Fourier, Parameters, Raw
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

# Where a restart falls short it is driven on, so many times, each time with a quarter of the penalties.
_DRIVEN_ON, _EASED = 3, 0.25
# Scores that differ by less than this share of their spread over the data are as high as each other.
_ALIKE = 0.01


def maximize(specimen: Specimen, target: Any, like: Any, asked: Asked, names: Sequence[Hashable] | None, show: bool | None) -> xr.Dataset:
    """Make series that a score is high for.

    Raises
    ------
    UnsupportedError, LayerError, DataError, ModelError
    """
    if not isinstance(specimen.engine, HasGradients):
        raise UnsupportedError(f"maximize needs derivatives, and {specimen.engine.framework} models have none here.")
    sequences, feed, n_steps = _stage(specimen, like, asked.length)
    span = asked.bounded(_unknown(sequences) if like is None else range_of(sequences))
    likeness = None if like is None else Likeness.of(sequences, span, n_steps, asked.seed)
    aim = aim_at(target, asked.objective, asked.restarts, n_steps, specimen, feed, sequences, names)
    real = None if likeness is None else Real(*aim.of_real(sequences))
    parameters = _parameters(asked, n_steps, sequences.n_channels or 1, likeness)
    with progress.counting(total=asked.effort.steps, what="Maximizing", show=show) as tell:
        ascent = Ascent(aim.ask, parameters, span, asked.effort, np.random.default_rng(asked.seed), asked.restarts, tell)
        ascent.climb(asked.effort.steps, np.ones(asked.restarts, bool))
        if not ascent.found_a_slope:
            raise UnsupportedError(
                f"No derivative of {aim.scoring.text} reaches the input: it is zero for every restart at every iteration. The unit may be "
                "dead for such input (another seed=, or parameterisation='raw', starts elsewhere), or something on the way has no slope."
            )
        n_extra = _drive_on(ascent, aim, asked, real)
    specimen.show(sequences)
    return label(_made(ascent, aim, asked, span, likeness, real, n_extra), sequences, specimen)


def _stage(specimen: Specimen, like: Any, length: int | None) -> tuple[Sequences, Feed, int]:
    """Series that the model takes, the model ready to be fed with them, and how long the made ones are to be.

    Raises
    ------
    DataError
        Neither `like` nor a length was given, and the model takes any.
    UnsupportedError
        The model takes tokens.
    """
    if like is not None:
        sequences, feed = specimen.take_in(like)
        n_steps = length or round(float(np.median(sequences.lengths)))
    else:
        found = specimen.some_data()
        fixed = next((hint.n_steps for hint in specimen.engine.input_hints if hint.n_steps), None)
        if found is None or (length is None and fixed is None):
            raise DataError("How long the series is to be can't be told: say like=X, data that the model takes, or length=.")
        (sequences, feed), n_steps = found, length or int(fixed or 0)
    feed.forward(next(sequences[[0]].batches(1)).values)  # says what is wrong where the model does not take the data at all
    if sequences.is_tokens:
        raise UnsupportedError("Tokens have no derivative, so that there is no way up for them: only models of series can be maximized.")
    if not specimen.once(("takes", n_steps), lambda: _takes(feed, sequences, n_steps)):
        raise DataError(f"The model does not take series of {n_steps} steps: say length=, one that it takes.")
    return sequences, feed, n_steps


def _unknown(sequences: Sequences) -> Range:
    """Where no data say what the channels are like: those of standardised series, without bounds."""
    zeros = np.zeros(sequences.n_channels or 1)
    return Range(zeros, zeros + 1, zeros - np.inf, zeros + np.inf)


def _parameters(asked: Asked, n_steps: int, n_channels: int, likeness: Likeness | None) -> Parameters:
    """What is searched in.

    Raises
    ------
    DataError
        Principal components are wanted and there are no data.
    """
    if asked.parameterisation == "raw":
        return Raw(n_steps, n_channels)
    if asked.parameterisation == "fourier":
        return Fourier(n_steps, n_channels)
    if likeness is None or len(likeness.series) < 3:
        raise DataError("Principal components are those of data: say like=X, three sequences or more.")
    return Components(likeness.series, asked.seed)


def _drive_on(ascent: Ascent, aim: Aim, asked: Asked, real: Real | None) -> int:
    """Let restarts that fell short go on alone, with ever smaller penalties; gives how often."""
    strictness = 1.0
    for round_ in range(_DRIVEN_ON):
        short = ~reached(ascent.series, aim, asked, real)
        if not short.any():
            return round_
        strictness *= _EASED
        ascent.shake(short, size=round_ + 1)
        ascent.climb(asked.effort.steps, short, strictness=strictness)
    return _DRIVEN_ON


def reached(x: np.ndarray, aim: Aim, asked: Asked, real: Real | None) -> np.ndarray:
    """Whether each restart is what it is to be, (restart,): as probable as wanted; of other scores, as high as the best real one."""
    probability = aim.probability(x)
    if probability is not None:
        return np.asarray(probability >= asked.reach)
    if real is None:
        return np.ones(len(x), bool)
    return np.asarray(aim.ask(x).target >= real.score.max() - _ALIKE * real.score.std())


def _made(ascent: Ascent, aim: Aim, asked: Asked, span: Range, likeness: Likeness | None, real: Real | None, n_extra: int) -> Made:
    """The series with their figures; says which fell short."""
    x = ascent.series
    found, there = aim.ask(x), reached(x, aim, asked, real)
    if not there.all():
        wanted = f"a probability of {asked.reach:g}" if aim.probability(x) is not None else "the score of the best real sequence"
        warn(
            f"{int((~there).sum())} of {len(x)} restarts do not reach {wanted} for {aim.scoring.text} (restart "
            f"{quoted(map(str, np.flatnonzero(~there)))}), also driven on with smaller penalties: see `reached`. Take more "
            "steps, or smaller penalties (norm=, total_variation=)."
        )
    own = 1.0 if likeness is None or not np.isfinite(likeness.own) else likeness.own
    z = span.standardised(x)
    return Made(
        input=x,
        score=np.stack([*ascent.target, found.target], axis=1),
        margin=np.stack([*ascent.margin, found.margin], axis=1),
        probability=aim.probability(x),
        reached=there,
        diversity=diversity(z, own),
        nearest=None if likeness is None else likeness.nearest(z),
        own_distance=own,
        real=real,
        aim=aim,
        asked=asked,
        n_driven_on=n_extra,
        converged=ascent.converged,
    )


def _takes(feed: Feed, sequences: Sequences, n_steps: int) -> bool:
    """Whether the model runs on series of this length."""
    try:
        feed.forward(np.zeros((1, n_steps, sequences.n_channels or 1), sequences.dtype))
    except (DataError, ModelError):
        return False
    return True
