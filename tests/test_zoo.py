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
