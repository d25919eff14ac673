"""What the heads of `seqscope.nn.torch` have to say of each step, asked of them while a model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from seqscope.nn.torch import PoolingHead


@dataclass
class Watched:
    """What one head had to say, part by part, call after call."""

    calls: dict[str, list[Tensor]] = field(default_factory=dict)
    overwritten: ClassVar[bool] = False

    def dims_of(self, tensor: Tensor) -> tuple[str, ...]:
        """What the axes are."""
        return ("sample", "time", "unit")[: tensor.dim()]

    def by_address(self, name: str) -> dict[str, list[Tensor]]:
        """Every part under the head's name."""
        return {f"{name}[{part}]": calls for part, calls in self.calls.items()}


@contextlib.contextmanager
def watching(wanted: Sequence[tuple[str, PoolingHead]]) -> Iterator[dict[str, Watched]]:
    """Ask heads for their instances along with their value, for the time of one pass."""
    seen = {name: Watched() for name, _ in wanted}
    with contextlib.ExitStack() as undo:
        for name, head in wanted:
            undo.callback(head.register_forward_hook(_hook(seen[name]), with_kwargs=True).remove)
        yield seen


def _hook(watched: Watched) -> Callable[..., None]:
    def hook(head: PoolingHead, args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor) -> None:
        for part, tensor in head.instances(*args, **kwargs).items():
            watched.calls.setdefault(part, []).append(tensor.clone())  # features may be those that the model goes on to change

    return hook
