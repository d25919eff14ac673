"""Methods of other libraries, run on the same targets and labelled in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from seqscope import layouts
from seqscope.attribution.method import INPUT, Explained
from seqscope.attribution.run import Run
from seqscope.engines.base import HasCaptum
from seqscope.engines.score import Score
from seqscope.errors import UnsupportedError


@dataclass(frozen=True)
class Captum:
    """A method of captum that works at the input: see `captum`."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar[str] = "captum"
    place: ClassVar[str] = INPUT
    needs_gradient: ClassVar[bool] = False
    signed: ClassVar[bool] = True
    uses_baseline: ClassVar[bool] = True

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """What it runs is its own affair."""
        return 1

    def explain(self, run: Run) -> Explained:
        """What captum gives for these sequences."""
        engine = run.feed.engine
        if not isinstance(engine, HasCaptum):
            raise UnsupportedError(f"captum runs on torch models, and this is one of {engine.framework}: use a method of seqscope's own.")
        total = np.empty(run.x.shape)
        for rows in run.rows():
            x = run.x[rows.sample]
            base = run.baseline(rows.sample, np.zeros(len(x), int))
            score = run.score.take(rows.sample) if isinstance(run.score, Score) else run.score
            batch, against = (layouts.to_model(np.asarray(values), run.feed.layout) for values in (x, base))
            found = engine.captum(self.method, self.options, batch, np.full(len(x), x.shape[1]), score, against)
            total[rows.sample] = layouts.from_model(found, run.feed.layout)
        run.scores_at_x()
        return Explained(total, said={"captum_method": self.method})


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
