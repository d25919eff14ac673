"""captum's methods on a torch module: the scores and the state of the model are ours, the method is theirs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from seqscope.errors import ModelError, SeqscopeError, UnsupportedError, nearest, require

Scores = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# What captum says when it fails may hold whole tensors.
_MOST_WORDS = 300


def attributions(method: str, options: Mapping[str, Any], scores: Scores, model: Any, x: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """What a method gives. What it draws follows NumPy's global random state, which the caller has set.

    Parameters
    ----------
    scores : function of (x, rows)
        A score for each row; `rows`: of each row of x the row of the batch that it was made from.
    model : module
        For the methods that look into it.

    Raises
    ------
    UnsupportedError
        captum has no such method at the input, or it gives more than one value for each of the input's.
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
    torch.manual_seed(int(np.random.randint(2**31)))
    rows = torch.arange(len(x), device=x.device)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"captum\.")  # of hooks that it sets and takes away, and of what it does to x
            found = made.attribute(x.requires_grad_(), additional_forward_args=(rows,), **given)
    except SeqscopeError:  # of ours, about the scores
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        short = words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]} ..."
        raise ModelError(f"captum's {method} raised {type(error).__name__}: {short}") from error
    if not isinstance(found, torch.Tensor) or found.shape != x.shape:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise UnsupportedError(
            f"captum's {method} gave {what} with these options: expected one value for each of the input's, shape {tuple(x.shape)}, and "
            "nothing more."
        )
    return found.detach()


def _works_at_input(attr: Any, kind: type) -> bool:
    """Whether a class is a method that explains inputs by itself: not at a layer or a neuron, around another method, or by batch-mates."""
    if kind is attr.FeaturePermutation:  # which exchanges values between the sequences of a batch
        return False
    if not issubclass(kind, attr.Attribution) or issubclass(kind, attr.LayerAttribution | attr.NeuronAttribution | attr.NoiseTunnel):
        return False
    first, *more = inspect.signature(kind).parameters.values()
    taken = inspect.signature(kind.attribute).parameters if hasattr(kind, "attribute") else {}
    needs_more = any(parameter.default is parameter.empty for parameter in more)
    return first.name in ("forward_func", "model") and not needs_more and {"inputs", "additional_forward_args"} <= set(taken)


class _Scored(torch.nn.Module):
    """A model whose output is the scores."""

    def __init__(self, scores: Scores, model: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self._scores = model, scores

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """A score for each row, as (row, 1)."""
        return self._scores(x, rows)[:, None]
