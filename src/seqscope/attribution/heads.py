"""What heads of `seqscope.nn` say of themselves: the evidence of each step for a score, and the weights of the steps.

Like a class activation map it is found on the clock of what the head reads, and brought to the input's by `on_input_clock`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seqscope.attribution.method import OF_HEAD, Explained, Method
from seqscope.attribution.run import Run, seen
from seqscope.engines.base import EVIDENCE, INSTANCES, POOLING, Forward
from seqscope.engines.score import Score
from seqscope.errors import UnsupportedError

# How far from the logits evidence may sum to, as a share of what is summed up: rounding; and in few bits, where the head gives the logits.
_ROUNDING, _FEW_BITS = 1e-4, 5e-2


def _passes(run: Run) -> Iterator[tuple[np.ndarray, Forward]]:
    """What the head gives for the sequences, batch by batch, each with their places."""
    head = str(run.place.layer)
    for rows in run.rows():
        filled = run.feed.filled(len(rows.sample), run.most_rows)
        yield rows.sample, run.feed.forward(run.x[rows.sample][filled], [head, f"{head}{INSTANCES}"], logits=True)


@dataclass(frozen=True)
class Instances(Method):
    """The head's own evidence: what each step puts into the score, which is their sum. Of a model that ends in a head of `seqscope.nn`.

    e_t = (W z_t + b) / n for `InstancePooling`, a_t (W z_t + b) / n for `ConjunctivePooling`, (W a_t z_t + b) / n for `AdditivePooling`,
    a_t W z_t + b / n for `AttentionPooling`, since its classifier is linear; with weights that sum to 1, a_t stands for a_t / n.
    `native` sums over the steps to the score (attribute `additive`); `map` says at each input step what the head's steps which see it
    bring in their weighted mean, and so sums to it only where both have one clock.

    Notes
    -----
    Over a recurrent layer a step stands for all that the layer has read by then, and its evidence lies where the head reads, which may be
    long after what it rests on (`benchmarks/heads.py`): for the input's own steps ask integrated_gradients or occlusion.

    Early et al. call n e_t the interpretation, and for additive pooling multiply it by a_t once more; for attention pooling they give the
    weights alone.

    References
    ----------
    Early et al. 2024, "Inherently Interpretable Time Series Classification via Multiple Instance Learning".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y, truth = sq.datasets.planted(4, length=300, n_channels=9)
    >>> found = sq.Scope(sq.zoo.conv_mil()).attribute(X, "instances")
    >>> bool(abs(found["native"].sum("step") - found.score).max() < 1e-4)
    True
    """

    name: ClassVar[str] = "instances"
    place: ClassVar[str] = OF_HEAD
    needs_gradient: ClassVar[bool] = False
    long_name: ClassVar[str] = "Evidence of the head"

    def explain(self, run: Run) -> Explained:
        """The evidence for each sequence's score.

        Raises
        ------
        UnsupportedError
            The score is none that the head gives.
        """
        score, head = run.score, str(run.place.layer)
        if not isinstance(score, Score) or score.address not in ("", head):
            raise UnsupportedError(
                f"instances gives the evidence for what the head '{head}' gives: ask for an output, or for target.unit('{head}', ...)."
            )
        parts = []
        for samples, forward in _passes(run):
            evidence = seen(forward, f"{head}{INSTANCES}{EVIDENCE}")[: len(samples)]
            if not score.address:
                _refuse_inner(head, evidence, seen(forward, head)[: len(samples)], forward.output[: len(samples)])
            parts.append(evidence[np.arange(len(samples)), :, score.position[samples]])
        return Explained(np.concatenate(parts), said={"additive": "true"})


def _refuse_inner(head: str, evidence: np.ndarray, value: np.ndarray, logits: np.ndarray) -> None:
    """Refuse a head that does not give the model's logits: its evidence is for something else.

    Raises
    ------
    UnsupportedError
    """
    if value.shape == logits.shape or value.size == logits.size == len(value):  # of one output, which some models give without its axis
        value, logits = value.reshape(len(value), -1), logits.reshape(len(value), -1)
        allowed = (_FEW_BITS if np.array_equal(value, logits) else _ROUNDING) * np.abs(evidence).sum(1)
        if (np.abs(evidence.sum(1) - logits) <= allowed + np.finfo(np.float32).tiny).all():
            return
    raise UnsupportedError(
        f"What the model gives is not what its head '{head}' gives, nor a softmax or sigmoid of it, so that the head's evidence does not "
        f"sum to the model's score: explain one of its own outputs, with target=seqscope.target.unit('{head}', 0), or use grad_cam."
    )


@dataclass(frozen=True)
class AttentionPooling(Method):
    """The attention weights of a head of `seqscope.nn`: how much it takes of each step, whatever for.

    They are the same for all outputs, and no importance: what is taken may speak for an output or against it, or for none, and over a
    recurrent layer it stands for all that was read by then (see `Instances`).

    References
    ----------
    Jain and Wallace 2019, "Attention is not Explanation", on what weights do not say.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> weights = sq.Scope(sq.zoo.attention_lstm()).attribute(X[0], "attention_pooling")["native"]
    >>> weights.dims, round(float(weights.sum()), 5)
    (('time',), 1.0)
    """

    name: ClassVar[str] = "attention_pooling"
    place: ClassVar[str] = OF_HEAD
    needs_gradient: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    has_target: ClassVar[bool] = False
    long_name: ClassVar[str] = "Attention weight"

    def explain(self, run: Run) -> Explained:
        """The weights of each sequence's steps.

        Raises
        ------
        UnsupportedError
            The head weighs nothing.
        """
        address = f"{run.place.layer}{INSTANCES}{POOLING}"
        parts = []
        for samples, forward in _passes(run):
            if address not in forward.captured:
                raise UnsupportedError(f"The head '{run.place.layer}' takes the mean over all steps and has no attention weights.")
            parts.append(seen(forward, address)[: len(samples)])
        return Explained(np.concatenate(parts))
