"""A network from elsewhere: a sleep stager of PyPI's `sleepecg` (BSD-3), trained on heart beats of MESA, in a `.keras` file.

It masks steps of -1, standardises 36 features of each half minute, and reads them with two bidirectional GRUs. Everything is held to the
same equations in float64 NumPy over the weights in the file.
"""

import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest

import seqscope as sq

pytest.importorskip("keras")

FOUND = find_spec("sleepecg")
if FOUND is None or FOUND.origin is None:
    pytest.skip("sleepecg is not installed", allow_module_level=True)
ARCHIVE = Path(FOUND.origin).parent / "classifiers" / "wrn-gru-mesa.zip"

STAGES = ["undefined", "NREM", "REM", "wake"]
STEPS, THERE = 20, 14
STATES = ["h", "z", "r", "n"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sleepecg")
    with zipfile.ZipFile(ARCHIVE) as archive:
        return Path(archive.extract("classifier.keras", folder))


@pytest.fixture(scope="module")
def scope(path):
    return sq.Scope(path, outputs=STAGES)


@pytest.fixture(scope="module")
def weights(path):
    """The arrays of the file, by their place in it."""
    found = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file["layers"].visititems(
            lambda name, item: found.update({name: item[...].astype(float)}) if isinstance(item, h5py.Dataset) else None
        )
    return found


@pytest.fixture(scope="module")
def nights():
    """Three nights, features near those that the network was trained on; the second is cut short, its end masked."""
    X = np.random.default_rng(0).standard_normal((3, STEPS, 36)).astype(np.float32)
    X[1, THERE:] = -1
    return X


def gru(x, there, kernel, recurrent, bias):
    """All states at each step; where there is none, gates are NaN and h is carried."""
    units = len(recurrent)
    h, steps = np.zeros((len(x), units)), []
    for x_t, is_there in zip(np.moveaxis(x, 1, 0), there.T[..., None], strict=True):
        a, b = x_t @ kernel + bias[0], h @ recurrent + bias[1]
        z, r = (1 / (1 + np.exp(-(a + b)[:, at])) for at in (slice(units), slice(units, 2 * units)))
        n = np.tanh(a[:, 2 * units :] + r * b[:, 2 * units :])
        h = np.where(is_there, z * h + (1 - z) * n, h)
        steps.append([h, *(np.where(is_there, gate, np.nan) for gate in (z, r, n))])
    return dict(zip(STATES, np.moveaxis(np.array(steps), (0, 1), (2, 0)), strict=True))


def both_ways(x, there, weights, name):
    """The states of a bidirectional GRU, and what it gives: 0 where there is no step."""
    arrays = {way: [weights[f"{name}/{way}_layer/cell/vars/{place}"] for place in range(3)] for way in ("forward", "backward")}
    states = {"forward": gru(x, there, *arrays["forward"])}
    turned = gru(x[:, ::-1], there[:, ::-1], *arrays["backward"])
    states["backward"] = {state: value[:, ::-1] for state, value in turned.items()}
    return states, np.concatenate([states[way]["h"] for way in arrays], axis=-1) * there[..., None]


@pytest.fixture(scope="module")
def expected(nights, weights):
    """What each layer gives by the equations, and the states of the two recurrent ones."""
    x, there = nights.astype(float), (nights != -1).any(axis=-1)
    gamma, beta, mean, variance = (weights[f"batch_normalization/vars/{place}"] for place in range(4))
    found = {"batch_normalization": gamma * (x * there[..., None] - mean) / np.sqrt(variance + 1e-3) + beta}
    found["dense"] = found["batch_normalization"] @ weights["dense/vars/0"] + weights["dense/vars/1"]
    found["re_lu"] = np.maximum(found["dense"], 0)
    states = {}
    states["bidirectional"], found["bidirectional"] = both_ways(found["re_lu"], there, weights, "bidirectional")
    states["bidirectional_1"], found["bidirectional_1"] = both_ways(found["bidirectional"], there, weights, "bidirectional_1")
    logits = found["bidirectional_1"] @ weights["dense_1/vars/0"] + weights["dense_1/vars/1"]
    found["dense_1"] = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return found, states


def test_layers_are_those_of_the_file(scope, weights):
    kinds = ["masking", "batch_norm", "linear", "nonlinearity", "gru", "gru", "linear"]
    assert [layer.kind for layer in scope.layers] == kinds
    assert scope.layers.n_params == sum(array.size for array in weights.values()) == 7380
    assert scope.layers[4].description == "bidirectional GRU with 8 hidden units"


@pytest.mark.parametrize("name", ["batch_normalization", "dense", "re_lu", "bidirectional", "bidirectional_1", "dense_1"])
def test_activations_are_those_of_the_equations(scope, nights, expected, name):
    np.testing.assert_allclose(scope.activations(nights, name), expected[0][name], atol=2e-5)


@pytest.mark.parametrize("name", ["bidirectional", "bidirectional_1"])
def test_states_are_those_of_the_equations_through_the_mask(scope, nights, expected, name):
    found = scope.states(nights, name)
    for way, states in expected[1][name].items():
        for state, value in states.items():
            np.testing.assert_allclose(found[state].sel(direction=way), value, atol=2e-5, err_msg=f"{state} {way}")
    gate = found.z.isel(sample=1)
    assert np.isnan(gate.isel(time=slice(THERE, None))).all()
    assert not np.isnan(gate.isel(time=slice(THERE))).any()


def test_masked_end_changes_nothing_before_it(scope, nights):
    whole, short = scope.predict(nights), scope.predict(nights[1, :THERE])
    np.testing.assert_allclose(whole[1, :THERE], short, atol=1e-6)
    assert whole.output.values.tolist() == STAGES


def test_picture_of_a_night_shows_its_stages(scope, nights):
    stages = scope.predict(nights)
    figure, ax = plt.subplots(figsize=(8, 2.5))
    sq.plot.heatmap(stages[0], ax=ax)
    (image,) = ax.images or ax.collections
    drawn = np.asarray(image.get_array()).reshape(-1)
    np.testing.assert_allclose(np.sort(drawn), np.sort(stages[0].values.reshape(-1)), atol=1e-6)
    assert [label.get_text() for label in ax.get_yticklabels()] == STAGES
    plt.close(figure)
