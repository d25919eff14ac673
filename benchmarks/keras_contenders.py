"""What `activations.py` times on one of Keras' backends; the backend is chosen when Keras is imported, so each has a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import layers as kl

import seqscope as sq

BATCH = 64


def lstm() -> tuple[keras.Model, str, tuple[int, int]]:
    """LSTM(12, 100) read at its last step, 100 steps."""
    stack = [kl.LSTM(100, name="lstm"), kl.Dense(9, activation="softmax")]
    return keras.Sequential([keras.Input((None, 12)), *stack]), "lstm", (100, 12)


def convolutions() -> tuple[keras.Model, str, tuple[int, int]]:
    """Two convolutions of 128 filters over 300 steps of 9 channels, and a dense layer of 300."""
    stack = [kl.Conv1D(128, 9), kl.BatchNormalization(), kl.ReLU(), kl.MaxPooling1D(5), kl.Conv1D(128, 9, name="conv1d_2")]
    stack += [kl.BatchNormalization(), kl.ReLU(), kl.MaxPooling1D(5), kl.Flatten(), kl.Dense(300, activation="softmax")]
    return keras.Sequential([keras.Input((300, 9)), *stack]), "conv1d_2", (300, 9)


NETS = {"LSTM": lstm, "Conv1D": convolutions}


class KerasContenders:
    """One model, one data set, and each tool's way to what its layer gives."""

    def __init__(self, net: str, n_sequences: int) -> None:
        keras.utils.set_random_seed(0)
        self.model, self.layer, shape = NETS[net]()
        self.X = np.random.default_rng(0).standard_normal((n_sequences, *shape)).astype(np.float32)
        self.sequences, self.scope = sq.Sequences(self.X), sq.Scope(self.model)
        self._forward = compiled(self.model)
        self._part = keras.Model(self.model.inputs[0], self._output_of_layer())
        self._part_forward = compiled(self._part)

    def _output_of_layer(self) -> keras.KerasTensor:
        """What people build by hand: a second model that ends in the layer; a recurrent layer again, to return sequences."""
        layer = self.model.get_layer(self.layer)
        if not isinstance(layer, kl.LSTM):
            return layer.output
        twin = kl.LSTM.from_config(layer.get_config() | {"return_sequences": True})
        output = twin(self.model.inputs[0])
        twin.set_weights(layer.get_weights())
        return output

    def batches(self) -> Iterator[np.ndarray]:
        """The data, a batch at a time."""
        return (self.X[start : start + BATCH] for start in range(0, len(self.X), BATCH))

    def bare(self) -> None:
        """Run the compiled model and throw everything away."""
        for batch in self.batches():
            self._forward(batch)

    def seqscope(self) -> np.ndarray:
        """The one call."""
        return self.scope.activations(self.sequences, self.layer, batch_size=BATCH).values

    def predict(self) -> np.ndarray:
        """`predict` of the second model."""
        return np.asarray(self._part.predict(self.X, batch_size=BATCH, verbose=0))

    def keract(self) -> np.ndarray:
        """What the package keract offers."""
        import keract

        kept = [keract.get_activations(self.model, batch, layer_names=self.layer)[self.layer] for batch in self.batches()]
        return np.concatenate(kept)


TOOLS: dict[str, str] = {"seqscope": "seqscope", "predict of a second model": "predict", "keract": "keract"}


def compiled(model: keras.Model) -> Callable[[np.ndarray], object]:
    """The bare compiled forward pass, waited for."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            signature = [tf.TensorSpec((None, *model.inputs[0].shape[1:]))]
            return tf.function(lambda batch: model(batch, training=False), input_signature=signature)
        case "jax":
            import jax

            run = jax.jit(lambda own, rest, batch: model.stateless_call(own, rest, batch, training=False)[0])
            parts = model.trainable_variables, model.non_trainable_variables  # whose arrays `predict` gives up: read anew each time
            return lambda batch: jax.block_until_ready(run(*([one.value for one in part] for part in parts), batch))
    import torch

    def forward(batch: np.ndarray) -> object:
        with torch.no_grad():
            return model(torch.from_numpy(batch), training=False)

    return forward


def ragged(n_lengths: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """2,000 sequences of so many lengths from 50 on, ten of each; and as many steps in sequences of one length."""
    random = np.random.default_rng(0)
    lengths = np.repeat(np.arange(50, 50 + n_lengths), 2000 // n_lengths)
    many = [random.standard_normal((length, 12)).astype(np.float32) for length in lengths]
    middle = int(lengths.mean())
    return many, [random.standard_normal((middle, 12)).astype(np.float32) for _ in range(int(lengths.sum()) // middle)]
