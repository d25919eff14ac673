"""Gradient ascent on a score: from random series to ones that the score is high for.

All in standardised series (0 the mean of each channel, 1 its standard deviation), in NumPy; the model is a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from seqscope.maximization.parameters import Parameters

# Adam's (Kingma and Ba 2015), but for a second moment that forgets sooner, as an ascent is some hundred iterations long.
_FIRST, _SECOND, _TINY = 0.9, 0.99, 1e-12
# Iterations over which gains are looked at, and the share of the whole rise that one such while has to bring.
_WHILE, _GAIN = 25, 0.005
# The share of the iterations, at the beginning, over which the penalties grow to what they are: a series that pays from the first step
# on may shrink to nothing before it has found anything that the score rises with. And the share, at the end, without jitter.
_GROWING, _STILL = 0.4, 0.2
# How soft the absolute value in the total variation is at 0, in standard deviations.
_SOFT = 0.01


@dataclass(frozen=True)
class Answer:
    """What a model says of some series.

    Attributes
    ----------
    score : array (row,)
        What is to be raised.
    slope : array (row, time, channel)
        Its derivative with respect to the series as the model takes them.
    target, margin : array (row,)
        The target's own score, and how far it lies above the best other output; NaN where there is no other.
    """

    score: np.ndarray
    slope: np.ndarray
    target: np.ndarray
    margin: np.ndarray


@dataclass(frozen=True)
class Range:
    """What the channels are like: arrays (channel).

    Attributes
    ----------
    mean, spread : array
        In the units of the data; `spread` is the standard deviation, 1 where a channel never changes.
    low, high : array
        The bounds.
    """

    mean: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def standardised(self, x: np.ndarray) -> np.ndarray:
        """Values in standard deviations from the mean."""
        return np.asarray((x - self.mean) / self.spread)

    def within(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standardised series in the units of the data, cut off at the bounds; and what was cut off, above 0 beyond the upper one."""
        wanted = z * self.spread
        wanted += self.mean
        x = np.clip(wanted, self.low, self.high)
        return x, np.subtract(wanted, x, out=wanted)

    def pull(self, slope: np.ndarray, cut_off: np.ndarray) -> np.ndarray:
        """The derivative with respect to standardised series: none beyond a bound, but back."""
        pulled = slope * self.spread
        pulled[pulled * cut_off > 0] = 0
        return np.asarray(pulled)


@dataclass(frozen=True)
class Effort:
    """How the ascent goes.

    Attributes
    ----------
    steps : int
        Iterations at most.
    rate : float
        Adam's step, in standard deviations.
    total_variation, norm : float
        What is paid for each unit of total variation and of mean square, as a share of the rise that the first slope promises.
    jitter : int
        Steps by which the series are moved in time, at most.
    scale : float
        The share by which the time axis is stretched, at most.
    """

    steps: int
    rate: float
    total_variation: float
    norm: float
    jitter: int
    scale: float


class Ascent:
    """Several series on their way up.

    Parameters
    ----------
    ask : function of series (restart, time, channel), in the units of the data
    parameters : Parameters
    span : Range
    effort : Effort
    random : Generator
    n_restarts : int
    tell : function of a number of iterations

    Attributes
    ----------
    target, margin : list of arrays (restart,)
        The target's score and its margin along the iterations, of the series as they were jittered.
    converged : bool
        Whether the last climb ended because hardly anything was gained any more.
    """

    def __init__(
        self,
        ask: Callable[[np.ndarray], Answer],
        parameters: Parameters,
        span: Range,
        effort: Effort,
        random: np.random.Generator,
        n_restarts: int,
        tell: Callable[[int], None],
    ) -> None:
        self._ask, self._parameters, self._span, self._effort = ask, parameters, span, effort
        self._random, self._tell = random, tell
        shape = parameters.shape(n_restarts)
        self._numbers = random.standard_normal(shape)  # as large as the data
        self._first, self._second, self._count = np.zeros(shape), np.zeros(shape), 0
        self._unit = 0.0
        self.target: list[np.ndarray] = []
        self.margin: list[np.ndarray] = []
        self.found_a_slope = False
        self.converged = False

    @property
    def series(self) -> np.ndarray:
        """The series as they are now, in the units of the data."""
        return self._span.within(self._parameters.make(self._numbers))[0]

    def climb(self, steps: int, moving: np.ndarray, *, strictness: float = 1.0) -> None:
        """Go up for some iterations, or until hardly anything is gained: the last part of them without jitter.

        Parameters
        ----------
        moving : bool array (restart,)
            The restarts that move; the others stay where they are.
        strictness : float
            What the penalties are multiplied with.
        """
        growing = np.linspace(0, strictness, max(1, int(_GROWING * steps)))
        n_still = max(1, int(_STILL * steps))
        self._go(growing, moving, is_jittered=True, to_the_end=True)
        self._go(np.full(max(0, steps - n_still - len(growing)), strictness), moving, is_jittered=True)
        self.converged = self._go(np.full(n_still, strictness), moving, is_jittered=False)

    def shake(self, moving: np.ndarray, size: float) -> None:
        """Move some restarts at random, away from where there may be no slope, by so many standard deviations."""
        self._numbers[moving] += size * self._random.standard_normal(self._numbers[moving].shape)

    def _go(self, strictness: np.ndarray, moving: np.ndarray, *, is_jittered: bool, to_the_end: bool = False) -> bool:
        """An iteration for each strictness; gives whether they ended because hardly anything was gained."""
        gained: list[np.ndarray] = []
        for weight in strictness:
            gained.append(self._step(moving, float(weight), is_jittered=is_jittered))
            self._tell(len(self.target))
            if not to_the_end and _levelled(gained, moving):
                return True
        return False

    def _step(self, moving: np.ndarray, strictness: float, *, is_jittered: bool) -> np.ndarray:
        """One iteration; gives what is raised, the score less the penalties, (restart,)."""
        z = self._parameters.make(self._numbers)
        x, cut_off = self._span.within(z)
        moved = _moved(x.shape[1], self._effort, self._random) if is_jittered else None
        answer = self._ask(x if moved is None else _applied(moved, x))
        slope = answer.slope.astype(float)
        self.found_a_slope = self.found_a_slope or bool(slope.any())
        rise = self._span.pull(slope if moved is None else _applied(moved.T, slope), cut_off)
        if not self._unit:  # what the score would gain if all moved one standard deviation its way
            self._unit = float(np.median(np.sqrt((rise**2).sum((1, 2)) * rise[0].size)))
        paid, push = _penalties(z, self._effort)
        push *= strictness * self._unit
        self._move(self._parameters.pull(np.subtract(rise, push, out=rise)), moving)
        self.target.append(answer.target)
        self.margin.append(answer.margin)
        return np.asarray(answer.score - strictness * self._unit * paid)

    def _move(self, slope: np.ndarray, moving: np.ndarray) -> None:
        """One step of Adam."""
        self._count += 1
        self._first *= _FIRST
        self._first += (1 - _FIRST) * slope
        self._second *= _SECOND
        self._second += (1 - _SECOND) * slope**2
        by = np.sqrt(self._second / (1 - _SECOND**self._count))
        by += _TINY
        step = np.divide(self._first, by, out=by)
        step *= self._effort.rate / (1 - _FIRST**self._count)
        self._numbers[moving] += step[moving]


def _levelled(gained: list[np.ndarray], moving: np.ndarray) -> bool:
    """Whether the last while brought hardly anything on top of the one before, for all that move."""
    if len(gained) < 2 * _WHILE:
        return False
    last, before = np.mean(gained[-_WHILE:], axis=0), np.mean(gained[-2 * _WHILE : -_WHILE], axis=0)
    rise = np.abs(last - gained[0])
    return bool((last - before <= _GAIN * rise)[moving].all())


def _penalties(z: np.ndarray, effort: Effort) -> tuple[np.ndarray, np.ndarray]:
    """What is paid, (restart,), and its derivative: the mean square, and the mean absolute change from step to step."""
    size = z[0].size
    push = z * (2 * effort.norm / size)
    paid = (z * push).sum((1, 2)) / 2
    if effort.total_variation and z.shape[1] > 1:
        change = z[:, 1:] - z[:, :-1]
        length = np.sqrt(change**2 + _SOFT**2)
        paid += effort.total_variation / size * (length.sum((1, 2)) - _SOFT * length[0].size)
        change *= effort.total_variation / size
        change /= length
        push[:, 1:] += change
        push[:, :-1] -= change
    return paid, push


def _moved(n_steps: int, effort: Effort, random: np.random.Generator) -> sparse.csr_array | None:
    """A matrix that moves series in time and stretches them about their middle, by interpolation; ends are held."""
    shift, stretch = random.uniform(-1, 1, 2) * (effort.jitter, effort.scale)
    if n_steps < 2 or not (effort.jitter or effort.scale):
        return None
    middle = (n_steps - 1) / 2
    wanted = np.clip((np.arange(n_steps) - middle) * (1 + stretch) + middle + shift, 0, n_steps - 1)
    left = np.minimum(wanted.astype(int), n_steps - 2)
    share = wanted - left
    weights, neighbours = np.stack([1 - share, share], axis=1), np.stack([left, left + 1], axis=1)
    return sparse.csr_array((weights.ravel(), neighbours.ravel(), np.arange(0, 2 * n_steps + 1, 2)), shape=(n_steps, n_steps))


def _applied(matrix: sparse.csr_array, series: np.ndarray) -> np.ndarray:
    """A matrix on the time axis of series (restart, time, channel)."""
    by_time = series.transpose(1, 0, 2).reshape(series.shape[1], -1)
    made: np.ndarray = matrix @ by_time
    return made.reshape(series.shape[1], series.shape[0], series.shape[2]).transpose(1, 0, 2)
