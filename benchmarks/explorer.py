"""The explorer on 10^8 unit-steps: how long until it is seen, how long a click takes, what memory the server holds.

A small LSTM over 5,000 sequences of 200 steps and 12 channels is recorded: what its 100 units put out (10^8 float32), and their cell and
forget gate besides. A process serves the recording's page, and headless Chromium looks at it. All times are taken in the browser:

    opening     `explore(store)` in the server, before the first page; then a page from its address to the heatmap on the screen, in a
                browser that has nothing of it (cold) and in one that has its scripts (warm).
    clicks      from the key, click or choice to the new picture on the screen; in turn with the page's own bare round trip, which asks the
                server for nothing, round after round. Medians, and the slowest.
    memory      of the server: its own pages in memory (RssAnon), when it is up, after a page, after all clicks, with 20 pages open, after
                they are closed.

    python benchmarks/explorer.py
    python benchmarks/explorer.py --rounds 50
    python benchmarks/explorer.py --samples 250           # smaller, to try it out
    python benchmarks/explorer.py --store /tmp/big.zarr   # made there, and used again if it is there
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is loaded, here and in the server

import numpy as np
import torch
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table
from torch import nn

import seqscope as sq

N_STEPS, N_CHANNELS, N_UNITS, N_CLASSES = 200, 12, 100, 9
SESSIONS = 20
PATIENCE = 60_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"]


class Net(nn.Module):
    """An LSTM whose last step a dense layer reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.dense = nn.LSTM(N_CHANNELS, N_UNITS, batch_first=True), nn.Linear(N_UNITS, N_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(sample, time, channel) to (sample, output)."""
        return self.dense(self.lstm(x)[0][:, -1])


def record(path: Path, n_samples: int) -> None:
    """Slow noise through the LSTM, so that states compress as those of real series do."""
    random = np.random.default_rng(0)
    steps = random.standard_normal((n_samples, N_STEPS, N_CHANNELS), dtype=np.float32)
    for t in range(1, N_STEPS):
        steps[:, t] = 0.9 * steps[:, t - 1] + 0.4 * steps[:, t]
    X = sq.Sequences(steps, labels=random.integers(0, N_CLASSES, n_samples))
    sq.Scope(Net().eval()).record(X, path, "lstm", states={"lstm": ["c", "f"]}, progress=False)


# The server


def serve(store: str) -> None:
    """Serve the page, say how long that took and where it is, until standard input ends."""
    from seqscope.explorer import explore

    start = time.perf_counter()
    with explore(store, port=0, show=False, block=False) as served:
        print(time.perf_counter() - start, served.url, flush=True)
        sys.stdin.read()


@dataclass
class Server:
    """A process that serves."""

    process: subprocess.Popen[str]
    opening: float
    url: str
    memory: dict[str, float] = field(default_factory=dict)

    def note(self, when: str) -> None:
        """Write down what it holds, in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        self.memory[when] = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


@contextmanager
def running(store: Path) -> Iterator[Server]:
    """A server, until it is no longer needed."""
    command = [sys.executable, __file__, "--serve", str(store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        opening, url = process.stdout.readline().split()
        try:
            yield Server(process, float(opening), url)
        finally:
            process.stdin.close()
            process.wait(30)


# The browser

IS_SEEN = """() => {
  const [page] = window.Bokeh ? Bokeh.documents : [];
  if (!page || !page.is_idle) return false;
  return [...page._all_models.values()].some((model) => model.type === "ColumnDataSource" && model.data.image && model.data.image.length);
}"""

# What is watched: the data of the heatmap and of the unit's lines; when it is new and has been painted, `seen` is a time.
WATCH = """() => {
  const models = [...Bokeh.documents[0]._all_models.values()].filter((model) => model.type === "ColumnDataSource");
  const bench = window.bench = { began: 0, seen: {} };
  const note = (what) => { bench.seen[what] = performance.now() - bench.began; };
  const painted = (what) => requestAnimationFrame(() => requestAnimationFrame(() => note(what)));
  for (const model of models) {
    const what = "image" in model.data ? "heatmap" : "ys" in model.data ? "lines" : null;
    if (what) model.properties.data.change.connect(() => painted(what));
  }
  for (const kind of ["keydown", "pointerdown", "input"])
    document.addEventListener(kind, () => { bench.began = performance.now(); bench.seen = {}; }, true);
}"""

SOCKET = """
const Plain = WebSocket;
window.WebSocket = class extends Plain { constructor(...given) { super(...given); window.socket = this; } };
"""

# A key that means nothing: the page sends it as it sends a click, and the server says that it has it.
ROUND_TRIP = """() => new Promise((resolve) => {
  const began = performance.now();
  const heard = (message) => {
    if (typeof message.data !== "string" || !message.data.includes('"OK"')) return;
    socket.removeEventListener("message", heard);
    resolve(performance.now() - began);
  };
  socket.addEventListener("message", heard);
  Bokeh.documents[0].get_model_by_name("keys").value = "nothing:" + Math.random();
})"""


def open_page(page: Page, url: str) -> float:
    """Seconds from the address to the heatmap."""
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_function(IS_SEEN, polling="raf", timeout=PATIENCE)
    return time.perf_counter() - start


def took(page: Page, act: Callable[[], None], what: str) -> float:
    """Milliseconds from what a person does to the new picture."""
    page.evaluate("() => { bench.seen = {}; }")
    act()
    page.wait_for_function(f"() => bench.seen.{what} > 0", polling="raf", timeout=PATIENCE)
    found: float = page.evaluate(f"() => bench.seen.{what}")
    page.wait_for_timeout(150)  # what is left of it is no part of the next
    return found


def row_clicker(page: Page) -> Callable[[], None]:
    """Click on another unit of the heatmap each time."""
    heatmap = page.locator(".sq-view-sample .bk-Figure").nth(1)
    box, state = heatmap.bounding_box(), {"row": 0}
    if box is None:
        raise SystemExit("The page has no heatmap.")

    def click() -> None:
        state["row"] += 1
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20 + 11 * state["row"] % (box["height"] - 60))

    return click


def state_chooser(page: Page) -> Callable[[], None]:
    """Choose the cell, then what the layer puts out, in turn."""
    chosen, turns = page.get_by_label("State"), {"n": 0}

    def choose() -> None:
        turns["n"] += 1
        chosen.select_option(index=turns["n"] % 3)

    return choose


def clicks(page: Page, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each kind of click, one of each in a round."""
    page.evaluate(WATCH)
    click, choose = row_clicker(page), state_chooser(page)
    kinds: dict[str, Callable[[], float]] = {
        "bare round trip": lambda: page.evaluate(ROUND_TRIP),
        "another sample": lambda: took(page, lambda: page.keyboard.press("ArrowDown"), "heatmap"),
        "another unit": lambda: took(page, click, "lines"),
        "another state": lambda: took(page, choose, "heatmap"),
    }
    rows = []
    for _ in range(rounds + 1):
        rows.append({name: kind() for name, kind in kinds.items()})
        page.locator(".sq-about").click()  # the keys belong to the page again
    return {name: np.array([row[name] for row in rows[1:]]) for name in kinds}  # the first warms up


def many(browser: Browser, url: str, number: int) -> list[Page]:
    """So many pages at once, each on a sample of its own."""
    pages = [browser.new_context().new_page() for _ in range(number)]
    for place, page in enumerate(pages):
        page.goto(f"{url}?sample={place}")
    for page in pages:
        page.wait_for_function(IS_SEEN, polling=100, timeout=PATIENCE)
    return pages


def measure(store: Path, rounds: int) -> tuple[Table, Table, Table]:
    """All three parts."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("The page is looked at in Chromium, and there is none here.")
    with running(store) as server, sync_playwright() as playwright:
        server.note("when it is up")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        opened: dict[str, list[float]] = {"a page, cold": [], "a page, warm": []}
        for _ in range(5):
            context = browser.new_context(viewport={"width": 1280, "height": 1100})
            for seconds in opened.values():
                page = context.new_page()
                seconds.append(open_page(page, server.url))
                page.close()
            context.close()
        server.note("after ten pages, one at a time")
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.add_init_script(SOCKET)
        open_page(page, server.url)
        times = clicks(page, rounds)
        server.note(f"after {3 * (rounds + 1)} clicks")
        pages = many(browser, server.url, SESSIONS)
        server.note(f"with {SESSIONS} pages more")
        for one in pages:
            one.context.close()
        page.wait_for_timeout(20_000)  # the server gives a page up some seconds after its person has gone
        server.note("after they are closed")
        browser.close()
    return opening_table(server, opened), click_table(times), memory_table(server)


# Tables


def opening_table(server: Server, opened: dict[str, list[float]]) -> Table:
    """Seconds."""
    table = _table("Opening", "median, s", "slowest, s")
    table.add_row("explore(store), once", f"{server.opening:.2f}", "")
    for name, seconds in opened.items():
        table.add_row(name, f"{np.median(seconds):.2f}", f"{max(seconds):.2f}")
    return table


def click_table(times: dict[str, np.ndarray]) -> Table:
    """Milliseconds, and how many bare round trips they are."""
    table = _table("Clicks", "median, ms", "9 of 10 below, ms", "slowest, ms", "over the bare round trip, ms")
    bare = times["bare round trip"]
    for name, taken in times.items():
        figures = (np.median(taken), np.quantile(taken, 0.9), taken.max(), np.median(taken - bare))
        table.add_row(name, *(f"{figure:.0f}" if figure >= 10 else f"{figure:.1f}" for figure in figures))
    return table


def memory_table(server: Server) -> Table:
    """MB."""
    table = _table("Memory of the server", "MB")
    for when, megabytes in server.memory.items():
        table.add_row(when, f"{megabytes:.0f}")
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "big.zarr"
        if not store.exists():
            record(store, options.samples)
        size = f"{options.samples * N_STEPS * N_UNITS:.3g} unit-steps of each state" if not options.store else str(store)
        for table in measure(store, options.rounds):
            Console(width=140).print(table)
        Console(width=140).print(size)


if __name__ == "__main__":
    main()
