"""Train the network that `seqscope.zoo.japanese_vowels` ships.

Sequence input of 12 channels, an LSTM of 100 units that gives its last step, a dense layer of 9, a softmax. Sequences are sorted by
length and taken in mini-batches of 27 in that order, so that little padding is needed; each sequence is read at its own last step.

Learning rate, number of epochs, gradient clipping and the noise added to the input while training are chosen on a split of the
training set (6 of each speaker's 30 utterances); with the chosen settings five seeds are trained and the one with the lowest loss on
that split is kept. The test set is used once, for the accuracies that are printed at the end.

    python examples/train_japanese_vowels.py             # trains the five seeds with the chosen settings, prints the accuracies
    python examples/train_japanese_vowels.py --search    # goes through the settings first
    python examples/train_japanese_vowels.py -o FILE     # also writes the weights of the best
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
from torch.nn.utils.rnn import pad_sequence

import seqscope as sq
from seqscope.zoo.torch import JapaneseVowels

BATCH = 27
SEEDS = range(5)
HELD_OUT_PER_SPEAKER = 6


@dataclass(frozen=True)
class Settings:
    """What is chosen on the split."""

    learning_rate: float
    epochs: int
    clip: float
    noise: float


CHOSEN = Settings(learning_rate=0.003, epochs=120, clip=5.0, noise=0.1)
SEARCHED = [Settings(*values) for values in itertools.product((0.003, 0.01), (60, 120), (1.0, 5.0), (0.0, 0.1, 0.2, 0.3))]


@dataclass
class Batch:
    """Padded sequences with their lengths and classes."""

    values: torch.Tensor
    lengths: torch.Tensor
    classes: torch.Tensor


def batches(X: sq.Sequences, y: np.ndarray) -> list[Batch]:
    """Mini-batches in order of length."""
    order = np.argsort(X.lengths, kind="stable")
    made = []
    for rows in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
        series = [torch.tensor(X[int(row)].values, dtype=torch.float32) for row in rows]
        classes = torch.tensor(y[rows].astype(int) - 1)
        made.append(Batch(pad_sequence(series, batch_first=True), torch.tensor(X.lengths[rows]), classes))
    return made


def logits(model: JapaneseVowels, batch: Batch, noise: float = 0.0) -> torch.Tensor:
    """The scores at each sequence's own last step: what the model gives for the sequence alone."""
    hidden, _ = model.lstm(batch.values + noise * torch.randn_like(batch.values))
    return model.fc(hidden[torch.arange(len(batch.lengths)), batch.lengths - 1])


def train(settings: Settings, seed: int, data: list[Batch]) -> JapaneseVowels:
    """Train one network."""
    torch.manual_seed(seed)
    model = JapaneseVowels()
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    for _ in range(settings.epochs):
        for batch in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits(model, batch, settings.noise), batch.classes).backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def judge(model: JapaneseVowels, data: list[Batch]) -> tuple[float, float]:
    """Accuracy and mean loss."""
    scores = torch.cat([logits(model, batch) for batch in data])
    classes = torch.cat([batch.classes for batch in data])
    accuracy = (scores.argmax(1) == classes).double().mean()
    return float(accuracy), float(nn.functional.cross_entropy(scores, classes))


def search(fit: list[Batch], held_out: list[Batch]) -> Settings:
    """The settings with the lowest mean loss on the split, over two seeds."""
    losses = {}
    for settings in SEARCHED:
        judged = [judge(train(settings, seed, fit), held_out) for seed in (100, 101)]
        losses[settings] = float(np.mean([loss for _, loss in judged]))
        accuracy = np.mean([accuracy for accuracy, _ in judged])
        print(f"{settings}: accuracy {accuracy:.3f}, loss {losses[settings]:.3f}", flush=True)
    return min(losses, key=lambda settings: losses[settings])


def main() -> None:
    """Train, judge and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", action="store_true", help="choose the settings on the split first")
    parser.add_argument("-o", "--output", type=Path, help="where to write the weights of the best network")
    options = parser.parse_args()
    torch.set_num_threads(1)

    X, y = sq.datasets.japanese_vowels("train")
    shuffled = np.random.default_rng(0).permutation(len(X))
    held_out = np.concatenate([shuffled[y[shuffled] == speaker][:HELD_OUT_PER_SPEAKER] for speaker in np.unique(y)])
    fitted = np.setdiff1d(np.arange(len(X)), held_out)
    fit, split = batches(X[fitted], y[fitted]), batches(X[held_out], y[held_out])

    settings = search(fit, split) if options.search else CHOSEN
    print(settings)
    models = [train(settings, seed, fit) for seed in SEEDS]
    on_split = [judge(model, split) for model in models]
    on_test = [judge(model, batches(*sq.datasets.japanese_vowels("test")))[0] for model in models]
    for seed, (accuracy, loss), test in zip(SEEDS, on_split, on_test, strict=True):
        print(f"seed {seed}: split accuracy {accuracy:.3f}, split loss {loss:.4f}, test accuracy {test:.4f}")
    best = int(np.argmin([loss for _, loss in on_split]))
    print(f"test accuracy: mean {np.mean(on_test):.4f}, standard deviation {np.std(on_test, ddof=1):.4f}")
    print(f"lowest loss on the split: seed {best}, test accuracy {on_test[best]:.4f}")
    if options.output:
        save_file(models[best].state_dict(), options.output)
        print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
