"""The logits of a torch module that ends in a softmax or sigmoid: of a module, a function or a method, whichever it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from seqscope.engines.torch_state import version_of
from seqscope.errors import UnsupportedError

# Functions that are looked through, by the names that torch has for them, and what they are called in full.
_SQUASHING = {
    "softmax": "softmax",
    "special_softmax": "softmax",
    "log_softmax": "log_softmax",
    "special_log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "special_expit": "sigmoid",
    "logsigmoid": "log_sigmoid",
    "log_sigmoid": "log_sigmoid",
}
# Functions between a probability and its logarithm, and what they are looked through on top of.
_LOGARITHMS = {"exp": ("log_softmax", "log_sigmoid"), "log": ("softmax", "sigmoid")}
# Functions that join several tensors: looked through where all of those are.
_JOINING = {"stack", "cat", "concat", "concatenate", "hstack", "vstack", "column_stack"}
# Functions of one tensor that only put it in another form: done again on the logits.
_REARRANGING = {
    "view", "view_as", "reshape", "reshape_as", "flatten", "ravel", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "movedim",
    "swapaxes", "swapdims", "t", "T", "mT", "contiguous", "clone", "__getitem__", "select", "narrow", "index_select", "flip", "expand",
    "expand_as", "to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda",
}  # fmt: skip
_WATCHED = {*_SQUASHING, *_REARRANGING, *_LOGARITHMS, *_JOINING}
# Where a value that nudges were added to keeps what it was before.
_UNCHANGED = "_seqscope_unchanged"


def remember_unchanged(changed: Tensor, value: Tensor) -> Tensor:
    """Let a watch see, of a value that nudges were added to, what it was before."""
    setattr(changed, _UNCHANGED, (value, version_of(changed)))
    return changed


@dataclass(frozen=True)
class _Made:
    """A tensor, and the call that made it.

    The versions are those after the call: what was written into since is another value than the call gave, or was given.
    """

    tensor: Tensor
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    version: int | None
    source_version: int

    @property
    def source(self) -> Any:
        return _first(self.args, self.kwargs)

    @property
    def is_as_made(self) -> bool:
        return self.version == version_of(self.tensor)

    @property
    def source_is_as_taken(self) -> bool:
        return self.source_version == _version(self.source)

    def again(self, source: Any) -> Tensor:
        """The same call on another tensor."""
        kwargs = {name: value for name, value in self.kwargs.items() if name not in _FIRST}
        result: Tensor = self.function(source, *self.args[1:], **kwargs)
        return result


# The names of what a function is called on.
_FIRST = ("input", "self", "tensors")


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else next((kwargs[name] for name in _FIRST if name in kwargs), None)


def _version(source: Any) -> int:
    """How often a tensor, or a list of them, was written into."""
    parts = source if isinstance(source, list | tuple) else [source]
    return sum(version_of(part) or 0 for part in parts if isinstance(part, Tensor))


def _name_of(function: Callable[..., Any]) -> str:
    """What torch calls a function; of a property what that is called."""
    name = str(getattr(function, "__name__", "")).partition(".")[0]  # of an operation in its exact form "softmax.int"
    return str(getattr(getattr(function, "__self__", None), "__name__", "")) if name == "__get__" else name


class LogitWatch(TorchFunctionMode):
    """While a model runs: remembers what softmax and its like were called on."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, _Made] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, and remember the call where it may be one of the last."""
        kwargs = kwargs or {}
        name = _name_of(function)
        if name == "sigmoid_" and isinstance(_first(args, kwargs), Tensor):  # which writes over what it was called on
            before = _first(args, kwargs).clone()
            result = function(*args, **kwargs)
            self._remember(result, name, function, (before,), {})
            return result
        result = function(*args, **kwargs)
        if name in _WATCHED and isinstance(result, Tensor):
            self._remember(result, name, function, tuple(args), kwargs)
        return result

    def _remember(self, result: Tensor, name: str, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if result is not _first(args, kwargs):  # else nothing was done, and what made it is known already
            self._made[id(result)] = _Made(result, name, function, args, kwargs, version_of(result), _version(_first(args, kwargs)))

    def before(self, output: Any) -> tuple[Tensor, str] | None:
        """The logits of an output, in its form, and the function that they went into; None where it did not come out of one.

        Raises
        ------
        UnsupportedError
            The layer that is asked about comes after the logits.
        """
        made = self._made.get(id(output))
        if made is None:
            self._refuse_what_comes_after(output)
            return None
        if not made.is_as_made or not made.source_is_as_taken:
            return None
        source = made.source
        if made.name in _SQUASHING:
            return (source, _SQUASHING[made.name]) if isinstance(source, Tensor) else None
        if made.name in _JOINING:
            return self._before_all(made, source)
        found = self.before(source) if isinstance(source, Tensor) else None
        if found is None or found[1] not in _LOGARITHMS.get(made.name, (found[1],)):
            return None
        return found if made.name in _LOGARITHMS else (made.again(found[0]), found[1])

    def _refuse_what_comes_after(self, output: Any) -> None:
        """Refuse a layer that gives what would be looked through."""
        unchanged, version = vars(output).get(_UNCHANGED, (None, None)) if isinstance(output, Tensor) else (None, None)
        found = self.before(unchanged) if unchanged is not None and version == version_of(output) else None
        if found is not None:
            raise UnsupportedError(
                f"The score is the logit, from before the {found[1]}, and does not depend on the layer, which comes after it: ask for the "
                "layer that gives the logits."
            )

    def _before_all(self, made: _Made, sources: Any) -> tuple[Tensor, str] | None:
        """The logits of several outputs, joined as these were."""
        found = [self.before(source) for source in sources] if isinstance(sources, list | tuple) else []
        logits = [one[0] for one in found if one is not None]
        through = {one[1] for one in found if one is not None}
        return (made.again(logits), through.pop()) if len(logits) == len(found) and len(through) == 1 else None
