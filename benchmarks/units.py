"""What units do: seqscope.units against one plain pass over the same array, in one run.

10 million unit-steps in float32: 1,000 sequences of 100 steps of 100 units within -1 and 1, whole or ragged (50 to 100 steps), and the same
with a tenth of the units near their end, whose mean is large against their spread. The plain passes read the whole array once: `sum` to
one number, `mean` to one for each unit, and, where there is padding, `np.nanmean` to one for each unit. One thread; all are timed in turn,
round after round, and the median of the ratios is given. Peak memory is what Python and NumPy hold at most during the call (tracemalloc),
so over the array's own 40 MB.

    python benchmarks/units.py
    python benchmarks/units.py --rounds 21
    python benchmarks/units.py --samples 250      # fewer, to try it out
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is loaded

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

import seqscope as sq

N_STEPS, N_UNITS, N_CHANNELS, N_CLASSES = 100, 100, 12, 9


class Data:
    """Made activations, with an input and classes that some units follow."""

    def __init__(self, n_samples: int, kind: str = "whole") -> None:
        random = np.random.default_rng(0)
        self.y = random.integers(0, N_CLASSES, n_samples)
        lengths = random.integers(N_STEPS // 2, N_STEPS + 1, n_samples) if kind == "ragged" else np.full(n_samples, N_STEPS)
        steps = random.standard_normal((n_samples, N_STEPS, N_CHANNELS), dtype=np.float32)
        self.X = sq.Sequences(steps, lengths=lengths)
        values = random.standard_normal((n_samples, N_STEPS, N_UNITS), dtype=np.float32)
        values[:, 3:, :N_CHANNELS] += steps[:, :-3]
        np.tanh(values, out=values)
        if kind == "near its end":
            values[..., -N_UNITS // 10 :] = 0.98 + 0.01 * values[..., -N_UNITS // 10 :]
        values[np.arange(N_STEPS) >= lengths[:, None]] = np.nan
        coords = {"sample": np.arange(n_samples), "length": ("sample", lengths)}
        self.activations = xr.DataArray(values, dims=("sample", "time", "unit"), coords=coords, attrs={"kind": "lstm", "layer": "lstm"})

    @property
    def values(self) -> np.ndarray:
        """The array itself."""
        return self.activations.values

    def actions(self) -> dict[str, Callable[[], object]]:
        """What is timed, by name."""
        a = self.activations
        return {
            "summary": lambda: sq.units.summary(a),
            "summary, duplicate=None": lambda: sq.units.summary(a, duplicate=None),
            "summary with y": lambda: sq.units.summary(a, self.y),
            "summary with y and X": lambda: sq.units.summary(a, self.y, self.X),
            "top_windows": lambda: sq.units.top_windows(a, self.X, 17),
            "match": lambda: sq.units.match(a, 5, 10, 12, 0.5),
            "nearest": lambda: sq.units.nearest(a, 5, 20),
            "project": lambda: sq.units.project(a),
        }

    def plain(self) -> dict[str, Callable[[], object]]:
        """One pass over the array."""
        passes: dict[str, Callable[[], object]] = {"sum": self.values.sum, "mean": lambda: self.values.mean((0, 1))}
        if np.isnan(self.values[..., 0]).any():
            passes["nanmean"] = lambda: np.nanmean(self.values, axis=(0, 1))
        return passes


def seconds(action: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """The times of each, round after round, after one call to warm up."""
    for action in actions.values():
        action()
    rows = [{name: seconds(action) for name, action in actions.items()} for _ in range(rounds)]
    return {name: np.array([row[name] for row in rows]) for name in actions}


def check(data: Data) -> None:
    """Compare the summary with float64 sums over all steps."""
    found = sq.units.summary(data.activations)
    rows = data.values.reshape(-1, N_UNITS).astype(np.float64)
    rows = rows[~np.isnan(rows[:, 0])]
    np.testing.assert_allclose(found["mean"], rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["spread"], rows.std(0), rtol=1e-5)
    np.testing.assert_array_equal(found["low"], rows.min(0))
    np.testing.assert_array_equal(found["high"], rows.max(0))
    np.testing.assert_array_equal(found["saturated"], (np.abs(rows) >= np.float32(0.95)).mean(0))


def peak_megabytes(action: Callable[[], object]) -> float:
    """The most that a call holds, over what was there before."""
    tracemalloc.start()
    action()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def table_of(kind: str, n_samples: int, rounds: int) -> Table:
    """The times and ratios for one kind of data."""
    data = Data(n_samples, kind)
    check(data)
    actions = data.actions() if kind == "whole" else {"summary": data.actions()["summary"]}
    plain = data.plain()
    times = in_turn(plain | actions, rounds)
    table = Table(title=f"{data.values.size / 1e6:g} million unit-steps, float32, {kind}")
    for heading in ("", "ms", *(f"times a plain {name}" for name in plain), "peak over the array, MB"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, taken in times.items():
        ratios = [f"{np.median(taken / times[other]):.2f}" for other in plain]
        peak = f"{peak_megabytes(actions[name]):.1f}" if name in actions else ""
        table.add_row(name, f"{np.median(taken) * 1e3:.1f}", *ratios, peak)
    return table


def main() -> None:
    """Print a table for each kind of data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    for kind in ("whole", "near its end", "ragged"):
        Console(width=140).print(table_of(kind, options.samples, options.rounds))


if __name__ == "__main__":
    main()
