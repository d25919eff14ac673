"""Find the first and the last input step that moves each step of a layer, by raising many input steps at once.

Raised alone, each input step would need a row of its own. So they are raised in groups: the steps are cut into half-blocks of H, and
a window that reaches over two neighbouring half-blocks at most is located by the bits of their numbers (even and odd half-blocks
apart, so that a window meets one of each at most) and inside them by combs of period 2 H. Whether it does reach no farther shows in
the bits themselves: one that is seen both set and not set means two half-blocks. Then H is doubled, until every step has its own row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Which steps of each layer (row, step) move when the input steps marked in a row (row, input step) are raised; None: it can't be told.
Run = Callable[[np.ndarray, Iterable[str]], Mapping[str, np.ndarray | None]]

_FIRST_PERIOD = 64
# Rows times input steps in one plan: beyond it a window is too wide to be found.
_MOST = 2**23


@dataclass(frozen=True)
class Windows:
    """The first and the last input step that each step of a layer can see: int arrays (step,)."""

    start: np.ndarray
    end: np.ndarray


def find_windows(run: Run, n_steps: int, names: Iterable[str], *, one_by_one: bool = False) -> dict[str, Windows | None]:
    """The windows of each layer; None where a step answers to nothing, or where the windows are too wide for a long input.

    Parameters
    ----------
    one_by_one : bool
        Whether each input step is to have a row of its own from the start.
    """
    found: dict[str, Windows | None] = {}
    left, period = list(names), n_steps if one_by_one else _FIRST_PERIOD
    while left:
        plan: _Combs | _Singles = _Combs(n_steps, period) if period < n_steps else _Singles(n_steps)
        if plan.rows.size > _MOST:
            break
        moved = run(plan.rows, left)
        for name in left:
            answers = moved[name]
            found[name] = None if answers is None or not answers.any(0).all() else plan.read(answers)
        left = [name for name in left if moved[name] is not None and found[name] is None and period < n_steps and _answered(moved[name])]
        period *= 2
    return found | dict.fromkeys(left)


def _answered(moved: np.ndarray | None) -> bool:
    """Whether every step of a layer moved at least once."""
    return moved is not None and bool(moved.any(0).all())


class _Singles:
    """A row for every input step."""

    def __init__(self, n_steps: int) -> None:
        self.rows = np.eye(n_steps, dtype=bool)

    def read(self, moved: np.ndarray) -> Windows | None:
        return Windows(moved.argmax(0), len(moved) - 1 - moved[::-1].argmax(0))


class _Combs:
    """Combs of one period, the bits of the half-blocks' numbers, and the first and the last step alone."""

    def __init__(self, n_steps: int, period: int) -> None:
        self._n_steps, self._half = n_steps, period // 2
        steps = np.arange(n_steps)
        block, parity = steps // self._half // 2, steps // self._half % 2
        self._n_bits = max(1, int(block.max()).bit_length())
        combs = [steps % period == residue for residue in range(period)]
        bits = [(parity == odd) & (block >> bit & 1 == value) for odd in (0, 1) for bit in range(self._n_bits) for value in (0, 1)]
        self.rows = np.stack([*combs, *bits, steps == 0, steps == n_steps - 1])

    def read(self, moved: np.ndarray) -> Windows | None:
        """The windows, or None where one of them is too wide for this period."""
        combs, bits, ends = np.split(moved, [2 * self._half, len(moved) - 2])
        # (parity, bit, value, step)
        seen = bits.reshape(2, self._n_bits, 2, -1)
        clear = ~seen.all(2).reshape(-1, seen.shape[-1]).any(0)
        there = seen.any((1, 2))
        number = 2 * (seen[:, :, 1] << np.arange(self._n_bits)[:, None]).sum(1) + [[0], [1]]
        first = np.where(there, number, np.iinfo(int).max).min(0)
        last = np.where(there, number, -1).max(0)
        start, has_start = self._within(combs, first, last_one=False)
        end, has_end = self._within(combs, last, last_one=True)
        clear &= (last - first <= 1) & has_start & has_end
        start, end = np.where(ends[0], 0, start), np.where(ends[1], self._n_steps - 1, end)
        return Windows(start, end) if (clear | ends.all(0)).all() else None

    def _within(self, combs: np.ndarray, number: np.ndarray, *, last_one: bool) -> tuple[np.ndarray, np.ndarray]:
        """The first or the last step inside a half-block that moved a step of the layer, and whether there is one."""
        halves = combs.reshape(2, self._half, -1)
        inside = np.where(number % 2 == 0, halves[0], halves[1])
        place = self._half - 1 - inside[::-1].argmax(0) if last_one else inside.argmax(0)
        return np.clip(number, 0, self._n_steps) * self._half + place, inside.any(0)
