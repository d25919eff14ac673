"""Train the network that `seqscope.zoo.conv_mil` ships.

Series of 300 steps and 9 channels, noise in all of them: one of five short patterns, planted somewhere in two of the channels, decides
the class (`datasets.planted`). Two convolutions, and in place of global average pooling and a dense layer a head of multiple-instance
learning: every step is classified and weighed, and what the steps say is averaged (`nn.torch.ConjunctivePooling`).

Learning rate and number of epochs are chosen on series that are not trained on; with the chosen settings three seeds are trained and the
one with the lowest loss on these is kept. The test series are used once, for the accuracies that are printed at the end.

    python examples/train_conv_mil.py             # trains the three seeds with the chosen settings, prints the accuracies
    python examples/train_conv_mil.py --search    # goes through the settings first
    python examples/train_conv_mil.py -o FILE     # also writes the weights of the best
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

import seqscope as sq
from seqscope.zoo.torch import ConvMIL

BATCH = 50
SEEDS = range(3)
PLANTED = {"length": 300, "n_channels": 9, "pattern": ("sine", "ramp", "bump", "peaks", "chirp"), "channel": (2, 5), "noise": 0.5}


@dataclass(frozen=True)
class Settings:
    """What is chosen on series that are not trained on."""

    learning_rate: float
    epochs: int


CHOSEN = Settings(learning_rate=0.01, epochs=8)
SEARCHED = [Settings(*values) for values in itertools.product((0.001, 0.003, 0.01), (4, 8))]

Data = tuple[torch.Tensor, torch.Tensor]


def series(n: int, seed: int) -> Data:
    """Series (sample, channel, time) and their classes."""
    X, y, _ = sq.datasets.planted(n, **PLANTED, seed=seed)
    classes = [PLANTED["pattern"].index(name) for name in y]
    return torch.tensor(next(X.batches(n)).values, dtype=torch.float32).transpose(1, 2).contiguous(), torch.tensor(classes)


def train(settings: Settings, seed: int, data: Data) -> ConvMIL:
    """Train one network."""
    torch.manual_seed(seed)
    model, (x, classes) = ConvMIL(), data
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model.logits(x[rows]), classes[rows]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def judge(model: ConvMIL, data: Data) -> tuple[float, float]:
    """Accuracy and mean loss."""
    x, classes = data
    scores = torch.cat([model.logits(rows) for rows in x.split(BATCH)])
    return float((scores.argmax(1) == classes).double().mean()), float(nn.functional.cross_entropy(scores, classes))


def search(fit: Data, held_out: Data) -> Settings:
    """The settings with the lowest loss on series that are not trained on."""
    losses = {}
    for settings in SEARCHED:
        accuracy, losses[settings] = judge(train(settings, 100, fit), held_out)
        print(f"{settings}: accuracy {accuracy:.3f}, loss {losses[settings]:.4f}", flush=True)
    return min(losses, key=lambda settings: losses[settings])


def main() -> None:
    """Train, judge and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", action="store_true", help="choose the settings first")
    parser.add_argument("-n", type=int, default=3000, help="series to train on")
    parser.add_argument("-o", "--output", type=Path, help="where to write the weights of the best network")
    options = parser.parse_args()
    torch.set_num_threads(1)

    fit, held_out, test = (series(n, seed) for n, seed in ((options.n, 0), (500, 1), (1000, 2)))
    settings = search(fit, held_out) if options.search else CHOSEN
    print(settings)
    models = [train(settings, seed, fit) for seed in SEEDS]
    judged = [judge(model, held_out) for model in models]
    on_test = [judge(model, test)[0] for model in models]
    for seed, (accuracy, loss), right in zip(SEEDS, judged, on_test, strict=True):
        print(f"seed {seed}: held-out accuracy {accuracy:.3f}, held-out loss {loss:.4f}, test accuracy {right:.4f}")
    best = int(np.argmin([loss for _, loss in judged]))
    print(f"test accuracy: mean {np.mean(on_test):.4f}, standard deviation {np.std(on_test, ddof=1):.4f}")
    print(f"lowest held-out loss: seed {best}, test accuracy {on_test[best]:.4f}")
    if options.output:
        save_file(models[best].state_dict(), options.output)
        print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
