"""A network from elsewhere: the language identifier of PyPI's `languageidentifier` (MIT), weights of 2019 in torch's old format.

The package keeps an embedding of 150, a bidirectional LSTM of two layers of 150, and a linear layer summed over the characters. Its class
is written here again; the numbers are held to the same equations in float64 NumPy over the weights of the file.
"""

from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import reference as ref
import seqscope as sq
from tolerances import assert_close

FOUND = find_spec("LanguageIdentifier")  # without importing it, which loads the model
if FOUND is None or FOUND.origin is None:
    pytest.skip("languageidentifier is not installed", allow_module_level=True)
PATH = Path(FOUND.origin).parent / "LID_mixed_model.pkl"

SENTENCES = {
    "en": "The weather is nice today and we are going for a walk.",
    "de": "Das Wetter ist heute schön und wir gehen spazieren.",
    "fr": "Il fait beau aujourd'hui et nous allons nous promener.",
    "es": "Hoy hace buen tiempo y vamos a dar un paseo.",
}


class Identifier(nn.Module):
    """As the package computes it."""

    def __init__(self):
        super().__init__()
        self.char_embeddings = nn.Embedding(682, 150, padding_idx=0)
        self.lstm = nn.LSTM(150, 150, num_layers=2, bidirectional=True, batch_first=True)
        self.hidden2lang = nn.Linear(300, 20)

    def forward(self, characters):
        return self.hidden2lang(self.lstm(self.char_embeddings(characters))[0]).sum(1)


@pytest.fixture(scope="module")
def held():
    """Everything that the file holds."""
    return torch.load(PATH, weights_only=True, map_location="cpu")  # it was saved on a GPU


@pytest.fixture(scope="module")
def scope(held):
    return sq.Scope(Identifier(), weights=PATH, outputs=sorted(held["lang_to_idx"], key=held["lang_to_idx"].get))


@pytest.fixture(scope="module")
def texts(held):
    """The sentences as the package numbers their characters."""
    numbers = held["char_to_idx"]
    return [np.array([numbers.get(letter, len(numbers)) for letter in text]) for text in SENTENCES.values()]


@pytest.fixture(scope="module")
def replayed(held, texts):
    """The first sentence by the equations: what is embedded, the states of both layers, forward and backward, and the output."""
    weights = {name: value.double().numpy() for name, value in held["model_state_dict"].items()}
    x = embedded = weights["char_embeddings.weight"][texts[0]]
    layers = []
    for layer in range(2):
        ways = [_states(x[::way], weights, f"_l{layer}{'' if way == 1 else '_reverse'}", way) for way in (1, -1)]
        layers.append({name: np.stack([states[name] for states in ways]) for name in ways[0]})
        x = np.concatenate([states["h"] for states in ways], -1)
    return embedded, layers, (x @ weights["hidden2lang.weight"].T + weights["hidden2lang.bias"]).sum(0)


def _states(x, weights, end, way):
    """Every gate at every step of one direction, (time, unit), in the order of the input's time."""
    h, c, steps = np.zeros(150), np.zeros(150), []
    for step in x:
        a = weights[f"lstm.weight_ih{end}"] @ step + weights[f"lstm.weight_hh{end}"] @ h
        i, f, g, o = np.split(a + weights[f"lstm.bias_ih{end}"] + weights[f"lstm.bias_hh{end}"], 4)
        i, f, g, o = ref.sigmoid(i), ref.sigmoid(f), np.tanh(g), ref.sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        steps.append({"h": h, "c": c, "i": i, "f": f, "g": g, "o": o})
    return {name: np.array([step[name] for step in steps])[::way] for name in steps[0]}


def test_weights_alone_are_named_and_not_opened():
    with pytest.raises(sq.errors.ModelError, match=r"19 tensors \(under 'model_state_dict'\): 'char_embeddings.weight', .*weights="):
        sq.Scope(PATH, trust=True)


def test_table(scope):
    assert [(layer.name, layer.kind, layer.n_params) for layer in scope.layers] == [
        ("char_embeddings", "embedding", 682 * 150),
        ("lstm.0", "lstm", 2 * (600 * 300 + 1200)),
        ("lstm.1", "lstm", 2 * (600 * 450 + 1200)),
        ("hidden2lang", "linear", 6020),
    ]


def test_activations_and_states_equal_the_equations(scope, texts, replayed):
    embedded, layers, output = replayed
    given = texts[0][None]
    assert_close(scope.activations(given, "char_embeddings")[0], embedded, "float32")
    for place, expected in enumerate(layers):
        name = f"lstm.{place}"
        assert_close(scope.activations(given, name)[0], np.concatenate(expected["h"], -1), "float32")
        states = scope.states(given, name).isel(sample=0).transpose("direction", "time", "unit")
        for state, values in expected.items():
            assert_close(states[state], values, "float32")
    np.testing.assert_allclose(scope.predict(given)[0], output, rtol=1e-4)  # a sum over the characters, of some hundred


def test_sentences_are_told_by_their_language(scope, texts):
    assert scope.predict(texts).idxmax("output").values.tolist() == list(SENTENCES)
    found = scope.attribute(texts[0][None], "occlusion", target="en")
    assert found.dims[:2] == ("sample", "time")
    assert np.isfinite(found).all()


def test_picture_shows_the_units_over_the_sentence(scope, texts):
    values = scope.activations(texts[1][None], "lstm.1")[0].isel(unit=slice(12))
    axes = sq.plot.heatmap(values)
    drawn = next(artist for artist in (*axes.images, *axes.collections))
    np.testing.assert_allclose(np.sort(np.ravel(drawn.get_array())), np.sort(values.values.ravel()))
    plt.close(axes.figure)
