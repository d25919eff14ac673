"""Units of a network that reads Shakespeare by characters, and what in the text they follow.

What a person can say of each character: how far it stands in its line, whether it lies in a speaker's name, in a stage direction, at
the beginning of a word. For each of these the memory cell whose state goes with it most closely (Pearson's correlation) is looked for
on text that the network was trained on; what is printed is how closely it does so on two acts that it never saw. The control is the
same with the text shifted against the cells by a random distance, for the cell that fits best then: what 64 cells reach by chance.

    python examples/text_units.py --out folder
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np

import seqscope as sq

WINDOW = 1000  # characters that are read from a fresh state
N_SEEN = 36_000  # about as many as are then judged on
N_SHIFTS = 200
LEAST_SHIFT = 1000  # characters: beyond any line, speech or stage direction
PASSAGE, N_SHOWN = "Wherefore was that cry?", 557  # characters


def line_position(text: str) -> np.ndarray:
    """How many characters of its line stand before each; the newline belongs to the line that it ends."""
    places = np.arange(len(text))
    ends = np.array([character == "\n" for character in text])
    begins = np.concatenate([[0], np.where(ends, places + 1, 0)[:-1]])
    return places - np.maximum.accumulate(begins)


def inside(pattern: str) -> Callable[[str], np.ndarray]:
    """Whether each character lies in a match of the pattern."""

    def mark(text: str) -> np.ndarray:
        marks = np.zeros(len(text))
        for match in re.finditer(pattern, text, re.MULTILINE):
            marks[match.start() : match.end()] = 1.0
        return marks

    return mark


NAMED: dict[str, Callable[[str], np.ndarray]] = {
    "place in the line": line_position,
    "in a speaker's name": inside(r"^[A-Z][A-Z ]+(?=\.$)"),
    "in a stage direction": inside(r"\[[^\]\n]*(\n[^\]\n]+)*"),
    "first letter of a word": inside(r"\b\w"),
    "between two words": inside(r"\s"),
}


def read(scope: sq.Scope, text: str) -> tuple[str, np.ndarray]:
    """The text as far as whole windows go, and the cell state at each of its characters, (time, unit)."""
    X = sq.Sequences.from_text(text, characters=scope.model.characters, window=WINDOW, remainder=False)
    cells = scope.states(X, "lstm")["c"]
    return text[: len(X) * WINDOW], cells.values.reshape(-1, cells.sizes["unit"])


def standard(values: np.ndarray) -> np.ndarray:
    """Of mean 0 and spread 1 over time."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


def correlations(cells: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each cell, (time, unit), with each feature, (time, feature): (unit, feature)."""
    return standard(cells).T @ standard(features.astype(np.float32)) / len(cells)


def by_chance(cells: np.ndarray, feature: np.ndarray) -> float:
    """How closely the best of all cells goes with the shifted feature; in 95 shifts of 100 it is less."""
    shifts = np.random.default_rng(0).integers(LEAST_SHIFT, len(feature) - LEAST_SHIFT, N_SHIFTS)
    shifted = np.stack([np.roll(feature, shift) for shift in shifts], axis=1)
    return float(np.quantile(abs(correlations(cells, shifted)).max(axis=0), 0.95))


def main() -> None:
    """Choose a unit for each feature, judge it on other text, draw the one that counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to draw in")
    options = parser.parse_args()
    scope = sq.Scope(sq.zoo.char_lstm())
    seen, cells_seen = read(scope, sq.datasets.shakespeare("train")[:N_SEEN])
    unseen, cells_unseen = read(scope, sq.datasets.shakespeare("test"))
    chosen = {}
    for name, feature in NAMED.items():
        chosen[name] = unit = int(abs(correlations(cells_seen, feature(seen)[:, None])).argmax())
        found = correlations(cells_unseen, feature(unseen)[:, None])[unit, 0]
        print(f"{name}: unit {unit}, correlation {found:+.2f}; by chance {by_chance(cells_unseen, feature(unseen)):.2f}")
    passage = unseen[unseen.index(PASSAGE) :][:N_SHOWN]
    x = sq.Sequences.from_text(passage, characters=scope.model.characters)
    units = [chosen["place in the line"], chosen["in a speaker's name"]]
    shown = sq.plot.text(passage, scope.states(x, "lstm")["c"].sel(unit=units), title="What two memory cells follow in Macbeth")
    for kind in ("png", "html"):
        print(f"Drawn in {shown.save(options.out / f'text_units.{kind}')}")


if __name__ == "__main__":
    main()
