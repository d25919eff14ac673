"""What several commands share in what is typed: written once, as a function whose parameters are the arguments and options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def stand_for(name: str, typed: Callable[..., Any], command: Callable[..., None], *, n_first: int = 0) -> Callable[..., None]:
    """A command in which the parameters of `typed` stand for one of its own, which gets what `typed` makes of them.

    The first `n_first` come before the command's other parameters, the rest behind them.
    """
    own = inspect.signature(command, eval_str=True).parameters
    more = [*inspect.signature(typed, eval_str=True).parameters.values()]
    names = [parameter.name for parameter in more]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        given = typed(**{one: values.pop(one) for one in names})
        command(**{name: given}, **values)

    others = [parameter for parameter in own.values() if parameter.name != name]
    shown = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*more[:n_first], *others, *more[n_first:])]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run
