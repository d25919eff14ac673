"""The logits of a torch module that ends in a softmax or sigmoid: of a module, a function or a method, whichever it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

# Functions that are looked through, by the names that torch has for them, and what they are called in full.
_SQUASHING = {
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "special_expit": "sigmoid",
    "logsigmoid": "log_sigmoid",
}
# Functions of one tensor that only put it in another form: done again on the logits.
_REARRANGING = {
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "permute", "movedim", "swapaxes", "contiguous", "clone",
    "__getitem__", "select", "narrow", "to", "float", "double", "expand", "unflatten", "t", "mT",
}  # fmt: skip


@dataclass(frozen=True)
class _Made:
    """A tensor, and the call that made it."""

    tensor: Tensor
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def source(self) -> Any:
        return self.args[0] if self.args else self.kwargs.get("input")

    def again(self, source: Tensor) -> Tensor:
        """The same call on another tensor."""
        kwargs = {name: value for name, value in self.kwargs.items() if name != "input"}
        result: Tensor = self.function(source, *self.args[1:], **kwargs)
        return result


class LogitWatch(TorchFunctionMode):
    """While a model runs: remembers what softmax and its like were called on."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, _Made] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, and remember the call where it may be one of the last."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", "")
        if (name in _SQUASHING or name in _REARRANGING) and isinstance(result, Tensor):
            self._made[id(result)] = _Made(result, name, function, args, kwargs)
        return result

    def before(self, output: Any) -> tuple[Tensor, str] | None:
        """The logits of an output, in its form, and the function that they went into; None where it did not come out of one."""
        made = self._made.get(id(output))
        if made is None or not isinstance(made.source, Tensor):
            return None
        if made.name in _SQUASHING:
            return made.source, _SQUASHING[made.name]
        found = self.before(made.source)
        return None if found is None else (made.again(found[0]), found[1])
