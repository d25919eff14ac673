"""Heads that explain themselves, in torch: see `seqscope.nn`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from seqscope.errors import ModelError
from seqscope.nn import checks
from seqscope.nn.checks import SIGMOID, SOFTMAX

__all__ = ["AdditivePooling", "AttentionPooling", "ConjunctivePooling", "InstancePooling", "PoolingHead"]


class PoolingHead(nn.Module, ABC):
    """What the heads have in common: features (sample, time, feature) in, logits (sample, output) out.

    Parameters
    ----------
    n_features, n_outputs : int
    dropout : float
        The share of the features that is left out while training.
    channels_first : bool
        Whether the features come as convolutions give them, (sample, feature, time).

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in is of another shape.
    """

    pooling: ClassVar[str]

    def __init__(self, n_features: int, n_outputs: int, *, dropout: float = 0.0, channels_first: bool = False) -> None:
        super().__init__()
        checks.whole(self._name, n_features=n_features, n_outputs=n_outputs)
        checks.share(self._name, dropout)
        self.n_features, self.n_outputs, self.channels_first = int(n_features), int(n_outputs), bool(channels_first)
        self.dropout = nn.Dropout(float(dropout))
        self.classifier = nn.Linear(n_features, n_outputs)

    def forward(self, x: Tensor | PackedSequence, lengths: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """The logits.

        Parameters
        ----------
        x : tensor (sample, time, feature), or what `pack_padded_sequence` makes
            (sample, feature, time) with `channels_first`.
        lengths : int tensor (sample,), optional
            How many steps each sequence has; what comes after them never matters.
        mask : bool tensor (sample, time), optional
            Instead of lengths: True where there is a step.

        Returns
        -------
        tensor (sample, output)
        """
        z, there = self._steps(x, lengths, mask)
        return self._logits(self.dropout(z), there)

    def instances(self, x: Tensor | PackedSequence, lengths: Tensor | None = None, *, mask: Tensor | None = None) -> dict[str, Tensor]:
        """What the head has to say of each step, without dropout.

        Parameters
        ----------
        x, lengths, mask
            As in `forward`.

        Returns
        -------
        dict of tensors
            `features` (sample, time, feature) that it read; `evidence` (sample, time, output), which sums over time to the logits; and
            `weights` (sample, time) where it has some. 0 at steps that are masked.
        """
        z, there = self._steps(x, lengths, mask)
        return {"features": z, "evidence": self._evidence(z, there)}

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _steps(self, x: Any, lengths: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The features (sample, time, feature), 0 where there is no step; and where there is one, (sample, time, 1)."""
        if isinstance(x, PackedSequence):
            x, lengths = pad_packed_sequence(x, batch_first=True)
            lengths = lengths.to(x.device)
        if not isinstance(x, Tensor):
            raise ModelError(
                f"{self._name} takes a tensor and was given a {type(x).__name__}: of a recurrent module, which gives (output, state), hand "
                "over the output."
            )
        checks.features(self._name, tuple(x.shape), self.n_features, channels_first=self.channels_first)
        z = x.transpose(1, 2) if self.channels_first else x
        there = self._there(z, lengths, mask)
        return z.masked_fill(~there, 0), there

    def _there(self, z: Tensor, lengths: Tensor | None, mask: Tensor | None) -> Tensor:
        """Where there is a step, (sample, time, 1)."""
        n_samples, n_steps = z.shape[:2]
        if lengths is not None and mask is not None:
            raise ModelError(f"{self._name} was given both lengths and a mask: give one of them.")
        if lengths is not None:
            lengths = _as_tensor(self._name, "lengths", lengths)
            checks.ends(self._name, "lengths", _given(lengths), ("int", "uint"), (n_samples,))
            _check_range(self._name, lengths, n_steps)
            mask = torch.arange(n_steps, device=z.device) < lengths.to(z.device)[:, None]
        elif mask is None:
            return z.new_ones((n_samples, n_steps, 1), dtype=torch.bool)
        mask = _as_tensor(self._name, "a mask", mask)
        checks.ends(self._name, "a mask", _given(mask), ("bool",), (n_samples, n_steps))
        return mask.to(z.device)[..., None]

    def _logits(self, z: Tensor, there: Tensor) -> Tensor:
        """What the evidence sums to."""
        return self._evidence(z, there).sum(1)

    @abstractmethod
    def _evidence(self, z: Tensor, there: Tensor) -> Tensor:
        """What each step puts into each logit, (sample, time, output)."""


class InstancePooling(PoolingHead):
    """Every step is classified, and the mean of what the steps say is taken: mean_t(W z_t + b).

    The logits are those of global average pooling and a dense layer, and the evidence is the class activation map of such a net (Zhou et
    al. 2016) with the bias shared among the steps.

    Parameters
    ----------
    n_features, n_outputs : int
    dropout : float
        The share of the features that is left out while training.
    channels_first : bool
        Whether the features come as convolutions give them, (sample, feature, time).

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in has no time axis, or other features.

    References
    ----------
    Early et al. 2024 (see `seqscope.nn`), "Instance pooling".

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> net = torch.nn.Sequential(torch.nn.Conv1d(9, 16, 7), torch.nn.ReLU(), sq.nn.torch.InstancePooling(16, 5, channels_first=True))
    >>> net(torch.zeros(4, 9, 300)).shape
    torch.Size([4, 5])
    """

    pooling = "instance pooling"

    def _evidence(self, z: Tensor, there: Tensor) -> Tensor:
        said: Tensor = self.classifier(z)
        return said.masked_fill(~there, 0) / _count(there, z)


class _Attentive(PoolingHead):
    """A head that weighs the steps.

    Parameters
    ----------
    attention : {"sigmoid", "softmax"}
    d_attn : int
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        attention: str = SIGMOID,
        d_attn: int = 8,
        dropout: float = 0.0,
        channels_first: bool = False,
    ) -> None:
        super().__init__(n_features, n_outputs, dropout=dropout, channels_first=channels_first)
        checks.whole(self._name, d_attn=d_attn)
        checks.kind_of_attention(self._name, attention)
        self.attention = attention
        self.hidden = nn.Linear(n_features, d_attn)
        self.score = nn.Linear(d_attn, 1, bias=attention == SIGMOID)  # a softmax is blind to what is added to all steps

    def instances(self, x: Tensor | PackedSequence, lengths: Tensor | None = None, *, mask: Tensor | None = None) -> dict[str, Tensor]:
        z, there = self._steps(x, lengths, mask)
        return {"features": z, "evidence": self._evidence(z, there), "weights": self._weights(z, there).squeeze(2)}

    def _weights(self, z: Tensor, there: Tensor) -> Tensor:
        """The attention weights, (sample, time, 1)."""
        scores: Tensor = self.score(torch.tanh(self.hidden(z)))
        if self.attention == SIGMOID:
            return torch.sigmoid(scores).masked_fill(~there, 0)
        return scores.masked_fill(~there, torch.finfo(scores.dtype).min).softmax(1).masked_fill(~there, 0)

    def _shares(self, z: Tensor, there: Tensor) -> Tensor:
        """What each step counts in the sum over the steps: of weights that do not sum to 1, which are in a mean, the n-th part."""
        weights = self._weights(z, there)
        return weights if self.attention == SOFTMAX else weights / _count(there, z)

    def _of_weighted(self, z: Tensor, there: Tensor) -> Tensor:
        """Evidence where the classifier reads weighted features: the bias, which no step brings, is shared among them evenly."""
        bias = self.classifier.bias * there / _count(there, z)
        return nn.functional.linear(self._shares(z, there) * z, self.classifier.weight) + bias


class AttentionPooling(_Attentive):
    """The weighted sum of the features is classified: W sum_t(a_t z_t) + b, a = softmax_t(v tanh(V z_t + c)).

    For recurrent nets: in place of the last step the classifier reads what the weights pick out of all of them. Since the classifier is
    linear, the logit is a sum over the steps, of a_t W z_t and of an even share in b: that is the head's evidence. There each step stands
    for all that was read by then, so that weights and evidence may lie long after what a decision rests on.

    Parameters
    ----------
    n_features, n_outputs : int
    attention : {"softmax", "sigmoid"}
        Weights that sum to 1 over the steps, or each between 0 and 1 on its own, with the mean in place of the sum (as in Early et al.).
    d_attn : int
        The units that score a step.
    dropout : float
        The share of the features that is left out while training.
    channels_first : bool
        Whether the features come as convolutions give them, (sample, feature, time).

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in has no time axis, or other features.

    References
    ----------
    Yang et al. 2016, "Hierarchical Attention Networks", equations 5 to 7, after Bahdanau et al. 2015; as pooling of instances Ilse et al.
    2018, "Attention-based Deep Multiple Instance Learning", equations 7 and 8.

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> lstm, head = torch.nn.LSTM(12, 100, batch_first=True), sq.nn.torch.AttentionPooling(100, 9)
    >>> hidden, _ = lstm(torch.zeros(2, 29, 12))
    >>> head(hidden, torch.tensor([29, 7])).shape
    torch.Size([2, 9])
    """

    pooling = "attention pooling"

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        attention: str = SOFTMAX,
        d_attn: int = 8,
        dropout: float = 0.0,
        channels_first: bool = False,
    ) -> None:
        super().__init__(n_features, n_outputs, attention=attention, d_attn=d_attn, dropout=dropout, channels_first=channels_first)

    def _logits(self, z: Tensor, there: Tensor) -> Tensor:
        pooled: Tensor = self.classifier((self._shares(z, there) * z).sum(1))
        return pooled

    def _evidence(self, z: Tensor, there: Tensor) -> Tensor:
        return self._of_weighted(z, there)


class AdditivePooling(_Attentive):
    """Every step's weighted features are classified, and the mean taken: mean_t(W a_t z_t + b), a_t = sigmoid(v tanh(V z_t + c) + d).

    With a classifier that is linear, as here and in the paper, the logits are those of `AttentionPooling` with the same kind of attention.

    Parameters
    ----------
    n_features, n_outputs : int
    attention : {"sigmoid", "softmax"}
        Weights each between 0 and 1 on its own; or that sum to 1 over the steps, with a sum in place of the mean.
    d_attn : int
        The units that score a step.
    dropout : float
        The share of the features that is left out while training.
    channels_first : bool
        Whether the features come as convolutions give them, (sample, feature, time).

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in has no time axis, or other features.

    References
    ----------
    Early et al. 2024 (see `seqscope.nn`), "Additive pooling", after Javed et al. 2022, "Additive MIL".

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> head = sq.nn.torch.AdditivePooling(16, 5)
    >>> found = head.instances(torch.zeros(4, 300, 16))
    >>> found["evidence"].shape, found["weights"].shape
    (torch.Size([4, 300, 5]), torch.Size([4, 300]))
    """

    pooling = "additive pooling"

    def _evidence(self, z: Tensor, there: Tensor) -> Tensor:
        return self._of_weighted(z, there)


class ConjunctivePooling(_Attentive):
    """Every step is classified and weighed, and the mean taken: mean_t(a_t (W z_t + b)), a_t = sigmoid(v tanh(V z_t + c) + d).

    Parameters
    ----------
    n_features, n_outputs : int
    attention : {"sigmoid", "softmax"}
        Weights each between 0 and 1 on its own; or that sum to 1 over the steps, with a sum in place of the mean.
    d_attn : int
        The units that score a step.
    dropout : float
        The share of the features that is left out while training.
    channels_first : bool
        Whether the features come as convolutions give them, (sample, feature, time).

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in has no time axis, or other features.

    References
    ----------
    Early et al. 2024 (see `seqscope.nn`), "Conjunctive pooling".

    Examples
    --------
    >>> import torch
    >>> import seqscope as sq
    >>> net = torch.nn.Sequential(torch.nn.Conv1d(9, 16, 7), torch.nn.ReLU(), sq.nn.torch.ConjunctivePooling(16, 5, channels_first=True))
    >>> found = sq.Scope(net.eval()).attribute(sq.Sequences(torch.zeros(4, 300, 9)), "instances")
    >>> found["native"].sizes, found["map"].sizes
    (Frozen({'sample': 4, 'step': 294}), Frozen({'sample': 4, 'time': 300}))
    """

    pooling = "conjunctive pooling"

    def _evidence(self, z: Tensor, there: Tensor) -> Tensor:
        said: Tensor = self.classifier(z)
        return self._shares(z, there) * said


def _given(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    """The type of a tensor's numbers, and its shape."""
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)


def _as_tensor(head: str, what: str, given: Any) -> Tensor:
    """Lengths or a mask as a tensor, of a list or an array too.

    Raises
    ------
    ModelError
    """
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as e:
        raise ModelError(f"{head} takes {what} as a tensor and was given a {type(given).__name__}.") from e


def _check_range(head: str, lengths: Tensor, n_steps: int) -> None:
    """Refuse lengths that the steps do not have; not where a model is only written down, since numbers are not known there.

    Raises
    ------
    ModelError
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return
    for row in ((lengths < 1) | (lengths > n_steps)).nonzero()[:1, 0].tolist():
        raise ModelError(f"{head} was given a length of {int(lengths[row])} for sample {row}: expected 1 to {n_steps}, its steps.")


def _count(there: Tensor, like: Tensor) -> Tensor:
    """How many steps each sample has, (sample, 1, 1); 1 where there is none."""
    return there.sum(1, keepdim=True).clamp(min=1).to(like.dtype)
