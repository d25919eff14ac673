"""What heads refuse, in the same words for every framework."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from seqscope.errors import ModelError, quoted

SIGMOID, SOFTMAX = "sigmoid", "softmax"
ATTENTION = (SIGMOID, SOFTMAX)


def whole(head: str, **numbers: Any) -> None:
    """Refuse sizes that are no whole numbers from 1 up.

    Raises
    ------
    ModelError
    """
    for name, number in numbers.items():
        if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
            raise ModelError(f"{head} was given {name}={number!r}: expected a whole number, 1 or more.")


def share(head: str, dropout: Any) -> None:
    """Refuse a dropout that is no share.

    Raises
    ------
    ModelError
    """
    if isinstance(dropout, bool) or not isinstance(dropout, Real) or not 0 <= float(dropout) < 1:
        raise ModelError(f"{head} was given dropout={dropout!r}: expected a share of the features, from 0 up to, and not, 1.")


def kind_of_attention(head: str, attention: Any) -> None:
    """Refuse weights of a kind that is not known.

    Raises
    ------
    ModelError
    """
    if attention not in ATTENTION:
        raise ModelError(f"{head} was given attention={attention!r}: expected one of {quoted(ATTENTION)}.")


def features(head: str, shape: Sequence[int | None], n_features: int | None, *, channels_first: bool = False) -> None:
    """Refuse what has no steps, or steps of other features than the head was made for.

    Parameters
    ----------
    shape : sequence of int or None
        None for sizes that are not known yet.
    n_features : int or None
        None: any.

    Raises
    ------
    ModelError
    """
    expected = "(sample, feature, time)" if channels_first else "(sample, time, feature)"
    given = f"of shape ({', '.join('any' if size is None else str(size) for size in shape)})"
    if len(shape) != 3:
        raise ModelError(
            f"{head} pools over time and was given a tensor {given}: expected {expected}. Put it before what takes the time axis away, "
            "such as a pooling over all steps, Flatten, or a recurrent layer that gives its last step alone."
        )
    time, feature = (2, 1) if channels_first else (1, 2)
    if shape[time] == 0:
        raise ModelError(f"{head} pools over time and was given a tensor {given}, {expected}, which has no step.")
    if n_features is not None and shape[feature] not in (None, n_features):
        other = shape[time] == n_features
        swap = f" Steps and features look swapped: say channels_first={not channels_first}, or transpose." if other else ""
        raise ModelError(f"{head} takes {n_features} features and was given a tensor {given}, {expected}.{swap}")


def ends(head: str, what: str, given: tuple[str, Sequence[int | None]], kinds: Sequence[str], expected: Sequence[int | None]) -> None:
    """Refuse lengths, or a mask, that do not fit the features.

    Parameters
    ----------
    what : str
        What it is.
    given : pair
        The type of its numbers and its shape.
    kinds, expected : sequence
        The types that it may have (what they begin with), and the shape that it has to have, None for sizes that are not known yet.

    Raises
    ------
    ModelError
    """
    kind, shape = given
    fits = len(shape) == len(expected) and all(None in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True))
    if not fits or not kind.startswith(tuple(kinds)):
        wanted, found = (f"({', '.join('any' if size is None else str(size) for size in sizes)})" for sizes in (expected, shape))
        raise ModelError(f"{head} takes {what} of shape {wanted} and of type {kinds[0]}, and was given {found} of type {kind}.")
