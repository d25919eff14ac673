import sys

import numpy as np
import pytest
import torch

import seqscope as sq
from reference import hidden  # the independent step-by-step loop


def test_japanese_vowels_is_a_plain_module_in_evaluation_mode():
    model = sq.zoo.japanese_vowels()
    assert isinstance(model, torch.nn.Module)
    assert not any(module.training for module in model.modules())
    assert [type(module).__name__ for module in model.children()] == ["LSTM", "Linear", "Softmax"]
    assert (model.lstm.input_size, model.lstm.hidden_size, model.fc.out_features) == (12, 100, 9)


def test_its_accuracy_is_the_one_that_is_stated():
    """358 of 370, worked out with the model called by hand, one sequence at a time."""
    model = sq.zoo.japanese_vowels()
    X, y = sq.datasets.japanese_vowels("test")
    with torch.no_grad():
        predicted = [int(model(torch.tensor(x.values[None], dtype=torch.float32)).argmax()) + 1 for x in X]
    assert sum(str(speaker) == label for speaker, label in zip(predicted, y, strict=True)) == 358


def test_each_call_gives_a_network_of_its_own():
    first, second = sq.zoo.japanese_vowels(), sq.zoo.japanese_vowels()
    with torch.no_grad():
        first.fc.weight.zero_()
    assert second.fc.weight.abs().sum() > 0


def test_an_unknown_framework_is_refused():
    with pytest.raises(sq.errors.ModelError, match="'matlab': there are 'torch', 'keras'"):
        sq.zoo.japanese_vowels(framework="matlab")


def test_without_torch_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(sq.errors.MissingPackageError, match=r"pip install 'seqscope\[torch\]'"):
        sq.zoo.japanese_vowels()


def test_the_hidden_states_equal_the_equations_in_float64():
    model = sq.zoo.japanese_vowels().double()
    X, _ = sq.datasets.japanese_vowels("test")
    found = sq.Scope(model).activations(X[:3], "lstm")
    for row in range(3):
        expected = hidden(model.lstm, X[row].values[None])[0]
        np.testing.assert_allclose(found[row, : len(expected)], expected, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def char_lstm():
    return sq.zoo.char_lstm()


def test_char_lstm_is_a_plain_module_in_evaluation_mode(char_lstm):
    assert isinstance(char_lstm, torch.nn.Module)
    assert not any(module.training for module in char_lstm.modules())
    assert [type(module).__name__ for module in char_lstm.children()] == ["LSTM", "Dropout", "Linear", "Softmax"]
    assert (char_lstm.lstm.hidden_size, char_lstm.dropout.p, char_lstm.fc.out_features) == (64, 0.2, 68)
    assert char_lstm.characters == "".join(sorted(set(sq.datasets.shakespeare())))


def test_char_lstm_gives_the_same_numbers_in_keras(char_lstm):
    theirs = sq.zoo.char_lstm("keras")
    assert theirs.characters == char_lstm.characters
    X = sq.Sequences.from_text(sq.datasets.shakespeare("test")[:500], characters=char_lstm.characters, window=60)
    torchs, keras = (sq.Scope(model) for model in (char_lstm, theirs))
    assert [layer.name for layer in keras.layers][1:] == [layer.name for layer in torchs.layers][1:]
    np.testing.assert_allclose(keras.predict(X), torchs.predict(X), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(keras.activations(X, "lstm"), torchs.activations(X, "lstm"), rtol=1e-4, atol=1e-5)
    assert torchs.predict(X).output.values.tolist() == list(char_lstm.characters)


def frequencies(text, characters, n_before):
    """How often each character follows each string of so many, one added to every count."""
    counts = np.ones((*[len(characters)] * n_before, len(characters)))
    ids = [characters.index(character) for character in text]
    np.add.at(counts, tuple(np.array(ids[place : len(ids) - n_before + place]) for place in range(n_before + 1)), 1)
    return counts / counts.sum(axis=-1, keepdims=True)


def test_char_lstm_tells_a_text_it_never_saw_better_than_frequencies_of_three_characters(char_lstm):
    """Bits a character, of probabilities worked out in float64 by the independent loop."""
    characters, text = char_lstm.characters, sq.datasets.shakespeare("test")[:5000]
    ids = np.array([characters.index(character) for character in text])
    weights = {name: tensor.double().numpy() for name, tensor in char_lstm.fc.state_dict().items()}
    scores = hidden(char_lstm.lstm, np.eye(68)[ids][None])[0] @ weights["weight"].T + weights["bias"]
    log_sums = np.log(np.exp(scores).sum(axis=1))
    bits = {"network": (log_sums[1:-1] - scores[np.arange(1, len(ids) - 1), ids[2:]]).mean() / np.log(2)}
    for n_before in (0, 1, 2):
        told = frequencies(sq.datasets.shakespeare(), characters, n_before)
        bits[n_before] = -np.log2(
            told[tuple(ids[2 - n_before + place : len(ids) - n_before + place] for place in range(n_before + 1))]
        ).mean()
    assert bits["network"] < bits[2] - 0.3 < bits[1] < bits[0]


def test_conv_mil_tells_new_series_of_its_five_patterns_apart():
    X, y, _ = sq.datasets.planted(
        200, length=300, n_channels=9, pattern=("sine", "ramp", "bump", "peaks", "chirp"), channel=(2, 5), noise=0.5, seed=5
    )
    model = sq.zoo.conv_mil()
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        predicted = model(torch.tensor(next(X.batches(200)).values).float().transpose(1, 2)).argmax(1)
    assert np.mean(np.array(X.outputs)[predicted] == y) > 0.97


def test_attention_lstm_is_as_accurate_as_is_stated_padded_or_alone():
    """357 of 370, worked out with the model called by hand, one sequence at a time; and padded, with lengths."""
    model = sq.zoo.attention_lstm()
    X, y = sq.datasets.japanese_vowels("test")
    series = [torch.tensor(x.values, dtype=torch.float32) for x in X]
    with torch.no_grad():
        alone = torch.cat([model(x[None]) for x in series])
        padded = model(torch.nn.utils.rnn.pad_sequence(series, batch_first=True, padding_value=9.0), torch.tensor(X.lengths))
    assert sum(str(int(p.argmax()) + 1) == label for p, label in zip(alone, y, strict=True)) == 357
    np.testing.assert_allclose(padded, alone, atol=1e-5)


@pytest.mark.parametrize("name", ["conv_mil", "attention_lstm"])
def test_heads_hold_the_same_numbers_in_both_frameworks(name):
    series = np.random.default_rng(0).standard_normal((3, 60, 9 if name == "conv_mil" else 12))
    X = sq.Sequences(series)
    torchs, keras = (sq.Scope(getattr(sq.zoo, name)(framework)) for framework in ("torch", "keras"))
    assert [layer.name for layer in keras.layers] == [layer.name for layer in torchs.layers]
    assert keras.layers.n_params == torchs.layers.n_params - (256 if name == "attention_lstm" else 0)  # torch has two biases
    np.testing.assert_allclose(keras.predict(X), torchs.predict(X), rtol=1e-4, atol=1e-6)
    for method in ("instances", "attention_pooling"):
        own, theirs = (scope.attribute(X, method)["native"] for scope in (torchs, keras))
        np.testing.assert_allclose(theirs, own, rtol=1e-4, atol=1e-6)
