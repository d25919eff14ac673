"""Activation maximization: steps per second of `scope.maximize` against the bare forward and backward passes, in one run.

torch: a Conv1D net (two convolutions of 128 filters on 300 steps of 9 channels) and the Japanese Vowels LSTM (15 steps). Keras on each
backend: the same sizes, against a gradient function that is written and compiled by hand. 4 and 16 restarts, float32, the margin between
logits, Fourier coefficients. The bare passes are the model forward and back to the input on a tensor that is there already, as many as
there are iterations: no search space, no penalties, no optimizer, no jitter. All in turn, round after round; medians of the ratios.
"Each step" leaves out what is done once in a call (reading the data, scoring the real sequences, labels): it is the time of a long
ascent less that of a short one. "Whole call" is all of 300 iterations.

    python benchmarks/maximize.py
    python benchmarks/maximize.py --engine tensorflow     # torch, tensorflow, jax, keras-torch
    python benchmarks/maximize.py --rounds 3
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

ENGINES = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "keras-torch": "torch"}
LONG, SHORT = 300, 60
RESTARTS = (4, 16)


def in_torch(net: str) -> tuple[Any, Any, Callable[[np.ndarray], Callable[[], Any]]]:
    """A model, data it takes, and what makes of a batch a bare pass there and back."""
    import torch
    from torch import nn

    import seqscope as sq

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if net == "LSTM":
        model = sq.zoo.japanese_vowels()
        data = sq.datasets.japanese_vowels("train")[0]
        logits: Any = model.logits
    else:
        convolutions = [nn.Conv1d(9, 128, 7, padding=3), nn.ReLU(), nn.Conv1d(128, 128, 7, padding=3), nn.ReLU()]
        model = logits = nn.Sequential(*convolutions, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 5)).eval()
        data = sq.Sequences(np.random.default_rng(0).standard_normal((64, 300, 9)).astype(np.float32))
    for weight in model.parameters():
        weight.requires_grad_(False)

    def bare(batch: np.ndarray) -> Callable[[], Any]:
        x = torch.from_numpy(batch if net == "LSTM" else batch.transpose(0, 2, 1).copy()).requires_grad_()

        def once() -> Any:
            score = logits(x)
            return torch.autograd.grad((score[:, 0] - score[:, 1:].amax(1)).sum(), x)

        return once

    return model, data, bare


def in_keras(net: str) -> tuple[Any, Any, Callable[[np.ndarray], Callable[[], Any]]]:
    """The same in Keras, the bare pass compiled as the backend does."""
    import keras
    from keras import layers, ops

    import seqscope as sq

    keras.utils.set_random_seed(0)
    if net == "LSTM":
        model = sq.zoo.japanese_vowels("keras")
        data = sq.datasets.japanese_vowels("train")[0]
        inner = keras.Model(model.inputs, model.get_layer("fc").output)
    else:
        stack = [layers.Conv1D(128, 7, padding="same", activation="relu") for _ in range(2)]
        model = inner = keras.Sequential([keras.Input((300, 9)), *stack, layers.GlobalAveragePooling1D(), layers.Dense(5)])
        data = sq.Sequences(np.random.default_rng(0).standard_normal((64, 300, 9)).astype(np.float32))

    def margin(x: Any) -> Any:
        score = inner(x, training=False)
        return ops.sum(score[:, 0] - ops.max(score[:, 1:], axis=1))

    return model, data, lambda batch: _compiled(margin, batch)


def _compiled(margin: Callable[[Any], Any], batch: np.ndarray) -> Callable[[], Any]:
    """A pass there and back, in the backend's own way."""
    import keras

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            x = tf.constant(batch)

            @tf.function
            def slope() -> Any:
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    score = margin(x)
                return tape.gradient(score, x)

            return lambda: slope().numpy()
        case "jax":
            import jax

            slope_at = jax.jit(jax.grad(margin))
            return lambda: np.asarray(slope_at(batch))
    import torch

    torch.set_num_threads(1)
    tensor = torch.from_numpy(batch).requires_grad_()
    return lambda: torch.autograd.grad(margin(tensor), tensor)[0]


def measured(engine: str, rounds: int) -> list[tuple[str, ...]]:
    """A row for each net and number of restarts."""
    import seqscope as sq

    rows = []
    for net in ("Conv1D", "LSTM"):
        model, data, bare_of = (in_torch if engine == "torch" else in_keras)(net)
        scope = sq.Scope(model, layout=None if net == "LSTM" else "NCT" if engine == "torch" else "NTC")
        for restarts in RESTARTS:
            n_steps = int(np.median(data.lengths))
            once = bare_of(np.zeros((restarts, n_steps, data.n_channels), np.float32))

            def ascend(steps: int, scope: Any = scope, data: Any = data, restarts: int = restarts) -> int:
                found = scope.maximize(0, like=data, restarts=restarts, steps=steps, reach=0.0, progress=False)
                return found.sizes["iteration"] - 1

            ascend(SHORT)
            once()
            figures = np.array([_round(ascend, once) for _ in range(rounds)])
            each, _, bare = np.median(figures, axis=0)
            rows.append((engine, net, f"{restarts}", f"{1000 * bare:.1f}", f"{1 / each:.0f}", *_ratios(figures)))
    return rows


def _round(ascend: Callable[[int], int], once: Callable[[], Any]) -> tuple[float, float, float]:
    """Seconds: of a step, of a step when all that is done once is shared out, of a bare pass."""
    times, counts = [], []
    for steps in (SHORT, LONG):
        start = time.perf_counter()
        counts.append(ascend(steps))
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    for _ in range(counts[1]):
        once()
    bare = (time.perf_counter() - start) / counts[1]
    return (times[1] - times[0]) / (counts[1] - counts[0]), times[1] / counts[1], bare


def _ratios(figures: np.ndarray) -> tuple[str, str]:
    """Medians of each round's own ratios."""
    each, whole = np.median(figures[:, :2] / figures[:, 2:], axis=0)
    return f"{each:.2f}", f"{whole:.2f}"


def main() -> None:
    """Measure; each engine in a process of its own, since Keras has one backend a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if asked.engine is None:
        for engine in ENGINES:
            subprocess.run([sys.executable, __file__, "--engine", engine, "--rounds", str(asked.rounds)], check=True)
        return
    os.environ |= {"KERAS_BACKEND": ENGINES[asked.engine], "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    warnings.simplefilter("ignore")
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"scope.maximize, {asked.engine}: times the bare forward and backward pass")
    for name in ("engine", "net", "restarts", "bare pass, ms", "steps per second", "each step", "whole call"):
        table.add_column(name, justify="left" if name in ("engine", "net") else "right")
    for row in measured(asked.engine, asked.rounds):
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
