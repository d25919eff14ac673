"""The samples of the table as a picture: which classes are taken for which, or how the scores lie."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqscope.errors import DataError
from seqscope.explorer.any_source import Source
from seqscope.explorer.views.samples import listing
from seqscope.explorer.views.samples.listing import PREDICTION, SCORE
from seqscope.labelled import LABEL
from seqscope.plot import style

# Classes up to which each cell has its number written in it, and up to which each class has its name.
_MOST_WRITTEN, _MOST_NAMED = 20, 40


def draw(source: Source, rows: np.ndarray, title: str) -> Figure:
    """A picture of some samples: label against prediction where both are classes, else label against score, else the scores.

    Raises
    ------
    DataError
        There are no samples, or no scores.
    """
    if not len(rows):
        raise DataError("No sample fits, so there is nothing to draw: take a filter off.")
    samples = source.samples.iloc[rows]
    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    ax = figure.subplots()
    ax.set_title(f"{title}: {len(rows):,} of {len(source):,} samples" if len(rows) < len(source) else f"{title}: {len(rows):,} samples")
    if source.is_classified:
        said = {name: [listing.said(value) for value in samples[name].tolist()] for name in (LABEL, PREDICTION)}
        _confusion(ax, said[LABEL], said[PREDICTION])
    elif SCORE in samples:
        labels = samples[LABEL].to_numpy() if LABEL in samples and samples[LABEL].dtype.kind in "iuf" else None
        _scores(ax, samples[SCORE].to_numpy(float), labels)
    return figure


def _confusion(ax: Axes, labels: list[str], predictions: list[str]) -> None:
    """How many samples of each class are predicted as each; colours are shares of the class."""
    names = sorted({*labels, *predictions}, key=listing.natural)
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, ([place[name] for name in labels], [place[name] for name in predictions]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = ax.imshow(shares, cmap=style.SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label="Share of the samples with this label")
    ax.set(xlabel="Predicted class", ylabel="Label")
    if len(names) <= _MOST_NAMED:
        shown = [name or "none" for name in names]
        ax.set_xticks(range(len(names)), shown, rotation=90 if max(map(len, shown)) > 3 else 0)
        ax.set_yticks(range(len(names)), shown)
    if len(names) <= _MOST_WRITTEN:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "black" if shares[row, column] > 0.5 else "white"
            ax.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize="small")


def _scores(ax: Axes, scores: np.ndarray, labels: np.ndarray | None) -> None:
    if labels is None:
        ax.hist(scores[np.isfinite(scores)], bins=40, color="#0072B2")
        ax.set(xlabel="Score", ylabel="Samples")
        return
    ax.scatter(labels, scores, s=12, alpha=0.6, color="#0072B2", linewidths=0, rasterized=len(scores) > 5000)
    ends = [min(np.nanmin(labels), np.nanmin(scores)), max(np.nanmax(labels), np.nanmax(scores))]
    ax.plot(ends, ends, color="#6E6E6E", linewidth=1, linestyle="dashed", label="Score as the label")
    ax.legend(frameon=False)
    ax.set(xlabel="Label", ylabel="Score")
