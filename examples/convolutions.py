"""A net of two convolutions on series of 300 steps and 9 channels: its layers, one of them under its input, and its first kernels.

The series are noise with a slow wave in one channel and a burst somewhere in two others; the net learns in a few seconds to tell fast
bursts from slow ones. The picture in the README is `layer.png` of this script.

    python examples/convolutions.py --out folder
    KERAS_BACKEND=jax python examples/convolutions.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import matplotlib

matplotlib.use("agg")
import numpy as np
from keras import layers

import seqscope as sq

N_STEPS, N_CHANNELS = 300, 9


def make_series(is_fast: bool, random: np.random.Generator) -> np.ndarray:
    """One series (time, channel): a burst of period 8 or 16 in channels 2 and 5, a slow wave in channel 7."""
    steps = np.arange(N_STEPS)
    x = 0.25 * random.standard_normal((N_STEPS, N_CHANNELS))
    burst = 2.5 * np.exp(-(((steps - random.integers(40, 240)) / 12) ** 2)) * np.sin(2 * np.pi * steps / (8 if is_fast else 16))
    x[:, 2] += burst
    x[:, 5] += 0.8 * np.roll(burst, 4)
    x[:, 7] += np.sin(2 * np.pi * steps / 90 + random.uniform(0, 6))
    return x.astype(np.float32)


def make_model() -> keras.Model:
    """Two convolutions of 128 filters, each with batch norm, ReLU and pooling; a dense layer of 300."""
    stack = [layers.Conv1D(128, 9, name="conv1d_1"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling1D(5)]
    stack += [layers.Conv1D(128, 9, name="conv1d_2"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling1D(5)]
    stack += [layers.Flatten(), layers.Dense(300, activation="softmax")]
    model = keras.Sequential([keras.Input((N_STEPS, N_CHANNELS)), *stack], name="two_convolutions")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train, look, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to draw in")
    options = parser.parse_args()
    keras.utils.set_random_seed(3)
    random, y = np.random.default_rng(0), np.arange(400) % 2
    X = np.stack([make_series(bool(label), random) for label in y])
    model = make_model()
    history = model.fit(X, y, epochs=options.epochs, batch_size=32, verbose=0).history
    print(f"Accuracy while training: {history['accuracy'][-1]:.3f}")
    scope = sq.Scope(model)
    print(scope.layers)
    sequences = scope.sequences(X)
    hidden = scope.activations(sequences[1], "conv1d_2")
    first, last = (hidden.isel(step=place) for place in (0, -1))
    windows = [f"{int(step.time_start)} to {int(step.time_end)}" for step in (first, last)]
    print(f"conv1d_2: {hidden.sizes['step']} steps; the first sees input steps {windows[0]}, the last {windows[1]}")
    title = "9 channels, and what conv1d_2 makes of them"
    pictures = {
        "layer.png": sq.plot.activations(sequences[1], hidden, sort="peak", title=title),
        "filters_over_time.png": sq.plot.activations(sequences[1], hidden, unit=[3, 17, 40]),
        "kernels.png": sq.plot.filters(scope.filters("conv1d_1"), units=[0, 1, 2, 3]),
    }
    for name, panels in pictures.items():
        next(iter(panels.values())).get_figure(root=True).savefig(options.out / name, dpi=110)
        print(f"Drawn in {options.out / name}")


if __name__ == "__main__":
    main()
