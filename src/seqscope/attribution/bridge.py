"""Methods of other libraries, run on the same targets and labelled in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from seqscope import layouts
from seqscope.attribution.method import INPUT, Explained, Method
from seqscope.attribution.run import Run
from seqscope.engines.base import HasCaptum
from seqscope.engines.score import Score
from seqscope.errors import UnsupportedError
from seqscope.randomness import state_kept

# Methods of derivatives at the input alone.
_COMPARE_WITH_NOTHING = ("Saliency", "InputXGradient", "Deconvolution", "GuidedBackprop", "LRP")
# Methods that take all baselines at once, and those that draw: for each sequence by itself, so that batch-mates do not matter.
_OF_MANY_BASELINES = ("DeepLiftShap", "GradientShap")
_ALONE = (*_OF_MANY_BASELINES, "KernelShap", "Lime", "ShapleyValueSampling")


@dataclass(frozen=True)
class Captum(Method):
    """A method of captum that works at the input: see `captum`."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar[str] = "captum"
    place: ClassVar[str] = INPUT
    needs_gradient: ClassVar[bool] = False

    @property
    def signed(self) -> bool:
        """Whether what it gives has a sign."""
        return self.method != "Saliency" or not self.options.get("abs", True)

    @property
    def uses_baseline(self) -> bool:
        """Whether it compares with the verb's baseline."""
        return self.method not in _COMPARE_WITH_NOTHING and "baselines" not in self.options

    def explain(self, run: Run) -> Explained:
        """What captum gives for these sequences."""
        engine = run.feed.engine
        if not isinstance(engine, HasCaptum):
            raise UnsupportedError(f"captum runs on torch models, and this is one of {engine.framework}: use a method of seqscope's own.")
        total = np.zeros(run.x.shape)
        if self.method in _ALONE:
            for sample in range(len(run)):
                total[sample] = self._of_one(run, engine, sample)
        else:
            n_baselines = run.n_baselines if self.uses_baseline else 1
            for rows in run.rows(n_baselines):
                base = run.baseline(rows.sample, rows.variant)
                rows.add(total, self._found(run, engine, rows.sample, base), np.full(len(base), 1 / n_baselines))
        run.scores_at_x()
        plain = [f"{name}={value!r}" for name, value in self.options.items() if isinstance(value, str | int | float | tuple | None)]
        return Explained(total, said={"captum_method": self.method, "captum_options": ", ".join(plain) or None})

    def _of_one(self, run: Run, engine: HasCaptum, sample: int) -> np.ndarray:
        """A sequence by itself, with all of its baselines and random numbers of its own."""
        which = np.arange(run.n_baselines if self.method in _OF_MANY_BASELINES else 1)
        base = run.baseline(np.full(len(which), sample), which)
        if self.method == "DeepLiftShap" and len(base) == 1:  # which wants several
            base = np.repeat(base, 2, axis=0)
        with state_kept():
            np.random.seed(int(run.random(sample).integers(2**32)))
            return np.asarray(self._found(run, engine, np.array([sample]), base)[0])

    def _found(self, run: Run, engine: HasCaptum, samples: np.ndarray, base: np.ndarray) -> np.ndarray:
        """What captum gives for some sequences."""
        x = run.x[samples]
        score = run.score.take(samples) if isinstance(run.score, Score) else run.score
        batch, against = (layouts.to_model(np.asarray(values), run.feed.layout) for values in (x, base))
        parts = {"internal_batch_size": run.most_rows} if self.method == "IntegratedGradients" else {}
        lengths = np.full(len(x), x.shape[1])
        found = engine.captum(self.method, {**parts, **self.options}, batch, lengths, score, against, held=run.feed.held)
        return np.asarray(layouts.from_model(found, run.feed.layout))


def captum(method: str, **options: Any) -> Captum:
    """Any method of captum that works at the input, on a torch engine.

    Parameters
    ----------
    method : str
        The class's name in `captum.attr`: "DeepLift", "KernelShap", "ShapleyValueSampling", ...
    **options
        For its `attribute`; `baselines`, where it takes them and none are given here, are those of `scope.attribute(baseline=)`. Those
        whose values are arrays or tensors have the model's own layout.

    Returns
    -------
    Captum
        To be given to `scope.attribute` in place of a name.

    References
    ----------
    Kokhlikyan et al. 2020, "Captum: A unified and generic model interpretability library for PyTorch".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> scope = sq.Scope(sq.zoo.japanese_vowels())
    >>> scope.attribute(X[:2], sq.attribution.captum("Saliency"), target=0).dims
    ('sample', 'time', 'channel')
    """
    return Captum(method, options)
