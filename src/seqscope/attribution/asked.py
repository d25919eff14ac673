"""What a person asks for, checked: the method with its options, and where, against what and with what memory it is to run."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqscope import ram
from seqscope.attribution import METHODS
from seqscope.attribution.method import Method
from seqscope.attribution.place import LAYER, MAPS
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
    absolute : bool
        Whether sizes are given in place of values.
    over : {"channel", "time"} or None
        What to sum over.
    """

    method: Method
    layer: str | None
    baseline: Any
    reference: Any
    seed: int
    memory: int
    absolute: bool
    over: str | None


def asked_for(
    method: Any,
    options: Mapping[str, Any],
    *,
    layer: Any,
    baseline: Any,
    reference: Any,
    seed: Any,
    memory: Any,
    absolute: Any,
    over: Any,
) -> Asked:
    """Check what was asked for.

    Raises
    ------
    DataError, UnsupportedError
    """
    made = method_of(method, options)
    if baseline is not None and hasattr(made, "fill"):
        if "fill" in options:
            raise DataError(
                f"Both fill={options['fill']!r} and baseline={baseline!r} were given, and for {made.name} they are one: say fill."
            )
        made, baseline = dataclasses.replace(made, fill=baseline), None  # type: ignore[type-var]
    if baseline is not None and not made.uses_baseline:
        raise UnsupportedError(f"{made.name} compares with nothing, so it takes no baseline.")
    if not isinstance(absolute, bool | np.bool):
        raise DataError(f"abs is {absolute!r}: expected True or False.")
    if over not in (None, "channel", "time") or not isinstance(over, str | None):
        raise DataError(f"reduce is {over!r}: expected 'channel' or 'time'.")
    if made.place in MAPS and (absolute or over):
        what = "a class activation map" if made.place == LAYER else f"what {made.name} gives"
        raise DataError(f"abs and reduce are for attributions by value: {what} has one value for each step already.")
    return Asked(made, layer, baseline, reference, _seed(seed), _bytes(memory), bool(absolute), over)


def _seed(seed: Any) -> int:
    """A seed as a number."""
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise DataError(f"The seed is {seed!r}: expected a whole number, 0 or more.")
    return number


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
            hint = f" {method.__name__}() makes one." if isinstance(method, type) and hasattr(method, "explain") else ""
            raise UnsupportedError(
                f"The method is {method!r}: expected a name, {quoted(METHODS, most=20)}, or one of seqscope.attribution.{hint}"
            )
        return dataclasses.replace(method, **_known(options, type(method))) if options else method  # type: ignore[no-any-return]
    if method not in METHODS:
        raise UnsupportedError(f"There is no method {method!r}: {nearest(method, METHODS)}.")
    kind = METHODS[method]
    if kind is not TemporalSaliencyRescaling:
        return kind(**_known(options, kind))  # type: ignore[no-any-return]
    own = {part.name for part in dataclasses.fields(kind)}
    inner = {name: value for name, value in options.items() if name not in own}
    around = {name: value for name, value in options.items() if name in own}
    return kind(of=method_of(around.pop("of", "gradient"), inner), **around)


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
    if not isinstance(memory, str):
        number = float(memory) if isinstance(memory, int | float | np.number) and not isinstance(memory, bool) else 0.0
    else:
        found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kMGT]?)i?B?\s*", memory, re.IGNORECASE)
        number = 0.0 if found is None else float(found[1]) * 1000 ** " kmgt".index(found[2].lower() or " ")
    if not 1 <= number < np.inf:
        raise DataError(f"memory is {memory!r}: expected a number of bytes, or a text such as '500MB' or '1GB'.")
    return int(number)
