"""Every gate and cell at every step, and streaming: seqscope against the bare forward pass and against loops written by hand, in one run.

States: `scope.states` of an LSTM or a GRU of 12 channels read at its last step, against (a) the bare fused forward pass (compiled on
tensorflow and jax) and (b) the loop over a hand-written cell that people write, gates kept: in torch a loop over the steps, in Keras an
RNN over a cell that gives its gates, compiled where the backend compiles. Streaming: a step of LSTM(12, 100) with a dense layer of 9,
against its fastest form (torch: the cell; tensorflow: a traced function with its state in variables; jax: a compiled cell) and against
Keras' `predict` on one step. Each is timed in turn with the others, and the median of the ratios is given.

    python benchmarks/states.py                               # every engine, one and two threads
    python benchmarks/states.py --engine jax --threads 1      # torch, tensorflow, jax, keras-torch
    python benchmarks/states.py --all-sizes                   # the largest sizes too, which take gigabytes
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

N_CHANNELS = 12
ENGINES = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "keras-torch": "torch"}


@dataclass(frozen=True)
class Size:
    """How large a net and its batch are."""

    kind: str
    batch: int
    steps: int
    units: int

    @property
    def megabytes(self) -> float:
        """What all states take."""
        return self.batch * self.steps * self.units * 4 * (6 if self.kind == "LSTM" else 4) / 1e6


def sizes(*, everything: bool) -> list[Size]:
    """The grid; by default without those whose states take more than 400 MB."""
    grid = [Size(kind, b, t, h) for kind in ("LSTM", "GRU") for t in (100, 1000) for h in (100, 512) for b in (1, 64, 256)]
    return [size for size in grid if everything or size.megabytes <= 400]


def data(size: Size) -> np.ndarray:
    """Noise, (sample, time, channel)."""
    return np.random.default_rng(0).standard_normal((size.batch, size.steps, N_CHANNELS)).astype(np.float32)


class InTorch:
    """An `nn.LSTM` or `nn.GRU`."""

    def __init__(self, size: Size) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        self.model = getattr(nn, size.kind)(N_CHANNELS, size.units, batch_first=True).eval()
        self.x, self.layer = torch.from_numpy(data(size)), size.kind.lower()
        self.weights = [weight.detach() for weight in self.model.parameters()]
        self._loop = self._lstm if size.kind == "LSTM" else self._gru

    def bare(self) -> None:
        """The fused pass."""
        import torch

        with torch.no_grad():
            self.model(self.x)

    def by_hand(self) -> np.ndarray:
        """The loop that people write; the last gate of all."""
        import torch

        with torch.no_grad():
            return torch.stack(list(map(torch.stack, zip(*self._loop(), strict=True)))).numpy()[1]

    def _lstm(self) -> list[Any]:
        from torch.nn.functional import linear

        w, u, b, d = self.weights
        h = c = self.x.new_zeros(len(self.x), u.shape[1])
        kept = []
        for x in self.x.unbind(1):
            i, f, g, o = (linear(x, w, b) + linear(h, u, d)).chunk(4, 1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            c = f * c + i * g
            h = o * c.tanh()
            kept.append((h, c, i, f, g, o))
        return kept

    def _gru(self) -> list[Any]:
        from torch.nn.functional import linear

        w, u, b, d = self.weights
        h = self.x.new_zeros(len(self.x), u.shape[1])
        kept = []
        for x in self.x.unbind(1):
            (xr, xz, xn), (hr, hz, hn) = linear(x, w, b).chunk(3, 1), linear(h, u, d).chunk(3, 1)
            r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
            n = (xn + r * hn).tanh()
            h = (1 - z) * n + z * h
            kept.append((h, r, z, n))
        return kept

    def expected(self, states: Any) -> np.ndarray:
        """What `by_hand` gives, from what seqscope gives."""
        return np.asarray((states.c if "c" in states else states.r).transpose("time", "sample", "unit").values)


class InKeras:
    """A Keras LSTM or GRU read at its last step, on the backend of this process."""

    def __init__(self, size: Size) -> None:
        import keras
        from keras_contenders import compiled

        keras.utils.set_random_seed(0)
        layer = getattr(keras.layers, size.kind)(size.units, name="recurrent")
        self.model, self.layer = keras.Sequential([keras.Input((None, N_CHANNELS)), layer]), "recurrent"
        self.X = data(size)
        self._forward = compiled(self.model)
        gates = keras.layers.RNN(gates_cell(layer.cell), return_sequences=True)
        self._gates = compiled(keras.Sequential([keras.Input((None, N_CHANNELS)), gates]))

    def bare(self) -> None:
        """The compiled pass."""
        np.asarray(_in_memory(self._forward(self.X)))

    def by_hand(self) -> np.ndarray:
        """An RNN over a cell that gives all its gates side by side."""
        everything = np.asarray(_in_memory(self._gates(self.X)))
        n = everything.shape[-1] // (6 if "lstm" in type(self.model.layers[0]).__name__.lower() else 4)
        return everything[..., n : 2 * n]

    def expected(self, states: Any) -> np.ndarray:
        """What `by_hand` gives, from what seqscope gives."""
        return np.asarray((states.c if "c" in states else states.r).values)


def _in_memory(tensor: Any) -> Any:
    return tensor.detach().numpy() if hasattr(tensor, "detach") else tensor


def gates_cell(cell: Any) -> Any:
    """A hand-written cell with the weights of another, which gives its states and gates side by side."""
    import keras
    from keras import ops

    class GatesCell(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.units, self.is_lstm = cell.units, isinstance(cell, keras.layers.LSTMCell)
            self.state_size = [cell.units] * (2 if self.is_lstm else 1)
            self.output_size = cell.units * (6 if self.is_lstm else 4)

        def call(self, x: Any, states: Any) -> tuple[Any, Any]:
            h, n = states[0], self.units
            if self.is_lstm:
                i, f, g, o = ops.split(ops.matmul(x, cell.kernel) + ops.matmul(h, cell.recurrent_kernel) + cell.bias, 4, axis=-1)
                i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
                c = f * states[1] + i * g
                h = o * ops.tanh(c)
                return ops.concatenate([h, c, i, f, g, o], -1), [h, c]
            of_x, of_h = ops.matmul(x, cell.kernel) + cell.bias[0], ops.matmul(h, cell.recurrent_kernel) + cell.bias[1]
            z, r = ops.sigmoid(of_x[:, :n] + of_h[:, :n]), ops.sigmoid(of_x[:, n : 2 * n] + of_h[:, n : 2 * n])
            new = ops.tanh(of_x[:, 2 * n :] + r * of_h[:, 2 * n :])
            h = z * h + (1 - z) * new
            return ops.concatenate([h, r, z, new], -1), [h]

    return GatesCell()


# Timing


def seconds(action: Callable[[], object], times: int) -> float:
    """How long a call takes, on average over some."""
    start = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - start) / times


def in_turn(actions: dict[str, Callable[[], object]], rounds: int, times: int) -> dict[str, list[float]]:
    """Each action in turn, round after round."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            found[name].append(seconds(action, times))
    return found


def ratio(of: list[float], to: list[float]) -> float:
    """The median of the ratios of what was timed in one round."""
    return float(np.median(np.array(of) / np.array(to)))


def states_rows(engine: str, grid: list[Size], rounds: int) -> list[list[str]]:
    """One row a size: milliseconds of the bare pass, times the bare pass, times the loop by hand."""
    import seqscope as sq

    rows = []
    for size in grid:
        contender: Any = InTorch(size) if engine == "torch" else InKeras(size)
        scope, X = sq.Scope(contender.model, layout="NTC"), sq.Sequences(data(size))

        def ours(scope: Any = scope, X: Any = X, layer: str = contender.layer, batch: int = size.batch) -> Any:
            return scope.states(X, layer, batch_size=batch, progress=False)

        np.testing.assert_allclose(contender.expected(ours()), contender.by_hand(), atol=1e-5)  # also the warm-up
        contender.bare()
        times = max(1, int(0.05 / seconds(contender.bare, 1)))
        found = in_turn({"bare": contender.bare, "ours": ours, "hand": contender.by_hand}, rounds, times)
        figures = ratio(found["ours"], found["bare"]), ratio(found["hand"], found["bare"]), ratio(found["ours"], found["hand"])
        bare = f"{1e3 * np.median(found['bare']):.1f}"
        rows.append([size.kind, str(size.batch), str(size.steps), str(size.units), bare, *(f"{figure:.2f}" for figure in figures)])
        print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    return rows


def ways_rows(rounds: int) -> list[list[str]]:
    """For each kind and number of rows, how long torch's loop takes in parts of the fused pass with the product behind it."""
    import torch
    from torch import nn

    from seqscope import cells
    from seqscope.engines.torch_cells import by_loop, by_product, weights_of

    rows = []
    for kind in ("LSTM", "GRU", "RNN"):
        for units in (100, 512):
            figures = []
            for batch in (1, 8, 16, 24, 32, 48, 64, 96):
                module, x = getattr(nn, kind)(N_CHANNELS, units).eval(), torch.randn(100, batch, N_CHANNELS)
                weights = weights_of(module)
                state = cells.zero_state(weights, lambda size, batch=batch: torch.zeros(batch, size))
                with torch.no_grad():
                    actions = {
                        "loop": lambda w=weights, x=x, s=state: by_loop(w, x, s),
                        "product": lambda m=module, w=weights, x=x, s=state: by_product(w, x, m(x)[0], s),
                    }
                    found = in_turn(actions, rounds, 3)
                figures.append(f"{ratio(found['loop'], found['product']):.2f}")
            rows.append([kind, str(units), *figures])
    return rows


# Streaming


def stream_row(engine: str, rounds: int) -> list[str]:
    """A step in its fastest form in microseconds, and the times of it that a step of seqscope and `predict` take."""
    import warnings

    import seqscope as sq

    x = np.random.default_rng(0).standard_normal(N_CHANNELS).astype(np.float32)
    model, actions = _torch_stream(x) if engine == "torch" else _keras_stream(x)
    stream = sq.Scope(model, layout="NTC").stream()
    actions |= {"step": lambda: stream.step(x), "step and output": lambda: stream.step(x).output.values}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the same step again and again
        for action in actions.values():
            seconds(action, 25)
        found = in_turn(actions, rounds, 50)
    others = [f"{ratio(found[name], found['fastest']):.2f}" for name in ("step", "step and output")]
    predict = [f"{ratio(found['predict'], found[name]):.0f}" for name in ("fastest", "step")] if "predict" in found else ["", ""]
    return [engine, f"{1e6 * np.median(found['fastest']):.0f}", *others, *predict]


def _torch_stream(x: np.ndarray) -> tuple[Any, dict[str, Callable[[], object]]]:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc = nn.LSTM(N_CHANNELS, 100, batch_first=True), nn.Linear(100, 9)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.fc(self.lstm(batch)[0][:, -1])

    model, cell = Net().eval(), nn.LSTMCell(N_CHANNELS, 100)
    state = [torch.zeros(1, 100), torch.zeros(1, 100)]

    def fastest() -> np.ndarray:
        with torch.no_grad():
            state[:] = cell(torch.from_numpy(x)[None], tuple(state))
            return model.fc(state[0]).numpy()

    return model, {"fastest": fastest}


def _keras_stream(x: np.ndarray) -> tuple[Any, dict[str, Callable[[], object]]]:
    import keras
    from keras import layers as kl

    model = keras.Sequential([keras.Input((None, N_CHANNELS)), kl.LSTM(100), kl.Dense(9)])
    cell, dense, one = model.layers[0].cell, model.layers[1], x[None]
    fastest = {"tensorflow": _in_tensorflow, "jax": _in_jax, "torch": _in_keras_torch}[keras.backend.backend()](cell, dense, one)
    return model, {"fastest": fastest, "predict": lambda: model.predict(one[None], verbose=0)}


def _in_tensorflow(cell: Any, dense: Any, x: np.ndarray) -> Callable[[], object]:
    import tensorflow as tf

    h, c = (tf.Variable(tf.zeros((1, 100))) for _ in range(2))

    @tf.function
    def step(x: Any) -> Any:
        output, (new_h, new_c) = cell(x, [h, c])
        h.assign(new_h)
        c.assign(new_c)
        return dense(output)

    return lambda: step(tf.constant(x)).numpy()


def _in_jax(cell: Any, dense: Any, x: np.ndarray) -> Callable[[], object]:
    import jax

    @jax.jit
    def step(x: Any, h: Any, c: Any) -> Any:
        output, state = cell(x, [h, c])
        return dense(output), state

    state = [np.zeros((1, 100), np.float32)] * 2

    def run() -> np.ndarray:
        output, state[:] = step(x, *state)
        return np.asarray(output)

    return run


def _in_keras_torch(cell: Any, dense: Any, x: np.ndarray) -> Callable[[], object]:
    import torch

    state = [torch.zeros(1, 100), torch.zeros(1, 100)]

    def run() -> np.ndarray:
        with torch.no_grad():
            output, state[:] = cell(torch.from_numpy(x), state)
            return dense(output).numpy()

    return run


# Memory


def peak_megabytes(method: str) -> float:
    """How far the peak of a process of its own rises above what it held before, for an LSTM of 100 units on 64 x 1,000 steps."""
    command = [sys.executable, __file__, "--peak", method]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def report_peak(method: str) -> None:
    """Run on little data, then on all, and print the rise."""
    import seqscope as sq

    size = Size("LSTM", 64, 1000, 100)
    contender, X = InTorch(size), data(size)
    scope = sq.Scope(contender.model, layout="NTC")
    scope.states(X[:4, :50], "lstm")
    actions = {"bare": contender.bare, "hand": contender.by_hand, "seqscope": lambda: scope.states(X, "lstm")}
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    kept = actions[method]()
    print(json.dumps(_status("VmHWM") - before))
    del kept


def _status(field: str) -> float:
    """A figure of this process, in megabytes (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


# The tables


def show(title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=130).print(table)


def run_engine(engine: str, threads: int, options: argparse.Namespace) -> None:
    """All tables of one engine, in this process."""
    import torch

    torch.set_num_threads(threads)
    headings = ["layer", "batch", "steps", "units", "bare pass, ms", "seqscope / bare", "by hand / bare", "seqscope / by hand"]
    if not options.stream_only:
        show(
            f"{engine}, {threads} thread(s): all states", headings, states_rows(engine, sizes(everything=options.all_sizes), options.rounds)
        )
    headings = ["engine", "fastest step, us", "seqscope / fastest", "with output read", "predict / fastest", "predict / seqscope"]
    show(f"{engine}, {threads} thread(s): one step", headings, [stream_row(engine, options.rounds)])
    if engine == "torch" and not options.stream_only:
        headings = ["layer", "units", *(f"{batch} rows" for batch in (1, 8, 16, 24, 32, 48, 64, 96))]
        show(f"torch, {threads} thread(s): the loop in parts of pass and product, 100 steps", headings, ways_rows(options.rounds))
        rows = [[name, f"{peak_megabytes(name):.0f}"] for name in ("bare", "hand", "seqscope")]
        show("torch: LSTM(12, 100), 64 x 1,000 steps, 154 MB of states", ["", "peak over what was held, MB"], rows)


def main() -> None:
    """Each engine in a process of its own, since threads and Keras' backend are chosen when a framework is loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of runs")
    parser.add_argument("--engine", choices=ENGINES, help="one engine alone")
    parser.add_argument("--threads", type=int, choices=(1, 2), help="one number of threads alone")
    parser.add_argument("--all-sizes", action="store_true", help="also the sizes whose states take more than 400 MB")
    parser.add_argument("--stream-only", action="store_true", help="only the table of streaming")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        report_peak(options.peak)
    elif options.here:
        run_engine(options.engine, options.threads, options)
    else:
        for engine in [options.engine] if options.engine else ENGINES:
            for threads in [options.threads] if options.threads else (1, 2):
                _in_process(engine, threads)


def _in_process(engine: str, threads: int) -> None:
    variables = {"OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    xla = f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'} intra_op_parallelism_threads={threads}"
    variables |= {"XLA_FLAGS": xla, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": ENGINES[engine]}
    chosen = ["--here", "--engine", engine, "--threads", str(threads)]
    subprocess.run([sys.executable, *sys.argv, *chosen], check=True, env=os.environ | variables)


if __name__ == "__main__":
    main()
