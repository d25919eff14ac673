"""Torch and Keras with the same weights find the same: every method, on whichever backend Keras runs in this process.

`test_backends.py` runs this on the others.
"""

import numpy as np
import pytest
import torch
from torch import nn

import seqscope as sq

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402

# Untrained nets hardly believe in anything, and five steps of a path are few.
pytestmark = [pytest.mark.filterwarnings("ignore:For . of"), pytest.mark.filterwarnings("ignore:The completeness gap")]

N_STEPS, N_CHANNELS = 24, 3

# Where every shape is compiled, methods that ask for the same things in other numbers are left to the other backends.
COMPILED = keras.backend.backend() == "jax"
ON_JAX = ("gradient", "integrated_gradients", "grad_cam", "score_cam", "occlusion")

METHODS = {
    "gradient": {},
    "saliency": {},
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 4},
    "expected_gradients": {"draws": 4},
    "smooth_grad": {"draws": 3},
    "grad_cam": {"layer": "conv", "relu": False},
    "grad_cam_pp": {"layer": "conv"},
    "layer_cam": {"layer": "conv"},
    "score_cam": {"layer": "conv"},
    "cam": {},
    "occlusion": {"window": 6, "fill": "noise"},
    "feature_ablation": {"fill": "mean"},
    "temporal_saliency_rescaling": {"quantile": 0.8},
}


class TorchConvolution(nn.Module):
    """A convolution with stride, tanh, the mean over time, softmax as a function."""

    def __init__(self):
        super().__init__()
        self.conv, self.tanh, self.fc = nn.Conv1d(N_CHANNELS, 5, 4, stride=2), nn.Tanh(), nn.Linear(5, 3)

    def forward(self, x):
        return torch.softmax(self.fc(self.tanh(self.conv(x)).mean(-1)), -1)


@pytest.fixture(scope="module")
def convolutions():
    """The same net in both, each with the layout of its own; tanh, since ReLU's ties flip with rounding."""
    torch.manual_seed(0)
    ours = TorchConvolution()
    conv = kl.Conv1D(5, 4, strides=2, name="conv")
    theirs = keras.Sequential(
        [
            keras.Input((None, N_CHANNELS)),
            conv,
            kl.Activation("tanh", name="tanh"),
            kl.GlobalAveragePooling1D(),
            kl.Dense(3, activation="softmax", name="fc"),
        ]
    )
    conv.set_weights([ours.conv.weight.detach().numpy().transpose(2, 1, 0), ours.conv.bias.detach().numpy()])
    theirs.get_layer("fc").set_weights([ours.fc.weight.detach().numpy().T, ours.fc.bias.detach().numpy()])
    return sq.Scope(ours), sq.Scope(theirs)


@pytest.fixture(scope="module")
def X():
    random = np.random.default_rng(0)
    return sq.Sequences(
        [random.standard_normal((n, N_CHANNELS)).astype(np.float32) for n in (N_STEPS,) * 3]
    )  # one length: each is a compilation


def assert_same(ours, theirs):
    assert ours.dims == theirs.dims
    scale = float(np.nanmax(np.abs(ours)))
    assert scale > 0
    np.testing.assert_allclose(theirs.values, ours.values, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("method", ON_JAX if COMPILED else METHODS)
def test_a_convolution_net(convolutions, X, method):
    ours, theirs = (scope.attribute(X, method, target=[0, 1, 2], **METHODS[method]) for scope in convolutions)
    assert ours.attrs["score"] == theirs.attrs["score"] == "logit"
    assert ours.attrs["looked_through"] == theirs.attrs["looked_through"] == "softmax"
    if "map" in ours:
        assert_same(ours["native"], theirs["native"])
        assert_same(ours["map"], theirs["map"])
    else:
        assert_same(ours, theirs)


@pytest.fixture(scope="module")
def vowels():
    """The shipped LSTM, in both."""
    return sq.Scope(sq.zoo.japanese_vowels()), sq.Scope(sq.zoo.japanese_vowels("keras"))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("integrated_gradients", {"steps": 5}),
        ("integrated_gradients", {"steps": 5, "layer": "lstm"}),
        ("grad_cam", {"relu": False}),
        ("gradient", {"layer": "lstm"}),
        ("gradient", {"target": sq.target.unit("lstm", 17, state="c", time=-1)}),
        ("gradient", {"target": sq.target.unit("lstm", 3, state="f", time=2)}),
        ("occlusion", {"window": 5, "target": sq.target.unit("lstm", 17)}),
    ],
)
def test_a_recurrent_net(vowels, method, options):
    X, _ = sq.datasets.japanese_vowels("test")
    rows = np.flatnonzero(X.lengths == 14)[:3]
    ours, theirs = (scope.attribute(X[rows], method, **options) for scope in vowels)
    np.testing.assert_allclose(ours.score, theirs.score, atol=1e-4)
    if "map" in ours:
        assert_same(ours["map"], theirs["map"])
    else:
        assert_same(ours, theirs)
