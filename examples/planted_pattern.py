"""A net of two convolutions that learns which pattern is hidden in a series, and three explanations of one decision.

Each series is noise in nine channels, with one of two patterns somewhere in channel 4; where, the data set says. So it can be told
whether an explanation points at it: the area under the ROC curve of its values against the truth, 0.5 for a guess. The picture in the
README is `explained.png` of this script.

    python examples/planted_pattern.py --out folder
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import seqscope as sq

CHANNEL = 4


def make_model() -> nn.Module:
    """Two convolutions with pooling, their mean over time, a dense layer of two outputs."""
    return nn.Sequential(
        nn.Conv1d(9, 16, 7),
        nn.ReLU(),
        nn.MaxPool1d(3),
        nn.Conv1d(16, 16, 7),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def train(model: nn.Module, X: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """Adam on batches of 50."""
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    series, classes = torch.from_numpy(X).float().transpose(1, 2), torch.from_numpy(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(series)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(series[rows]), classes[rows]).backward()
            optimizer.step()


def main() -> None:
    """Train, explain, compare with the truth, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to draw in")
    options = parser.parse_args()
    torch.manual_seed(0)
    planted = {"length": 300, "n_channels": 9, "channel": CHANNEL}
    X, y, _ = sq.datasets.planted(600, **planted, seed=0)
    names = list(X.outputs)
    model = make_model()
    train(model, np.stack([x.values for x in X]), np.array([names.index(name) for name in y]), options.epochs)

    X, y, truth = sq.datasets.planted(100, **planted, seed=1)
    scope = sq.Scope(model)
    print(f"Accuracy on new series: {(scope.predict(X).idxmax('output') == y).mean().item():.2f}")
    found = {
        "integrated gradients": scope.attribute(X, "integrated_gradients"),
        "occlusion": scope.attribute(X, "occlusion", window=15),
        "grad-CAM": scope.attribute(X, "grad_cam"),
    }
    for name, a in found.items():
        where = truth.any("channel") if "map" in a else truth
        values = a["map"] if "map" in a else abs(a)
        print(f"{name}: area under the ROC curve {roc_auc_score(where.values.ravel(), values.values.ravel()):.2f}")
    panels = sq.plot.compare_attributions(X[0], {name: a.isel(sample=0) for name, a in found.items()})
    next(iter(panels.values())).get_figure(root=True).savefig(options.out / "explained.png", dpi=130)


if __name__ == "__main__":
    main()
