"""Train the network that `seqscope.zoo.attention_lstm` ships: an LSTM that is read at all of its steps, by attention, on Japanese Vowels.

The network of `examples/train_japanese_vowels.py` reads the LSTM's last step; this one the sum of all steps, each with a weight that the
network finds (`nn.torch.AttentionPooling`). Sequences are sorted by length and taken in mini-batches of 27 in that order; the head is told
each one's length, so that padding has no weight.

Learning rate, number of epochs and the noise added to the input while training are chosen on a split of the training set (6 of each
speaker's 30 utterances); with the chosen settings five seeds are trained and the one with the lowest loss on that split is kept. The test
set is used once, for the accuracies that are printed at the end.

    python examples/train_attention_lstm.py             # trains the five seeds with the chosen settings, prints the accuracies
    python examples/train_attention_lstm.py --search    # goes through the settings first
    python examples/train_attention_lstm.py -o FILE     # also writes the weights of the best
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
from train_japanese_vowels import HELD_OUT_PER_SPEAKER, SEEDS, Batch, batches

import seqscope as sq
from seqscope.zoo.torch import AttentionLSTM


@dataclass(frozen=True)
class Settings:
    """What is chosen on the split."""

    learning_rate: float
    epochs: int
    noise: float


CHOSEN = Settings(learning_rate=0.01, epochs=60, noise=0.3)
SEARCHED = [Settings(*values) for values in itertools.product((0.003, 0.01), (30, 60), (0.1, 0.2, 0.3, 0.4))]
CLIP = 5.0


def train(settings: Settings, seed: int, data: list[Batch]) -> AttentionLSTM:
    """Train one network."""
    torch.manual_seed(seed)
    model = AttentionLSTM()
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    for _ in range(settings.epochs):
        for batch in data:
            optimizer.zero_grad()
            noisy = batch.values + settings.noise * torch.randn_like(batch.values)
            nn.functional.cross_entropy(model.logits(noisy, batch.lengths), batch.classes).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def judge(model: AttentionLSTM, data: list[Batch]) -> tuple[float, float]:
    """Accuracy and mean loss."""
    scores = torch.cat([model.logits(batch.values, batch.lengths) for batch in data])
    classes = torch.cat([batch.classes for batch in data])
    return float((scores.argmax(1) == classes).double().mean()), float(nn.functional.cross_entropy(scores, classes))


def search(fit: list[Batch], held_out: list[Batch]) -> Settings:
    """The settings with the lowest mean loss on the split, over two seeds."""
    losses = {}
    for settings in SEARCHED:
        judged = [judge(train(settings, seed, fit), held_out) for seed in (100, 101)]
        losses[settings] = float(np.mean([loss for _, loss in judged]))
        print(f"{settings}: accuracy {np.mean([right for right, _ in judged]):.3f}, loss {losses[settings]:.3f}", flush=True)
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
    judged = [judge(model, split) for model in models]
    test = batches(*sq.datasets.japanese_vowels("test"))
    on_test = [judge(model, test)[0] for model in models]
    for seed, (accuracy, loss), right in zip(SEEDS, judged, on_test, strict=True):
        print(f"seed {seed}: split accuracy {accuracy:.3f}, split loss {loss:.4f}, test accuracy {right:.4f}")
    best = int(np.argmin([loss for _, loss in judged]))
    print(f"test accuracy: mean {np.mean(on_test):.4f}, standard deviation {np.std(on_test, ddof=1):.4f}")
    print(f"lowest loss on the split: seed {best}, test accuracy {on_test[best]:.4f}")
    if options.output:
        save_file(models[best].state_dict(), options.output)
        print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
