"""What a person asks for, checked: the method with its options, and where, against what and with what memory it is to run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seqscope import ram
from seqscope.attribution import METHODS
from seqscope.attribution.method import LAYER, Method
from seqscope.attribution.temporal import TemporalSaliencyRescaling
from seqscope.errors import DataError, UnsupportedError, nearest, quoted


@dataclass(frozen=True)
class Asked:
    """What a person asked for, but for the data.

    Attributes
    ----------
    method : Method
    layer : str or None
    baseline, reference : as given
    seed : int
    memory : int
        Bytes that a batch may take.
    """

    method: Method
    layer: str | None
    baseline: Any
    reference: Any
    seed: int
    memory: int


def asked_for(method: Any, options: Mapping[str, Any], *, layer: Any, baseline: Any, reference: Any, seed: Any, memory: Any) -> Asked:
    """Check what was asked for.

    Raises
    ------
    DataError, UnsupportedError
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise DataError(f"The seed is {seed!r}: expected a whole number, 0 or more.")
    made = method_of(method, options)
    if baseline is not None and "fill" in {part.name for part in dataclasses.fields(made)}:  # type: ignore[arg-type]
        made, baseline = dataclasses.replace(made, fill=baseline), None  # type: ignore[type-var]
    if baseline is not None and not made.uses_baseline:
        raise UnsupportedError(f"{made.name} compares with nothing, so it takes no baseline.")
    return Asked(made, layer, baseline, reference, int(seed), _bytes(memory))


def method_of(method: Any, options: Mapping[str, Any]) -> Method:
    """A method by its name and options, or as it was given.

    Raises
    ------
    UnsupportedError
        There is no such method.
    DataError
        It has no such option.
    """
    if not isinstance(method, str):
        if not all(hasattr(method, name) for name in ("explain", "place", "needs_gradient")) or isinstance(method, type):
            raise UnsupportedError(f"The method is {method!r}: expected a name, {quoted(METHODS)}, or one of seqscope.attribution.")
        return dataclasses.replace(method, **_known(options, type(method))) if options else method  # type: ignore[no-any-return]
    if method not in METHODS:
        raise UnsupportedError(f"There is no method {method!r}: {nearest(method, METHODS)}.")
    kind = METHODS[method]
    if kind is not TemporalSaliencyRescaling:
        return kind(**_known(options, kind))  # type: ignore[no-any-return]
    own = {part.name for part in dataclasses.fields(kind)}
    inner = {name: value for name, value in options.items() if name not in own}
    around = {name: value for name, value in options.items() if name in own}
    of = method_of(around.pop("method", "gradient"), inner)
    if of.place == LAYER or isinstance(of, TemporalSaliencyRescaling):
        raise UnsupportedError(f"temporal_saliency_rescaling goes around a method at the input, and {of.name} is none.")
    return kind(method=of, **around)


def _known(options: Mapping[str, Any], kind: Any) -> Mapping[str, Any]:
    """The options, if the method has all of them."""
    fields = [part.name for part in dataclasses.fields(kind)]
    for name in options:
        if name not in fields:
            there = f"it has {quoted(fields)}" if fields else "it has none"
            raise DataError(f"{kind.name} has no option {name!r}: {there}.")
    return options


def _bytes(memory: Any) -> int:
    """A number of bytes, from a number or a text such as "1GB"; a quarter of what is free where nothing is said."""
    if memory is None:
        return max(64_000_000, (ram.available() or 4_000_000_000) // 4)
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kMGT]?)i?B?\s*", str(memory), re.IGNORECASE)
    if found is None or not float(found[1].strip(".") or 0):
        raise DataError(f"memory is {memory!r}: expected a number of bytes, or a text such as '500MB' or '1GB'.")
    return int(float(found[1]) * 1000 ** " kmgt".index(found[2].lower() or " "))
