"""The verb: from a person's call to the series that a score asks for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from seqscope import progress
from seqscope.engines.base import HasGradients
from seqscope.errors import DataError, ModelError, UnsupportedError, quoted, warn
from seqscope.feed import N_TRIED, Feed
from seqscope.maximization.aim import Aim, aim_at
from seqscope.maximization.ascent import Ascent, Range
from seqscope.maximization.asked import Asked
from seqscope.maximization.labelling import Made, Real, Stand, label
from seqscope.maximization.likeness import Likeness, diversity, range_of
from seqscope.maximization.parameters import Components, Fourier, Parameters, Raw
from seqscope.sequences import Sequences
from seqscope.specimen import Specimen

# Where a restart falls short it is driven on, so many times, each time with a quarter of the penalties; from the second time on it is
# also moved at random, by as many standard deviations more.
_DRIVEN_ON, _EASED, _SHAKEN = 3, 0.25, 0.5
# Scores that differ by less than this share of their spread over the data are as high as each other.
_ALIKE = 0.01


def maximize(specimen: Specimen, target: Any, like: Any, asked: Asked, names: Sequence[Hashable] | None, show: bool | None) -> xr.Dataset:
    """Make series that a score is high for.

    Raises
    ------
    UnsupportedError, LayerError, DataError, ModelError
    """
    if not isinstance(specimen.engine, HasGradients):
        raise UnsupportedError(
            f"maximize needs derivatives, and {specimen.engine.framework} models have none here: open the network that this one was "
            "exported from, or see the real windows that drive a unit most, with seqscope.units.top_windows."
        )
    sequences, feed, n_steps = _stage(specimen, like, asked.length)
    if specimen.engine.in_training:
        warn(f"Found in training mode, set aside for this call: {quoted(specimen.engine.in_training, most=6)}.")
    data = None if like is None else sequences
    span = asked.bounded(_unknown(sequences) if data is None else range_of(data))
    draft = _draft(specimen, feed, sequences, span, n_steps)
    aim = aim_at(target, asked.objective, asked.restarts, specimen, feed, data, draft, names)
    likeness = None if data is None else Likeness.of(data, span, n_steps, asked.seed)
    real = None if data is None else Real(*aim.of_real(data))
    parameters = _parameters(asked, n_steps, draft.n_channels or 1, likeness)
    with progress.counting(total=asked.effort.steps, what="Maximizing", show=show, unit="steps") as tell:
        ascent = Ascent(aim.ask, parameters, span, asked.effort, np.random.default_rng(asked.seed), asked.restarts, tell)
        ascent.climb(asked.effort.steps, np.ones(asked.restarts, bool))
        if not ascent.found_a_slope:
            raise UnsupportedError(
                f"No derivative of {aim.scoring.text} reaches the input: it is zero for every restart at every iteration. The unit may be "
                "dead for such input (another seed=, or parameterisation='raw', starts elsewhere), or something on the way has no slope."
            )
        n_driven_on, stand = _drive_on(ascent, aim, asked, real)
    specimen.show(sequences)
    _warn_of_short(stand, aim, asked)
    return label(_made(ascent, stand, aim, asked, span, likeness, real, n_driven_on), sequences, specimen)


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
    return sequences, feed, n_steps


def _draft(specimen: Specimen, feed: Feed, sequences: Sequences, span: Range, n_steps: int) -> Sequences:
    """Series as they are to be made, at random.

    Raises
    ------
    DataError
        The model does not take series of this length.
    """
    z = np.random.default_rng(0).standard_normal((N_TRIED, n_steps, len(span.mean)))
    draft = Sequences(span.within(z)[0].astype(sequences.dtype), channels=sequences.channels, outputs=sequences.outputs)
    if not specimen.once(("takes", n_steps), lambda: _takes(feed, draft)):
        raise DataError(f"The model does not take series of {n_steps} steps: say length=, one that it takes.")
    return draft


def _takes(feed: Feed, draft: Sequences) -> bool:
    """Whether the model runs on such series."""
    try:
        feed.forward(next(draft.batches(1)).values)
    except (DataError, ModelError):
        return False
    return True


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


def _drive_on(ascent: Ascent, aim: Aim, asked: Asked, real: Real | None) -> tuple[int, Stand]:
    """Let restarts that fell short go on alone, with ever smaller penalties; gives how often, and where all are then."""
    strictness = 1.0
    for round_ in range(_DRIVEN_ON):
        stand = _stand(ascent.series, aim, asked.reach, real)
        if stand.reached.all():
            return round_, stand
        strictness *= _EASED
        ascent.shake(~stand.reached, size=_SHAKEN * round_)
        ascent.climb(asked.effort.steps, ~stand.reached, strictness=strictness)
    return _DRIVEN_ON, _stand(ascent.series, aim, asked.reach, real)


def _stand(x: np.ndarray, aim: Aim, reach: float, real: Real | None) -> Stand:
    """What the model says of the series, and which are what they are to be: as probable as wanted; else as high as the best real one."""
    answer, probability = aim.ask(x), aim.probability(x)
    reached = np.ones(len(x), bool)
    if reach and probability is not None:
        reached = probability >= reach
    elif reach and real is not None:
        reached = answer.target >= real.score.max() - _ALIKE * real.score.std()
    return Stand(x, answer, probability, np.asarray(reached))


def _warn_of_short(stand: Stand, aim: Aim, asked: Asked) -> None:
    """Say which restarts fell short."""
    short = np.flatnonzero(~stand.reached)
    if len(short):
        wanted = "the score of the best real sequence" if stand.probability is None else f"a probability of {asked.reach:g}"
        warn(
            f"{len(short)} of {len(stand.reached)} restarts do not reach {wanted} for {aim.scoring.text} (restart "
            f"{quoted(map(str, short))}), also driven on with smaller penalties: see `reached`. Take more steps, or smaller penalties "
            "(norm=, total_variation=)."
        )


def _made(
    ascent: Ascent, stand: Stand, aim: Aim, asked: Asked, span: Range, likeness: Likeness | None, real: Real | None, n_driven_on: int
) -> Made:
    """The series with their figures."""
    z = span.standardised(stand.x)
    return Made(
        stand=stand,
        score=np.stack([*ascent.target, stand.answer.target], axis=1),
        margin=np.stack([*ascent.margin, stand.answer.margin], axis=1),
        diversity=diversity(z, 1.0 if likeness is None else likeness.unit),
        nearest=None if likeness is None else likeness.nearest(z),
        own_distance=None if likeness is None or np.isnan(likeness.own) else likeness.own,
        real=real,
        aim=aim,
        asked=asked,
        n_driven_on=n_driven_on,
        converged=ascent.converged,
    )
