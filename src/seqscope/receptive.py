"""Receptive fields: the first and the last input step that each step of a layer can see.

They are exact, and a matter of the model's structure and not of its trained weights: the model is run with a stand-in for every layer
whose `Reach` is known (see `stand_ins`), on an input of which some steps are raised (see `windows`), and what a layer's step answers
to is what it can see. Everything between the layers runs as it is, so branches, sums, padding and slices need no analysis.

The cost is about 100 rows of the data's length, at most one row for each input step. Beyond 512 steps, a window that reaches over
many hundred steps, yet neither from the first nor to the last, is not found.

After Araujo, Norris and Sim (2019), "Computing receptive fields of convolutional neural networks", Distill, who derive the same
numbers for convolution and pooling from formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqscope.axes import Reading
from seqscope.collect import Collected
from seqscope.errors import DataError, LayerError, ModelError
from seqscope.feed import Feed
from seqscope.labelled import TIME
from seqscope.probing import Probe
from seqscope.windows import Windows, find_windows

# Up to here every input step can have a row of its own.
_MOST_ROWS_ALONE = 512
# Input steps at which a claim about all of them is tried.
_N_TRIED = 16
_N_ON_CLOCK = 32
# Data with more different lengths than this is not gone through length by length.
_MOST_LENGTHS = 64


@dataclass(frozen=True)
class Field:
    """What each step of a layer can see of the input.

    Attributes
    ----------
    start, end : int array (step,)
        The first and the last input step.
    centre : float array (step,)
        The middle of what it sees without what memory and attention carry to it: the time at which it stands. At the borders as if the
        input went on.
    near : Windows
        What it sees without what memory and attention carry to it.
    n_steps : int
        The steps of the input.
    """

    start: np.ndarray
    end: np.ndarray
    centre: np.ndarray
    near: Windows
    n_steps: int

    @property
    def size(self) -> int | None:
        """The input steps that a step away from the borders sees; None where memory reaches on, or every step touches a border."""
        return None if self._carried_before or self._carried_after else self._near_size

    @property
    def stride(self) -> float | None:
        """The input steps from one step to the next; None where that differs, where all see all, or there is one step."""
        gaps = np.diff(self.centre)
        return float(gaps[0]) if gaps.size and gaps[0] and np.allclose(gaps, gaps[0]) else None

    @property
    def on_input_clock(self) -> bool:
        """Whether it has as many steps as the input, and each sees the input step of its own number, without memory's help."""
        steps = np.arange(self.n_steps)
        return len(self.start) == self.n_steps and bool(((self.near.start <= steps) & (steps <= self.near.end)).all())

    @property
    def seen(self) -> int | str | None:
        """The number of steps that a step sees, or "all", "all before", "all after"; None where the borders hide it."""
        sees_all = len(self.start) > 0 and not self.start.any() and bool((self.end == self.n_steps - 1).all())
        if sees_all and (self._carried_before or self._carried_after or self._near_size is None):
            return "all"
        if self._carried_before and not self._carried_after:
            return "all before"
        if self._carried_after and not self._carried_before:
            return "all after"
        return self.size

    @property
    def _carried_before(self) -> bool:
        return bool((self.start < self.near.start).any())

    @property
    def _carried_after(self) -> bool:
        return bool((self.end > self.near.end).any())

    @property
    def _near_size(self) -> int | None:
        sizes = self.near.end - self.near.start + 1
        inner = sizes[(self.near.start > 0) & (self.near.end < self.n_steps - 1)]
        if inner.size:
            return int(inner.max())
        return int(sizes[0]) if sizes.size and (sizes == sizes[0]).all() and sizes[0] < self.n_steps else None

    def shortened(self, n_steps: int, n_own: int) -> Field:
        """The same layer on a shorter input, of which it makes `n_own` steps, if all that changes is where the input ends."""

        def cut(windows: Windows) -> Windows:
            return Windows(windows.start[:n_own], np.minimum(windows.end[:n_own], n_steps - 1))

        all_seen = cut(Windows(self.start, self.end))
        return replace(self, start=all_seen.start, end=all_seen.end, centre=self.centre[:n_own], near=cut(self.near), n_steps=n_steps)


class Fields:
    """The receptive fields of a model's layers, found once for each length.

    Parameters
    ----------
    feed : Feed
    n_channels : int or None
        Of the input; None for tokens.
    """

    def __init__(self, feed: Feed, n_channels: int | None) -> None:
        self._feed, self._n_channels = feed, n_channels
        self._known: dict[tuple[str, int], Field | None] = {}
        self._on_clock: dict[str, int] = {}  # the longest input for which a layer was seen to be on the input's clock

    def at(self, n_steps: int, readings: Mapping[str, Reading]) -> dict[str, Field | None]:
        """The field of each layer on an input of this length; None where it has no steps, or where it can't be known."""
        fresh = {address: reading for address, reading in readings.items() if (address, n_steps) not in self._known}
        with_steps = {address: reading for address, reading in fresh.items() if TIME in reading.dims}
        found = self._find(n_steps, with_steps) if with_steps else {}
        self._known |= {(address, n_steps): found.get(address) for address in fresh}
        return {address: self._known[address, n_steps] for address in readings}

    def on_input_clock(self, n_steps: int, readings: Mapping[str, Reading]) -> dict[str, bool]:
        """Whether each layer, which has as many steps as the input, also has them where the input has them.

        That each step answers to its own input step is tried on some of them, which is cheap; the field is only asked for where it
        does not. Where nothing can be known, the number of steps is believed; and where each step is a run of the model.
        """
        if getattr(self._feed.engine, "runs_each_step", False):
            return dict.fromkeys(readings, True)
        fresh = {name: reading for name, reading in readings.items() if self._on_clock.get(name, 0) < min(n_steps, _N_TRIED)}
        if fresh:
            for name in self._answering(n_steps, fresh):
                self._on_clock[name] = n_steps
        doubtful = {name: readings[name] for name in fresh if name not in self._on_clock}
        fields = self.at(n_steps, doubtful)
        return {name: name not in fields or (field := fields[name]) is None or field.on_input_clock for name in readings}

    def in_short(self, n_steps: int, readings: Mapping[str, Reading]) -> dict[str, Field | None]:
        """The same as `at` for the size and stride of a field, which a long input is cut for where the model takes a shorter one."""
        if n_steps <= _MOST_ROWS_ALONE:
            return self.at(n_steps, readings)
        short = self.at(_MOST_ROWS_ALONE, readings)
        told = {name for name, field in short.items() if field is not None and field.seen not in (None, "all")}
        return short | self.at(n_steps, {name: reading for name, reading in readings.items() if name not in told})

    def by_length(self, steps: Mapping[int, int], address: str, reading: Reading) -> dict[int, Field] | None:
        """The field of one layer for inputs of several lengths; None where it can't be known for one of them.

        Parameters
        ----------
        steps : dict of int
            How many steps the layer makes of each length.
        """
        longest = self.at(max(steps), {address: reading})[address]
        if longest is None or len(longest.start) != steps[max(steps)]:
            return None
        cut = {n_steps: longest.shortened(n_steps, n_own) for n_steps, n_own in steps.items()}
        tried = {n_steps: self.at(n_steps, {address: reading})[address] for n_steps in _tried(list(steps))}
        if all(_agree(cut[n_steps], field) for n_steps, field in tried.items()):
            return cut
        if len(steps) > _MOST_LENGTHS:
            return None
        each = {n_steps: self.at(n_steps, {address: reading})[address] for n_steps in steps}
        known = {n_steps: field for n_steps, field in each.items() if field is not None and len(field.start) == steps[n_steps]}
        return known if len(known) == len(steps) else None

    def _answering(self, n_steps: int, readings: Mapping[str, Reading]) -> list[str]:
        """The layers of which each step that is tried answers to the input step of its number."""
        tried = np.arange(n_steps)
        if n_steps > _N_ON_CLOCK:
            tried = np.union1d([0, n_steps - 1], np.random.default_rng(0).choice(n_steps, _N_ON_CLOCK - 2, replace=False))
        try:
            moved = Probe(self._feed, self._n_channels, n_steps, readings).run(np.eye(n_steps, dtype=bool)[tried], readings)
        except _FAILURES:
            return []
        rows = np.arange(len(tried))
        return [name for name, own in moved.items() if own is not None and own.shape[1] == n_steps and own[rows, tried].all()]

    def _find(self, n_steps: int, readings: Mapping[str, Reading]) -> dict[str, Field | None]:
        """With stand-ins; where the model does not run with them, with its own weights."""
        for replaced in (True, False):
            try:
                return self._found(Probe(self._feed, self._n_channels, n_steps, readings, replaced=replaced))
            except _FAILURES:
                continue
        return {}

    def _found(self, probe: Probe) -> dict[str, Field | None]:
        near = find_windows(probe.run, probe.n_steps, probe.readings)
        everything = _with_memory(probe, near) if probe.has_memory else near
        fields: dict[str, Field | None] = {}
        for address, windows in everything.items():
            here = near[address] or windows  # a decoder's layers see nothing but what a state carries to them
            if windows is not None and here is not None:
                fields[address] = Field(windows.start, windows.end, _centre(here), here, probe.n_steps)
        return fields


def place_steps(
    fields: Fields, lengths: np.ndarray, readings: Mapping[str, Reading], found: Mapping[str, Collected]
) -> dict[str, dict[int, Field] | None]:
    """Say of values whether they are on the input's clock, and give what the steps of those see that are not, by the input's length.

    A value that has as many steps as the input, but not where the input has them, is marked as one that is not.
    """
    longest = int(lengths.max())
    alike = {name: readings[name] for name, value in found.items() if TIME in value.dims and value.on_input_clock}
    for name, here in fields.on_input_clock(longest, alike).items():
        found[name].on_input_clock = here
    own = {name: readings[name] for name, value in found.items() if TIME in value.dims and not value.on_input_clock}
    for n_steps in _tried(np.unique(lengths).tolist()) if own else ():  # all layers in one run
        fields.at(n_steps, own)
    return {name: fields.by_length(_steps_of(found[name], lengths), name, reading) for name, reading in own.items()}


def _tried(lengths: Sequence[int]) -> tuple[int, ...]:
    """The longest, the shortest and a middle length, at which what is said of all is tried."""
    ordered = sorted(lengths)
    return tuple(dict.fromkeys((ordered[-1], ordered[0], ordered[len(ordered) // 2])))


def _steps_of(found: Collected, lengths: np.ndarray) -> dict[int, int]:
    """How many steps a layer makes of each length: what comes behind them is NaN."""
    axis, longest = found.dims.index(TIME), int(lengths.max())
    steps = {longest: found.values.shape[axis]}
    for length, row in {int(length): row for row, length in enumerate(lengths)}.items():
        if length != longest:
            there = ~np.isnan(np.moveaxis(found.values[row], axis - 1, 0).reshape(steps[longest], -1)).all(1)
            steps[length] = int(there.nonzero()[0].max(initial=-1)) + 1
    return steps


# What a model may raise on an input, or with stand-ins, that it was not made for.
_FAILURES = (ModelError, DataError, LayerError)


def _agree(expected: Field, found: Field | None) -> bool:
    return found is not None and np.array_equal(expected.start, found.start) and np.array_equal(expected.end, found.end)


def _centre(near: Windows) -> np.ndarray:
    """The middle of each window; where those that no border cuts lie evenly, all on the line through them."""
    middle: np.ndarray = (near.start + near.end) / 2
    sizes, counts = np.unique(near.end - near.start, return_counts=True)
    if not sizes.size:
        return middle
    whole = np.flatnonzero(near.end - near.start == sizes[::-1][counts[::-1].argmax()])
    gaps = np.diff(middle[whole])
    if len(whole) < 2 or (np.diff(whole) > 1).any() or not np.allclose(gaps, gaps[0]):
        return middle
    line: np.ndarray = middle[whole[0]] + gaps[0] * (np.arange(len(middle)) - whole[0])
    return line


def _with_memory(probe: Probe, near: Mapping[str, Windows | None]) -> dict[str, Windows | None]:
    """The windows with what recurrent and attention layers carry from other steps.

    Such a layer mostly sees all steps before, or all after. So that is claimed where a step answers to the first input step, or to the
    last, or else to the first or the last that any of its steps sees alone; and tried: raising all steps before some step, or all from
    there on, must move just the steps that the claim says.
    """
    n_steps = probe.n_steps
    if n_steps <= 2 * _N_TRIED:
        return find_windows(probe.run_with_memory, n_steps, near, one_by_one=True)
    cuts = np.sort(np.random.default_rng(0).choice(np.arange(1, n_steps), _N_TRIED, replace=False))
    steps = np.arange(n_steps)
    rows = np.stack([steps == 0, steps == n_steps - 1, *(steps < cut for cut in cuts), *(steps >= cut for cut in cuts)])
    moved = probe.run_with_memory(rows, near)
    found = {name: _claimed(answers, near[name], cuts, n_steps) for name, answers in moved.items()}
    failed = [name for name, windows in found.items() if windows is None and moved[name] is not None]
    if failed and n_steps <= _MOST_ROWS_ALONE:
        found |= find_windows(probe.run_with_memory, n_steps, failed, one_by_one=True)
    return found


def _claimed(moved: np.ndarray | None, near: Windows | None, cuts: np.ndarray, n_steps: int) -> Windows | None:
    """What holds of the claims for one layer; None where none does."""
    if moved is None or moved.shape[1] == 0:
        return None if moved is None else near
    # where even a step's own window is too wide to be found, it may still see everything
    here = near or Windows(np.zeros(moved.shape[1], int), np.full(moved.shape[1], n_steps - 1))
    if len(here.start) != moved.shape[1] or (near is None and not moved[:2].all()):
        return None
    before, after = np.split(moved[2:], 2)
    starts = (np.where(moved[0], 0, here.start), np.full_like(here.start, here.start.min()))
    ends = (np.where(moved[1], n_steps - 1, here.end), np.full_like(here.end, here.end.max()))
    start = next((claim for claim in starts if (before == (claim < cuts[:, None])).all()), None)
    end = next((claim for claim in ends if (after == (claim >= cuts[:, None])).all()), None)
    return Windows(start, end) if start is not None and end is not None else None
