"""The shipped networks in torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from seqscope.nn.torch import AttentionPooling, ConjunctivePooling

_Model = TypeVar("_Model", bound=nn.Module)


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


class CharLSTM(nn.Module):
    """Reads a text one character at a time: an LSTM of 64 units that gives its last step, dropout, a dense layer, softmax.

    Takes one-hot characters (sample, time, character) and gives the probability of each as the next, (sample, character). The
    order of the characters is that of `characters`.
    """

    def __init__(self, characters: str) -> None:
        super().__init__()
        self.characters = characters
        self.lstm = nn.LSTM(len(characters), 64, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, len(characters))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The probability of each character as the next one."""
        hidden, _ = self.lstm(x)
        probability: torch.Tensor = self.softmax(self.fc(self.dropout(hidden[:, -1])))
        return probability


def char_lstm(weights: Mapping[str, np.ndarray]) -> CharLSTM:
    """Make the network with these weights, in evaluation mode; its alphabet is among them, as code points."""
    model = CharLSTM("".join(map(chr, weights["characters"])))
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items() if name != "characters"})
    return model.eval()


class ConvMIL(nn.Module):
    """Two convolutions of 64 filters over series of 9 channels, and a head that explains itself: conjunctive pooling into 5 classes.

    Takes (sample, channel, time) of any length from 20 steps on and gives the probability of each class, (sample, 5). A step of the head
    sees 20 steps of the input, every second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1d_1, self.batch_norm_1 = nn.Conv1d(9, 64, 9), nn.BatchNorm1d(64)
        self.pool = nn.MaxPool1d(2)
        self.conv1d_2, self.batch_norm_2 = nn.Conv1d(64, 64, 6), nn.BatchNorm1d(64)
        self.relu_1, self.relu_2 = nn.ReLU(), nn.ReLU()
        self.head = ConjunctivePooling(64, 5, channels_first=True, dropout=0.1)
        self.softmax = nn.Softmax(dim=-1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The scores before the softmax, which training needs."""
        x = self.pool(self.relu_1(self.batch_norm_1(self.conv1d_1(x))))
        scores: torch.Tensor = self.head(self.relu_2(self.batch_norm_2(self.conv1d_2(x))))
        return scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The probability of each class."""
        probability: torch.Tensor = self.softmax(self.logits(x))
        return probability


def conv_mil(weights: Mapping[str, np.ndarray]) -> ConvMIL:
    """Make the network with these weights, in evaluation mode."""
    return _filled(ConvMIL(), weights)


class AttentionLSTM(nn.Module):
    """Sequence input of 12 channels, an LSTM of 64 units, and attention pooling over all of its steps into 9 classes.

    Takes (sample, time, channel) and gives the probability of each of the nine speakers, (sample, 9).
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 64, batch_first=True)
        self.head = AttentionPooling(64, 9)
        self.softmax = nn.Softmax(dim=-1)

    def logits(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """The scores before the softmax, which training needs; of padded sequences with the number of each one's steps."""
        scores: torch.Tensor = self.head(self.lstm(x)[0], lengths)
        return scores

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """The probability of each speaker."""
        probability: torch.Tensor = self.softmax(self.logits(x, lengths))
        return probability


def attention_lstm(weights: Mapping[str, np.ndarray]) -> AttentionLSTM:
    """Make the network with these weights, in evaluation mode."""
    return _filled(AttentionLSTM(), weights)


def _filled(model: _Model, weights: Mapping[str, np.ndarray]) -> _Model:
    """The model with these weights, in evaluation mode."""
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return model.eval()
