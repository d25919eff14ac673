"""Attribution made for time: what other methods say is rescaled by how much it changes when a step, and then a channel, is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from seqscope.attribution.gradients import Gradient
from seqscope.attribution.method import INPUT, Explained, Method
from seqscope.attribution.place import MAPS
from seqscope.attribution.run import Run
from seqscope.errors import DataError, UnsupportedError

# Weights nearer than this to the quantile are on it, whichever way they are rounded.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class TemporalSaliencyRescaling(Method):
    """Another method's attribution R, rescaled by how much R changes where a step, and then a channel, is hidden.

    A step weighs how much R changes where the whole step is hidden; at the steps that weigh most, a channel weighs how much R changes
    where its value there is hidden. The result is the product of both.

    Attributes
    ----------
    of : Method
        The other method, at the input; `scope.attribute` takes a name too, and that method's options beside its own.
    quantile : float
        The share of the steps, those of least weight, at which no channel is looked at, so that they are 0.
    fill
        What stands where something is hidden, as in `Occlusion`; the other method's baseline too.

    References
    ----------
    Ismail, Gunady, Corrada Bravo and Feizi 2020, "Benchmarking Deep Learning Interpretability in Time Series Predictions", algorithm 1;
    the quantile of .55 is that of the authors' code.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "temporal_saliency_rescaling", of="saliency").dims
    ('time', 'channel')
    """

    of: Any = field(default_factory=Gradient)
    quantile: float = 0.55
    fill: Any = "zero"

    name: ClassVar[str] = "temporal_saliency_rescaling"
    place: ClassVar[str] = INPUT
    signed: ClassVar[bool] = False
    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.quantile, int | float | np.floating) or not 0 <= self.quantile < 1:
            raise DataError(f"quantile is {self.quantile!r}: expected a share of the steps, from 0 to less than 1.")
        of = self.of
        if isinstance(of, type) or not all(hasattr(of, name) for name in ("explain", "place", "needs_gradient")):
            raise UnsupportedError(f"The method to be rescaled is {of!r}: expected one such as seqscope.attribution.Occlusion(window=3).")
        if of.place in MAPS or isinstance(of, TemporalSaliencyRescaling):
            raise UnsupportedError(f"temporal_saliency_rescaling goes around a method at the input, and {of.name} is none.")
        fill = getattr(of, "fill", None)
        if not (fill is None or fill is self.fill or (isinstance(fill, str) and fill == "zero")):
            raise DataError(f"{of.name} has a fill of its own, {fill!r}: say it once, as the fill of temporal_saliency_rescaling.")

    @property
    def needs_gradient(self) -> bool:
        """Whether the other method does."""
        return bool(self.of.needs_gradient)

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """The other method's rows for every step, and for every channel of some."""
        kept = int(np.ceil((1 - self.quantile) * n_steps))
        return (1 + n_steps + kept * n_channels) * int(self.of.n_variants(n_steps, n_channels))

    def explain(self, run: Run) -> Explained:
        """Product of the weights of step and channel."""
        if run.x.ndim == 2:
            raise DataError("temporal_saliency_rescaling hides one channel at a time, and tokens have none: use occlusion.")
        method: Method = self.of
        if method.name == "expected_gradients" and run.n_baselines == 1:
            raise UnsupportedError("expected_gradients draws from several baselines: give temporal_saliency_rescaling several as fill=.")
        plain = method.explain(run).values
        n, n_steps, n_channels = run.x.shape
        bases = [run.baseline(np.arange(n), np.full(n, which)) for which in range(run.n_baselines)]
        of_step = np.empty((n, n_steps))
        for rows in run.rows(n_steps):
            hidden = np.arange(n_steps) == rows.variant[:, None]
            of_step[rows.sample, rows.variant] = self._change(run, rows.sample, hidden[..., None], bases, plain)
        result = np.zeros(run.x.shape)
        least = np.quantile(of_step, self.quantile, axis=1, keepdims=True)
        sample, step = np.nonzero(of_step >= least * (1 - _ROUNDING))
        sample, step, channel = np.repeat(sample, n_channels), np.repeat(step, n_channels), np.tile(np.arange(n_channels), len(sample))
        for start in range(0, len(sample), run.most_rows):
            here = slice(start, start + run.most_rows)
            s, t, c = sample[here], step[here], channel[here]
            hidden = (np.arange(n_steps) == t[:, None])[..., None] & (np.arange(n_channels) == c[:, None])[:, None, :]
            result[s, t, c] = of_step[s, t] * self._change(run, s, hidden, bases, plain)
        run.scores_at_x()
        return Explained(result, said={"of": self.of.name})

    def _change(self, run: Run, sample: np.ndarray, hidden: np.ndarray, bases: Sequence[np.ndarray], plain: np.ndarray) -> np.ndarray:
        """How much the other method's attribution changes where something is hidden, (row,): in the mean over what may stand there."""
        total = np.zeros(len(sample))
        for base in bases:
            x = np.where(hidden, base[sample], run.x[sample])
            found = self.of.explain(run.at(x, sample)).values
            total += np.abs(found - plain[sample]).sum(axis=(1, 2))
        return total / len(bases)
