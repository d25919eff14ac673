"""The shipped networks in Keras, with the weights of the torch ones.

torch keeps a matrix of a recurrent layer as (gates x units, inputs) and two biases that are added; Keras keeps its transpose, and one
bias. Both order the gates of an LSTM input, forget, candidate, output.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

from seqscope.nn.keras import AttentionPooling, ConjunctivePooling


def japanese_vowels(weights: Mapping[str, np.ndarray]) -> keras.Sequential:
    """Make the network with these weights.

    Takes (sample, time, channel) and gives the probability of each of the nine speakers, (sample, 9).
    """
    stack = [layers.LSTM(100, name="lstm"), layers.Dense(9, name="fc"), layers.Softmax(name="softmax")]
    model = keras.Sequential([keras.Input((None, 12)), *stack], name="japanese_vowels")
    _fill(model, weights)
    return model


def char_lstm(weights: Mapping[str, np.ndarray]) -> keras.Sequential:
    """Make the network with these weights; its alphabet is among them, as code points.

    Takes one-hot characters (sample, time, character) and gives the probability of each as the next, (sample, character). The
    attribute `characters` is the alphabet; Keras does not save it with the model.
    """
    characters = "".join(map(chr, weights["characters"]))
    n_characters = len(characters)
    stack = [layers.LSTM(64, name="lstm"), layers.Dropout(0.2, name="dropout"), layers.Dense(n_characters, name="fc")]
    model = keras.Sequential([keras.Input((None, n_characters)), *stack, layers.Softmax(name="softmax")], name="char_lstm")
    _fill(model, weights)
    model.characters = characters
    return model


def _fill(model: keras.Sequential, weights: Mapping[str, np.ndarray]) -> None:
    """Give the layers `lstm` and `fc` the weights of the torch ones."""
    _fill_lstm(model, weights)
    model.get_layer("fc").set_weights([weights["fc.weight"].T, weights["fc.bias"]])


def _fill_lstm(model: keras.Sequential, weights: Mapping[str, np.ndarray]) -> None:
    """Give the layer `lstm` the weights of the torch one."""
    bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    model.get_layer("lstm").set_weights([weights["lstm.weight_ih_l0"].T, weights["lstm.weight_hh_l0"].T, bias])


def conv_mil(weights: Mapping[str, np.ndarray]) -> keras.Sequential:
    """Make the network with these weights.

    Takes (sample, time, channel) of any length from 20 steps on and gives the probability of each class, (sample, 5).
    """
    stack = []
    for number, taps in ((1, 9), (2, 6)):
        stack += [layers.Conv1D(64, taps, name=f"conv1d_{number}"), layers.BatchNormalization(epsilon=1e-5, name=f"batch_norm_{number}")]
        stack += [layers.ReLU(name=f"relu_{number}"), layers.MaxPooling1D(2, name="pool")] if number == 1 else [layers.ReLU(name="relu_2")]
    stack += [ConjunctivePooling(5, dropout=0.1, name="head"), layers.Softmax(name="softmax")]
    model = keras.Sequential([keras.Input((None, 9)), *stack], name="conv_mil")
    for number in (1, 2):
        model.get_layer(f"conv1d_{number}").set_weights(
            [weights[f"conv1d_{number}.weight"].transpose(2, 1, 0), weights[f"conv1d_{number}.bias"]]
        )
        norm = [weights[f"batch_norm_{number}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")]
        model.get_layer(f"batch_norm_{number}").set_weights(norm)
    _fill_head(model, weights)
    return model


def attention_lstm(weights: Mapping[str, np.ndarray]) -> keras.Sequential:
    """Make the network with these weights.

    Takes (sample, time, channel) and gives the probability of each of the nine speakers, (sample, 9).
    """
    stack = [layers.LSTM(64, return_sequences=True, name="lstm"), AttentionPooling(9, name="head"), layers.Softmax(name="softmax")]
    model = keras.Sequential([keras.Input((None, 12)), *stack], name="attention_lstm")
    _fill_lstm(model, weights)
    _fill_head(model, weights)
    return model


def _fill_head(model: keras.Sequential, weights: Mapping[str, np.ndarray]) -> None:
    """Give the layer `head` the weights of the torch one."""
    head = model.get_layer("head")
    for name in ("hidden", "score", "classifier"):
        own = [weights[f"head.{name}.weight"].T] + ([weights[f"head.{name}.bias"]] if f"head.{name}.bias" in weights else [])
        getattr(head, name).set_weights(own)
