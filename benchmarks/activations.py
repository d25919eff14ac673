"""What a layer gives over a whole data set: seqscope against the bare forward pass and against other tools, in one run.

torch: LSTM(12, 100) read by a dense layer, 2,000 sequences of 100 steps. Keras on each backend: the same, and two convolutions of 128
filters on 2,000 sequences of 300 steps and 9 channels, against the compiled forward pass; and 200 distinct lengths against one length
of as many steps. Batches of 64, one thread, each engine in a process of its own. Each tool is timed in turn with the bare pass
(A B A B ...) and the median of the ratios is given; all tools hand over one array, checked to be equal. Peak memory is that of a
process of its own, over what it held before, less the result's own 80 MB.

    python benchmarks/activations.py                     # every table
    python benchmarks/activations.py --engine jax        # torch, tensorflow, jax, keras-torch
    python benchmarks/activations.py --rounds 15
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Read when a framework is loaded, so before any import of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import seqscope as sq

N_SEQUENCES, N_STEPS, N_CHANNELS, N_UNITS, BATCH = 2000, 100, 12, 100, 64
BARE = "bare forward pass"
RESULT_MB = N_SEQUENCES * N_STEPS * N_UNITS * 4 / 1e6


class LastStep(nn.Module):
    """What the peers that can't look at an `nn.LSTM` need: the recurrent layer behind a module that gives one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_CHANNELS, N_UNITS, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every step of h."""
        return self.lstm(x)[0]


class Net(nn.Module):
    """An LSTM read at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = LastStep()
        self.fc = nn.Linear(N_UNITS, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The nine scores."""
        return self.fc(self.recurrent(x)[:, -1])


class Contenders:
    """One model, one data set, and each tool's way to the hidden states."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = Net().eval()
        self.X = np.random.default_rng(0).standard_normal((N_SEQUENCES, N_STEPS, N_CHANNELS)).astype(np.float32)
        self.sequences = sq.Sequences(self.X)
        self.scope = sq.Scope(self.model)

    def batches(self) -> Iterator[torch.Tensor]:
        """The data as tensors, without a copy."""
        return iter(torch.from_numpy(self.X).split(BATCH))

    def bare(self) -> None:
        """Run the model and throw everything away."""
        with torch.no_grad():
            for batch in self.batches():
                self.model(batch)

    def seqscope(self) -> np.ndarray:
        """The one call."""
        return self.scope.activations(self.sequences, "recurrent.lstm", batch_size=BATCH).values

    def hook(self) -> np.ndarray:
        """What people write by hand."""
        kept: list[torch.Tensor] = []
        handle = self.model.recurrent.lstm.register_forward_hook(lambda module, args, value: kept.append(value[0]))
        with torch.no_grad():
            for batch in self.batches():
                self.model(batch)
        handle.remove()
        return torch.cat(kept).numpy()

    def captum(self) -> np.ndarray:
        """Captum's LayerActivation, on the module around the LSTM."""
        from captum.attr import LayerActivation

        layer = LayerActivation(self.model, self.model.recurrent)
        with torch.no_grad():
            return torch.cat([layer.attribute(batch) for batch in self.batches()]).numpy()

    def nnsight(self) -> np.ndarray:
        """A trace of nnsight for every batch."""
        from nnsight import NNsight

        model, kept = NNsight(self.model), []
        with torch.no_grad():
            for batch in self.batches():
                with model.trace(batch):
                    hidden = model.recurrent.lstm.output[0].save()
                kept.append(hidden)
        return torch.cat(kept).numpy()

    def torchlens(self) -> np.ndarray:
        """Torchlens' extract for every batch."""
        import torchlens

        with torch.no_grad():
            kept = [torchlens.extract(self.model, batch, {"hidden": "recurrent"})["hidden"] for batch in self.batches()]
        return torch.cat(kept).numpy()


# A name for the table, the method, and the package that it needs.
TOOLS: dict[str, tuple[str, str | None]] = {
    "seqscope": ("seqscope", None),
    "hook written by hand": ("hook", None),
    "captum LayerActivation": ("captum", "captum"),
    "nnsight": ("nnsight", "nnsight"),
    "torchlens": ("torchlens", "torchlens"),
}


def seconds(action: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_megabytes(method: str) -> float:
    """The peak of a process of its own over what it held before the call."""
    command = [sys.executable, __file__, "--peak", method]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def report_peak(method: str) -> None:
    """Run one tool on a little data, then on all, and print how far the peak rose above what was held before."""
    contenders = Contenders()
    with torch.no_grad():
        contenders.model(torch.from_numpy(contenders.X[:BATCH]))
    if method == "seqscope":
        contenders.scope.activations(contenders.X[:BATCH], "recurrent.lstm")
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    kept = getattr(contenders, method)()
    print(json.dumps(_status("VmHWM") - before - (0.0 if kept is None else RESULT_MB)))


def _status(field: str) -> float:
    """A figure of this process, in megabytes (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def timed(bare: Callable[[], object], tool: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """A tool in turn with the bare pass."""
    return [(seconds(bare), seconds(tool)) for _ in range(rounds)]


def row(name: str, pairs: list[tuple[float, float]]) -> list[str]:
    """The figures of one tool: seconds, ratio, lowest to highest."""
    ratios = [taken / bare for bare, taken in pairs]
    taken = float(np.median([taken for _, taken in pairs]))
    return [name, f"{taken:.3f}", f"{np.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]


def table_of(title: str, *headings: str) -> Table:
    """A table with one column of names."""
    table = Table(title=title)
    for heading in ("", *headings):
        table.add_column(heading, justify="left" if not heading else "right")
    return table


def torch_table(rounds: int) -> Table:
    """The LSTM in torch, with memory."""
    contenders = Contenders()
    expected = contenders.hook()
    title = f"torch: hidden states of {N_SEQUENCES} x {N_STEPS} steps, LSTM({N_CHANNELS}, {N_UNITS}), batch {BATCH}"
    table = table_of(title, *FIGURES, "peak over the result, MB")
    bare_times: list[float] = []
    for name, (method, package) in TOOLS.items():
        if package is not None and importlib.util.find_spec(package) is None:
            table.add_row(name, "not installed", "", "", "")
            continue
        tool = getattr(contenders, method)
        np.testing.assert_array_equal(tool(), expected)  # also the warm-up
        pairs = timed(contenders.bare, tool, rounds)
        bare_times += [bare for bare, _ in pairs]
        table.add_row(*row(name, pairs), f"{peak_megabytes(method):.0f}")
    table.add_row(BARE, f"{np.median(bare_times):.3f}", "1.00", "", f"{peak_megabytes('bare'):.0f}")
    return table


def keras_table(net: str, rounds: int) -> Table:
    """A net in Keras, on the backend of this process."""
    import keras
    from keras_contenders import TOOLS as KERAS_TOOLS
    from keras_contenders import KerasContenders

    contenders = KerasContenders(net, N_SEQUENCES)
    table = table_of(f"Keras {keras.__version__} on {keras.backend.backend()}: {net}, {contenders.X.shape}, batch {BATCH}", *FIGURES)
    expected = contenders.predict()
    contenders.bare()
    bare_times: list[float] = []
    for name, method in KERAS_TOOLS.items():
        tool = getattr(contenders, method)
        try:
            np.testing.assert_allclose(tool(), expected, atol=1e-4)  # also the warm-up
        except (ImportError, AttributeError) as error:
            table.add_row(name, f"does not run: {type(error).__name__}", "", "")
            continue
        pairs = timed(contenders.bare, tool, rounds)
        bare_times += [bare for bare, _ in pairs]
        table.add_row(*row(name, pairs))
    table.add_row(f"{BARE}, compiled", f"{np.median(bare_times):.3f}", "1.00", "")
    return table


def lengths_table(engine: str, rounds: int) -> Table:
    """200 distinct lengths against one: on a scope that is new, compilations and all, and again."""
    from keras_contenders import lstm, ragged

    many, one = (sq.Sequences(data) for data in ragged(200))
    model, layer = (Net().eval(), "recurrent.lstm") if engine == "torch" else lstm()[:2]
    table = table_of(f"{engine}: LSTM, 2000 sequences of 200 lengths (50 to 249 steps) against one length of as many steps", *FIGURES)
    sq.Scope(model).activations(one, layer)  # what the framework does once in a process
    fresh = timed(lambda: sq.Scope(model).activations(one, layer), lambda: sq.Scope(model).activations(many, layer), max(1, rounds // 3))
    table.add_row(*row("first call", fresh))
    scope = sq.Scope(model)
    for data in (one, many):
        scope.activations(data, layer)
    table.add_row(*row("again", timed(lambda: scope.activations(one, layer), lambda: scope.activations(many, layer), rounds)))
    return table


FIGURES = ("seconds (median)", "ratio (median of pairs)", "lowest to highest")
ENGINES = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "keras-torch": "torch"}


def main() -> None:
    """Time, check and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="pairs of runs a tool")
    parser.add_argument("--engine", choices=ENGINES, help="one engine alone; default: each in a process of its own")
    parser.add_argument("--peak", metavar="METHOD", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        report_peak(options.peak)
    elif options.engine is None:
        for engine, backend in ENGINES.items():
            command = [sys.executable, __file__, "--engine", engine, "--rounds", str(options.rounds)]
            subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": backend})
    else:
        os.environ["KERAS_BACKEND"] = ENGINES[options.engine]
        console = Console(width=130)
        tables = [lambda: torch_table(options.rounds)] if options.engine == "torch" else []
        tables += [] if options.engine == "torch" else [lambda net=net: keras_table(net, options.rounds) for net in ("LSTM", "Conv1D")]
        for make in [*tables, lambda: lengths_table(options.engine, options.rounds)]:
            console.print(make())


if __name__ == "__main__":
    main()
