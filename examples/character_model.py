"""A model that continues a text by characters, and what its hidden units do at every character.

One LSTM of 64 named "lstm" that gives its last state, and a dense softmax over the characters; a few seconds of training. Every step
of the hidden state comes from the model as it is: no second model is built.

    python examples/character_model.py --out characters.png
    KERAS_BACKEND=jax python examples/character_model.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import matplotlib

matplotlib.use("agg")
import numpy as np
import xarray as xr
from keras import layers

import seqscope as sq
from seqscope.text import text_of

TEXT = """
The lamp on the pier went out at nine, and the boats came in by the sound of the bell. First came the small ones, low in the water
and full of herring; then the ferry, an hour late, with its windows lit from end to end. Nobody spoke. The men on the quay took the
ropes, made them fast, and went on counting. When the last boat was in, the oldest of them closed his book, looked at the dark water
once more, and said what he had said every night for thirty years: that the sea had been kind, and that the wind would turn by morning.
""".strip().replace("\n", " ")
WINDOW = 24


def as_array(X: sq.Sequences) -> np.ndarray:
    """(sample, time, channel), as Keras takes it for training."""
    return np.stack([x.values for x in X])


def make(n_characters: int) -> keras.Model:
    """The model, compiled."""
    stack = [layers.LSTM(64, dropout=0.2, name="lstm"), layers.Dense(n_characters, activation="softmax", name="next")]
    model = keras.Sequential([keras.Input((WINDOW, n_characters)), *stack])
    model.compile(keras.optimizers.SGD(learning_rate=0.001, momentum=0.9, nesterov=True), "categorical_crossentropy")
    return model


def check(scope: sq.Scope, model: keras.Model, X: sq.Sequences) -> None:
    """The last step is what the layer itself gives, and dropout is off."""
    hidden = scope.activations(X, "lstm")
    own = keras.Model(model.inputs[0], model.get_layer("lstm").output).predict(as_array(X), verbose=0)
    np.testing.assert_allclose(hidden.isel(time=-1), own, atol=1e-5)
    np.testing.assert_array_equal(hidden, scope.activations(X, "lstm"))


def draw(scope: sq.Scope, x: xr.DataArray, path: Path) -> None:
    """The first ten hidden units under the characters that drive them."""
    text = text_of(x)
    hidden = scope.activations(x, "lstm")
    ax = sq.plot.heatmap(hidden.isel(unit=slice(10)), title="First ten hidden units, character by character")
    ax.set_xticks(range(len(text)), [character if character != " " else "␣" for character in text], family="monospace")
    ax.set_xlabel("Character")
    ax.figure.savefig(path, dpi=130)


def main() -> None:
    """Train for a moment, look, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("characters.png"), help="where to draw")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    X = sq.Sequences.from_text(TEXT, window=WINDOW, stride=1)[:-1]  # the last window has no character behind it
    following = sq.Sequences.from_text("".join(X.labels), characters=X.channels)
    model = make(X.n_channels)
    history = model.fit(as_array(X), following[0].values, batch_size=16, epochs=options.epochs, validation_split=0.2, verbose=0).history
    print(f"{len(X)} windows of {WINDOW} characters out of {X.n_channels}; loss {history['loss'][0]:.2f} to {history['loss'][-1]:.2f}")
    scope = sq.Scope(model)
    print(scope.layers)
    check(scope, model, X[:50])
    tree = scope.activations(X[:50])
    print("Values of every layer:", {name: dict(node.activations.sizes) for name, node in tree.children.items()})
    likeliest = scope.predict(X[0]).idxmax("output").item()
    print(f"After {text_of(X[0])!r} the model expects {likeliest!r}.")
    draw(scope, X[0], options.out)
    print(f"Drawn in {options.out}")


if __name__ == "__main__":
    main()
