"""captum's methods on a torch module: the scores and the state of the model are ours, the method is theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from seqscope.errors import ModelError, UnsupportedError, nearest, require

Scores = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def attributions(method: str, options: Mapping[str, Any], scores: Scores, model: Any, x: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """What a method gives.

    Parameters
    ----------
    scores : function of (x, rows)
        A score for each row; `rows`: of each row of x the row of the batch that it was made from.
    model : module
        For the methods that look into it.

    Raises
    ------
    UnsupportedError
        captum has no such method at the input.
    ModelError
        It raised.
    """
    attr = require("captum.attr", extra="torch", purpose="captum's methods")
    known = [name for name, kind in vars(attr).items() if inspect.isclass(kind) and _works_at_input(attr, kind)]
    if method not in known:
        raise UnsupportedError(f"captum has no method {method!r} that works at the input: {nearest(method, known)}.")
    kind: Any = getattr(attr, method)
    made = kind(scores if "forward_func" in inspect.signature(kind).parameters else _Scored(scores, model))
    taken = inspect.signature(made.attribute).parameters
    given = dict(options)
    if "baselines" in taken and "baselines" not in given:
        given["baselines"] = base
    try:
        found: torch.Tensor = made.attribute(x, additional_forward_args=(torch.arange(len(x), device=x.device),), **given)
    except Exception as error:
        raise ModelError(f"captum's {method} raised {type(error).__name__}: {error}") from error
    return found.detach()


def _works_at_input(attr: Any, kind: type) -> bool:
    """Whether a class is a method that explains inputs by itself, and not at a layer or a neuron, nor around another method."""
    if not issubclass(kind, attr.Attribution) or issubclass(kind, attr.LayerAttribution | attr.NeuronAttribution | attr.NoiseTunnel):
        return False
    parameters = list(inspect.signature(kind).parameters)
    taken = inspect.signature(kind.attribute).parameters if hasattr(kind, "attribute") else {}
    return parameters[:1] in (["forward_func"], ["model"]) and {"inputs", "additional_forward_args"} <= set(taken)


class _Scored(torch.nn.Module):
    """A model whose output is the scores."""

    def __init__(self, scores: Scores, model: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self._scores = model, scores

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """A score for each row, as (row, 1)."""
        return self._scores(x, rows)[:, None]
