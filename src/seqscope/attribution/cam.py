"""Class activation maps along time: how much each step of a layer speaks for the score.

A layer's value A is (time, unit) here, whatever the framework's layout: weights pool over the layer's time, maps sum over its units.
What is computed is the map on the layer's own clock; bringing it to the input's is `on_input_clock`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seqscope.attribution.method import LAYER, Explained, Method
from seqscope.attribution.run import Run
from seqscope.engines.base import HasDense, HasGradients
from seqscope.engines.score import Score
from seqscope.errors import UnsupportedError
from seqscope.receptive import Field

# From a layer's value and the score's derivative there, (sample, time, unit), a map (sample, time).
Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _maps(run: Run, combine: Combine) -> np.ndarray:
    parts = [combine(_by_unit(found.value), _by_unit(found.gradient)) for _, found in run.at_x()]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _values(run: Run) -> np.ndarray:
    """What the layer gives for every sequence, (sample, time, unit)."""
    return _by_unit(np.concatenate([run.values(run.x[rows.sample], rows) for rows in run.rows()]))


def _by_unit(value: np.ndarray) -> np.ndarray:
    """A value as (sample, time, unit): of a layer with more axes, such as an image's, each series along time is a unit."""
    return value.reshape(*value.shape[:2], -1)


@dataclass(frozen=True)
class GradCAM(Method):
    """Each unit weighs what the score's derivative is at it in the mean over time: ReLU(sum over units of mean_t(dS/dA) A).

    Attributes
    ----------
    relu : bool
        Whether what speaks against the score is cut off, as in the paper.

    References
    ----------
    Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> head = torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(8, 9)
    >>> scope = sq.Scope(torch.nn.Sequential(torch.nn.Conv1d(12, 8, 3), torch.nn.ReLU(), *head), layout="NCT")
    >>> found = scope.attribute(X[0], "grad_cam")
    >>> found["map"].sizes, found["native"].sizes
    (Frozen({'time': 19}), Frozen({'step': 17}))
    """

    relu: bool = True

    name: ClassVar[str] = "grad_cam"
    place: ClassVar[str] = LAYER

    @property
    def signed(self) -> bool:
        """Whether the map has a sign."""
        return not self.relu

    def explain(self, run: Run) -> Explained:
        """Weights from the derivatives' means."""

        def combine(value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
            return np.asarray(np.einsum("ntu,nu->nt", value, gradient.mean(1)))

        return Explained(_bent(_maps(run, combine), self.relu))


@dataclass(frozen=True)
class GradCAMPlusPlus(Method):
    """Grad-CAM whose weights are sums over time of the positive derivatives, each in a share that makes up for repetition.

    The share of a derivative g is g^2 / (2 g^2 + sum_t(A) g^3), so that a pattern counts as much once as it does several times.

    References
    ----------
    Chattopadhay et al. 2018, "Grad-CAM++", equations 10, 11 and 19, in which the score goes through an exponential, so that its higher
    derivatives are powers of the first.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> head = torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(8, 9)
    >>> scope = sq.Scope(torch.nn.Sequential(torch.nn.Conv1d(12, 8, 3), torch.nn.ReLU(), *head), layout="NCT")
    >>> found = scope.attribute(X[0], "grad_cam_pp")
    >>> found["map"].sizes, found["native"].sizes
    (Frozen({'time': 19}), Frozen({'step': 17}))
    """

    name: ClassVar[str] = "grad_cam_pp"
    place: ClassVar[str] = LAYER
    signed: ClassVar[bool] = False

    def explain(self, run: Run) -> Explained:
        """Weights from powers of the derivatives."""

        def combine(value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
            below = 2 + value.sum(1, keepdims=True) * gradient  # g^2, on both sides of the fraction, may be too small for a number
            share = np.divide(1, below, out=np.zeros_like(gradient), where=(below != 0) & (gradient != 0))
            return np.asarray(np.einsum("ntu,nu->nt", value, (share * np.maximum(gradient, 0)).sum(1)))

        return Explained(_bent(_maps(run, combine), True))


@dataclass(frozen=True)
class LayerCAM(Method):
    """Every step of every unit weighs its own derivative, where that is positive: ReLU(sum over units of ReLU(dS/dA) A).

    References
    ----------
    Jiang et al. 2021, "LayerCAM", equations 5 and 6.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> head = torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(8, 9)
    >>> scope = sq.Scope(torch.nn.Sequential(torch.nn.Conv1d(12, 8, 3), torch.nn.ReLU(), *head), layout="NCT")
    >>> found = scope.attribute(X[0], "layer_cam")
    >>> found["map"].sizes, found["native"].sizes
    (Frozen({'time': 19}), Frozen({'step': 17}))
    """

    name: ClassVar[str] = "layer_cam"
    place: ClassVar[str] = LAYER
    signed: ClassVar[bool] = False

    def explain(self, run: Run) -> Explained:
        """Weights step by step."""

        def combine(value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
            return np.asarray(np.einsum("ntu,ntu->nt", value, np.maximum(gradient, 0)))

        return Explained(_bent(_maps(run, combine), True))


@dataclass(frozen=True)
class CAM(Method):
    """The map of a network whose dense layer reads the mean of a layer over time: sum over units of w A.

    It averages to the logit less the bias. Whether the network is such a one is tried on the data, with numbers.

    References
    ----------
    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", equation 2.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> head = torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(8, 9)
    >>> scope = sq.Scope(torch.nn.Sequential(torch.nn.Conv1d(12, 8, 3), torch.nn.ReLU(), *head), layout="NCT")
    >>> found = scope.attribute(X[0], "cam")
    >>> found["map"].sizes, found["native"].sizes
    (Frozen({'time': 19}), Frozen({'step': 17}))
    """

    name: ClassVar[str] = "cam"
    place: ClassVar[str] = LAYER
    needs_gradient: ClassVar[bool] = False

    def explain(self, run: Run) -> Explained:
        """Weights of the dense layer.

        Raises
        ------
        UnsupportedError
            The network is of another kind.
        """
        if not isinstance(run.score, Score) or run.score.address:
            raise UnsupportedError("cam explains outputs of the model: for a unit or a function, use grad_cam.")
        value = _values(run)
        run.scores_at_x()
        matrix = _readout(run, value, run.reports["output"])
        return Explained(np.einsum("ntu,un->nt", value, matrix[:, run.score.position]))


def _readout(run: Run, value: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The matrix of the dense layer that makes the logits of a layer's mean over time.

    Raises
    ------
    UnsupportedError
        There is none.
    """
    engine = run.feed.engine
    names = [layer.name for layer in engine.layers if layer.kind == "linear"] if isinstance(engine, HasDense) else []
    pooled = value.astype(np.float64).mean(1)
    for name in reversed(names):
        dense = engine.dense(name) if isinstance(engine, HasDense) else None
        if dense is None or dense.matrix.shape != (pooled.shape[1], logits.shape[1]):
            continue
        # as a share of what is summed up, which is what rounding goes by: logits themselves may all be near 0, or near the bias
        summed = float((np.abs(pooled) @ np.abs(dense.matrix)).max(initial=0))
        allowed = 1e-4 * summed + 1e-6 * float(np.abs(dense.bias).max(initial=0))
        if (np.abs(pooled @ dense.matrix + dense.bias - logits) <= allowed).all():
            return dense.matrix
    instead = "grad_cam, which asks for no such layers (and agrees with cam where they are there), or layer_cam"
    raise UnsupportedError(
        f"cam needs a network whose last layers are a mean over time and a dense layer, and '{run.place.layer}' is not read in that way "
        f"by this one: use {instead if isinstance(engine, HasGradients) else 'score_cam, which asks for no such layers'}."
    )


@dataclass(frozen=True)
class ScoreCAM(Method):
    """Each unit weighs what the score is where the input is kept in proportion to the unit's activation, as a share by softmax.

    The rest of the input goes to the baseline. No derivative is needed.

    References
    ----------
    Wang et al. 2020, "Score-CAM", equations 4 to 7.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> head = torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(8, 9)
    >>> scope = sq.Scope(torch.nn.Sequential(torch.nn.Conv1d(12, 8, 3), torch.nn.ReLU(), *head), layout="NCT")
    >>> found = scope.attribute(X[0], "score_cam")
    >>> found["map"].sizes, found["native"].sizes
    (Frozen({'time': 19}), Frozen({'step': 17}))
    """

    name: ClassVar[str] = "score_cam"
    place: ClassVar[str] = LAYER
    needs_gradient: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    uses_baseline: ClassVar[bool] = True

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """A row for each unit, of which there are some dozens."""
        return 64

    def explain(self, run: Run) -> Explained:
        """Weights from masked runs.

        Raises
        ------
        UnsupportedError
            The input is tokens, or what the layer's steps see of it is not known.
        """
        if run.x.ndim == 2:
            raise UnsupportedError("score_cam keeps shares of the input's values, and tokens have none: use layer_cam, or occlusion.")
        value = _values(run)
        base = run.baseline(np.arange(len(run)), np.zeros(len(run), int))
        found = np.empty((len(run), value.shape[2]))
        for rows in run.rows(value.shape[2]):
            mask = self._masks(run, value[rows.sample, :, rows.variant])[..., None].astype(run.x.dtype)
            x = run.x[rows.sample]
            found[rows.sample, rows.variant] = run.scores(base[rows.sample] + mask * (x - base[rows.sample]), rows)
        away = np.exp(found - found.max(1, keepdims=True))
        return Explained(_bent(np.einsum("ntu,nu->nt", value, away / away.sum(1, keepdims=True)), True))

    def _masks(self, run: Run, activations: np.ndarray) -> np.ndarray:
        """How much of each input step is kept, (row, time): from 0 where a unit is least active to 1 where it is most.

        Of what no step of the layer sees nothing is kept, and nothing for a unit that is equally active everywhere.
        """
        on_time = run.spread(activations)
        if on_time.shape[1] != run.x.shape[1]:
            raise UnsupportedError(
                f"What the steps of '{run.place.layer}' see of the input can't be known, so that its map has no place there: name "
                "another layer."
            )
        seen = np.ones(on_time.shape[1], bool) if run.spreading is None else run.spreading.any(0)
        low, high = (bound[:, None] for bound in (on_time[:, seen].min(1), on_time[:, seen].max(1)))
        return np.where(seen, np.divide(on_time - low, high - low, out=np.zeros_like(on_time), where=high > low), 0)


def _bent(maps: np.ndarray, relu: bool) -> np.ndarray:
    return np.maximum(maps, 0) if relu else maps


def spreading(field: Field, n_steps: int) -> np.ndarray:
    """How much each input step takes of each step of a layer, (layer step, input step): columns sum to 1, or to 0 where no step sees it.

    A layer's step is spread over the input steps that it sees, most on its centre, falling evenly to the ends. Where it alone sees an
    input step, as at the borders, that takes its value whole: of patterns planted there, maps that fall off find little.

    Parameters
    ----------
    field : Field
        What the layer's steps see.
    n_steps : int
        Of the input.
    """
    steps = np.arange(n_steps)
    start, end = field.near.start[:, None], field.near.end[:, None]
    reach = (end - start) / 2 + 1
    weight = np.clip(1 - np.abs(steps - field.centre[:, None]) / reach, 1e-6, None) * ((start <= steps) & (steps <= end))
    total = weight.sum(0, keepdims=True)
    return np.asarray(np.divide(weight, total, out=np.zeros_like(weight), where=total > 0))
