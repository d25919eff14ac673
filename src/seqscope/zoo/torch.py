"""The shipped networks in torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn


class JapaneseVowels(nn.Module):
    """Sequence input of 12 channels, an LSTM of 100 units that gives its last step, a dense layer of 9, softmax.

    Takes (sample, time, channel) and gives the probability of each of the nine speakers, (sample, 9).
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 100, batch_first=True)
        self.fc = nn.Linear(100, 9)
        self.softmax = nn.Softmax(dim=-1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The scores before the softmax, which training needs."""
        hidden, _ = self.lstm(x)
        scores: torch.Tensor = self.fc(hidden[:, -1])
        return scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The probability of each speaker."""
        probability: torch.Tensor = self.softmax(self.logits(x))
        return probability


def japanese_vowels(weights: Mapping[str, np.ndarray]) -> JapaneseVowels:
    """Make the network with these weights, in evaluation mode."""
    model = JapaneseVowels()
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return model.eval()
