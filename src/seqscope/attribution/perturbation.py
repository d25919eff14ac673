"""Attribution by hiding parts of the input and looking at the score: any engine can do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from seqscope.attribution.gradients import check_count
from seqscope.attribution.method import INPUT, Explained
from seqscope.attribution.run import Run
from seqscope.errors import DataError


@dataclass(frozen=True)
class Occlusion:
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
        (another sequence), or what `baseline=` takes.

    References
    ----------
    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2.
    """

    window: int = 1
    stride: int | None = None
    channels: str = "each"
    fill: Any = "zero"

    name: ClassVar[str] = "occlusion"
    place: ClassVar[str] = INPUT
    needs_gradient: ClassVar[bool] = False
    signed: ClassVar[bool] = True
    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("window", self.window)
        if self.stride is not None:
            check_count("stride", self.stride)
            if self.stride > self.window:
                raise DataError(f"stride is {self.stride} and the window {self.window}: steps in between would never be hidden.")
        if self.channels not in ("each", "all"):
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
class FeatureAblation:
    """How far the score falls where a group of values is hidden; every value of a group is given the whole of it.

    Attributes
    ----------
    groups : sequence of (channels, times), or int array (time, channel), optional
        `channels`: positions or names, one or several, None for all; `times`: a pair (start, stop) of steps, a slice, None for all. Or
        the number of the group that each value belongs to, -1 for none. Default: a group for each channel. A value of several groups
        is given their sum.
    fill
        As in `Occlusion`.
    """

    groups: Any = None
    fill: Any = "zero"

    name: ClassVar[str] = "feature_ablation"
    place: ClassVar[str] = INPUT
    needs_gradient: ClassVar[bool] = False
    signed: ClassVar[bool] = True
    uses_baseline: ClassVar[bool] = True

    def n_variants(self, n_steps: int, n_channels: int) -> int:
        """A row for each group."""
        if self.groups is None:
            return n_channels
        return len(self.groups) if not isinstance(self.groups, np.ndarray) else max(1, int(self.groups.max()) + 1)

    def explain(self, run: Run) -> Explained:
        """S(x) less the score with a group hidden."""
        masks = group_masks(self.groups, run.x.shape[1:], run.channels)
        return Explained(_drops(run, len(masks), lambda variant: masks[variant]))


def _drops(run: Run, n_masks: int, mask_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The sum over masks of how far the score falls, on the values that each hides.

    Parameters
    ----------
    mask_of : function of (row,)
        What masks of these numbers hide, bool (row, time, channel).
    """
    scores, fill = run.scores_at_x(), run.baseline(np.arange(len(run)), np.zeros(len(run), int))
    total = np.zeros(run.x.shape)
    for rows in run.rows(n_masks):
        hidden = mask_of(rows.variant)
        x = np.where(hidden, fill[rows.sample], run.x[rows.sample])
        drop = scores[rows.sample] - run.scores(x, rows)
        rows.add(total, hidden * drop.reshape(-1, *(1,) * (hidden.ndim - 1)))
    return total


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
    if isinstance(groups, np.ndarray):
        if groups.dtype.kind not in "iu" or groups.shape != tuple(shape):
            raise DataError(
                f"groups has shape {groups.shape} and type {groups.dtype}: expected whole numbers of shape {tuple(shape)}, (time, channel)."
            )
        return np.asarray(groups == np.unique(groups[groups >= 0]).reshape(-1, *(1,) * len(shape)))
    masks = []
    for group in groups:
        if not isinstance(group, tuple | list) or len(group) != 2:
            raise DataError(f"A group is {group!r}: expected a pair (channels, times), None for all of them.")
        mask = np.zeros(shape, bool)
        times = _stretch(group[1], shape[0])
        mask[times if len(shape) == 1 else np.ix_(np.arange(shape[0])[times], np.array(_channels(group[0], shape[1], names)))] = True
        masks.append(mask)
    return np.stack(masks)


def _stretch(times: Any, n_steps: int) -> slice:
    if times is None:
        return slice(None)
    if isinstance(times, slice):
        return times
    if isinstance(times, tuple | list) and len(times) == 2 and all(hasattr(step, "__index__") for step in times) and times[0] < times[1]:
        return slice(int(times[0]), min(int(times[1]), n_steps))
    raise DataError(f"The times of a group are {times!r}: expected a pair of steps (start, stop) with start < stop, a slice, or None.")


def _channels(wanted: Any, n_channels: int, names: Sequence[Any] | None) -> list[int]:
    if wanted is None:
        return list(range(n_channels))
    listed = list(wanted) if isinstance(wanted, list | tuple | np.ndarray | range) else [wanted]
    known = {name: place for place, name in enumerate(names or ())}
    found = [known.get(one, one) for one in listed]
    for place, one in zip(found, listed, strict=True):
        if not hasattr(place, "__index__") or isinstance(place, bool) or not 0 <= place < n_channels:
            raise DataError(f"There is no channel {one!r}: there are {n_channels}, {list(names or range(n_channels))[:12]}.")
    return [int(place) for place in found]
