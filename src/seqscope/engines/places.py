"""The tensors inside what a layer gives, by their place in it; and what an object has in place of its own for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def by_place(value: Any, tensor_of: Callable[[Any], Any | None], path: str = "") -> dict[str, Any]:
    """Every tensor in a nest of lists, tuples and dicts: under "" where there is one, else under "[0]", "[name]", "[0][1]".

    Parameters
    ----------
    tensor_of : function
        Gives the tensor that an object is, None where it is none.

    Examples
    --------
    >>> by_place({"a": [1, "text"], "b": 2}, lambda value: value if isinstance(value, int) else None)
    {'[a]': 1, '[b]': 2}
    """
    tensor = tensor_of(value)
    if tensor is not None:
        return {path: tensor}
    found: dict[str, Any] = {}
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return found
    for key, item in items:
        found |= by_place(item, tensor_of, f"{path}[{key}]")
    return {path: next(iter(found.values()))} if len(found) == 1 else found


@contextlib.contextmanager
def replaced(layer: Any, attribute: str, value: Any) -> Iterator[None]:
    """Give an object another attribute for a while, past a framework's own bookkeeping of attributes."""
    held = layer.__dict__.get(attribute, _ABSENT)
    layer.__dict__[attribute] = value
    try:
        yield
    finally:
        if held is _ABSENT:
            del layer.__dict__[attribute]
        else:
            layer.__dict__[attribute] = held


_ABSENT = object()
