"""Heads that explain themselves, in Keras, on any of its backends: see `seqscope.nn`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import keras
from keras import layers, ops

from seqscope.errors import ModelError
from seqscope.nn import checks
from seqscope.nn.checks import SIGMOID, SOFTMAX

__all__ = ["AdditivePooling", "AttentionPooling", "ConjunctivePooling", "InstancePooling", "PoolingHead"]

_register = keras.saving.register_keras_serializable(package="seqscope")


class PoolingHead(layers.Layer):  # type: ignore[misc]
    """What the heads have in common: features (sample, time, feature) in, logits (sample, output) out.

    A mask, also one that comes along from a Masking or an Embedding layer, says which steps there are; the others never matter.

    Parameters
    ----------
    n_outputs : int
    n_features : int, optional
        Default: as many as come in.
    dropout : float
        The share of the features that is left out while training.
    **options
        Those of every Keras layer, such as `name`.

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in is of another shape.
    """

    pooling: ClassVar[str]

    def __init__(self, n_outputs: int, *, n_features: int | None = None, dropout: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        checks.whole(self._title, n_outputs=n_outputs, **({} if n_features is None else {"n_features": n_features}))
        checks.share(self._title, dropout)
        self.n_outputs, self.supports_masking = int(n_outputs), True
        self.n_features = None if n_features is None else int(n_features)
        self.dropout = layers.Dropout(float(dropout), dtype=self.dtype_policy, name="dropout")
        self.classifier = layers.Dense(n_outputs, dtype=self.dtype_policy, name="classifier")

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The logits; refused here, where Keras adds nothing of its own to what is said."""
        if not hasattr(x, "shape"):
            raise ModelError(f"{self._title} takes a tensor and was given a {type(x).__name__}: of several tensors, hand over one.")
        checks.features(self._title, tuple(x.shape), self.n_features)
        if kwargs.get("mask") is not None:
            mask = kwargs["mask"] = kwargs["mask"] if hasattr(kwargs["mask"], "dtype") else ops.convert_to_tensor(kwargs["mask"])
            given = keras.backend.standardize_dtype(mask.dtype), tuple(mask.shape)
            checks.ends(self._title, "a mask", given, ("bool",), tuple(x.shape[:2]))
        return super().__call__(x, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Make the weights for as many features as come in."""
        checks.features(self._title, tuple(input_shape), self.n_features)
        self.n_features = int(input_shape[-1])
        for layer, size in self._parts():
            layer.build((None, None, size))
        self.dropout.build(input_shape)

    def call(self, x: Any, mask: Any = None, training: Any = None) -> Any:
        """The logits.

        Parameters
        ----------
        x : tensor (sample, time, feature)
        mask : bool tensor (sample, time), optional
            True where there is a step.
        training : bool, optional

        Returns
        -------
        tensor (sample, output)
        """
        z, there = self._steps(x, mask)
        return self._logits(self.dropout(z, training=training), there)

    def instances(self, x: Any, mask: Any = None) -> dict[str, Any]:
        """What the head has to say of each step, without dropout.

        Parameters
        ----------
        x, mask
            As in `call`.

        Returns
        -------
        dict of tensors
            `features` (sample, time, feature) that it read; `evidence` (sample, time, output), which sums over time to the logits; and
            `weights` (sample, time) where it has some. 0 at steps that are masked.
        """
        z, there = self._steps(ops.convert_to_tensor(x, dtype=self.compute_dtype), mask)
        return {"features": z, "evidence": self._evidence(z, there)}

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """There is no time axis behind the head."""
        return

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """(sample, output)."""
        return (input_shape[0], self.n_outputs)

    def get_config(self) -> dict[str, Any]:
        """The options."""
        config: dict[str, Any] = super().get_config()
        return config | {"n_outputs": self.n_outputs, "n_features": self.n_features, "dropout": self.dropout.rate}

    @property
    def _title(self) -> str:
        return type(self).__name__

    def _parts(self) -> list[tuple[Any, int | None]]:
        """The dense layers inside, each with what it reads."""
        return [(self.classifier, self.n_features)]

    def _steps(self, x: Any, mask: Any) -> tuple[Any, Any]:
        """The features, 0 where there is no step; and where there is one, (sample, time, 1), as numbers."""
        there = ops.ones_like(x[..., :1]) if mask is None else ops.cast(mask, x.dtype)[..., None]
        return (x if mask is None else ops.where(there > 0, x, ops.zeros_like(x))), there

    def _logits(self, z: Any, there: Any) -> Any:
        """What the evidence sums to."""
        return ops.sum(self._evidence(z, there), axis=1)

    @abstractmethod
    def _evidence(self, z: Any, there: Any) -> Any:
        """What each step puts into each logit, (sample, time, output)."""


@_register
class InstancePooling(PoolingHead):
    """Every step is classified, and the mean of what the steps say is taken: mean_t(W z_t + b).

    The logits are those of global average pooling and a dense layer, and the evidence is the class activation map of such a net (Zhou et
    al. 2016) with the bias shared among the steps.

    Parameters
    ----------
    n_outputs : int
    n_features : int, optional
        Default: as many as come in.
    dropout : float
        The share of the features that is left out while training.
    **options
        Those of every Keras layer, such as `name`.

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in has no time axis, or other features.

    References
    ----------
    Early et al. 2024 (see `seqscope.nn`), "Instance pooling".

    Examples
    --------
    >>> import keras
    >>> import seqscope as sq
    >>> net = keras.Sequential([keras.Input((None, 9)), keras.layers.Conv1D(16, 7), sq.nn.keras.InstancePooling(5)])
    >>> tuple(net(keras.ops.zeros((4, 300, 9))).shape)
    (4, 5)
    """

    pooling = "instance pooling"

    def _evidence(self, z: Any, there: Any) -> Any:
        return self.classifier(z) * there / _count(there)


class _Attentive(PoolingHead):
    """A head that weighs the steps.

    Parameters
    ----------
    attention : {"sigmoid", "softmax"}
    d_attn : int
    """

    def __init__(
        self,
        n_outputs: int,
        *,
        n_features: int | None = None,
        attention: str = SIGMOID,
        d_attn: int = 8,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(n_outputs, n_features=n_features, dropout=dropout, **options)
        checks.whole(self._title, d_attn=d_attn)
        checks.kind_of_attention(self._title, attention)
        self.attention, self.d_attn = attention, int(d_attn)
        self.hidden = layers.Dense(d_attn, activation="tanh", dtype=self.dtype_policy, name="hidden")
        # a softmax is blind to what is added to all steps
        self.score = layers.Dense(1, use_bias=attention == SIGMOID, dtype=self.dtype_policy, name="score")

    def get_config(self) -> dict[str, Any]:
        """The options."""
        return super().get_config() | {"attention": self.attention, "d_attn": self.d_attn}

    def instances(self, x: Any, mask: Any = None) -> dict[str, Any]:
        z, there = self._steps(ops.convert_to_tensor(x, dtype=self.compute_dtype), mask)
        return {"features": z, "evidence": self._evidence(z, there), "weights": ops.squeeze(self._weights(z, there), axis=2)}

    def _parts(self) -> list[tuple[Any, int | None]]:
        return [(self.hidden, self.n_features), (self.score, self.d_attn), *super()._parts()]

    def _weights(self, z: Any, there: Any) -> Any:
        """The attention weights, (sample, time, 1)."""
        scores = self.score(self.hidden(z))
        if self.attention == SIGMOID:
            return ops.sigmoid(scores) * there
        lowest = ops.cast(-1e4 if self.compute_dtype == "float16" else -1e30, scores.dtype)
        return ops.softmax(ops.where(there > 0, scores, lowest), axis=1) * there

    def _shares(self, z: Any, there: Any) -> Any:
        """What each step counts in the sum over the steps: of weights that do not sum to 1, which are in a mean, the n-th part."""
        weights = self._weights(z, there)
        return weights if self.attention == SOFTMAX else weights / _count(there)

    def _of_weighted(self, z: Any, there: Any) -> Any:
        """Evidence where the classifier reads weighted features: the bias, which no step brings, is shared among them evenly."""
        kernel, bias = (ops.cast(weight, z.dtype) for weight in (self.classifier.kernel, self.classifier.bias))
        return ops.matmul(self._shares(z, there) * z, kernel) + bias * there / _count(there)


@_register
class AttentionPooling(_Attentive):
    """The weighted sum of the features is classified: W sum_t(a_t z_t) + b, a = softmax_t(v tanh(V z_t + c)).

    For recurrent nets: in place of the last step the classifier reads what the weights pick out of all of them. Since the classifier is
    linear, the logit is a sum over the steps, of a_t W z_t and of an even share in b: that is the head's evidence. There each step stands
    for all that was read by then, so that weights and evidence may lie long after what a decision rests on.

    Parameters
    ----------
    n_outputs : int
    n_features : int, optional
        Default: as many as come in.
    attention : {"softmax", "sigmoid"}
        Weights that sum to 1 over the steps, or each between 0 and 1 on its own, with the mean in place of the sum (as in Early et al.).
    d_attn : int
        The units that score a step.
    dropout : float
        The share of the features that is left out while training.
    **options
        Those of every Keras layer, such as `name`.

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
    >>> import keras
    >>> import seqscope as sq
    >>> stack = [keras.layers.Masking(), keras.layers.LSTM(20, return_sequences=True), sq.nn.keras.AttentionPooling(9)]
    >>> tuple(keras.Sequential(stack)(keras.ops.zeros((2, 29, 12))).shape)
    (2, 9)
    """

    pooling = "attention pooling"

    def __init__(
        self,
        n_outputs: int,
        *,
        n_features: int | None = None,
        attention: str = SOFTMAX,
        d_attn: int = 8,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(n_outputs, n_features=n_features, attention=attention, d_attn=d_attn, dropout=dropout, **options)

    def _logits(self, z: Any, there: Any) -> Any:
        return self.classifier(ops.sum(self._shares(z, there) * z, axis=1))

    def _evidence(self, z: Any, there: Any) -> Any:
        return self._of_weighted(z, there)


@_register
class AdditivePooling(_Attentive):
    """Every step's weighted features are classified, and the mean taken: mean_t(W a_t z_t + b), a_t = sigmoid(v tanh(V z_t + c) + d).

    With a classifier that is linear, as here and in the paper, the logits are those of `AttentionPooling` with the same kind of attention.

    Parameters
    ----------
    n_outputs : int
    n_features : int, optional
        Default: as many as come in.
    attention : {"sigmoid", "softmax"}
        Weights each between 0 and 1 on its own; or that sum to 1 over the steps, with a sum in place of the mean.
    d_attn : int
        The units that score a step.
    dropout : float
        The share of the features that is left out while training.
    **options
        Those of every Keras layer, such as `name`.

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in has no time axis, or other features.

    References
    ----------
    Early et al. 2024 (see `seqscope.nn`), "Additive pooling", after Javed et al. 2022, "Additive MIL".

    Examples
    --------
    >>> import keras
    >>> import seqscope as sq
    >>> head = sq.nn.keras.AdditivePooling(5, n_features=16)
    >>> tuple(head(keras.ops.zeros((4, 300, 16))).shape)
    (4, 5)
    """

    pooling = "additive pooling"

    def _evidence(self, z: Any, there: Any) -> Any:
        return self._of_weighted(z, there)


@_register
class ConjunctivePooling(_Attentive):
    """Every step is classified and weighed, and the mean taken: mean_t(a_t (W z_t + b)), a_t = sigmoid(v tanh(V z_t + c) + d).

    Parameters
    ----------
    n_outputs : int
    n_features : int, optional
        Default: as many as come in.
    attention : {"sigmoid", "softmax"}
        Weights each between 0 and 1 on its own; or that sum to 1 over the steps, with a sum in place of the mean.
    d_attn : int
        The units that score a step.
    dropout : float
        The share of the features that is left out while training.
    **options
        Those of every Keras layer, such as `name`.

    Raises
    ------
    ModelError
        A size or a share out of its range; or what comes in has no time axis, or other features.

    References
    ----------
    Early et al. 2024 (see `seqscope.nn`), "Conjunctive pooling".

    Examples
    --------
    >>> import keras
    >>> import seqscope as sq
    >>> net = keras.Sequential([keras.Input((None, 9)), keras.layers.Conv1D(16, 7), sq.nn.keras.ConjunctivePooling(5)])
    >>> tuple(net(keras.ops.zeros((4, 300, 9))).shape)
    (4, 5)
    """

    pooling = "conjunctive pooling"

    def _evidence(self, z: Any, there: Any) -> Any:
        return self._shares(z, there) * self.classifier(z)


def _count(there: Any) -> Any:
    """How many steps each sample has, (sample, 1, 1); 1 where there is none."""
    return ops.maximum(ops.sum(there, axis=1, keepdims=True), 1)
