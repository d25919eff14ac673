"""Attribution by derivatives, at the input or at a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from seqscope.attribution.method import Explained, Method
from seqscope.attribution.run import Rows, Run, Slope
from seqscope.errors import DataError, UnsupportedError, nearest


@dataclass(frozen=True)
class Gradient(Method):
    """The derivative of the score with respect to every value: how the score answers to a small change there.

    References
    ----------
    Baehrens et al. 2010, "How to Explain Individual Classification Decisions".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "gradient").dims
    ('time', 'channel')
    """

    name: ClassVar[str] = "gradient"

    def explain(self, run: Run) -> Explained:
        """dS/dx."""
        return Explained(_each(run, lambda gradient, value: gradient))


@dataclass(frozen=True)
class Saliency(Method):
    """The size of the derivative, |dS/dx|.

    References
    ----------
    Simonyan, Vedaldi and Zisserman 2014, "Deep Inside Convolutional Networks".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "saliency").dims
    ('time', 'channel')
    """

    name: ClassVar[str] = "saliency"
    signed: ClassVar[bool] = False

    def explain(self, run: Run) -> Explained:
        """|dS/dx|."""
        return Explained(_each(run, lambda gradient, value: np.abs(gradient)))


@dataclass(frozen=True)
class InputXGradient(Method):
    """Each value times its derivative, x dS/dx: what the score owes to it where the model is linear, counted from zero.

    References
    ----------
    Shrikumar et al. 2016, "Not Just a Black Box", section 2.2.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "input_x_gradient").dims
    ('time', 'channel')
    """

    name: ClassVar[str] = "input_x_gradient"

    def explain(self, run: Run) -> Explained:
        """X dS/dx."""
        return Explained(_each(run, lambda gradient, value: gradient * value))


def _each(run: Run, combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of derivative and value at every sequence."""
    parts = [combine(found.gradient, found.value) for _, found in run.at_x()]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """The mean derivative along the straight path from a baseline b to the input x, times the way x - b.

    Over all values it sums to S(x) - S(b), but for what the quadrature misses: the coordinate `gap`, a share of that change.

    Of several baselines, the mean. At a layer that is not recurrent the path is straight between the layer's two values. At a recurrent
    layer it is the way that h takes while the input goes from b to x, each step's derivative (through the recurrence) times its change:
    steps act through those after them, so they overlap and do not sum to the score.

    Attributes
    ----------
    steps : int
        Points of the path.
    rule : {"gauss_legendre", "midpoint"}
        Where they lie, and what each weighs.

    References
    ----------
    Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks", equation 1.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> found = sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "integrated_gradients", steps=30)
    >>> found.dims, bool(found.gap < 0.05)
    (('time', 'channel'), True)
    """

    steps: int = 50
    rule: str = "gauss_legendre"

    name: ClassVar[str] = "integrated_gradients"
    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        if self.rule not in _RULES:
            raise DataError(f"There is no rule {self.rule!r}: {nearest(str(self.rule), _RULES)}.")

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """A row for each point of the path."""
        return self.steps

    def explain(self, run: Run) -> Explained:
        """The mean over the baselines."""
        along = self._along_input if run.place.layer is None else self._along_states if run.place.is_recurrent else self._along_layer
        total, gap = along(run, 0)
        for which in range(1, run.n_baselines):
            more, more_gap = along(run, which)
            total, gap = total + more, np.maximum(gap, more_gap)
        if run.place.is_recurrent:
            said = "steps overlap, since each acts through those after it: they do not sum to the score"
            return Explained(total / run.n_baselines, said={"completeness": said})
        return Explained(total / run.n_baselines, {"gap": gap})

    def _along_input(self, run: Run, which: int) -> tuple[np.ndarray, np.ndarray]:
        nodes, weights = _RULES[self.rule](self.steps)
        everyone = np.arange(len(run))
        base = run.baseline(everyone, np.full(len(run), which))
        way = run.x - base
        total = np.zeros(run.x.shape)
        for rows in run.rows(self.steps):
            at = base[rows.sample] + _along(nodes[rows.variant], way) * way[rows.sample]
            rows.add(total, run.gradient(at, rows).gradient, weights[rows.variant])
        total *= way
        scores = np.concatenate([run.scores(base[rows.sample], rows) for rows in run.rows()])
        return total, _gap(total, run.scores_at_x() - scores)

    def _along_layer(self, run: Run, which: int) -> tuple[np.ndarray, np.ndarray]:
        """The layer's value goes straight, while the input stays; the ends' scores are taken in the same way."""
        nodes, weights = _RULES[self.rule](self.steps)
        base = run.baseline(np.arange(len(run)), np.full(len(run), which))
        start, end = (np.concatenate([run.values(x[rows.sample], rows) for rows in run.rows()]) for x in (base, run.x))
        way = end - start
        total = np.zeros(way.shape)
        for rows in run.rows(self.steps):
            value = start[rows.sample] + _along(nodes[rows.variant], way) * way[rows.sample]
            rows.add(total, run.gradient(run.x[rows.sample], rows, value=value).gradient, weights[rows.variant])
        total *= way
        ends = [
            np.concatenate([run.scores(run.x[rows.sample], rows, value=value[rows.sample]) for rows in run.rows()])
            for value in (start, end)
        ]
        return total, _gap(total, ends[1] - ends[0])

    def _along_states(self, run: Run, which: int) -> tuple[np.ndarray, np.ndarray]:
        """The sum over the path of the mean of two neighbours' derivatives, times the change of h between them."""
        _refuse_states_of_tokens(run, self.name)
        nodes = np.concatenate([[0.0], _RULES[self.rule](self.steps)[0], [1.0]])
        base = run.baseline(np.arange(len(run)), np.full(len(run), which))
        way = run.x - base
        total: np.ndarray | None = None
        before: tuple[int, Slope] | None = None
        for rows in run.rows(len(nodes)):
            at = base[rows.sample] + _along(nodes[rows.variant], way) * way[rows.sample]
            found = run.gradient(at, rows)
            if total is None:
                total = np.zeros((len(run), *found.value.shape[1:]))
            gradient, value = found.gradient, found.value
            sample, variant = rows.sample, rows.variant
            if before is not None:  # the last row of the batch before is the left end of the first piece of this one
                gradient, value = np.concatenate([before[1].gradient, gradient]), np.concatenate([before[1].value, value])
                sample, variant = np.concatenate([[before[0]], sample]), np.concatenate([[-1], variant])
            joined = variant[1:] > 0
            pieces = (gradient[1:] + gradient[:-1])[joined] / 2 * (value[1:] - value[:-1])[joined]
            if joined.any():
                Rows(sample[1:][joined], variant[1:][joined]).add(total, pieces)
            before = int(rows.sample[-1]), Slope(found.gradient[-1:], found.value[-1:], found.score[-1:])
        if total is None:
            raise DataError("There is no sequence to explain.")
        return total, np.zeros(len(run))


def is_tokens(run: Run) -> bool:
    """Whether the sequences are tokens, which can be neither mixed nor changed by a little."""
    return run.x.ndim == 2


def _refuse_states_of_tokens(run: Run, name: str) -> None:
    """Refuse a path of the input where there is none."""
    if is_tokens(run) and run.place.is_recurrent:
        raise UnsupportedError(
            f"At a recurrent layer {name} follows the input, and the input is tokens, between which nothing lies: name the layer that "
            "embeds them."
        )


def _along(share: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A number for each row, in the form and type in which it multiplies values (row, ...)."""
    return share.astype(values.dtype).reshape(-1, *(1,) * (values.ndim - 1))


def _gap(total: np.ndarray, change: np.ndarray) -> np.ndarray:
    """How far the sum is from the change of the score, as a share of that."""
    off = np.abs(total.reshape(len(total), -1).sum(1) - change)
    rounding = 1e-6 * (np.abs(total).reshape(len(total), -1).sum(1) + np.abs(change))
    with np.errstate(over="ignore"):  # of a score that does not change, anything is an endless share
        return np.asarray(np.where(off <= rounding, 0.0, off) / np.maximum(np.abs(change), np.finfo(np.float64).tiny))


def _gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = _legendre(steps)
    return (1 + nodes) / 2, weights / 2


@cache
def _legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(steps)


def _midpoint(steps: int) -> tuple[np.ndarray, np.ndarray]:
    return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)


_RULES = {"gauss_legendre": _gauss_legendre, "midpoint": _midpoint}


@dataclass(frozen=True)
class ExpectedGradients(Method):
    """Integrated gradients without a choice of baseline: the mean over baselines drawn from the data, and over points of the paths.

    At a layer, the derivative at its value along the input's path, times the change of the value; where the input is tokens, between
    which nothing lies, along the straight path between the layer's two values.

    Attributes
    ----------
    draws : int
        Pairs of a baseline and a point.

    References
    ----------
    Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and expected gradients",
    equation 3.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "expected_gradients", reference=X[:50], draws=20).dims
    ('time', 'channel')
    """

    draws: int = 100

    name: ClassVar[str] = "expected_gradients"
    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("draws", self.draws)

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """A row for each draw."""
        return self.draws

    def explain(self, run: Run) -> Explained:
        """Mean of (x - b) dS/dx at b + a (x - b)."""
        _refuse_states_of_tokens(run, self.name)
        which, share = self._drawn(run)
        own: np.ndarray | None = None
        total: np.ndarray | None = None
        if run.place.layer is not None:
            own = np.concatenate([run.values(run.x[rows.sample], rows) for rows in run.rows()])
        for rows in run.rows(self.draws):
            base = run.baseline(rows.sample, which[rows.sample, rows.variant])
            x, a = run.x[rows.sample], share[rows.sample, rows.variant]
            start, end = (base, x) if own is None else (run.values(base, rows), own[rows.sample])
            way = end - start
            if is_tokens(run):
                found = run.gradient(x, rows, value=start + _along(a, way) * way)
            else:
                found = run.gradient(base + _along(a, x) * (x - base), rows)
            if total is None:
                total = np.zeros((len(run), *way.shape[1:]))
            rows.add(total, found.gradient * way)
        if total is None:
            raise DataError("There is no sequence to explain.")
        return Explained(total / self.draws)

    def _drawn(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Which baseline, and how far along: for each sequence and draw."""
        streams = [run.random(sample) for sample in range(len(run))]
        pairs = [(stream.integers(run.n_baselines, size=self.draws), stream.random(self.draws)) for stream in streams]
        return np.stack([which for which, _ in pairs]), np.stack([share for _, share in pairs])


@dataclass(frozen=True)
class SmoothGrad(Method):
    """The mean derivative over noisy copies of the input, in which what differs from copy to copy cancels out.

    Where the input is tokens, the noise is on the value of the layer that is asked about.

    Attributes
    ----------
    draws : int
        Copies.
    spread : float
        The noise's standard deviation, as a share of the sequence's range.

    References
    ----------
    Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "smooth_grad", draws=10).dims
    ('time', 'channel')
    """

    draws: int = 50
    spread: float = 0.1

    name: ClassVar[str] = "smooth_grad"

    def __post_init__(self) -> None:
        check_count("draws", self.draws)
        if not isinstance(self.spread, int | float) or not 0 <= self.spread < np.inf:
            raise DataError(f"The spread is {self.spread!r}: expected a share of the sequence's range, 0 or more.")

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """A row for each copy."""
        return self.draws

    def explain(self, run: Run) -> Explained:
        """Mean of dS/dx at x + noise."""
        if is_tokens(run) and run.place.is_recurrent:
            raise UnsupportedError(
                f"{self.name} adds noise, and neither tokens nor a recurrent layer's states bear it: name the layer that embeds them."
            )
        own = np.concatenate([run.values(run.x[rows.sample], rows) for rows in run.rows()]) if is_tokens(run) else run.x
        total: np.ndarray | None = None
        for rows in run.rows(self.draws):
            noisy = np.stack(list(self._noisy(run, own, rows)))
            found = run.gradient(run.x[rows.sample], rows, value=noisy) if is_tokens(run) else run.gradient(noisy, rows)
            if total is None:
                total = np.zeros((len(run), *found.gradient.shape[1:]))
            rows.add(total, found.gradient)
        if total is None:
            raise DataError("There is no sequence to explain.")
        return Explained(total / self.draws)

    def _noisy(self, run: Run, own: np.ndarray, rows: Rows) -> Iterator[np.ndarray]:
        for sample, variant in zip(rows.sample, rows.variant, strict=True):
            x = own[sample]
            noise = run.random(sample, int(variant)).standard_normal(x.shape, np.float32)
            yield (x + self.spread * np.ptp(x) * noise).astype(x.dtype)


def check_count(name: str, value: object) -> None:
    """Refuse what is no number of things.

    Raises
    ------
    DataError
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise DataError(f"{name} is {value!r}: expected a whole number, 1 or more.")
