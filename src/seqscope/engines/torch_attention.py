"""The attention weights of torch's attention modules, also where nobody asks them for any, as in a transformer's encoder layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn


@dataclass
class Watched:
    """The weights of one module, call after call, (sample, head, query, key)."""

    calls: list[torch.Tensor] = field(default_factory=list)
    overwritten: ClassVar[bool] = False

    def dims_of(self, tensor: torch.Tensor) -> tuple[str, ...] | None:
        """What the axes are."""
        return ("sample", "head", "query", "key")

    def by_address(self, name: str) -> dict[str, list[torch.Tensor]]:
        """All calls under the module's name."""
        return {name: self.calls} if self.calls else {}


def has_weights(module: object) -> bool:
    """Whether a module is torch's attention; one with a `forward` of its own can't be asked for its weights."""
    return isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward


@contextlib.contextmanager
def watching(wanted: Sequence[tuple[str, nn.MultiheadAttention]]) -> Iterator[dict[str, Watched]]:
    """Ask modules for their weights along with their value, for the time of one pass.

    The value is computed as the model asks for it, and the weights by a second call: a module that is asked for weights computes its
    value another way, which rounds otherwise. The hook that does nothing keeps an encoder layer from its fused kernel, which calls none
    of its modules.
    """
    seen = {name: Watched() for name, _ in wanted}
    with contextlib.ExitStack() as undo:
        for name, module in wanted:
            if "forward" in vars(module):  # something stands in for it
                continue
            vars(module)["forward"] = _forward(module, seen[name])
            undo.callback(vars(module).pop, "forward", None)
            undo.callback(module.register_forward_hook(lambda *_: None).remove)
        yield seen


def _forward(module: nn.MultiheadAttention, watched: Watched) -> Any:
    plain: Any = module.forward

    def forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        given = plain(query, key, value, *args, **kwargs)
        weights = plain(query, key, value, **_asking(*args, **kwargs))[1]
        watched.calls.append(weights if weights.dim() == 4 else weights[None])
        return given

    return forward


def _asking(
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> dict[str, Any]:
    """A call's arguments, but asking for the weights of each head."""
    return {
        "key_padding_mask": key_padding_mask,
        "need_weights": True,
        "attn_mask": attn_mask,
        "average_attn_weights": False,
        "is_causal": is_causal and attn_mask is not None,
    }
