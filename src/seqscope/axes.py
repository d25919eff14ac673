"""What the axes of a layer's value are: which follows the samples, which the time.

A recurrent or convolution layer says so by its kind. For all others the model is asked: where the batch gets more samples, the sample
axis gets longer; where the input gets longer, the time axis does; in a model of a fixed length, the time axis answers early to a
change of the first step and late to one of the last. What answers to nothing keeps a neutral name (`axis_1`): a neutral name is
honest, a wrong one is a bug.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from seqscope.engines.base import StandIn
from seqscope.errors import DataError, LayerError, ModelError
from seqscope.feed import N_MORE, N_TRIED, Feed, follows_samples, moved
from seqscope.labelled import CALL, SAMPLE, TIME, UNIT
from seqscope.randomness import state_kept
from seqscope.stand_ins import StandIns

# The model's own output among captured values.
OUTPUT_VALUE = ""


@dataclass(frozen=True)
class Reading:
    """How to bring a value into canonical order: sample, call, time, the rest.

    Attributes
    ----------
    dims : tuple of str
        The names of the axes of the value as the layer gives it, calls stacked in front where there are several, and a folded axis
        (samples and steps in one, as before a dense layer) taken apart. `time` is the layer's own clock.
    folded : int or None
        The axis that holds samples and steps in one.
    several_calls : bool
        Whether the calls of the layer are stacked in front.
    """

    dims: tuple[str, ...]
    folded: int | None = None
    several_calls: bool = False

    @property
    def order(self) -> tuple[str, ...]:
        """The names in canonical order."""
        first = [dim for dim in (SAMPLE, CALL, TIME) if dim in self.dims]
        return (*first, *(dim for dim in self.dims if dim not in first))

    def apply(self, calls: Sequence[np.ndarray], n_samples: int) -> np.ndarray:
        """Give the value of a batch in canonical order: a view where the layer was called once."""
        value = np.stack(calls) if self.several_calls and len(calls) == 1 else stacked(calls)
        if self.folded is not None:
            value = _unfold(value, self.folded, n_samples, sample_first=self.dims[self.folded] == SAMPLE)
        if value.ndim != len(self.dims):
            raise LayerError(f"gave a value of shape {value.shape} for {n_samples} samples, and one with axes {self.dims} before")
        return value.transpose([self.dims.index(dim) for dim in self.order])


def stacked(calls: Sequence[np.ndarray]) -> np.ndarray:
    """The calls of a layer in one array, the call first; the value itself where there is one call.

    Raises
    ------
    LayerError
        The calls gave values of different shapes.
    """
    if len(calls) == 1:
        return calls[0]
    if len({call.shape for call in calls}) > 1:
        shapes = ", ".join(str(call.shape) for call in calls[:4])
        raise LayerError(f"was called {len(calls)} times in one pass and gave values of different shapes ({shapes})")
    return np.stack(calls)


def _unfold(value: np.ndarray, axis: int, n_samples: int, *, sample_first: bool) -> np.ndarray:
    """Take one axis apart into samples and the rest."""
    if value.shape[axis] % n_samples:
        raise LayerError(f"gives {value.shape[axis]} rows for {n_samples} sequences, in which the samples can't be told apart")
    pair = (n_samples, -1) if sample_first else (-1, n_samples)
    return value.reshape(*value.shape[:axis], *pair, *value.shape[axis + 1 :])


def read_axes(feed: Feed, values: np.ndarray, wanted: Sequence[str]) -> dict[str, Reading | LayerError]:
    """Read the axes of layers' values.

    Parameters
    ----------
    values : array (sample, time, channel) or (sample, time)
        Data of the kind that the model takes; a few rows are enough.
    wanted : sequence of str
        The layers to read; `OUTPUT_VALUE` for the model's own output.

    Returns
    -------
    dict
        A `Reading` for every value seen, or the error that asking for it would raise.
    """
    probe = _Probe(feed, values, [name for name in wanted if name != OUTPUT_VALUE])
    refused = probe.refused  # for this input: what never ran may run at another length that is tried below
    known = {name: layer.native_dims for name, layer in feed.engine.by_name.items()} | dict(probe.dims)
    readings: dict[str, Reading | LayerError] = {}
    for address, calls in probe.base.items():
        if address == OUTPUT_VALUE and address not in wanted:
            continue
        try:
            dims = known.get(address)
            readings[address] = _by_kind(dims, calls, probe.n_steps) or _with_steps_of_its_own(probe.read(address), dims)
        except LayerError as error:
            readings[address] = error
    return readings | {name: LayerError(reason) for name, reason in refused.items()}


def _by_kind(dims: tuple[str, ...] | None, calls: Sequence[np.ndarray], n_steps: int) -> Reading | None:
    """Trust the kind where the sizes bear it out and nothing else has the same size."""
    if dims is None or any(call.ndim != len(dims) for call in calls):
        return None
    shape = dict(zip(dims, calls[0].shape, strict=True))
    if TIME not in shape and shape[SAMPLE] == N_TRIED:  # attention: nothing else than its kind tells queries from keys
        return Reading(dims) if len(calls) == 1 else Reading((CALL, *dims), several_calls=True)
    if TIME not in shape or len(calls) != 1:
        return None
    told_apart = len({shape[SAMPLE], shape[TIME], shape[UNIT]}) == 3
    return Reading(dims) if told_apart and shape[SAMPLE] == N_TRIED and shape[TIME] == n_steps else None


def _with_steps_of_its_own(reading: Reading, dims: tuple[str, ...] | None) -> Reading:
    """Trust the kind where no axis follows the input's time and the samples are where it says: a decoder's steps, say."""
    untold = TIME not in reading.dims and any(dim.startswith("axis_") for dim in reading.dims)
    fits = dims is not None and len(dims) == len(reading.dims) and dims.index(SAMPLE) == reading.dims.index(SAMPLE)
    return Reading(dims) if untold and fits and dims is not None and reading.folded is None else reading


class _Probe:
    """The values of a small batch, and what they become when a sample, a step or the length is changed."""

    def __init__(self, feed: Feed, values: np.ndarray, capture: Sequence[str]) -> None:
        self._feed, self._capture = feed, capture
        self._batch = _small_batch(values)
        self.refused: Mapping[str, str] = {}
        self.dims: Mapping[str, tuple[str, ...]] = {}
        self.base = self._run(self._batch)
        if self.n_steps == 1 and (longer := self._tiled(_LONGER)) is not None:  # in one step, steps can't be told from calls
            self._batch, self.base = longer

    @property
    def n_steps(self) -> int:
        """The length of the small batch."""
        return int(self._batch.shape[1])

    def read(self, address: str) -> Reading:
        """Read the axes of one value from how it answers.

        Raises
        ------
        LayerError
            No axis follows the samples, or the calls of the layer can't be put side by side.
        """
        several_calls = len(self.base[address]) > 1
        runs = {name: None if run is None or address not in run else stacked(run[address]) for name, run in self._runs.items()}
        reading, answers = _find_samples(_Answers(base=stacked(self.base[address]), **runs))
        if SAMPLE not in reading.dims:
            raise LayerError(f"gives values of shape {answers.base.shape} for {N_TRIED} samples, in which no axis follows the samples")
        return _find_time(replace(reading, several_calls=several_calls), answers, self.n_steps)

    def _run(self, batch: np.ndarray, instead: Mapping[str, StandIn] | None = None) -> _Values:
        with state_kept():  # so that a model which draws noise draws the same in every run
            forward = self._feed.forward(batch, self._capture, instead=instead)
        self.refused, self.dims = forward.refused, self.dims or forward.dims
        return {OUTPUT_VALUE: [forward.output], **forward.captured}

    @cached_property
    def _runs(self) -> dict[str, _Values | None]:
        """The changed batches, run once, when the first value needs them."""
        batch = self._batch
        sample = np.zeros(batch.shape[:2], bool)
        sample[1] = True
        more = np.concatenate([batch, _change(batch, np.ones(batch.shape[:2], bool))])[:N_MORE]
        runs: dict[str, _Values | None] = {"sample": self._run(_change(batch, sample)), "more": self._run(more)}
        runs["resized"] = self._resized()
        if runs["resized"] is None:
            runs.update(self._ends_changed())
        return runs

    def _ends_changed(self) -> dict[str, _Values]:
        """What a change of the first steps moves, and one of the last steps: all that they can, where stand-ins pass on all they see."""
        early, late = (np.zeros(self._batch.shape[:2], bool) for _ in range(2))
        part = max(1, self.n_steps // 8)  # a few steps: convolutions and pooling may leave the very last ones out
        early[:, :part], late[:, -part:] = True, True
        changed = {"early": _change(self._batch, early), "late": _change(self._batch, late)}
        stand_ins = StandIns(self._feed.engine.by_name, memory=True)
        try:
            plain = self._run(self._batch, stand_ins.begin(is_plain=True))
            return {"plain": plain} | {name: self._run(batch, stand_ins.begin(is_plain=False)) for name, batch in changed.items()}
        except (ModelError, DataError, LayerError):  # a model that does not bear them: as it is
            return {"plain": self.base} | {name: self._run(batch) for name, batch in changed.items()}

    def _resized(self) -> _Values | None:
        """Run a longer batch, or a shorter one; a model of a fixed length runs on neither."""
        for n_steps in (self.n_steps + max(_LONGER, self.n_steps // 2), self.n_steps // 2):
            if n_steps and (run := self._tiled(n_steps)) is not None:
                return run[1]
        return None

    def _tiled(self, n_steps: int) -> tuple[np.ndarray, _Values] | None:
        """The small batch repeated to another length, and what the model gives for it, if it takes that length."""
        batch = self._batch[:, np.arange(n_steps) % self.n_steps]
        try:
            return batch, self._run(batch)
        except (ModelError, DataError):
            return None


# Steps by which a longer batch is longer, at least.
_LONGER = 4

_Values = dict[str, list[np.ndarray]]


def _small_batch(values: np.ndarray) -> np.ndarray:
    """Three real sequences, or one three times with seeded noise of the data's own spread on it, so that no two are equal."""
    rows = values[np.arange(N_TRIED) % len(values)]
    return _change(rows, np.ones(rows.shape[:2], bool)) if len(values) < N_TRIED else rows.copy()


def _change(batch: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Change the steps marked (sample, time): noise of one standard deviation, or other tokens out of the same data."""
    random = np.random.default_rng(0)
    changed = batch.copy()
    if batch.ndim == 2:
        ids = np.unique(batch)
        place = np.searchsorted(ids, batch) + random.integers(1, max(2, len(ids)), batch.shape)
        other = ids[place % len(ids)] if len(ids) > 1 else np.where(batch > 0, batch - 1, 0)
        changed[where] = other[where]
        return changed
    spread = batch.std(axis=(0, 1))
    noise = random.standard_normal(batch.shape) * np.where(spread > 0, spread, 1.0)
    changed[where] += noise[where].astype(batch.dtype)
    return changed


@dataclass(frozen=True)
class _Answers:
    """One layer's value on the small batch, and what it became as one thing or another changed.

    Attributes
    ----------
    base : array
    sample : array or None
        After a change of one sample.
    more, resized : array or None
        For more samples, for another length.
    plain, early, late : array or None
        Where the model takes no other length: with stand-ins for its layers, and then after a change of the first steps, of the last.
    """

    base: np.ndarray
    sample: np.ndarray | None
    more: np.ndarray | None
    resized: np.ndarray | None
    plain: np.ndarray | None = None
    early: np.ndarray | None = None
    late: np.ndarray | None = None

    def unfolded(self, axis: int, *, sample_first: bool) -> _Answers:
        """The same with samples and steps taken apart in one axis."""
        there = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None and item.name != "more"}
        return replace(self, **{name: _unfold(value, axis, N_TRIED, sample_first=sample_first) for name, value in there.items()})

    @property
    def resized_axes(self) -> list[int]:
        """The axes that got another size when the input got another length."""
        if self.resized is None or self.resized.ndim != self.base.ndim:
            return []
        return [axis for axis in range(self.base.ndim) if self.base.shape[axis] != self.resized.shape[axis]]

    def moved(self, changed: np.ndarray | None, axis: int) -> np.ndarray:
        """Which positions along an axis answered to a change; none where the change altered the shape."""
        before = self.base if changed is self.sample else self.plain
        if changed is None or before is None or changed.shape != self.base.shape or before.shape != self.base.shape:
            return np.zeros(self.base.shape[axis], bool)
        return moved(before, changed, axis)


def _find_samples(answers: _Answers) -> tuple[Reading, _Answers]:
    """Find the axis that follows the samples, taking a folded one apart; all other axes stay nameless ("")."""
    shape, more = answers.base.shape, answers.more
    for axis, size in enumerate(shape):
        if more is None or not follows_samples(answers.base, more, axis):
            continue
        before, after = ("",) * axis, ("",) * (len(shape) - axis - 1)
        where, per_sample = np.flatnonzero(answers.moved(answers.sample, axis)), size // N_TRIED
        if per_sample == 1 and set(where) <= {1}:  # nothing answers in a layer that is dead
            return Reading((*before, SAMPLE, *after)), answers
        if where.size and (where // per_sample == 1).all():
            return Reading((*before, SAMPLE, "", *after), folded=axis), answers.unfolded(axis, sample_first=True)
        if where.size and (where % N_TRIED == 1).all():
            return Reading((*before, "", SAMPLE, *after), folded=axis), answers.unfolded(axis, sample_first=False)
    return Reading(("",) * len(shape)), answers


def _find_time(reading: Reading, answers: _Answers, n_steps: int) -> Reading:
    """Name the time axis and, of what is left, the units; neutral names where several axes are left."""
    dims = list(reading.dims)
    left = [axis for axis, dim in enumerate(dims) if not dim]
    clock = _clock(answers, left, n_steps, several_calls=reading.several_calls)
    if clock is not None:
        dims[clock] = TIME
        left.remove(clock)
    if reading.several_calls and 0 in left:
        dims[0] = CALL
        left.remove(0)
    if len(left) == 1 and left[0] not in answers.resized_axes:
        dims[left[0]] = UNIT
    return replace(reading, dims=tuple(dim or f"axis_{axis}" for axis, dim in enumerate(dims)))


def _clock(answers: _Answers, left: Sequence[int], n_steps: int, *, several_calls: bool) -> int | None:
    """The axis that follows the time, if just one does."""
    shape = answers.base.shape
    resized = [axis for axis in answers.resized_axes if axis in left]
    features = [axis for axis in left if not (several_calls and axis == 0)]
    if answers.resized is not None:  # several follow the length in attention; none does after pooling over time
        flattened = len(features) == 1 and resized == features and shape[resized[0]] > n_steps  # steps and units in one
        return resized[0] if len(resized) == 1 and not flattened else None
    answering = [axis for axis in left if _answers_in_order(answers, axis)]
    if len(features) == 1 or len(answering) > 1:  # too little to tell time from units, unless it has the input's own length
        answering = [axis for axis in answering if shape[axis] == n_steps]
    return answering[0] if len(answering) == 1 else None


def _answers_in_order(answers: _Answers, axis: int) -> bool:
    """Whether the first steps move the axis from its beginning, the last ones to its end, and not both the whole of it.

    There may be holes, as dilation makes them.
    """
    first, last = answers.moved(answers.early, axis), answers.moved(answers.late, axis)
    if not (first[0] and last[-1]) or (first.all() and last.all()):
        return False
    return bool(np.flatnonzero(first).mean() < np.flatnonzero(last).mean())
