"""Activation maximization of Keras models: the series and figures that torch models with the same weights give.

Each backend runs these tests in a process of its own; few shapes and few targets, since each pair is compiled.
"""

import numpy as np
import pytest

import seqscope as sq
from nets import Net, series

keras = pytest.importorskip("keras")
torch = pytest.importorskip("torch")
from keras import layers as kl  # noqa: E402

SIZES = {"restarts": 2, "steps": 8, "reach": 0.0, "n_real": 2, "progress": False}
FIGURES = ("input", "score", "margin", "probability", "real_score", "real_margin", "distance")


@pytest.fixture(scope="module")
def convolutions():
    """A score of three classes at every step, in Keras and in torch, with the same weights."""
    keras.utils.set_random_seed(0)
    stack = [kl.Conv1D(4, 3, padding="same", name="conv"), kl.Activation("tanh", name="act"), kl.Dense(3, activation="softmax", name="fc")]
    model = keras.Sequential([keras.Input((None, 2)), *stack])
    random = np.random.default_rng(0)
    conv, of_conv, dense, of_dense = (random.uniform(-1, 1, weight.shape) for weight in model.get_weights())
    model.set_weights([conv, of_conv, dense, of_dense])
    net = Net(
        lambda net, x: net.fc(net.act(net.conv(x.transpose(1, 2))).transpose(1, 2)).softmax(-1),
        conv=torch.nn.Conv1d(2, 4, 3, padding=1),
        act=torch.nn.Tanh(),
        fc=torch.nn.Linear(4, 3),
    )
    weights = {"conv.weight": conv.transpose(2, 1, 0), "conv.bias": of_conv, "fc.weight": dense.T, "fc.bias": of_dense}
    net.load_state_dict({name: torch.tensor(weight) for name, weight in weights.items()})
    return sq.Scope(model), sq.Scope(net, layout="NTC"), series(5, 10, 2).astype(np.float32)


def assert_alike(found, expected):
    """The same figures, up to what float32 makes of a few steps of Adam."""
    assert set(found) == set(expected)
    assert found.sizes == expected.sizes
    for name in set(FIGURES) & set(expected):
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-3, atol=2e-3, err_msg=name)
    for name in ("objective", "score", "looked_through", "target"):
        assert found.attrs.get(name) == expected.attrs.get(name)
    moved = np.abs(found.score[:, -1] - found.score[:, 0])
    assert float(moved.min()) > 0.01  # or nothing was compared


def test_what_a_class_asks_for_is_what_torch_finds():
    X, _ = sq.datasets.japanese_vowels("train")
    like = sq.Sequences(np.stack([X[row].values[:7] for row in range(6)]), outputs=X.outputs)
    found, expected = (sq.Scope(sq.zoo.japanese_vowels(framework)).maximize("3", like=like, **SIZES) for framework in ("keras", "torch"))
    assert_alike(found, expected)
    assert found.attrs["objective"] == "margin"
    assert found.attrs["framework"].startswith("keras")


@pytest.mark.parametrize("target", [sq.target.output(1, time=-3), sq.target.unit("act", 2, time=4)], ids=str)
def test_a_step_of_the_output_and_a_unit_are_as_in_torch(convolutions, target):
    in_keras, in_torch, like = convolutions
    found, expected = (scope.maximize(target, like=like, **SIZES) for scope in (in_keras, in_torch))
    assert_alike(found, expected)
