"""Heads that explain themselves: pooling over time that says what each step put into each logit.

`seqscope.nn.torch` and `seqscope.nn.keras` have the same classes with the same options; each takes the place of the last layers of a
person's own network, where features (sample, time, feature) become logits (sample, output). a_t is the weight of a step, z_t its
features, n the number of steps, W and b the classifier:

- `InstancePooling`: every step is classified and the mean taken, mean_t(W z_t + b);
- `AttentionPooling`: the weighted sum of the features is classified, W sum_t(a_t z_t) + b, with weights that sum to 1;
- `AdditivePooling`: every step's weighted features are classified, mean_t(W a_t z_t + b);
- `ConjunctivePooling`: every step is classified and has a weight besides, mean_t(a_t (W z_t + b)).

Each logit is a sum over the steps, whose terms `scope.attribute(X, "instances")` gives; `scope.attribute(X, "attention_pooling")` gives
the weights. Early et al. add a positional encoding to the features, which is left to the network here.

References
----------
Early, Cheung, Cutajar, Xie, Kandola and Twomey 2024, "Inherently Interpretable Time Series Classification via Multiple Instance
Learning" (ICLR).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from seqscope.engines.base import require_framework

if TYPE_CHECKING:
    from seqscope.nn import keras, torch

__all__ = ["keras", "torch"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module 'seqscope.nn' has no attribute {name!r}")
    require_framework(name, purpose=f"seqscope.nn.{name}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return __all__
