"""Attribution by hiding parts of the input and looking at the score: any engine can do it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from seqscope.attribution.gradients import check_count
from seqscope.attribution.method import INPUT, Explained, Method
from seqscope.attribution.run import Run
from seqscope.errors import DataError, nearest, quoted
from seqscope.intake import as_array


@dataclass(frozen=True)
class Occlusion(Method):
    """How far the score falls where a window of the input is hidden, in the mean over the windows that cover a value.

    Attributes
    ----------
    window : int
        Steps that are hidden together; a sequence that is shorter is hidden whole.
    stride : int or None
        Steps from one window to the next; default: half a window, at least 1. The last window may be cut by the end.
    channels : {"each", "all"}
        Whether a window hides one channel or all of them.
    fill : str, float or array
        What stands in the window: "zero", "mean" (of the channel), "blur", "noise" (values of the channel drawn from the data), "swap"
        (another sequence), or what `baseline=` takes; of several, the mean.

    References
    ----------
    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2.

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "occlusion", window=5, fill="mean").dims
    ('time', 'channel')
    """

    window: int = 1
    stride: int | None = None
    channels: str = "each"
    fill: Any = "zero"

    name: ClassVar[str] = "occlusion"
    place: ClassVar[str] = INPUT
    needs_gradient: ClassVar[bool] = False
    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("window", self.window)
        if self.stride is not None:
            check_count("stride", self.stride)
            if self.stride > self.window:
                raise DataError(f"stride is {self.stride} and the window {self.window}: steps in between would never be hidden.")
        if not isinstance(self.channels, str) or self.channels not in ("each", "all"):
            raise DataError(f"channels is {self.channels!r}: expected 'each' (one at a time) or 'all' (together).")

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """A row for each window, and channel."""
        return len(self._starts(n_steps)) * (n_channels if self.channels == "each" else 1)

    def _starts(self, n_steps: int) -> np.ndarray:
        stride = self.stride or max(1, self.window // 2)
        return np.arange(-(-max(n_steps - self.window, 0) // stride) + 1) * stride

    def explain(self, run: Run) -> Explained:
        """S(x) less the score with a window hidden."""
        n_steps, starts = run.x.shape[1], self._starts(run.x.shape[1])
        windows = (starts[:, None] <= np.arange(n_steps)) & (np.arange(n_steps) < starts[:, None] + self.window)
        covered = windows.sum(0)
        if run.x.ndim == 2:
            return Explained(_drops(run, len(starts), lambda variant: windows[variant]) / covered)
        n_channels = run.x.shape[2]
        if self.channels == "all":
            total = _drops(run, len(starts), lambda variant: np.repeat(windows[variant][:, :, None], n_channels, axis=2))
        else:
            one = np.eye(n_channels, dtype=bool)
            total = _drops(
                run,
                len(starts) * n_channels,
                lambda variant: windows[variant // n_channels][:, :, None] & one[variant % n_channels][:, None, :],
            )
        return Explained(total / covered[:, None])


@dataclass(frozen=True)
class FeatureAblation(Method):
    """How far the score falls where a group of values is hidden; every value of a group is given the whole of it.

    Attributes
    ----------
    groups : sequence of (channels, times), or int array (time, channel), optional
        `channels`: one or several, an integer is a position and anything else a name, None for all; `times`: a pair (start, stop) of
        steps, a slice, None for all. Or the number of the group that each value belongs to, -1 for none; sequences shorter than that
        have its beginning. Default: a group for each channel. A value of several groups is given their sum.
    fill
        As in `Occlusion`.

    References
    ----------
    Covert, Lundberg and Lee 2021, "Explaining by Removing: A Unified Framework for Model Explanation".

    Examples
    --------
    >>> import seqscope as sq
    >>> X, y = sq.datasets.japanese_vowels("test")
    >>> sq.Scope(sq.zoo.japanese_vowels()).attribute(X[0], "feature_ablation").dims
    ('time', 'channel')
    """

    groups: Any = None
    fill: Any = "zero"

    name: ClassVar[str] = "feature_ablation"
    place: ClassVar[str] = INPUT
    needs_gradient: ClassVar[bool] = False
    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.groups is None or _is_array(self.groups):
            return
        if not isinstance(self.groups, list | tuple) or not self.groups:
            raise DataError(
                f"groups is {self.groups!r}: expected a list of pairs (channels, times), or an array with the number of each value's group."
            )

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """A row for each group."""
        if self.groups is None:
            return n_channels
        return len(_numbers(as_array(self.groups)) if _is_array(self.groups) else self.groups)

    def explain(self, run: Run) -> Explained:
        """S(x) less the score with a group hidden."""
        masks = group_masks(self.groups, run.x.shape[1:], run.channels)
        return Explained(_drops(run, len(masks), lambda variant: masks[variant]))


def _drops(run: Run, n_masks: int, mask_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The sum over masks of how far the score falls, on the values that each hides; in the mean over what may stand there.

    Parameters
    ----------
    mask_of : function of (row,)
        What masks of these numbers hide, bool (row, time, channel).
    """
    scores, total = run.scores_at_x(), np.zeros(run.x.shape)
    for which in range(run.n_baselines):
        fill = run.baseline(np.arange(len(run)), np.full(len(run), which))
        for rows in run.rows(n_masks):
            hidden = mask_of(rows.variant)
            x = np.where(hidden, fill[rows.sample], run.x[rows.sample])
            drop = scores[rows.sample] - run.scores(x, rows)
            rows.add(total, hidden * drop.reshape(-1, *(1,) * (hidden.ndim - 1)))
    return total / run.n_baselines


def group_masks(groups: Any, shape: Sequence[int], names: Sequence[Any] | None) -> np.ndarray:
    """The values of each group, (group, time, channel).

    Parameters
    ----------
    groups
        As in `FeatureAblation`.
    shape : (time, channel), or (time) of tokens
    names : sequence or None
        The channels' names.

    Raises
    ------
    DataError
        A group names what is not there, or is no group.
    """
    if groups is None:
        return np.ones((1, *shape), bool) if len(shape) == 1 else np.eye(shape[1], dtype=bool)[:, None, :].repeat(shape[0], 1)
    if _is_array(groups):
        return _numbered(as_array(groups), shape)
    masks = []
    for group in groups:
        if not isinstance(group, tuple | list) or len(group) != 2:
            raise DataError(f"A group is {group!r}: expected a pair (channels, times), None for all of them.")
        mask = np.zeros(shape, bool)
        times = np.arange(shape[0])[_stretch(group[1])]
        if len(shape) > 1:
            mask[np.ix_(times, _channels(group[0], shape[1], names))] = True
        elif group[0] is None:
            mask[times] = True
        else:
            raise DataError(f"A group has the channels {group[0]!r}, and tokens have none: expected (None, times).")
        masks.append(mask)
    return np.stack(masks)


def _is_array(groups: Any) -> bool:
    """Whether it is an array of any kind."""
    return hasattr(groups, "shape") and hasattr(groups, "dtype")


def _numbers(numbered: np.ndarray) -> np.ndarray:
    """The numbers of the groups, -1 left out."""
    return np.unique(numbered[numbered >= 0]) if numbered.dtype.kind in "iu" else np.zeros(0, int)


def _numbered(numbered: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Masks from the number of each value's group; a sequence may be shorter than the array."""
    fits = numbered.ndim == len(shape) and numbered.shape[1:] == tuple(shape[1:]) and len(numbered) >= shape[0]
    if numbered.dtype.kind not in "iu" or not fits:
        axes = "(time, channel)" if len(shape) > 1 else "(time)"
        raise DataError(
            f"groups has shape {numbered.shape} and type {numbered.dtype}: expected whole numbers of shape {tuple(shape)}, {axes}."
        )
    numbers = _numbers(numbered)
    if not numbers.size:
        raise DataError("groups holds no group: expected a number from 0 for the values of each, -1 for those of none.")
    return np.asarray(numbered[: shape[0]] == numbers.reshape(-1, *(1,) * len(shape)))


def _stretch(times: Any) -> slice:
    """Steps as a slice, which ends with the sequence."""
    if times is None:
        return slice(None)
    parts = (times.start, times.stop, times.step) if isinstance(times, slice) else ()
    if parts and times.step != 0 and all(part is None or _is_whole(part) for part in parts):
        return slice(*parts)
    if isinstance(times, tuple | list) and len(times) == 2 and all(map(_is_whole, times)) and 0 <= times[0] < times[1]:
        return slice(int(times[0]), int(times[1]))
    raise DataError(
        f"The times of a group are {times!r}: expected a pair of steps (start, stop) with 0 <= start < stop, a slice, or None for all."
    )


def _channels(wanted: Any, n_channels: int, names: Sequence[Any] | None) -> np.ndarray:
    """Positions of channels."""
    if wanted is None:
        return np.arange(n_channels)
    listed = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) and getattr(wanted, "ndim", 1) != 0 else [wanted]
    if not listed:
        raise DataError("A group has no channel: name some, or say None for all of them.")
    return np.array([_channel(one, n_channels, list(names or ())) for one in listed])


def _channel(one: Any, n_channels: int, names: list[Any]) -> int:
    """Where a channel is: an integer is a position, anything else a name."""
    if _is_whole(one):
        if 0 <= int(one) < n_channels:
            return int(one)
        called = f", named {quoted(map(str, names))}" if names and names != list(range(n_channels)) else ""
        raise DataError(f"There is no channel {int(one)}: there are {n_channels}, at positions 0 to {n_channels - 1}{called}.")
    if isinstance(one, Hashable) and not isinstance(one, bool | np.bool) and one in names:
        return names.index(one)
    raise DataError(f"There is no channel {one!r}: {nearest(str(one), map(str, names))}.")


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool | np.bool) and not np.ndim(value)
