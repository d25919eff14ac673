"""What the heads of `seqscope.nn.keras` have to say of each step, asked of them while a model runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def with_instances(head: Any, keep: Callable[[str, Any], None]) -> Callable[..., Any]:
    """The head's `call`, which also hands over its instances, part by part."""
    original = head.call

    def call(x: Any, mask: Any = None, **kwargs: Any) -> Any:
        given = original(x, mask=mask, **kwargs)
        for part, tensor in head.instances(x, mask=mask).items():
            keep(part, tensor)
        return given

    return call
