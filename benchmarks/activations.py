"""The hidden states of a whole data set: seqscope against the bare forward pass and against other tools, in one run.

LSTM(12, 100) read by a dense layer, 2,000 sequences of 100 steps, batches of 64, one thread. Each tool is timed in turn with the bare
forward pass (A B A B ...) and the median of the ratios is given; all tools hand over one array (2000, 100, 100), checked to be equal.
Peak memory is that of a process of its own, over what it held before, less the result's own 80 MB.

    python benchmarks/activations.py                # the table
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

os.environ.setdefault("OMP_NUM_THREADS", "1")

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


def main() -> None:
    """Time, check and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="pairs of runs a tool")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (two only with OMP_WAIT_POLICY=PASSIVE)")
    parser.add_argument("--peak", metavar="METHOD", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        report_peak(options.peak)
        return
    contenders = Contenders()
    expected = contenders.hook()
    table = Table(
        title=f"Hidden states of {N_SEQUENCES} x {N_STEPS} steps, LSTM({N_CHANNELS}, {N_UNITS}), batch {BATCH}, {options.threads} thread"
    )
    for heading in (
        "",
        "seconds (median)",
        "times the bare pass (median of pairs)",
        "lowest to highest",
        "peak over the result, MB",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    bare_times: list[float] = []
    for name, (method, package) in TOOLS.items():
        if package is not None and importlib.util.find_spec(package) is None:
            table.add_row(name, "not installed", "", "", "")
            continue
        tool = getattr(contenders, method)
        np.testing.assert_array_equal(tool(), expected)  # also the warm-up
        pairs = [(seconds(contenders.bare), seconds(tool)) for _ in range(options.rounds)]
        ratios = [taken / bare for bare, taken in pairs]
        bare_times += [bare for bare, _ in pairs]
        table.add_row(
            name,
            f"{np.median([taken for _, taken in pairs]):.3f}",
            f"{np.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{peak_megabytes(method):.0f}",
        )
    table.add_row(BARE, f"{np.median(bare_times):.3f}", "1.00", "", f"{peak_megabytes('bare'):.0f}")
    Console(width=130).print(table)
    print(f"torch {torch.__version__}, one batch of the layer's values: {BATCH * N_STEPS * N_UNITS * 4 / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
