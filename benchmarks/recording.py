"""Recording to disk: what `scope.record` costs over the bare forward pass, what a second worker gives, how it grows, how it is read.

Four parts, each by its name; what is compared is timed in turn, round after round, and the median of the ratios is given. One thread for
the model; what is written is compressed on others. Nothing is forced to the disk before a time ends, and all is before the next begins.

    one      20,000 sequences of 200 steps and 12 channels through an LSTM of 128: recording its float32 states (2 GB), against the bare
             pass in batches of the same size whose values go into an np.memmap. Bytes on disk are those of every file.
    two      one worker process against two, as client=1 and client=2 start them, both started before; beside it what two bare processes
             get of this machine.
    growth   an LSTM of 16 over 10 steps, 10,000 to 1,000,000 sequences out of a file, each number in a process of its own: seconds, the
             most memory of its own that the process has (RssAnon), files, bytes. The fixed part is that of 100 sequences.
    reading  one unit of all sequences, and all units of one sequence: seconds (files in the system's memory) and bytes that are read, of
             the store's own chunks and of others with the same values, codec and shards.

    python benchmarks/recording.py
    python benchmarks/recording.py one reading --rounds 5
    python benchmarks/recording.py --small               # some seconds each, to try it out: their figures say little
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, here and in the workers

import numpy as np
import torch
import zarr
from rich.console import Console
from rich.table import Table
from torch import nn
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

import seqscope as sq
from seqscope.clients import client_of

N_CHANNELS = 12
HIDDEN = "activations/lstm/activations"  # where the states stand in a store


@dataclass(frozen=True)
class Size:
    """How much is recorded."""

    samples: int
    steps: int
    units: int
    workers_samples: int
    growing: tuple[int, ...]
    reads: int


FULL = Size(20_000, 200, 128, 8_192, (10_000, 100_000, 1_000_000), 40)
SMALL = Size(512, 50, 32, 512, (1_000, 4_000), 5)


class Net(nn.Module):
    """An LSTM whose last step a dense layer reads."""

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.dense = nn.LSTM(channels, units, batch_first=True), nn.Linear(units, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(sample, time, channel) to (sample, output)."""
        return self.dense(self.lstm(x)[0][:, -1])


def net_of(size: Size) -> Net:
    """The net of `one`, `two` and `reading`."""
    return Net(N_CHANNELS, size.units).eval()


def data(n_samples: int, steps: int) -> np.ndarray:
    """Slow noise, (sample, time, channel), so that states compress as those of real series do rather than as noise."""
    random = np.random.default_rng(0)
    steps_of = random.standard_normal((n_samples, steps, N_CHANNELS), dtype=np.float32)
    for t in range(1, steps):
        steps_of[:, t] = 0.9 * steps_of[:, t - 1] + 0.4 * steps_of[:, t]
    return steps_of


def bare(net: Net, X: np.ndarray, batch: int, hidden: np.ndarray | None = None) -> None:
    """The forward pass batch by batch; what the LSTM puts out goes into an array, where one is given."""
    with torch.no_grad():
        for start in range(0, len(X), batch):
            out = net.lstm(torch.from_numpy(X[start : start + batch]))[0]
            net.dense(out[:, -1])
            if hidden is not None:
                hidden[start : start + batch] = out.numpy()


# What is timed in turn


@dataclass
class Times:
    """Seconds of each round, on the clock and of the processor (this process, all its threads)."""

    wall: list[float]
    cpu: list[float]

    @classmethod
    def empty(cls) -> Times:
        """Before the first round."""
        return cls([], [])

    def take(self, action: Callable[[], object]) -> None:
        """Run it once."""
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)

    def over(self, other: Times) -> str:
        """The ratio to another, round by round: its median, and the lowest and the highest."""
        ratios = np.array(self.wall) / np.array(other.wall)
        return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def in_turn(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Each action in turn, round after round, with the disk at rest before each."""
    found = {name: Times.empty() for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            os.sync()
            found[name].take(action)
    return found


def table_of(title: str, *headings: str) -> Table:
    """An empty table."""
    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def files_of(folder: Path) -> list[Path]:
    """All that lies in a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def bytes_of(folder: Path) -> int:
    """What they take."""
    return sum(path.stat().st_size for path in files_of(folder))


@contextmanager
def room(where: str | None) -> Iterator[Path]:
    """A folder that goes away again."""
    with tempfile.TemporaryDirectory(dir=where, prefix="recording-") as folder:
        yield Path(folder)


# One process


EIGHTH = ", of an eighth"
KINDS: dict[str, dict[str, Any]] = {
    "record(inputs=False), the same values": {"layers": "lstm", "inputs": False},
    "record, with the inputs": {"layers": "lstm"},
    'record(dtype="float16")': {"layers": "lstm", "dtype": "float16"},
    "record(keep_bits=10)": {"layers": "lstm", "keep_bits": 10},
    f"record(states=True): h c i f g o{EIGHTH}": {"states": True},
}


def one(size: Size, rounds: int, where: str | None) -> Table:
    """Recording against the bare pass and a plain write of the same bytes."""
    X, net, scope = data(size.samples, size.steps), net_of(size), sq.Scope(net_of(size))
    few = X[: size.samples // 8]
    with room(where) as folder:
        batch = batch_of(scope, few, folder)
        actions: dict[str, Callable[[], object]] = {
            "bare pass": lambda: bare(net, X, batch),
            "bare pass and np.memmap": lambda: _into_memmap(net, X, batch, folder / "plain"),
            f"the same{EIGHTH}": lambda: _into_memmap(net, few, batch, folder / "plain"),
        }
        for name, options in KINDS.items():
            given = few if name.endswith(EIGHTH) else X
            actions[name] = lambda given=given, options=options: scope.record(given, folder / "store", progress=False, **options)
            scope.record(few[:64], folder / "first", overwrite=True, progress=False, **options)  # what is found out once, is
        times, sizes = _in_turn_from_nothing(actions, rounds, folder)
    title = f"{size.samples:,} sequences of {size.steps} steps, LSTM({N_CHANNELS}, {size.units}), float32, batches of {batch}"
    table = table_of(title, "", "s", "CPU s", "times the pass with np.memmap", "MB on disk")
    for name, taken in times.items():
        plain = times[f"the same{EIGHTH}" if name.endswith(EIGHTH) else "bare pass and np.memmap"]
        table.add_row(name, f"{np.median(taken.wall):.2f}", f"{np.median(taken.cpu):.2f}", taken.over(plain), f"{sizes[name] / 1e6:,.0f}")
    return table


def batch_of(scope: sq.Scope, X: np.ndarray, folder: Path) -> int:
    """How many sequences run together where nothing is said."""
    found = scope.record(X, folder / "first", "lstm", progress=False).settings["batch_size"]
    shutil.rmtree(folder / "first")
    return int(found)


def _in_turn_from_nothing(actions: dict[str, Callable[[], object]], rounds: int, folder: Path) -> tuple[dict[str, Times], dict[str, int]]:
    """Each in turn, in an empty folder; and the bytes that it leaves there."""
    times, sizes = {name: Times.empty() for name in actions}, {}
    for _ in range(rounds):
        for name, action in actions.items():
            shutil.rmtree(folder)
            folder.mkdir()
            os.sync()
            times[name].take(action)
            sizes[name] = bytes_of(folder)
    return times, sizes


def _into_memmap(net: Net, X: np.ndarray, batch: int, path: Path) -> None:
    bare(net, X, batch, np.memmap(path, np.float32, "w+", shape=(*X.shape[:2], net.lstm.hidden_size)))


# Two workers


class Side:
    """A cluster of some workers of a thread each, and each one's share of the data."""

    def __init__(self, client: Any, size: Size, X: np.ndarray, batch: int) -> None:
        self.client, self._size, self._batch = client, size, batch
        self._workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        shares = np.array_split(X, len(self._workers))
        self._shares = [client.scatter(share, workers=[worker]) for share, worker in zip(shares, self._workers, strict=True)]

    def passed(self) -> None:
        """The bare pass, each worker over its share."""
        todo = [
            self.client.submit(_pass_alone, self._size, share, self._batch, workers=[worker], pure=False)
            for share, worker in zip(self._shares, self._workers, strict=True)
        ]
        self.client.gather(todo)


def _pass_alone(size: Size, X: np.ndarray, batch: int) -> None:
    torch.set_num_threads(1)
    bare(net_of(size), X.copy(), batch)


def two(size: Size, rounds: int, where: str | None) -> Table:
    """Two worker processes of a thread each against one, and two bare processes against one."""
    X, scope, shard = data(size.workers_samples, size.steps), sq.Scope(net_of(size)), size.workers_samples // 16
    with room(where) as folder, client_of(1) as first, client_of(2) as second:
        batch = batch_of(scope, X, folder)
        sides = {1: Side(first, size, X, batch), 2: Side(second, size, X, batch)}

        def recorded(side: Side, part: np.ndarray) -> None:
            options: dict[str, Any] = {"shard": shard, "overwrite": True, "progress": False}
            scope.record(part, folder / "store", "lstm", client=side.client, **options)

        actions: dict[str, Callable[[], object]] = {}
        for n, side in sides.items():
            recorded(side, X[: 4 * shard])  # torch is imported, the model opened
            side.passed()
            actions[f"{n} of record's workers"] = lambda side=side: recorded(side, X)
            actions[f"{n} bare"] = side.passed
        times = in_turn(actions, rounds)
    title = f"{size.workers_samples:,} sequences of {size.steps} steps, LSTM({N_CHANNELS}, {size.units}), {os.cpu_count()} cores"
    table = table_of(title, "processes", "s", "times as fast as one")
    for name, taken in times.items():
        table.add_row(name, f"{np.median(taken.wall):.2f}", times[f"1{name[1:]}"].over(taken))
    return table


# Growth

SHORT, SHORT_CHANNELS, SHORT_UNITS = 10, 4, 16
SHARDS = (None, 4096)  # by themselves, which for few sequences are smaller; and alike for any number


def growth(size: Size, rounds: int, where: str | None) -> Table:
    """Seconds, memory, files and bytes as the number of sequences grows."""
    table = table_of(
        f"{SHORT} steps, LSTM({SHORT_CHANNELS}, {SHORT_UNITS})",
        "sequences",
        "shard",
        "s",
        "µs a sequence",
        "without the fixed part",
        "peak MB",
        "before it began",
        "files",
        "files / million steps",
        "MB / million steps",
    )
    with room(where) as folder:
        found: dict[tuple[int, int | None], list[dict[str, float]]] = {(n, shard): [] for shard in SHARDS for n in size.growing}
        for n in size.growing:
            steps = np.lib.format.open_memmap(folder / f"{n}.npy", "w+", np.float32, (n, SHORT, SHORT_CHANNELS))
            for start in range(0, n, 10_000):
                steps[start : start + 10_000] = np.random.default_rng(start).standard_normal(steps[start : start + 10_000].shape)
            steps.flush()
        for _ in range(max(1, rounds // 3)):
            for (n, shard), rows in found.items():
                os.sync()
                rows.append(_in_a_process_of_its_own(folder / f"{n}.npy", folder, shard))
    for (n, _), rows in found.items():
        row = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
        millions = n * SHORT / 1e6
        table.add_row(
            f"{n:,}",
            f"{row['shard']:,.0f}",
            f"{row['s']:.2f}",
            f"{row['s'] / n * 1e6:.1f}",
            f"{(row['s'] - row['fixed s']) / n * 1e6:.1f}",
            f"{row['peak'] / 1e6:.0f}",
            f"{row['before'] / 1e6:.0f}",
            f"{row['files']:.0f}",
            f"{row['files'] / millions:.1f}",
            f"{row['bytes'] / millions / 1e6:.1f}",
        )
    return table


def _in_a_process_of_its_own(path: Path, folder: Path, shard: int | None) -> dict[str, float]:
    command = [sys.executable, __file__, "--alone", str(path), "--folder", str(folder), *(["--shard", str(shard)] if shard else [])]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def alone(path: Path, folder: Path, shard: int | None) -> dict[str, float]:
    """Record a file in this process, and say what it took."""
    scope = sq.Scope(Net(SHORT_CHANNELS, SHORT_UNITS).eval())
    few = np.load(path, mmap_mode="r")[:100].copy()
    fixed = Times.empty()
    for number in range(2):  # the first is to warm up
        fixed.take(lambda number=number: scope.record(few, folder / f"few{number}", "lstm", progress=False))
        shutil.rmtree(folder / f"few{number}")
    store, taken = folder / "store", Times.empty()
    with Peak() as memory:
        taken.take(lambda: scope.record(path, store, "lstm", shard=shard, progress=False))
    figures = {"s": taken.wall[0], "fixed s": fixed.wall[1], "peak": memory.highest, "before": memory.first}
    figures |= {"shard": sq.open(store).settings["shard"], "files": len(files_of(store)), "bytes": bytes_of(store)}
    shutil.rmtree(store)
    return figures


class Peak:
    """The most memory of its own that this process has, looked at a hundred times a second: not the files that it maps."""

    def __enter__(self) -> Peak:
        self.first = self.highest = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.highest = max(self.highest, self._now())

    @staticmethod
    def _now() -> float:
        status = Path("/proc/self/status").read_text()
        return float(status.split("RssAnon:")[1].split()[0]) * 1024


# Reading


class Counting(WrapperStore[LocalStore]):
    """A store that counts what is read of it."""

    n_bytes, n_reads = 0, 0

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read, and count."""
        found = await super().get(key, prototype, byte_range)
        self.n_bytes, self.n_reads = self.n_bytes + (0 if found is None else len(found)), self.n_reads + 1
        return found


def reading(size: Size, rounds: int, where: str | None) -> Table:
    """One unit of all sequences, and all units of one, by how the array is cut."""
    with room(where) as folder:
        sq.Scope(net_of(size)).record(data(size.samples, size.steps), folder / "store", "lstm", inputs=False, progress=False)
        own = zarr.open_array(folder / "store", path=HIDDEN, mode="r")
        arrays = {f"{own.chunks}, the store's own": (folder / "store", HIDDEN)}
        for cut in ((64, size.steps, size.units), (256, size.steps, 16), (1024, size.steps, 4)):
            chunks = (min(cut[0], own.shards[0]), *cut[1:])
            _cut_again(own, folder / str(len(arrays)), chunks)
            arrays[f"{chunks}"] = (folder / str(len(arrays)), "")
        title = f"{own.shape[0]:,} sequences of {size.steps} steps of {size.units} units, shards of {own.shards[0]} sequences, {own.dtype}"
        headings = ["one unit of all, ms", "MB read", "requests", "all units of one, ms", "MB read", "requests"]
        table = table_of(title, "chunks", *headings)
        for name, (store, path) in arrays.items():
            table.add_row(name, *_read(store, path, size, rounds))
    return table


def _cut_again(own: Any, folder: Path, chunks: tuple[int, ...]) -> None:
    """The same values in other chunks."""
    array = zarr.create_array(
        folder, shape=own.shape, dtype=own.dtype, chunks=chunks, shards=own.shards, compressors=own.compressors, fill_value=np.nan
    )
    for start in range(0, own.shape[0], own.shards[0]):
        array[start : start + own.shards[0]] = own[start : start + own.shards[0]]


def _read(folder: Path, path: str, size: Size, rounds: int) -> list[str]:
    """Times, bytes and requests of both questions."""
    counting = Counting(LocalStore(folder, read_only=True))
    array = zarr.open_array(counting, path=path, mode="r")
    random = np.random.default_rng(0)
    units, samples = random.integers(0, array.shape[2], rounds), random.integers(0, array.shape[0], size.reads)
    row = []
    for asked in ([(slice(None), slice(None), unit) for unit in units], [(sample,) for sample in samples]):
        array[asked[0]]
        counting.n_bytes, counting.n_reads, times = 0, 0, Times.empty()
        for where in asked:
            times.take(lambda where=where: array[where])
        n_bytes, n_reads = counting.n_bytes / len(asked), counting.n_reads / len(asked)
        row += [f"{np.median(times.wall) * 1e3:.1f}", f"{n_bytes / 1e6:.2f}", f"{n_reads:.0f}"]
    return row


PARTS: dict[str, Callable[[Size, int, str | None], Table]] = {"one": one, "two": two, "growth": growth, "reading": reading}


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, help="default: 5; with --small 1")
    parser.add_argument("--small", action="store_true", help="sizes that take some seconds")
    parser.add_argument("--folder", help="where stores are written while they are needed, up to 8 GB; default: that of temporary files")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shard", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.alone is not None:
        print(json.dumps(alone(options.alone, Path(options.folder), options.shard)))
        return
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]!r}: expected {', '.join(PARTS)}")
    for name in options.parts or PARTS:
        table = PARTS[name](SMALL if options.small else FULL, options.rounds or (1 if options.small else 5), options.folder)
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
