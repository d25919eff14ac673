"""A network from elsewhere: PyPI's `deepcut` (MIT), which finds the words in Thai text; weights alone, of Keras 2.0.2.

21 characters around a place, and what kind each is, go through 12 convolutions of 1 to 12 steps side by side. The package holds the
weights of its layers, and in Python how they are put together: that is written here again, in Keras 3. What comes out is held to the
convolution's equation in NumPy over the arrays in the file.
"""

from importlib.util import find_spec
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest

import seqscope as sq

keras = pytest.importorskip("keras")
from keras import layers as kl  # noqa: E402

FOUND = find_spec("deepcut")  # without importing it, which needs tensorflow
if FOUND is None or FOUND.origin is None:
    pytest.skip("deepcut is not installed", allow_module_level=True)
PATH = Path(FOUND.origin).parent / "weight" / "cnn_without_ne_ab.h5"

STEPS = 21
WIDTHS = range(1, 13)


def filters_of(width):
    return 200 if width < 9 else 150 if width < 12 else 100


def deepcut(*, numbered=True):
    """As the package puts it together; numbered, with the names that Keras 2 gave its layers."""
    number = "{}_{}".format if numbered else lambda name, place: None
    characters, kinds = kl.Input((STEPS,), name="input_1"), kl.Input((STEPS,), name="input_2")
    a = kl.BatchNormalization(name=number("batch_normalization", 1))(kl.Embedding(178, 32, name=number("embedding", 1))(characters))
    found = []
    for width in WIDTHS:
        x = kl.Conv1D(filters_of(width), width, activation="relu", name=number("conv1d", width))(a)
        x = kl.TimeDistributed(kl.Dense(5), name=number("time_distributed", width))(x)
        found.append(kl.ZeroPadding1D((0, width - 1))(x))
    b = kl.Embedding(12, 12, name=number("embedding", 2))(kinds)
    x = kl.BatchNormalization(name=number("batch_normalization", 2))(kl.Concatenate()([a, kl.Maximum()(found), b]))
    x = kl.Dense(100, activation="relu", name=number("dense", 13))(kl.Flatten()(x))
    return keras.Model([characters, kinds], kl.Dense(1, activation="sigmoid", name=number("dense", 14))(x))


def fed(model, batch, lengths):
    """The kind of a character follows from it here, which is enough to feed the network."""
    return model([batch, batch % 12], training=False)


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(deepcut(), weights=PATH, call=fed, outputs=["begins a word"])


@pytest.fixture(scope="module")
def weights():
    """The arrays of the file by layer: kernels, biases, embeddings, ..."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found.setdefault(name.partition("/")[0], {})[name.rpartition("/")[2].removesuffix(":0")] = item[...].astype(float)

    with h5py.File(PATH) as file:
        file.visititems(keep)
    return found


@pytest.fixture(scope="module")
def text():
    return np.random.default_rng(0).integers(0, 178, (3, STEPS))


def normed(x, arrays):
    return (x - arrays["moving_mean"]) / np.sqrt(arrays["moving_variance"] + 1e-3) * arrays["gamma"] + arrays["beta"]


def convolved(x, arrays):
    windows = np.lib.stride_tricks.sliding_window_view(x, len(arrays["kernel"]), axis=1)  # (sample, step, channel, tap)
    return np.maximum(np.einsum("sctk,tcu->sku", windows.transpose(0, 2, 3, 1), arrays["kernel"]) + arrays["bias"], 0)


def test_layers_are_those_of_the_package(scope, weights):
    convolutions = {layer.name: layer for layer in scope.layers if layer.kind == "conv1d"}
    assert len(convolutions) == 12
    for width in WIDTHS:
        assert convolutions[f"conv1d_{width}"].n_params == width * 32 * filters_of(width) + filters_of(width)
    assert scope.layers.n_params == sum(array.size for arrays in weights.values() for array in arrays.values())


@pytest.mark.parametrize("width", [1, 2, 7, 12])
def test_convolutions_are_those_of_the_equation(scope, weights, text, width):
    x = normed(weights["embedding_1"]["embeddings"][text], weights["batch_normalization_1"])
    expected = convolved(x, weights[f"conv1d_{width}"])
    found = scope.activations(text, f"conv1d_{width}")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(scope.filters(f"conv1d_{width}"), weights[f"conv1d_{width}"]["kernel"].transpose(2, 0, 1).astype("f4"))


def test_output_is_that_of_the_equations(scope, weights, text):
    a = normed(weights["embedding_1"]["embeddings"][text], weights["batch_normalization_1"])
    found = []
    for width in WIDTHS:
        dense = weights[f"time_distributed_{width}"]
        x = convolved(a, weights[f"conv1d_{width}"]) @ dense["kernel"] + dense["bias"]
        found.append(np.pad(x, ((0, 0), (0, width - 1), (0, 0))))
    x = np.concatenate([a, np.max(found, axis=0), weights["embedding_2"]["embeddings"][text % 12]], axis=-1)
    x = normed(x, weights["batch_normalization_2"]).reshape(len(text), -1)
    x = np.maximum(x @ weights["dense_13"]["kernel"] + weights["dense_13"]["bias"], 0)
    logit = x @ weights["dense_14"]["kernel"] + weights["dense_14"]["bias"]
    np.testing.assert_allclose(scope.predict(text), 1 / (1 + np.exp(-logit)), atol=1e-5)


def test_layers_with_the_names_that_keras_gives_today_are_filled_in_order(scope, text):
    filled = sq.Scope(deepcut(numbered=False), weights=PATH, call=fed)
    np.testing.assert_allclose(filled.predict(text), scope.predict(text), atol=1e-6)


def test_file_of_weights_alone_is_no_model():
    with pytest.raises(sq.errors.ModelError, match=r"holds weights alone \(of 'embedding_1', 'batch_normalization_1', 'conv1d_1'"):
        sq.Scope(PATH)


def test_picture_of_a_convolution_shows_its_units(scope, text):
    values = scope.activations(text[0], "conv1d_3").isel(unit=slice(12))
    figure, ax = plt.subplots(figsize=(8, 3))
    sq.plot.heatmap(values, ax=ax)
    (image,) = ax.images or ax.collections
    np.testing.assert_allclose(np.sort(np.asarray(image.get_array()).reshape(-1)), np.sort(values.values.reshape(-1)), atol=1e-6)
    plt.close(figure)
