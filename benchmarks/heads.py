"""Heads that explain themselves: what they cost in accuracy, and how well what they say finds the pattern that decides.

Planted data (`datasets.planted`: noise, and in one channel a short pattern that decides the class). Two backbones: two convolutions on
series of 300 steps and 9 channels, and an LSTM on series of 60 to 90 steps and 3 channels. Each is trained with its plain head (global
average pooling and a dense layer; the last step and a dense layer) and with each head of `seqscope.nn`, the same settings and seeds for
all. On new series: the accuracy, and the area under the ROC curve of each explanation of the true class against the steps where the
pattern was planted, each series by itself, in the mean; of all seeds the median. The head's own evidence and its weights stand beside
grad_cam, integrated gradients (50 steps, sizes summed over channels) and occlusion (windows of 9 steps, every third, all channels, sizes)
of the same network.

    python benchmarks/heads.py                  # both backbones, three seeds
    python benchmarks/heads.py --backbone lstm
    python benchmarks/heads.py --seeds 1
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import seqscope as sq

HEADS = ("plain", "InstancePooling", "AttentionPooling", "AdditivePooling", "ConjunctivePooling")
METHODS: dict[str, dict[str, Any]] = {
    "instances": {},
    "attention_pooling": {},
    "grad_cam": {},
    "integrated_gradients": {"steps": 50},
    "occlusion": {"window": 9, "stride": 3, "channels": "all"},
}
N_TEST = 60


@dataclass(frozen=True)
class Backbone:
    """What a head is put on, its data, and how long it is trained."""

    n_train: int
    epochs: int
    learning_rate: float
    planted: dict[str, Any] = field(default_factory=dict)


BACKBONES = {
    "convolutions": Backbone(800, 15, 0.005, {"length": 300, "n_channels": 9, "noise": 0.5}),
    "lstm": Backbone(1000, 25, 0.01, {"length": (60, 90), "n_channels": 3, "noise": 0.2}),
}


class Convolutional(nn.Module):
    """Two convolutions of 32 filters; takes (sample, channel, time)."""

    def __init__(self, head: str, n_outputs: int) -> None:
        super().__init__()
        self.conv1d_1, self.conv1d_2, self.pool = nn.Conv1d(9, 32, 9), nn.Conv1d(32, 32, 6), nn.MaxPool1d(2)
        self.head: nn.Module = (
            nn.Linear(32, n_outputs) if head == "plain" else getattr(sq.nn.torch, head)(32, n_outputs, channels_first=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        z = torch.relu(self.conv1d_2(self.pool(torch.relu(self.conv1d_1(x)))))
        logits: Tensor = self.head(z.mean(2) if isinstance(self.head, nn.Linear) else z)
        return logits


class Recurrent(nn.Module):
    """An LSTM of 32 units; takes (sample, time, channel)."""

    def __init__(self, head: str, n_outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 32, batch_first=True)
        self.head: nn.Module = nn.Linear(32, n_outputs) if head == "plain" else getattr(sq.nn.torch, head)(32, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        h, _ = self.lstm(x)
        logits: Tensor = self.head(h[:, -1] if isinstance(self.head, nn.Linear) else h)
        return logits


def trained(name: str, head: str, seed: int) -> nn.Module:
    """A network trained on series of this seed; sequences of one length share batches."""
    backbone = BACKBONES[name]
    X, y, _ = sq.datasets.planted(backbone.n_train, **backbone.planted, channel=1, seed=2 * seed)
    classes = torch.tensor([X.outputs.index(one) for one in y])
    parts = [(torch.tensor(batch.values).float(), classes[batch.rows]) for batch in X.batches(30)]
    if name == "convolutions":
        parts = [(x.transpose(1, 2).contiguous(), own) for x, own in parts]
    torch.manual_seed(seed)
    model = (Convolutional if name == "convolutions" else Recurrent)(head, len(X.outputs))
    optimizer = torch.optim.Adam(model.parameters(), lr=backbone.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, backbone.learning_rate, total_steps=backbone.epochs * len(parts))
    for _ in range(backbone.epochs):
        for place in torch.randperm(len(parts)):
            x, own = parts[place]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), own).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def auroc(values: np.ndarray, truth: np.ndarray) -> float:
    """How well values rank the steps of the pattern, each series over its own steps, in the mean."""
    pairs = [(one[there], where[there]) for one, where in zip(values, truth, strict=True) for there in [~np.isnan(one)]]
    return float(np.mean([roc_auc_score(where, one) for one, where in pairs]))


def judge(name: str, head: str, seed: int) -> dict[str, float]:
    """Accuracy, and the area under the curve of each explanation."""
    X, y, truth = sq.datasets.planted(N_TEST, **BACKBONES[name].planted, channel=1, seed=2 * seed + 1)
    scope = sq.Scope(trained(name, head, seed), outputs=X.outputs, layout="NCT" if name == "convolutions" else "NTC")
    predicted = scope.predict(X, progress=False).idxmax("output").values
    found = {"accuracy": float((predicted == y).mean())}
    for method, options in METHODS.items():
        if (head == "plain" and method in ("instances", "attention_pooling")) or (head, method) == ("InstancePooling", "attention_pooling"):
            continue
        target = None if method == "attention_pooling" else list(y)
        result = scope.attribute(X, method, target=target, progress=False, **options)
        values = result["map"].values if "map" in result else np.abs(result.values).sum(2)
        found[method] = auroc(values, truth.values.any(2))
    return found


def table_of(name: str, n_seeds: int, console: Console) -> Table:
    """One backbone with each of its heads."""
    planted, started = BACKBONES[name].planted, time.perf_counter()
    table = Table(title=f"{name}, planted with {planted}, medians of {n_seeds} seeds", box=box.MARKDOWN)
    for heading in ("head", "accuracy", *METHODS):
        table.add_column(heading)
    for head in HEADS:
        judged = [judge(name, head, seed) for seed in range(n_seeds)]
        medians = {figure: np.median([one[figure] for one in judged]) for figure in judged[0]}
        table.add_row(head, *(f"{medians[figure]:.3f}" if figure in medians else "" for figure in ("accuracy", *METHODS)))
        console.print(f"{name}, {head}: {medians['accuracy']:.3f} after {time.perf_counter() - started:.0f} s", style="dim")
    return table


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=BACKBONES, help="one alone")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of scores below chance, where a net is wrong
    progress, out = Console(stderr=True), Console(width=140)
    for name in [options.backbone] if options.backbone else BACKBONES:
        out.print(table_of(name, options.seeds, progress))


if __name__ == "__main__":
    main()
