"""The shipped networks in Keras, with the weights of the torch ones.

torch keeps a matrix of a recurrent layer as (gates x units, inputs) and two biases that are added; Keras keeps its transpose, and one
bias. Both order the gates of an LSTM input, forget, candidate, output.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers


def japanese_vowels(weights: Mapping[str, np.ndarray]) -> keras.Sequential:
    """Make the network with these weights.

    Takes (sample, time, channel) and gives the probability of each of the nine speakers, (sample, 9).
    """
    stack = [layers.LSTM(100, name="lstm"), layers.Dense(9, name="fc"), layers.Softmax(name="softmax")]
    model = keras.Sequential([keras.Input((None, 12)), *stack], name="japanese_vowels")
    bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    model.get_layer("lstm").set_weights([weights["lstm.weight_ih_l0"].T, weights["lstm.weight_hh_l0"].T, bias])
    model.get_layer("fc").set_weights([weights["fc.weight"].T, weights["fc.bias"]])
    return model
